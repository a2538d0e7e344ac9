"""What the rounds learn from: packed speech of the recordings, synthetic speech, and targets.

Each is an artefact of its own in the folder of the training, and is made once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from wav2vec_u.config import SAMPLE_RATE, PretrainConfig, RunConfig
from wav2vec_u.corpus import stage as corpus_stage
from wav2vec_u.corpus.rejections import count_by_reason, write_rejections
from wav2vec_u.corpus.sources import read_sources
from wav2vec_u.encoder.network import SpeechNetwork
from wav2vec_u.pretrain.pack import AudioPack, write_pack
from wav2vec_u.pretrain.processes import Processes
from wav2vec_u.pretrain.spoken import SpokenSpeech, write_spoken
from wav2vec_u.pretrain.targets import Targets, block_frames, mfcc_frames, write_targets
from wav2vec_u.runtime import artifact
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.inputs import hash_files, stamp_files
from wav2vec_u.silence import stage as silence_stage
from wav2vec_u.silence.speech import read_speech
from wav2vec_u.text.source import find_files

PACK_NAME = "pack"
SPOKEN_NAME = "spoken"
TRAIN_SPLIT = "train"
MIN_UTTERANCES = 10


def prepare(audio: Sequence[Path], out: Path, config: RunConfig) -> None:
    """Check the recordings, find the speech and pack it, as far as that is not done yet.

    Raises
    ------
    UserError
        If an input is missing, or there is too little speech of split ``train``.
    """
    speech = [
        prepare_input(source, number, out, config) for number, source in enumerate(audio, start=1)
    ]
    inputs = {folder.name: artifact.identity(folder) for folder in speech}
    _make(
        out / PACK_NAME,
        "pack",
        config.pretrain,
        inputs,
        lambda work: _pack(work, speech, config.pretrain, config.threads),
        fingerprint_of={"min_seconds": config.pretrain.min_seconds},
    )


def prepare_input(source: Path, number: int, out: Path, config: RunConfig) -> Path:
    """Check the recordings of one input and find their speech, as far as that is not done yet.

    Inputs do not depend on one another, so that processes may share them out.

    Parameters
    ----------
    source : Path
        Folder or manifest.
    number : int
        Of the input, from 1.
    out : Path
        Gets ``corpus-N`` and ``silence-N``.
    config : RunConfig

    Returns
    -------
    Path
        The artefact with the speech.

    Raises
    ------
    UserError
        If the input is missing, or holds no speech.
    """
    sources, rejections = read_sources(source)
    corpus = out / f"corpus-{number}"
    _make(
        corpus,
        "corpus",
        config.corpus,
        {
            "audio": stamp_files(item.audio for item in sources),
            # Splits too: what is moved out of `train` must not stay in the pack.
            "manifest": artifact.fingerprint(
                sources=[(item.id, item.split, item.speaker) for item in sources],
                rejections=[(item.what, item.reason) for item in rejections],
            ),
        },
        partial(corpus_stage.run, config=config.corpus, audio=source),
    )
    silence = out / f"silence-{number}"
    _make(
        silence,
        "silence",
        config.silence,
        {"corpus": artifact.identity(corpus)},
        partial(silence_stage.run, config=config.silence, corpus=corpus),
    )
    return silence


def spoken_speech(out: Path, config: RunConfig, processes: Processes) -> SpokenSpeech | None:
    """Let espeak-ng say the texts, as far as that is not done yet; None if there are none.

    Parameters
    ----------
    out : Path
        Gets ``spoken``.
    config : RunConfig
    processes : Processes
        The first of them does it; the others wait.

    Raises
    ------
    UserError
        If a text is missing, or says nothing.
    """
    settings = config.pretrain.spoken
    if not settings.scripts:
        return None
    texts = [file for script in settings.scripts for file in find_files(script.file)]
    processes.first_does(
        lambda: _make(
            out / SPOKEN_NAME,
            "spoken",
            config.pretrain,
            {"texts": hash_files(texts)},
            lambda work: work.counts.update(
                write_spoken(work.folder, settings, config.pretrain.seed, config.threads)
            ),
            fingerprint_of={
                "scripts": [(script.voices, script.share) for script in settings.scripts],
                "hours": settings.hours,
                "min_phone_share": settings.min_phone_share,
                "seed": config.pretrain.seed,
            },
            resumable=True,
        )
    )
    return SpokenSpeech.load(out / SPOKEN_NAME)


def round_targets(
    out: Path,
    pack: AudioPack,
    network: SpeechNetwork,
    config: PretrainConfig,
    number: int,
    made_from: str,
    processes: Processes,
) -> Targets | None:
    """Cluster what a round is to predict, as far as that is not done yet.

    Parameters
    ----------
    out : Path
        Gets ``targets-N``.
    pack : AudioPack
    network : SpeechNetwork
        As the round before has left it.
    config : PretrainConfig
    number : int
        Of the round, from 0.
    made_from : str
        What `network` was made from, for the fingerprint.
    processes : Processes
        The first of them does it; the others wait.

    Returns
    -------
    Targets or None
        None where the objective needs none.

    Raises
    ------
    UserError
        If the network has no such block.
    """
    if config.objective == "contrastive":
        return None
    round_ = config.rounds[number]
    folder = out / f"targets-{number + 1}"
    network.eval()
    encode = mfcc_frames if round_.targets == "mfcc" else block_frames(network, round_.targets)

    def work(work: Work) -> None:
        work.counts.update(write_targets(work.folder, pack, encode, round_.clusters, config.seed))

    processes.first_does(
        lambda: _make(
            folder,
            "targets",
            config,
            {
                "pack": artifact.identity(out / PACK_NAME),
                "network": "" if round_.targets == "mfcc" else made_from,
            },
            work,
            fingerprint_of={
                "targets": round_.targets,
                "clusters": round_.clusters,
                "seed": config.seed,
            },
        )
    )
    return Targets(folder)


def _pack(work: Work, speech: Sequence[Path], config: PretrainConfig, threads: int) -> None:
    utterances = [
        utterance
        for folder in speech
        for utterance in read_speech(folder)
        if utterance.split == TRAIN_SPLIT
    ]
    shortest = int(config.min_seconds * SAMPLE_RATE)
    rejected = write_pack(work.folder, utterances, shortest, threads)
    write_rejections(work.folder, rejected)
    kept = len(utterances) - len(rejected)
    if kept < MIN_UTTERANCES:
        raise UserError(
            f"--audio: {kept} utterances of split {TRAIN_SPLIT} are left to learn from; give more "
            "recordings"
        )
    pack = AudioPack(work.folder)
    work.counts.update(utterances=len(pack), hours=pack.hours, rejected=count_by_reason(rejected))


def _make(
    folder: Path,
    stage: str,
    config: BaseModel,
    inputs: dict[str, str],
    work_of: Callable[[Work], None],
    fingerprint_of: dict[str, Any] | None = None,
    *,
    resumable: bool = False,
) -> None:
    expected = artifact.fingerprint(
        schema=artifact.SCHEMA,
        stage=stage,
        config=config.model_dump(mode="json") if fingerprint_of is None else fingerprint_of,
        inputs=inputs,
    )
    if artifact.is_current(folder, expected):
        return
    with artifact.create(
        folder, stage=stage, expected=expected, config=config, inputs=inputs, resumable=resumable
    ) as work:
        work_of(work)
