"""Which block to take, asked without labels.

Phones leave traces in the codes of a clustering: they last for some frames, they follow one another
as the language has it, and they are the same in every half of the data. Each trace gives a score;
what is chosen is the block whose standardised scores are highest on average.

The paper chooses by labels (section 3.1); `stage` measures how much is lost without them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from wav2vec_u.features.moments import STD_FLOOR, Moments
from wav2vec_u.probe.linear_ctc import Frames
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.seeds import numpy_generator
from wav2vec_u.segments.kmeans import KMeans
from wav2vec_u.text.ngram import NgramModel

NEAR_SECONDS = 0.06  # most phones last longer
STEP_SECONDS = 0.1  # about the length of a phone
FAR_SECONDS = 0.5  # no phone lasts so long; voices and recordings do
HELD_OUT_SHARE = 0.2
MIN_UTTERANCES = 10

Codes = npt.NDArray[np.int32]  # (T,)
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class BlockScores:
    """Scores of one block; the higher, the more of the phones its clusters hold.

    Attributes
    ----------
    predictability : float
        Bits that an n-gram model of codes `STEP_SECONDS` apart saves over a unigram model, for each
        code of utterances that neither was estimated on; less what it saves on codes
        `FAR_SECONDS` apart.
    stability : float
        Normalised mutual information, 0 to 1, of two clusterings of the same held-out frames that
        were learned from disjoint halves of the data.
    persistence : float
        Mutual information of codes `NEAR_SECONDS` apart less that of codes `FAR_SECONDS` apart,
        bits. What lasts longer than a phone, such as the voice, counts in both.

    Notes
    -----
    Runs of equal codes are not merged for the n-grams. Noise makes the codes of one phone
    alternate, merged runs of them are many and easy to predict, and noisy blocks score high
    (measured). One code in `STEP_SECONDS` leaves phones in their order, and does not care into how
    many clusters a phone falls.
    """

    predictability: float
    stability: float
    persistence: float


@dataclass(frozen=True)
class LayerChoice:
    """Scores of every block, and the block they speak for.

    Attributes
    ----------
    scores : dict of str to BlockScores
    combined : dict of str to float
        Average of the scores, each standardised over the blocks.
    chosen : str
    """

    scores: dict[str, BlockScores]
    combined: dict[str, float]
    chosen: str


def choose_layer(
    blocks: Mapping[str, Sequence[Frames]],
    frame_rate_hz: float,
    *,
    clusters: int = 100,
    ngram_order: int = 3,
    seed: int = 0,
) -> LayerChoice:
    """Score blocks by their frames alone, and choose one.

    Parameters
    ----------
    blocks : mapping of str to sequence of (T, D) arrays
        Frames of the same utterances, block by block. Some ten minutes are enough.
    frame_rate_hz : float
        Frames a second.
    clusters : int
        Codes of a clustering.
    ngram_order : int
    seed : int
        Of the halves and the clusterings.

    Raises
    ------
    UserError
        If there are fewer than ten utterances, or fewer frames than clusters in half of them.
    """
    scores = {
        name: score_block(
            frames, frame_rate_hz, clusters=clusters, ngram_order=ngram_order, seed=seed
        )
        for name, frames in blocks.items()
    }
    table = np.array([list(asdict(score).values()) for score in scores.values()])  # (blocks, 3)
    spread = table.std(axis=0)
    standardised = (table - table.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    combined = dict(zip(scores, standardised.mean(axis=1).tolist(), strict=True))
    return LayerChoice(scores, combined, max(combined, key=lambda name: combined[name]))


def score_block(
    frames: Sequence[Frames],
    frame_rate_hz: float,
    *,
    clusters: int = 100,
    ngram_order: int = 3,
    seed: int = 0,
) -> BlockScores:
    """Score one block; see `choose_layer`."""
    spoken = [item for item in frames if len(item)]
    if len(spoken) < MIN_UTTERANCES:
        raise UserError(
            f"probe.label_free_minutes: the choice of a layer needs {MIN_UTTERANCES} utterances, "
            f"not {len(spoken)}; give more audio"
        )
    order = numpy_generator(seed, "layer choice", "halves").permutation(len(spoken))
    held_out = max(2, round(HELD_OUT_SHARE * len(spoken)))
    test = [spoken[int(i)] for i in order[:held_out]]
    halves = [[spoken[int(i)] for i in order[start::2]] for start in (held_out, held_out + 1)]
    mean, scale = _moments(halves)

    def standardised(items: Sequence[Frames]) -> Iterator[Array]:
        # A few directions of large variance would decide all distances otherwise.
        for item in items:
            yield (np.asarray(item, dtype=np.float32) - mean) / scale

    first, second = (
        KMeans(clusters, n_iterations=20, n_restarts=1, seed=seed).fit(
            lambda half=half: standardised(half)  # type: ignore[misc]
        )
        for half in halves
    )
    codes = [first.predict(item) for item in standardised(test)]
    others = [second.predict(item) for item in standardised(test)]
    learned = [first.predict(item) for half in halves for item in standardised(half)]
    joint = joint_counts(np.concatenate(codes), np.concatenate(others), clusters)
    return BlockScores(
        predictability=predictability(learned, codes, clusters, ngram_order, frame_rate_hz),
        stability=normalised_information(joint),
        # The order of the codes was not learned, so all utterances may be counted.
        persistence=persistence([*learned, *codes], clusters, frame_rate_hz),
    )


def predictability(
    train: Sequence[Codes],
    test: Sequence[Codes],
    n_codes: int,
    ngram_order: int,
    frame_rate_hz: float,
) -> float:
    """Return the bits a code that near codes tell of it beyond what distant ones tell."""
    near, far = (
        saved_bits(thinned(train, step), thinned(test, step), n_codes, ngram_order)
        for step in (
            max(1, round(STEP_SECONDS * frame_rate_hz)),
            max(2, round(FAR_SECONDS * frame_rate_hz)),
        )
    )
    return near - far


def thinned(codes: Sequence[Codes], step: int) -> list[Codes]:
    """Take one code in `step`, once for each place to begin.

    >>> [item.tolist() for item in thinned([np.arange(5, dtype=np.int32)], 2)]
    [[0, 2, 4], [1, 3]]
    """
    return [
        sequence[start::step] for sequence in codes for start in range(min(step, len(sequence)))
    ]


def saved_bits(
    train: Sequence[Codes], test: Sequence[Codes], n_codes: int, ngram_order: int
) -> float:
    """Return how many bits a code an n-gram model saves on the test over a unigram model.

    Both predict the end of a sequence too.
    """
    model = NgramModel(ngram_order).fit(train, [str(code) for code in range(n_codes)])
    ngram_bits = -float(model.log10_probs(test).sum()) / np.log10(2.0)
    counts = np.bincount(np.concatenate(train), minlength=n_codes + 1).astype(np.float64)
    counts[n_codes] = len(train)  # ends
    bits = -np.log2((counts + 1) / (counts + 1).sum())
    unigram_bits = sum(float(bits[sequence].sum() + bits[n_codes]) for sequence in test)
    return (unigram_bits - float(ngram_bits)) / (sum(map(len, test)) + len(test))


def persistence(codes: Sequence[Codes], n_codes: int, frame_rate_hz: float) -> float:
    """Return the mutual information of near codes less that of distant ones, bits.

    Both are counted from the same first frames, so that what few counts add to both cancels.
    """
    near = max(1, round(NEAR_SECONDS * frame_rate_hz))
    far = max(near + 1, round(FAR_SECONDS * frame_rate_hz))
    near_counts = np.zeros((n_codes, n_codes))
    far_counts = np.zeros((n_codes, n_codes))
    for sequence in codes:
        starts = sequence[: max(0, len(sequence) - far)]
        near_counts += joint_counts(starts, sequence[near : near + len(starts)], n_codes)
        far_counts += joint_counts(starts, sequence[far:], n_codes)
    return mutual_information(near_counts) - mutual_information(far_counts)


def joint_counts(first: Codes, second: Codes, n_codes: int) -> npt.NDArray[np.float64]:
    """Count pairs, (n_codes, n_codes)."""
    pairs = first.astype(np.int64) * n_codes + second
    counts = np.bincount(pairs, minlength=n_codes**2).astype(np.float64)
    return counts.reshape(n_codes, n_codes)


def mutual_information(counts: npt.NDArray[np.float64]) -> float:
    """Mutual information of what was counted, bits; 0 without counts.

    Few counts look more dependent than they are. The excess is taken off to first order, as Miller
    and Madow do it for entropies.
    """
    total = counts.sum()
    if total == 0:
        return 0.0
    first, second = counts.sum(axis=1), counts.sum(axis=0)
    plain = entropy(first) + entropy(second) - entropy(counts.ravel())
    excess = (counts > 0).sum() - (first > 0).sum() - (second > 0).sum() + 1
    return plain - float(excess) / (2 * float(total) * float(np.log(2)))


def normalised_information(counts: npt.NDArray[np.float64]) -> float:
    """Mutual information over the geometric mean of the two entropies; 0 where one is 0."""
    entropies = entropy(counts.sum(axis=0)) * entropy(counts.sum(axis=1))
    return mutual_information(counts) / float(np.sqrt(entropies)) if entropies > 0 else 0.0


def entropy(counts: npt.NDArray[np.float64]) -> float:
    """Entropy of counts, bits."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def _moments(halves: Sequence[Sequence[Frames]]) -> tuple[Array, Array]:
    moments = Moments()
    for half in halves:
        for item in half:
            moments.add(np.asarray(item))
    mean = np.asarray(moments.total / moments.count)
    variance = np.asarray(moments.squares / moments.count) - mean**2
    scale = np.sqrt(np.where(variance > STD_FLOOR**2, variance, 1.0))  # constants become 0
    return mean.astype(np.float32), scale.astype(np.float32)
