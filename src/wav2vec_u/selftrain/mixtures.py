"""Gaussian mixtures of phones: a second opinion, which errs in other places than the generator.

Frames with their neighbours are projected to where phones differ most (linear discriminant
analysis; Haeb-Umbach and Ney 1992), and every phone becomes a mixture of Gaussians with diagonal
covariance, by expectation-maximisation over the frames that carry its label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh

from wav2vec_u.runtime.checkpoint import load_checkpoint, save_checkpoint
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.seeds import numpy_generator

Floats = NDArray[np.float32]
Labelled = Callable[[], Iterable[tuple[Floats, NDArray[np.int32]]]]

LEAST_FRAMES = 50  # of a phone, for a mixture of its own
ITERATIONS = 6
BLOCK = 20_000  # frames that are weighed at once, which bounds the memory
RIDGE = 1e-3  # of the mean variance, where the frames hardly vary
PRIOR_FRAMES = 5.0  # weight of the variance of all frames in that of a component
VARIANCE_FLOOR = 0.05  # of the variance of all frames
WORST = 40.0  # nats below the best phone of a frame; none is more impossible than that


class Mixtures:
    """Mixtures of Gaussians over projected frames.

    Parameters
    ----------
    context : int
        Frames before and after that are seen with a frame.
    dim : int
        Dimension after the projection, at most.
    components : int
        Gaussians a phone.
    seed : int

    Attributes
    ----------
    projection_ : ndarray, shape ((2 * context + 1) * P, D), float32
        To coordinates of mean 0 and variance 1.
    centre_ : ndarray, shape (D,), float32
    weights_ : ndarray, shape (V, C), float32
        Shares of the components; all 0 for a phone with too few frames.
    means_, variances_ : ndarray, shape (V, C, D), float32
    """

    projection_: Floats
    centre_: Floats
    weights_: Floats
    means_: Floats
    variances_: Floats

    def __init__(self, context: int = 3, dim: int = 40, components: int = 8, seed: int = 0) -> None:
        self.context = context
        self.dim = dim
        self.components = components
        self.seed = seed

    def fit(self, utterances: Labelled, n_phones: int) -> Mixtures:
        """Learn projection and mixtures.

        Parameters
        ----------
        utterances : callable
            Each call returns a fresh iterable of the vectors (S, P) of an utterance and their
            labels (S,); negative ones are unknown, and passed over. It is called twice. The
            projected frames are held in memory.
        n_phones : int
            V.

        Raises
        ------
        UserError
            If fewer than two phones have enough labelled frames.
        """
        self._learn_projection(utterances, n_phones)
        blocks = [
            (self._project(vectors)[labels >= 0], labels[labels >= 0])
            for vectors, labels in utterances()
        ]
        frames = np.concatenate([block for block, _ in blocks])  # (N, D)
        labels = np.concatenate([block for _, block in blocks])  # (N,)
        self._start(frames, labels, n_phones)
        for _ in range(ITERATIONS):
            self._improve(frames, labels)
        return self

    def log_likelihoods(self, vectors: Floats) -> Floats:
        """Return the log-likelihoods of the frames of an utterance under every phone, (S, V).

        Parameters
        ----------
        vectors : (S, P) float32
        """
        if len(vectors) == 0:
            return np.zeros((0, len(self.weights_)), np.float32)
        frames = self._project(vectors)
        scores = np.full((len(frames), len(self.weights_)), -np.inf, np.float32)
        known = np.flatnonzero(self.weights_.sum(axis=1) > 0)
        for first in range(0, len(frames), BLOCK):
            densities = self._densities(frames[first : first + BLOCK], known)  # (S, K, C)
            scores[first : first + BLOCK, known] = densities.logsumexp(-1).numpy()
        floor = scores.max(axis=1, keepdims=True) - WORST
        floored: Floats = np.maximum(scores, floor)
        return floored

    def save(self, path: Path) -> None:
        """Write the mixtures to one safetensors file."""
        save_checkpoint(
            path,
            {
                "context": self.context,
                "dim": self.dim,
                "components": self.components,
                "seed": self.seed,
                "projection": torch.from_numpy(self.projection_),
                "centre": torch.from_numpy(self.centre_),
                "weights": torch.from_numpy(self.weights_),
                "means": torch.from_numpy(self.means_),
                "variances": torch.from_numpy(self.variances_),
            },
        )

    @classmethod
    def load(cls, path: Path) -> Mixtures:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If the file is missing, damaged, or holds no mixtures.
        """
        state = load_checkpoint(path)
        try:
            mixtures = cls(state["context"], state["dim"], state["components"], state["seed"])
            mixtures.projection_ = state["projection"].numpy()
            mixtures.centre_ = state["centre"].numpy()
            mixtures.weights_ = state["weights"].numpy()
            mixtures.means_ = state["means"].numpy()
            mixtures.variances_ = state["variances"].numpy()
            fits = (
                mixtures.means_.shape
                == mixtures.variances_.shape
                == (*mixtures.weights_.shape, len(mixtures.centre_))
            )
            if not fits or mixtures.projection_.shape[1:] != mixtures.centre_.shape:
                raise ValueError("its tables do not fit each other")
            return mixtures
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path}: holds no mixtures; run the self-training again") from error

    def _learn_projection(self, utterances: Labelled, n_phones: int) -> None:
        """Find the directions in which the means of phones differ most, measured by the spread.

        Within and between are those of the generalised eigenvalue problem of discriminant analysis.
        """
        counts = np.zeros(n_phones)
        sums: NDArray[np.float64] | float = 0.0  # (V, W)
        squares: NDArray[np.float64] | float = 0.0  # (W, W)
        for vectors, labels in utterances():
            if len(vectors) == 0:
                continue
            wide = self._with_context(vectors)[labels >= 0]
            kept = labels[labels >= 0]
            counts += np.bincount(kept, minlength=n_phones)
            members = torch.zeros(len(kept), n_phones)
            members[torch.arange(len(kept)), torch.from_numpy(kept.astype(np.int64))] = 1
            # By torch, whose threads do not wait busily as NumPy's do.
            sums = sums + (members.T @ wide).numpy().astype(np.float64)
            squares = squares + (wide.T @ wide).numpy().astype(np.float64)
        known = counts >= LEAST_FRAMES
        if known.sum() < 2:
            raise UserError(
                f"selftrain: only {int(known.sum())} of {n_phones} phones have {LEAST_FRAMES} "
                "labelled segments; give it more recordings, or set selftrain.method to none"
            )
        sums, total = np.asarray(sums), counts.sum()
        mean = sums.sum(axis=0) / total
        spread = np.asarray(squares) / total - np.outer(mean, mean)
        offsets = sums[known] / counts[known, None] - mean
        between = (offsets.T * counts[known]) @ offsets / total
        within = spread - between
        within += RIDGE * np.trace(spread) / len(spread) * np.eye(len(spread))
        dim = min(self.dim, len(spread))
        _, directions = eigh(between, within, subset_by_index=(len(spread) - dim, len(spread) - 1))
        directions = directions[:, ::-1]  # (W, D), the best first
        scale = np.sqrt(np.maximum(((directions.T @ spread) * directions.T).sum(axis=1), 1e-12))
        projection = directions / scale
        self.projection_ = np.ascontiguousarray(projection, dtype=np.float32)
        self.centre_ = (mean @ projection).astype(np.float32)

    def _with_context(self, vectors: Floats) -> torch.Tensor:
        """Put the neighbours beside every frame, (S, W); the outermost are repeated."""
        padded = np.pad(vectors, ((self.context, self.context), (0, 0)), mode="edge")
        windows = torch.from_numpy(padded).unfold(0, 2 * self.context + 1, 1)  # (S, P, 2c + 1)
        return windows.transpose(1, 2).flatten(1)

    def _project(self, vectors: Floats) -> Floats:
        if len(vectors) == 0:
            return np.zeros((0, len(self.centre_)), np.float32)
        moved = self._with_context(vectors) @ torch.from_numpy(self.projection_)
        projected: Floats = (moved - torch.from_numpy(self.centre_)).numpy()
        return projected

    def _start(self, frames: Floats, labels: NDArray[np.int32], n_phones: int) -> None:
        """Put the components of a phone halfway between its mean and frames of it, at random."""
        rng = numpy_generator(self.seed, "mixtures")
        shape = (n_phones, self.components, frames.shape[1])
        self.weights_ = np.zeros(shape[:2], np.float32)
        self.means_ = np.zeros(shape, np.float32)
        self.variances_ = np.ones(shape, np.float32)
        for phone in range(n_phones):
            own = frames[labels == phone]
            if len(own) < LEAST_FRAMES:
                continue
            drawn = own[rng.choice(len(own), self.components, replace=len(own) < self.components)]
            self.weights_[phone] = 1 / self.components
            self.means_[phone] = (own.mean(axis=0) + drawn) / 2
            self.variances_[phone] = np.maximum(own.var(axis=0), VARIANCE_FLOOR)

    def _improve(self, frames: Floats, labels: NDArray[np.int32]) -> None:
        """Do one step of expectation-maximisation, phone by phone."""
        for phone in np.flatnonzero(self.weights_.sum(axis=1) > 0):
            own = torch.from_numpy(frames[labels == phone])  # (N, D)
            counts = torch.zeros(self.components)
            sums = torch.zeros(self.components, own.shape[1])
            squares = torch.zeros(self.components, own.shape[1])
            for block in torch.tensor_split(own, max(1, len(own) // BLOCK)):
                shares = self._densities(block.numpy(), np.array([phone]))[:, 0].softmax(-1)
                counts += shares.sum(0)
                sums += shares.T @ block
                squares += shares.T @ block.square()
            filled = counts.clamp(min=1e-3)[:, None]  # (C, 1)
            means = sums / filled
            # All frames together have variance 1 in every direction.
            variances = (squares / filled - means.square()) * filled + PRIOR_FRAMES
            self.means_[phone] = means.numpy()
            self.variances_[phone] = (
                (variances / (filled + PRIOR_FRAMES)).clamp(min=VARIANCE_FLOOR).numpy()
            )
            self.weights_[phone] = (filled[:, 0] / filled.sum()).numpy()

    def _densities(self, frames: Floats, phones: NDArray[np.intp]) -> torch.Tensor:
        """Return the log-density of every component times its share, (S, K, C)."""
        points = torch.from_numpy(frames)
        means = torch.from_numpy(self.means_[phones]).flatten(0, 1)  # (K * C, D)
        variances = torch.from_numpy(self.variances_[phones]).flatten(0, 1)
        inverse = 1 / variances
        distances = points.square() @ inverse.T - 2 * points @ (means * inverse).T
        distances += (means.square() * inverse).sum(1)
        constants = (2 * np.pi * variances).log().sum(1)
        shares = torch.from_numpy(self.weights_[phones]).flatten().clamp(min=1e-10).log()
        densities = shares - 0.5 * (distances + constants)
        return densities.reshape(len(points), len(phones), self.components)
