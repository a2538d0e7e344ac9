"""Sentences of phones on disk, and the silence between their words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.text.corpus import PhoneText, PhoneTextWriter

Sentences = list[list[list[str]]]


def write(
    folder: Path, sentences: Sentences, probability: float = 0.25, surround: bool = True
) -> PhoneText:
    folder.mkdir(exist_ok=True)
    with PhoneTextWriter(
        folder, silence_probability=probability, surround_with_silence=surround
    ) as writer:
        for words in sentences:
            writer.append(words)
    return PhoneText(folder)


def spell(text: PhoneText, ids: np.ndarray) -> list[str]:
    return [text.phones[i] for i in ids]


SENTENCES: Sentences = [
    [["k", "a", "t"], ["ʃ"]],
    [["a"]],
    [["t", "a"], ["k", "a"], ["a"], ["t", "ʃ"]],
]


def test_gives_back_what_was_written(tmp_path: Path) -> None:
    text = write(tmp_path / "text", SENTENCES)
    assert text.phones == ["<SIL>", "k", "a", "t", "ʃ"]
    assert len(text) == 3
    for i, words in enumerate(SENTENCES):
        assert spell(text, text.sentence(i)) == [phone for word in words for phone in word]
        assert text.sentence(i).dtype == np.int32
    assert [len(s) for s in text.sentences()] == [4, 1, 7]


def test_silence_certain_and_never(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    always = write(tmp_path / "always", SENTENCES, probability=1.0)
    assert spell(always, always.sentence_with_silence(0, rng)) == (
        ["<SIL>", "k", "a", "t", "<SIL>", "ʃ", "<SIL>"]
    )
    inside = write(tmp_path / "inside", SENTENCES, probability=1.0, surround=False)
    assert spell(inside, inside.sentence_with_silence(0, rng)) == ["k", "a", "t", "<SIL>", "ʃ"]
    ends = write(tmp_path / "ends", SENTENCES, probability=0.0)
    assert spell(ends, ends.sentence_with_silence(1, rng)) == ["<SIL>", "a", "<SIL>"]
    never = write(tmp_path / "never", SENTENCES, probability=0.0, surround=False)
    for i in range(3):
        np.testing.assert_array_equal(never.sentence_with_silence(i, rng), never.sentence(i))


def test_silence_is_drawn_anew_at_its_rate(tmp_path: Path) -> None:
    words = 40
    text = write(tmp_path / "text", [[["a", "b"]] * words] * 4, probability=0.25)
    rng = np.random.default_rng(0)
    draws = [text.sentence_with_silence(i % 4, rng) for i in range(500)]
    between = np.array([np.count_nonzero(draw == 0) - 2 for draw in draws])
    # Binomial(39, 0.25): five standard errors of its mean and of its variance.
    slots, p = words - 1, 0.25
    assert between.mean() == pytest.approx(slots * p, abs=5 * np.sqrt(slots * p * (1 - p) / 500))
    assert between.var() == pytest.approx(slots * p * (1 - p), rel=0.35)
    assert len({draw.tobytes() for draw in draws}) > 490
    # Every slot has the same chance, and silence never falls into a word.
    counts = np.zeros(slots)
    for draw in draws:
        body = draw[1:-1]
        counts[np.cumsum(body == 1)[body == 0] - 1] += 1
        assert np.all(body[np.flatnonzero(body == 1) + 1] == 2)
    assert np.all(np.abs(counts / 500 - p) < 5 * np.sqrt(p * (1 - p) / 500))
    # The same generator state gives the same silence.
    again = text.sentence_with_silence(0, np.random.default_rng(0))
    np.testing.assert_array_equal(draws[0], again)


def test_batches_hold_whole_sentences(tmp_path: Path) -> None:
    text = write(tmp_path / "text", SENTENCES, probability=0.5)
    rng = np.random.default_rng(1)
    plain = {tuple(text.sentence(i).tolist()) for i in range(3)}
    seen = set()
    ids, lengths = text.sample_batch(rng, 300)
    assert ids.dtype == np.int64
    assert ids.shape == (300, lengths.max())
    for row, length in zip(ids, lengths, strict=True):
        assert not row[length:].any()
        assert row[0] == 0
        assert row[length - 1] == 0
        spoken = tuple(row[row > 0].tolist())
        assert spoken in plain
        seen.add(spoken)
    assert seen == plain
    everything = list(text.sentences_with_silence(rng))
    assert [tuple(s[s > 0].tolist()) for s in everything] == [
        tuple(s.tolist()) for s in text.sentences()
    ]


@settings(deadline=None, max_examples=40)
@given(
    sentences=st.lists(
        st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4), min_size=1, max_size=5),
        min_size=1,
        max_size=6,
    ),
    probability=st.sampled_from([0.0, 0.3, 1.0]),
    surround=st.booleans(),
    seed=st.integers(0, 99),
)
def test_silence_equals_plain_insertion(
    tmp_path_factory: pytest.TempPathFactory,
    sentences: Sentences,
    probability: float,
    surround: bool,
    seed: int,
) -> None:
    text = write(tmp_path_factory.mktemp("t") / "text", sentences, probability, surround)
    chosen = np.random.default_rng(seed).integers(len(text), size=7)
    rng = np.random.default_rng(seed)
    rng.integers(len(text), size=7)  # what sample_batch draws first
    expected = []
    for i in chosen.tolist():
        draws = rng.random(len(sentences[i])) < probability  # one for every word
        row = ["<SIL>"] * surround
        for number, word in enumerate(sentences[i]):
            row += ["<SIL>"] * bool(number and draws[number]) + word
        expected.append(row + ["<SIL>"] * surround)
    ids, lengths = text.sample_batch(np.random.default_rng(seed), 7)
    got = [spell(text, row[:length]) for row, length in zip(ids, lengths, strict=True)]
    assert got == expected


def test_split_halves(tmp_path: Path) -> None:
    sentences: Sentences = [[[f"p{i}", "a"]] for i in range(21)]
    text = write(tmp_path / "text", sentences)
    one, other = text.split_halves(np.random.default_rng(0))
    assert (len(one), len(other)) == (10, 11)
    halves = [tuple(s.tolist()) for half in (one, other) for s in half.sentences()]
    assert sorted(halves) == sorted(tuple(s.tolist()) for s in text.sentences())
    assert len(text) == 21
    ids, _ = one.sample_batch(np.random.default_rng(0), 200)
    mine = {tuple(s.tolist()) for s in one.sentences()}
    assert {tuple(row[row > 0].tolist()) for row in ids} == mine


def test_missing_or_damaged_artefact(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run the text stage again"):
        PhoneText(tmp_path)
    write(tmp_path / "text", SENTENCES)
    array = tmp_path / "text" / "sentences.npy"
    content = array.read_bytes()
    array.write_bytes(content[:-4])
    with pytest.raises(UserError, match="run the text stage again"):
        PhoneText(tmp_path / "text")
    np.save(array, np.zeros(3, dtype=np.int16))
    with pytest.raises(UserError, match="do not fit together"):
        PhoneText(tmp_path / "text")


def test_an_error_leaves_no_finished_text(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError),
        PhoneTextWriter(tmp_path, silence_probability=0.25, surround_with_silence=True) as writer,
    ):
        writer.append([["a"]])
        raise RuntimeError
    with pytest.raises(UserError):
        PhoneText(tmp_path)
