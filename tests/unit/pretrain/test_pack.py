"""The pack gives back what was spoken, and says what it left out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_pretrain import RATE, pack_tones, utterance_of, write_tones

from wav2vec_u.corpus.audio import read_audio
from wav2vec_u.pretrain.pack import INDEX_NAME, SAMPLES_NAME, AudioPack, write_pack
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.silence.speech import Utterance


def test_samples_are_those_of_the_recordings(tmp_path: Path) -> None:
    utterances, _ = write_tones(tmp_path, 5)
    assert write_pack(tmp_path, utterances, min_samples=1) == []
    pack = AudioPack(tmp_path)
    assert pack.ids == [utterance.id for utterance in utterances]
    assert len(pack) == 5
    total = 0
    for index, utterance in enumerate(utterances):
        expected = read_audio(Path(utterance.audio))
        found = pack.samples(index)
        assert found.dtype == np.float32
        assert len(found) == pack.lengths[index] == len(expected)
        np.testing.assert_allclose(found, expected, atol=1 / 32_000)
        np.testing.assert_array_equal(pack.samples(index, 320, 3_200), found[320:3_200])
        np.testing.assert_array_equal(pack.samples(index, 320), found[320:])
        total += len(expected)
    assert pack.hours == pytest.approx(total / RATE / 3600)
    assert (tmp_path / SAMPLES_NAME).stat().st_size == 2 * total


def test_no_sample_of_the_next_utterance(tmp_path: Path) -> None:
    pack, _ = pack_tones(tmp_path, 3)
    np.testing.assert_array_equal(pack.samples(0, 0, 10**6), pack.samples(0))
    assert len(pack.samples(1, 100, 10**6)) == pack.lengths[1] - 100


def test_only_the_speech_of_a_recording(tmp_path: Path) -> None:
    ramp = np.linspace(-0.9, 0.9, 2 * RATE, dtype=np.float32)
    soundfile.write(tmp_path / "ramp.wav", ramp, RATE)
    spans = ((0.25, 0.5), (1.0, 1.75))
    path = str(tmp_path / "ramp.wav")
    write_pack(tmp_path, [Utterance("r", "r", path, "train", None, 0.25, 1.75, spans)], 1)
    expected = np.concatenate([ramp[4_000:8_000], ramp[16_000:28_000]])
    np.testing.assert_allclose(AudioPack(tmp_path).samples(0), expected, atol=1e-4)


def test_what_is_too_loud_does_not_wrap_round(tmp_path: Path) -> None:
    loud = np.array([1.5, -1.5, 1.0, -1.0] * 400, dtype=np.float32)
    soundfile.write(tmp_path / "loud.wav", loud, RATE, subtype="FLOAT")
    write_pack(tmp_path, [utterance_of(tmp_path / "loud.wav", 0.1)], 1)
    np.testing.assert_array_equal(AudioPack(tmp_path).samples(0), loud.clip(-1, 1))


def test_what_cannot_be_used_is_left_out_and_listed(tmp_path: Path) -> None:
    utterances, _ = write_tones(tmp_path, 4)
    shortest = min(round(RATE * utterance.end_s) for utterance in utterances)
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "short.wav", np.full(shortest - 1, 0.1), RATE)
    given = [
        utterances[0],
        utterance_of(tmp_path / "text.wav", 1.0),
        utterances[1],
        utterance_of(tmp_path / "missing.wav", 1.0),
        utterance_of(tmp_path / "short.wav", (shortest - 1) / RATE),
        *utterances[2:],
    ]
    rejected = write_pack(tmp_path, given, min_samples=shortest)
    assert [item.what for item in rejected] == ["text", "missing", "short"]
    assert rejected[2].reason == "too_short"
    assert all(item.reason for item in rejected)
    pack = AudioPack(tmp_path)
    assert pack.ids == [utterance.id for utterance in utterances]
    expected = read_audio(Path(utterances[2].audio))
    np.testing.assert_allclose(pack.samples(2), expected, atol=1 / 32_000)


@pytest.mark.parametrize("name", [SAMPLES_NAME, INDEX_NAME])
@pytest.mark.parametrize(
    "left",
    [None, lambda size: 0, lambda size: size // 4 * 2, lambda size: size - 3],
    ids=["gone", "empty", "half", "cut"],
)
def test_a_damaged_pack(tmp_path: Path, name: str, left: Callable[[int], int] | None) -> None:
    pack_tones(tmp_path, 3)
    path = tmp_path / name
    if left is None:
        path.unlink()
    else:
        os.truncate(path, left(path.stat().st_size))
    with pytest.raises(UserError, match="pack") as caught:
        AudioPack(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("index", [[], {}, {"ids": [], "offsets": []}])
def test_an_index_of_something_else(tmp_path: Path, index: object) -> None:
    pack_tones(tmp_path, 3)
    (tmp_path / INDEX_NAME).write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(UserError, match="pack"):
        AudioPack(tmp_path)
