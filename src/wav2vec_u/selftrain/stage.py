"""The self-training stage: from the matching's generator to the model that transcribes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from wav2vec_u.config import SelftrainConfig
from wav2vec_u.graph.parallel import SearchSettings
from wav2vec_u.graph.stage import usable
from wav2vec_u.matching.decipherment import learn_language
from wav2vec_u.matching.frame_hmm import HMM_NAME, FrameHmm, mean_probabilities
from wav2vec_u.matching.generator import GENERATOR_NAME, Generator, load_generator
from wav2vec_u.matching.lessons import Labels
from wav2vec_u.matching.rounds import learning_utterances
from wav2vec_u.matching.stage import SYNTHETIC_NAME
from wav2vec_u.matching.synthetic import SyntheticSegments
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.segments.store import SegmentStore
from wav2vec_u.segments.unpooled import UnpooledFrames
from wav2vec_u.selftrain.frame_model import FrameModel, checked_log_probs, require_phones
from wav2vec_u.selftrain.inputs import unpooled_frames
from wav2vec_u.selftrain.rounds import Collapsed, SelfTraining
from wav2vec_u.text.corpus import PhoneText

START_NAME = "start"
FRAMES_NAME = "frames"


def run(
    work: Work,
    config: SelftrainConfig,
    *,
    features: Path,
    segments: Path,
    text: Path,
    matching: Path,
    graph: Path,
) -> None:
    """Train on what is understood of the recordings, and write the model that reads best.

    Writes what `FrameModel.load` reads, and beneath ``start`` the model before self-training: the
    matching's generator, read with the phone trigram. Both are the same where there are no rounds:
    with method ``none``, or labels that are no more than a few phones.

    Parameters
    ----------
    work : Work
        Resumed round by round. Gets the counts of `SelfTraining.summary`, or ``stopped``.
    config : SelftrainConfig
    features, segments, text, matching, graph : Path
        Finished artefacts.

    Raises
    ------
    UserError
        If the artefacts do not belong together, or there is too little to learn from.
    """
    try:
        _run(
            work,
            config,
            features=features,
            segments=segments,
            text=text,
            matching=matching,
            graph=graph,
        )
    except FloatingPointError as error:
        raise UserError(f"selftrain: {error}; run the matching stage again") from error


def _run(
    work: Work,
    config: SelftrainConfig,
    *,
    features: Path,
    segments: Path,
    text: Path,
    matching: Path,
    graph: Path,
) -> None:
    frames = unpooled_frames(segments, features)
    store, phones = SegmentStore(segments), PhoneText(text)
    generator = load_generator(matching / GENERATOR_NAME)
    require_phones(generator, phones.phones)
    of_frames = frames is None and generator.stride == 1
    reading = config if of_frames else config.of_segments()
    utterances = learning_utterances(store, config.max_hours * 3600, config.seed)
    hmm_path = matching / HMM_NAME
    if hmm_path.exists():
        hmm = FrameHmm.load(hmm_path)
    else:
        said = (checked_log_probs(generator, store.vectors(i)) for i in utterances)
        hmm = FrameHmm(
            learn_language(phones, config.min_phone_share, "selftrain.min_phone_share"),
            mean_probabilities(said),
            2 * reading.generator_power,
            reading.stay_probability,
        )
    start = FrameModel(generator, hmm)
    place = work.folder / START_NAME
    place.mkdir(exist_ok=True)
    start.save(place)
    if config.method == "none":
        start.save(work.folder)
        work.counts.update(rounds=0)
        return
    synthetic = matching / SYNTHETIC_NAME
    search = None
    if usable(graph):
        search = SearchSettings.of(graph, reading, reading.stay_probability)
    training = SelfTraining(
        work.folder,
        store,
        utterances,
        generator,
        hmm.language,
        reading,
        synthetic=SyntheticSegments(synthetic, store, utterances) if synthetic.exists() else None,
        graph=search,
        threads=torch.get_num_threads(),
    )
    try:
        if generator.stride == 1:
            model = training.run(work.resumed)
            work.counts.update(training.summary())
            labels = training.best_labels()
        else:
            # No round can teach one like it; what it says of several frames is a label of each.
            model = start
            work.counts.update(rounds=0)
            labels = _of_every_input(training.hear(start), generator.stride, store, utterances)
    except Collapsed as collapsed:
        # What the matching says is poor, and all there is: better shown than lost.
        start.save(work.folder)
        work.counts.update(rounds=0, stopped=str(collapsed))
        return
    if not of_frames and config.frames.rounds > 0:
        going_on = _on_frames(work.folder, config, store, frames, labels, utterances, hmm, search)
        try:
            model = going_on.run(work.resumed)
            work.counts.update(frame_rounds=going_on.summary()["rounds"])
        except Collapsed as collapsed:
            work.counts.update(frame_rounds=0, stopped=str(collapsed))
    model.save(work.folder)


def _of_every_input(
    labels: list[Labels], stride: int, store: SegmentStore, utterances: list[int]
) -> list[Labels]:
    return [
        np.repeat(own, stride)[: store.length(i)] for i, own in zip(utterances, labels, strict=True)
    ]


def _on_frames(
    folder: Path,
    config: SelftrainConfig,
    store: SegmentStore,
    frames: UnpooledFrames | None,
    labels: list[Labels],
    utterances: list[int],
    hmm: FrameHmm,
    search: SearchSettings | None,
) -> SelfTraining:
    """Return rounds that begin with labels of segments, and find out where phones begin.

    Without `frames`, the segments are frames, of which the matching's generator reads several at
    once.
    """
    place = folder / FRAMES_NAME
    place.mkdir(exist_ok=True)
    settings = config.of_frames()
    if frames is not None:
        labels = [frames.spread(i, own) for i, own in zip(utterances, labels, strict=True)]
    inputs = store if frames is None else frames
    generator = Generator(
        inputs.dim,
        len(hmm.prior),
        settings.frames.kernel,
        dropout=settings.frames.dropout,
        batch_norm=1.0,
        hidden=settings.frames.hidden,
    )
    if search is not None:
        search = replace(search, stay=settings.stay_probability, scale=settings.scale)
    return SelfTraining(
        place,
        inputs,
        utterances,
        generator,
        hmm.language,
        settings,
        synthetic=None,  # it was made of segments
        graph=search,
        threads=torch.get_num_threads(),
        labels=labels,
        reads="segments" if frames is None else "frames",
    )
