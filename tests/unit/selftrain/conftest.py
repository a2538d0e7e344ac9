"""One planted voice, and what learns it, for all tests of this folder."""

from __future__ import annotations

import pytest
from half_understood import HalfUnderstood, half_understood, tell_gains
from voice_learner import Learner

from wav2vec_u.matching.decipherment import learn_language
from wav2vec_u.selftrain import rounds
from wav2vec_u.text.corpus import PhoneText


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> HalfUnderstood:
    """A voice that the matching has half understood; nobody writes to it."""
    return half_understood(tmp_path_factory.mktemp("half_understood"))


@pytest.fixture(scope="session")
def learner(made: HalfUnderstood) -> Learner:
    return Learner(made, learn_language(PhoneText(made.text), 0.0))


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a generator be taught in a few updates, and rounds go on whatever that gains."""
    monkeypatch.setattr(rounds, "LEAST_UPDATES", 4)
    tell_gains(monkeypatch, range(9))
