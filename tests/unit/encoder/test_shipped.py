"""An encoder of our own is known by what is in it, a published one by its files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from songs import write_encoder

from wav2vec_u.encoder.checkpoint import DESCRIPTION, WEIGHTS
from wav2vec_u.encoder.shipped import find_encoder, identify_encoder
from wav2vec_u.runtime.errors import UserError


def test_the_same_weights_elsewhere_are_the_same_encoder(tmp_path: Path) -> None:
    shipped = find_encoder("base")
    assert shipped is not None
    copy = shutil.copytree(shipped, tmp_path / "copy")
    os.utime(copy / WEIGHTS, (1, 1))
    (copy / "README.md").write_text("another card", encoding="utf-8")
    assert identify_encoder(str(copy)) == identify_encoder("base")


@pytest.mark.parametrize("name", [DESCRIPTION, WEIGHTS])
def test_other_content_is_another_encoder(tmp_path: Path, name: str) -> None:
    folder = write_encoder(tmp_path / "own")
    before = identify_encoder(str(folder))
    with (folder / name).open("ab") as file:
        file.write(b" ")
    assert identify_encoder(str(folder)) != before


def test_half_an_encoder_cannot_be_known(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "own")
    (folder / WEIGHTS).unlink()
    with pytest.raises(UserError, match="cannot be read"):
        identify_encoder(str(folder))


def test_a_published_encoder_is_known_by_its_name_or_its_files(tmp_path: Path) -> None:
    assert identify_encoder("someone/large") == "someone/large"
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    before = identify_encoder(str(folder))
    assert identify_encoder(str(folder)) == before
    (folder / "model.safetensors").write_bytes(b"weights")
    assert identify_encoder(str(folder)) != before
