"""The words stage: a decoding graph of the text, and the words of every utterance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from wav2vec_u.config import WordsConfig
from wav2vec_u.corpus.rejections import Rejection, count_by_reason, write_rejections
from wav2vec_u.decode.hypotheses import recording_of
from wav2vec_u.decode.stage import load_hmm
from wav2vec_u.matching.batches import training_utterances
from wav2vec_u.matching.frame_hmm import mean_probabilities
from wav2vec_u.matching.generator import GENERATOR_NAME, load_generator, log_probs
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.files import write_json, write_jsonl
from wav2vec_u.runtime.progress import progress
from wav2vec_u.segments.store import SegmentStore
from wav2vec_u.text.corpus import PhoneText
from wav2vec_u.text.lexicon import read_lexicon
from wav2vec_u.words.decoder import WordDecoder, save_prior, stay_of
from wav2vec_u.words.graph import GraphShape, build_graph
from wav2vec_u.words.hypotheses import FILE_NAME, WordHypothesis
from wav2vec_u.words.language_model import write_word_model

EXTRA = ("kaldifst", "kaldilm", "kaldi-decoder")  # what the extra `decode` installs
_ARPA_NAME = "words.arpa"
_FIGURES_NAME = "graph.json"
_PRIOR_UTTERANCES = 1_000


def installed() -> bool:
    """Tell whether the extra ``decode`` is there."""
    try:
        for name in EXTRA:
            metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def run(
    work: Work,
    config: WordsConfig,
    text_file: Path,
    language: str,
    *,
    segments: Path,
    text: Path,
    matching: Path,
    stay: float,
) -> None:
    """Build the graph and decode all utterances of all splits.

    Writes ``hypotheses.jsonl``, ``rejected.jsonl`` (``no_path``: no sequence of words fits the
    utterance) and what `decoder.WordDecoder` loads; nothing where words are not wanted, or the
    extra ``decode`` is not installed.

    Parameters
    ----------
    work : Work
        A graph that an interrupted run has built is not built again. Gets the counts
        ``utterances``, ``words`` (found), ``vocabulary``, ``graph_states`` and ``rejected``.
    config : WordsConfig
    text_file : Path
        The unpaired text.
    language : str
    segments, text, matching : Path
        Finished artefacts.
    stay : float
        Probability that a segment goes on with the phone of the one before it, where the matching
        has learned no model that says so.

    Raises
    ------
    UserError
        If the artefacts do not belong together, or no word can be recognised.
    """
    if config.method == "none" or not installed():
        why = "words.method is none" if config.method == "none" else "the extra decode is missing"
        work.counts.update(utterances=0, words=0, skipped=why)
        return
    store = SegmentStore(segments)
    lexicon = read_lexicon(text)
    generator = load_generator(matching / GENERATOR_NAME)
    hmm = load_hmm(matching)
    if hmm is None:
        heard = training_utterances(store)[:_PRIOR_UTTERANCES]
        prior = mean_probabilities(log_probs(generator, store.vectors(i)) for i in heard)
    else:
        prior = hmm.prior
    save_prior(work.folder, prior)
    figures_path = work.folder / _FIGURES_NAME
    if not (work.resumed and figures_path.exists()):
        arpa = work.folder / _ARPA_NAME
        write_word_model(
            arpa,
            text_file,
            lexicon,
            language,
            order=config.ngram_order,
            max_words=config.max_words,
            seed=config.seed,
        )
        shape = GraphShape(stay_of(matching, stay), config.silence_probability)
        built = build_graph(
            work.folder, arpa, config.ngram_order, lexicon, PhoneText(text).phones, shape
        )
        arpa.unlink()
        write_json(figures_path, built)  # last: a graph whose figures stand is whole
    figures = json.loads(figures_path.read_text(encoding="utf-8"))
    decoder = WordDecoder.load(work.folder, matching, text, config)
    rejected: list[Rejection] = []
    counts = {"utterances": 0, "words": 0}

    def rows() -> Iterator[dict[str, object]]:
        for i in progress(range(len(store)), label="words", total=len(store)):
            spans = decoder.decode(store.vectors(i), store.times(i))
            if spans is None:
                detail = f"no sequence of words fits its {store.length(i)} segments"
                rejected.append(Rejection(store.ids[i], "no_path", detail))
                continue
            counts["utterances"] += 1
            counts["words"] += len(spans)
            yield WordHypothesis(
                store.ids[i], recording_of(store.ids[i]), store.splits[i], spans
            ).as_row()

    write_jsonl(work.folder / FILE_NAME, rows())
    write_rejections(work.folder, rejected)
    work.counts.update(
        counts,
        vocabulary=figures["words"],
        graph_states=figures["states"],
        rejected=count_by_reason(rejected),
    )
