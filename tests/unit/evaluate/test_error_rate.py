"""Error counts against a plain dynamic programme; intervals against planted spread."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec_u.evaluate.confusion import align, confusion_table, count_confusions
from wav2vec_u.evaluate.error_rate import Errors, bootstrap_interval, count_errors, pool

sequences = st.lists(st.sampled_from(["a", "b", "tʃ", "ɔː"]), max_size=12)


def slow_distance(reference: list[str], hypothesis: list[str]) -> int:
    table = [[0] * (len(hypothesis) + 1) for _ in range(len(reference) + 1)]
    for i in range(len(reference) + 1):
        for j in range(len(hypothesis) + 1):
            if i == 0 or j == 0:
                table[i][j] = i + j
                continue
            table[i][j] = min(
                table[i - 1][j] + 1,
                table[i][j - 1] + 1,
                table[i - 1][j - 1] + (reference[i - 1] != hypothesis[j - 1]),
            )
    return table[-1][-1]


@settings(deadline=None)
@given(sequences, sequences)
def test_total_is_the_edit_distance(reference: list[str], hypothesis: list[str]) -> None:
    errors = count_errors(reference, hypothesis)
    assert errors.total == slow_distance(reference, hypothesis)
    assert errors.reference_phones == len(reference)
    # Whatever the alignment: lengths differ by insertions less deletions.
    assert errors.insertions - errors.deletions == len(hypothesis) - len(reference)


@settings(deadline=None)
@given(sequences, sequences)
def test_alignment_spells_both_sides_and_costs_the_distance(
    reference: list[str], hypothesis: list[str]
) -> None:
    pairs = align(reference, hypothesis)
    assert [left for left, _ in pairs if left is not None] == reference
    assert [right for _, right in pairs if right is not None] == hypothesis
    assert sum(left != right for left, right in pairs) == slow_distance(reference, hypothesis)


def test_kinds_of_errors_are_told_apart() -> None:
    assert count_errors(["a", "b", "c"], ["a", "c"]) == Errors(deletions=1, reference_phones=3)
    assert count_errors(["a", "c"], ["a", "b", "c"]) == Errors(insertions=1, reference_phones=2)
    assert count_errors(["a", "b"], ["a", "x"]) == Errors(substitutions=1, reference_phones=2)


def test_rate_is_pooled_and_not_averaged() -> None:
    errors = [Errors(substitutions=1, reference_phones=1), Errors(reference_phones=99)]
    assert pool(errors).rate == pytest.approx(1.0)  # the mean of the rates would be 50


def test_rate_without_references_is_not_a_number() -> None:
    assert math.isnan(pool([]).rate)
    assert math.isnan(bootstrap_interval([], 10, np.random.default_rng(0))[0])


def test_interval_of_planted_errors_is_the_binomial_one() -> None:
    rng = np.random.default_rng(1)
    n, length, rate = 400, 50, 0.2
    errors = [
        Errors(substitutions=int(rng.binomial(length, rate)), reference_phones=length)
        for _ in range(n)
    ]
    low, high = bootstrap_interval(errors, 1000, np.random.default_rng(2))
    half_width = 1.96 * 100 * math.sqrt(rate * (1 - rate) / (n * length))
    assert (high - low) / 2 == pytest.approx(half_width, rel=0.2)
    assert low < pool(errors).rate < high


def test_interval_is_the_same_for_the_same_seed_and_collapses_for_one_utterance() -> None:
    errors = [Errors(substitutions=i % 3, reference_phones=10) for i in range(20)]
    first = bootstrap_interval(errors, 50, np.random.default_rng(3))
    assert first == bootstrap_interval(errors, 50, np.random.default_rng(3))
    assert bootstrap_interval(errors[1:2], 50, np.random.default_rng(0)) == (10.0, 10.0)


def test_confusion_table_counts_planted_confusions() -> None:
    references = [["a", "b"]] * 3 + [["c"]]
    hypotheses = [["a", "a"]] * 3 + [[]]
    counts = count_confusions(references, hypotheses)
    assert counts == {("a", "a"): 3, ("b", "a"): 3, ("c", None): 1}
    table = confusion_table(counts)
    at = table["counts"][table["references"].index("b")][table["hypotheses"].index("a")]
    assert at == 3
    assert table["counts"][table["references"].index("c")][table["hypotheses"].index("")] == 1
    assert sum(map(sum, table["counts"])) == 7
