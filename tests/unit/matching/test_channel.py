"""What a generator says is worth what it explains of the codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wav2vec_u.matching.batches import training_utterances
from wav2vec_u.matching.channel import Channel
from wav2vec_u.matching.decipherment import learn_language
from wav2vec_u.matching.generator import Generator
from wav2vec_u.testing.language import make_language
from wav2vec_u.testing.planted import plant

LANGUAGE = make_language(0, n_consonants=8, n_vowels=4)
PLANTED = plant(LANGUAGE, utterances=120, sentences=600, dim=16)
V = len(LANGUAGE.phones)


@pytest.fixture(scope="module")
def channel() -> Channel:
    return Channel(
        PLANTED.segments,
        training_utterances(PLANTED.segments),
        learn_language(PLANTED.text, 0.0),
        n_codes=40,
        stay=0.3,
        seed=0,
        threads=1,
    )


def knowing(names: np.ndarray, sharpness: float = 4.0, stride: int = 1) -> Generator:
    """A generator that hears every phone and calls it by `names`."""
    generator = Generator(PLANTED.segments.dim, V, kernel=stride, stride=stride).eval()
    centres = PLANTED.centres / np.linalg.norm(PLANTED.centres, axis=1, keepdims=True)
    with torch.no_grad():
        weight = torch.zeros_like(generator.conv.weight)
        weight[:, :, stride // 2] = sharpness * torch.from_numpy(centres[names])
        generator.conv.weight.copy_(weight)
    return generator


def swapped(how_many: int) -> np.ndarray:
    names = np.arange(V)
    chosen = np.random.default_rng(0).permutation(np.arange(1, V))[:how_many]
    names[chosen] = np.roll(chosen, 1)
    return names


def test_the_more_names_are_wrong_the_less_is_explained(channel: Channel) -> None:
    gains = [channel.gain(knowing(swapped(wrong))) for wrong in (0, 3, 6, V - 1)]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 1.3 * gains[-1], "a private code is as sharp, but no language"


def test_saying_little_or_anything_explains_little(channel: Channel) -> None:
    right = channel.gain(knowing(np.arange(V)))
    torch.manual_seed(0)
    chance = Generator(PLANTED.segments.dim, V, kernel=1).eval()
    assert channel.gain(chance) < 0.6 * right
    for phone in (0, 3):  # silence, and one phone for all
        numb = Generator(PLANTED.segments.dim, V, kernel=1, hidden=2).eval()
        assert numb.output is not None
        with torch.no_grad():
            numb.output.weight.zero_()
            numb.output.bias[phone] = 9.0
        assert channel.gain(numb) < 0.1 * right
    vague = channel.gain(knowing(np.arange(V), sharpness=0.0))
    assert abs(vague) < 0.15 * right


def test_a_generator_of_a_stride_is_judged_on_every_segment(channel: Channel) -> None:
    right = channel.gain(knowing(np.arange(V)))
    halved = channel.gain(knowing(np.arange(V), stride=2))
    assert 0 < halved < right


def test_few_recordings_have_few_codes() -> None:
    few = Channel(
        PLANTED.segments,
        training_utterances(PLANTED.segments)[:2],
        learn_language(PLANTED.text, 0.0),
        n_codes=200,
        stay=0.3,
        seed=0,
        threads=1,
    )
    assert np.isfinite(few.gain(knowing(np.arange(V))))
