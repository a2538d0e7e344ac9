"""The probe finds phones that were planted, and says so when there are none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec_u.evaluate.error_rate import count_errors, pool
from wav2vec_u.probe.linear_ctc import (
    ProbeResult,
    ProbeSettings,
    _Data,
    _Rate,
    _whitening,
    labels_needed,
    probe_per,
)
from wav2vec_u.runtime.errors import UserError

N_PHONES = 8
DIM = 12
QUICK = ProbeSettings(
    learning_rate=0.1, max_rounds=8, round_updates=30, batch_labels=1_000, bootstrap_samples=100
)

Frames = list[npt.NDArray[np.float16]]
Targets = list[list[int]]


def plant(
    count: int, noise: float, seed: int, *, frames_each: int = 4, dim: int = DIM
) -> tuple[Frames, Targets]:
    """Utterances whose phones are vectors, each said over several frames with a pause behind it."""
    centres = np.random.default_rng(99).standard_normal((N_PHONES + 1, dim))
    rng = np.random.default_rng(seed)
    frames, targets = [], []
    for _ in range(count):
        phones = rng.integers(N_PHONES, size=rng.integers(4, 8))
        # A pause now and then, and always between equal phones.
        labels = []
        for phone in phones:
            labels += [phone] * rng.integers(max(1, frames_each - 2), frames_each + 2)
            labels += [N_PHONES] * max(1, frames_each // 2)
        values = centres[labels] + noise * rng.standard_normal((len(labels), dim))
        frames.append(values.astype(np.float16))
        targets.append([int(phone) for phone in phones])
    return frames, targets


def run(
    noise: float,
    *,
    seed: int = 0,
    rate: float = 50.0,
    frames_each: int = 4,
    settings: ProbeSettings = QUICK,
) -> ProbeResult:
    train, test = (
        plant(count, noise, number, frames_each=frames_each) for count, number in ((80, 1), (30, 2))
    )
    return probe_per(*train, *test, N_PHONES, seed, frame_rate_hz=rate, settings=settings)


@pytest.mark.parametrize(
    ("rate", "frames_each"), [(50.0, 4), (100.0, 8), (25.0, 2)], ids=["50", "stacked", "split"]
)
def test_planted_phones_are_read_at_any_frame_rate(rate: float, frames_each: int) -> None:
    result = run(0.2, rate=rate, frames_each=frames_each)
    assert result.per < 5
    assert result.per_low <= result.per <= result.per_high
    assert result.validation_per < 8
    assert (result.train_utterances, result.validation_utterances) == (72, 8)


def test_noise_raises_the_error_rate() -> None:
    rates = [run(noise).per for noise in (0.2, 1.5, 4.0)]
    assert rates[0] < rates[1] < rates[2]
    assert rates[1] > 10
    assert rates[2] > 60


def test_labels_that_do_not_belong_to_the_frames_cannot_be_learned() -> None:
    frames, targets = plant(80, 0.2, 1)
    shuffled = [targets[i] for i in np.random.default_rng(0).permutation(len(targets))]
    test = plant(30, 0.2, 2)
    assert probe_per(frames, shuffled, *test, N_PHONES, 0, settings=QUICK).per > 60


def test_a_linear_map_of_the_frames_changes_little() -> None:
    """Badly scaled, strongly correlated inputs must not look worse than they are."""
    train, test = plant(80, 0.5, 1), plant(30, 0.5, 2)
    mixing = np.random.default_rng(5).standard_normal((DIM, DIM)) * np.geomspace(1e-1, 10, DIM)
    offset = 30 * np.random.default_rng(6).standard_normal(DIM)
    mixed = [
        [(item @ mixing + offset).astype(np.float32) for item in part[0]] for part in (train, test)
    ]
    plain = probe_per(*train, *test, N_PHONES, 0, settings=QUICK)
    same = probe_per(mixed[0], train[1], mixed[1], test[1], N_PHONES, 0, settings=QUICK)
    assert abs(plain.per - same.per) < 5


def test_the_seed_decides_everything_and_global_state_nothing() -> None:
    first = run(1.0, seed=3)
    torch.manual_seed(1234)
    assert run(1.0, seed=3) == first
    assert run(1.0, seed=4).hypotheses != first.hypotheses


def test_the_figures_are_those_of_the_hypotheses() -> None:
    result = run(1.0)
    _, targets = plant(30, 1.0, 2)
    counted = [
        count_errors([str(p) for p in target], [str(p) for p in heard])
        for target, heard in zip(targets, result.hypotheses, strict=True)
    ]
    assert counted == result.errors
    assert pool(counted).rate == result.per


def test_phones_never_trained_count_as_errors() -> None:
    train, (frames, targets) = plant(80, 0.2, 1), plant(30, 0.2, 2)
    foreign = [[N_PHONES + 7, *target[1:]] for target in targets]
    result = probe_per(*train, frames, foreign, N_PHONES, 0, settings=QUICK)
    assert sum(item.total for item in result.errors) >= len(targets)


def test_an_utterance_without_frames_is_read_as_nothing() -> None:
    train, (frames, targets) = plant(80, 0.2, 1), plant(30, 0.2, 2)
    frames[4] = frames[4][:0]
    result = probe_per(*train, frames, targets, N_PHONES, 0, settings=QUICK)
    assert result.hypotheses[4] == []
    assert result.errors[4].deletions == len(targets[4])


def test_fast_utterances_are_left_out_and_counted() -> None:
    (frames, targets), test = plant(80, 0.2, 1), plant(30, 0.2, 2)
    frames[0] = frames[0][: len(targets[0]) - 1]
    targets[1] = []
    result = probe_per(frames, targets, *test, N_PHONES, 0, settings=QUICK)
    assert result.too_fast == 1
    assert result.train_utterances + result.validation_utterances == 78


def test_too_few_utterances_are_one_line() -> None:
    train, test = plant(9, 0.2, 1), plant(5, 0.2, 2)
    with pytest.raises(
        UserError, match="needs 10 transcribed training utterances, and only 9 of 9"
    ):
        probe_per(*train, *test, N_PHONES, 0)


def test_constant_inputs_do_no_harm() -> None:
    def constant(frames: Frames) -> Frames:
        return [np.zeros_like(item) for item in frames]

    train, test = plant(20, 0.2, 1), plant(5, 0.2, 2)
    quick = ProbeSettings(max_rounds=2, round_updates=2)
    result = probe_per(
        constant(train[0]), train[1], constant(test[0]), test[1], N_PHONES, 0, settings=quick
    )
    assert np.isfinite(result.per)


def test_whitened_inputs_are_white() -> None:
    frames, targets = plant(200, 1.0, 1)
    data = _Data(frames, targets, _Rate(stack=2, split=1))
    mean, whitening = _whitening(data, range(len(frames)))
    rows = np.concatenate([data.rate.stacked(item) for item in frames])
    white = (rows - mean) @ whitening.numpy().T
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(white.T), np.eye(2 * DIM), atol=0.02)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9), st.integers(1, 3), st.integers(1, 3))
def test_stacking_loses_no_frame(n_frames: int, stack: int, split: int) -> None:
    rate = _Rate(stack, split)
    frames = np.arange(2.0 * n_frames, dtype=np.float32).reshape(n_frames, 2)
    stacked = rate.stacked(frames)
    assert stacked.shape == (rate.inputs(n_frames), 2 * stack)
    assert rate.labels(n_frames) == split * len(stacked)
    np.testing.assert_array_equal(stacked.reshape(-1, 2)[:n_frames], frames)
    assert n_frames == 0 or (stacked.reshape(-1, 2)[n_frames:] == frames[-1]).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=8))
def test_labels_needed_are_those_of_the_shortest_ctc_path(target: list[int]) -> None:
    """Torch's loss is finite exactly from that many labels on."""
    needed = labels_needed(target)
    for length in {max(1, needed - 1), max(1, needed)}:
        loss = torch.nn.functional.ctc_loss(
            torch.zeros(length, 1, 4).log_softmax(2),
            torch.tensor([target], dtype=torch.long).reshape(1, -1),
            torch.tensor([length]),
            torch.tensor([len(target)]),
            blank=3,
            reduction="sum",
        )
        assert bool(torch.isfinite(loss)) == (length >= needed)


def test_batches_hold_every_utterance_once_and_keep_their_bound() -> None:
    frames, targets = plant(60, 0.2, 1)
    data = _Data(frames, targets, _Rate(1, 1))
    batches = data.batches(range(len(frames)), 200)
    assert sorted(index for batch in batches for index in batch) == list(range(60))
    assert all(
        len(batch) == 1 or len(batch) * max(len(frames[i]) for i in batch) <= 200
        for batch in batches
    )
    assert data.batches([], 200) == []
