"""Two voices of a made-up language, for the tests of rounds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from planted_run import write_segments, write_text_artifact
from two_voice_rounds import REAL, TRAIN, VOICES, BothVoices
from two_voice_studio import Studio
from two_voices import write_labelled

from wav2vec_u.matching import stage
from wav2vec_u.matching.synthetic import SyntheticSegments
from wav2vec_u.segments.store import SegmentStore


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """For operations as small as these, two threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def made(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> BothVoices:
    """Both voices on disk; nobody writes to them."""
    folder = tmp_path_factory.mktemp("made")
    real = SegmentStore(write_segments(folder / "real", REAL))
    spoken = write_labelled(folder / "synthetic", VOICES.synthetic)
    return BothVoices(real, SyntheticSegments(spoken, real, TRAIN))


@pytest.fixture(scope="session")
def artefacts(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Segments and text that a stage reads; nobody writes to them."""
    folder = tmp_path_factory.mktemp("artefacts")
    return (
        write_segments(folder / "segments", REAL),
        write_text_artifact(folder / "text", VOICES.language, 400),
    )


@pytest.fixture
def studio(artefacts: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Studio:
    studio = Studio(*artefacts, calls=[])
    monkeypatch.setattr(stage, "write_synthetic", studio.write)
    return studio
