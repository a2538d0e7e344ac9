"""One planted voice for all tests of this folder."""

from __future__ import annotations

import pytest
from half_understood import HalfUnderstood, half_understood, tell_gains

from wav2vec_u.selftrain import rounds


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> HalfUnderstood:
    """A voice that the matching has half understood; nobody writes to it."""
    return half_understood(tmp_path_factory.mktemp("half_understood"))


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a generator be taught in a few updates, and rounds go on whatever that gains."""
    monkeypatch.setattr(rounds, "LEAST_UPDATES", 4)
    tell_gains(monkeypatch, range(9))
