"""Readings: several decipherments, each turned into a generator.

A decipherment reads the codes of the utterances it has seen. The generator learns to say the same
from the segment vectors themselves, with the segments around them in view, and so works on new
audio, and smooths over what k-means threw away.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from wav2vec_u.config import DeciphermentConfig, MatchingConfig
from wav2vec_u.matching.batches import (
    SegmentSource,
    TextSource,
    draw_within,
    pad_vectors,
    training_utterances,
)
from wav2vec_u.matching.decipherment import CodeLanguage, Decipherment, learn_language
from wav2vec_u.matching.generator import (
    GENERATOR_NAME,
    Generator,
    load_generator,
    log_probs,
    save_generator,
)
from wav2vec_u.matching.ngram_hmm import Floats
from wav2vec_u.matching.selection import Candidate, spoken_phones
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_json
from wav2vec_u.runtime.progress import MetricsLog, progress
from wav2vec_u.runtime.seeds import numpy_generator, torch_generator
from wav2vec_u.segments.kmeans import KMeans

BATCH_UTTERANCES = 32
SCORED_UTTERANCES = 500


@dataclass(frozen=True)
class Reading:
    """One restart.

    Attributes
    ----------
    member : int
        Its number; its files are in ``member_NN``.
    generator : Generator
        On the CPU, in evaluation mode.
    gain : float
        See `decipherment.Deciphered`.
    candidate : Candidate
        What the generator says about the scored utterances.
    """

    member: int
    generator: Generator
    gain: float
    candidate: Candidate


def decipher(
    folder: Path,
    segments: SegmentSource,
    text: TextSource,
    config: MatchingConfig,
    *,
    architecture: dict[str, Any],
    resume: bool,
    threads: int,
) -> list[Reading]:
    """Make ``config.seeds`` readings; they differ in the clustering of the segments.

    Parameters
    ----------
    folder : Path
        Gets ``member_NN/`` with ``log.jsonl``, checkpoints and the finished generator.
    segments : SegmentSource
        Split ``train`` is used.
    text : TextSource
    config : MatchingConfig
    architecture : dict
        Settings of `Generator` beside its input and output size.
    resume : bool
        Go on from what an interrupted run of the same settings left in `folder`.
    threads : int

    Raises
    ------
    UserError
        If there is too little audio or text.
    """
    settings = config.decipherment
    language = learn_language(text, settings.min_phone_share)
    utterances = _within(training_utterances(segments), segments, settings, config.seed)
    n_segments = sum(len(segments.vectors(i)) for i in utterances)
    if n_segments < 2 * settings.codes:
        raise UserError(
            f"matching: {n_segments} segments cannot be clustered into {settings.codes} codes; "
            "give it more recordings or lower matching.decipherment.codes"
        )
    readings = []
    for member in range(config.seeds):
        place = folder / f"member_{member:02d}"
        place.mkdir(parents=True, exist_ok=True)
        finished = place / GENERATOR_NAME
        if not (resume and finished.exists()):
            _read(
                member,
                place,
                segments,
                utterances,
                language,
                len(text.phones),
                settings,
                architecture,
                seed=int(numpy_generator(config.seed, "reading", member).integers(2**31)),
                resume=resume,
                threads=threads,
            )
        generator = load_generator(finished)
        candidate = say(generator, segments, scored_utterances(segments, config.seed))
        readings.append(Reading(member, generator, _last_gain(place), candidate))
    return readings


def scored_utterances(segments: SegmentSource, seed: int) -> list[int]:
    """Choose the training utterances that readings are compared on."""
    usable = training_utterances(segments)
    order = numpy_generator(seed, "scored utterances").permutation(len(usable))
    return sorted(usable[i] for i in order[:SCORED_UTTERANCES].tolist())


def say(generator: Generator, segments: SegmentSource, utterances: list[int]) -> Candidate:
    """Transcribe utterances greedily, for selection.

    Parameters
    ----------
    generator : Generator
        Output 0 is silence.
    segments : SegmentSource
    utterances : list of int
        Indices into `segments`.
    """
    hypotheses = []
    log_prob = 0.0
    generator.eval()
    for i in utterances:
        scores = log_probs(generator, segments.vectors(i))
        best = scores.argmax(axis=1)
        log_prob += float(scores.max(axis=1).sum())
        hypotheses.append(spoken_phones(best))
    return Candidate(hypotheses, log_prob)


def _read(
    restart: int,
    folder: Path,
    segments: SegmentSource,
    utterances: list[int],
    language: CodeLanguage,
    n_outputs: int,
    settings: DeciphermentConfig,
    architecture: dict[str, Any],
    *,
    seed: int,
    resume: bool,
    threads: int,
) -> None:
    kmeans = KMeans(
        n_clusters=settings.codes,
        n_iterations=25,
        n_restarts=2,
        seed=seed,
        sample_frames=settings.max_segments,
    ).fit(lambda: (segments.vectors(i) for i in utterances))
    codes = [kmeans.predict(segments.vectors(i)) for i in utterances]
    decipherment = Decipherment(
        codes,
        settings.codes,
        language,
        settings,
        seed=seed,
        folder=folder,
        threads=threads,
        restart=restart,
    )
    found = decipherment.run(resume)
    lengths = [len(item) for item in codes]
    generator = Generator(segments.dim, n_outputs, **architecture)
    distil(
        generator,
        segments,
        utterances,
        np.split(found.posteriors, np.cumsum(lengths)[:-1]),
        language.phones,
        settings,
        seed=seed,
        folder=folder,
    )
    write_json(folder / "gain.json", {"gain": found.gain})
    # Last: a member whose generator stands is finished.
    save_generator(folder / GENERATOR_NAME, generator)
    decipherment.checkpoint.unlink(missing_ok=True)


def distil(
    generator: Generator,
    segments: SegmentSource,
    utterances: list[int],
    posteriors: list[Floats],
    phones: NDArray[np.int64],
    settings: DeciphermentConfig,
    *,
    seed: int,
    folder: Path,
) -> None:
    """Teach the generator the posteriors by cross-entropy.

    The posteriors are wrong in places, where a code stands for several phones. What is systematic
    in the vectors is learned, and the errors of single codes are averaged out.

    Parameters
    ----------
    generator : Generator
        Trained in place; left in evaluation mode.
    segments : SegmentSource
    utterances : list of int
        Indices into `segments`.
    posteriors : list of ndarray, each (S, V)
    phones : ndarray, shape (V,)
        Output of the generator for each column of the posteriors.
    settings : DeciphermentConfig
    seed : int
    folder : Path
        Its ``log.jsonl`` gets the loss of every epoch.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # torch's initialisers know no other generator
        for module in generator.modules():
            if isinstance(module, (nn.Conv1d, nn.Linear)):
                module.reset_parameters()
    rng = torch_generator(seed, "distil dropout")
    order = numpy_generator(seed, "distil order")
    per_epoch = -(-len(utterances) // BATCH_UTTERANCES)
    epochs = max(settings.generator_epochs, -(-settings.generator_least_updates // per_epoch))
    optimizer = torch.optim.Adam(generator.parameters(), lr=settings.generator_lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * per_epoch)
    targets = torch.from_numpy(phones)
    generator.train()
    with MetricsLog(folder / "log.jsonl") as log:
        for epoch in progress(range(epochs), label="generator"):
            shuffled = order.permutation(len(utterances))
            total, batches = 0.0, 0
            for first in range(0, len(shuffled), BATCH_UTTERANCES):
                chosen = shuffled[first : first + BATCH_UTTERANCES].tolist()
                vectors, mask = pad_vectors([segments.vectors(utterances[i]) for i in chosen])
                wanted, _ = pad_vectors([posteriors[i] for i in chosen])  # (B, S, V)
                logits, _ = generator(vectors, mask, rng)  # (B, S', outputs)
                wanted, mask = wanted[:, :: generator.stride], mask[:, :: generator.stride]
                scores = F.log_softmax(logits[:, : mask.shape[1]], -1)[..., targets]
                loss = -(wanted * scores).sum(-1)[mask].mean()
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                total += float(loss.detach())
                batches += 1
            log.write(epoch=epoch, distil_loss=total / batches)
    generator.eval()


def _within(
    utterances: list[int], segments: SegmentSource, settings: DeciphermentConfig, seed: int
) -> list[int]:
    # The search needs a few hours of speech and no more: memory stays bounded on large corpora.
    rng = numpy_generator(seed, "reading sample")
    return draw_within(
        utterances, lambda i: len(segments.vectors(i)), settings.max_total_segments, rng
    )


def _last_gain(folder: Path) -> float:
    values = json.loads((folder / "gain.json").read_text(encoding="utf-8"))
    return float(values["gain"])
