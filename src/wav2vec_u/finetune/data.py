"""Labelled utterances made ready for training: decoded, checked, some held out."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from wav2vec_u.config import SAMPLE_RATE, FinetuneConfig
from wav2vec_u.corpus.rejections import REJECTED_NAME, Rejection, summary, write_rejections
from wav2vec_u.finetune.acoustic_model import AcousticModel, outputs_needed
from wav2vec_u.finetune.batches import hold_out
from wav2vec_u.finetune.units import Units
from wav2vec_u.finetune.utterance import LabelledUtterance, TimedUnit
from wav2vec_u.pretrain.pack import AudioPack, write_pack
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl
from wav2vec_u.silence.speech import Utterance


class TrainingData:
    """Packed audio and targets, and which of them are for training and for validation.

    Attributes
    ----------
    pack : AudioPack
    targets : list of tuple of int
        Of every utterance of the pack.
    timed : list of tuple of TimedUnit or None
        The same units with their times; None where those are not known.
    train, validation : list of int
        Utterances of the pack; some may be in neither.
    rejected : list of Rejection
    """

    def __init__(
        self,
        folder: Path,
        pack: AudioPack,
        targets: list[tuple[int, ...]],
        timed: list[tuple[TimedUnit, ...]] | None,
        train: list[int],
        validation: list[int],
        rejected: list[Rejection],
    ) -> None:
        self._folder = folder
        self.pack = pack
        self.targets = targets
        self.timed = timed
        self.train = train
        self.validation = validation
        self.rejected = rejected

    def seconds(self, indices: list[int]) -> float:
        """Duration of some utterances."""
        return float(self.pack.lengths[indices].sum()) / SAMPLE_RATE

    def utterance_seconds(self, index: int) -> float:
        """Duration of one utterance."""
        return float(self.pack.lengths[index]) / SAMPLE_RATE

    def close(self) -> None:
        """Remove the packed audio."""
        del self.pack  # some systems remove no file that is mapped into memory
        shutil.rmtree(self._folder)


def prepare(
    network: AcousticModel,
    utterances: Sequence[LabelledUtterance],
    validation: Sequence[LabelledUtterance],
    units: Units,
    config: FinetuneConfig,
    folder: Path,
    resume: bool,
) -> TrainingData:
    """Decode the utterances, leave out what cannot be learned from, and hold some out.

    Parameters
    ----------
    network : AcousticModel
        Tells how many outputs an utterance has.
    utterances, validation : sequence of LabelledUtterance
        Without any for validation, some of the utterances are held out.
    units : Units
    config : FinetuneConfig
    folder : Path
        Gets the decoded audio.
    resume : bool
        Keep the audio that is there.

    Raises
    ------
    UserError
        If there is nothing to train on, or nothing to validate with.
    ValueError
        If the times of units are known in some utterances alone.
    """
    everything = [*utterances, *validation]
    with_times = {utterance.timed is not None for utterance in everything}
    if len(with_times) > 1:
        raise ValueError("the times of units must be known in all utterances or in none")
    rejected: list[Rejection] = []
    taken: dict[str, LabelledUtterance] = {}
    for utterance in everything:
        why = _why_refused(utterance, units, config)
        if utterance.id in taken:
            why = ("duplicate", "another utterance has this id")
        if why is None:
            taken[utterance.id] = utterance
        else:
            rejected.append(Rejection(utterance.id, *why))

    undecodable = _pack(folder, list(taken.values()), resume)
    rejected += undecodable
    if len(undecodable) == len(taken):
        raise _too_few(0, rejected)
    pack = AudioPack(folder)
    targets = [taken[name].targets for name in pack.ids]
    usable = []
    for index, name in enumerate(pack.ids):
        outputs = network.n_outputs(int(pack.lengths[index]))
        needed = outputs_needed(targets[index])
        if outputs == 0:
            detail = f"{pack.lengths[index]} samples are fewer than the encoder's receptive field"
            rejected.append(Rejection(name, "too_short", detail))
        elif needed > outputs and True not in with_times:
            detail = f"needs {needed} outputs of the network, which gives {outputs}"
            rejected.append(Rejection(name, "too_many_symbols", detail))
        else:
            usable.append(index)
    if validation:
        held_out = {utterance.id for utterance in validation}
        train = [index for index in usable if pack.ids[index] not in held_out]
        chosen = [index for index in usable if pack.ids[index] in held_out]
    else:
        learned, kept = hold_out(
            [targets[index] for index in usable],
            config.validation_share,
            config.max_validation_utterances,
            config.seed,
        )
        train, chosen = [usable[i] for i in learned], [usable[i] for i in kept]
    if not train or not chosen:
        raise _too_few(len(usable), rejected)
    timed = [taken[name].timed or () for name in pack.ids] if True in with_times else None
    return TrainingData(folder, pack, targets, timed, train, chosen, rejected)


class TooFewUtterances(UserError):
    """Fewer utterances can be learned from than it takes."""


def _too_few(usable: int, rejected: list[Rejection]) -> TooFewUtterances:
    left_out = f" ({summary(rejected)})" if rejected else ""
    return TooFewUtterances(
        f"finetune: {usable} labelled utterances are left{left_out}; at least two with different "
        "labels are needed, one of them to validate"
    )


def _why_refused(
    utterance: LabelledUtterance, units: Units, config: FinetuneConfig
) -> tuple[str, str] | None:
    if not utterance.targets:
        return "empty", "has no symbol"
    outside = sorted({number for number in utterance.targets if not 0 <= number < len(units)})
    if outside:
        return "unknown_symbol", f"{outside[0]} is no id of the {len(units)} units"
    if utterance.seconds > config.max_utterance_seconds:
        return "too_long", f"{utterance.seconds:.1f} s; see finetune.max_utterance_seconds"
    return None


def _pack(folder: Path, utterances: list[LabelledUtterance], resume: bool) -> list[Rejection]:
    """Decode all audio into one file, unless an interrupted run has done so."""
    listed = folder / REJECTED_NAME  # written last
    if resume and listed.exists():
        return [Rejection(**row) for row in read_jsonl(listed)]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sources = [
        Utterance(
            id=utterance.id,
            recording=utterance.id,
            audio=utterance.audio,
            split="",
            speaker=None,
            start_s=utterance.spans[0][0],
            end_s=utterance.spans[-1][1],
            spans=utterance.spans,
        )
        for utterance in utterances
    ]
    rejected = write_pack(folder, sources, min_samples=1)
    write_rejections(folder, rejected)
    return rejected
