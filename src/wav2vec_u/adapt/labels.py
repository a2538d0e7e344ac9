"""From what was heard to what the encoder learns: phones with their places in the waveform."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.decode.greedy import PhoneSpan
from wav2vec_u.decode.transcript import WordSpan
from wav2vec_u.finetune.losses import units_of_outputs
from wav2vec_u.finetune.units import Units
from wav2vec_u.finetune.utterance import UNKNOWN, LabelledUtterance, TimedUnit
from wav2vec_u.silence.spans import Span, SpanMap
from wav2vec_u.silence.speech import Utterance
from wav2vec_u.words.hypotheses import WordHypothesis


def pseudo_labels(
    hypotheses: Iterable[WordHypothesis],
    utterances: Mapping[str, Utterance],
    units: Units,
    whole: bool,
    min_confidence: float,
) -> Iterator[LabelledUtterance]:
    """Take what was heard for what was said.

    Parameters
    ----------
    hypotheses : iterable of WordHypothesis
        Of utterances to learn from. Those in which no phone was heard are passed over.
    utterances : mapping of str to Utterance
        By id.
    units : Units
        All phones that may be heard.
    whole : bool
        Whether the network hears utterances with their pauses.
    min_confidence : float
        In words with less confidence, it counts as unknown what is said.
    """
    for hypothesis in hypotheses:
        if not hypothesis.phones:
            continue
        utterance = utterances[hypothesis.id]
        spans = heard_spans(utterance, whole)
        doubtful = doubtful_words(hypothesis, min_confidence)
        ids = units.encode([phone.phone for phone in hypothesis.phones])
        yield LabelledUtterance(
            id=utterance.id,
            audio=utterance.audio,
            spans=spans,
            targets=tuple(ids),
            timed=tuple(_timed(hypothesis.phones, ids, doubtful, SpanMap(spans))),
        )


def doubtful_words(hypothesis: WordHypothesis, min_confidence: float) -> list[WordSpan]:
    """Return the words that are heard with less confidence."""
    return [word for word in hypothesis.spans if word.confidence < min_confidence]


def lies_in(phone: PhoneSpan, words: Sequence[WordSpan]) -> bool:
    """Tell whether the middle of a phone lies in one of the words."""
    middle = (phone.start_s + phone.end_s) / 2
    return any(word.start_s <= middle < word.end_s for word in words)


def phone_labels(
    timed: Sequence[TimedUnit], n_outputs: int, rate_hz: float, n_phones: int
) -> NDArray[np.int32]:
    """Return the phone of every output of the network, (n_outputs,), or `UNKNOWN`.

    The pause is the first phone, and the last unit.

    >>> phone_labels([TimedUnit(0, 0.1, 0.2), TimedUnit(UNKNOWN, 0.2, 0.3)], 4, 10.0, n_phones=3)
    array([ 0,  1, -1,  0], dtype=int32)
    """
    units = units_of_outputs(timed, n_outputs, rate_hz, pause=n_phones - 1)
    phones = np.where(units == UNKNOWN, UNKNOWN, (units + 1) % n_phones)
    return phones.astype(np.int32)


def heard_spans(utterance: Utterance, whole: bool) -> tuple[Span, ...]:
    """Return what the network hears of an utterance, seconds of the recording."""
    return ((utterance.start_s, utterance.end_s),) if whole else utterance.spans


def _timed(
    phones: Sequence[PhoneSpan],
    ids: Sequence[int],
    doubtful: Sequence[WordSpan],
    span_map: SpanMap,
) -> Iterator[TimedUnit]:
    starts = span_map.to_trimmed(np.array([phone.start_s for phone in phones]))
    ends = span_map.to_trimmed(np.array([phone.end_s for phone in phones]))
    for phone, unit, start_s, end_s in zip(phones, ids, starts, ends, strict=True):
        known = not lies_in(phone, doubtful)
        yield TimedUnit(unit if known else UNKNOWN, float(start_s), float(end_s))
