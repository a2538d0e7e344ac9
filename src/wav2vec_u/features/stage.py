"""The features stage: frames of every utterance, in one streaming pass over the corpus."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from wav2vec_u.config import FeaturesConfig
from wav2vec_u.features.batching import length_batches, map_ahead
from wav2vec_u.features.encoder import load_encoder
from wav2vec_u.features.extract import Extracted, Extractor, Rejected, SilenceMode
from wav2vec_u.features.moments import Moments
from wav2vec_u.features.store import REJECTED_NAME, FrameStoreWriter
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl
from wav2vec_u.runtime.progress import progress
from wav2vec_u.silence.spans import speech_seconds
from wav2vec_u.silence.speech import Utterance, read_speech

COMMIT_SECONDS = 5.0  # a kill loses at most this much work


def run(
    work: Work, config: FeaturesConfig, speech: Path, silence_mode: SilenceMode = "cut"
) -> None:
    """Extract frames into a frame store; see `features.store` for the files.

    Parameters
    ----------
    work : Work
        Where to write; an interrupted run is continued if ``work.resumed``. Gets the counts
        ``utterances``, ``frames``, ``frame_rate_hz``, ``dim``, ``speech_seconds`` and ``rejected``
        (by reason).
    config : FeaturesConfig
        Encoder, layer, batches, normalisation.
    speech : Path
        A finished `silence` artefact.
    silence_mode : {"cut", "mask"}
        `SilenceConfig.mode`: ``cut`` or ``mask``.

    Raises
    ------
    UserError
        If the encoder cannot be had, or no utterance gives frames.
    """
    utterances = read_speech(speech)
    encoder = load_encoder(config)
    speakers: dict[str, Moments] = {}
    if config.encoder == "mfcc" and config.mfcc_normalize == "speaker":
        speakers = _speaker_moments(utterances, config, silence_mode)
    extractor = Extractor(encoder, config, silence_mode, speakers)
    with FrameStoreWriter(
        work.folder,
        dim=encoder.dim,
        frame_rate_hz=encoder.frame_rate_hz,
        encoder=encoder.name,
        resume=work.resumed,
    ) as writer:
        _write(writer, utterances, extractor, config, silence_mode)
        writer.commit()
        reasons = Counter(line["reason"] for line in read_jsonl(work.folder / REJECTED_NAME))
        if writer.n_frames == 0:
            why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
            raise UserError(
                f"{speech}: no utterance gives frames ({why or 'there is no speech'}); check the "
                "recordings and the silence settings"
            )
    work.counts.update(
        utterances=writer.n_utterances,
        frames=writer.n_frames,
        frame_rate_hz=encoder.frame_rate_hz,
        dim=encoder.dim,
        speech_seconds=round(writer.n_frames / encoder.frame_rate_hz, 2),
        rejected=dict(reasons),
    )


def _write(
    writer: FrameStoreWriter,
    utterances: Sequence[Utterance],
    extractor: Extractor,
    config: FeaturesConfig,
    silence_mode: SilenceMode,
) -> None:
    batches = _batches(utterances, config, silence_mode)
    # A batch is left out only if all of it was committed: a resumed run then encodes the very
    # batches of an uninterrupted one, and gets the same numbers to the last bit.
    unfinished = (
        batch for batch in batches if not all(writer.holds(utterance.id) for utterance in batch)
    )
    results = _results(unfinished, extractor)
    committed = time.monotonic()
    for utterance, result in progress(results, label="features", total=len(utterances)):
        if writer.holds(utterance.id):
            continue
        if isinstance(result, Rejected):
            writer.reject(utterance.id, result.reason, result.detail)
        else:
            writer.append(
                utterance.id,
                result.frames,
                result.times,
                audio=utterance.audio,
                split=utterance.split,
                speaker=utterance.speaker,
            )
        if time.monotonic() - committed > COMMIT_SECONDS:
            writer.commit()
            committed = time.monotonic()


def _speaker_moments(
    utterances: Sequence[Utterance], config: FeaturesConfig, silence_mode: SilenceMode
) -> dict[str, Moments]:
    """Take each speaker's mean and variance in a pass of its own.

    Reading the audio twice keeps no frames, leaves the store as it is first written, and makes a
    resumed run equal to an uninterrupted one without more ado.
    """
    plain = config.model_copy(update={"mfcc_normalize": "none"})
    extractor = Extractor(load_encoder(plain), plain, silence_mode)
    moments: dict[str, Moments] = defaultdict(Moments)
    results = _results(_batches(utterances, config, silence_mode), extractor)
    for utterance, result in progress(results, label="speakers", total=len(utterances)):
        if utterance.speaker is not None and isinstance(result, Extracted):
            moments[utterance.speaker].add(result.frames)
    return dict(moments)


def _batches(
    utterances: Sequence[Utterance], config: FeaturesConfig, silence_mode: SilenceMode
) -> Iterator[list[Utterance]]:
    def encoded_seconds(utterance: Utterance) -> float:
        if silence_mode == "mask":
            return utterance.end_s - utterance.start_s
        return speech_seconds(utterance.spans)

    return length_batches(utterances, encoded_seconds, config.batch_seconds)


def _results(
    batches: Iterator[list[Utterance]], extractor: Extractor
) -> Iterator[tuple[Utterance, Extracted | Rejected]]:
    for batch, loaded in map_ahead(extractor.load, batches):
        yield from zip(batch, extractor.encode(batch, loaded), strict=True)
