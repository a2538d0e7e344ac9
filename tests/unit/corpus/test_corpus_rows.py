"""Manifests of every format, and folders."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath

import pytest

from wav2vec_u.corpus.manifest import (
    Recording,
    read_recordings,
    write_fairseq_tsv,
    write_recordings,
)
from wav2vec_u.corpus.references import read_references
from wav2vec_u.corpus.rejections import Rejection
from wav2vec_u.corpus.rows import Row, iter_rows, recording_id
from wav2vec_u.corpus.sources import Source, read_sources
from wav2vec_u.runtime.errors import UserError

ODD_NAMES = ["two words.wav", "a \"quote\" 'b'.wav", "emoji 🎤.wav", "Ünï.cöde.wav", "dot.v2.wav"]


def manifest(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("audio", "expected"),
    [
        ("/d/a/b.wav", "a/b"),
        ("/d/a/b.OPUS", "a/b"),
        ("/d/a/b.2020-01-02", "a/b.2020-01-02"),
        ("/d/Mr. Smith.flac", "Mr. Smith"),
        ("/elsewhere/b.wav", "/elsewhere/b"),
    ],
)
def test_recording_id(audio: str, expected: str) -> None:
    assert recording_id(PurePosixPath(audio), PurePosixPath("/d")) == expected


def test_tsv_with_header(tmp_path: Path) -> None:
    text = 'path\tspeaker\tseconds\tsplit\ttext\naudio/0.opus\tanna\t1.0\ttest\tHe said "hi".\n'
    (row,) = iter_rows(manifest(tmp_path, "manifest.tsv", text))
    assert row == Row(
        "audio/0", tmp_path / "audio/0.opus", split="test", speaker="anna", text='He said "hi".'
    )


def test_tsv_columns_in_any_order_with_windows_line_ends_and_bom(tmp_path: Path) -> None:
    path = tmp_path / "m.tsv"
    path.write_bytes("\ufeffsplit\tpath\r\ndev\ta b.wav\r\n\r\n\tc.wav\r\n".encode())
    first, second = iter_rows(path)
    assert (first.id, first.split, first.audio) == ("a b", "dev", tmp_path / "a b.wav")
    assert (second.id, second.split) == ("c", None)


def test_jsonl(tmp_path: Path) -> None:
    lines = [
        {"audio": "a.wav", "id": "first", "speaker": 0, "split": "test", "text": "words"},
        {"audio": "/abs/b.wav"},
        {"audio": str(tmp_path / "sub" / "c.flac")},
    ]
    path = manifest(tmp_path, "m.jsonl", "\n".join(map(json.dumps, lines)))
    first, second, third = iter_rows(path)
    assert first == Row("first", tmp_path / "a.wav", "test", "0", "words")
    assert (second.id, second.audio, second.split) == ("/abs/b", Path("/abs/b.wav"), None)
    assert third.id == "sub/c"


def test_fairseq_tsv(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    for root in (str(tmp_path / "root"), "root"):
        path = manifest(tmp_path, "train.tsv", f"{root}\nx/a.flac\t16000\nb c.flac\t320\n")
        rows = list(iter_rows(path))
        assert [row.id for row in rows] == ["x/a", "b c"]
        assert rows[0].audio == tmp_path / "root/x/a.flac"
        assert rows[0].text is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{not json", "bad_line"),
        ("[1, 2]", "bad_line"),
        ('{"text": "no audio"}', "bad_line"),
        ('{"audio": null}', "bad_line"),
        ('{"audio": "a\\u0000b.wav"}', "bad_name"),
        ('{"audio": "a\\ud800.wav"}', "bad_name"),
    ],
)
def test_bad_lines_are_named_and_the_others_kept(tmp_path: Path, line: str, reason: str) -> None:
    path = manifest(tmp_path, "m.jsonl", f'{{"audio": "a.wav"}}\n{line}\n{{"audio": "b.wav"}}\n')
    rows = list(iter_rows(path))
    assert [row.id for row in rows if isinstance(row, Row)] == ["a", "b"]
    (rejection,) = [row for row in rows if isinstance(row, Rejection)]
    assert (rejection.what, rejection.reason) == (f"{path}:2", reason)


def test_manifests_of_no_known_format(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"m\.tsv: has 3 columns and no header"):
        list(iter_rows(manifest(tmp_path, "m.tsv", "a.wav\tb\tc\n")))
    with pytest.raises(UserError, match=r"m\.tsv: its first line is neither"):
        list(iter_rows(manifest(tmp_path, "m.tsv", "just some text\n")))
    binary = tmp_path / "m.bin"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        list(iter_rows(binary))


def test_folder_is_searched_in_sorted_order(files) -> None:
    for name in ["b/z.wav", "b/a.flac", "a.MP3", *ODD_NAMES, "call.m4a"]:
        path = files.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for other in ["b/notes.txt", "._b.wav", ".hidden/c.wav"]:
        path = files.folder / other
        path.parent.mkdir(exist_ok=True)
        path.touch()
    sources, rejections = read_sources(files.folder)
    assert rejections == []
    expected = ["b/z", "b/a", "a", *(name[: -len(".wav")] for name in ODD_NAMES), "call.m4a"]
    assert sorted(source.id for source in sources) == sorted(expected)
    assert [source.audio for source in sources] == sorted(
        (source.audio for source in sources), key=str
    )
    assert all(source.split is None for source in sources)


def test_linked_folders_are_followed_but_not_in_circles(files) -> None:
    (files.folder / "real").mkdir(parents=True)
    (files.folder / "real" / "a.wav").touch()
    try:
        (files.folder / "real" / "back").symlink_to(files.folder, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    other = files.folder.parent / "other"
    other.mkdir()
    (other / "b.wav").touch()
    (files.folder / "linked").symlink_to(other, target_is_directory=True)
    sources, _ = read_sources(files.folder)
    assert [source.id for source in sources] == ["linked/b", "real/a"]


def test_names_that_are_no_unicode_are_rejected(files) -> None:
    files.folder.mkdir()
    try:
        Path(os.fsdecode(os.fsencode(files.folder) + b"/bad\xff.wav")).touch()
    except OSError:
        pytest.skip("this file system refuses such names")
    sources, (rejection,) = read_sources(files.folder)
    assert sources == []
    assert rejection.reason == "bad_name"
    json.dumps(rejection.what, ensure_ascii=False).encode("utf-8")


def test_the_second_of_two_with_one_id_is_rejected(tmp_path: Path) -> None:
    path = manifest(tmp_path, "m.jsonl", '{"audio": "a.wav"}\n{"audio": "a.flac"}\n')
    sources, rejections = read_sources(path)
    assert sources == [Source("a", tmp_path / "a.wav")]
    assert [(item.what, item.reason) for item in rejections] == [
        (str(tmp_path / "a.flac"), "duplicate")
    ]


def test_inputs_that_name_nothing(files, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        read_sources(tmp_path / "missing")
    files.folder.mkdir()
    with pytest.raises(UserError, match="holds no recordings"):
        read_sources(files.folder)
    with pytest.raises(UserError, match="is one recording"):
        read_sources(files.write("a.wav", files.noise(1.0)))
    for name, text in [("m.tsv", ""), ("m.tsv", "path\ttext\n"), ("m.jsonl", "\n")]:
        with pytest.raises(UserError, match="names no recordings"):
            read_sources(manifest(tmp_path, name, text))


def test_recordings_round_trip(tmp_path: Path) -> None:
    recordings = [
        Recording('odd "id" 🎤', "/a/b c.wav", 1.25, "train", None),
        Recording("x", "/x.wav", 3600.5, "test", "anna"),
    ]
    write_recordings(tmp_path, iter(recordings))
    assert read_recordings(tmp_path) == recordings


def test_recordings_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run the corpus stage first"):
        read_recordings(tmp_path)
    for damaged in ("{half", '{"id": "a"}\n'):
        manifest(tmp_path, "recordings.jsonl", damaged)
        with pytest.raises(UserError, match="is damaged"):
            read_recordings(tmp_path)


def test_fairseq_export_can_be_read_back(files, tmp_path: Path) -> None:
    first = files.write("x/a b.wav", files.noise(1.0))
    second = files.write("y.flac", files.noise(0.5, 8_000), 8_000)
    recordings = [
        Recording("a", str(first), 1.0, "train", None),
        Recording("b", str(second), 0.5, "train", None),
    ]
    path = tmp_path / "train.tsv"
    write_fairseq_tsv(path, recordings)
    assert path.read_text().splitlines() == [
        str(files.folder),
        "x/a b.wav\t16000",
        "y.flac\t4000",
    ]
    assert [source.audio for source in read_sources(path)[0]] == [first, second]
    with pytest.raises(UserError, match="no recordings"):
        write_fairseq_tsv(path, [])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "r.tsv",
            "path\tspeaker\tseconds\tsplit\ttext\na/1.opus\ts\t1\ttest\tone\n2.wav\t\t\t\t\n",
        ),
        ("r.tsv", "a/1.wav\tone\n"),
        ("r.txt", "a/1\tone\n"),
        ("r.tsv", "id\ttext\na/1\tone\n"),
        ("r.jsonl", '{"audio": "a/1.wav", "text": " one "}\n{"audio": "2.wav"}\n'),
        ("r.jsonl", '{"audio": "zzz.wav", "id": "a/1", "text": "one"}\n'),
    ],
)
def test_references_in_every_format(tmp_path: Path, name: str, text: str) -> None:
    assert read_references(manifest(tmp_path, name, text)) == {"a/1": "one"}


def test_references_keep_quotes_and_tabs_and_the_first_of_two(tmp_path: Path) -> None:
    path = manifest(tmp_path, "r.tsv", 'path\ttext\na.wav\t"one\ttwo\na.flac\tthree\n')
    assert read_references(path) == {"a": '"one\ttwo'}


def test_references_find_files_read_from_another_place(tmp_path: Path) -> None:
    path = manifest(tmp_path, "m.tsv", "path\ttext\naudio/1.wav\tone\naudio/2.wav\ttwo\n")
    recordings = [Recording("1", str(tmp_path / "audio/1.wav"), 1.0, "train", None)]
    assert read_references(path, recordings) == {"1": "one", "audio/2": "two"}


def test_references_without_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no transcripts"):
        read_references(manifest(tmp_path, "m.tsv", "path\nx.wav\n"))
    with pytest.raises(UserError, match="no such manifest"):
        read_references(tmp_path / "none.tsv")
