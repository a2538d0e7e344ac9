"""The words stage: the words of every utterance, and the phones they were said with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wav2vec_u.config import WordsConfig
from wav2vec_u.corpus.rejections import Rejection, count_by_reason, write_rejections
from wav2vec_u.decode.hypotheses import recording_of
from wav2vec_u.decode.stage import output_times
from wav2vec_u.graph.found_weights import FoundWeights
from wav2vec_u.graph.parallel import SearchSettings, find_all
from wav2vec_u.graph.search import require_phones
from wav2vec_u.graph.stage import usable
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.files import write_jsonl
from wav2vec_u.runtime.progress import progress
from wav2vec_u.selftrain.frame_model import FrameModel, FrameReader
from wav2vec_u.selftrain.inputs import Inputs, open_inputs
from wav2vec_u.text.corpus import PhoneText
from wav2vec_u.words.decoder import load_speller, place
from wav2vec_u.words.hypotheses import FILE_NAME, WordHypothesis
from wav2vec_u.words.tuning import Tuning


def run(
    work: Work,
    config: WordsConfig,
    *,
    features: Path,
    segments: Path,
    text: Path,
    selftrain: Path,
    graph: Path,
) -> None:
    """Decode all utterances of all splits; nothing where no graph was built.

    Writes ``hypotheses.jsonl``, ``search_weights.json`` (word cost and scale, given or found) and
    ``rejected.jsonl`` (``no_path``: no sequence of words fits the utterance; ``not_finite``: its
    scores are not finite).

    Parameters
    ----------
    work : Work
        Gets what `write_words` returns.
    config : WordsConfig
    features, segments, text, selftrain, graph : Path
        Finished artefacts.

    Raises
    ------
    UserError
        If the artefacts do not belong together.
    """
    if not usable(graph):
        work.counts.update(utterances=0, words=0, skipped="there is no decoding graph")
        return
    model = FrameModel.load(selftrain)
    phone_text = PhoneText(text)
    written = write_words(
        work.folder,
        open_inputs(model.reads, segments, features),
        model,
        phone_text.phones,
        SearchSettings.of(graph, config, model.stay),
        Tuning.of(config, phone_text.phones_per_word),
    )
    work.counts.update(written)


def write_words(
    folder: Path,
    store: Inputs,
    model: FrameReader,
    phones: list[str],
    settings: SearchSettings,
    tuning: Tuning,
) -> dict[str, Any]:
    """Decode all utterances of a store into ``hypotheses.jsonl`` and ``rejected.jsonl``.

    The weights of the search go into ``search_weights.json``.

    Parameters
    ----------
    folder : Path
        Existing folder.
    store : Inputs
        What `model` reads.
    model : FrameReader
    phones : list of str
        Names of its outputs.
    settings : SearchSettings
    tuning : Tuning
        Weights that are found first.

    Returns
    -------
    dict
        ``utterances``, ``words`` (found), ``word_cost``, ``scale``, ``rejected``, by reason, and
        the figures of `Tuning.tune`.

    Raises
    ------
    UserError
        If the graph is of other phones.
    """
    require_phones(settings.graph, phones)
    threads = torch.get_num_threads()
    settings, figures = tuning.tune(settings, store, model, threads)
    FoundWeights(settings.word_cost, settings.scale).save(folder)
    rejected: list[Rejection] = []
    counts = {"utterances": 0, "words": 0}
    not_finite: dict[int, str] = {}

    def scores() -> Iterator[NDArray[np.float32]]:
        for i in range(len(store)):
            try:
                yield model.likelihoods(store.vectors(i))
            except FloatingPointError as error:
                not_finite[i] = str(error)
                yield np.zeros((0, len(phones)), np.float32)

    found = find_all(settings, scores(), threads)
    speller = load_speller(settings.graph)

    def rows() -> Iterator[dict[str, object]]:
        for i, path in enumerate(progress(found, label="words", total=len(store))):
            if i in not_finite:
                rejected.append(Rejection(store.ids[i], "not_finite", not_finite[i]))
                continue
            if path is None:
                detail = f"no sequence of words fits its {store.length(i)} frames"
                rejected.append(Rejection(store.ids[i], "no_path", detail))
                continue
            times = output_times(store.times(i), model.stride)
            spoken = place(path, times, phones, speller)
            counts["utterances"] += 1
            counts["words"] += len(spoken.words)
            yield WordHypothesis(
                store.ids[i],
                recording_of(store.ids[i]),
                store.splits[i],
                spoken.words,
                spoken.phones,
            ).as_row()

    write_jsonl(folder / FILE_NAME, rows())
    write_rejections(folder, rejected)
    return {
        **counts,
        "word_cost": settings.word_cost,
        "scale": settings.scale,
        **figures,
        "rejected": count_by_reason(rejected),
    }
