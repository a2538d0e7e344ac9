"""The self-training stage on a voice that the matching has half understood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from half_understood import HalfUnderstood, settings, tiny, write_matching
from planted_run import write_segments
from same_weights import same_weights

from wav2vec_u.config import SelftrainConfig
from wav2vec_u.graph.parallel import SearchSettings
from wav2vec_u.matching.decipherment import learn_language
from wav2vec_u.matching.frame_hmm import HMM_NAME, FrameHmm
from wav2vec_u.matching.frame_teacher import Lesson
from wav2vec_u.matching.generator import GENERATOR_NAME, Generator, load_generator, log_probs
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.segments.store import SegmentStore
from wav2vec_u.selftrain import rounds, stage
from wav2vec_u.selftrain.frame_model import MIXTURES_NAME, FrameModel
from wav2vec_u.selftrain.rounds import SelfTraining
from wav2vec_u.selftrain.stage import START_NAME
from wav2vec_u.testing.planted import PlantedSegments
from wav2vec_u.text.corpus import PhoneText

LITTLE = 0.02  # hours, of about 0.1 that there are: where little is to be learned


@dataclass(frozen=True)
class Place:
    """Artefacts to train on."""

    made: HalfUnderstood
    nothing: Path  # what a graph stage without the extra leaves

    def run(
        self,
        folder: Path,
        config: SelftrainConfig | None = None,
        *,
        resumed: bool = False,
        **artefacts: Path,
    ) -> Work:
        """Run the stage, by default on little, without a graph and with synthetic speech."""
        folder.mkdir(exist_ok=True)
        work = Work(folder, resumed=resumed)
        paths = {
            "features": self.made.segments.with_name("features"),
            "segments": self.made.segments,
            "text": self.made.text,
            "matching": self.made.matching,
            "graph": self.nothing,
            **artefacts,
        }
        stage.run(work, config or tiny(max_hours=LITTLE), **paths)
        return work

    def read_rate(self, model: FrameModel) -> float:
        store = self.made.store
        return self.made.error_rate(model.read([store.vectors(i) for i in self.made.test]))


@pytest.fixture
def place(made: HalfUnderstood, tmp_path: Path) -> Place:
    nothing = tmp_path / "no_graph"
    nothing.mkdir()
    return Place(made, nothing)


def frozen(made: HalfUnderstood, power: float = 0.8) -> FrameHmm:
    """A model of frames that nothing but the matching can have left, without the rarest phones."""
    n_phones = made.start.settings["n_phones"]
    prior = np.linspace(1, 2, n_phones, dtype=np.float32)
    language = learn_language(PhoneText(made.text), 0.05)
    assert len(language.phones) < n_phones - 1
    return FrameHmm(language, prior / prior.sum(), power, stay=0.65)


def same_hmm(one: FrameHmm, other: FrameHmm) -> bool:
    return (
        np.array_equal(one.language.phones, other.language.phones)
        and np.array_equal(one.language.transitions.trigram, other.language.transitions.trigram)
        and np.array_equal(one.prior, other.prior)
        and (one.power, one.stay) == (other.power, other.stay)
    )


def same_model(one: FrameModel, other: FrameModel) -> bool:
    alike = same_weights(one.generator, other.generator) and same_hmm(one.hmm, other.hmm)
    if one.mixtures is None or other.mixtures is None:
        return alike and one.mixtures is other.mixtures
    return alike and np.array_equal(one.mixtures.means_, other.mixtures.means_)


def counted(monkeypatch: pytest.MonkeyPatch, limit: int = 99) -> list[list[Lesson]]:
    """Return where the lessons of every round are written; the one after `limit` is a kill."""
    teach = rounds.teach
    seen: list[list[Lesson]] = []

    def counting(generator: Generator, lessons: Sequence[Lesson], **named: Any) -> float:
        if len(seen) == limit:
            raise KeyboardInterrupt
        seen.append(list(lessons))
        return teach(generator, lessons, **named)

    monkeypatch.setattr(rounds, "teach", counting)
    return seen


# --- what it leaves ---


def test_the_model_reads_held_out_recordings_better_than_the_start(
    place: Place, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    work = place.run(folder, settings())
    before, after = FrameModel.load(folder / START_NAME), FrameModel.load(folder)
    assert 35 < place.read_rate(before) < 65
    assert place.read_rate(after) < 0.5 * place.read_rate(before)
    assert work.counts["rounds"] == work.counts["best_round"] == 2
    assert work.counts["gain"] > 0.5
    assert same_model(after, FrameModel.load(folder / "round_02"))
    names = {path.name for path in folder.iterdir() if path.is_file()}
    assert names == {GENERATOR_NAME, HMM_NAME, MIXTURES_NAME, "model.json", "log.jsonl"}


def test_words_of_the_graph_are_found(place: Place, tmp_path: Path, hurried: None) -> None:
    pytest.importorskip("kaldifst", reason="the extra `decode` is not installed")
    place.made.build_graph()
    for name, graph in (("words", place.made.graph), ("phones", place.nothing)):
        place.run(tmp_path / name, tiny(rounds=0, max_hours=9.0), graph=graph)
    truth = np.concatenate([place.made.planted.labels(i) for i in place.made.train])
    wrong = {}
    for name in ("words", "phones"):
        labels = np.load(tmp_path / name / "round_00/labels.npy")
        wrong[name] = (labels != truth)[labels >= 0].mean()
    assert wrong["words"] < 0.8 * wrong["phones"]


def test_a_graph_is_searched_as_the_settings_say_where_it_can_be(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    class Spy(SelfTraining):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            given.append(named["graph"])
            super().__init__(*arguments, **{**named, "graph": None})

    monkeypatch.setattr(stage, "SelfTraining", Spy)
    graph = tmp_path / "graph"
    graph.mkdir()
    (graph / "graph.npz").write_bytes(b"a graph")
    config = tiny(rounds=0, max_hours=LITTLE, beam=7.5, lattice_beam=3.5, max_active=50)
    place.run(tmp_path / "usable", config, graph=graph)
    place.run(tmp_path / "empty", config)
    settings, without = given
    assert settings == SearchSettings(
        graph, 7.5, 3.5, 50, config.word_cost, config.scale, config.stay_probability
    )
    assert without is None


# --- the start ---


def test_the_start_is_the_generator_of_the_matching_read_with_the_trigram(
    place: Place, tmp_path: Path
) -> None:
    config = tiny(rounds=0, max_hours=9.0, generator_power=0.3, stay_probability=0.55)
    place.run(tmp_path / "out", config)
    start = FrameModel.load(tmp_path / "out" / START_NAME)
    made = place.made
    assert start.mixtures is None
    assert same_weights(start.generator, made.start)
    said = [log_probs(made.start, made.store.vectors(i)) for i in made.train]
    heard = np.exp(np.concatenate(said, dtype=np.float64)).mean(axis=0)
    np.testing.assert_allclose(start.hmm.prior, heard, atol=1e-5)
    assert (start.hmm.power, start.hmm.stay) == (0.6, 0.55)
    language = learn_language(PhoneText(made.text), 0.0)
    np.testing.assert_array_equal(start.hmm.language.phones, language.phones)
    np.testing.assert_array_equal(
        start.hmm.language.transitions.trigram, language.transitions.trigram
    )


def test_phones_that_are_too_rare_are_not_recognised(place: Place, tmp_path: Path) -> None:
    place.run(tmp_path / "out", tiny(rounds=0, max_hours=LITTLE, min_phone_share=0.05))
    start = FrameModel.load(tmp_path / "out" / START_NAME)
    language = learn_language(PhoneText(place.made.text), 0.05)
    assert len(language.phones) < len(PhoneText(place.made.text).phones) - 1
    np.testing.assert_array_equal(start.hmm.language.phones, language.phones)


def test_the_matchings_own_model_of_frames_is_kept_if_it_has_one(
    place: Place, tmp_path: Path
) -> None:
    matching = write_matching(tmp_path / "matching", place.made.start)
    hmm = frozen(place.made)
    hmm.save(matching / HMM_NAME)
    place.run(tmp_path / "out", tiny(rounds=0, max_hours=LITTLE), matching=matching)
    assert same_hmm(FrameModel.load(tmp_path / "out" / START_NAME).hmm, hmm)
    trained = FrameModel.load(tmp_path / "out").hmm
    np.testing.assert_array_equal(trained.language.phones, hmm.language.phones)
    assert (trained.power, trained.stay) == (0.5, 0.7), "as self-training wants them"


@pytest.mark.parametrize("own", [False, True], ids=["no model of frames", "a model of frames"])
@pytest.mark.parametrize(("method", "stride"), [("none", 1), ("none", 2)])
def test_without_rounds_the_start_is_the_result(
    place: Place, tmp_path: Path, method: str, stride: int, own: bool
) -> None:
    start = place.made.start
    if stride > 1:
        start = Generator(**{**start.settings, "stride": stride}).eval()
    matching = write_matching(tmp_path / "matching", start)
    if own:
        frozen(place.made).save(matching / HMM_NAME)
    work = place.run(tmp_path / "out", tiny(max_hours=LITTLE, method=method), matching=matching)
    assert work.counts == {"rounds": 0}
    found, before = (FrameModel.load(tmp_path / "out" / name) for name in (".", START_NAME))
    assert same_model(found, before)
    assert found.mixtures is None
    assert same_weights(found.generator, start)
    if own:
        assert same_hmm(found.hmm, frozen(place.made))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        (GENERATOR_NAME, HMM_NAME, "model.json", START_NAME)
    )


@pytest.mark.parametrize("method", ["none", "rounds"])
def test_a_generator_of_other_phones_is_refused(place: Place, tmp_path: Path, method: str) -> None:
    matching = write_matching(tmp_path / "matching", place.made.start.only(7))
    with pytest.raises(UserError, match=r"its generator knows 7 phones and .* has 13; run the mat"):
        place.run(tmp_path / "out", tiny(method=method), matching=matching)


def test_a_generator_of_other_segments_is_refused(place: Place, tmp_path: Path) -> None:
    other = Generator(**{**place.made.start.settings, "in_dim": 5})
    matching = write_matching(tmp_path / "matching", other)
    with pytest.raises(UserError, match="does not fit segments of 16 dimensions"):
        place.run(tmp_path / "out", matching=matching)


def test_a_generator_that_has_not_understood_anything_is_told(place: Place, tmp_path: Path) -> None:
    numb = Generator(**place.made.start.settings)
    assert numb.output is not None
    with torch.no_grad():
        numb.output.weight.zero_()
    matching = write_matching(tmp_path / "matching", numb)
    work = place.run(tmp_path / "out", matching=matching)
    assert work.counts["rounds"] == 0
    assert "phones" in work.counts["stopped"]
    kept = load_generator(tmp_path / "out" / GENERATOR_NAME)
    assert same_weights(kept, numb), "poor as it is, it is all there is"
    start = load_generator(tmp_path / "out" / START_NAME / GENERATOR_NAME)
    assert same_weights(start, numb), "what there was before is there to be looked at"


@pytest.mark.parametrize("with_model", [True, False])
def test_a_generator_whose_scores_are_not_finite_is_a_users_error(
    place: Place, tmp_path: Path, with_model: bool
) -> None:
    broken = Generator(**place.made.start.settings)
    with torch.no_grad():
        broken.conv.weight.fill_(float("nan"))
    matching = write_matching(tmp_path / "matching", broken)
    if with_model:
        language = learn_language(PhoneText(place.made.text), 0.0)
        outputs = broken.settings["n_phones"]
        even = np.full(outputs, 1 / outputs, np.float32)
        FrameHmm(language, even, 0.5, 0.5).save(matching / HMM_NAME)
    with pytest.raises(UserError, match="not finite; run the matching stage again"):
        place.run(tmp_path / "out", matching=matching)


# --- what is learned from ---


def changed(segments: PlantedSegments, split: str, seed: int = 0) -> PlantedSegments:
    """Turn the utterances of one split into noise."""
    rng = np.random.default_rng(seed)
    vectors = []
    for i in range(len(segments)):
        own = segments.vectors(i)
        noise = 50 * rng.standard_normal(own.shape).astype(np.float32)
        vectors.append(noise if segments.splits[i] == split else own)
    labels = [segments.labels(i) for i in range(len(segments))]
    return PlantedSegments(vectors, labels, segments.splits)


def without(segments: PlantedSegments, split: str) -> PlantedSegments:
    kept = [i for i in range(len(segments)) if segments.splits[i] != split]
    return PlantedSegments(
        [segments.vectors(i) for i in kept],
        [segments.labels(i) for i in kept],
        [segments.splits[i] for i in kept],
    )


def test_only_the_split_train_is_learned_from(place: Place, tmp_path: Path, hurried: None) -> None:
    planted = place.made.planted
    noise = write_segments(tmp_path / "noise", changed(planted, "test"))
    alone = write_segments(tmp_path / "alone", without(planted, "test"))
    other = write_segments(tmp_path / "other", changed(planted, "train"))
    config = tiny(rounds=1, max_hours=9.0)
    place.run(tmp_path / "plain", config)
    for segments in (noise, alone):
        out = tmp_path / f"{segments.name}_out"
        place.run(out, config, segments=segments)
        for name in (".", START_NAME, "round_00", "round_01"):
            assert same_model(
                FrameModel.load(out / name), FrameModel.load(tmp_path / "plain" / name)
            )
        for name in ("round_00", "round_01"):
            labels = [np.load(at / name / "labels.npy") for at in (out, tmp_path / "plain")]
            np.testing.assert_array_equal(*labels)
    place.run(tmp_path / "other_out", tiny(method="none"), segments=other)
    one, another = (
        FrameModel.load(tmp_path / name / START_NAME) for name in ("plain", "other_out")
    )
    assert not same_model(one, another), "or the comparison would tell nothing"


def test_no_more_hours_are_learned_from_than_allowed(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurried: None
) -> None:
    seen = counted(monkeypatch)
    place.run(tmp_path / "out", tiny(rounds=1, max_hours=LITTLE, synthetic_share=0.0))
    (lessons,) = seen
    store = SegmentStore(place.made.segments)
    number_of = {store.vectors(i).tobytes(): i for i in place.made.train}
    chosen = [number_of[lesson.vectors().tobytes()] for lesson in lessons]
    assert 2 < len(set(chosen)) == len(chosen) < len(place.made.train) / 2
    times = [store.times(i) for i in chosen]
    assert sum(float((item[:, 1] - item[:, 0]).sum()) for item in times) <= LITTLE * 3600


def test_synthetic_speech_is_heard_if_the_matching_has_left_some(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurried: None
) -> None:
    seen = counted(monkeypatch)
    config = tiny(rounds=1, max_hours=LITTLE, synthetic_share=0.25)
    place.run(tmp_path / "with", config)
    matching = write_matching(tmp_path / "matching", place.made.start)
    place.run(tmp_path / "without", config, matching=matching)
    beside, alone = map(len, seen)
    assert beside == alone + 10  # a quarter of 40


# --- interruptions ---


def test_a_stage_that_was_killed_after_a_round_goes_on_with_the_next(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurried: None
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    expected = place.run(whole)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        counted(patch, limit=1)
        place.run(cut)
    assert not (cut / GENERATOR_NAME).exists(), "nothing is finished before all is"
    written = {path: path.stat().st_mtime_ns for path in cut.glob("round_0[01]/*")}
    taught = counted(monkeypatch)
    work = place.run(cut, resumed=True)
    assert len(taught) == 1
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert work.counts == expected.counts
    for name in (".", START_NAME, "round_00", "round_01", "round_02"):
        assert same_model(FrameModel.load(cut / name), FrameModel.load(whole / name))
    assert (cut / "log.jsonl").read_text() == (whole / "log.jsonl").read_text()
