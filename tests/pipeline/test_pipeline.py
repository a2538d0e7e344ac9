"""A whole run on a made-up corpus: what it leaves, what it repeats, and what it must not see."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny_run import content, tiny_config, write_corpus

from wav2vec_u.pipeline import Pipeline
from wav2vec_u.recognizer import Recognizer
from wav2vec_u.runtime.artifact import read_record
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.stages import STAGES, stages_until
from wav2vec_u.testing.encoders import save_tiny_encoder
from wav2vec_u.words.hypotheses import read_word_hypotheses

NAMES = [stage.name for stage in STAGES]
AFTER_MATCHING = ["selftrain", "decode", "words", "adapt", "evaluate"]


@dataclass
class Workshop:
    """A corpus, and a run on it whose repeated stages are told."""

    manifest: Path
    text: Path
    out: Path
    metrics: dict[str, Any] = field(default_factory=dict)

    def run(self, until: str | None = None, **changed: Any) -> set[str]:
        """Run, and return the stages that were not up to date."""
        screen = io.StringIO()
        settings = {
            "audio": self.manifest,
            "text": self.text,
            "language": "en",
            "out": self.out,
            "force": True,
            "config": tiny_config(),
            **changed,
        }
        self.metrics = Pipeline(**settings, console=Console(file=screen)).run(until=until)
        lines = [line.split() for line in screen.getvalue().splitlines()]
        return {
            line[0]
            for line in lines
            if line[0] in NAMES and line[1:] != ["up", "to", "date"] and line[1] != "skipped:"
        }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A finished run; tests change copies of it."""
    folder = tmp_path_factory.mktemp("finished")
    workshop = Workshop(*write_corpus(folder / "audio"), folder / "out")
    assert workshop.run() == set(NAMES)
    return workshop


@pytest.fixture
def fresh(finished: Workshop, tmp_path: Path) -> Workshop:
    """The same corpus, and no run."""
    return Workshop(finished.manifest, finished.text, tmp_path / "out")


@pytest.fixture
def again(fresh: Workshop, finished: Workshop) -> Workshop:
    """The same corpus, and a copy of the finished run."""
    shutil.copytree(finished.out, fresh.out)
    return fresh


@pytest.fixture
def elsewhere(finished: Workshop, tmp_path: Path) -> Workshop:
    """A copy of the corpus, to be changed, and a finished run on it."""
    audio = tmp_path / "audio"
    shutil.copytree(finished.manifest.parent, audio)
    workshop = Workshop(audio / "manifest.tsv", audio / "text.txt", tmp_path / "out")
    workshop.run()
    return workshop


def test_leaves_artefacts_metrics_and_a_report(finished: Workshop) -> None:
    for name in NAMES:
        record = read_record(finished.out / name)
        assert record is not None
        assert record.stage == name
        assert record.files
    assert not list(finished.out.glob("*.partial"))
    page = (finished.out / "report.html").read_text(encoding="utf-8")
    assert "phone error rate" in page

    metrics = json.loads((finished.out / "metrics.json").read_text())
    assert metrics == finished.metrics
    wanted = {
        *("per", "per_insertions", "per_deletions", "per_substitutions"),
        *("per_greedy", "per_lm", "per_hmm", "per_words", "wer", "word_confidence_auc"),
        *("seeds", "seeds_converged", "selected_seed", "selection_metric", "hours_audio"),
        *(
            "selftrain_rounds",
            "text_sentences",
            "segment_rate_hz",
            "phone_rate_hz",
            "seconds_total",
            "peak_rss_mb",
        ),
        *(f"seconds_{name}" for name in NAMES),
    }
    assert wanted <= metrics.keys()
    assert not any(isinstance(value, (dict, list)) for value in metrics.values())
    assert metrics["text_sentences"] == 300
    assert metrics["hours_audio"] * 3600 == pytest.approx(44.78, abs=0.1)
    assert metrics["selftrain_rounds"] == 1, "or these tests say nothing of the rounds"
    assert metrics["per"] == metrics["per_words"]
    assert metrics["seconds_total"] == pytest.approx(
        sum(metrics[f"seconds_{name}"] for name in NAMES), abs=0.01
    )

    record = json.loads((finished.out / "run.json").read_text())
    assert record["config"] == tiny_config(language="en").model_dump(mode="json")
    assert record["audio"] == str(finished.manifest)
    assert record["text"] == str(finished.text)
    assert (record["language"], record["references"]) == ("en", None)


def test_a_second_run_repeats_nothing(again: Workshop, finished: Workshop) -> None:
    before = content(again.out)
    assert again.run() == set()
    assert again.metrics == finished.metrics
    assert content(again.out) == before


@pytest.mark.parametrize(
    ("change", "repeated"),
    [
        ({"evaluate": {"seed": 3}}, ["evaluate"]),
        ({"words": {"beam": 9.0}}, ["words", "adapt", "evaluate"]),
        ({"adapt": {"seed": 3}}, ["adapt", "evaluate"]),
        ({"selftrain": {"seed": 3}}, AFTER_MATCHING),
        ({"graph": {"ngram_order": 2}}, ["graph", *AFTER_MATCHING]),
        ({"matching": {"seed": 3}}, ["matching", *AFTER_MATCHING]),
        ({"text": {"ngram_order": 3}}, ["text", "matching", "graph", *AFTER_MATCHING]),
        ({"segments": {"clusters": 9}}, ["segments", "matching", *AFTER_MATCHING]),
        (
            {"silence": {"merge_gap_seconds": 0.2}},
            [name for name in NAMES[1:] if name not in ("text", "graph")],
        ),
        ({"features": {"device": "cpu"}, "matching": {"device": "cpu"}, "threads": 2}, []),
    ],
)
def test_a_changed_setting_repeats_what_depends_on_it(
    again: Workshop, change: dict[str, Any], repeated: list[str]
) -> None:
    base = tiny_config().model_dump(mode="json")
    merged = {
        key: {**base[key], **value} if isinstance(value, dict) else value
        for key, value in change.items()
    }
    assert again.run(config=tiny_config(**merged)) == set(repeated)


def touch(path: Path) -> None:
    os.utime(path, (1_000_000_000, 1_000_000_000))


def add_line(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8") + "abba fed\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("act", "repeated"),
    [
        (lambda shop: touch(shop.text), set()),
        (lambda shop: add_line(shop.text), {"text", "matching", "graph", *AFTER_MATCHING}),
        (lambda shop: touch(shop.manifest.parent / "r03.wav"), set(NAMES) - {"text", "graph"}),
        (lambda shop: (shop.manifest.parent / "r03.wav").unlink(), set(NAMES) - {"text", "graph"}),
    ],
)
def test_changed_inputs_are_noticed(
    elsewhere: Workshop, act: Callable[[Workshop], None], repeated: set[str]
) -> None:
    act(elsewhere)
    assert elsewhere.run() == repeated


def test_references_do_not_leak(elsewhere: Workshop, tmp_path: Path) -> None:
    """Shuffled or removed transcripts change nothing of what is learned."""

    def learned(out: Path) -> dict[str, bytes]:
        made = content(out).items()
        return {name: data for name, data in made if not name.startswith("evaluate/")}

    header, *rows = elsewhere.manifest.read_text(encoding="utf-8").splitlines()
    known, said = zip(*(row.rsplit("\t", 1) for row in rows), strict=True)
    truth = learned(elsewhere.out)
    assert "matching/generator.safetensors" in truth
    assert "selftrain/mixtures.safetensors" in truth

    shuffled = [f"{row}\t{text}" for row, text in zip(known, [*said[7:], *said[:7]], strict=True)]
    elsewhere.manifest.write_text("\n".join([header, *shuffled]) + "\n", encoding="utf-8")
    per = elsewhere.metrics["per"]
    assert elsewhere.run() == {"evaluate"}, "other transcripts make nothing else stale"
    assert elsewhere.metrics["per"] != per
    assert elsewhere.run(out=tmp_path / "shuffled") == set(NAMES)
    assert learned(tmp_path / "shuffled") == truth

    removed = [header.removesuffix("\ttext"), *known]
    elsewhere.manifest.write_text("\n".join(removed) + "\n", encoding="utf-8")
    assert elsewhere.run(out=tmp_path / "removed") == set(NAMES) - {"evaluate"}
    assert "per" not in elsewhere.metrics
    assert learned(tmp_path / "removed") == truth


def test_stages_can_be_run_one_by_one(fresh: Workshop, finished: Workshop, tmp_path: Path) -> None:
    assert fresh.run(until="text", audio=None) == {"text"}
    assert fresh.run(until="corpus", text=None) == {"corpus"}
    assert fresh.run(until="segments", text=None) == {"silence", "features", "segments"}
    with pytest.raises(UserError, match="--text"):
        fresh.run(text=None)
    with pytest.raises(UserError, match="needs features, which has not run"):
        Pipeline(tiny_config(), fresh.manifest, fresh.text, "en", tmp_path / "new").run(
            only="decode"
        )
    with pytest.raises(UserError, match="needs selftrain, which has not run"):
        Pipeline(tiny_config(), fresh.manifest, fresh.text, "en", fresh.out).run(only="words")
    assert fresh.run(until="graph", audio=None) == {"graph"}
    assert fresh.run(until="matching") == {"matching"}
    assert fresh.run(until="decode") == {"selftrain", "decode"}
    assert fresh.run() == {"words", "adapt", "evaluate"}
    assert content(fresh.out) == content(finished.out)


def test_the_doctor_stops_before_training(again: Workshop) -> None:
    shutil.rmtree(again.out / "matching")
    with pytest.raises(UserError, match=r"stopped before training.*audio amount.*--force"):
        again.run(force=False)
    assert not (again.out / "matching").exists()
    assert again.run(force=True) == {"matching", *AFTER_MATCHING}
    assert again.run(force=False) == set(), "what is trained needs no doctor"


def test_there_is_no_stage_of_another_name() -> None:
    with pytest.raises(UserError, match="no stage 'match'; the stages are corpus, silence"):
        stages_until("match")


def test_a_folder_is_evaluated_with_references_of_its_own(elsewhere: Workshop) -> None:
    audio = elsewhere.manifest.parent
    references = elsewhere.manifest.rename(audio / "references.tsv")
    config = tiny_config(corpus={"held_out_fraction": 0.4})
    learning = set(NAMES) - {"evaluate", "text", "graph"}
    assert elsewhere.run(audio=audio, config=config) == learning
    assert "per" not in elsewhere.metrics
    assert not (elsewhere.out / "evaluate").exists(), "that of the former generator is removed"

    metrics = Pipeline.from_run(elsewhere.out, references).run(only="evaluate")
    assert 0 < metrics["per"] <= 200
    assert json.loads((elsewhere.out / "run.json").read_text())["references"] == str(references)
    assert Pipeline.from_run(elsewhere.out).run() == metrics


def test_a_decipherment_of_frames_is_refused_at_once(fresh: Workshop) -> None:
    with pytest.raises(UserError, match=r"segments\.boundaries: .* set it to viterbi"):
        fresh.run(config=tiny_config(segments={"boundaries": "frames"}))
    assert not (fresh.out / "corpus").exists()


def test_references_that_fit_nothing_are_refused_at_once(fresh: Workshop, tmp_path: Path) -> None:
    references = tmp_path / "other.tsv"
    references.write_text("path\ttext\nsomething/else\tabba\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"other\.tsv: transcribes no recording of split test"):
        fresh.run(references=references)
    with pytest.raises(UserError, match="no such file of references"):
        fresh.run(references=tmp_path / "missing.tsv")
    assert not (fresh.out / "silence").exists()


def test_a_checkpoint_of_hugging_face_is_learned_from(
    fresh: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_tiny_encoder(Path("encoder"), "wav2vec2-layer")
    config = tiny_config(
        features={"encoder": "encoder", "layer": 1},
        segments={
            "boundaries": "viterbi",
            "clusters": 8,
            "kmeans_iterations": 5,
            "kmeans_restarts": 1,
            "pca_dim": 8,
        },
        # An encoder that has learned nothing: there is nothing to understand either.
        selftrain={"method": "none"},
        evaluate={"bootstrap_samples": 10, "ceiling": True},
    )
    assert fresh.run(config=config) == set(NAMES)
    assert fresh.run(config=config) == set()
    assert fresh.metrics["gap"] == pytest.approx(
        fresh.metrics["per"] - fresh.metrics["per_ceiling"], abs=0.01
    )
    assert fresh.metrics["selftrain_rounds"] == 0
    assert fresh.metrics["per_hmm"] == fresh.metrics["per_lm"], "the same model before and after"

    monkeypatch.chdir("/")  # the checkpoint was named from another folder
    recognizer = Recognizer.load(fresh.out)
    said = {item.id: item for item in read_word_hypotheses(fresh.out / "words")}
    transcript = recognizer.transcribe(fresh.manifest.parent / "r41.wav")
    assert [span.phone for span in transcript.phones] == [s.phone for s in said["r41"].phones]
    assert [span.word for span in transcript.words] == [s.word for s in said["r41"].spans]

    touch(tmp_path / "encoder" / "config.json")
    assert fresh.run(config=recognizer.config) == set(NAMES[2:]) - {"text", "graph"}
