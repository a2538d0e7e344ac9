"""Spans: from decisions to utterances, and the way back to original time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec_u.silence.spans import (
    SpanMap,
    clean_spans,
    frame_is_speech,
    mask_to_spans,
    sample_bounds,
    speech_seconds,
    split_spans,
    widen_spans,
)


@st.composite
def span_lists(draw: st.DrawFn, longest: float = 20.0) -> list[tuple[float, float]]:
    lengths = draw(
        st.lists(st.tuples(st.floats(0.05, 5.0), st.floats(0.1, longest)), min_size=1, max_size=30)
    )
    spans, moment = [], 0.0
    for pause, speech in lengths:
        spans.append((moment + pause, moment + pause + speech))
        moment += pause + speech
    return spans


def spans_by_hand(mask: np.ndarray, seconds: float) -> list[tuple[float, float]]:
    spans, start = [], None
    for index, speaks in enumerate([*mask, False]):
        if speaks and start is None:
            start = index / 100
        elif not speaks and start is not None:
            spans.append((start, min(index / 100, seconds)))
            start = None
    return spans


@given(st.lists(st.booleans(), max_size=200))
def test_mask_to_spans_equals_the_plain_loop(values: list[bool]) -> None:
    mask = np.array(values, dtype=bool)
    seconds = max(0.0, len(mask) / 100 - 0.003)
    assert mask_to_spans(mask, seconds) == spans_by_hand(mask, seconds)


@given(span_lists(1.0), st.floats(0, 1), st.floats(0.01, 1))
def test_clean_spans_leaves_no_short_pause_and_no_short_span(spans, gap, shortest) -> None:
    cleaned = clean_spans(spans, gap, shortest)
    assert all(end - start >= shortest - 1e-5 for start, end in cleaned)
    gaps = [right[0] - left[1] for left, right in itertools.pairwise(cleaned)]
    assert all(pause >= gap - 1e-5 for pause in gaps)
    for start, end in spans:  # what is long enough alone is never lost
        if end - start >= shortest:
            assert any(left <= start and end <= right for left, right in cleaned)


def test_pauses_are_closed_before_bursts_are_dropped() -> None:
    syllables = [(0.0, 0.06), (0.1, 0.16), (0.2, 0.26)]
    assert clean_spans(syllables, 0.1, 0.1) == [(0.0, 0.26)]
    assert clean_spans(syllables, 0.0, 0.1) == []


@given(span_lists(1.0), st.floats(0, 1))
def test_wider_spans_hold_what_is_near_and_nothing_else(spans, margin) -> None:
    seconds = spans[-1][1] + 0.2
    wide = widen_spans(spans, margin, seconds)
    assert all(left[1] < right[0] for left, right in itertools.pairwise(wide))
    for moment in np.linspace(0, seconds, 200, endpoint=False):
        distance = min(max(start - moment, moment - end, 0.0) for start, end in spans)
        if abs(distance - margin) > 1e-6:  # at the edge itself, rounding decides
            held = any(start <= moment <= end for start, end in wide)
            assert held == (distance < margin)


@given(span_lists(40.0), st.floats(1.0, 30.0), st.booleans())
def test_split_shares_out_exactly_the_speech_given(spans, max_seconds, count_pauses) -> None:
    pieces = split_spans(spans, max_seconds, count_pauses=count_pauses)
    flat = [span for piece in pieces for span in piece]
    assert all(piece for piece in pieces)
    assert all(end > start for start, end in flat)
    joined: list[tuple[float, float]] = []
    for start, end in flat:
        if joined and joined[-1][1] == start:  # a hard cut
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    assert joined == spans
    for piece in pieces:
        length = piece[-1][1] - piece[0][0] if count_pauses else speech_seconds(piece)
        assert length <= max_seconds + 1e-5
    if len(pieces) > 1 and not count_pauses:
        assert min(speech_seconds(piece) for piece in pieces) >= max_seconds / 4 - 1e-5


@given(span_lists(3.0))
def test_short_recordings_stay_whole(spans) -> None:
    assert split_spans(spans, 1e4, count_pauses=True) == [spans]


def test_split_takes_the_longest_pause_near_the_middle() -> None:
    spans = [(0.0, 2.0), (9.0, 15.0), (15.5, 22.0), (24.0, 30.0), (30.2, 40.0)]
    pieces = split_spans(spans, 20.0, count_pauses=False)
    assert pieces == [spans[:3], spans[3:]]


def test_a_pause_at_the_very_limit_is_taken() -> None:
    length = 1.540908080260635  # twice this, summed, ends a rounding behind the limit
    spans = [(1.0, 2.0), (3.0, 3.0 + length), (5.540908080260635, 7.081816160521271)]
    pieces = split_spans(spans, length, count_pauses=False)
    assert pieces == [[span] for span in spans]


def test_split_cuts_hard_where_there_is_no_pause() -> None:
    pieces = split_spans([(1.0, 46.0)], 20.0, count_pauses=False)
    assert pieces == [[(1.0, 16.0)], [(16.0, 31.0)], [(31.0, 46.0)]]


def test_a_long_pause_ends_an_utterance_where_pauses_count() -> None:
    spans = [(0.0, 5.0), (200.0, 205.0)]
    assert split_spans(spans, 30.0, count_pauses=True) == [spans[:1], spans[1:]]
    assert split_spans(spans, 30.0, count_pauses=False) == [spans]


@settings(max_examples=200)
@given(span_lists(), st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_trimmed_time_survives_the_round_trip(spans, shares) -> None:
    times = SpanMap(spans)
    trimmed = np.array(shares) * times.trimmed_seconds
    original = times.to_original(trimmed)
    np.testing.assert_allclose(times.to_trimmed(original), trimmed, atol=1 / 16_000)
    in_speech = [any(start - 1e-4 <= t <= end + 1e-4 for start, end in spans) for t in original]
    assert all(in_speech)


@given(span_lists())
def test_every_sample_of_the_cut_waveform_comes_from_its_own_place(spans) -> None:
    bounds = sample_bounds(spans)
    origin = np.concatenate([np.arange(begin, end) for begin, end in bounds])[::997]
    trimmed = np.arange(bounds[:, 1].sum() - bounds[:, 0].sum())[::997] / 16_000
    np.testing.assert_allclose(SpanMap(spans).to_original(trimmed) * 16_000, origin, atol=1e-3)


def test_pauses_map_to_their_seam_and_outside_goes_on() -> None:
    times = SpanMap([(1.0, 2.0), (5.0, 6.0)])
    np.testing.assert_allclose(
        times.to_trimmed(np.array([0.0, 1.5, 2.0, 3.0, 4.9, 5.0, 5.5, 9.0])),
        [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.5, 2.0],
    )
    np.testing.assert_allclose(times.to_original(np.array([1.0, 2.0, 2.5])), [5.0, 6.0, 6.5])
    assert times.trimmed_seconds == pytest.approx(2.0)


def test_a_stretch_is_the_map_of_one_span() -> None:
    np.testing.assert_allclose(SpanMap([(3.0, 8.0)]).to_original(np.array([0.0, 2.5])), [3.0, 5.5])


@given(span_lists(), st.lists(st.floats(0, 400), max_size=50))
def test_frame_is_speech_equals_the_plain_loop(spans, moments) -> None:
    expected = [any(start <= t < end for start, end in spans) for t in moments]
    assert frame_is_speech(np.array(moments), spans).tolist() == expected


def test_frame_is_speech_at_the_edges_and_without_speech() -> None:
    times = np.array([0.99, 1.0, 1.99, 2.0])
    assert frame_is_speech(times, [(1.0, 2.0)]).tolist() == [False, True, True, False]
    assert frame_is_speech(times, []).tolist() == [False] * 4
