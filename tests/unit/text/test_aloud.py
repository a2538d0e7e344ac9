"""Drawing lines that a voice can read."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.text.aloud import MIN_LETTERS, can_be_read, sample_lines


def readable(number: int) -> str:
    """Return a line of letters that tells its number."""
    return (
        f"Line {'abcdefghij'[number // 10 % 10]}{'abcdefghij'[number % 10]} of a very long story."
    )


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- which lines ---


@pytest.mark.parametrize(
    "line",
    [
        "The ship came in at dawn, and nobody saw it.",
        "“Où êtes-vous?” — “Là-bas; j’arrive!”, dit-elle",
        "все счастливые семьи похожи друг на друга",
        "a" * MIN_LETTERS,
    ],
)
def test_plain_sentences_can_be_read(line: str) -> None:
    assert can_be_read(line)


@pytest.mark.parametrize("mark", ["7", "½", "²", "٣", "Ⅻ", "_", "[", "]", "*"])
def test_figures_and_marks_that_are_spelt_out_cannot_be_read(mark: str) -> None:
    line = "the ship came in at dawn and nobody saw it"
    assert can_be_read(line)
    for marked in (mark + line, line + mark, f"the {mark} {line}"):
        assert not can_be_read(marked)


def test_only_letters_count_for_the_length() -> None:
    letters = "ab" * (MIN_LETTERS // 2)
    assert can_be_read(letters)
    assert not can_be_read(letters[1:])
    assert not can_be_read(letters[1:] + " " * MIN_LETTERS + "." * MIN_LETTERS)
    assert can_be_read(", ".join(letters) + ".")


@pytest.mark.parametrize("line", ["", "   ", "..." * MIN_LETTERS, "—" * MIN_LETTERS])
def test_lines_without_letters_cannot_be_read(line: str) -> None:
    assert not can_be_read(line)


# --- which of them ---


def test_a_small_text_is_kept_whole_and_in_order(tmp_path: Path) -> None:
    lines = [readable(number) for number in range(9)]
    mixed = ["Chapter 1", *lines[:4], "", "too short", *lines[4:], "the end of it all * * * * * *"]
    path = write(tmp_path / "text.txt", mixed)
    assert sample_lines(path, 100, rng()) == lines
    assert sample_lines(path, 9, rng()) == lines


def test_a_sample_has_its_size_and_repeats_nothing(tmp_path: Path) -> None:
    lines = [readable(number) for number in range(60)]
    path = write(tmp_path / "text.txt", [item for line in lines for item in (line, "short")])
    for seed in range(5):
        sample = sample_lines(path, 20, rng(seed))
        assert len(sample) == len(set(sample)) == 20
        assert set(sample) <= set(lines)


def test_the_same_seed_draws_the_same_lines_and_another_others(tmp_path: Path) -> None:
    path = write(tmp_path / "text.txt", [readable(number) for number in range(60)])
    assert sample_lines(path, 10, rng(1)) == sample_lines(path, 10, rng(1))
    assert set(sample_lines(path, 10, rng(1))) != set(sample_lines(path, 10, rng(2)))


def test_every_line_is_drawn_about_as_often(tmp_path: Path) -> None:
    lines = [readable(number) for number in range(40)]
    path = write(tmp_path / "text.txt", lines)
    draws, generator = 2_000, rng()
    counts = dict.fromkeys(lines, 0)
    for _ in range(draws):
        for line in sample_lines(path, 10, generator):
            counts[line] += 1
    shares = np.array(list(counts.values())) / draws
    # A share of 1/4 has a standard deviation of 0.01 here.
    np.testing.assert_allclose(shares, 10 / 40, atol=0.045)


def test_a_single_line_may_be_any(tmp_path: Path) -> None:
    lines = [readable(number) for number in range(5)]
    path = write(tmp_path / "text.txt", lines)
    drawn = [sample_lines(path, 1, rng(seed)) for seed in range(60)]
    assert {len(sample) for sample in drawn} == {1}
    assert {sample[0] for sample in drawn} == set(lines)


def test_a_folder_is_read_as_one_text(tmp_path: Path) -> None:
    lines = [readable(number) for number in range(4)]
    write(tmp_path / "a.txt", lines[:2])
    with gzip.open(tmp_path / "b.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(lines[2:]))
    write(tmp_path / "notes.md", [readable(9)])
    assert sample_lines(tmp_path, 10, rng()) == lines


@pytest.mark.parametrize("lines", [[], ["", "short", "12 of the long lines of this text"]])
def test_a_text_that_nobody_can_read_is_said(tmp_path: Path, lines: list[str]) -> None:
    path = write(tmp_path / "text.txt", lines)
    with pytest.raises(UserError, match=r"text\.txt: has no line that can be read aloud; give"):
        sample_lines(path, 10, rng())


def test_a_missing_text_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.txt: does not exist"):
        sample_lines(tmp_path / "absent.txt", 10, rng())
    with pytest.raises(UserError, match="holds no"):
        sample_lines(tmp_path, 10, rng())


def test_a_text_of_another_encoding_is_said(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes((readable(0) + "\nschön war es auf der langen Reise\n").encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.txt:2: is not UTF-8"):
        sample_lines(path, 10, rng())
