"""The encoder learns from what was heard, errors and all, and hears better than its teacher."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from frame_models import even_hmm
from numpy.typing import NDArray
from scipy.special import log_softmax
from songs import LETTERS, sing_timed, write_encoder

from wav2vec_u.adapt import emissions, rounds, stage
from wav2vec_u.adapt.emissions import write_emissions
from wav2vec_u.adapt.model import AdaptedModel, listen
from wav2vec_u.adapt.stage import is_taken
from wav2vec_u.adapt.teacher import Teacher
from wav2vec_u.config import (
    SAMPLE_RATE,
    AdaptConfig,
    FeaturesConfig,
    FinetuneConfig,
    GraphConfig,
    SegmentsConfig,
    TextConfig,
    WordsConfig,
    load_config,
)
from wav2vec_u.corpus.audio import Samples
from wav2vec_u.decode.greedy import PhoneSpan
from wav2vec_u.decode.hypotheses import Hypothesis
from wav2vec_u.decode.transcript import WordSpan
from wav2vec_u.evaluate.error_rate import count_errors, pool
from wav2vec_u.features import stage as features_stage
from wav2vec_u.finetune.model import FinetunedModel
from wav2vec_u.finetune.train import _Training
from wav2vec_u.finetune.utterance import LabelledUtterance
from wav2vec_u.graph import stage as graph_stage
from wav2vec_u.graph.found_weights import FoundWeights
from wav2vec_u.matching.frame_teacher import Lesson, teach
from wav2vec_u.matching.generator import Generator
from wav2vec_u.recognizer import Recognizer
from wav2vec_u.runtime import artifact
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_json, write_jsonl
from wav2vec_u.segments import stage as segments_stage
from wav2vec_u.segments.store import SegmentStore
from wav2vec_u.selftrain.frame_model import FrameModel
from wav2vec_u.silence.speech import Utterance, read_speech, write_speech
from wav2vec_u.text import stage as text_stage
from wav2vec_u.text.corpus import PhoneText
from wav2vec_u.words.hypotheses import FILE_NAME, WordHypothesis, read_word_hypotheses

WORDS = ["abe", "dac", "ce", "bad", "edb", "ca"]
WRONG = 0.25  # of the letters that the teacher heard
LAYER = 1
SHORT = AdaptConfig(
    method="encoder",
    rounds=1,
    epochs=30,
    batch_seconds=12.0,
    learning_rate=1e-2,
    linear_learning_rate=1e-2,
    dropout=0.0,
    time_mask_share=0.1,
    min_confidence=0.0,
    device="cpu",
)


@dataclass
class Planted:
    """Recordings of sung words, what is sung in them, and all that the stage reads."""

    root: Path
    sung: dict[str, list[str]]

    def run(self, name: str = "adapt", config: AdaptConfig = SHORT, **changes: Any) -> Work:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        work = Work(folder, resumed=changes.pop("resumed", False))
        stage.run(
            work,
            config,
            WordsConfig(beam=30.0, word_cost="auto", scale="auto"),
            **{
                "encoder": str(self.root / "encoder"),
                "whole": False,
                "language": "en",
                **{
                    part: self.root / part
                    for part in (
                        "silence",
                        "features",
                        "segments",
                        "text",
                        "graph",
                        "selftrain",
                        "decode",
                        "words",
                    )
                },
                **changes,
            },
        )
        return work

    def error_rate(self, folder: Path, split: str) -> float:
        """Phone errors of what was heard, percent."""
        heard = {item.id: item for item in read_word_hypotheses(folder) if item.split == split}
        assert heard
        return pool(
            [
                count_errors(self.sung[name], [phone.phone for phone in item.phones])
                for name, item in heard.items()
            ]
        ).rate


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    root = tmp_path_factory.mktemp("adapt")
    rng = np.random.default_rng(3)
    write_encoder(root / "encoder")
    text = root / "text.txt"
    lines = [" ".join(rng.choice(WORDS, size=3)) for _ in range(200)]
    text.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in ("text", "silence", "features", "segments", "decode", "words", "graph"):
        (root / name).mkdir()
    config = TextConfig(phonemizer="graphemes", min_word_count=1, min_phone_share=0.0)
    text_stage.run(Work(root / "text"), config, text, "en")
    if graph_stage.installed():
        shape = GraphConfig(fragments=0)
        graph_stage.run(Work(root / "graph"), shape, text, "en", root / "text")
    utterances, heard, sung = [], [], {}
    for number in range(48):
        name = f"r{number:02d}"
        said = rng.choice(WORDS, size=2).tolist()
        samples, letters = sing_timed(" ".join(said), rng)
        path = root / f"{name}.wav"
        soundfile.write(path, samples, SAMPLE_RATE)
        end = len(samples) / SAMPLE_RATE
        split = "train" if number < 40 else "test"
        utterances.append(Utterance(name, name, str(path), split, None, 0.0, end, ((0.0, end),)))
        sung[name] = [letter for letter, _, _ in letters]
        heard.append(misheard(name, split, letters, rng))
    write_speech(root / "silence", utterances)
    write_jsonl(root / "words" / FILE_NAME, [item.as_row() for item in heard])
    config = FeaturesConfig(encoder=str(root / "encoder"), layer=LAYER, device="cpu")
    features_stage.run(Work(root / "features"), config, root / "silence")
    segments_stage.run(Work(root / "segments"), SegmentsConfig(), root / "features")
    write_teacher(root / "selftrain", root, heard)
    return Planted(root, sung)


def misheard(
    name: str, split: str, letters: Sequence[tuple[str, float, float]], rng: np.random.Generator
) -> WordHypothesis:
    """Hear letters at their places, some of them wrong."""
    phones = tuple(
        PhoneSpan(str(rng.choice(list(LETTERS))) if rng.random() < WRONG else letter, start, end)
        for letter, start, end in letters
    )
    word = WordSpan("word", phones[0].start_s, phones[-1].end_s, 0.5)
    return WordHypothesis(name, name, split, (word,), phones)


def write_teacher(folder: Path, root: Path, heard: Sequence[WordHypothesis]) -> None:
    """Teach a generator what was heard, errors and all, as self-training would have."""
    store, phones = SegmentStore(root / "segments"), PhoneText(root / "text").phones
    by_id = {item.id: item for item in heard}
    lessons = []
    for i, name in enumerate(store.ids):
        if store.splits[i] != "train":
            continue
        labels = np.zeros(store.length(i), np.int32)
        for phone in by_id[name].phones:
            middles = store.times(i).mean(axis=1)
            labels[(middles >= phone.start_s) & (middles < phone.end_s)] = phones.index(phone.phone)
        lessons.append(Lesson(partial(store.vectors, i), labels))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = Generator(store.dim, len(phones), kernel=3, batch_norm=1.0, hidden=32)
    teach(generator, lessons, epochs=10, learning_rate=0.01, weight_decay=0.0, seed=0)
    with artifact.create(
        folder, stage="selftrain", expected="planted", config=SHORT, inputs={}
    ) as work:
        FrameModel(generator, even_hmm(len(phones), power=0.5, stay=0.8)).save(work.folder)


def finished(planted: Planted, name: str) -> Work:
    """Run the stage as the pipeline does, so that its record stands."""
    with artifact.create(
        planted.root / name, stage="adapt", expected="planted", config=SHORT, inputs={}
    ) as work:
        work.counts.update(planted.run(f"{name}.partial").counts)
    return work


needs_extra = pytest.mark.skipif(
    not graph_stage.installed(), reason="the extra `decode` is not installed"
)


@pytest.fixture(scope="module")
def adapted(planted: Planted) -> Path:
    """The stage in two rounds, by phones alone."""
    config = SHORT.model_copy(update={"rounds": 2})
    work = planted.run("two_rounds", config, graph=planted.root / "nowhere")
    assert work.counts["rounds"] in (1, 2)
    assert work.counts["taken"]
    return work.folder


def test_the_encoder_hears_better_than_what_it_was_taught(planted: Planted, adapted: Path) -> None:
    before = planted.error_rate(planted.root / "words", "test")
    after = planted.error_rate(adapted, "test")
    assert before > 15
    assert after < before / 2


@needs_extra
def test_words_are_found_where_there_is_a_graph(planted: Planted) -> None:
    work = planted.run("in_words")
    heard = {item.id: item for item in read_word_hypotheses(work.folder)}
    assert set(heard) == set(planted.sung)
    assert planted.error_rate(work.folder, "test") < 10
    for name, item in heard.items():
        assert {span.word for span in item.spans} <= set(WORDS)
        ends = [span.end_s for span in item.phones]
        assert ends[-1] <= soundfile.info(planted.root / f"{name}.wav").duration + 0.05


def test_what_was_heard_stands_at_its_place(planted: Planted, adapted: Path) -> None:
    rng = np.random.default_rng(9)
    samples, letters = sing_timed("abcde", rng)
    model = AdaptedModel.load(adapted, PhoneText(planted.root / "text").phones)
    (log_probs,) = listen(model.network, [samples])
    assert np.exp(log_probs).sum(axis=1) == pytest.approx(1, abs=1e-4)
    best = log_probs.argmax(axis=1)
    right = 0
    for letter, start, end in letters:
        middle = int((start + end) / 2 * model.network.output_rate_hz)
        right += PhoneText(planted.root / "text").phones[best[middle]] == letter
    assert right >= 4
    assert best[0] == best[-1] == 0, "a pause at both ends"


def test_the_same_seed_gives_the_same_model(planted: Planted) -> None:
    one, other = (planted.run(name).folder for name in ("one", "other"))
    for name in ("model.safetensors", FILE_NAME, "log.jsonl"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_a_killed_round_is_gone_on_with(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = planted.run("whole")

    def killed(*arguments: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rounds, "write_emissions", killed)
        with pytest.raises(KeyboardInterrupt):
            planted.run("killed")
    trained = (planted.root / "killed" / "round_00" / "training" / "model.safetensors").stat()
    assert trained.st_size > 0

    def trains(self: _Training, batch: list[int]) -> None:
        raise AssertionError("what was trained is trained again")

    with monkeypatch.context() as patch:
        patch.setattr(_Training, "step", trains)
        again = planted.run("killed", resumed=True)
    assert again.counts == whole.counts
    assert not (again.folder / "round_00" / "training").exists()
    for name in ("model.safetensors", FILE_NAME):
        assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_finished_rounds_are_not_done_again(
    planted: Planted, adapted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SHORT.model_copy(update={"rounds": 2})
    monkeypatch.setattr(rounds, "finetune", None)
    again = shutil.copytree(adapted, planted.root / "again")
    work = planted.run("again", config, resumed=True, graph=planted.root / "nowhere")
    assert work.counts["taken"]
    assert (again / FILE_NAME).read_bytes() == (adapted / FILE_NAME).read_bytes()
    (again / "round_00" / "figures.json").write_text("{}")
    with pytest.raises(UserError, match=r"figures.json: is damaged"):
        planted.run("again", config, resumed=True, graph=planted.root / "nowhere")


def test_a_network_that_does_not_help_its_teacher_is_not_taken(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deaf(network: FinetunedModel, waveforms: list[Samples]) -> list[NDArray[np.float32]]:
        rng = np.random.default_rng(0)
        heard = [rng.normal(0, 9, rows.shape) for rows in listen(network, waveforms)]
        return [log_softmax(rows, axis=1).astype(np.float32) for rows in heard]

    monkeypatch.setattr(emissions, "listen", deaf)
    work = planted.run("worse", SHORT.model_copy(update={"epochs": 1, "rounds": 2}))
    assert work.counts["agreement"] < work.counts["agreement_before"]
    assert (work.counts["rounds"], work.counts["taken"]) == (0, False)
    assert not (work.folder / FILE_NAME).exists()
    assert len((work.folder / "log.jsonl").read_text().splitlines()) == 1, "no round after it"


def test_without_words_the_phones_are_learned(planted: Planted, tmp_path: Path) -> None:
    rows = [
        Hypothesis(item.id, item.recording, item.split, item.phones, 0.0).as_row()
        for item in read_word_hypotheses(planted.root / "words")
    ]
    (tmp_path / "decode").mkdir()
    write_jsonl(tmp_path / "decode" / FILE_NAME, rows)
    work = planted.run(
        "phones", decode=tmp_path / "decode", words=tmp_path, graph=planted.root / "nowhere"
    )
    assert planted.error_rate(work.folder, "test") < 15


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"config": AdaptConfig(method="none")}, "adapt.method is none"),
        ({"encoder": "mfcc"}, "nothing that could learn"),
        (
            {"config": SHORT.model_copy(update={"method": "auto"}), "encoder": "someone/large"},
            "days without a GPU; set adapt.method=encoder",
        ),
        ({"words": "silent"}, "hardly anything was heard"),
        ({"config": SHORT.model_copy(update={"min_confidence": 0.9})}, "hardly anything was heard"),
    ],
)
def test_where_nothing_can_be_learned_the_stage_says_so(
    planted: Planted, tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    if changes.get("words") == "silent":
        changes = {"words": tmp_path}
        first = next(read_word_hypotheses(planted.root / "words"))
        write_jsonl(tmp_path / FILE_NAME, [first.as_row()])
    work = planted.run(f"skipped {why} {len(changes)}", **changes)
    assert why in work.counts["skipped"]
    assert not work.counts["taken"]
    assert not (work.folder / FILE_NAME).exists()


def test_one_utterance_is_too_few_and_no_error(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "LEAST_SECONDS", 0.01)
    heard = read_word_hypotheses(planted.root / "words")
    first = next(item for item in heard if item.split == "train")
    write_jsonl(tmp_path / FILE_NAME, [first.as_row()])
    work = planted.run("alone", words=tmp_path, graph=planted.root / "nowhere")
    assert "1 labelled utterances are left" in work.counts["skipped"]
    assert not work.counts["taken"]


def test_no_utterance_is_too_long_to_learn_from(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: list[FinetuneConfig] = []

    def look(*arguments: Any, **more: Any) -> None:
        settings.append(arguments[3])
        raise KeyboardInterrupt

    monkeypatch.setattr(rounds, "finetune", look)
    monkeypatch.setattr(LabelledUtterance, "seconds", property(lambda self: 55.0))
    with pytest.raises(KeyboardInterrupt):
        planted.run("long", graph=planted.root / "nowhere")
    assert settings[0].max_utterance_seconds == 55.0


def test_a_finished_stage_tells_whether_its_model_is_taken(planted: Planted) -> None:
    assert not is_taken(planted.root / "missing")
    finished(planted, "finished")
    assert is_taken(planted.root / "finished")


def test_a_model_of_other_phones_is_refused(adapted: Path) -> None:
    with pytest.raises(UserError, match="knows other phones"):
        AdaptedModel.load(adapted, ["<SIL>", "x", "y"])


def test_figures_of_every_round_are_logged(adapted: Path) -> None:
    rows = [json.loads(line) for line in (adapted / "log.jsonl").read_text().splitlines()]
    assert [row["round"] for row in rows] == list(range(len(rows)))
    assert all(1 > row["agreement"] > 0.5 and row["hours"] > 0 for row in rows)


def finish(planted: Planted, out: Path) -> None:
    """Put together what a finished run has, for a recogniser to load."""
    config = load_config(
        silence={"method": "none"},
        features={"encoder": str(planted.root / "encoder"), "layer": LAYER},
        words={"beam": 30.0, "word_cost": "auto", "scale": "auto"},
    )
    out.mkdir()
    write_json(out / "run.json", {"config": config.model_dump(mode="json"), "language": "en"})
    for name in ("features", "segments", "text", "matching", "selftrain", "graph", "adapt"):
        with artifact.create(
            out / name, stage=name, expected="planted", config=SHORT, inputs={}
        ) as work:
            if name == "adapt":
                work.counts.update(planted.run("recognizer").counts)
                shutil.copytree(planted.root / "recognizer", work.folder, dirs_exist_ok=True)
            elif (planted.root / name).exists():
                shutil.copytree(planted.root / name, work.folder, dirs_exist_ok=True)


def test_a_recogniser_hears_what_the_stage_heard(planted: Planted, tmp_path: Path) -> None:
    finish(planted, tmp_path / "run")
    recognizer = Recognizer.load(tmp_path / "run")
    heard = {item.id: item for item in read_word_hypotheses(tmp_path / "run" / "adapt")}
    for name in ("r40", "r41", "r42"):
        transcript = recognizer.transcribe(planted.root / f"{name}.wav")
        assert [span.word for span in transcript.words] == [span.word for span in heard[name].spans]
        assert [span.phone for span in transcript.phones] == [
            span.phone for span in heard[name].phones
        ]
        for mine, theirs in zip(transcript.phones, heard[name].phones, strict=True):
            assert mine.start_s == pytest.approx(theirs.start_s, abs=2e-3)
            assert mine.end_s == pytest.approx(theirs.end_s, abs=2e-3)
    for name, told in (
        ("reader.json", "is missing or damaged"),
        ("model.json", "no complete fine-tuned model"),
    ):
        (tmp_path / "run" / "adapt" / name).write_text("{")
        with pytest.raises(UserError, match=told):
            Recognizer.load(tmp_path / "run")


@needs_extra
def test_a_recogniser_asks_for_a_word_what_its_own_model_was_found_to_need(
    planted: Planted, tmp_path: Path
) -> None:
    finish(planted, tmp_path / "run")
    adapt = tmp_path / "run" / "adapt"
    assert FoundWeights.load(adapt) is not None
    FoundWeights(2.75, 0.4).save(adapt)
    words = Recognizer.load(tmp_path / "run")._words
    assert words is not None
    assert (words.search._word_cost, words.search._scale) == (2.75, 0.4)


def test_what_cannot_be_heard_is_listed(planted: Planted, adapted: Path, tmp_path: Path) -> None:
    network = AdaptedModel.load(adapted, PhoneText(planted.root / "text").phones).network
    teacher = Teacher.load(
        planted.root / "selftrain", planted.root / "segments", planted.root / "features"
    )
    path = str(planted.root / "r40.wav")
    utterances = [
        Utterance(name, name, audio, "test", None, 0.0, end, ((0.0, end),))
        for name, audio, end in (
            ("whole", path, 1.0),
            ("gone", str(tmp_path / "gone.wav"), 1.0),
            ("short", path, 0.005),
        )
    ]
    left_out = write_emissions(tmp_path / "rows", network, teacher, utterances, False, 10.0)
    assert {item.what for item in left_out} == {"gone", "short"}
    assert {item.reason for item in left_out if item.what == "short"} == {"too_short"}
    assert SegmentStore(tmp_path / "rows").ids == ["whole"]


def test_what_makes_no_sense_to_the_teacher_is_listed(
    planted: Planted, adapted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = AdaptedModel.load(adapted, PhoneText(planted.root / "text").phones).network
    teacher = Teacher.load(
        planted.root / "selftrain", planted.root / "segments", planted.root / "features"
    )
    say = Teacher.say

    def stumbling(self: Teacher, utterance: str, middles: NDArray[np.float32]) -> Any:
        if utterance == "r01":
            raise FloatingPointError("the generator's scores are not finite")
        return say(self, utterance, middles)

    monkeypatch.setattr(Teacher, "say", stumbling)
    utterances = read_speech(planted.root / "silence")[:3]
    (left_out,) = write_emissions(tmp_path / "rows", network, teacher, utterances, False, 10.0)
    assert (left_out.what, left_out.reason) == ("r01", "not_finite")
    assert sorted(SegmentStore(tmp_path / "rows").ids) == ["r00", "r02"]
