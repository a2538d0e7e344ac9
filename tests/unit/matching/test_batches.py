from __future__ import annotations

import numpy as np
import pytest

from wav2vec_u.matching.batches import Order, SpeechBatches, TextBatches, training_utterances
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.testing.planted import PlantedSegments, PlantedText


def segments(lengths: list[int], splits: list[str] | None = None) -> PlantedSegments:
    vectors = [np.full((length, 2), length, dtype=np.float32) for length in lengths]
    labels = [np.zeros(length, dtype=np.int64) for length in lengths]
    return PlantedSegments(vectors, labels, splits or ["train"] * len(lengths))


TEXT = PlantedText(("<SIL>", "a", "b"), [[[1, 2], [2], [1, 1]] for _ in range(10)], 0.5)


def test_order_is_a_permutation_an_epoch_and_does_not_depend_on_history() -> None:
    order = Order(7, seed=1, purpose="x")
    first, second = order.items(0, 7), order.items(7, 7)
    assert sorted(first) == sorted(second) == list(range(7))
    assert first != second
    assert Order(7, seed=1, purpose="x").items(5, 4) == [*first[5:], *second[:2]]


def test_speech_batches_hold_training_utterances_with_zero_padding() -> None:
    store = segments([4, 2, 5, 6], ["train", "train", "test", "train"])
    batches = SpeechBatches(store, batch_size=8, seed=0)
    assert batches.utterances == [0, 3]  # the second is too short, the third held out
    vectors, mask = batches.batch(0)
    assert vectors.shape == (2, 6, 2)
    assert sorted(mask.sum(1).tolist()) == [4, 6]
    assert not vectors[~mask].any()
    for row, length in zip(vectors, mask.sum(1).tolist(), strict=True):
        assert (row[:length] == length).all()


@pytest.mark.parametrize(
    ("lengths", "splits", "message"),
    [([5], ["test"], "split `train`"), ([1, 2], ["train", "train"], "too short")],
)
def test_nothing_to_train_on_is_said(lengths: list[int], splits: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        training_utterances(segments(lengths, splits))


def test_empty_text_is_said() -> None:
    with pytest.raises(UserError, match="no sentence"):
        TextBatches(PlantedText(("<SIL>", "a"), []), batch_size=2, seed=0)


def test_silence_is_drawn_anew_every_epoch() -> None:
    batches = TextBatches(TEXT, batch_size=10, seed=0)
    first, first_mask = batches.batch(0)
    second, second_mask = batches.batch(1)
    silences = [
        sorted((ids == 0)[mask].sum() for ids, mask in zip(*pair, strict=True))
        for pair in ((first, first_mask), (second, second_mask))
    ]
    assert silences[0] != silences[1]
    for ids, mask in ((first, first_mask), (second, second_mask)):
        for row, valid in zip(ids, mask, strict=True):
            spoken = row[valid]
            assert spoken[spoken != 0].tolist() == [1, 2, 2, 1, 1]
            assert spoken[0] == spoken[-1] == 0
    again, _ = TextBatches(TEXT, batch_size=10, seed=0).batch(1)
    assert (again == second).all()


def test_reference_draws_with_replacement_and_keeps_a_sentences_silence() -> None:
    text = PlantedText(("<SIL>", *"abcdefghij"), [[[n], [n], [n], [n]] for n in range(1, 11)], 0.5)
    batches = TextBatches(text, batch_size=40, seed=0, with_replacement=True)
    ids, mask = batches.batch(0)
    rendered: dict[int, set[tuple[int, ...]]] = {}
    for row, valid in zip(ids, mask, strict=True):
        sentence = tuple(row[valid].tolist())
        rendered.setdefault(max(sentence), set()).add(sentence)
    assert all(len(versions) == 1 for versions in rendered.values())
    counts = np.bincount(ids.max(1).values.numpy(), minlength=11)[1:]
    assert counts.max() > 4  # 40 draws without replacement would be four of each
