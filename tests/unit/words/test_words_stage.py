"""The words stage on planted segments, and a finished run that finds the same words again."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from frame_models import even_model, identity_generator, write_selftrain
from tiny_run import tiny_config, write_corpus

from wav2vec_u.config import GraphConfig, TextConfig, WordsConfig
from wav2vec_u.decode.greedy import PhoneSpan
from wav2vec_u.decode.transcript import WordSpan
from wav2vec_u.graph import scale, word_cost
from wav2vec_u.graph import stage as graph_stage
from wav2vec_u.graph.parallel import SearchSettings
from wav2vec_u.graph.search import Found, WordSearch
from wav2vec_u.pipeline import Pipeline
from wav2vec_u.recognizer import Recognizer
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl, write_jsonl
from wav2vec_u.segments.segmenter import Segments
from wav2vec_u.segments.store import SegmentStore, SegmentStoreWriter
from wav2vec_u.selftrain.frame_model import FrameModel
from wav2vec_u.text import stage as text_stage
from wav2vec_u.text.corpus import PhoneText
from wav2vec_u.words import stage, tuning
from wav2vec_u.words.decoder import WordDecoder
from wav2vec_u.words.hypotheses import FILE_NAME, WordHypothesis, read_word_hypotheses

pytest.importorskip("kaldifst", reason="the extra `decode` is not installed")

TEXT = ["abe gab bag", "gab abe", "bag abe gab", "abe bag", "gab gab bag"] * 4
SAID = {"t1": ["abe", "gab"], "t2#001": ["bag"], "r1": ["gab", "bag", "abe"], "silent": []}


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """Artefacts in which every segment is the one-hot of its letter, 0.1 s long."""
    text = tmp_path / "text.txt"
    text.write_text("\n".join(TEXT) + "\n", encoding="utf-8")
    for name in ("text", "segments", "graph"):
        (tmp_path / name).mkdir()
    config = TextConfig(phonemizer="graphemes", min_word_count=1, min_phone_share=0.0)
    text_stage.run(Work(tmp_path / "text"), config, text, "en")
    build_graph(tmp_path)
    phones = PhoneText(tmp_path / "text").phones
    dim = len(phones)
    write_selftrain(tmp_path / "selftrain", even_model(identity_generator(dim)))
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
    return tmp_path


def build_graph(planted: Path, **settings: object) -> Work:
    work = Work(planted / "graph")
    config = GraphConfig(**{"max_words": 1000, "fragments": 0, **settings})
    graph_stage.run(work, config, planted / "text.txt", "en", planted / "text")
    return work


def run_stage(planted: Path, **settings: object) -> Work:
    work = Work(planted / "words")
    work.folder.mkdir(exist_ok=True)
    stage.run(
        work,
        WordsConfig(**settings),
        features=planted / "features",
        segments=planted / "segments",
        text=planted / "text",
        selftrain=planted / "selftrain",
        graph=planted / "graph",
    )
    return work


def load_decoder(planted: Path, **settings: object) -> WordDecoder:
    return WordDecoder.load(
        planted / "graph",
        FrameModel.load(planted / "selftrain"),
        planted / "text",
        WordsConfig(**settings),
        planted / "words",
    )


def test_planted_words_and_their_times(planted: Path) -> None:
    work = run_stage(planted)
    found = {item.id: item for item in read_word_hypotheses(work.folder)}
    assert {name: [span.word for span in item.spans] for name, item in found.items()} == SAID
    assert [(span.start_s, span.end_s) for span in found["t1"].spans] == [(0.0, 0.6), (0.6, 1.2)]
    assert (found["t2#001"].recording, found["t2#001"].split) == ("t2", "test")
    assert work.counts["utterances"] == 4
    assert work.counts["words"] == 6
    assert work.counts["rejected"] == {}
    assert {path.name for path in work.folder.iterdir()} == {
        "hypotheses.jsonl",
        "rejected.jsonl",
        "search_weights.json",
    }


def test_the_phones_of_the_words_and_their_times(planted: Path) -> None:
    for item in read_word_hypotheses(run_stage(planted).folder):
        letters = list("".join(SAID[item.id]))
        assert [span.phone for span in item.phones] == letters
        for place, span in enumerate(item.phones):
            # Two segments of 0.1 s a letter; between equal letters, any may be the boundary.
            before, after = letters[place - 1 : place], letters[place + 1 : place + 2]
            if before != [span.phone]:
                assert span.start_s == pytest.approx(0.2 * place, abs=1e-3)
            if after != [span.phone]:
                assert span.end_s == pytest.approx(0.2 * place + 0.2, abs=1e-3)
        for one, other in pairwise(item.phones):
            assert one.end_s == pytest.approx(other.start_s, abs=1e-3)


def test_a_word_that_the_text_does_not_hold_is_spelled(planted: Path) -> None:
    new = "begeg"
    build_graph(planted, fragments=5)
    phones = PhoneText(planted / "text").phones
    labels = np.repeat([phones.index(letter) for letter in new], 4)
    vectors = np.eye(len(phones), dtype=np.float32)[labels]
    times = np.stack([np.arange(len(labels)), np.arange(len(labels)) + 1], axis=1) / 10
    spoken = load_decoder(planted).decode(vectors, times.astype(np.float32))
    assert spoken is not None
    assert [(span.word, span.known) for span in spoken.words] == [(new, False)]


def test_words_are_read_as_they_were_written(tmp_path: Path) -> None:
    words = (WordSpan("abe", 0.1, 0.3, 0.75, True), WordSpan("gegab", 0.3, 0.9, 0.5, False))
    phones = (PhoneSpan("a", 0.1, 0.2), PhoneSpan("b", 0.2, 0.3))
    written = WordHypothesis("r#001", "r", "train", words, phones)
    write_jsonl(tmp_path / FILE_NAME, [written.as_row()])
    assert list(read_word_hypotheses(tmp_path)) == [written]


def test_what_is_heard_clearly_is_said_with_confidence(planted: Path) -> None:
    spans = [
        span for item in read_word_hypotheses(run_stage(planted).folder) for span in item.spans
    ]
    assert len(spans) == 6
    assert all(0.99 < span.confidence <= 1 for span in spans)


def test_one_utterance_is_decoded_as_the_stage_decodes_it(planted: Path) -> None:
    decoder = load_decoder(planted)
    store = SegmentStore(planted / "segments")
    places = {name: i for i, name in enumerate(store.ids)}
    for item in read_word_hypotheses(run_stage(planted).folder):
        i = places[item.id]
        spoken = decoder.decode(store.vectors(i), store.times(i))
        assert spoken is not None
        assert [span.word for span in spoken.words] == [span.word for span in item.spans]
        assert [span.confidence for span in spoken.words] == pytest.approx(
            [span.confidence for span in item.spans], abs=1e-4
        )
        for own, other in (
            *zip(spoken.words, item.spans, strict=True),
            *zip(spoken.phones, item.phones, strict=True),
        ):
            assert own.start_s == pytest.approx(other.start_s, abs=1e-3)
            assert own.end_s == pytest.approx(other.end_s, abs=1e-3)


def test_other_words_are_told_where_they_are_asked_for(planted: Path) -> None:
    decoder = load_decoder(planted)
    store = SegmentStore(planted / "segments")
    i = list(store.ids).index("t1")
    # Half sure of what was said: other words are within the beam.
    unsure = replace(decoder, search=WordSearch(planted / "graph", 60.0, 50.0, 4000, scale=0.1))
    alone = unsure.decode(store.vectors(i), store.times(i))
    spoken = unsure.decode(store.vectors(i), store.times(i), alternatives=4)
    assert alone is not None
    assert spoken is not None
    assert (alone.words, alone.alternatives) == (spoken.words, ())
    assert len(spoken.alternatives) == 4
    said = [tuple(span.word for span in spoken.words)]
    said += [tuple(span.word for span in item.words) for item in spoken.alternatives]
    assert len(set(said)) == 5
    behind = [item.behind for item in spoken.alternatives]
    assert behind[0] > 0
    assert behind == sorted(behind)
    for item in spoken.alternatives:
        times = [(span.start_s, span.end_s) for span in item.words]
        assert all(start < end for start, end in times)
        assert times == sorted(times)


def test_what_a_word_costs_is_found_by_the_text_and_kept(
    planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def calibrate(
        settings: SearchSettings, scores: list[np.ndarray], phones_per_word: float, threads: int
    ) -> float:
        asked.extend([phones_per_word, len(scores)])
        return 1.75

    monkeypatch.setattr(word_cost, "calibrate_word_cost", calibrate)
    assert run_stage(planted, word_cost="auto").counts["word_cost"] == 1.75
    assert asked == [3.0, 2]  # words of the text have three letters; two utterances are of `train`
    assert load_decoder(planted, word_cost="auto").search._word_cost == 1.75
    # A cost that is set is neither looked for nor overruled.
    assert load_decoder(planted, word_cost=0.5).search._word_cost == 0.5
    assert run_stage(planted, word_cost=0.5).counts["word_cost"] == 0.5
    assert len(asked) == 2


def test_the_scale_is_found_by_two_parts_of_the_model_and_kept(
    planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[tuple[np.ndarray, np.ndarray]]] = []

    def calibrate(
        settings: SearchSettings, views: list[tuple[np.ndarray, np.ndarray]], threads: int
    ) -> tuple[float, dict[float, float]]:
        asked.append(views)
        return 1.4, {0.7: 30.0, 1.4: 20.126}

    monkeypatch.setattr(scale, "calibrate_scale", calibrate)
    # The planted model is a generator alone: there is nothing to compare it with.
    counts = run_stage(planted, scale="auto").counts
    assert (counts["scale"], asked) == (tuning.SCALE_OF_ONE, [])
    monkeypatch.setattr(FrameModel, "views", lambda self, vectors: (vectors, -vectors))
    counts = run_stage(planted, scale="auto").counts
    assert counts["scale"] == 1.4
    assert counts["disagreement"] == {"0.7": 30.0, "1.4": 20.13}
    assert len(asked[0]) == 2  # utterances are of `train`
    assert load_decoder(planted, scale="auto").search._scale == 1.4
    assert load_decoder(planted, scale=0.5).search._scale == 0.5


def test_an_utterance_without_a_path_is_listed(
    planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = WordSearch.find_several

    def lose_one(self: WordSearch, scores: np.ndarray, number: int) -> list[Found]:
        return [] if len(scores) == 12 else find(self, scores, number)  # `t1`

    monkeypatch.setattr(WordSearch, "find_several", lose_one)
    work = run_stage(planted)
    assert {item.id for item in read_word_hypotheses(work.folder)} == set(SAID) - {"t1"}
    (rejected,) = read_jsonl(work.folder / "rejected.jsonl")
    assert (rejected["what"], rejected["reason"]) == ("t1", "no_path")
    assert work.counts["rejected"] == {"no_path": 1}
    assert work.counts["utterances"] == 3
    assert load_decoder(planted).decode(*t1_of(planted)) is None


def t1_of(planted: Path) -> tuple[np.ndarray, np.ndarray]:
    store = SegmentStore(planted / "segments")
    i = store.ids.index("t1")
    return store.vectors(i), store.times(i)


def test_a_killed_run_keeps_its_graph(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an artefact of its own, which this stage only reads."""
    undisturbed = run_stage(planted)
    expected = [item.as_row() for item in read_word_hypotheses(undisturbed.folder)]
    before = {path: path.stat().st_mtime_ns for path in (planted / "graph").iterdir()}

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    (undisturbed.folder / "hypotheses.jsonl").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(WordSearch, "find", killed)
        with pytest.raises(KeyboardInterrupt):
            run_stage(planted)
    again = run_stage(planted)
    assert {path: path.stat().st_mtime_ns for path in (planted / "graph").iterdir()} == before
    assert [item.as_row() for item in read_word_hypotheses(again.folder)] == expected
    assert again.counts == undisturbed.counts


def test_without_a_graph_there_are_no_words(planted: Path) -> None:
    shutil.rmtree(planted / "graph")
    (planted / "graph").mkdir()
    build_graph(planted, method="none")
    work = run_stage(planted)
    assert list(read_word_hypotheses(work.folder)) == []
    assert work.counts == {"utterances": 0, "words": 0, "skipped": "there is no decoding graph"}


def test_a_graph_of_other_phones_is_refused(planted: Path) -> None:
    (planted / "graph" / "outputs.json").write_text('["<SIL>", "q"]')
    with pytest.raises(UserError, match="of another text"):
        load_decoder(planted)


def test_a_damaged_list_of_words_is_a_users_error(planted: Path) -> None:
    work = run_stage(planted)
    (work.folder / "hypotheses.jsonl").write_text('{"id": "t1"}\n')
    with pytest.raises(UserError, match="no readable words"):
        list(read_word_hypotheses(work.folder))


def test_a_finished_run_finds_the_same_words_in_the_file(tmp_path: Path) -> None:
    manifest, text = write_corpus(tmp_path)
    out = tmp_path / "out"
    metrics = Pipeline(tiny_config(), manifest, text, "en", out, force=True).run()
    assert metrics["selftrain_rounds"] == 1
    assert 0 < metrics["wer"] <= 200
    recognizer = Recognizer.load(out)
    for item in read_word_hypotheses(out / "words"):
        transcript = recognizer.transcribe(tmp_path / f"{item.id}.wav")
        assert [span.word for span in transcript.words] == [span.word for span in item.spans]
        for span, other in zip(transcript.words, item.spans, strict=True):
            assert span.start_s == pytest.approx(other.start_s, abs=1e-3)
            assert span.confidence == pytest.approx(other.confidence, abs=1e-3)
        assert [span.phone for span in transcript.phones] == [span.phone for span in item.phones]
        for phone, its in zip(transcript.phones, item.phones, strict=True):
            assert phone.start_s == pytest.approx(its.start_s, abs=1e-3)
            assert phone.end_s == pytest.approx(its.end_s, abs=1e-3)


def test_scores_that_are_not_finite_are_listed_and_lose_nothing_else(
    planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    likelihoods = FrameModel.likelihoods

    def spoil_one(self: FrameModel, vectors: np.ndarray) -> np.ndarray:
        if len(vectors) == 12:  # `t1`
            raise FloatingPointError("the generator's scores are not finite")
        return likelihoods(self, vectors)

    monkeypatch.setattr(FrameModel, "likelihoods", spoil_one)
    work = run_stage(planted)
    found = {item.id: [span.word for span in item.spans] for item in rows_of(work)}
    assert found == {name: words for name, words in SAID.items() if name != "t1"}
    (rejected,) = read_jsonl(work.folder / "rejected.jsonl")
    assert (rejected["what"], rejected["reason"]) == ("t1", "not_finite")


def rows_of(work: Work) -> list[WordHypothesis]:
    return list(read_word_hypotheses(work.folder))
