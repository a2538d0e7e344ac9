"""Files, seeds, devices, logs and fingerprints of inputs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wav2vec_u.runtime.device import pick_device
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl, write_json, write_jsonl, write_text
from wav2vec_u.runtime.inputs import hash_files, stamp_files
from wav2vec_u.runtime.memory import peak_rss_mb
from wav2vec_u.runtime.progress import MetricsLog, progress
from wav2vec_u.runtime.seeds import numpy_generator, torch_generator


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_jsonl(path, [{"a": "ø"}, {"b": [1]}])
    assert list(read_jsonl(path)) == [{"a": "ø"}, {"b": [1]}]

    def broken():  # type: ignore[no-untyped-def]
        yield {"a": 1}
        raise ValueError("in the middle")

    with pytest.raises(ValueError):
        write_jsonl(path, broken())
    assert list(read_jsonl(path)) == [{"a": "ø"}, {"b": [1]}]
    write_json(path, {"k": "é"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"k": "é"}
    write_text(path, "plain")
    assert path.read_text() == "plain"


def test_a_log_goes_on_in_the_same_file(tmp_path: Path) -> None:
    for step in (1, 2):
        with MetricsLog(tmp_path / "log.jsonl") as log:
            log.write(step=step)
    assert list(read_jsonl(tmp_path / "log.jsonl")) == [{"step": 1}, {"step": 2}]


def test_progress_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(3), label="x")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


@given(
    st.integers(0, 2**31),
    st.lists(st.integers(0, 99) | st.text(max_size=3), max_size=3),
    st.text(max_size=3),
)
def test_random_numbers_depend_on_seed_and_purpose(
    seed: int, purpose: list[int | str], other: str
) -> None:
    drawn = numpy_generator(seed, *purpose).integers(2**60)
    assert drawn == numpy_generator(seed, *purpose).integers(2**60)
    assert drawn != numpy_generator(seed, *purpose, "more", other).integers(2**60)
    assert drawn != numpy_generator(seed + 1, *purpose).integers(2**60)
    one = torch_generator(seed, *purpose)
    assert torch.equal(
        torch.randn(3, generator=one), torch.randn(3, generator=torch_generator(seed, *purpose))
    )


def test_devices() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda")
    with pytest.raises(UserError, match="device: toaster"):
        pick_device("toaster")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no usable GPU"):
            pick_device("cuda:0")


def test_memory_is_in_mebibytes() -> None:
    assert 10 < peak_rss_mb() < 100_000


def test_hashes_know_content_and_not_times(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("one")
    second.write_text("two")
    made = hash_files([first, second])
    os.utime(first, (1, 1))
    assert hash_files([first, second]) == made
    assert hash_files([second, first]) != made
    first.write_text("One")
    assert hash_files([first, second]) != made
    with pytest.raises(UserError, match=r"c\.txt"):
        hash_files([tmp_path / "c.txt"])


def test_stamps_know_sizes_times_and_absence(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    missing = stamp_files([path])
    path.write_bytes(b"123")
    os.utime(path, (1, 1))
    made = stamp_files([path])
    assert made != missing
    assert stamp_files([path]) == made
    os.utime(path, (2, 2))
    assert stamp_files([path]) != made
    path.write_bytes(b"1234")
    os.utime(path, (1, 1))
    assert stamp_files([path]) != made
