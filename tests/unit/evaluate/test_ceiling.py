"""The labelled ceiling must find planted phones, and must not find what is not there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from wav2vec_u.evaluate.ceiling import CeilingSettings, train_ceiling
from wav2vec_u.evaluate.error_rate import count_errors, pool

PHONES = 12  # silence included
DIM = 16


class Planted:
    """Utterances whose segments are a fixed vector for each phone, plus noise."""

    def __init__(self, n: int, noise: float, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.prototypes = np.random.default_rng(99).normal(size=(PHONES, DIM))
        self.targets: list[list[int]] = []
        self.segments: list[np.ndarray] = []
        for _ in range(n):
            # No equal neighbours: without a blank between them nobody could tell them apart.
            target = [int(rng.integers(1, PHONES))]
            for _ in range(int(rng.integers(8, 20))):
                step = int(rng.integers(1, PHONES - 1))
                target.append((target[-1] - 1 + step) % (PHONES - 1) + 1)
            repeats = rng.integers(1, 3, size=len(target))
            clean = self.prototypes[np.repeat(target, repeats)]
            noisy = clean + noise * rng.normal(size=clean.shape)
            self.targets.append(target)
            self.segments.append((7.0 + 5.0 * noisy).astype(np.float32))

    def __len__(self) -> int:
        return len(self.segments)

    def length(self, index: int) -> int:
        return len(self.segments[index])

    def vectors(self, index: int) -> np.ndarray:
        return self.segments[index]


class Convolution(nn.Module):
    """The shape of the project's generator: dropout and one convolution without bias."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.1)
        self.convolution = nn.Conv1d(dim, outputs, 4, padding=2, bias=False)

    def forward(
        self, segments: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.dropout(segments * mask[..., None]).transpose(1, 2)
        longer = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)  # even kernel: S + 1
        return self.convolution(hidden).transpose(1, 2), longer


def test_planted_phones_are_found() -> None:
    train, test = Planted(150, noise=0.2), Planted(30, noise=0.2, seed=1)
    ceiling = train_ceiling(train, train.targets, PHONES, Convolution, seed=0)
    assert ceiling is not None
    errors = pool(
        [
            count_errors(
                [str(i) for i in target], [str(i) for i in ceiling.transcribe(test.vectors(n))]
            )
            for n, target in enumerate(test.targets)
        ]
    )
    assert errors.rate < 3.0
    assert ceiling.validation_per < 3.0


def test_noise_teaches_nothing() -> None:
    train = Planted(60, noise=0.2)
    noise = np.random.default_rng(3)
    train.segments = [noise.normal(size=s.shape).astype(np.float32) for s in train.segments]
    settings = CeilingSettings(max_updates=150)
    ceiling = train_ceiling(train, train.targets, PHONES, Convolution, 0, settings)
    assert ceiling is not None
    assert ceiling.validation_per > 60.0


def test_same_seed_same_ceiling() -> None:
    train = Planted(30, noise=0.5)
    settings = CeilingSettings(max_updates=20)
    torch.manual_seed(1)
    first = train_ceiling(train, train.targets, PHONES, Convolution, 5, settings)
    torch.manual_seed(2)  # the global state must not matter
    state = torch.get_rng_state()
    second = train_ceiling(train, train.targets, PHONES, Convolution, 5, settings)
    assert torch.equal(state, torch.get_rng_state())  # nor be touched
    assert first is not None
    assert second is not None
    for left, right in zip(
        first.model.state_dict().values(), second.model.state_dict().values(), strict=True
    ):
        assert torch.equal(left, right)


@pytest.mark.parametrize("target_length", [0, 500])
def test_utterances_that_ctc_cannot_align_are_left_out(target_length: int) -> None:
    train = Planted(15, noise=0.2)
    train.targets[3] = [1] * target_length
    settings = CeilingSettings(max_updates=3)
    ceiling = train_ceiling(train, train.targets, PHONES, Convolution, 0, settings)
    assert ceiling is not None
    assert ceiling.train_utterances == 14 - 1  # one is held out, one cannot be used
    assert ceiling.left_out == 1


def test_what_is_beyond_the_limits_counts_as_left_out() -> None:
    train = Planted(30, noise=0.2)
    limit = sum(train.length(i) for i in range(30)) // 2
    settings = CeilingSettings(max_updates=3, max_train_segments=limit)
    ceiling = train_ceiling(train, train.targets, PHONES, Convolution, 0, settings)
    assert ceiling is not None
    assert 10 < ceiling.left_out < 20
    used = 30 - ceiling.left_out
    assert ceiling.train_utterances == used - max(1, round(0.1 * used))


def test_a_generator_of_stride_three_can_say_a_third_of_the_phones() -> None:
    train = Planted(20, noise=0.2)  # at most two segments a phone
    settings = CeilingSettings(max_updates=3)
    assert train_ceiling(train, train.targets, PHONES, Convolution, 0, settings) is not None
    assert train_ceiling(train, train.targets, PHONES, Convolution, 0, settings, stride=3) is None


def test_too_little_labelled_speech_gives_no_ceiling() -> None:
    train = Planted(9, noise=0.2)
    assert train_ceiling(train, train.targets, PHONES, Convolution, 0) is None


def test_empty_utterance_is_transcribed_as_nothing() -> None:
    train = Planted(12, noise=0.2)
    settings = CeilingSettings(max_updates=2)
    ceiling = train_ceiling(train, train.targets, PHONES, Convolution, 0, settings)
    assert ceiling is not None
    assert ceiling.transcribe(np.zeros((0, DIM), np.float32)) == []
