"""A recogniser must say of a file what the run itself said of it, and refuse what is no run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from frame_models import even_model, write_selftrain
from numpy.typing import NDArray

from wav2vec_u import recognizer as module
from wav2vec_u.config import RunConfig, load_config
from wav2vec_u.corpus import stage as corpus_stage
from wav2vec_u.decode import stage as decode_stage
from wav2vec_u.decode.greedy import PhoneSpan
from wav2vec_u.decode.hypotheses import join_recordings, read_hypotheses
from wav2vec_u.decode.transcript import Alternative, WordSpan
from wav2vec_u.features import stage as features_stage
from wav2vec_u.matching.generator import Generator, save_generator
from wav2vec_u.recognizer import Recognizer
from wav2vec_u.runtime.artifact import create
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_json
from wav2vec_u.segments import stage as segments_stage
from wav2vec_u.selftrain.inputs import Reads, open_inputs
from wav2vec_u.silence import stage as silence_stage
from wav2vec_u.words.decoder import Spoken

PHONES = ["<SIL>", *(f"p{i}" for i in range(9))]
RATE = 16_000


def tones(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Notes of a second or less with pauses between them: speech enough for a detector of none."""
    parts = []
    for _ in range(n):
        length = int(rng.integers(RATE // 10, RATE // 4))
        wave = np.sin(2 * np.pi * rng.uniform(150, 3000) * np.arange(length) / RATE)
        parts += [0.3 * wave, np.zeros(RATE // 20)]
    samples = np.concatenate(parts)
    return (samples + 0.003 * rng.normal(size=len(samples))).astype(np.float32)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs"), "frames", "segments")


@pytest.fixture(scope="module")
def run_on_frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose matching has read segments, and whose model reads their frames."""
    return make_run(tmp_path_factory.mktemp("runs"), "viterbi", "frames")


def make_run(root: Path, boundaries: str, reads: Reads) -> Path:
    """Make a run with a random generator, by the real stages up to the segments."""
    audio = root / "audio"
    audio.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        soundfile.write(audio / f"f{number}.wav", tones(rng, 12), RATE)
    soundfile.write(audio / "long.wav", tones(rng, 40), RATE)

    out = root / "out"
    out.mkdir()
    config = load_config(
        silence={"method": "none", "max_utterance_seconds": 3.0},
        features={"encoder": "mfcc"},
        segments={
            "boundaries": boundaries,
            "clusters": 12,
            "kmeans_iterations": 5,
            "kmeans_restarts": 1,
        },
    )
    write_json(out / "run.json", {"config": config.model_dump(mode="json"), "language": "en"})
    make(out, "corpus", config, lambda work: corpus_stage.run(work, config.corpus, audio))
    make(
        out, "silence", config, lambda work: silence_stage.run(work, config.silence, out / "corpus")
    )
    make(
        out,
        "features",
        config,
        lambda work: features_stage.run(work, config.features, out / "silence", "cut"),
    )
    make(
        out,
        "segments",
        config,
        lambda work: segments_stage.run(work, config.segments, out / "features"),
    )
    make(out, "text", config, lambda work: None)
    torch.manual_seed(0)
    first, last = (
        Generator(open_inputs(kind, out / "segments", out / "features").dim, len(PHONES))
        for kind in ("segments", reads)
    )
    make(
        out,
        "matching",
        config,
        lambda work: save_generator(work.folder / "generator.safetensors", first),
    )
    model = replace(even_model(last), reads=reads)
    make(
        out,
        "selftrain",
        config,
        lambda work: write_selftrain(work.folder, model, even_model(first)),
    )
    return out


@pytest.fixture(autouse=True)
def phones(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = lambda folder: SimpleNamespace(phones=PHONES)  # noqa: E731
    monkeypatch.setattr(module, "PhoneText", fake)
    monkeypatch.setattr(decode_stage, "PhoneText", fake)


def make(out: Path, stage: str, config: RunConfig, action) -> None:  # type: ignore[no-untyped-def]
    with create(out / stage, stage=stage, expected="x", config=config, inputs={}) as work:
        action(work)


@pytest.mark.parametrize("made", ["run_dir", "run_on_frames"])
def test_says_what_the_run_said(made: str, request: pytest.FixtureRequest) -> None:
    run_dir: Path = request.getfixturevalue(made)
    with create(
        run_dir / "decode", stage="decode", expected="x", config=RunConfig(), inputs={}
    ) as work:
        decode_stage.run(
            work,
            run_dir / "features",
            run_dir / "segments",
            run_dir / "text",
            run_dir / "selftrain",
        )
    joined = join_recordings(read_hypotheses(run_dir / "decode"))
    assert set(joined) == {"f0", "f1", "f2", "long"}
    recognizer = Recognizer.load(run_dir)
    for name, hypothesis in joined.items():
        transcript = recognizer.transcribe(run_dir.parent / "audio" / f"{name}.wav")
        assert [s.phone for s in transcript.phones] == hypothesis.phones
        assert len(hypothesis.phones) > 10
        for left, right in zip(transcript.phones, hypothesis.spans, strict=True):
            assert left.start_s == pytest.approx(right.start_s, abs=2e-3)
            assert left.end_s == pytest.approx(right.end_s, abs=2e-3)
    assert len(recognizer.transcribe(run_dir.parent / "audio" / "long.wav").utterances) > 1


def test_phones_are_those_of_the_words_where_words_are_found(run_dir: Path) -> None:
    path = run_dir.parent / "audio" / "long.wav"
    recognizer = Recognizer.load(run_dir)
    alone = recognizer.transcribe(path)
    assert alone.words == [], "the run has no graph"
    decoded: list[int] = []

    def every_second(
        vectors: NDArray[np.float32], times: NDArray[np.float32], alternatives: int
    ) -> Spoken | None:
        decoded.append(len(vectors))
        begin, end = float(times[0, 0]), float(times[-1, 1])
        if len(decoded) % 2:
            return None  # no sequence of words fits
        word = WordSpan("p", begin, end, 0.5)
        others = (Alternative((word,), 0.5),) * alternatives
        return Spoken((word,), (PhoneSpan("p1", begin, end),), others)

    recognizer._words = SimpleNamespace(decode=every_second)  # type: ignore[assignment]
    both = recognizer.transcribe(path, alternatives=3)
    assert len(both.utterances) == len(decoded) == len(alone.utterances) > 1
    for number, (found, plain) in enumerate(zip(both.utterances, alone.utterances, strict=True)):
        if number % 2:
            assert [span.word for span in found.words] == ["p"]
            assert [span.phone for span in found.phones] == ["p1"]
            assert len(found.alternatives) == 3
        else:
            assert found.words == ()
            assert found.phones == plain.phones


def test_other_sample_rates_and_channels_are_heard(run_dir: Path, tmp_path: Path) -> None:
    samples = tones(np.random.default_rng(5), 8)
    path = tmp_path / "stereo.flac"
    soundfile.write(path, np.stack([samples, samples], axis=1), 44_100)
    transcript = Recognizer.load(run_dir).transcribe(path)
    assert transcript.seconds == pytest.approx(len(samples) / 44_100)
    assert transcript.phones
    assert all(0 <= s.start_s < s.end_s <= transcript.seconds + 0.05 for s in transcript.phones)


def test_a_file_too_short_for_a_frame_gives_no_phones(run_dir: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "click.wav", np.full(50, 0.5, np.float32), RATE)
    assert Recognizer.load(run_dir).transcribe(tmp_path / "click.wav").phones == []


def test_a_file_without_speech_has_no_utterances(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE, np.float32), RATE)
    monkeypatch.setattr("wav2vec_u.recognizer.find_speech", lambda *_: [])
    transcript = Recognizer.load(run_dir).transcribe(tmp_path / "silent.wav")
    assert (transcript.seconds, transcript.utterances) == (1.0, ())
    assert transcript.phones == []


@pytest.mark.parametrize("content", [None, b"", b"no audio at all"])
def test_a_file_that_is_no_audio_is_a_users_error(
    run_dir: Path, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "broken.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.wav"):
        Recognizer.load(run_dir).transcribe(path)


@pytest.mark.parametrize("stage", ["features", "segments", "text", "matching", "selftrain"])
def test_an_unfinished_run_is_a_users_error(run_dir: Path, stage: str) -> None:
    (run_dir / stage).rename(run_dir / "hidden")
    try:
        with pytest.raises(UserError, match=f"{stage} is missing"):
            Recognizer.load(run_dir)
    finally:
        (run_dir / "hidden").rename(run_dir / stage)


def test_no_run_at_all_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run\.json"):
        Recognizer.load(tmp_path)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(UserError, match="damaged"):
        Recognizer.load(tmp_path)
