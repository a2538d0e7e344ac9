"""Transcripts as files that other programs read.

Plain text, JSON, SubRip (.srt), WebVTT (.vtt) and Praat's TextGrid. All take a `Transcript` and
return a string; `format_transcript` chooses by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

from wav2vec_u.decode.transcript import TranscribedUtterance, Transcript
from wav2vec_u.runtime.errors import UserError


def format_transcript(transcript: Transcript, name: str) -> str:
    """Render a transcript in one of `FORMATS`.

    Raises
    ------
    UserError
        If the format is unknown.
    """
    try:
        render = FORMATS[name]
    except KeyError:
        raise UserError(f"format: {name} is unknown; use one of {', '.join(FORMATS)}") from None
    return render(transcript)


def to_text(transcript: Transcript) -> str:
    """One utterance a line: its words, or its phones where no words were found.

    They are separated by spaces. Utterances without any are left out.
    """
    lines = [_line(utterance) for utterance in transcript.utterances]
    return "".join(line + "\n" for line in lines if line)


def to_json(transcript: Transcript) -> str:
    """All there is, times rounded to the millisecond."""
    value = asdict(transcript)
    value["seconds"] = round(value["seconds"], 3)
    for utterance in value["utterances"]:
        _round_times(utterance)
        for span in utterance["phones"]:
            _round_times(span)
        for item in [utterance, *utterance["alternatives"]]:
            for word in item["words"]:
                _round_times(word)
                word["confidence"] = round(word["confidence"], 4)
        for item in utterance["alternatives"]:
            item["behind"] = round(item["behind"], 3)
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def to_srt(transcript: Transcript) -> str:
    """SubRip: a numbered cue for each utterance in which something was heard."""
    cues = [
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{line}\n"
        for number, (start, end, line) in enumerate(_cues(transcript), start=1)
    ]
    return "\n".join(cues)


def to_vtt(transcript: Transcript) -> str:
    """WebVTT: a cue for each utterance with words or phones; ``& < >`` are escaped as it asks."""
    cues = [
        f"{_clock(start, '.')} --> {_clock(end, '.')}\n{_escape_vtt(line)}\n"
        for start, end, line in _cues(transcript)
    ]
    return "WEBVTT\n\n" + "\n".join(cues)


def to_textgrid(transcript: Transcript) -> str:
    """Praat TextGrid with the interval tiers ``utterances`` and ``phones``, and ``words`` if any.

    Praat wants the intervals of a tier to cover all of its time without overlaps: gaps are filled
    with empty intervals, and an interval that begins before its neighbour ended begins there.
    """
    utterances = [
        (utterance.start_s, utterance.end_s, _line(utterance))
        for utterance in transcript.utterances
    ]
    phones = [(span.start_s, span.end_s, span.phone) for span in transcript.phones]
    words = [(span.start_s, span.end_s, span.word) for span in transcript.words]
    tiers = [("utterances", utterances), ("phones", phones)]
    if words:
        tiers.insert(1, ("words", words))
    end = max([transcript.seconds, *(item[1] for _, items in tiers for item in items)])
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {_number(end)}",
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for index, (name, items) in enumerate(tiers, 1):
        lines += _tier(index, name, items, end)
    return "\n".join(lines) + "\n"


FORMATS: dict[str, Callable[[Transcript], str]] = {
    "text": to_text,
    "json": to_json,
    "srt": to_srt,
    "vtt": to_vtt,
    "textgrid": to_textgrid,
}


def _line(utterance: TranscribedUtterance) -> str:
    if utterance.words:
        return " ".join(span.word for span in utterance.words)
    return " ".join(span.phone for span in utterance.phones)


def _cues(transcript: Transcript) -> list[tuple[float, float, str]]:
    return [
        (utterance.start_s, utterance.end_s, _line(utterance))
        for utterance in transcript.utterances
        if utterance.phones or utterance.words
    ]


def _round_times(value: dict[str, object]) -> None:
    for key in ("start_s", "end_s"):
        value[key] = round(float(str(value[key])), 3)


def _clock(seconds: float, decimal_sign: str) -> str:
    milliseconds = max(0, round(seconds * 1000))
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    whole, fraction = divmod(rest, 1000)
    return f"{hours:02d}:{minutes:02d}:{whole:02d}{decimal_sign}{fraction:03d}"


def _escape_vtt(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _number(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".") or "0"


def _tier(index: int, name: str, items: list[tuple[float, float, str]], end: float) -> list[str]:
    intervals = _without_gaps(items, end)
    lines = [
        f"    item [{index}]:",
        '        class = "IntervalTier"',
        f'        name = "{name}"',
        "        xmin = 0",
        f"        xmax = {_number(end)}",
        f"        intervals: size = {len(intervals)}",
    ]
    for number, (start, stop, label) in enumerate(intervals, start=1):
        escaped = label.replace('"', '""')  # Praat doubles quotation marks
        lines += [
            f"        intervals [{number}]:",
            f"            xmin = {_number(start)}",
            f"            xmax = {_number(stop)}",
            f'            text = "{escaped}"',
        ]
    return lines


def _without_gaps(
    items: list[tuple[float, float, str]], end: float
) -> list[tuple[float, float, str]]:
    smallest = 1e-6  # what `_number` can still tell apart
    covered: list[tuple[float, float, str]] = []
    now = 0.0
    for start, stop, label in items:
        begin = max(start, now)
        if stop - begin < smallest:
            continue  # wholly covered by its neighbour
        if begin - now >= smallest:
            covered.append((now, begin, ""))
        else:
            begin = now
        covered.append((begin, stop, label))
        now = stop
    if end - now >= smallest or not covered:
        covered.append((now, end, ""))
    return covered
