"""The block that holds the planted phones best is found without labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score, normalized_mutual_info_score

from wav2vec_u.probe.layer_choice import (
    choose_layer,
    joint_counts,
    mutual_information,
    normalised_information,
    persistence,
    predictability,
    saved_bits,
    score_block,
    thinned,
)
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.testing.language import make_language
from wav2vec_u.testing.planted import plant

RATE = 50.0


def blocks_of_noise(*noises: float) -> dict[str, list[npt.NDArray[np.float16]]]:
    """The same sentences of a made-up language, with more or less noise."""
    segments = plant(
        make_language(0), utterances=60, sentences=1, noise=0.0, repeats=0.75, seed=1
    ).segments
    blocks = {}
    for noise in noises:
        rng = np.random.default_rng(round(100 * noise))
        clean = [segments.vectors(i) for i in range(len(segments))]
        blocks[str(noise)] = [
            (item + noise * rng.standard_normal(item.shape)).astype(np.float16) for item in clean
        ]
    return blocks


@pytest.fixture(scope="module")
def noisy() -> dict[str, list[npt.NDArray[np.float16]]]:
    return blocks_of_noise(3.0, 1.5, 0.5, 2.0)


def test_the_cleanest_block_is_chosen(noisy: dict[str, list[npt.NDArray[np.float16]]]) -> None:
    choice = choose_layer(noisy, RATE, clusters=40)
    assert choice.chosen == "0.5"
    assert sorted(choice.combined, key=lambda name: -choice.combined[name]) == [
        "0.5",
        "1.5",
        "2.0",
        "3.0",
    ]


@pytest.mark.parametrize("score", ["predictability", "stability", "persistence"])
def test_every_score_falls_with_noise(
    noisy: dict[str, list[npt.NDArray[np.float16]]], score: str
) -> None:
    scores = choose_layer(noisy, RATE, clusters=40).scores
    values = [getattr(scores[name], score) for name in ("0.5", "1.5", "2.0", "3.0")]
    assert values == sorted(values, reverse=True)
    assert values[0] > 1.5 * values[-1]


def test_a_block_in_other_units_has_the_same_scores(
    noisy: dict[str, list[npt.NDArray[np.float16]]],
) -> None:
    frames = noisy["1.5"]
    sizes = np.geomspace(0.01, 50, frames[0].shape[1]).astype(np.float32)
    plain = score_block(frames, RATE, clusters=20)
    scaled = score_block([item * sizes + 3 for item in frames], RATE, clusters=20)
    assert scaled.stability == pytest.approx(plain.stability, abs=0.05)
    assert scaled.persistence == pytest.approx(plain.persistence, abs=0.1)


def test_pure_noise_scores_about_nothing() -> None:
    rng = np.random.default_rng(0)
    frames = [rng.standard_normal((80, 8)) for _ in range(60)]
    score = score_block(frames, RATE, clusters=20)
    assert abs(score.persistence) < 0.05
    assert abs(score.predictability) < 0.1


def test_the_seed_decides(noisy: dict[str, list[npt.NDArray[np.float16]]]) -> None:
    frames = noisy["1.5"]
    assert score_block(frames, RATE, clusters=20) == score_block(frames, RATE, clusters=20)
    assert score_block(frames, RATE, clusters=20, seed=1) != score_block(frames, RATE, clusters=20)


def test_a_voice_that_lasts_counts_for_nothing() -> None:
    """Codes that never change within an utterance tell the recording and no phone."""
    codes = [np.full(100, number % 10, dtype=np.int32) for number in range(50)]
    assert persistence(codes, 10, RATE) == pytest.approx(0)


def test_codes_that_last_as_phones_do_persist() -> None:
    rng = np.random.default_rng(0)
    phones = [np.repeat(rng.integers(10, size=40), 6).astype(np.int32) for _ in range(50)]
    frames = [rng.integers(10, size=240).astype(np.int32) for _ in range(50)]
    assert persistence(phones, 10, RATE) > 0.5
    assert abs(persistence(frames, 10, RATE)) < 0.02


def test_saved_bits_of_a_known_chain() -> None:
    """Each code fixes the next: a unigram pays two bits a code, the n-gram almost nothing."""
    rng = np.random.default_rng(0)
    cycles = [np.roll(np.tile(np.arange(4), 25), rng.integers(4)) for _ in range(60)]
    random = [rng.integers(4, size=100) for _ in range(60)]
    assert saved_bits(cycles[:50], cycles[50:], 4, 3) == pytest.approx(2.0, abs=0.1)
    assert saved_bits(random[:50], random[50:], 4, 3) == pytest.approx(0.0, abs=0.1)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(0, 1000))
def test_information_equals_that_of_scikit_learn(n_codes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.integers(n_codes, size=5_000).astype(np.int32)
    second = np.where(rng.random(5_000) < 0.5, first, rng.integers(n_codes, size=5_000))
    counts = joint_counts(first, second.astype(np.int32), n_codes)
    assert counts.sum() == 5_000
    bits = mutual_info_score(first, second) / np.log(2)
    assert mutual_information(counts) == pytest.approx(bits, abs=0.005)
    normalised = normalized_mutual_info_score(first, second, average_method="geometric")
    assert normalised_information(counts) == pytest.approx(normalised, abs=0.005)


def test_few_independent_counts_do_not_look_dependent() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(20, size=(2, 2_000)).astype(np.int32)
    plain = mutual_info_score(first, second) / np.log(2)
    assert plain > 0.1
    assert abs(mutual_information(joint_counts(first, second, 20))) < 0.03
    assert mutual_information(np.zeros((3, 3))) == 0


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 6))
def test_thinned_codes_are_all_codes(codes: list[int], step: int) -> None:
    thin = thinned([np.array(codes, dtype=np.int32)], step)
    assert sorted(code for item in thin for code in item.tolist()) == sorted(codes)
    assert all(len(item) for item in thin)


def test_codes_that_alternate_within_a_phone_are_not_more_predictable() -> None:
    """Noise splits a phone into codes that take turns; merged runs of them would look regular."""
    rng = np.random.default_rng(0)
    random = [np.repeat(rng.integers(5, size=40), 5) for _ in range(80)]
    ordered = [np.repeat(rng.integers(1, 3, size=40).cumsum() % 5, 5) for _ in range(80)]

    def alternating(phones: list[npt.NDArray[np.int64]]) -> list[npt.NDArray[np.int32]]:
        return [(2 * item + rng.integers(2, size=200)).astype(np.int32) for item in phones]

    def score(phones: list[npt.NDArray[np.int64]]) -> float:
        codes = alternating(phones)
        return predictability(codes[:60], codes[60:], 10, 3, RATE)

    assert score(ordered) > 0.7
    assert abs(score(random)) < 0.1


def test_too_few_utterances_are_one_line() -> None:
    frames = [np.ones((50, 4)) for _ in range(9)]
    with pytest.raises(UserError, match="needs 10 utterances, not 9"):
        choose_layer({"0": frames}, RATE)
