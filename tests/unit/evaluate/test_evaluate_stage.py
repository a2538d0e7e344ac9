"""The evaluate stage on a planted run: known errors, known ceiling, wrong inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from frame_models import even_model, identity_generator, write_selftrain

from wav2vec_u.config import EvaluateConfig, TextConfig
from wav2vec_u.corpus.manifest import Recording, write_recordings
from wav2vec_u.decode.greedy import PhoneSpan
from wav2vec_u.decode.hypotheses import FILE_NAME, Hypothesis
from wav2vec_u.decode.transcript import WordSpan
from wav2vec_u.evaluate import stage
from wav2vec_u.matching.generator import Generator
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl, write_jsonl
from wav2vec_u.segments.segmenter import Segments
from wav2vec_u.segments.store import SegmentStoreWriter
from wav2vec_u.text import stage as text_stage
from wav2vec_u.words.hypotheses import WordHypothesis

LETTERS = "abcdefg"
# One rare word stays out of the lexicon and must be pronounced by the phonemizer.
TEST_TRANSCRIPTS = {"t1": "abc fed", "t2": "Gag, bad!", "t3": "ace of"}
HEARD = {
    "t1#001": "abc",
    "t1#002": "fgd",  # one substitution: e was heard as g
    "t2": "gagbadd",  # one insertion
    # t3 has no hypothesis: all of its five phones are deletions
}
TEXT_CONFIG = TextConfig(phonemizer="graphemes")


class PlantedRun:
    """Folders of a run over a language of letters; every segment is the one-hot of its letter."""

    def __init__(self, root: Path) -> None:
        self.root = root
        rng = np.random.default_rng(0)
        self._text(rng)
        self.inventory = [
            line for line in (root / "text" / "phones.txt").read_text().split("\n") if line
        ]
        train = {
            f"r{n}": " ".join("".join(rng.choice(list(LETTERS), 3)) for _ in range(5))
            for n in range(40)
        }
        self.transcripts = train | TEST_TRANSCRIPTS
        recordings = [
            Recording(name, f"/{name}.wav", 2.0, "test" if name[0] == "t" else "train", None)
            for name in self.transcripts
        ]
        (root / "corpus").mkdir()
        write_recordings(root / "corpus", recordings)
        self.write_references(self.transcripts)
        pieces = {name: "".join(text.split()) for name, text in train.items()}
        # The second piece before the first: stores stand in the order of batches by length.
        self._segments(pieces | {"t1#002": "fed", "t1#001": "abc", "t2": "gagbad"})
        self.write_start(Generator(len(self.inventory), len(self.inventory), kernel=2))
        self.write_hypotheses(HEARD)

    def write_start(self, generator: Generator) -> None:
        """Write the model before self-training; the one after it is of another kind."""
        after = Generator(len(self.inventory), len(self.inventory), kernel=1)
        write_selftrain(self.root / "selftrain", even_model(after), even_model(generator))

    def write_references(self, transcripts: dict[str, str]) -> None:
        rows = ({"audio": f"{name}.wav", "text": text} for name, text in transcripts.items())
        write_jsonl(self.root / "references.jsonl", rows)

    def write_hypotheses(self, heard: dict[str, str]) -> None:
        (self.root / "decode").mkdir(exist_ok=True)
        write_jsonl(
            self.root / "decode" / FILE_NAME,
            (
                Hypothesis(
                    name,
                    name.split("#")[0],
                    "test",
                    tuple(PhoneSpan(p, n / 10, n / 10 + 0.1) for n, p in enumerate(phones)),
                    -1.0,
                ).as_row()
                for name, phones in heard.items()
            ),
        )

    def write_words(
        self, heard: dict[str, list[tuple[str, float]]], stage_name: str = "words"
    ) -> None:
        """Write words with their confidences; they are said with the phones they are spelt with."""
        (self.root / stage_name).mkdir(exist_ok=True)
        write_jsonl(
            self.root / stage_name / FILE_NAME,
            (
                WordHypothesis(
                    name,
                    name.split("#")[0],
                    "test",
                    tuple(
                        WordSpan(word, n / 10, n / 10 + 0.1, sure)
                        for n, (word, sure) in enumerate(words)
                    ),
                    tuple(
                        PhoneSpan(phone, n / 10, n / 10 + 0.1)
                        for n, phone in enumerate("".join(word for word, _ in words))
                    ),
                ).as_row()
                for name, words in heard.items()
            ),
        )

    def evaluate(self, **config: Any) -> dict[str, Any]:
        work = Work(self.root / "evaluate")
        work.folder.mkdir(exist_ok=True)
        folder = self.root
        stage.run(
            work,
            EvaluateConfig(**config),
            folder / "references.jsonl",
            corpus=folder / "corpus",
            segments=folder / "segments",
            text=folder / "text",
            selftrain=folder / "selftrain",
            decode=folder / "decode",
            words=folder / "words",
            adapt=folder / "adapt",
            text_config=TEXT_CONFIG,
            language="en",
        )
        metrics = json.loads((work.folder / "metrics.json").read_text())
        assert isinstance(metrics, dict)
        assert {key: work.counts[key] for key in metrics} == metrics
        return metrics

    def _text(self, rng: np.random.Generator) -> None:
        words = ["".join(rng.choice(list(LETTERS), 3)) for _ in range(30)]
        lines = [" ".join(rng.choice(words, 6)) for _ in range(200)]
        (self.root / "text.txt").write_text("\n".join(lines))
        work = Work(self.root / "text")
        work.folder.mkdir()
        text_stage.run(work, TEXT_CONFIG, self.root / "text.txt", "en")

    def _segments(self, utterances: dict[str, str]) -> None:
        (self.root / "segments").mkdir()
        dim = len(self.inventory)
        rng = np.random.default_rng(1)
        with SegmentStoreWriter(self.root / "segments", dim, 10.0) as writer:
            for name, phones in utterances.items():
                # Two segments for each phone, so that repeated ones can be told apart.
                labels = np.repeat([self.inventory.index(phone) for phone in phones], 2)
                vectors = np.eye(dim)[labels] + 0.05 * rng.normal(size=(len(labels), dim))
                starts = np.arange(len(labels))
                bounds = np.stack([starts, starts + 1], axis=1).astype(np.int32)
                segments = Segments(vectors.astype(np.float32), labels.astype(np.int32), bounds)
                times = (starts / 10).astype(np.float32)
                split = "test" if name[0] == "t" else "train"
                writer.append(name, segments, times, split=split, speaker=None)


@pytest.fixture
def planted(tmp_path: Path) -> PlantedRun:
    return PlantedRun(tmp_path)


# t1: a substitution; t2: an insertion; t3: both words deleted. Six words were said.
# Stages that batch by length write the second piece before the first.
WORDS = {
    "t1#002": [("fad", 0.3)],
    "t1#001": [("abc", 0.9)],
    "t2": [("gag", 0.8), ("bad", 0.6), ("a", 0.7)],
}


def test_planted_word_errors_are_counted(planted: PlantedRun) -> None:
    assert "wer" not in planted.evaluate(ceiling=False), "no words were decoded"
    planted.write_words(WORDS)
    metrics = planted.evaluate(ceiling=False)
    assert metrics["wer"] == pytest.approx(100 * 4 / 6, abs=1e-3)
    assert metrics["wer_low"] <= metrics["wer"] <= metrics["wer_high"]
    # abc, gag and bad are right; of six pairs with fad and a, one is in the wrong order.
    assert metrics["word_confidence_auc"] == pytest.approx(5 / 6, abs=1e-3)


def test_the_phones_of_the_words_are_scored_where_words_were_decoded(planted: PlantedRun) -> None:
    plain = planted.evaluate(ceiling=False)
    assert plain["per"] == plain["per_hmm"] == pytest.approx(100 * 7 / 17, abs=1e-3)
    assert "per_words" not in plain
    planted.write_words(WORDS)
    metrics = planted.evaluate(ceiling=False)
    # A substitution in t1, an insertion in t2, and the five phones of t3.
    assert metrics["per"] == metrics["per_words"] == pytest.approx(100 * 7 / 17, abs=1e-3)
    assert metrics["per_hmm"] == plain["per_hmm"], "that of the hypotheses"
    rows = {row["id"]: row for row in read_jsonl(planted.root / "evaluate" / "utterances.jsonl")}
    assert rows["t1"]["hypothesis"] == list("abcfad")
    planted.write_words({"t1#001": [("abc", 0.9)], "t1#002": [("fed", 0.9)]})
    metrics = planted.evaluate(ceiling=False)
    assert metrics["per"] == metrics["per_words"] == pytest.approx(100 * 11 / 17, abs=1e-3)
    assert metrics["utterances_without_hypothesis"] == 1, "t2 has one, if no word"


def test_what_the_fine_tuned_encoder_hears_is_the_last_step(planted: PlantedRun) -> None:
    planted.write_words(WORDS)
    before = planted.evaluate(ceiling=False)
    planted.write_words({"t1#001": []}, "adapt")
    metrics = planted.evaluate(ceiling=False)
    assert metrics["per"] == metrics["per_encoder"] == metrics["wer"] == 100
    assert metrics["per_words"] == before["per_words"] < 100
    steps = json.loads((planted.root / "evaluate" / "steps.json").read_text())
    assert [row["step"] for row in steps] == ["greedy", "lm", "hmm", "words", "encoder"]


def test_every_step_is_measured_on_the_same_recordings(planted: PlantedRun) -> None:
    planted.write_start(identity_generator(len(planted.inventory), kernel=2))
    planted.write_words(WORDS)
    metrics = planted.evaluate(ceiling=False)
    steps = json.loads((planted.root / "evaluate" / "steps.json").read_text())
    assert [row["step"] for row in steps] == ["greedy", "lm", "hmm", "words"]
    assert {f"per_{row['step']}": row["per"] for row in steps} == {
        key: metrics[key] for key in ("per_greedy", "per_lm", "per_hmm", "per_words")
    }
    assert [row.get("gain") for row in steps] == [
        None,
        pytest.approx(0, abs=1e-3),
        pytest.approx(100 * (5 - 7) / 17, abs=2e-3),
        pytest.approx(0, abs=1e-3),
    ]


def test_the_steps_before_self_training_are_those_of_its_start(planted: PlantedRun) -> None:
    plain = planted.evaluate(ceiling=False)
    assert plain["per_hmm"] == plain["per"]
    # Says of each segment what was said; pairs of segments are one phone.
    planted.write_start(identity_generator(len(planted.inventory), kernel=2))
    metrics = planted.evaluate(ceiling=False)
    assert metrics["per"] == plain["per"], "that of the hypotheses"
    # t1 and t2 are said without an error, and the five phones of t3 are not heard.
    for step in ("greedy", "lm"):
        assert metrics[f"per_{step}"] == pytest.approx(
            100 * 5 / metrics["reference_phones"], abs=1e-3
        )
        assert plain[f"per_{step}"] > metrics[f"per_{step}"], "that of weights drawn at random"


def test_planted_errors_are_counted(planted: PlantedRun) -> None:
    metrics = planted.evaluate(ceiling=False)
    # 6 + 6 + 5 reference phones; 1 substitution, 1 insertion, 5 deletions.
    assert metrics["reference_phones"] == 17
    assert metrics["per"] == metrics["per_hmm"] == pytest.approx(100 * 7 / 17, abs=1e-3)
    assert metrics["per_substitutions"] == pytest.approx(100 / 17, abs=1e-3)
    assert metrics["per_insertions"] == pytest.approx(100 / 17, abs=1e-3)
    assert metrics["per_deletions"] == pytest.approx(500 / 17, abs=1e-3)
    assert metrics["per_low"] <= metrics["per"] <= metrics["per_high"]
    assert metrics["utterances_evaluated"] == 3
    assert metrics["utterances_without_hypothesis"] == 1
    assert metrics["reference_phones_outside_inventory"] == 1  # the o of "of"
    assert metrics["phone_rate_hz"] == pytest.approx(12 / 2.4, abs=1e-3)
    assert "per_ceiling" not in metrics
    rows = {row["id"]: row for row in read_jsonl(planted.root / "evaluate" / "utterances.jsonl")}
    assert rows["t1"] == {
        "id": "t1",
        "reference": list("abcfed"),
        "hypothesis": list("abcfgd"),
        "errors": 1,
    }
    assert rows["t3"]["hypothesis"] == []
    table = json.loads((planted.root / "evaluate" / "confusion.json").read_text())
    row = table["counts"][table["references"].index("e")]
    assert row[table["hypotheses"].index("g")] == 1


def test_ceiling_of_separable_segments_is_low_and_the_gap_is_the_difference(
    planted: PlantedRun,
) -> None:
    metrics = planted.evaluate()
    # t3 has no segments: its five phones are lost to the ceiling as well.
    assert metrics["per_ceiling"] == pytest.approx(100 * 5 / 17, abs=6)
    assert metrics["gap"] == pytest.approx(metrics["per"] - metrics["per_ceiling"], abs=2e-3)


def test_same_seed_same_metrics(planted: PlantedRun) -> None:
    first = planted.evaluate()
    torch.manual_seed(123)
    assert planted.evaluate() == first


def test_without_labelled_training_speech_there_is_no_ceiling(planted: PlantedRun) -> None:
    planted.write_references(TEST_TRANSCRIPTS)
    assert "per_ceiling" not in planted.evaluate()


def test_the_training_split_is_no_ceiling_for_itself(planted: PlantedRun) -> None:
    planted.write_hypotheses({f"r{n}": "abc" for n in range(40)})
    assert "per_ceiling" not in planted.evaluate(split="train")


def test_a_transcript_that_cannot_be_pronounced_is_rejected(planted: PlantedRun) -> None:
    planted.write_references(planted.transcripts | {"t1": "call 4711"})
    metrics = planted.evaluate(ceiling=False)
    assert metrics["utterances_evaluated"] == 2
    (row,) = read_jsonl(planted.root / "evaluate" / "rejected.jsonl")
    assert (row["what"], row["reason"]) == ("t1", "unpronounceable")


def test_a_wrong_split_names_those_there_are(planted: PlantedRun) -> None:
    with pytest.raises(UserError, match="there is test, train"):
        planted.evaluate(split="dev")


def test_references_of_other_recordings_are_a_users_error(planted: PlantedRun) -> None:
    planted.write_references({"elsewhere": "abc"})
    with pytest.raises(UserError, match=r"references\.jsonl: transcribes no recording"):
        planted.evaluate()


def test_hypotheses_of_other_recordings_are_a_users_error(planted: PlantedRun) -> None:
    planted.write_hypotheses({"elsewhere": "abc"})
    with pytest.raises(UserError, match="no hypothesis for any recording"):
        planted.evaluate()


def test_references_of_numbers_only_are_a_users_error(planted: PlantedRun) -> None:
    planted.write_references(dict.fromkeys(TEST_TRANSCRIPTS, "12 34"))
    with pytest.raises(UserError, match="could be turned into phones"):
        planted.evaluate()
