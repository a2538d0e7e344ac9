"""Every format is read back by a small reader of its own and holds the same phones and times."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec_u.decode.formats import FORMATS, format_transcript
from wav2vec_u.decode.greedy import PhoneSpan
from wav2vec_u.decode.transcript import Alternative, TranscribedUtterance, Transcript, WordSpan
from wav2vec_u.runtime.errors import UserError

phone_names = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=3
)


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    now = 0.0
    utterances = []
    for _ in range(draw(st.integers(0, 3))):
        now += draw(st.integers(0, 50)) / 10
        start = now
        spans = []
        for name in draw(st.lists(phone_names, max_size=5)):
            now += draw(st.integers(0, 3)) / 10
            end = now + draw(st.integers(1, 5)) / 10
            spans.append(PhoneSpan(name, now, end))
            now = end
        now += 0.1
        utterances.append(TranscribedUtterance(start, now, tuple(spans)))
    return Transcript('a "b".wav', now + draw(st.integers(0, 30)) / 10, tuple(utterances))


def seconds(clock: str) -> float:
    hours, minutes, rest = clock.replace(",", ".").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def read_textgrid(text: str) -> dict[str, list[tuple[float, float, str]]]:
    tiers: dict[str, list[tuple[float, float, str]]] = {}
    name = ""
    for match in re.finditer(
        r'name = "(?P<name>[^"]*)"'
        r"|intervals \[\d+\]:\s+xmin = (?P<a>[\d.]+)\s+xmax = (?P<b>[\d.]+)\s+"
        r'text = "(?P<t>(?:[^"]|"")*)"',
        text,
    ):
        if match["name"] is not None:
            name = match["name"]
            tiers[name] = []
        else:
            tiers[name].append(
                (float(match["a"]), float(match["b"]), match["t"].replace('""', '"'))
            )
    return tiers


@settings(deadline=None)
@given(transcripts())
def test_textgrid_covers_all_time_and_holds_the_phones(transcript: Transcript) -> None:
    text = format_transcript(transcript, "textgrid")
    tiers = read_textgrid(text)
    assert list(tiers) == ["utterances", "phones"]
    end = float(re.findall(r"^xmax = ([\d.]+)$", text, re.M)[0])
    for name, intervals in tiers.items():
        size = int(re.findall(rf'name = "{name}".*?size = (\d+)', text, re.S)[0])
        assert size == len(intervals) >= 1
        assert intervals[0][0] == 0.0
        assert intervals[-1][1] == pytest.approx(end)
        for left, right in pairwise(intervals):
            assert left[1] == right[0]
        assert all(begin < stop for begin, stop, _ in intervals) or end == 0.0
    found = [(label, begin, stop) for begin, stop, label in tiers["phones"] if label]
    assert [item[0] for item in found] == [span.phone for span in transcript.phones]
    for (_, begin, stop), span in zip(found, transcript.phones, strict=True):
        assert begin == pytest.approx(span.start_s, abs=1e-5)
        assert stop == pytest.approx(span.end_s, abs=1e-5)


@settings(deadline=None)
@given(transcripts())
def test_json_round_trip(transcript: Transcript) -> None:
    value = json.loads(format_transcript(transcript, "json"))
    assert value["audio"] == transcript.audio
    found = [
        PhoneSpan(span["phone"], span["start_s"], span["end_s"])
        for utterance in value["utterances"]
        for span in utterance["phones"]
    ]
    assert [span.phone for span in found] == [span.phone for span in transcript.phones]
    for left, right in zip(found, transcript.phones, strict=True):
        assert left.start_s == pytest.approx(right.start_s, abs=1e-3)


@settings(deadline=None)
@given(transcripts())
def test_subtitles_hold_every_spoken_utterance(transcript: Transcript) -> None:
    spoken = [item for item in transcript.utterances if item.phones]
    for name, pattern in (
        ("srt", r"(\S+,\d{3}) --> (\S+,\d{3})\n(.*)\n"),
        ("vtt", r"(\S+\.\d{3}) --> (\S+\.\d{3})\n(.*)\n"),
    ):
        text = format_transcript(transcript, name)
        cues = re.findall(pattern, text)
        assert len(cues) == len(spoken)
        for (begin, stop, line), utterance in zip(cues, spoken, strict=True):
            assert seconds(begin) == pytest.approx(utterance.start_s, abs=1e-3)
            assert seconds(stop) == pytest.approx(utterance.end_s, abs=1e-3)
            plain = line.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
            unescaped = plain if name == "vtt" else line
            assert unescaped.split(" ") == [span.phone for span in utterance.phones]
    assert format_transcript(transcript, "vtt").startswith("WEBVTT\n\n")


@settings(deadline=None)
@given(transcripts())
def test_text_is_a_line_an_utterance(transcript: Transcript) -> None:
    lines = format_transcript(transcript, "text").split("\n")[:-1]
    assert [line.split(" ") for line in lines] == [
        [span.phone for span in item.phones] for item in transcript.utterances if item.phones
    ]


def test_hours_and_rounding_in_clocks() -> None:
    span = PhoneSpan("a", 3661.9996, 36000.0)
    transcript = Transcript("x", 36000.0, (TranscribedUtterance(3661.9996, 36000.0, (span,)),))
    assert "01:01:02,000 --> 10:00:00,000" in format_transcript(transcript, "srt")


def test_overlapping_spans_make_a_valid_tier() -> None:
    spans = (PhoneSpan("a", 0.0, 1.0), PhoneSpan("b", 0.9, 1.5), PhoneSpan("c", 1.0, 1.4))
    transcript = Transcript("x", 1.0, (TranscribedUtterance(0.0, 1.5, spans),))
    phones = read_textgrid(format_transcript(transcript, "textgrid"))["phones"]
    assert phones == [(0.0, 1.0, "a"), (1.0, 1.5, "b")]


def test_words_stand_in_the_place_of_phones_where_there_are_any() -> None:
    phones = (PhoneSpan("h", 0.5, 0.6), PhoneSpan("i", 0.6, 0.8), PhoneSpan("x", 1.0, 1.2))
    words = (WordSpan("hi", 0.5, 0.8, 1.0), WordSpan("x&y", 1.0, 1.2, 0.123456))
    spoken = TranscribedUtterance(0.4, 1.3, phones, words)
    unspoken = TranscribedUtterance(2.0, 2.5, phones[:1])
    transcript = Transcript("a.wav", 3.0, (spoken, unspoken))
    assert format_transcript(transcript, "text") == "hi x&y\nh\n"
    assert "\nhi x&amp;y\n" in format_transcript(transcript, "vtt")
    assert "\nhi x&y\n" in format_transcript(transcript, "srt")
    tiers = read_textgrid(format_transcript(transcript, "textgrid"))
    assert list(tiers) == ["utterances", "words", "phones"]
    assert [item for item in tiers["words"] if item[2]] == [(0.5, 0.8, "hi"), (1.0, 1.2, "x&y")]
    value = json.loads(format_transcript(transcript, "json"))
    assert value["utterances"][0]["words"][1] == {
        "word": "x&y",
        "start_s": 1.0,
        "end_s": 1.2,
        "confidence": 0.1235,
        "known": True,
    }
    assert value["utterances"][1]["words"] == []
    assert [span.word for span in transcript.words] == ["hi", "x&y"]


def test_alternatives_stand_in_json() -> None:
    other = Alternative((WordSpan("hay", 0.50049, 0.8, 0.12345),), 1.23456)
    spoken = TranscribedUtterance(0.4, 1.3, (), (WordSpan("hi", 0.5, 0.8, 1.0),), (other,))
    value = json.loads(format_transcript(Transcript("a.wav", 3.0, (spoken,)), "json"))
    (told,) = value["utterances"][0]["alternatives"]
    assert told["behind"] == 1.235
    assert told["words"] == [
        {"word": "hay", "start_s": 0.5, "end_s": 0.8, "confidence": 0.1235, "known": True}
    ]


def test_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="textgrid"):
        format_transcript(Transcript("x", 1.0, ()), "docx")
    assert set(FORMATS) == {"text", "json", "srt", "vtt", "textgrid"}
