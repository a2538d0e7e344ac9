"""Planted faults of the audio side must be found, and a healthy side be let pass."""

from __future__ import annotations

import numpy as np
import pytest

from wav2vec_u.doctor.speech_checks import (
    check_audio_amount,
    check_clusters,
    check_frames,
    check_phone_rate,
    check_rejected,
    check_segment_rate,
    check_silence,
)


def healthy(n: int = 10, dim: int = 8) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(50 + i, dim)).astype(np.float32) for i in range(n)]


@pytest.mark.parametrize(
    ("hours", "level"), [(0.0, "stop"), (0.2, "stop"), (1.0, "warn"), (2.0, "ok"), (900.0, "ok")]
)
def test_audio_amount(hours: float, level: str) -> None:
    assert check_audio_amount(hours).level == level


@pytest.mark.parametrize(
    ("rate", "level"),
    [
        (5.0, "stop"),
        (10.0, "warn"),
        (12.4, "ok"),
        (14.0, "ok"),
        (16.2, "ok"),
        (22.0, "warn"),
        (25.0, "stop"),
        (28.5, "stop"),
    ],
)
def test_segment_rate(rate: float, level: str) -> None:
    finding = check_segment_rate(rate)
    assert finding.level == level
    assert f"{rate:.1f}" in finding.message
    assert ("target_rate_hz" in finding.advice) == (level != "ok")


@pytest.mark.parametrize(
    ("speech", "level"),
    [(0.0, "stop"), (3.0, "stop"), (15.0, "warn"), (70.0, "ok"), (99.5, "warn")],
)
def test_silence_share(speech: float, level: str) -> None:
    assert check_silence(speech, 100.0, 2).level == level


def test_short_recordings_may_be_without_a_pause() -> None:
    assert check_silence(99.5, 100.0, 20).level == "ok"


def test_silence_share_of_nothing() -> None:
    assert check_silence(0.0, 0.0, 0).level == "stop"


@pytest.mark.parametrize(
    ("kept", "rejected", "level"),
    [(100, 0, "ok"), (100, 3, "ok"), (80, 20, "warn"), (10, 90, "stop"), (0, 5, "stop")],
)
def test_rejected_share(kept: int, rejected: int, level: str) -> None:
    reasons = {"silent": rejected} if rejected else {}
    finding = check_rejected("recordings", kept, reasons)
    assert finding.level == level
    assert not rejected or f"silent {rejected}" in finding.message


@pytest.mark.parametrize(("rate", "level"), [(2.0, "warn"), (11.0, "ok"), (24.0, "warn")])
def test_phone_rate(rate: float, level: str) -> None:
    assert check_phone_rate(rate).level == level


@pytest.mark.parametrize(
    ("rate", "expected", "level"), [(10.8, 14.0, "warn"), (13.4, 14.0, "ok"), (11.0, 10.0, "ok")]
)
def test_phones_that_are_missed(rate: float, expected: float, level: str) -> None:
    finding = check_phone_rate(rate, expected)
    assert finding.level == level
    assert ("about 23% of the phones" in finding.advice) == (level == "warn")


def test_healthy_frames_pass() -> None:
    assert {finding.level for finding in check_frames(healthy())} == {"ok"}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_frames_that_are_not_finite_are_found(bad: float) -> None:
    frames = healthy()
    frames[4][7, 3] = bad
    (finding,) = check_frames(frames)
    assert finding.level == "stop"
    assert "1 of 10" in finding.message


def test_constant_dimensions_are_found() -> None:
    frames = healthy()
    for item in frames:
        item[:, 2] = 3.5
    assert [f.message for f in check_frames(frames) if f.level == "warn"] == [
        "1 of 8 dimensions are constant"
    ]


def test_encoder_that_gives_nothing_is_found() -> None:
    frames = [np.zeros((40 + i, 8), np.float32) for i in range(5)]
    assert any(f.level == "stop" and "constant" in f.message for f in check_frames(frames))


def test_encoder_that_ignores_its_input_is_found() -> None:
    frames = [healthy(1)[0].copy() for _ in range(6)]
    assert any(f.level == "stop" and "repeat" in f.message for f in check_frames(frames))


def test_a_recording_that_stands_there_twice_is_found() -> None:
    frames = healthy()
    frames[5] = frames[2].copy()
    assert any(f.level == "warn" and "1 of 10" in f.message for f in check_frames(frames))


def test_frames_that_only_tell_recordings_apart_are_found() -> None:
    rng = np.random.default_rng(0)
    frames = [
        (rng.normal(size=(1, 8)) * 10 + 0.05 * rng.normal(size=(50, 8))).astype(np.float32)
        for _ in range(10)
    ]
    assert any(f.level == "stop" and "variance" in f.message for f in check_frames(frames))


def test_no_frames_at_all() -> None:
    assert [f.level for f in check_frames([])] == ["stop"]
    assert [f.level for f in check_frames([np.zeros((0, 8))])] == ["stop"]


@pytest.mark.parametrize(
    ("counts", "level"),
    [
        ([10] * 64, "ok"),
        ([1000] + [1] * 63, "stop"),
        ([10] * 10 + [0] * 54, "warn"),
        ([0] * 64, "stop"),
    ],
)
def test_cluster_usage(counts: list[int], level: str) -> None:
    assert check_clusters(counts).level == level


def test_cluster_perplexity_is_that_of_a_planted_distribution() -> None:
    message = check_clusters([5] * 20 + [0] * 12).message
    assert "20 of 32" in message
    assert "as evenly as 20" in message
