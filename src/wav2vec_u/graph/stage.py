"""The graph stage: the decoding graph of the unpaired text."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from wav2vec_u.config import GraphConfig
from wav2vec_u.graph.build import build_graph
from wav2vec_u.graph.language_model import write_word_model
from wav2vec_u.graph.transducer import GRAPH_NAME
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.text.corpus import PhoneText
from wav2vec_u.text.lexicon import read_lexicon
from wav2vec_u.text.spelling import Speller

EXTRA = ("kaldifst", "kaldilm")  # what the extra `decode` installs
_ARPA_NAME = "words.arpa"


def installed() -> bool:
    """Tell whether the extra ``decode`` is there."""
    try:
        for name in EXTRA:
            metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def usable(graph: Path) -> bool:
    """Tell whether a finished graph stage has made a graph."""
    return (graph / GRAPH_NAME).exists()


def run(work: Work, config: GraphConfig, text_file: Path, language: str, text: Path) -> None:
    """Build the graph; nothing where it is not wanted, or the extra ``decode`` is not installed.

    Parameters
    ----------
    work : Work
        Gets what `search.WordSearch` loads, ``spelling.arpa`` (`text.spelling.Speller`) if unknown
        words are to be found, and the counts ``words`` (of the graph),
        ``fragments``, ``words_left_out`` and ``states``.
    config : GraphConfig
    text_file : Path
        The unpaired text.
    language : str
    text : Path
        Finished text stage.

    Raises
    ------
    UserError
        If no word can be recognised.
    """
    if config.method == "none" or not installed():
        why = "graph.method is none" if config.method == "none" else "the extra decode is missing"
        work.counts.update(words=0, states=0, skipped=why)
        return
    arpa = work.folder / _ARPA_NAME
    words = read_lexicon(text)
    if config.fragments:
        Speller.learn(words, config.seed).save(work.folder)
    lexicon = write_word_model(
        arpa,
        text_file,
        words,
        language,
        order=config.ngram_order,
        prune=config.ngram_prune,
        max_words=config.max_words,
        fragments=config.fragments,
        seed=config.seed,
    )
    built = build_graph(
        work.folder,
        arpa,
        config.ngram_order,
        lexicon,
        PhoneText(text).phones,
        config.silence_probability,
    )
    arpa.unlink()
    work.counts.update(built)
