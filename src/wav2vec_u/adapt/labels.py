"""From what was heard to what the encoder learns: phones with their places in the waveform."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from wav2vec_u.decode.greedy import PhoneSpan
from wav2vec_u.decode.transcript import WordSpan
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
        doubtful = [word for word in hypothesis.spans if word.confidence < min_confidence]
        ids = units.encode([phone.phone for phone in hypothesis.phones])
        yield LabelledUtterance(
            id=utterance.id,
            audio=utterance.audio,
            spans=spans,
            targets=tuple(ids),
            timed=tuple(_timed(hypothesis.phones, ids, doubtful, SpanMap(spans))),
        )


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
        middle = (phone.start_s + phone.end_s) / 2
        known = not any(word.start_s <= middle < word.end_s for word in doubtful)
        yield TimedUnit(unit if known else UNKNOWN, float(start_s), float(end_s))
