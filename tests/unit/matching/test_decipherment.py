"""Decipherment of a planted script: every phone is written with several codes, some of them wrong.

The truth is known, so the reading can be asked for it; sizes are small, seeds are fixed.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from wav2vec_u.config import DeciphermentConfig
from wav2vec_u.matching import decipherment
from wav2vec_u.matching.decipherment import (
    CHECKPOINT_EVERY,
    TOLERANCE,
    CodeLanguage,
    Deciphered,
    Decipherment,
    learn_language,
)
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.progress import MetricsLog
from wav2vec_u.testing.language import make_language
from wav2vec_u.testing.planted import PlantedText, plant

PHONES = ("<SIL>", "a", "b", "c", "d", "e", "f", "r")
A, B, C, D, E, F, R = range(1, 8)


def text(*sentences: list[int]) -> PlantedText:
    return PlantedText(PHONES, [[sentence] for sentence in sentences])


COMMON = [[A, B, C, A, B, C, F], [D, B, E, D, B, E, F], [F, E, D, C, A]] * 10


# --- the language ---


def test_transitions_are_probabilities_and_nothing_before_means_bigram() -> None:
    language = learn_language(text(*COMMON), min_phone_share=0.0)
    transitions = language.transitions
    v = len(language.phones)
    assert language.phones.tolist() == [A, B, C, D, E, F]  # neither silence nor what never occurs
    assert transitions.trigram.shape == (v, v + 1, v)
    for table in (transitions.unigram, transitions.bigram, transitions.trigram):
        assert table.dtype == np.float32
        assert table.min() > 0  # a phone that was not seen to follow may follow all the same
        np.testing.assert_allclose(table.sum(axis=-1), 1, atol=1e-5)
    np.testing.assert_array_equal(transitions.trigram[:, v], transitions.bigram)
    counts = np.bincount(np.concatenate([np.array(one) for one in COMMON]))[1:]
    np.testing.assert_allclose(transitions.unigram, counts / counts.sum(), rtol=1e-5)


def test_the_trigram_is_asked_by_the_last_phone_then_the_one_before() -> None:
    trigram = learn_language(text(*COMMON), 0.0).transitions.trigram
    a, b, c, d, e = (phone - 1 for phone in (A, B, C, D, E))
    assert trigram[b, a, c] > 0.6  # a b → c
    assert trigram[b, d, e] > 0.6  # d b → e
    assert trigram[b, a, e] < 0.2
    assert trigram[b, d, c] < 0.2


def test_sentences_are_cut_at_rare_phones_and_not_closed_over_them() -> None:
    # Without its r, this sentence would say that e follows b: nothing else does.
    rare = [A, B, R, E, D, C, F]
    language = learn_language(text(*COMMON, *[rare] * 3), min_phone_share=0.03)
    assert R not in language.phones
    closed = learn_language(text(*COMMON, *[[A, B, E, D, C, F]] * 3), min_phone_share=0.03)
    cut = learn_language(text(*COMMON, *[[A, B], [E, D, C, F]] * 3), min_phone_share=0.03)
    bigrams = [item.transitions.bigram for item in (language, cut, closed)]
    np.testing.assert_allclose(bigrams[0], bigrams[1], rtol=1e-5)
    assert np.abs(bigrams[0] - bigrams[2]).max() > 0.02


@pytest.mark.parametrize(
    "source",
    [text(), text([A, B, A, B, C]), text(*COMMON, [R, A, R])],
    ids=["empty", "three phones", "all rare"],
)
def test_too_few_phones_are_said(source: PlantedText) -> None:
    share = 0.9 if len(source) > 1 else 0.0
    with pytest.raises(UserError, match=r"text: only \d phones .*min_phone_share"):
        learn_language(source, share)


# --- the search ---

CODES_PER_PHONE = 3
CONFIG = DeciphermentConfig()


@cache
def script(seed: int) -> tuple[CodeLanguage, list[np.ndarray], list[np.ndarray]]:
    """Return a language, the codes of its utterances, and the true phones of their segments."""
    planted = plant(
        make_language(seed, n_consonants=11, n_vowels=5), utterances=150, sentences=3_000, seed=seed
    )
    rng = np.random.default_rng(seed)
    n_codes = CODES_PER_PHONE * len(planted.text.phones)
    names = rng.permutation(n_codes)
    codes, labels = [], []
    for i in range(len(planted.segments)):
        label = planted.segments.labels(i)
        label = label[label != 0]
        code = names[CODES_PER_PHONE * label + rng.integers(CODES_PER_PHONE, size=len(label))]
        wrong = rng.random(len(label)) < 0.05
        codes.append(np.where(wrong, rng.integers(n_codes, size=len(label)), code).astype(np.int32))
        labels.append(label)
    return learn_language(planted.text, 0.0), codes, labels


def search(
    folder: Path,
    language_seed: int = 1,
    *,
    config: DeciphermentConfig = CONFIG,
    seed: int = 0,
    threads: int = 1,
    restart: int = 0,
    codes: list[np.ndarray] | None = None,
) -> Decipherment:
    language, written, _ = script(language_seed)
    folder.mkdir(exist_ok=True)
    return Decipherment(
        written if codes is None else codes,
        1 + max(int(code.max()) for code in written),
        language,
        config,
        seed=seed,
        folder=folder,
        threads=threads,
        restart=restart,
    )


def merged(labels: np.ndarray) -> list[int]:
    return [int(x) for x in labels[np.r_[True, labels[1:] != labels[:-1]]]]


def error_rate(found: Deciphered, language_seed: int) -> float:
    """Phone error rate, percent."""
    language, _, labels = script(language_seed)
    read = language.phones[found.posteriors.argmax(axis=1)]
    ends = np.cumsum([len(label) for label in labels])
    errors = phones = 0
    for label, piece in zip(labels, np.split(read, ends[:-1]), strict=True):
        truth = merged(label)
        errors += Levenshtein.distance(merged(piece), truth)
        phones += len(truth)
    return 100 * errors / phones


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


# Measured: PER 2.8 and 3.3 for these languages and seeds, gain 0.90 and 0.84; a reading that went
# wrong stands at 60 to 90 and 0.4.
@pytest.mark.parametrize("language_seed", [1, 2])
def test_a_planted_script_is_read(language_seed: int, tmp_path: Path) -> None:
    for seed, restart in ((0, 0), (1, 1)):
        place = tmp_path / str(seed)
        found = search(place, language_seed, seed=seed, restart=restart).run(resume=False)
        assert error_rate(found, language_seed) < 10
        assert found.gain > 0.7
        np.testing.assert_allclose(found.posteriors.sum(axis=1), 1, atol=1e-4)


@pytest.mark.parametrize(("restart", "middle"), [(0, 0.4), (1, 0.7), (2, 0.4)])
def test_the_schedule_cools_and_changes_to_the_trigram(
    tmp_path: Path, restart: int, middle: float
) -> None:
    config = DeciphermentConfig(
        trigram_sharpness=(0.4, 0.7),
        bigram_iterations=4,
        trigram_iterations=3,
        final_iterations=2,
        reheats=0,
    )
    found = search(tmp_path, config=config, restart=restart).run(resume=False)
    rows = log(tmp_path)
    assert [row["iteration"] for row in rows] == list(range(9))
    assert [row["order"] for row in rows] == [2] * 4 + [3] * 5
    sharpness = [row["sharpness"] for row in rows]
    assert sharpness == sorted(sharpness)
    assert sharpness[0] == config.start_sharpness
    assert sharpness[4] == middle
    assert sharpness[-2:] == [1.0, 1.0]
    assert rows[-1]["gain"] == found.gain


# Measured: 79.5 and 79.8 without, 2.9 and 3.8 with it.
@pytest.mark.parametrize("language_seed", [1, 6])
def test_warming_up_again_mends_what_cooling_too_fast_misread(
    language_seed: int, tmp_path: Path
) -> None:
    fast = DeciphermentConfig(trigram_sharpness=(0.64,), trigram_iterations=10)
    once = search(
        tmp_path / "once", language_seed, config=fast.model_copy(update={"reheats": 0})
    ).run(resume=False)
    again = search(tmp_path / "again", language_seed, config=fast).run(resume=False)
    assert error_rate(once, language_seed) > 50
    assert error_rate(again, language_seed) < 10
    assert again.gain > once.gain + 0.5


def test_it_is_warmed_up_for_as_long_as_that_helps_and_the_best_reading_is_kept(
    tmp_path: Path,
) -> None:
    config = DeciphermentConfig(
        trigram_sharpness=(0.64,), trigram_iterations=10, reheats=5, reheat_sharpness=0.45
    )
    found = search(tmp_path, config=config).run(resume=False)
    rows = log(tmp_path)
    heats = [[row for row in rows if row["heat"] == heat] for heat in range(rows[-1]["heat"] + 1)]
    assert 1 < len(heats) < 6
    for again in heats[1:]:
        assert [row["order"] for row in again] == [3] * len(again)
        assert again[0]["sharpness"] == 0.45
        sharpness = [row["sharpness"] for row in again]
        assert sharpness == sorted(sharpness)
    best = [max(row["gain"] for row in heat if row["sharpness"] == 1) for heat in heats]
    so_far = np.maximum.accumulate(best)
    assert all(step >= TOLERANCE for step in np.diff(so_far)[:-1])
    assert np.diff(so_far)[-1] < TOLERANCE
    assert found.gain == max(best)


def test_the_gain_knows_noise_from_a_language(tmp_path: Path) -> None:
    _, codes, _ = script(1)
    flat = np.random.default_rng(0).permutation(np.concatenate(codes))
    shuffled = np.split(flat, np.cumsum([len(code) for code in codes])[:-1])
    config = CONFIG.model_copy(update={"final_iterations": 5})
    assert search(tmp_path, config=config, codes=shuffled).run(resume=False).gain < 0.3


def test_the_search_ends_when_it_gains_no_more(tmp_path: Path) -> None:
    config = DeciphermentConfig(
        bigram_iterations=6, trigram_iterations=12, final_iterations=500, reheats=0
    )
    found = search(tmp_path, config=config).run(resume=False)
    gains = [row["gain"] for row in log(tmp_path) if row["sharpness"] == 1]
    assert 1 < len(gains) < 400
    assert all(step >= TOLERANCE for step in np.diff(gains)[:-1])
    assert gains[-1] - gains[-2] < TOLERANCE
    assert found.gain == max(gains)


def test_same_seed_same_result_whatever_the_threads(tmp_path: Path) -> None:
    config = DeciphermentConfig(bigram_iterations=5, trigram_iterations=3, final_iterations=1)
    first, again, other = (
        search(tmp_path / name, config=config, seed=seed, threads=threads).run(resume=False)
        for name, seed, threads in (("a", 0, 1), ("b", 0, 3), ("c", 1, 1))
    )
    np.testing.assert_array_equal(first.posteriors, again.posteriors)
    assert first.gain == again.gain
    assert log(tmp_path / "a") == log(tmp_path / "b")
    assert first.gain != other.gain


def kill_at(patch: pytest.MonkeyPatch, iteration: int) -> None:
    write = MetricsLog.write

    def killed(self: MetricsLog, **values: Any) -> None:
        write(self, **values)
        if values["iteration"] == iteration:
            raise KeyboardInterrupt

    patch.setattr(MetricsLog, "write", killed)


# It is warmed up again before iterations 13, 21 and 29, and a checkpoint stands before every fifth.
@pytest.mark.parametrize("killed_at", [2, CHECKPOINT_EVERY, 2 * CHECKPOINT_EVERY + 1, 16, 22, 36])
def test_resumed_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    config = DeciphermentConfig(
        trigram_sharpness=(0.64,),
        bigram_iterations=7,
        trigram_iterations=4,
        final_iterations=2,
        reheat_iterations=6,
    )
    whole = search(tmp_path / "whole", config=config).run(resume=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_at(patch, killed_at)
        search(tmp_path / "cut", config=config).run(resume=False)
    with (tmp_path / "cut" / "log.jsonl").open("a") as file:
        file.write('{"iteration": 12, "ord')  # the kill came in the middle of a line
    again = search(tmp_path / "cut", config=config)
    assert again.checkpoint.exists() == (killed_at >= CHECKPOINT_EVERY)
    found = again.run(resume=True)
    np.testing.assert_array_equal(found.posteriors, whole.posteriors)
    assert found.gain == whole.gain
    assert log(tmp_path / "cut") == log(tmp_path / "whole")


def test_a_resumed_search_knows_what_it_had_gained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DeciphermentConfig(
        bigram_iterations=7, trigram_iterations=4, final_iterations=500, reheats=0
    )
    search(tmp_path / "whole", config=config).run(resume=False)
    expected = log(tmp_path / "whole")
    # The kill comes in the very iteration that gains no more, after a checkpoint before it.
    monkeypatch.setattr(decipherment, "CHECKPOINT_EVERY", len(expected) - 1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_at(patch, len(expected) - 1)
        search(tmp_path / "cut", config=config).run(resume=False)
    search(tmp_path / "cut", config=config).run(resume=True)
    assert log(tmp_path / "cut") == expected


def test_without_resume_what_was_there_is_forgotten(tmp_path: Path) -> None:
    config = DeciphermentConfig(bigram_iterations=7, trigram_iterations=2, final_iterations=1)
    search(tmp_path, config=config, seed=1).run(resume=False)
    assert search(tmp_path, config=config).checkpoint.exists()
    found = search(tmp_path, config=config).run(resume=False)
    expected = search(tmp_path / "fresh", config=config).run(resume=False)
    assert found.gain == expected.gain
    assert log(tmp_path) == log(tmp_path / "fresh")


def test_annealing_uses_a_sample_and_the_end_all_utterances(tmp_path: Path) -> None:
    config = DeciphermentConfig(
        bigram_iterations=2, trigram_iterations=1, final_iterations=1, max_segments=500
    )
    _, codes, _ = script(1)
    found = search(tmp_path / "some", config=config).run(resume=False)
    assert len(found.posteriors) == sum(len(code) for code in codes)
    everything = config.model_copy(update={"max_segments": 10**6})
    search(tmp_path / "all", config=everything).run(resume=False)
    gains = [[row["gain"] for row in log(tmp_path / name)] for name in ("some", "all")]
    assert gains[0][0] != gains[1][0]
