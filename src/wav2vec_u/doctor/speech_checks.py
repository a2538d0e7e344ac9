"""Checks of the audio side: amount, silence, rejected items, frames, segments.

Each check is a pure function of figures or arrays. Where a limit comes from the literature its
comment says so; the others are marks of plain faults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from wav2vec_u.doctor.findings import Finding

# Phones a second in fluent speech of many languages, silence excluded.
PHONE_RATE_HZ = (10.0, 14.0)
MISSED_BELOW = 0.9  # of the expected rate, which was within a twentieth on two voices
# Segments a second for each phone a second that learning wants.
WANTED_RATIO = 1.3
PAUSE_WITHIN_S = 20.0  # seconds: longer recordings have a pause


def check_audio_amount(hours: float) -> Finding:
    """Judge the hours of speech that can be learned from.

    About ten hours are enough where text is plentiful (Lin et al., 2022); the low-resource
    experiments of the paper begin at 1.8 hours.
    """
    message = f"{hours:.2f} hours of speech to learn from"
    if hours < 0.25:
        return Finding(
            "stop", "audio amount", message, "add recordings: below a quarter of an hour is too few"
        )
    if hours < 1.5:
        return Finding(
            "warn",
            "audio amount",
            message,
            "more recordings help: two hours or more are known good",
        )
    return Finding("ok", "audio amount", message)


def check_silence(speech_seconds: float, total_seconds: float, recordings: int) -> Finding:
    """Judge how much of the recordings was taken for speech.

    Silence left in the audio costs 4 to 8 points of error rate, or everything. Recordings of a
    sentence or two may be without a pause; nobody speaks much longer than `PAUSE_WITHIN_S` without.

    Parameters
    ----------
    speech_seconds, total_seconds : float
        Margins around speech count as speech.
    recordings : int
    """
    topic = "silence"
    if total_seconds <= 0:
        return Finding("stop", topic, "there are no recordings", "check the corpus stage")
    share = 100.0 * speech_seconds / total_seconds
    message = f"{share:.0f} % of the recordings was taken for speech"
    if share < 5:
        return Finding(
            "stop", topic, message, "listen to a recording; lower silence.threshold or use silero"
        )
    if share < 25:
        return Finding(
            "warn",
            topic,
            message,
            "listen to a recording; lower silence.threshold if speech is cut",
        )
    if share > 98 and total_seconds / recordings > PAUSE_WITHIN_S:
        return Finding(
            "warn", topic, message, "is there truly no pause? noise may pass for speech: use silero"
        )
    return Finding("ok", topic, message)


def check_rejected(
    topic: str,
    kept: int,
    reasons: Mapping[str, int],
    warn_above: float = 0.1,
    stop_above: float = 0.5,
) -> Finding:
    """Judge the share of items that a stage has left out.

    Parameters
    ----------
    topic : str
        What the items are.
    kept : int
        Items taken in.
    reasons : mapping of str to int
        Items left out, by reason.
    warn_above, stop_above : float
        Shares of all items.
    """
    rejected = sum(reasons.values())
    total = kept + rejected
    if rejected == 0:
        return Finding("ok", topic, f"none of {total} was rejected")
    worst = sorted(reasons.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{reason} {count}" for reason, count in worst[:4])
    message = f"{rejected} of {total} rejected ({listed})"
    share = rejected / total
    if share > stop_above:
        return Finding("stop", topic, message, "most are lost: read rejected.jsonl and mend them")
    if share > warn_above:
        return Finding("warn", topic, message, "read rejected.jsonl")
    return Finding("ok", topic, message)


def check_segment_rate(rate_hz: float) -> Finding:
    """Compare segments a second with the phone rate of speech.

    Training fails at 25 Hz and above and converges at 14 to 16 Hz (three groups of authors).
    """
    topic = "segment rate"
    low, high = PHONE_RATE_HZ
    middle = (low + high) / 2
    message = (
        f"{rate_hz:.1f} segments a second of speech, {rate_hz / middle:.2f} for each phone at "
        f"{middle:.0f} phones a second (about {WANTED_RATIO} is wanted)"
    )
    wanted = f"set segments.target_rate_hz to {WANTED_RATIO * middle - 1.6:.0f}"
    if rate_hz < low * 0.8 or rate_hz > 24:
        return Finding("stop", topic, message, wanted)
    if rate_hz < low * 1.1 or rate_hz > 19:
        return Finding("warn", topic, message, wanted)
    return Finding("ok", topic, message)


def check_phone_rate(rate_hz: float, expected_hz: float | None = None) -> Finding:
    """Compare recognised phones a second of speech with what people say.

    Parameters
    ----------
    rate_hz : float
    expected_hz : float or None
        What these people say, as far as it can be told without labels
        (`matching.speaking_rate.estimate_phone_rate`).
    """
    low, high = PHONE_RATE_HZ
    if expected_hz is not None and rate_hz < MISSED_BELOW * expected_hz:
        return Finding(
            "warn",
            "phone rate",
            f"{rate_hz:.1f} phones a second of speech recognised, of about {expected_hz:.1f} that "
            "are said by how fast the frames change",
            f"about {1 - rate_hz / expected_hz:.0%} of the phones are missed; more recordings, "
            "text about the same things or a better encoder help",
        )
    message = f"{rate_hz:.1f} phones a second of speech recognised; {low:.0f}-{high:.0f} are usual"
    if rate_hz < 0.5 * low or rate_hz > 1.5 * high:
        return Finding(
            "warn", "phone rate", message, "the generator has not learned; try more seeds"
        )
    return Finding("ok", "phone rate", message)


def check_frames(utterances: Sequence[npt.NDArray[np.floating]]) -> list[Finding]:
    """Look for frames that no encoder in good order would give.

    Parameters
    ----------
    utterances : sequence of (T, D) float
        Frames of a sample of utterances.
    """
    topic = "frames"
    utterances = [frames for frames in utterances if len(frames)]
    if not utterances:
        return [Finding("stop", topic, "there are no frames", "run the features stage again")]
    broken = sum(not np.isfinite(frames).all() for frames in utterances)
    if broken:
        return [
            Finding(
                "stop",
                topic,
                f"{broken} of {len(utterances)} utterances hold NaN or infinite numbers",
                "the encoder overflows: check its checkpoint, or compute in float32",
            )
        ]
    return [
        _check_dimensions(np.concatenate(utterances)),
        _check_distinct(utterances),
        _check_change(utterances),
    ]


def _check_dimensions(frames: npt.NDArray[np.floating]) -> Finding:
    topic = "frame dimensions"
    spread = frames.astype(np.float64).std(axis=0)  # (D,)
    dim = len(spread)
    constant = int((spread <= 1e-6).sum())
    if constant == dim:
        return Finding(
            "stop", topic, "all dimensions are constant", "the encoder gives nothing: check it"
        )
    if constant:
        return Finding(
            "warn",
            topic,
            f"{constant} of {dim} dimensions are constant",
            "check the encoder's checkpoint and layer",
        )
    return Finding("ok", topic, f"all {dim} dimensions vary")


def _check_distinct(utterances: Sequence[npt.NDArray[np.floating]]) -> Finding:
    topic = "frames differ"
    distinct = {np.ascontiguousarray(frames).tobytes() for frames in utterances}
    repeated = len(utterances) - len(distinct)
    message = f"{repeated} of {len(utterances)} utterances repeat the frames of another"
    if len(utterances) > 1 and len(distinct) == 1:
        return Finding("stop", topic, message, "the encoder ignores its input: check it")
    if repeated > 0.02 * len(utterances):
        return Finding("warn", topic, message, "the same recording may stand in the corpus twice")
    return Finding("ok", topic, message)


def _check_change(utterances: Sequence[npt.NDArray[np.floating]]) -> Finding:
    """Within an utterance frames must vary nearly as much as over the whole sample."""
    topic = "frames over time"
    everything = float(np.concatenate(utterances).astype(np.float64).var(axis=0).sum())
    lengths = np.array([len(frames) for frames in utterances])
    inside = [float(frames.astype(np.float64).var(axis=0).sum()) for frames in utterances]
    share = 100.0 * float(np.average(inside, weights=lengths)) / everything if everything else 0.0
    message = f"{share:.0f} % of the variance lies within utterances"
    if share < 20:
        return Finding(
            "stop" if share < 1 else "warn",
            topic,
            message,
            "frames tell recordings or speakers apart, not sounds: choose an earlier layer, or "
            "normalise",
        )
    return Finding("ok", topic, message)


def check_clusters(counts: Sequence[int] | npt.NDArray[np.integer]) -> Finding:
    """Judge how evenly the k-means clusters are used.

    Parameters
    ----------
    counts : sequence of int
        Segments of each cluster, unused clusters included.
    """
    topic = "clusters"
    used = np.asarray(counts, dtype=np.float64)
    if used.sum() == 0:
        return Finding("stop", topic, "no cluster is used", "run the segments stage again")
    share = used[used > 0] / used.sum()
    perplexity = float(np.exp(-(share * np.log(share)).sum()))
    message = (
        f"{(used > 0).sum()} of {len(used)} clusters are used, as evenly as {perplexity:.0f} would"
    )
    if perplexity < 5:
        return Finding(
            "stop", topic, message, "nearly all frames look alike: check the encoder and the audio"
        )
    if perplexity < 0.3 * len(used):
        return Finding("warn", topic, message, "check the encoder; or set fewer segments.clusters")
    return Finding("ok", topic, message)
