"""Lexica: ours and other people's."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.text.lexicon import Lexicon, read_lexicon, read_user_lexicon


def test_round_trip(tmp_path: Path) -> None:
    entries = {"cat": ("k", "æ", "t"), "well-known": ("w", "ɛ"), "l'eau": ("l", "o")}
    Lexicon(entries).write(tmp_path)
    back = read_lexicon(tmp_path)
    assert {word: back[word] for word in back} == entries
    assert len(back) == 3
    assert back.pronounce("cat l'eau") == ["k", "æ", "t", "l", "o"]
    assert back.pronounce("cat dog") is None


def test_damaged_artefact(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lexicon.tsv: .*cannot be read"):
        read_lexicon(tmp_path)
    (tmp_path / "lexicon.tsv").write_text("cat\tk æ t\ndog\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"lexicon.tsv:2: is damaged"):
        read_lexicon(tmp_path)


def test_user_lexicon_in_every_style(tmp_path: Path) -> None:
    path = tmp_path / "words.dict"
    path.write_text(
        "\ufeff;;; a comment\n\ncat\tk æ t\ndog  d ɒ ɡ\nREAD  R EH1 D\nREAD(2)  R IY1 D\n"
        "aalborg AO1 L # place, danish\n"
        "READ(3)\tR IY1 D\n)CLOSE-PAREN  K L OW1 Z\nma1\tm a 1\n...  D AA1 T\n",
        encoding="utf-8",
    )
    lexicon = read_user_lexicon(path)
    assert lexicon["cat"] == ("k", "æ", "t")
    assert lexicon["dog"] == ("d", "ɒ", "ɡ")
    assert lexicon["read"] == ("R", "EH", "D")  # the first reading, without stress
    assert lexicon["ma1"] == ("m", "a", "1")  # other people's digits stay
    assert lexicon["aalborg"] == ("AO", "L")
    assert len(lexicon) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat k æ t\ndog\n", r":2: expected a word and its phones.*'dog'"),
        ("cat\t\n", r":1: expected a word and its phones"),
        ("\tk æ t\n", r":1: expected a word and its phones"),
        ("cat k <SIL> t\n", r":1: .*reserved symbol"),
        (";;; nothing\n", "has no entry"),
    ],
)
def test_malformed_user_lexicon(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "words.dict"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read_user_lexicon(path)
    assert str(path) in str(caught.value)


def test_user_lexicon_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "words.dict").write_bytes(b"stra\xdfe s\n")
    with pytest.raises(UserError, match="not UTF-8"):
        read_user_lexicon(tmp_path / "words.dict")


PHONE = st.text(st.sampled_from("abkʃæɔ̃ːt"), min_size=1, max_size=3)


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(
        st.text(st.sampled_from("abcdeé"), min_size=1, max_size=6),
        st.lists(PHONE, min_size=1, max_size=5).map(tuple),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["\t", " ", "  ", "\t "]),
)
def test_user_lexicon_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, entries: dict[str, tuple[str, ...]], gap: str
) -> None:
    path = tmp_path_factory.mktemp("lexicon") / "words.dict"
    lines = [f"{word}{gap}{' '.join(phones)}\n" for word, phones in entries.items()]
    path.write_text("".join(lines), encoding="utf-8")
    lexicon = read_user_lexicon(path)
    assert {word: lexicon[word] for word in lexicon} == entries
