"""Steps to the transcripts: rates, gains and their intervals, of errors that are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from wav2vec_u.evaluate.error_rate import Errors, bootstrap_interval
from wav2vec_u.evaluate.steps import Step, measure_steps

SAMPLES = 500


def errors(wrong: Sequence[int], lengths: Sequence[int]) -> list[Errors]:
    """So many errors of every utterance, of the three kinds in turn."""
    found = []
    for i, (count, length) in enumerate(zip(wrong, lengths, strict=True)):
        kinds = [0, 0, 0]
        kinds[i % 3] = count
        found.append(Errors(*kinds, length))
    return found


def measure(*steps: Step, seed: int = 0, samples: int = SAMPLES) -> list[dict[str, object]]:
    return measure_steps(steps, samples, np.random.default_rng(seed))


def spread(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Errors and lengths of utterances of which some are much harder than others."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(20, 80, size=count)
    return (lengths * rng.uniform(0.1, 0.9, size=count)).astype(int), lengths


def number(row: dict[str, object], name: str) -> float:
    value = row[name]
    assert isinstance(value, float)
    return value


def test_rates_are_pooled_and_gains_are_their_differences() -> None:
    lengths = [10, 30, 60]
    rows = measure(
        Step("greedy", errors([10, 15, 30], lengths)),
        Step("lm", errors([5, 15, 20], lengths)),
        Step("words", errors([5, 16, 24], lengths)),
    )
    assert [row["step"] for row in rows] == ["greedy", "lm", "words"]
    assert [row["per"] for row in rows] == [55.0, 40.0, 45.0]
    # Over the step before, and not over the first; what makes it worse gains less than nothing.
    assert [row.get("gain") for row in rows] == [None, 15.0, -5.0]


def test_one_step_has_nothing_to_gain_over() -> None:
    (row,) = measure(Step("greedy", errors([1, 2], [10, 10])))
    assert list(row) == ["step", "per", "low", "high"]
    assert row["per"] == 15.0
    assert measure() == []


def test_intervals_contain_the_values() -> None:
    before, lengths = spread(60)
    after = np.maximum(before - np.random.default_rng(1).integers(-2, 9, size=60), 0)
    rows = measure(Step("lm", errors(before, lengths)), Step("hmm", errors(after, lengths)))
    for row in rows:
        assert number(row, "low") < number(row, "per") < number(row, "high")
    _, row = rows
    assert number(row, "gain_low") < number(row, "gain") < number(row, "gain_high")
    assert row["gain"] == pytest.approx(100 * (before - after).sum() / lengths.sum(), abs=1e-3)


def test_the_interval_of_a_rate_is_that_of_its_own_errors() -> None:
    wrong, lengths = spread(40)
    (row,) = measure(Step("greedy", errors(wrong, lengths)), seed=7)
    low, high = bootstrap_interval(errors(wrong, lengths), SAMPLES, np.random.default_rng(7))
    assert (row["low"], row["high"]) == (round(low, 3), round(high, 3))


def test_a_gain_that_every_utterance_has_is_certain() -> None:
    wrong, lengths = spread(50)
    lengths = np.full(50, 100)
    rows = measure(Step("lm", errors(wrong + 7, lengths)), Step("hmm", errors(wrong, lengths)))
    for row in rows:
        assert number(row, "high") - number(row, "low") > 3, "utterances differ"
    _, row = rows
    assert (row["gain"], row["gain_low"], row["gain_high"]) == (7.0, 7.0, 7.0)


def test_the_interval_of_a_gain_is_narrower_than_those_of_the_rates() -> None:
    before, lengths = spread(60)
    after = before - np.random.default_rng(1).integers(0, 4, size=60)
    rows = measure(Step("lm", errors(before, lengths)), Step("hmm", errors(after, lengths)))
    widths = [number(row, "high") - number(row, "low") for row in rows]
    gain = number(rows[1], "gain_high") - number(rows[1], "gain_low")
    assert gain < 0.3 * min(widths)


def test_an_interval_of_a_gain_holds_the_true_gain_nearly_always() -> None:
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        lengths = np.full(40, 50)
        before = rng.binomial(50, 0.5, size=40)
        after = before - rng.binomial(20, 0.25, size=40)  # 5 of 50 phones in the long run
        rows = measure(
            Step("lm", errors(before, lengths)),
            Step("hmm", errors(after, lengths)),
            seed=seed,
            samples=200,
        )
        held += number(rows[1], "gain_low") <= 10.0 <= number(rows[1], "gain_high")
    assert 50 <= held <= 60


def test_a_step_that_changes_nothing_gains_nothing() -> None:
    wrong, lengths = spread(30)
    rows = measure(Step("hmm", errors(wrong, lengths)), Step("words", errors(wrong, lengths)))
    assert (rows[1]["gain"], rows[1]["gain_low"], rows[1]["gain_high"]) == (0.0, 0.0, 0.0)


def test_the_same_numbers_are_drawn_again() -> None:
    wrong, lengths = spread(30)
    steps = (Step("lm", errors(wrong, lengths)), Step("hmm", errors(wrong // 2, lengths)))
    assert measure(*steps, seed=3) == measure(*steps, seed=3)
    assert measure(*steps, seed=3) != measure(*steps, seed=4)


def test_steps_of_other_utterances_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        measure(Step("lm", errors([1, 2], [9, 9])), Step("hmm", errors([1], [9])))


def test_utterances_without_reference_do_not_disturb() -> None:
    wrong, lengths = spread(30)
    silent = [Errors()] * 3
    rows = measure(
        Step("lm", [*errors(wrong, lengths), *silent]),
        Step("hmm", [*errors(wrong // 2, lengths), *silent]),
    )
    plain = measure(Step("lm", errors(wrong, lengths)), Step("hmm", errors(wrong // 2, lengths)))
    assert [row["per"] for row in rows] == [row["per"] for row in plain]
    assert rows[1]["gain"] == plain[1]["gain"]
    assert number(rows[1], "gain_low") < number(rows[1], "gain") < number(rows[1], "gain_high")
