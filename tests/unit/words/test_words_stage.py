"""The words stage on planted segments, and a finished run that finds the same words again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import tiny_config, write_corpus

from wav2vec_u.config import TextConfig, WordsConfig
from wav2vec_u.matching.generator import Generator, save_generator
from wav2vec_u.pipeline import Pipeline
from wav2vec_u.recognizer import Recognizer
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl
from wav2vec_u.segments.segmenter import Segments
from wav2vec_u.segments.store import SegmentStoreWriter
from wav2vec_u.text import stage as text_stage
from wav2vec_u.text.corpus import PhoneText
from wav2vec_u.words import stage
from wav2vec_u.words.decoder import WordDecoder
from wav2vec_u.words.hypotheses import read_word_hypotheses

pytest.importorskip("kaldi_decoder", reason="the extra `decode` is not installed")

TEXT = ["abe gab bag", "gab abe", "bag abe gab", "abe bag", "gab gab bag"] * 4
SAID = {"t1": ["abe", "gab"], "t2#001": ["bag"], "r1": ["gab", "bag", "abe"], "silent": []}


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """Artefacts in which every segment is the one-hot of its letter, 0.1 s long."""
    text = tmp_path / "text.txt"
    text.write_text("\n".join(TEXT) + "\n", encoding="utf-8")
    for name in ("text", "segments", "matching"):
        (tmp_path / name).mkdir()
    config = TextConfig(phonemizer="graphemes", min_word_count=1, min_phone_share=0.0)
    text_stage.run(Work(tmp_path / "text"), config, text, "en")
    phones = PhoneText(tmp_path / "text").phones
    dim = len(phones)
    with SegmentStoreWriter(tmp_path / "segments", dim, frame_rate_hz=10.0) as writer:
        for name, words in SAID.items():
            labels = np.repeat([phones.index(letter) for letter in "".join(words)], 2).astype(int)
            n = len(labels)
            bounds = np.stack([np.arange(n), np.arange(n) + 1], axis=1).astype(np.int32)
            vectors = np.eye(dim, dtype=np.float32)[labels].reshape(n, dim)
            segments = Segments(vectors, labels.astype(np.int32), bounds)
            split = "test" if name.startswith("t") else "train"
            writer.append(
                name, segments, (np.arange(n) / 10).astype(np.float32), split=split, speaker=None
            )
    generator = Generator(dim, dim, kernel=1)
    with torch.no_grad():
        generator.conv.weight[:, :, 0] = 20 * torch.eye(dim)
    save_generator(tmp_path / "matching" / "generator.safetensors", generator)
    return tmp_path


def run_stage(planted: Path, *, resumed: bool = False, **settings: object) -> Work:
    work = Work(planted / "words", resumed=resumed)
    work.folder.mkdir(exist_ok=True)
    stage.run(
        work,
        WordsConfig(**{"max_words": 1000, **settings}),
        planted / "text.txt",
        "en",
        segments=planted / "segments",
        text=planted / "text",
        matching=planted / "matching",
        stay=0.5,
    )
    return work


def test_planted_words_and_their_times(planted: Path) -> None:
    work = run_stage(planted)
    found = {item.id: item for item in read_word_hypotheses(work.folder)}
    assert {name: [span.word for span in item.spans] for name, item in found.items()} == SAID
    assert [(span.start_s, span.end_s) for span in found["t1"].spans] == [(0.0, 0.6), (0.6, 1.2)]
    assert (found["t2#001"].recording, found["t2#001"].split) == ("t2", "test")
    assert work.counts["utterances"] == 4
    assert work.counts["words"] == 6
    assert work.counts["vocabulary"] == 3
    assert work.counts["rejected"] == {}
    assert not (work.folder / "words.arpa").exists()


def test_an_utterance_without_a_path_is_listed(
    planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = WordDecoder.decode

    def lose_one(self: WordDecoder, vectors: np.ndarray, times: np.ndarray) -> object:
        return None if len(vectors) == 12 else decode(self, vectors, times)  # `t1`

    monkeypatch.setattr(WordDecoder, "decode", lose_one)
    work = run_stage(planted)
    assert {item.id for item in read_word_hypotheses(work.folder)} == set(SAID) - {"t1"}
    (rejected,) = read_jsonl(work.folder / "rejected.jsonl")
    assert (rejected["what"], rejected["reason"]) == ("t1", "no_path")
    assert work.counts["rejected"] == {"no_path": 1}


def test_a_killed_run_keeps_its_graph(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = run_stage(planted)
    expected = [item.as_row() for item in read_word_hypotheses(undisturbed.folder)]

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    (undisturbed.folder / "hypotheses.jsonl").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(WordDecoder, "decode", killed)
        with pytest.raises(KeyboardInterrupt):
            run_stage(planted)
    graph = (undisturbed.folder / "graph.fst").stat().st_mtime_ns
    resumed = run_stage(planted, resumed=True)
    assert (undisturbed.folder / "graph.fst").stat().st_mtime_ns == graph
    assert [item.as_row() for item in read_word_hypotheses(resumed.folder)] == expected
    assert resumed.counts == undisturbed.counts
    (resumed.folder / "graph.json").unlink()  # killed while the graph was built
    run_stage(planted, resumed=True)
    assert (undisturbed.folder / "graph.fst").stat().st_mtime_ns != graph


def test_words_can_be_left_out(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = run_stage(planted, method="none")
    assert list(read_word_hypotheses(work.folder)) == []
    assert work.counts["skipped"] == "words.method is none"
    monkeypatch.setattr(stage, "EXTRA", ("kaldifst", "no-such-package-of-anyones"))
    assert not stage.installed()
    assert run_stage(planted).counts["skipped"] == "the extra decode is missing"


def test_a_graph_of_other_phones_is_refused(planted: Path) -> None:
    work = run_stage(planted)
    (work.folder / "outputs.json").write_text('["<SIL>", "q"]')
    with pytest.raises(UserError, match="of another text"):
        WordDecoder.load(work.folder, planted / "matching", planted / "text", WordsConfig())


def test_a_damaged_list_of_words_is_a_users_error(planted: Path) -> None:
    work = run_stage(planted)
    (work.folder / "hypotheses.jsonl").write_text('{"id": "t1"}\n')
    with pytest.raises(UserError, match="no readable words"):
        list(read_word_hypotheses(work.folder))


def test_a_finished_run_finds_the_same_words_in_the_file(tmp_path: Path) -> None:
    manifest, text = write_corpus(tmp_path, n_train=8, n_test=2)
    out = tmp_path / "out"
    metrics = Pipeline(tiny_config(), manifest, text, "en", out, force=True).run()
    assert 0 < metrics["wer"] <= 200
    recognizer = Recognizer.load(out)
    for item in read_word_hypotheses(out / "words"):
        transcript = recognizer.transcribe(tmp_path / f"{item.id}.wav")
        assert [span.word for span in transcript.words] == [span.word for span in item.spans]
        for span, other in zip(transcript.words, item.spans, strict=True):
            assert span.start_s == pytest.approx(other.start_s, abs=1e-3)
