"""A generator and mixtures together say what each of them says, added by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wav2vec_u.matching.decipherment import CodeLanguage
from wav2vec_u.matching.frame_hmm import HMM_NAME, PRIOR_FLOOR, FrameHmm
from wav2vec_u.matching.generator import GENERATOR_NAME, Generator, log_probs
from wav2vec_u.matching.ngram_hmm import Floats, PhoneTransitions
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.selftrain.frame_model import MIXTURES_NAME, FrameModel, checked_log_probs
from wav2vec_u.selftrain.mixtures import Mixtures

DIM, OUTPUTS = 4, 6
PAUSE = 0
STATES = np.array([1, 3, 4])  # outputs 2 and 5 are too rare to be any


def generator(seed: int = 0, kernel: int = 3, stride: int = 1, **options: bool) -> Generator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = Generator(DIM, OUTPUTS, kernel, stride, **options).eval()  # type: ignore[arg-type]
        with torch.no_grad():
            made.conv.weight.mul_(6)  # so that some frames are pauses, and others are sure
    return made


def frame_hmm(power: float = 0.6) -> FrameHmm:
    rng = np.random.default_rng(1)
    n = len(STATES)
    tables = (rng.dirichlet(np.full(n, 3.0), size=shape) for shape in ((), (n,), (n, n + 1)))
    transitions = PhoneTransitions(*(table.astype(np.float32) for table in tables))
    prior = rng.dirichlet(np.full(OUTPUTS, 4.0)).astype(np.float32)
    return FrameHmm(CodeLanguage(STATES, transitions), prior, power, stay=0.4)


def utterances(lengths: Sequence[int] = (30, 1, 12), seed: int = 0) -> list[Floats]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(length, DIM)).astype(np.float32) for length in lengths]


@pytest.fixture(scope="module")
def mixtures() -> Mixtures:
    """Mixtures that have heard something else than the generator says."""
    rng = np.random.default_rng(2)
    labels = rng.integers(OUTPUTS, size=900).astype(np.int32)
    vectors = rng.normal(size=(OUTPUTS, DIM))[labels] + rng.normal(size=(900, DIM))
    heard = [(vectors.astype(np.float32), labels)]
    return Mixtures(context=1, dim=6, components=2).fit(lambda: heard, OUTPUTS)


@pytest.fixture(scope="module")
def both(mixtures: Mixtures) -> FrameModel:
    return FrameModel(generator(), frame_hmm(), mixtures, mixture_power=0.3)


@pytest.fixture(scope="module")
def alone() -> FrameModel:
    return FrameModel(generator(), frame_hmm())


# --- what it says ---


def test_without_mixtures_a_model_reads_as_its_hmm(alone: FrameModel) -> None:
    said = [log_probs(alone.generator, vectors) for vectors in utterances()]
    expected = alone.hmm.read(said, threads=1).posteriors
    found = alone.read(utterances())
    assert any((rows[:, PAUSE] == 1).any() for rows in found), "or pauses would not be tried"
    assert any((rows[:, PAUSE] == 0).any() for rows in found)
    for rows, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(rows, wanted)


def test_without_mixtures_likelihoods_are_those_of_its_hmm(alone: FrameModel) -> None:
    for vectors in utterances():
        said = log_probs(alone.generator, vectors)
        np.testing.assert_array_equal(alone.likelihoods(vectors), alone.hmm.likelihoods(said))


def test_likelihoods_of_both_are_added_with_their_powers(both: FrameModel) -> None:
    assert both.mixtures is not None
    for vectors in utterances():
        said, other = log_probs(both.generator, vectors), both.mixtures.log_likelihoods(vectors)
        prior = both.hmm.prior.astype(np.float64)
        expected = [
            [
                0.6 * (said[t, k] - math.log(prior[k] + PRIOR_FLOOR)) + 0.3 * other[t, k]
                for k in range(OUTPUTS)
            ]
            for t in range(len(vectors))
        ]
        np.testing.assert_allclose(both.likelihoods(vectors), expected, rtol=1e-4, atol=1e-4)


def test_two_views_together_say_what_the_model_says(both: FrameModel, alone: FrameModel) -> None:
    for vectors in utterances():
        views = both.views(vectors)
        assert views is not None
        np.testing.assert_allclose(sum(views) / 2, both.likelihoods(vectors), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(
            views[0], 2 * alone.hmm.likelihoods(log_probs(both.generator, vectors)), rtol=1e-5
        )
        assert alone.views(vectors) is None


def test_what_the_mixtures_say_is_read_as_if_the_generator_had_said_it(both: FrameModel) -> None:
    assert both.mixtures is not None
    together = []
    for vectors in utterances():
        said = log_probs(both.generator, vectors)
        # The pause stays: mixtures have no say in it.
        said[:, STATES] += 0.3 / 0.6 * both.mixtures.log_likelihoods(vectors)[:, STATES]
        together.append(said)
    expected = both.hmm.read(together, threads=1).posteriors
    without = replace(both, mixtures=None).read(utterances())
    found = both.read(utterances(), threads=2)
    for rows, wanted, other in zip(found, expected, without, strict=True):
        np.testing.assert_allclose(rows, wanted, atol=1e-4)
        np.testing.assert_array_equal(rows[:, PAUSE], other[:, PAUSE])
    assert np.abs(found[0] - without[0]).max() > 0.1, "the mixtures change what is read"


def test_an_empty_utterance_stands_among_others(both: FrameModel, alone: FrameModel) -> None:
    empty = np.zeros((0, DIM), np.float32)
    vectors, *_ = utterances()
    for model in (both, alone):
        assert checked_log_probs(model.generator, empty).shape == (0, OUTPUTS)
        assert model.likelihoods(empty).shape == (0, OUTPUTS)
        assert [rows.shape for rows in model.read([empty])] == [(0, OUTPUTS)]
        assert model.read([]) == []
        first, middle, last = model.read([empty, vectors, empty])
        assert first.shape == last.shape == (0, OUTPUTS)
        np.testing.assert_allclose(middle, model.read([vectors])[0], atol=1e-6)


# --- how many frames it speaks of ---


@pytest.mark.parametrize("length", [1, 2, 5, 6])
def test_a_stride_of_two_says_half_as_much(length: int) -> None:
    model = FrameModel(generator(stride=2), frame_hmm())
    (vectors,) = utterances([length])
    expected = log_probs(model.generator, vectors)
    assert checked_log_probs(model.generator, vectors).shape == ((length + 1) // 2, OUTPUTS)
    np.testing.assert_array_equal(checked_log_probs(model.generator, vectors), expected)
    assert model.likelihoods(vectors).shape == ((length + 1) // 2, OUTPUTS)
    assert model.read([vectors])[0].shape == ((length + 1) // 2, OUTPUTS)


@pytest.mark.parametrize("length", [1, 2, 7])
def test_what_the_padding_of_the_reference_adds_is_cut_off(length: int, mixtures: Mixtures) -> None:
    model = FrameModel(generator(kernel=4, reference_padding=True), frame_hmm(), mixtures, 0.3)
    (vectors,) = utterances([length])
    whole = log_probs(model.generator, vectors)
    assert len(whole) == length + 1
    np.testing.assert_array_equal(checked_log_probs(model.generator, vectors), whole[:length])
    assert model.likelihoods(vectors).shape == (length, OUTPUTS)
    assert model.read([vectors])[0].shape == (length, OUTPUTS)


# --- what cannot be said ---


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_generator_whose_weights_are_no_numbers_is_told(broken: float) -> None:
    sick = generator()
    with torch.no_grad():
        sick.conv.weight[1, 2, 1] = broken
    model = FrameModel(sick, frame_hmm())
    (vectors,) = utterances([5])
    for say in (model.likelihoods, lambda given: model.read([given])):
        with pytest.raises(FloatingPointError, match="the generator's scores are not finite"):
            say(vectors)


@pytest.mark.parametrize("dim", [DIM - 1, DIM + 3])
@pytest.mark.parametrize("options", [{}, {"batch_norm": 1.0}, {"residual": True}, {"hidden": 5}])
def test_segments_of_another_dimension_are_a_users_error(
    dim: int, options: dict[str, float]
) -> None:
    made = Generator(DIM, OUTPUTS, 3, **options).eval()  # type: ignore[arg-type]
    with pytest.raises(UserError, match=rf"does not fit segments of {dim} dimensions; .*matching"):
        checked_log_probs(made, np.ones((6, dim), np.float32))


# --- on disk ---


def test_a_saved_model_says_the_same(both: FrameModel, alone: FrameModel, tmp_path: Path) -> None:
    for name, model in (("both", both), ("alone", alone)):
        folder = tmp_path / name
        folder.mkdir()
        model.save(folder)
        loaded = FrameModel.load(folder)
        assert not loaded.generator.training
        assert loaded.mixture_power == model.mixture_power
        assert (loaded.mixtures is None) == (model.mixtures is None)
        assert (folder / MIXTURES_NAME).exists() == (model is both)
        for vectors in utterances():
            np.testing.assert_array_equal(loaded.likelihoods(vectors), model.likelihoods(vectors))
        for rows, wanted in zip(loaded.read(utterances()), model.read(utterances()), strict=True):
            np.testing.assert_array_equal(rows, wanted)


def test_mixtures_of_another_model_in_the_folder_are_not_read(
    both: FrameModel, alone: FrameModel, tmp_path: Path
) -> None:
    both.save(tmp_path)
    alone.save(tmp_path)
    assert FrameModel.load(tmp_path).mixtures is None


@pytest.mark.parametrize(
    "content",
    [None, "", "{", "[]", "3", '{"mixtures": true}', '{"mixtures": true, "mixture_power": "low"}'],
)
def test_missing_or_damaged_settings_are_a_users_error(
    both: FrameModel, tmp_path: Path, content: str | None
) -> None:
    both.save(tmp_path)
    path = tmp_path / "model.json"
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"model\.json: is missing or damaged; run the self-train"):
        FrameModel.load(tmp_path)


@pytest.mark.parametrize("name", [GENERATOR_NAME, HMM_NAME, MIXTURES_NAME])
def test_a_missing_part_is_a_users_error(both: FrameModel, tmp_path: Path, name: str) -> None:
    both.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=name):
        FrameModel.load(tmp_path)
