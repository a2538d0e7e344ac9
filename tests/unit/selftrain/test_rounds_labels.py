"""The labels that a round leaves to the next, and those that tell nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from half_understood import tiny
from numpy.typing import NDArray
from round_folders import labels_of, place_of
from voice_learner import FEW, Learner, model_of, same_model

from wav2vec_u.graph.parallel import SearchSettings
from wav2vec_u.graph.search import Found
from wav2vec_u.matching.frame_hmm import PAUSE
from wav2vec_u.matching.frame_teacher import UNKNOWN
from wav2vec_u.matching.generator import Generator
from wav2vec_u.selftrain import rounds
from wav2vec_u.selftrain.frame_model import FrameModel
from wav2vec_u.selftrain.rounds import FIGURES_NAME, Collapsed, SelfTraining

# --- what is labelled ---


def test_without_words_a_label_is_the_best_phone_where_the_model_is_sure(
    learner: Learner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "BLOCK_SEGMENTS", 500)  # several blocks
    learner.quick(tmp_path, config=tiny(rounds=0, sure=0.95)).run(resume=False)
    model = model_of(tmp_path, 0)
    expected = []
    for i in learner.few:
        (posteriors,) = model.read([learner.made.store.vectors(i)])
        sure = posteriors.max(axis=1) > 0.95
        expected.append(np.where(sure, posteriors.argmax(axis=1), UNKNOWN))
    labels = labels_of(tmp_path, 0)
    assert labels.dtype == np.int32
    assert 0.02 < (labels == UNKNOWN).mean() < 0.8
    assert (labels == PAUSE).any(), "a pause is a label like others"
    # A posterior at the bound may round to either side in another batch.
    assert (labels == np.concatenate(expected)).mean() > 0.999


def test_with_words_a_label_is_the_phone_that_is_likely_whatever_the_words(
    learner: Learner, tmp_path: Path
) -> None:
    pytest.importorskip("kaldifst", reason="the extra `decode` is not installed")
    graph = learner.made.build_graph()
    config = tiny(rounds=0, word_sure=0.6)
    learner.quick(tmp_path, config=config, graph=graph).run(resume=False)
    model, search = model_of(tmp_path, 0), graph.open()
    expected = []
    for i in learner.few:
        found = search.find(model.likelihoods(learner.made.store.vectors(i)))
        assert found is not None
        expected += [int(row.argmax()) if row.max() > 0.6 else UNKNOWN for row in found.posteriors]
    labels = labels_of(tmp_path, 0)
    assert labels.dtype == np.int32
    assert 0.01 < (labels == UNKNOWN).mean() < 0.8
    assert (labels == expected).mean() > 0.999


def test_an_utterance_without_words_is_left_unknown(
    learner: Learner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(
        graph: SearchSettings, scores: Iterable[NDArray[np.float32]], threads: int
    ) -> Iterator[Found | None]:
        assert graph is nowhere
        assert threads == 2
        for number, rows in enumerate(scores):
            best = rows.argmax(axis=1).astype(np.int32)
            sure = np.eye(rows.shape[1], dtype=np.float32)[best]
            begun = np.ones(len(rows), bool)
            yield None if number == 1 else Found((), best, begun, sure)

    nowhere = SearchSettings(tmp_path / "nowhere", 12.0, 6.0, 4000)
    monkeypatch.setattr(rounds, "find_all", found)
    config = tiny(rounds=0, word_sure=0.0)
    learner.quick(tmp_path, config=config, graph=nowhere, threads=2).run(resume=False)
    ends = np.cumsum([learner.made.store.length(i) for i in learner.few])
    labels = np.split(labels_of(tmp_path, 0), ends[:-1])
    assert (labels[1] == UNKNOWN).all()
    assert [(own == UNKNOWN).mean() < 0.5 for own in labels] == [i != 1 for i in range(FEW)]


def test_threads_and_blocks_change_no_label(
    learner: Learner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(rounds=0)
    learner.quick(tmp_path / "one", config=config).run(resume=False)
    monkeypatch.setattr(rounds, "BLOCK_SEGMENTS", 1)
    learner.quick(tmp_path / "two", config=config, threads=2).run(resume=False)
    one, two = (labels_of(tmp_path / name, 0) for name in ("one", "two"))
    assert (one == two).mean() > 0.999


def test_empty_utterances_stand_among_others(
    learner: Learner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurried: None
) -> None:
    store = learner.made.store
    vectors, length = store.vectors, store.length
    empty = learner.few[3]
    monkeypatch.setattr(store, "vectors", lambda i: vectors(i)[:0] if i == empty else vectors(i))
    monkeypatch.setattr(store, "length", lambda i: 0 if i == empty else length(i))
    learner.quick(tmp_path, config=tiny(rounds=1)).run(resume=False)
    others = sum(length(i) for i in learner.few if i != empty)
    assert len(labels_of(tmp_path, 1)) == others


# --- labels that tell nothing ---


def test_a_generator_that_says_one_phone_only_has_collapsed(
    learner: Learner, tmp_path: Path
) -> None:
    numb = Generator(**learner.made.start.settings).eval()
    assert numb.output is not None
    with torch.no_grad():
        numb.output.weight.zero_()
        numb.output.bias[5] = 9.0
    with pytest.raises(Collapsed, match="fewer than 2 phones"):
        learner.quick(tmp_path, start=numb).run(resume=False)


def test_labels_of_a_few_phones_have_collapsed(
    learner: Learner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurried: None
) -> None:
    def hear_two(self: SelfTraining, model: FrameModel) -> list[NDArray[np.int32]]:
        lengths = [learner.made.store.length(i) for i in learner.few]
        return [np.arange(length, dtype=np.int32) % 2 + 3 for length in lengths]

    monkeypatch.setattr(SelfTraining, "hear", hear_two)
    training = learner.quick(tmp_path)
    best = training.run(resume=False)
    assert same_model(best, FrameModel.load(place_of(tmp_path, 0))), "the round before is kept"
    assert training.summary()["rounds"] == 0
    assert "collapsed" in str(training.summary()["stopped"])
    assert not (place_of(tmp_path, 1) / FIGURES_NAME).exists()
    with pytest.raises(Collapsed, match=r"labels have collapsed: .* as 2\.0 phones"):
        training._check_variety(training._labels(0))


def test_pauses_and_unknown_labels_are_no_variety(
    learner: Learner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurried: None
) -> None:
    def hear(self: SelfTraining, model: FrameModel) -> list[NDArray[np.int32]]:
        # One phone, and pauses and frames that nobody knows.
        lengths = [learner.made.store.length(i) for i in learner.few]
        return [np.array([UNKNOWN, PAUSE, 4], np.int32)[np.arange(n) % 3] for n in lengths]

    monkeypatch.setattr(SelfTraining, "hear", hear)
    training = learner.quick(tmp_path)
    training.run(resume=False)
    with pytest.raises(Collapsed, match=r"as varied as 1\.0 phones"):
        training._check_variety(training._labels(0))
