"""Mixtures of planted Gaussians, against a slow plain oracle and on frames they have not seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import norm

from wav2vec_u.runtime.checkpoint import load_checkpoint, save_checkpoint
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.selftrain import mixtures
from wav2vec_u.selftrain.mixtures import (
    LEAST_FRAMES,
    VARIANCE_FLOOR,
    WORST,
    Floats,
    Labelled,
    Mixtures,
)

PHONES, DIM = 5, 6
UNKNOWN = -1
TABLES = ("projection_", "centre_", "weights_", "means_", "variances_")
Utterance = tuple[Floats, NDArray[np.int32]]


def speech(
    lengths: Sequence[int],
    seed: int = 0,
    phones: Sequence[int] = range(PHONES),
    noise: float = 1.0,
) -> list[Utterance]:
    """Draw frames near the centre of their phone; every direction is as noisy as another."""
    centres = 2.5 * np.random.default_rng(99).normal(size=(PHONES, DIM))
    rng = np.random.default_rng(seed)
    made = []
    for length in lengths:
        labels = rng.choice(list(phones), size=length).astype(np.int32)
        vectors = centres[labels] + noise * rng.normal(size=(length, DIM))
        made.append((vectors.astype(np.float32), labels))
    return made


def labelled(made: Sequence[Utterance]) -> Labelled:
    def utterances() -> Iterator[Utterance]:
        yield from made

    return utterances


def fitted(made: Sequence[Utterance], n_phones: int = PHONES, **settings: int) -> Mixtures:
    return Mixtures(**{"context": 0, "dim": 40, "components": 2, **settings}).fit(
        labelled(made), n_phones
    )


def heard(model: Mixtures, vectors: Floats) -> NDArray[np.int64]:
    found: NDArray[np.int64] = model.log_likelihoods(vectors).argmax(axis=1)
    return found


def accuracy(model: Mixtures, made: Sequence[Utterance]) -> float:
    return float(np.concatenate([heard(model, v) == labels for v, labels in made]).mean())


def mean_log_likelihood(model: Mixtures, made: Sequence[Utterance]) -> float:
    """Log-likelihood a frame, of the phones that were said."""
    own = [model.log_likelihoods(v)[np.arange(len(v)), labels] for v, labels in made]
    return float(np.concatenate(own).mean(dtype=np.float64))


def same(one: Mixtures, other: Mixtures) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in TABLES)


def plain_projection(model: Mixtures, vectors: Floats) -> NDArray[np.float64]:
    """Put the neighbours of every frame side by side, and project them, one frame at a time."""
    last = len(vectors) - 1
    rows = []
    for t in range(len(vectors)):
        around = range(t - model.context, t + model.context + 1)
        wide = [float(value) for near in around for value in vectors[min(max(near, 0), last)]]
        rows.append(np.array(wide) @ model.projection_.astype(np.float64) - model.centre_)
    return np.array(rows)


def plain_log_likelihoods(model: Mixtures, vectors: Floats) -> NDArray[np.float64]:
    frames = plain_projection(model, vectors)
    scores = np.full((len(frames), len(model.weights_)), -np.inf)
    for phone, weights in enumerate(model.weights_):
        if weights.sum() == 0:
            continue
        densities = [
            np.log(weight) + norm.logpdf(frames, mean, np.sqrt(variance)).sum(axis=1)
            for weight, mean, variance in zip(
                weights, model.means_[phone], model.variances_[phone], strict=True
            )
        ]
        scores[:, phone] = logsumexp(densities, axis=0)
    return np.maximum(scores, scores.max(axis=1, keepdims=True) - WORST)


# --- what is learned ---


@pytest.mark.parametrize("settings", [{}, {"context": 2, "components": 4}, {"dim": 4}])
def test_planted_phones_come_back_on_frames_that_were_not_seen(settings: dict[str, int]) -> None:
    model = fitted(speech([100] * 20), **settings)
    assert accuracy(model, speech([70] * 10, seed=9)) > 0.97


def test_a_phone_that_sounds_in_several_ways_needs_several_gaussians() -> None:
    def crossed(seed: int) -> list[Utterance]:
        # The phone is the sign of a product of three numbers: mean and covariance tell nothing.
        rng = np.random.default_rng(seed)
        signs = rng.choice([-1, 1], size=(2_000, 3))
        vectors = 3 * signs + rng.normal(size=signs.shape)
        return [(vectors.astype(np.float32), (signs.prod(axis=1) > 0).astype(np.int32))]

    one, several = (fitted(crossed(0), 2, components=count) for count in (1, 12))
    assert accuracy(one, crossed(1)) < 0.7
    assert accuracy(several, crossed(1)) > 0.97


def test_the_projection_goes_where_phones_differ_and_not_where_frames_do() -> None:
    def loud(seed: int) -> list[Utterance]:
        # The first number is loud and says nothing; the second whispers the phone.
        rng = np.random.default_rng(seed)
        labels = rng.integers(2, size=800).astype(np.int32)
        vectors = np.stack([20 * rng.normal(size=800), labels + 0.2 * rng.normal(size=800)], axis=1)
        return [(vectors.astype(np.float32), labels)]

    model = fitted(loud(0), 2, dim=1)
    assert model.projection_.shape == (2, 1)
    (first,), (second,) = np.abs(model.projection_)
    # The first number alone has a standard deviation of 20: what it adds is next to nothing.
    assert 20 * first < 0.2 * second
    assert accuracy(model, loud(1)) > 0.97


def test_the_best_direction_comes_first() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=3_000).astype(np.int32)
    vectors = rng.normal(size=(3_000, 4))
    vectors[:, 1] += 3 * (labels == 0)
    vectors[:, 2] += 30 * (labels == 1)
    model = fitted([(vectors.astype(np.float32), labels)], 3, dim=2)
    assert np.abs(model.projection_).argmax(axis=0).tolist() == [2, 1]


def test_projected_frames_have_mean_zero_and_variance_one() -> None:
    made = [(100 + 7 * vectors, labels) for vectors, labels in speech([100] * 20)]
    model = fitted(made, context=1, dim=5)
    frames = np.concatenate([plain_projection(model, vectors) for vectors, _ in made])
    assert frames.shape[1] == 5
    np.testing.assert_allclose(frames.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(frames.var(axis=0), 1, atol=0.02)


def test_neighbours_help_where_the_phone_depends_on_them() -> None:
    def delayed(seed: int) -> list[Utterance]:
        # A frame carries the label of what was said just before it.
        return [(vectors[1:], labels[:-1]) for vectors, labels in speech([80] * 20, seed=seed)]

    blind, seeing = (fitted(delayed(0), context=context) for context in (0, 1))
    unseen = delayed(9)
    assert accuracy(blind, unseen) < 0.4
    assert accuracy(seeing, unseen) > 0.95


# --- against the oracle ---


@pytest.mark.parametrize(
    ("context", "dim", "components"), [(0, 40, 1), (0, 3, 8), (2, 10, 3), (3, 1, 2)]
)
def test_log_likelihoods_are_those_of_weighted_normal_densities(
    context: int, dim: int, components: int
) -> None:
    # Phone 2 is never heard.
    made = speech([90] * 10, phones=[0, 1, 3, 4])
    model = fitted(made, context=context, dim=dim, components=components)
    vectors = speech([1, 2, 25], seed=3)
    for frames in [2.0 * rows for rows, _ in vectors] + [rows for rows, _ in vectors]:
        found = model.log_likelihoods(frames.astype(np.float32))
        assert found.dtype == np.float32
        np.testing.assert_allclose(
            found, plain_log_likelihoods(model, frames), rtol=1e-4, atol=2e-3
        )


def test_weights_are_shares_and_variances_have_a_floor() -> None:
    made = speech([100] * 10)
    constant = (np.full((200, DIM), 3.0, np.float32), np.zeros(200, np.int32))
    without_noise = [(v[labels > 0], labels[labels > 0]) for v, labels in made]
    several = fitted([*without_noise, constant], components=3)
    np.testing.assert_allclose(several.weights_.sum(axis=1), 1, atol=1e-5)
    assert several.variances_.min() >= np.float32(VARIANCE_FLOOR)
    model = fitted([*without_noise, constant], components=1)
    # Five frames' worth of the variance of all frames, in 200, would be less.
    np.testing.assert_array_equal(model.variances_[0], np.float32(VARIANCE_FLOOR))
    assert heard(model, constant[0][:1]).tolist() == [0]


def test_dimensions_are_at_most_those_there_are() -> None:
    made = speech([100] * 10)
    assert fitted(made, dim=40).projection_.shape == (DIM, DIM)
    assert fitted(made, dim=40, context=1).projection_.shape == (3 * DIM, 3 * DIM)
    assert fitted(made, dim=2, context=1).projection_.shape == (3 * DIM, 2)


def test_iterations_make_the_training_frames_likelier(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    made = []
    for vectors, labels in speech([150] * 20):
        # Phones of several bumps, so that there is something to find.
        bumps = 2 * rng.choice([-1, 1], size=vectors.shape)
        made.append(((vectors + bumps).astype(np.float32), labels))
    found = []
    for count in range(8):
        monkeypatch.setattr(mixtures, "ITERATIONS", count)
        found.append(mean_log_likelihood(fitted(made, components=4), made))
    # The weight of all frames' variance in that of a component may cost a trifle.
    assert min(np.diff(found)) > -1e-3
    assert found[-1] > found[0] + 0.1


# --- labels that are not known, and phones that are hardly heard ---


def test_what_stands_at_unknown_labels_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    clean, strange = [], []
    for vectors, labels in speech([100] * 12):
        hidden = rng.random(len(labels)) < 0.3
        partly = np.where(hidden, UNKNOWN, labels).astype(np.int32)
        garbage = vectors.copy()
        garbage[hidden] = 1e4 * rng.normal(size=(int(hidden.sum()), DIM))
        clean.append((vectors, partly))
        strange.append((garbage, partly))
    # Of this utterance nothing at all is known.
    strange.append((np.full((9, DIM), 1e4, np.float32), np.full(9, UNKNOWN, np.int32)))
    assert same(fitted(clean), fitted(strange))


def test_a_phone_needs_frames_enough() -> None:
    made = speech([200] * 5, phones=[0, 1, 2])
    few, enough = (
        [*made, *speech([count], phones=[3])] for count in (LEAST_FRAMES - 1, LEAST_FRAMES)
    )
    unseen = speech([100], seed=9, phones=[3])
    assert accuracy(fitted(enough), unseen) > 0.97
    model = fitted(few)
    assert (model.weights_.sum(axis=1) > 0).tolist() == [True, True, True, False, False]
    scores = model.log_likelihoods(unseen[0][0])
    assert accuracy(model, unseen) == 0
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores[:, 3], scores.max(axis=1) - WORST, rtol=1e-6)


def test_no_phone_is_further_below_the_best_than_the_worst_may_be() -> None:
    far = speech([100] * 10, noise=0.5)
    scores = fitted(far).log_likelihoods(far[0][0])
    below = scores.max(axis=1, keepdims=True) - scores
    assert below.max() == pytest.approx(WORST, abs=1e-3)
    assert 0.1 < (below > WORST - 1e-3).mean() < 1


@pytest.mark.parametrize(
    ("made", "count"),
    [
        (speech([300], phones=[2]), 1),
        (speech([300], phones=[2]) + speech([LEAST_FRAMES - 1], phones=[4]), 1),
        ([(vectors, np.full_like(labels, UNKNOWN)) for vectors, labels in speech([80])], 0),
    ],
    ids=["one phone", "another too rare", "nothing known"],
)
def test_fewer_than_two_phones_are_too_few(made: list[Utterance], count: int) -> None:
    with pytest.raises(UserError, match=rf"only {count} of 5 phones have {LEAST_FRAMES} labelled"):
        fitted(made)


# --- edges ---


@pytest.mark.parametrize("context", [0, 2])
def test_an_empty_utterance_has_no_likelihoods(context: int) -> None:
    model = fitted(speech([100] * 10), context=context)
    found = model.log_likelihoods(np.zeros((0, DIM), np.float32))
    assert found.shape == (0, PHONES)
    assert found.dtype == np.float32


@pytest.mark.parametrize("context", [0, 2])
def test_empty_utterances_among_others_teach_nothing(context: int) -> None:
    made = speech([100] * 10)
    empty = (np.zeros((0, DIM), np.float32), np.zeros(0, np.int32))
    assert same(fitted(made, context=context), fitted([empty, *made, empty], context=context))


def test_utterances_shorter_than_the_context_are_heard() -> None:
    model = fitted(speech([100] * 10), context=3)
    for length in (1, 2):
        ((vectors, _),) = speech([length], seed=4)
        assert np.isfinite(model.log_likelihoods(vectors)).all()


def test_work_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = speech([130] * 10)
    whole = fitted(made, components=3)
    monkeypatch.setattr(mixtures, "BLOCK", 50)
    pieces = fitted(made, components=3)
    for name in TABLES:
        np.testing.assert_allclose(getattr(pieces, name), getattr(whole, name), atol=2e-3)
    for vectors, _ in speech([1, 50, 101], seed=5):
        np.testing.assert_allclose(
            whole.log_likelihoods(vectors), plain_log_likelihoods(whole, vectors), atol=2e-3
        )


def test_what_is_given_is_not_changed() -> None:
    made = speech([100] * 10)
    before = [(vectors.copy(), labels.copy()) for vectors, labels in made]
    fitted(made, context=1).log_likelihoods(made[0][0])
    for now, then in zip(made, before, strict=True):
        np.testing.assert_array_equal(now[0], then[0])
        np.testing.assert_array_equal(now[1], then[1])


# --- seeds and files ---


def test_the_same_seed_learns_the_same_and_another_seed_something_else() -> None:
    made = speech([100] * 10)
    first = fitted(made, components=4)
    np.random.seed(5)  # noqa: NPY002
    assert same(first, fitted(made, components=4))
    other = fitted(made, components=4, seed=1)
    np.testing.assert_array_equal(first.projection_, other.projection_)
    assert not np.array_equal(first.means_, other.means_)


def test_saved_mixtures_say_the_same_numbers(tmp_path: Path) -> None:
    model = fitted(speech([100] * 10, phones=[0, 1, 3]), context=2, dim=7, components=3, seed=4)
    path = tmp_path / "mixtures.safetensors"
    model.save(path)
    loaded = Mixtures.load(path)
    assert same(model, loaded)
    settings = (loaded.context, loaded.dim, loaded.components, loaded.seed)
    assert settings == (2, 7, 3, 4)
    for vectors, _ in speech([1, 40], seed=3):
        np.testing.assert_array_equal(
            model.log_likelihoods(vectors), loaded.log_likelihoods(vectors)
        )


def test_missing_or_damaged_mixtures_are_a_users_error(tmp_path: Path) -> None:
    path = tmp_path / "mixtures.safetensors"
    with pytest.raises(UserError, match=r"mixtures\.safetensors"):
        Mixtures.load(path)
    fitted(speech([100] * 10)).save(path)
    whole = path.read_bytes()
    for content in (b"", whole[:60], whole[:-4], b"no safetensors"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"mixtures\.safetensors"):
            Mixtures.load(path)


@pytest.mark.parametrize(
    "name", ["context", "components", "projection", "centre", "weights", "means", "variances"]
)
def test_mixtures_that_lack_a_part_or_do_not_fit_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "mixtures.safetensors"
    fitted(speech([100] * 10)).save(path)
    state = load_checkpoint(path)
    refused = r"holds no mixtures; run the self-training again"
    save_checkpoint(path, {key: value for key, value in state.items() if key != name})
    with pytest.raises(UserError, match=refused):
        Mixtures.load(path)
    if name not in ("context", "components"):
        save_checkpoint(path, {**state, name: state[name][..., :-1]})
        with pytest.raises(UserError, match=refused):
            Mixtures.load(path)
        save_checkpoint(path, {**state, name: 0.5})
        with pytest.raises(UserError, match=refused):
            Mixtures.load(path)
