"""The text stage as a whole."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wav2vec_u.config import TextConfig
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl
from wav2vec_u.testing.language import make_language
from wav2vec_u.text.corpus import PhoneText
from wav2vec_u.text.lexicon import read_lexicon
from wav2vec_u.text.stage import run

SHARED_TEXT = Path(__file__).parents[4] / "shared" / "text"


def run_stage(
    folder: Path, text: str | bytes | Path, language: str = "xx", **settings: Any
) -> dict[str, Any]:
    if not isinstance(text, Path):
        path = folder.parent / "text.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        text = path
    folder.mkdir()
    work = Work(folder)
    run(work, TextConfig(**{"phonemizer": "graphemes", **settings}), text, language)
    return work.counts


def test_planted_text_comes_back(tmp_path: Path) -> None:
    language = make_language(0)
    sentences = language.sentences(400, "text")
    lexicon_lines = [f"{word}\t{' '.join(phones)}" for word, phones in language.lexicon.items()]
    (tmp_path / "words.tsv").write_text("\n".join(lexicon_lines), encoding="utf-8")
    counts = run_stage(
        tmp_path / "text",
        "\n".join(" ".join(words).capitalize() + " ." for words in sentences),
        phonemizer="lexicon",
        lexicon=tmp_path / "words.tsv",
        min_word_count=1,
        min_phone_share=0.0,
    )
    text = PhoneText(tmp_path / "text")
    assert counts["sentences"] == counts["lines"] == len(text) == 400
    assert counts["rejected"] == {}
    for i, words in enumerate(sentences):
        expected = [phone for word in words for phone in language.lexicon[word]]
        assert [text.phones[p] for p in text.sentence(i)] == expected
    assert counts["words"] == sum(map(len, sentences))
    assert counts["phones"] == sum(map(len, text.sentences()))
    assert counts["phone_types"] == len(text.phones) - 1
    lexicon = read_lexicon(tmp_path / "text")
    assert all(lexicon[word] == language.lexicon[word] for word in lexicon)
    assert set(lexicon) == {word for words in sentences for word in words}
    # The models know the text: far better than one symbol is as good as another.
    held_out = [
        np.array([text.phones.index(p) for w in words for p in language.lexicon[w]])
        for words in language.sentences(50, "other text")
    ]
    model = text.language_model()
    assert model.order == 4
    assert model.perplexity(held_out) < 0.5 * len(text.phones)
    with_silence = text.language_model(with_silence=True)
    rng = np.random.default_rng(0)
    spoken = [text.sentence_with_silence(i, rng) for i in range(100)]
    assert with_silence.perplexity(spoken) < model.perplexity(spoken)


def test_sentences_are_rejected_by_reason(tmp_path: Path) -> None:
    good = ["aba bab", "bab aba"] * 10
    bad = ["aba once", "...", "aba 42", "42 bab", "ab", "ab", "qaba", "qaba aba", ""]
    counts = run_stage(
        tmp_path / "text", "\n".join(good + bad), min_phone_share=0.03, min_word_count=2
    )
    assert counts["rejected"] == {
        "unpronounceable": 2,
        "short": 2,
        "rare_phone": 2,
        "rare_word": 1,
        "empty": 1,
    }
    assert counts["sentences"] == 20
    assert counts["lines"] == 28  # the empty line is none
    assert counts["phones_dropped"] == ["q"]
    assert PhoneText(tmp_path / "text").phones == ["<SIL>", "a", "b"]
    rows = list(read_jsonl(tmp_path / "text" / "rejected.jsonl"))
    assert len(rows) == 8
    assert rows[0] == {
        "what": "text.txt:21",
        "reason": "rare_word",
        "detail": "'once' occurs 1 times: aba once",
    }


def test_long_lists_of_rejections_are_cut(tmp_path: Path) -> None:
    lines = [f"aba {'xyzuvw'[i % 6] * (2 + i)}" for i in range(1200)]
    counts = run_stage(tmp_path / "text", "\n".join(["aba aba"] * 3 + lines))
    assert counts["rejected"] == {"rare_word": 1200}
    rows = list(read_jsonl(tmp_path / "text" / "rejected.jsonl"))
    assert len(rows) == 1000
    assert max(len(row["detail"]) for row in rows) < 2000


def test_language_filter(tmp_path: Path) -> None:
    own = [" ".join(words) for words in make_language(0).sentences(600, "text")]
    foreign = [f"привет как дела сегодня {letter} завтра" for letter in "абвгд"]
    settings = {"min_word_count": 1, "min_phone_share": 0.0}
    unfiltered = run_stage(tmp_path / "all", "\n".join(own + foreign), **settings)
    assert unfiltered["sentences"] == 605
    counts = run_stage(
        tmp_path / "text", "\n".join(own + foreign), language_filter=True, **settings
    )
    assert 5 <= counts["rejected"]["language"] <= 10
    assert "п" not in PhoneText(tmp_path / "text").phones


def test_same_seed_same_files(tmp_path: Path) -> None:
    text = "\n".join(" ".join(words) for words in make_language(0).sentences(100, "text"))
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        run_stage(tmp_path / name, text, seed=seed)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == [
        "lexicon.tsv",
        "lm.arpa",
        "lm_sil.arpa",
        "phones.txt",
        "rejected.jsonl",
        "sentence_offsets.npy",
        "sentences.npy",
        "silence.json",
        "word_offsets.npy",
    ]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    drawn = [(tmp_path / name / "lm_sil.arpa").read_bytes() for name in ("one", "other")]
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no line with a word"),
        (b"...\n\n!!!\n", "no line with a word"),
        (b"every word once\n", r"no sentence is left \(1 rare_word\).*min_word_count"),
        (b"ab\nab\n", r"no sentence is left \(2 short\)"),
        ("schön\n".encode("latin-1"), "text.txt:1: is not UTF-8"),
    ],
)
def test_unusable_text(tmp_path: Path, text: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        run_stage(tmp_path / "text", text)
    assert "\n" not in str(caught.value)


def test_missing_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        run_stage(tmp_path / "text", tmp_path / "absent.txt")


needs_espeak = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("phonemizer", "espeakng_loader")),
    reason="phonemizer and espeakng-loader are not installed (extra `text`)",
)


@needs_espeak
def test_espeak_text_and_wrong_language(tmp_path: Path) -> None:
    text = "The cat sat on the mat.\nOn the mat the cat sat!\n"
    counts = run_stage(tmp_path / "text", text, "en", phonemizer="espeak")
    assert counts["sentences"] == 2
    assert counts["phonemizer_version"].startswith("1.")
    assert read_lexicon(tmp_path / "text")["cat"] == ("k", "æ", "t")
    json.dumps(counts)
    with pytest.raises(UserError, match="language: espeak has no voice 'klingonese'"):
        run_stage(tmp_path / "wrong", text, "klingonese", phonemizer="espeak")


@needs_espeak
@pytest.mark.corpora
@pytest.mark.parametrize(
    ("name", "language", "kept"),
    [("en_gutenberg", "en-us", 0.5), ("de_books", "de", 0.3), ("fr_books", "fr", 0.3)],
)
def test_real_books(tmp_path: Path, name: str, language: str, kept: float) -> None:
    book = SHARED_TEXT / f"{name}.txt"
    if not book.is_file():
        pytest.skip(f"{book.name} is not beside the checkout")
    with book.open(encoding="utf-8") as lines:
        sample = "".join(line for _, line in zip(range(4_000), lines, strict=False))
    counts = run_stage(tmp_path / "text", sample, language, phonemizer="espeak")
    assert counts["kept_share"] > kept
    assert 30 <= counts["phone_types"] <= 70
    text = PhoneText(tmp_path / "text")
    assert text.language_model().perplexity(list(text.sentences())) < 10
