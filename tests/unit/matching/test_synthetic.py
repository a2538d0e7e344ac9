"""Synthetic speech as segments: moved to planted recordings, and said by espeak-ng, label by label.

Without espeak-ng nothing is said, and what is moved is made up.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from two_voices import TwoVoices, two_voices, write_labelled

from wav2vec_u.config import FeaturesConfig, SegmentsConfig
from wav2vec_u.features.extract import Extractor
from wav2vec_u.features.mfcc import HOP, MfccEncoder
from wav2vec_u.matching.synthetic import (
    RIDGE,
    UNKNOWN,
    Speaker,
    SyntheticSegments,
    write_synthetic,
)
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.segments.frame_segmenter import FrameSegmenter
from wav2vec_u.segments.load import SEGMENTER_NAME
from wav2vec_u.segments.store import INDEX, SegmentStore
from wav2vec_u.synthesis import speech
from wav2vec_u.synthesis.speech import Script, SyntheticUtterance, speak
from wav2vec_u.testing.language import make_language
from wav2vec_u.testing.planted import PlantedSegments

Vectors = NDArray[np.float32]


# -- moved to the recordings


def voices(noise: float = 0.3) -> TwoVoices:
    language = make_language(1, n_consonants=8, n_vowels=4)
    return two_voices(language, synthetic=40, real=40, shift=0.0, noise=noise)


def segments(*utterances: NDArray[Any]) -> PlantedSegments:
    """Utterances whose labels do not matter."""
    return PlantedSegments(
        [item.astype(np.float32) for item in utterances],
        [np.zeros(len(item), dtype=np.int64) for item in utterances],
        ["train"] * len(utterances),
    )


def all_of(read: Callable[[int], NDArray[Any]], utterances: range) -> NDArray[Any]:
    return np.concatenate([read(i) for i in utterances])


def drawn(rng: np.random.Generator, count: int, dim: int) -> list[Vectors]:
    """Utterances of unlike lengths, with a mean and a covariance of their own."""
    mixing, mean = rng.standard_normal((dim, dim)), 2 * rng.standard_normal(dim)
    return [
        (rng.standard_normal((int(length), dim)) @ mixing + mean).astype(np.float32)
        for length in rng.integers(1, 60, count)
    ]


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_mean_and_covariance_become_those_of_the_chosen_recordings(
    tmp_path: Path, scale: float
) -> None:
    rng = np.random.default_rng(0)
    synthetic = segments(*(scale * item for item in drawn(rng, 50, 6)))
    chosen, others = drawn(rng, 30, 6), drawn(rng, 30, 6)
    real = segments(*(scale * item for item in [*others, *chosen]))
    moved = SyntheticSegments(write_labelled(tmp_path, synthetic), real, range(30, 60))
    found, wanted = all_of(moved.vectors, range(50)), all_of(real.vectors, range(30, 60))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=0), wanted.mean(axis=0), atol=1e-3 * scale)
    covariance = np.cov(wanted.T, bias=True)
    # What the ridge takes of a direction is the larger, the less the synthetic speech varies in it.
    least = np.linalg.eigvalsh(np.cov(all_of(synthetic.vectors, range(50)).T, bias=True))[0]
    ridge = RIDGE * np.trace(covariance) / 6
    bound = ridge + np.linalg.norm(covariance, 2) * ridge / least
    assert bound < 0.2 * np.linalg.norm(covariance, 2)
    assert np.linalg.norm(np.cov(found.T, bias=True) - covariance, 2) < bound


def accuracy_of_class_means(vectors: Callable[[int], Vectors], spoken: TwoVoices) -> float:
    """Learn the mean of every phone of synthetic speech; share of real segments it is right of."""
    known = range(len(spoken.synthetic))
    heard, said = all_of(vectors, known), all_of(spoken.synthetic.labels, known)
    means = np.stack([heard[said == phone].mean(axis=0) for phone in np.unique(said)])
    unknown = range(len(spoken.real))
    real, truth = all_of(spoken.real.vectors, unknown), all_of(spoken.real.labels, unknown)
    nearest = np.square(real[:, None] - means[None]).sum(axis=-1).argmin(axis=1)
    return float((np.unique(said)[nearest] == truth).mean())


def test_what_a_room_does_to_all_phones_alike_is_undone(tmp_path: Path) -> None:
    spoken = voices(noise=0.5)
    train = [i for i, split in enumerate(spoken.real.splits) if split == "train"]
    moved = SyntheticSegments(write_labelled(tmp_path, spoken.synthetic), spoken.real, train)
    assert accuracy_of_class_means(spoken.synthetic.vectors, spoken) < 0.4
    assert accuracy_of_class_means(moved.vectors, spoken) > 0.95


def test_recordings_that_are_not_named_take_no_part(tmp_path: Path) -> None:
    spoken = voices()
    folder = write_labelled(tmp_path, spoken.synthetic)
    named = [3, 7, 8, 21]
    broken = [
        spoken.real.vectors(i) if i in named else np.full((4, spoken.real.dim), np.nan, np.float32)
        for i in range(len(spoken.real))
    ]
    first = SyntheticSegments(folder, spoken.real, named)
    again = SyntheticSegments(folder, segments(*broken), named)
    other = SyntheticSegments(folder, spoken.real, [*named, 22])
    for i in range(len(first)):
        np.testing.assert_array_equal(first.vectors(i), again.vectors(i))
    assert not np.allclose(first.vectors(0), other.vectors(0), atol=1e-3)


def test_labels_come_back_as_they_were_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = drawn(rng, 9, 5)
    labels = [rng.integers(UNKNOWN, 40, len(item)) for item in vectors]
    synthetic = PlantedSegments(vectors, labels, ["train"] * 9)
    moved = SyntheticSegments(write_labelled(tmp_path, synthetic), segments(*vectors), range(9))
    assert (len(moved), moved.dim, moved.splits) == (9, 5, ["train"] * 9)
    for i, wanted in enumerate(labels):
        assert moved.labels(i).dtype == np.int32
        assert moved.labels(i).tolist() == wanted.tolist()
        assert len(moved.vectors(i)) == len(wanted)


@pytest.mark.parametrize("flat", ["synthetic", "real", "both"])
def test_a_direction_that_does_not_vary_stays_finite(tmp_path: Path, flat: str) -> None:
    rng = np.random.default_rng(1)
    synthetic, real = (np.concatenate(drawn(rng, 20, 5)) for _ in range(2))
    if flat != "real":
        synthetic[:, 2] = 7
    if flat != "synthetic":
        real[:, 2] = -3
    folder = write_labelled(tmp_path, segments(synthetic))
    found = SyntheticSegments(folder, segments(real), [0]).vectors(0)
    assert np.isfinite(found).all()
    assert found[:, 2].mean() == pytest.approx(real[:, 2].mean(), abs=1e-2)
    # Nothing is blown up, whatever there was to be divided by.
    assert (found.std(axis=0) < 1.1 * real.std(axis=0) + 0.1 * real.std()).all()


@pytest.mark.parametrize("varies", [False, True])
def test_hardly_any_segments_stay_finite(tmp_path: Path, varies: bool) -> None:
    few = np.random.default_rng(2).standard_normal((3, 8)) if varies else np.ones((3, 8))
    folder = write_labelled(tmp_path, segments(few, few[:0]))
    moved = SyntheticSegments(folder, segments(few + 5, few[:0]), [0, 1])
    np.testing.assert_allclose(moved.vectors(0).mean(axis=0), few.mean(axis=0) + 5, atol=1e-3)
    assert moved.vectors(1).shape == (0, 8)


def test_segments_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no readable segments"):
        SyntheticSegments(tmp_path / "none", segments(np.ones((3, 2))), [0])


# -- said by espeak-ng


LINES = (
    "Und es begab sich aber zu der Zeit, dass ein Gebot ausging",
    "Die Katze sass auf dem Dach und sah den Mond an",
)
UNREADABLE = "Im Jahre 1848 begab es sich, dass ein Gebot ausging"
LANGUAGE = "de"
HOURS = 15 / 3600
# Neither this seed nor the next draws one of the voices that breathe: espeak-ng takes their noise
# from the clock (tests/unit/synthesis/test_same_voice.py).
SEED = 4
# One utterance in each batch of the encoder.
FEATURES = FeaturesConfig(encoder="mfcc", batch_seconds=1.0)

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None,
    reason="espeak-ng is not installed: pip install 'wav2vec-u[text]'",
)


def speaker(folder: Path, language: str = LANGUAGE) -> Speaker:
    text = folder / "text.txt"
    text.write_text("\n".join([LINES[0], UNREADABLE, LINES[1]]) + "\n", encoding="utf-8")
    segmenter = FrameSegmenter(SegmentsConfig(boundaries="frames"))
    segmenter.frame_dim_ = MfccEncoder().dim
    segmenter.save(folder / SEGMENTER_NAME)
    return Speaker(text, language, FEATURES, "cut", folder)


def write(folder: Path, outputs: dict[str, int], seed: int = SEED) -> Path:
    """Let it be said into a folder inside of `folder`."""
    folder.mkdir(exist_ok=True)
    write_synthetic(folder / "synthetic", speaker(folder), outputs, HOURS, seed, workers=1)
    return folder / "synthetic"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SyntheticUtterance]:
    """What the seed makes espeak-ng say, by the utterance's id."""
    if importlib.util.find_spec("espeakng_loader") is None:
        pytest.skip("espeak-ng is not installed: pip install 'wav2vec-u[text]'")
    folder = tmp_path_factory.mktemp("said")
    script = Script(LINES, (LANGUAGE,))
    return {item.id: item for item in speak(folder, [script], HOURS, SEED, workers=1)}


@pytest.fixture(scope="module")
def outputs(said: dict[str, SyntheticUtterance]) -> dict[str, int]:
    """Labels in no order, and none for two phones."""
    phones = sorted({start.phone for item in said.values() for start in item.phones} - {""})
    assert {"a", "s"} < set(phones)
    return {"": 0} | {p: 100 - i for i, p in enumerate(phones) if p not in ("a", "s")}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, outputs: dict[str, int]) -> Path:
    return write(tmp_path_factory.mktemp("written"), outputs)


def test_a_segment_is_labelled_by_the_phone_in_its_middle(
    written: Path, said: dict[str, SyntheticUtterance], outputs: dict[str, int]
) -> None:
    store = SegmentStore(written)
    assert sorted(store.ids) == sorted(said)
    seen: set[int] = set()
    for i, name in enumerate(store.ids):
        (frames,) = MfccEncoder().encode([said[name].samples.astype(np.float32) / 2**15])
        np.testing.assert_allclose(store.vectors(i), frames, atol=1e-4)
        phones = said[name].phones_at(np.arange(len(frames)) * HOP + HOP // 2)
        assert store.codes(i).tolist() == [outputs.get(phone, UNKNOWN) for phone in phones]
        assert store.length(i) == len(phones)
        seen |= set(store.codes(i).tolist())
    # Nothing of this would be asked if no pause and no phone without a label had been said.
    assert {"", "a", "s"} <= {start.phone for item in said.values() for start in item.phones}
    assert {0, UNKNOWN} < seen
    assert store.splits == ["train"] * len(said)


def test_labels_are_of_the_sound_that_is_heard_with_them(written: Path) -> None:
    store = SegmentStore(written)
    vectors, labels = (all_of(read, range(len(store))) for read in (store.vectors, store.codes))

    def share_explained(labels: NDArray[np.int32]) -> float:
        """Of the variance, by the mean of every label."""
        groups = [vectors[labels == label] for label in np.unique(labels)]
        between = sum(len(group) * np.square(group.mean(axis=0)).sum() for group in groups)
        return float(between / np.square(vectors).sum())  # their mean is 0

    in_time = share_explained(labels)
    for late in (10, 20, -10, -20):  # frames of 10 ms; phones last for some 7
        assert share_explained(np.roll(labels, late)) < 0.6 * in_time


def test_all_that_was_needed_to_speak_is_gone(written: Path) -> None:
    assert all(path.is_file() for path in written.iterdir())
    assert INDEX in content(written)
    assert not any("said" in name or "i16" in name for name in content(written))


def test_the_same_seed_says_the_same_and_another_seed_something_else(
    written: Path, outputs: dict[str, int], tmp_path: Path
) -> None:
    assert content(write(tmp_path / "again", outputs)) == content(written)
    other = content(write(tmp_path / "other", outputs, seed=SEED + 1))
    assert all(other[name] != data for name, data in content(written).items())


def test_speaking_that_was_interrupted_goes_on_to_the_same_end(
    written: Path, outputs: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, encoded = Extractor.encode_waveforms, 0

    def stops(self: Extractor, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        nonlocal encoded
        encoded += 1
        if encoded == 3:
            raise KeyboardInterrupt
        return encode(self, waveforms)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Extractor, "encode_waveforms", stops)
        write(tmp_path, outputs)
    assert len((tmp_path / "synthetic" / INDEX).read_text().splitlines()) == 2
    assert list(tmp_path.glob("synthetic/said/shard-*"))
    with monkeypatch.context() as patch:
        # A process could not be started with this: what was said is not said again.
        patch.setattr(speech, "_speaker", lambda *_: None)
        write(tmp_path, outputs)
    assert content(tmp_path / "synthetic") == content(written)
    assert not (tmp_path / "synthetic" / "said").exists()


@needs_espeak
def test_a_language_that_nobody_speaks_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no voice named xx"):
        write_synthetic(tmp_path / "out", speaker(tmp_path, "xx"), {"": 0}, HOURS, SEED, workers=1)


@needs_espeak
def test_a_voice_that_calls_its_phones_otherwise_is_refused(
    tmp_path: Path, outputs: dict[str, int]
) -> None:
    few = {phone: number for phone, number in outputs.items() if phone in ("", "t", "n")}
    with pytest.raises(UserError, match=r"the voice de says, \d+% is called otherwise"):
        write(tmp_path, few)


def test_a_text_that_cannot_be_read_aloud_is_told(tmp_path: Path) -> None:
    reader = speaker(tmp_path)
    reader.text.write_text(UNREADABLE + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"text\.txt: has no line that can be read aloud"):
        write_synthetic(tmp_path / "out", reader, {"": 0}, HOURS, SEED, workers=1)
