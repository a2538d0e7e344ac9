"""Synthetic speech beside the recordings in pre-training."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from songs import write_songs
from tiny_pretrain import TINY, pack_tones, tiny_network, tiny_pretraining

from wav2vec_u.config import (
    PretrainConfig,
    RunConfig,
    ScriptConfig,
    SpokenConfig,
    TargetRound,
    load_config,
)
from wav2vec_u.encoder.encode import FRAME_SAMPLES
from wav2vec_u.pretrain import train
from wav2vec_u.pretrain.pack import AudioPack
from wav2vec_u.pretrain.processes import Processes
from wav2vec_u.pretrain.spoken import SpokenSpeech, read_scripts, write_spoken
from wav2vec_u.pretrain.stage import pretrain
from wav2vec_u.pretrain.targets import NO_CODE, Targets, save_targets
from wav2vec_u.pretrain.train import train_round
from wav2vec_u.runtime.artifact import read_record
from wav2vec_u.runtime.errors import UserError

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None,
    reason="espeak-ng is not installed: pip install 'wav2vec-u[text]'",
)
TEXT = "Und es begab sich aber zu der Zeit, dass ein Gebot ausging.\n" * 3
PHONES = ["", "low", "mid", "high", "top"]


class Planted:
    """Recordings with targets that mean nothing, and "synthetic" tones whose phones are known."""

    def __init__(self, folder: Path, shuffled: bool = False) -> None:
        for name in ("recordings", "spoken"):
            (folder / name).mkdir(parents=True)
        self.recordings, _ = pack_tones(folder / "recordings")
        rng = np.random.default_rng(0)
        save_targets(folder / "recordings", [_noise(n, rng) for n in self.recordings.lengths])
        self.targets = Targets(folder / "recordings")
        pack, tones = pack_tones(folder / "spoken")
        codes = [
            np.repeat(np.array(which, dtype=np.int16) + 1, 20)[: length // FRAME_SAMPLES]
            for which, length in zip(tones, pack.lengths, strict=True)
        ]
        if shuffled:
            codes = [rng.integers(1, 5, len(row)).astype(np.int16) for row in codes]
        codes[0][:5] = NO_CODE  # a phone that is not asked for
        save_targets(folder / "spoken", codes)
        self.spoken = SpokenSpeech(pack, Targets(folder / "spoken"), PHONES)

    def train(self, folder: Path, config: PretrainConfig) -> tuple[bytes, dict[str, float]]:
        folder.mkdir(exist_ok=True)
        network = tiny_network(config.network)
        figures = train_round(
            network,
            self.recordings,
            self.targets,
            config,
            0,
            folder,
            Processes(),
            spoken=self.spoken,
        )
        state = network.state_dict()
        return b"".join(value.numpy().tobytes() for value in state.values()), figures


def _noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 4, samples // FRAME_SAMPLES).astype(np.int16)


def settings(updates: int) -> PretrainConfig:
    return tiny_pretraining(
        rounds=(TargetRound(targets="mfcc", clusters=4, updates=updates),), learning_rate=1e-2
    )


def test_the_phones_of_planted_speech_are_learned(tmp_path: Path) -> None:
    _, figures = Planted(tmp_path).train(tmp_path / "round", settings(60))
    assert figures["validation_phone_accuracy"] > 0.85
    assert figures["validation_accuracy"] < 0.4  # the recordings' targets are noise: chance is 0.25


def test_phones_that_are_not_in_the_speech_are_not(tmp_path: Path) -> None:
    _, figures = Planted(tmp_path, shuffled=True).train(tmp_path / "round", settings(40))
    assert figures["validation_phone_accuracy"] < 0.5


def test_a_training_with_speech_resumes_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = Planted(tmp_path)
    whole, _ = planted.train(tmp_path / "whole", settings(12))
    plain = train._Round._update

    def update(self: train._Round, batches: object) -> dict[str, float]:
        if self.state.update == 7:
            raise KeyboardInterrupt
        return plain(self, batches)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(train._Round, "_update", update)
        with pytest.raises(KeyboardInterrupt):
            planted.train(tmp_path / "killed", settings(12))
    resumed, _ = planted.train(tmp_path / "killed", settings(12))
    assert resumed == whole


# -- what is said


def script(tmp_path: Path, text: str = TEXT, voices: tuple[str, ...] = ("de",)) -> ScriptConfig:
    path = tmp_path / "text.txt"
    path.write_text(text, encoding="utf-8")
    return ScriptConfig(file=path, voices=voices)


def test_figures_and_short_lines_are_not_read(tmp_path: Path) -> None:
    text = TEXT + "Im Jahre 1848 begab es sich in der Stadt\nKurz\n"
    (read,) = read_scripts([script(tmp_path, text, ("de", "latin"))])
    assert set(read.lines) == {TEXT.splitlines()[0]}
    assert read.voices[0] == "de"
    assert "sw" in read.voices


def test_a_text_that_cannot_be_read_aloud_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"text\.txt: has no line that can be read aloud"):
        read_scripts([script(tmp_path, "1848\n")])
    with pytest.raises(UserError, match="does not exist"):
        read_scripts([ScriptConfig(file=tmp_path / "none.txt")])


@needs_espeak
def test_spoken_speech_is_a_pack_with_a_phone_for_every_frame(tmp_path: Path) -> None:
    config = SpokenConfig(scripts=(script(tmp_path),), hours=10 / 3600, min_phone_share=0.02)
    (tmp_path / "out").mkdir()
    counts = write_spoken(tmp_path / "out", config, seed=0, workers=1)
    spoken = SpokenSpeech.load(tmp_path / "out")
    assert counts["utterances"] == len(spoken.pack) >= 1
    assert counts["phones"] == len(spoken.phones) - 1 > 5
    assert spoken.phones[0] == ""
    for index, length in enumerate(spoken.pack.lengths):
        frames = int(length) // FRAME_SAMPLES
        codes = spoken.targets.codes(index, 0, frames)
        assert (codes >= NO_CODE).all()
        assert (codes > 0).mean() > 0.4  # speech, not pauses
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "codes.npy",
        "index.json",
        "offsets.npy",
        "phones.txt",
        "samples.i16",
    ]


def corpus_and_settings(tmp_path: Path, updates: int, seconds: float) -> tuple[Path, RunConfig]:
    """Recordings to learn from beside so many seconds of speech."""
    (tmp_path / "songs").mkdir()
    config = load_config(
        None,
        threads=1,
        silence={"method": "none"},
        pretrain={
            "device": "cpu",
            "network": TINY.model_dump(),
            "rounds": [{"targets": "mfcc", "clusters": 6, "updates": updates}],
            "batch_seconds": 4.0,
            "spoken": {"scripts": [script(tmp_path).model_dump()], "hours": seconds / 3600},
        },
    )
    return write_songs(tmp_path / "songs", n_train=12, n_test=3), config


@needs_espeak
def test_pretrain_says_the_texts_once(tmp_path: Path) -> None:
    songs, config = corpus_and_settings(tmp_path, updates=4, seconds=40)
    metrics = pretrain([songs], tmp_path / "out", config)
    assert 0 <= metrics["validation_phone_accuracy"] <= 1
    record = read_record(tmp_path / "out" / "spoken")
    assert record is not None
    assert record.counts["utterances"] == len(AudioPack(tmp_path / "out" / "spoken"))
    said = (tmp_path / "out" / "spoken" / "samples.i16").stat().st_mtime_ns
    pretrain([songs], tmp_path / "out", config)
    assert (tmp_path / "out" / "spoken" / "samples.i16").stat().st_mtime_ns == said
    # Another text is another speech, and another encoder.
    (tmp_path / "text.txt").write_text(TEXT + TEXT.replace("Zeit", "Stunde"), encoding="utf-8")
    pretrain([songs], tmp_path / "out", config)
    assert (tmp_path / "out" / "spoken" / "samples.i16").stat().st_mtime_ns != said


@needs_espeak
def test_speaking_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, config = corpus_and_settings(tmp_path, updates=2, seconds=10)

    def stops(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("wav2vec_u.pretrain.spoken.save_targets", stops)
        with pytest.raises(KeyboardInterrupt):
            pretrain([manifest], tmp_path / "out", config)
    (shard,) = (tmp_path / "out").glob("spoken*/shards/shard-000/samples.i16")
    said = shard.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("wav2vec_u.synthesis.speech._fill", stops)  # nothing is said again
        pretrain([manifest], tmp_path / "out", config)
    assert (tmp_path / "out" / "spoken" / "samples.i16").read_bytes() == said
