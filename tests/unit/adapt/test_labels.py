"""What was heard as what is learned: places in the waveform that is left of a recording."""

from __future__ import annotations

import pytest

from wav2vec_u.adapt.labels import pseudo_labels
from wav2vec_u.decode.greedy import PhoneSpan
from wav2vec_u.decode.transcript import WordSpan
from wav2vec_u.finetune.units import Units
from wav2vec_u.finetune.utterance import UNKNOWN, LabelledUtterance
from wav2vec_u.silence.speech import Utterance
from wav2vec_u.words.hypotheses import WordHypothesis

UNITS = Units("phones", ("a", "b"), "en")
# Speech from 1 to 2 and from 5 to 6 seconds of a recording.
UTTERANCE = Utterance("r#001", "r", "r.wav", "train", None, 1.0, 6.0, ((1.0, 2.0), (5.0, 6.0)))
PHONES = (PhoneSpan("a", 1.2, 1.6), PhoneSpan("b", 5.1, 5.5), PhoneSpan("a", 5.5, 6.0))
WORDS = (WordSpan("one", 1.2, 1.6, 0.9), WordSpan("two", 5.1, 6.0, 0.2))


def label(whole: bool, least: float, phones: tuple[PhoneSpan, ...] = PHONES) -> LabelledUtterance:
    heard = WordHypothesis("r#001", "r", "train", WORDS, phones)
    (found,) = pseudo_labels([heard], {"r#001": UTTERANCE}, UNITS, whole, least)
    return found


def test_times_are_those_of_the_speech_put_together() -> None:
    found = label(whole=False, least=0.0)
    assert found.spans == UTTERANCE.spans
    assert found.targets == (0, 1, 0)
    assert found.timed is not None
    assert [item.unit for item in found.timed] == [0, 1, 0]
    times = [(item.start_s, item.end_s) for item in found.timed]
    for found_times, wanted in zip(times, [(0.2, 0.6), (1.1, 1.5), (1.5, 2.0)], strict=True):
        assert found_times == pytest.approx(wanted, abs=1e-4)


def test_an_utterance_heard_whole_keeps_its_pauses() -> None:
    found = label(whole=True, least=0.0)
    assert found.spans == ((1.0, 6.0),)
    assert found.timed is not None
    assert found.timed[1].start_s == pytest.approx(4.1, abs=1e-4)


def test_what_is_said_in_a_doubtful_word_is_unknown() -> None:
    found = label(whole=False, least=0.5)
    assert found.timed is not None
    assert [item.unit for item in found.timed] == [0, UNKNOWN, UNKNOWN]
    assert found.targets == (0, 1, 0)


def test_an_utterance_without_phones_teaches_nothing() -> None:
    heard = WordHypothesis("r#001", "r", "train", (), ())
    assert list(pseudo_labels([heard], {"r#001": UTTERANCE}, UNITS, False, 0.0)) == []
