"""Artefacts are whole or not there, and know when they are stale."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wav2vec_u.config import CorpusConfig
from wav2vec_u.runtime import artifact
from wav2vec_u.runtime.errors import UserError

CONFIG = CorpusConfig()


def make(final: Path, expected: str = "x", content: str = "data", resumable: bool = False) -> None:
    with artifact.create(
        final, stage="corpus", expected=expected, config=CONFIG, inputs={}, resumable=resumable
    ) as work:
        (work.folder / "inner").mkdir(exist_ok=True)
        (work.folder / "inner" / "data.txt").write_text(content)
        work.counts["n"] = 3


def test_a_finished_artefact_is_current_and_keeps_its_record(tmp_path: Path) -> None:
    final = tmp_path / "corpus"
    make(final)
    record = artifact.read_record(final)
    assert record is not None
    assert record.counts == {"n": 3}
    assert record.files == {"inner/data.txt": 4}
    assert record.config == CONFIG.model_dump(mode="json")
    assert artifact.is_current(final, "x")
    assert not artifact.is_current(final, "y")
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
    assert {path.name for path in final.iterdir()} == {"inner", "stage.json"}


def test_a_damaged_artefact_is_not_current(tmp_path: Path) -> None:
    final = tmp_path / "corpus"
    data, record = final / "inner" / "data.txt", final / "stage.json"
    make(final)
    data.write_text("dat")
    assert not artifact.is_current(final, "x")
    make(final)
    data.unlink()
    assert not artifact.is_current(final, "x")
    for broken in ("", "{", "[]", '{"stage": "corpus"}'):
        make(final)
        record.write_text(broken)
        assert not artifact.is_current(final, "x")
        assert artifact.identity(final) == ""


def test_an_older_schema_is_stale(tmp_path: Path) -> None:
    final = tmp_path / "corpus"
    make(final)
    record = json.loads((final / "stage.json").read_text())
    record["schema"] -= 1
    (final / "stage.json").write_text(json.dumps(record))
    assert not artifact.is_current(final, "x")


def test_an_error_leaves_the_old_artefact(tmp_path: Path) -> None:
    final = tmp_path / "corpus"
    make(final, content="old")

    def fail() -> None:
        with artifact.create(final, stage="corpus", expected="y", config=CONFIG, inputs={}) as work:
            (work.folder / "data.txt").write_text("half")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        fail()
    assert (final / "inner" / "data.txt").read_text() == "old"
    assert artifact.is_current(final, "x")


def test_only_the_same_work_is_resumed(tmp_path: Path) -> None:
    final = tmp_path / "features"

    def start(expected: str, resumable: bool) -> bool:
        with artifact.create(
            final,
            stage="features",
            expected=expected,
            config=CONFIG,
            inputs={},
            resumable=resumable,
        ) as work:
            resumed = work.resumed
            assert (work.folder / "half").exists() == resumed
            (work.folder / "half").write_text("done")
            raise KeyboardInterrupt(resumed)

    for expected, resumable, resumed in (
        ("a", True, False),
        ("a", True, True),
        ("b", True, False),
        ("b", False, False),
    ):
        with pytest.raises(KeyboardInterrupt, match=str(resumed)):
            start(expected, resumable)


@pytest.mark.parametrize("half", ["corpus.partial", "corpus.old"])
def test_leftovers_of_a_kill_are_cleared(tmp_path: Path, half: str) -> None:
    (tmp_path / half).mkdir()
    (tmp_path / half / "junk").write_text("")
    make(tmp_path / "corpus")
    make(tmp_path / "corpus", content="new")
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
    assert (tmp_path / "corpus" / "inner" / "data.txt").read_text() == "new"


def test_every_making_has_its_own_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two makings that cost just the same must still be told apart.
    monkeypatch.setattr(artifact.time, "monotonic", lambda: 1.0)
    monkeypatch.setattr(artifact, "peak_rss_mb", lambda: 1.0)
    make(tmp_path / "a")
    first = artifact.identity(tmp_path / "a")
    assert first == artifact.identity(tmp_path / "a") != ""
    make(tmp_path / "a")
    assert artifact.identity(tmp_path / "a") not in ("", first)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "disk is full"),
        (errno.EFBIG, "disk is full"),
        (errno.EROFS, "cannot be written"),
        (errno.EACCES, "cannot be written"),
    ],
)
def test_the_disks_errors_are_one_line(tmp_path: Path, code: int, said: str) -> None:
    def fail() -> None:
        with artifact.create(
            tmp_path / "corpus", stage="corpus", expected="x", config=CONFIG, inputs={}
        ):
            raise OSError(code, "as the system says")

    with pytest.raises(UserError, match=said) as caught:
        fail()
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "corpus").exists()


def test_other_errors_of_the_system_pass(tmp_path: Path) -> None:
    def fail() -> None:
        with artifact.create(
            tmp_path / "corpus", stage="corpus", expected="x", config=CONFIG, inputs={}
        ):
            raise OSError(errno.EIO, "broken cable")

    with pytest.raises(OSError, match="broken cable"):
        fail()


def test_a_file_in_the_place_of_the_partial_folder(tmp_path: Path) -> None:
    (tmp_path / "corpus.partial").write_text("")
    with pytest.raises(UserError, match="is no folder"):
        make(tmp_path / "corpus")


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=5))
def test_fingerprints_know_every_part(parts: dict[str, int | str]) -> None:
    made = artifact.fingerprint(parts=parts)
    assert made == artifact.fingerprint(parts=dict(reversed(parts.items())))
    for key in parts:
        assert artifact.fingerprint(parts={**parts, key: "something else"}) != made
    assert artifact.fingerprint(parts={**parts, "another key": 0}) != made
