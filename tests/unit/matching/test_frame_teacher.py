"""A generator is taught labels whose rule is known, and asked for it on vectors it has not seen."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from wav2vec_u.matching.frame_teacher import BATCH_CROPS, CROP, UNKNOWN, Lesson, teach
from wav2vec_u.matching.generator import Generator

DIM, LABELS = 8, 5
EPOCHS = 40
Utterance = tuple[NDArray[np.float32], NDArray[np.int32]]


def utterances(
    lengths: Sequence[int], seed: int = 0, labels: Sequence[int] = tuple(range(LABELS))
) -> list[Utterance]:
    """Draw vectors near the centre of their label; any two labels are linearly separable."""
    rng = np.random.default_rng(seed)
    made = []
    for length in lengths:
        drawn = rng.choice(labels, size=length).astype(np.int32)
        vectors = np.zeros((length, DIM))
        vectors[np.arange(length), drawn] = 2.0
        vectors += 0.3 * rng.normal(size=vectors.shape)
        made.append((vectors.astype(np.float32), drawn))
    return made


def lesson(vectors: NDArray[np.float32], labels: NDArray[np.int32]) -> Lesson:
    return Lesson(lambda: vectors, labels)


def lessons(made: Sequence[Utterance]) -> list[Lesson]:
    return [lesson(vectors, labels) for vectors, labels in made]


def learn(generator: Generator, made: Sequence[Lesson], **changed: float) -> float:
    settings: dict[str, Any] = {
        "epochs": EPOCHS,
        "learning_rate": 0.1,
        "weight_decay": 0.05,
        "seed": 0,
        **changed,
    }
    return teach(generator, made, **settings)


def untrained(seed: int = 0, kernel: int = 1, **options: float) -> Generator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Generator(DIM, LABELS, kernel, **{"dropout": 0.0, **options})  # type: ignore[arg-type]


def logits_of(generator: Generator, vectors: NDArray[np.float32]) -> torch.Tensor:
    mask = torch.ones(1, len(vectors), dtype=torch.bool)
    with torch.inference_mode():
        logits: torch.Tensor = generator(torch.from_numpy(vectors)[None], mask)[0][0]
    return logits


def said(generator: Generator, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    return logits_of(generator, vectors).argmax(-1).numpy()


def accuracy(generator: Generator, made: Sequence[Utterance]) -> float:
    right = [said(generator, vectors) == labels for vectors, labels in made]
    return float(np.concatenate(right).mean())


def weights(generator: Generator) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in generator.state_dict().items()}


def alike(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


# --- what is learned ---


@pytest.mark.parametrize(
    "options",
    [
        {"kernel": 1},
        {"kernel": 3, "hidden": 16, "dropout": 0.2, "batch_norm": 1.0},
    ],
    ids=["linear", "as in the rounds"],
)
def test_planted_labels_come_back_on_vectors_that_were_not_taught(options: dict[str, int]) -> None:
    generator = untrained(**options)
    unseen = utterances([70] * 5, seed=9)
    assert accuracy(generator, unseen) < 0.6
    loss = learn(generator, lessons(utterances([60] * 40)))
    assert accuracy(generator, unseen) > 0.98
    assert loss < 0.3
    assert not generator.training


def test_what_the_padding_of_the_reference_adds_is_not_taught() -> None:
    made = utterances([20, 31, 12] * 4)
    generator = untrained(kernel=4, reference_padding=True)
    learn(generator, lessons(made))
    vectors, labels = made[0]
    said_of_each = said(generator, vectors)
    assert len(said_of_each) == len(labels) + 1
    assert (said_of_each[:-1] == labels).mean() > 0.95


def test_a_label_depends_on_the_vectors_around_it_where_the_kernel_reaches() -> None:
    def echo(made: Sequence[Utterance]) -> list[Utterance]:
        # The label of a segment is what the segment before it was.
        return [(vectors[1:], labels[:-1]) for vectors, labels in made]

    generator = untrained(kernel=3)
    learn(generator, lessons(echo(utterances([60] * 40))))
    vectors, labels = utterances([80], seed=9)[0]
    right = said(generator, vectors)[1:] == labels[:-1]
    assert right.mean() > 0.98


def test_more_epochs_teach_more() -> None:
    made = lessons(utterances([60] * 40))
    losses = [learn(untrained(), made, epochs=epochs) for epochs in (1, 5, 25)]
    assert losses[0] > losses[1] > losses[2]


def test_few_utterances_are_heard_more_often_for_as_many_updates() -> None:
    made = lessons(utterances([CROP] * (BATCH_CROPS + 1)))  # two batches an epoch
    few, many, asked = untrained(), untrained(), untrained()
    learn(few, made, epochs=3)
    learn(many, made, epochs=8)
    learn(asked, made, epochs=3, least_updates=15)
    assert alike(weights(asked), weights(many))
    assert not alike(weights(asked), weights(few))
    enough = untrained()
    learn(enough, made, epochs=3, least_updates=6)
    assert alike(weights(enough), weights(few)), "it is a least number"


@pytest.mark.parametrize("setting", ["learning_rate", "weight_decay"])
def test_settings_of_the_optimiser_are_heeded(setting: str) -> None:
    made = lessons(utterances([40] * 40))
    one, other = untrained(), untrained()
    learn(one, made, epochs=2, **{setting: 0.01})
    learn(other, made, epochs=2, **{setting: 0.02})
    assert not alike(weights(one), weights(other))


def test_the_loss_is_the_mean_over_labelled_segments() -> None:
    made = utterances([CROP + 30, 7, 1, 2 * CROP])
    for _, labels in made:
        labels[::3] = UNKNOWN
    generator = untrained()
    logits = torch.cat([logits_of(generator, vectors) for vectors, _ in made])
    labels = torch.from_numpy(np.concatenate([labels for _, labels in made]).astype(np.int64))
    expected = F.cross_entropy(logits[labels != UNKNOWN], labels[labels != UNKNOWN])
    loss = learn(generator, lessons(made), epochs=2, learning_rate=1e-9)
    assert loss == pytest.approx(float(expected), rel=1e-4)


# --- labels that are not known ---


def test_only_unknown_labels_teach_nothing() -> None:
    generator = untrained(hidden=4)
    before = weights(generator)
    unknown = [(vectors, np.full_like(labels, UNKNOWN)) for vectors, labels in utterances([30] * 5)]
    settings = {"epochs": 3, "learning_rate": 0.02, "weight_decay": 0.0}
    assert learn(generator, lessons(unknown), **settings) == 0
    assert alike(before, weights(generator))


def test_what_stands_at_unknown_labels_does_not_matter() -> None:
    made = utterances([40] * 10)
    rng = np.random.default_rng(1)
    one, other = [], []
    for vectors, labels in made:
        hidden = rng.random(len(labels)) < 0.4
        partly = np.where(hidden, UNKNOWN, labels).astype(np.int32)
        strange = vectors.copy()
        strange[hidden] = 50 * rng.normal(size=(int(hidden.sum()), DIM))
        one.append((vectors, partly))
        other.append((strange, partly))
    first, second = untrained(), untrained()
    learn(first, lessons(one))
    learn(second, lessons(other))
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=1e-4, atol=1e-5)
    assert accuracy(first, utterances([70] * 3, seed=9)) > 0.95


def test_an_output_that_only_unknown_labels_would_have_asked_for_is_never_said() -> None:
    last = LABELS - 1
    wrong, hidden = [], []
    for vectors, labels in utterances([60] * 30, labels=range(last)):
        doubtful = np.arange(len(labels)) % 5 > 1  # most labels would be wrong, and all alike
        wrong.append((vectors, np.where(doubtful, last, labels).astype(np.int32)))
        hidden.append((vectors, np.where(doubtful, UNKNOWN, labels).astype(np.int32)))
    unseen = utterances([80] * 3, seed=9, labels=range(last))
    misled, spared = untrained(), untrained()
    learn(misled, lessons(wrong))
    learn(spared, lessons(hidden))
    assert accuracy(misled, unseen) < 0.5
    assert accuracy(spared, unseen) > 0.98


# --- all of every utterance ---


@pytest.mark.parametrize("length", [1, 7, CROP, CROP + 1, 2 * CROP + 37])
def test_the_last_segments_of_an_utterance_teach_whatever_its_length(length: int) -> None:
    rng = np.random.default_rng(0)
    tail = (length - 1) % CROP + 1  # the last crop
    made = []
    for vectors, labels in utterances([length] * 12, seed=length, labels=range(LABELS - 1)):
        # The last label is said in the last segment alone, if that is a crop of its own.
        vectors[-tail:] = 0.1 * rng.normal(size=(tail, DIM))
        vectors[-tail:, LABELS - 1] += 2.0
        labels[-tail:] = LABELS - 1
        made.append((vectors, labels))
    generator = untrained()
    learn(generator, lessons(made))
    assert accuracy(generator, utterances([50], seed=9, labels=[LABELS - 1])) > 0.98


def test_short_and_long_utterances_are_learned_from_alike_in_one_batch() -> None:
    # Each utterance has a label of its own: every one of them must have been heard.
    lengths = [1, 20, CROP - 1, CROP + 1, 2 * CROP + 50]
    rng = np.random.default_rng(0)
    made = [
        item
        for _ in range(6)
        for label, length in enumerate(lengths)
        for item in utterances([length], seed=int(rng.integers(2**31)), labels=[label])
    ]
    generator = untrained()
    learn(generator, lessons(made))
    for label in range(LABELS):
        assert accuracy(generator, utterances([40], seed=9, labels=[label])) > 0.95


def test_an_empty_utterance_is_passed_over() -> None:
    made = utterances([30] * 6)
    with_empty = [*lessons(made), lesson(np.empty((0, DIM), np.float32), np.empty(0, np.int32))]
    one, other = untrained(), untrained()
    assert learn(one, lessons(made), epochs=3) == learn(other, with_empty, epochs=3)
    assert alike(weights(one), weights(other))


def test_padding_beside_a_long_utterance_is_nothing_that_was_heard() -> None:
    made = [(vectors + 10, labels) for vectors, labels in utterances([1, 2, 3, 90])]
    generator = untrained(batch_norm=1.0)
    assert generator.norm is not None
    learn(generator, lessons(made), epochs=80)
    heard = np.concatenate([vectors for vectors, _ in made])
    np.testing.assert_allclose(generator.norm.mean.numpy(), heard.mean(axis=0), rtol=0.01)


# --- chance ---


def taught(seed: int, generator: Generator, count: int = 40) -> dict[str, torch.Tensor]:
    learn(generator, lessons(utterances([40] * count)), epochs=2, seed=seed)
    return weights(generator)


def test_the_same_seed_gives_the_same_weights_whatever_torch_has_drawn() -> None:
    generator = untrained(kernel=3, hidden=8, dropout=0.3, batch_norm=1.0)
    one = taught(1, copy.deepcopy(generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        again = taught(1, copy.deepcopy(generator))
    assert alike(one, again)


def test_a_generator_that_was_in_evaluation_is_taught_with_dropout_too() -> None:
    generator = untrained(dropout=0.3)
    training = taught(1, copy.deepcopy(generator).train())
    assert alike(training, taught(1, copy.deepcopy(generator).eval()))
    assert not alike(training, taught(1, untrained()))


@pytest.mark.parametrize(("count", "dropout"), [(40, 0.0), (1, 0.3)], ids=["order", "dropout"])
def test_another_seed_gives_another_order_and_another_dropout(count: int, dropout: float) -> None:
    generator = untrained(dropout=dropout)
    one, other = (taught(seed, copy.deepcopy(generator), count) for seed in (1, 2))
    assert not alike(one, other)


def test_the_global_random_states_are_left_alone() -> None:
    generator = untrained(kernel=3, hidden=8, dropout=0.3)
    torch_before = torch.random.get_rng_state()
    numpy_before = np.random.get_state()[1].copy()  # type: ignore[index] # noqa: NPY002
    taught(1, generator)
    assert torch.equal(torch_before, torch.random.get_rng_state())
    np.testing.assert_array_equal(
        numpy_before,
        np.random.get_state()[1],  # type: ignore[index] # noqa: NPY002
    )


# --- what stays on the disk ---


def test_vectors_are_read_anew_every_epoch_and_not_held() -> None:
    reads = [0] * (3 * BATCH_CROPS + 5)
    alive = most = 0

    def freed() -> None:
        nonlocal alive
        alive -= 1

    def reader(number: int) -> Callable[[], NDArray[np.float32]]:
        def read() -> NDArray[np.float32]:
            nonlocal alive, most
            vectors = np.full((10, DIM), number, dtype=np.float32)
            weakref.finalize(vectors, freed)
            reads[number] += 1
            alive += 1
            most = max(most, alive)
            return vectors

        return read

    made = [Lesson(reader(number), np.zeros(10, np.int32)) for number in range(len(reads))]
    assert sum(reads) == 0
    learn(untrained(), made, epochs=3)
    assert reads == [3] * len(reads)
    assert most <= 2 * BATCH_CROPS
