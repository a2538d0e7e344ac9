"""The decoding graph H∘L∘G: from frames to words in one transducer.

G is the word n-gram model, L the lexicon with an optional silence between words, H the frames: a
phone lasts one frame or more. Mohri, Pereira and Riley (2008), *Speech recognition with weighted
finite-state transducers*; the ways of Kaldi, without Kaldi's installation.

Labels on the input side: outputs of the generator, counted from 1, for the first frame of a phone
inside a word, and of a pause; the same plus V for the first frame of a word; the same plus 2 V for
the further frames of a phone. So the best path tells where each phone begins, even between equal
neighbours, and who searches can put a price on words, and on phones that last: how many frames that
is, is no matter of the text, and the same graph serves frames and segments.
"""

from __future__ import annotations

import math
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wav2vec_u.graph.fragments import goes_on, is_fragment
from wav2vec_u.graph.transducer import Transducer
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_json, write_text
from wav2vec_u.text.lexicon import Lexicon

PHONES_NAME = "outputs.json"
_SYMBOLS_NAME = "symbols.txt"
_EPSILON = "<eps>"
_BACKOFF = "#0"
_OTHERS = ("<s>", "</s>", "<unk>")
SILENCE_LABEL = 1  # label of the generator's first output
STAY = 0.6  # that a phone goes on for another frame; a search that knows better corrects it


def build_graph(
    folder: Path, arpa: Path, order: int, lexicon: Lexicon, phones: list[str], silence: float
) -> dict[str, int]:
    """Compose the graph and write it as a `Transducer`, with its lexicon.

    Parameters
    ----------
    folder : Path
        Existing folder.
    arpa : Path
        Word n-gram model over words of the lexicon.
    order : int
        Of the model.
    lexicon : Lexicon
        Words, and fragments of unknown ones.
    phones : list of str
        The V outputs of the generator; the first is silence. Words with another phone are left out.
    silence : float
        Probability of a silence between two words, and at either end.

    Returns
    -------
    dict
        ``words``, ``fragments``, ``words_left_out``, ``states``.

    Raises
    ------
    UserError
        If the extra ``decode`` is not installed, or no word can be said with these phones.
    """
    kaldifst, kaldilm = _import_fst()
    labels = {phone: label for label, phone in enumerate(phones, start=1)}
    spoken = {
        word: [labels[phone] for phone in lexicon[word]]
        for word in lexicon
        if all(phone in labels for phone in lexicon[word])
    }
    if not spoken:
        raise UserError("words: no word of the lexicon consists of the phones that are recognised")
    symbols = [_EPSILON, *lexicon, _BACKOFF, *_OTHERS]
    numbers = {symbol: number for number, symbol in enumerate(symbols)}
    table = folder / _SYMBOLS_NAME
    write_text(table, "".join(f"{symbol} {number}\n" for number, symbol in enumerate(symbols)))
    with _quiet():
        written = kaldilm.arpa2fst(
            input_arpa=str(arpa),
            disambig_symbol=_BACKOFF,
            read_symbol_table=str(table),
            max_order=order,
        )
    grammar = kaldifst.compile(written)
    table.unlink()
    first_mark = 2 * len(phones) + 1  # labels that tell apart what sounds alike, removed by H
    arcs, last_mark = _lexicon_arcs(spoken, numbers, len(phones), first_mark, silence)
    words = kaldifst.compile("\n".join(arcs))
    kaldifst.add_self_loops(words, [first_mark], [numbers[_BACKOFF]])
    kaldifst.arcsort(words, "olabel")
    kaldifst.arcsort(grammar, "ilabel")
    language = kaldifst.compose(words, grammar)
    kaldifst.determinize_star(language)
    kaldifst.minimize_encoded(language)
    frames = kaldifst.compile("\n".join(_frame_arcs(len(phones), range(first_mark, last_mark + 1))))
    kaldifst.arcsort(frames, "olabel")
    kaldifst.arcsort(language, "ilabel")
    graph = kaldifst.compose(frames, language)
    kaldifst.connect(graph)
    Transducer.from_fst(graph).save(folder)
    lexicon.write(folder)
    write_json(folder / PHONES_NAME, phones)
    words = sum(not is_fragment(word) for word in spoken)
    return {
        "words": words,
        "fragments": len(spoken) - words,
        "words_left_out": len(lexicon) - len(spoken),
        "states": graph.num_states,
    }


def _lexicon_arcs(
    spoken: dict[str, list[int]],
    numbers: dict[str, int],
    n_phones: int,
    first_mark: int,
    silence: float,
) -> tuple[list[str], int]:
    """Return the arcs of L as text, and the last label that marks what sounds alike."""
    pause, no_pause = -math.log(silence), -math.log(1 - silence)
    start, loop, paused, marked, inside = range(5)  # inside: of a word that goes on
    arcs = [
        _arc(start, loop, 0, 0, no_pause),
        _arc(start, loop, SILENCE_LABEL, 0, pause),
    ]
    times = Counter(tuple(labels) for labels in spoken.values())
    beginnings = {labels[:end] for labels in times for end in range(1, len(labels))}
    used: Counter[tuple[int, ...]] = Counter()
    state = inside + 1
    for word, labels in spoken.items():
        key = tuple(labels)
        path = list(labels)
        if times[key] > 1 or key in beginnings:
            used[key] += 1
            path.append(first_mark + used[key])
        # A word that goes on is ended by a fragment that ends it, and by no other word.
        for here in (loop, inside) if is_fragment(word) else (loop,):
            first = path[0] + n_phones if here == loop else path[0]
            *before, last = [first, *path[1:]]
            for place, label in enumerate(before):
                arcs.append(_arc(here, state, label, numbers[word] if place == 0 else 0))
                here = state
                state += 1
            output = 0 if before else numbers[word]
            if goes_on(word):
                arcs.append(_arc(here, inside, last, output))
            else:
                arcs.append(_arc(here, loop, last, output, no_pause))
                arcs.append(_arc(here, paused, last, output, pause))
    last_mark = first_mark + max(used.values(), default=0) + 1
    arcs.append(_arc(paused, marked, SILENCE_LABEL, 0))
    arcs.append(_arc(marked, loop, last_mark, 0))
    arcs.append(str(loop))
    return arcs, last_mark


def _frame_arcs(n_phones: int, marks: range) -> Iterator[str]:
    """Yield the arcs of H as text: state 0 lies between phones, state i in phone i."""
    again, on = -math.log(STAY), -math.log(1 - STAY)
    for label in range(1, n_phones + 1):
        yield _arc(0, label, label, label)
        yield _arc(0, label, label + n_phones, label + n_phones)
        yield _arc(label, label, label + 2 * n_phones, 0, again)
        yield _arc(label, 0, 0, 0, on)
    for mark in marks:
        yield _arc(0, 0, 0, mark)
    yield "0"


def _arc(source: int, target: int, label: int, output: int, cost: float = 0.0) -> str:
    return f"{source} {target} {label} {output} {cost:.6f}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what a C++ library says to stderr from the user."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _import_fst() -> tuple[Any, Any]:
    try:
        import kaldifst
        import kaldilm
    except ImportError as error:
        raise UserError(
            "graph: building a decoding graph needs kaldifst and kaldilm; "
            "run: pip install 'wav2vec-u[decode]'"
        ) from error
    return kaldifst, kaldilm
