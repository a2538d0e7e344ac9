"""What everything with `fit` promises, checked on all of it in one loop."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from wav2vec_u.config import SegmentsConfig
from wav2vec_u.segments.kmeans import KMeans
from wav2vec_u.segments.pca import PCA
from wav2vec_u.segments.segmenter import Segmenter

FRAMES = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)
OTHER_FRAMES = 3 * np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32)


class MemoryFrames:
    """What `Segmenter.fit` reads, from one array cut into utterances."""

    frame_rate_hz = 100.0

    def __init__(self, frames: np.ndarray) -> None:
        self._utterances = np.array_split(frames, 4)
        self.splits = ["train"] * 4

    def __len__(self) -> int:
        return len(self._utterances)

    def frames(self, i: int) -> np.ndarray:
        return self._utterances[i]


@dataclass(frozen=True)
class Case:
    """One estimator: how it is made, what it learns from, how it is used."""

    make: Callable[[], Any]
    data: Callable[[np.ndarray], Any]
    use: Callable[[Any, np.ndarray], Any]


def as_blocks(frames: np.ndarray) -> Any:
    return lambda: np.array_split(frames, 3)


CASES = {
    "KMeans.predict": Case(lambda: KMeans(5, seed=3), as_blocks, lambda e, x: e.predict(x)),
    "KMeans.distances": Case(lambda: KMeans(5, seed=3), as_blocks, lambda e, x: e.distances(x)),
    "PCA": Case(lambda: PCA(2), as_blocks, lambda e, x: e.transform(x)),
    "Segmenter": Case(
        lambda: Segmenter(SegmentsConfig(clusters=5, pca_dim=2, seed=3)),
        MemoryFrames,
        lambda e, x: e.transform(x),
    ),
}
every_estimator = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def plain(value: Any) -> Any:
    """Turn results and learned state into something that can be compared exactly."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if hasattr(value, "__dict__") and type(value).__module__.startswith("wav2vec_u.segments"):
        return {name: plain(item) for name, item in vars(value).items()}
    return value


def parameters(estimator: Any) -> dict[str, Any]:
    names = inspect.signature(type(estimator)).parameters
    return {name: getattr(estimator, name) for name in names}


@every_estimator
def test_fit_returns_self(case: Case) -> None:
    estimator = case.make()
    assert estimator.fit(case.data(FRAMES)) is estimator


@every_estimator
def test_constructing_only_stores_parameters(case: Case) -> None:
    estimator = case.make()
    assert set(vars(estimator)) == set(parameters(estimator))


@every_estimator
def test_learned_state_ends_in_an_underscore(case: Case) -> None:
    estimator = case.make()
    before = dict(vars(estimator))
    estimator.fit(case.data(FRAMES))
    learned = set(vars(estimator)) - set(before)
    assert learned
    assert all(name.endswith("_") and not name.startswith("_") for name in learned)
    assert {name: vars(estimator)[name] for name in before} == before


@every_estimator
def test_use_before_fit_is_refused(case: Case) -> None:
    with pytest.raises(RuntimeError, match="call fit first"):
        case.use(case.make(), FRAMES)


@every_estimator
def test_use_learns_nothing(case: Case) -> None:
    estimator = case.make().fit(case.data(FRAMES))
    state = copy.deepcopy(plain(estimator))
    first = plain(case.use(estimator, FRAMES))
    case.use(estimator, OTHER_FRAMES)
    assert plain(estimator) == state
    assert plain(case.use(estimator, FRAMES)) == first


@every_estimator
def test_use_leaves_its_input_alone(case: Case) -> None:
    frames = FRAMES.copy()
    estimator = case.make().fit(case.data(frames))
    case.use(estimator, frames)
    np.testing.assert_array_equal(frames, FRAMES)


@every_estimator
def test_same_seed_same_result(case: Case) -> None:
    one = case.make().fit(case.data(FRAMES))
    other = case.make().fit(case.data(FRAMES))
    assert plain(one) == plain(other)
    assert plain(case.use(one, OTHER_FRAMES)) == plain(case.use(other, OTHER_FRAMES))


@every_estimator
def test_a_clone_by_parameters_learns_the_same(case: Case) -> None:
    fitted = case.make().fit(case.data(FRAMES))
    clone = type(fitted)(**parameters(fitted))
    assert parameters(clone) == parameters(fitted)
    with pytest.raises(RuntimeError, match="call fit first"):
        case.use(clone, FRAMES)
    assert plain(clone.fit(case.data(FRAMES))) == plain(fitted)


@every_estimator
def test_fit_forgets_what_was_learned_before(case: Case) -> None:
    again = case.make().fit(case.data(OTHER_FRAMES)).fit(case.data(FRAMES))
    assert plain(again) == plain(case.make().fit(case.data(FRAMES)))
