"""The graph stage: what it leaves, when it leaves nothing, and that its graph is of its text."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from wav2vec_u.config import GraphConfig, TextConfig
from wav2vec_u.graph import stage
from wav2vec_u.graph.search import WordSearch
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.text import stage as text_stage
from wav2vec_u.text.corpus import PhoneText
from wav2vec_u.text.lexicon import Lexicon, read_lexicon

needs_extra = pytest.mark.skipif(not stage.installed(), reason="no extra `decode`")

TEXT = ["abe gab bag", "gab abe", "bag abe gab", "abe bag", "gab gab bag"] * 4


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A finished text stage beside its text."""
    (tmp_path / "text.txt").write_text("\n".join(TEXT) + "\n", encoding="utf-8")
    folder = tmp_path / "text"
    folder.mkdir()
    config = TextConfig(phonemizer="graphemes", min_word_count=1, min_phone_share=0.0)
    text_stage.run(Work(folder), config, tmp_path / "text.txt", "en")
    return folder


def run_stage(text: Path, name: str = "graph", **settings: object) -> Work:
    work = Work(text.with_name(name))
    work.folder.mkdir(exist_ok=True)
    config = GraphConfig(**{"max_words": 1000, "fragments": 0, **settings})
    stage.run(work, config, text.with_suffix(".txt"), "en", text)
    return work


def test_without_a_graph_none_is_usable(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = run_stage(text, method="none")
    assert work.counts == {"words": 0, "states": 0, "skipped": "graph.method is none"}
    assert list(work.folder.iterdir()) == []
    assert not stage.usable(work.folder)
    monkeypatch.setattr(stage, "EXTRA", ("kaldifst", "no-such-package-of-anyones"))
    assert not stage.installed()
    work = run_stage(text)
    assert work.counts == {"words": 0, "states": 0, "skipped": "the extra decode is missing"}
    assert list(work.folder.iterdir()) == []
    assert not stage.usable(work.folder)


@needs_extra
def test_it_leaves_what_a_search_loads_and_no_more(text: Path) -> None:
    work = run_stage(text)
    left = {path.name for path in work.folder.iterdir()}
    assert left == {"graph.npz", "lexicon.tsv", "outputs.json"}
    assert work.counts["words"] == 3
    assert work.counts["fragments"] == work.counts["words_left_out"] == 0
    assert work.counts["states"] > 10
    assert "skipped" not in work.counts
    assert sorted(read_lexicon(work.folder)) == ["abe", "bag", "gab"]
    assert WordSearch(work.folder, 20.0, 8.0, 4000).phones == PhoneText(text).phones


@needs_extra
def test_a_graph_is_usable_without_the_extra(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = run_stage(text)
    monkeypatch.setattr(stage, "EXTRA", ("no-such-package-of-anyones",))
    monkeypatch.setitem(sys.modules, "kaldifst", None)
    monkeypatch.setitem(sys.modules, "kaldilm", None)
    assert stage.usable(work.folder), "made on another machine"
    search = WordSearch(work.folder, 20.0, 8.0, 4000)
    assert search.find(np.zeros((5, len(search.phones)), np.float32)) is not None


@needs_extra
def test_the_same_settings_make_the_same_graph(text: Path) -> None:
    one, again = (run_stage(text, name) for name in ("one", "again"))
    assert one.counts == again.counts
    for path in one.folder.iterdir():
        assert path.read_bytes() == (again.folder / path.name).read_bytes()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("silence_probability", 0.01),
        ("ngram_order", 2),
        ("max_words", 20),
        ("ngram_prune", (9, 9)),
        ("fragments", 5),
    ],
)
@needs_extra
def test_every_setting_shapes_the_graph(text: Path, setting: str, value: float) -> None:
    plain, shaped = run_stage(text, "plain"), run_stage(text, "shaped", **{setting: value})
    graphs = [(work.folder / "graph.npz").read_bytes() for work in (plain, shaped)]
    assert graphs[0] != graphs[1]


@needs_extra
def test_phones_last_as_long_as_the_search_is_told(text: Path) -> None:
    phones = PhoneText(text).phones
    graph = run_stage(text).folder
    # Every frame may be of any letter: only the search says how often the phone changes.
    heard = [phones.index(letter) for letter in "bag"]
    scores = np.full((30, len(phones)), -1.0, dtype=np.float32)
    scores[:, heard] = -0.5
    scores[:, 0] = -30.0  # nobody pauses
    counts = []
    for stay in (0.01, 0.99):
        found = WordSearch(graph, 50.0, 8.0, 4000, stay=stay).find(scores)
        assert found is not None
        counts.append(len(found.phones()))
    assert counts[1] < counts[0]


@needs_extra
def test_words_that_no_phone_of_the_text_spells_are_a_users_error(text: Path) -> None:
    Lexicon({"abe": ("x",), "bag": ("y",), "gab": ("z",)}).write(text)
    with pytest.raises(UserError, match="no word of the lexicon"):
        run_stage(text)
