"""Which phones are taken for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from rapidfuzz.distance import Levenshtein

Pair = tuple[str | None, str | None]  # reference phone, hypothesis phone; None: there is none


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Pair]:
    """Pair the phones of a minimum edit distance alignment.

    Returns
    -------
    list of (reference phone, hypothesis phone)
        None on the left is an insertion, None on the right a deletion.

    >>> align(["a", "b", "c"], ["b", "c", "d"])
    [('a', None), ('b', 'b'), ('c', 'c'), (None, 'd')]
    """
    pairs: list[Pair] = []
    for block in Levenshtein.opcodes(reference, hypothesis):
        left: list[str | None] = list(reference[block.src_start : block.src_end])
        right: list[str | None] = list(hypothesis[block.dest_start : block.dest_end])
        if block.tag == "delete":
            right = [None] * len(left)
        elif block.tag == "insert":
            left = [None] * len(right)
        pairs.extend(zip(left, right, strict=True))
    return pairs


def count_confusions(
    references: Iterable[Sequence[str]], hypotheses: Iterable[Sequence[str]]
) -> Counter[Pair]:
    """Count aligned pairs over utterances, the correct ones included."""
    counts: Counter[Pair] = Counter()
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        counts.update(align(reference, hypothesis))
    return counts


def confusion_table(counts: Counter[Pair]) -> dict[str, Any]:
    """Turn counts into plain lists for JSON.

    Returns
    -------
    dict
        ``references`` and ``hypotheses``: phone names by falling frequency, the empty string for
        "none"; ``counts``: one row for each reference, one column for each hypothesis.
    """
    by_reference: Counter[str] = Counter()
    by_hypothesis: Counter[str] = Counter()
    for (reference, hypothesis), number in counts.items():
        by_reference[reference or ""] += number
        by_hypothesis[hypothesis or ""] += number
    rows = [phone for phone, _ in by_reference.most_common()]
    columns = [phone for phone, _ in by_hypothesis.most_common()]
    return {
        "references": rows,
        "hypotheses": columns,
        "counts": [[counts[(row or None, column or None)] for column in columns] for row in rows],
    }
