"""The matching stage: segments and unpaired phones in, the selected generator out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from wav2vec_u.config import MatchingConfig
from wav2vec_u.matching.agreement import CONVERGED_BELOW, disagreements, nearest
from wav2vec_u.matching.channel import Channel
from wav2vec_u.matching.decipherment import learn_language
from wav2vec_u.matching.frame_hmm import HMM_NAME, FrameHmm
from wav2vec_u.matching.gan.train import train_gan
from wav2vec_u.matching.generator import GENERATOR_NAME, Generator, save_generator
from wav2vec_u.matching.mfcc_codes import CODES_NAME, MfccCodes, Recordings, write_mfcc_codes
from wav2vec_u.matching.readings import Reading, decipher, scored_utterances
from wav2vec_u.matching.rounds import learn_in_rounds, learning_utterances
from wav2vec_u.matching.selection import Candidate, Score, score, select
from wav2vec_u.matching.speaking_rate import estimate_phone_rate
from wav2vec_u.matching.synthetic import Speaker, SyntheticSegments, write_synthetic
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.files import write_json
from wav2vec_u.segments.store import SegmentStore
from wav2vec_u.text.corpus import PhoneText
from wav2vec_u.text.ngram import NgramModel

SYNTHETIC_NAME = "synthetic"
WHOLE_NAME = "whole.json"
TEXT_SENTENCES = 1_000  # of the unpaired text, for a perplexity to compare with


def run(
    work: Work,
    config: MatchingConfig,
    segments: Path,
    text: Path,
    speaker: Speaker | None = None,
    recordings: Recordings | None = None,
) -> None:
    """Learn several generators without labels and keep the best.

    Writes ``generator.safetensors``, ``selection.json`` (figures of every member),
    ``member_NN/``, and for method ``synthetic`` ``frame_hmm.safetensors``; counts for the latter
    ``expected_phone_rate_hz`` too, see `speaking_rate.estimate_phone_rate`.

    Parameters
    ----------
    work : Work
        Resumed member by member, and inside a member from its last checkpoint.
    config : MatchingConfig
    segments, text : Path
        Finished artefacts.
    speaker : Speaker or None
        Reads the text aloud for method ``synthetic``; the others need none.
    recordings : Recordings or None
        The audio, for ``gan.auxiliary``; nothing else needs it.

    Raises
    ------
    UserError
        If there is too little to learn from, or nothing was learned.
    """
    store, phones = SegmentStore(segments), PhoneText(text)
    lm = phones.language_model()
    if config.method == "gan":
        members = _by_gan(work, config, store, phones, lm, recordings, start=None)
    elif config.method == "synthetic":
        assert speaker is not None
        members = _by_synthetic_speech(work, config, store, phones, lm, speaker)
    else:
        readings = decipher(
            work.folder if config.method == "decipherment" else work.folder / "start",
            store,
            phones,
            config,
            architecture=_architecture(config),
            resume=work.resumed,
            threads=torch.get_num_threads(),
        )
        if config.method == "decipherment":
            members = [_Member.of_reading(reading, lm, len(phones.phones)) for reading in readings]
        else:
            best = max(readings, key=lambda reading: reading.gain)
            start = best.generator.state_dict()
            members = _by_gan(work, config, store, phones, lm, recordings, start)
    chosen = _choose(members)
    save_generator(work.folder / GENERATOR_NAME, members[chosen].generator)
    hmm = members[chosen].hmm
    if hmm is not None:
        hmm.save(work.folder / HMM_NAME)
    sample = range(min(len(phones), TEXT_SENTENCES))
    text_ppl = lm.perplexity([phones.sentence(i) for i in sample])
    distances = nearest(disagreements([member.candidate for member in members]))
    rows = [member.row(distance) for member, distance in zip(members, distances, strict=True)]
    by_gain = all(member.gain is not None for member in members)
    metric = "likelihood_gain" if by_gain else "paper_three_steps"
    write_json(
        work.folder / "selection.json",
        {
            "metric": metric,
            "selected": members[chosen].number,
            "selected_by_paper": members[select([member.score for member in members])].number,
            "text_lm_ppl": round(text_ppl, 4),
            "members": rows,
        },
    )
    work.counts.update(
        seeds=len(members),
        seeds_converged=None if len(rows) == 1 else sum(row["converged"] for row in rows),
        selected_seed=members[chosen].number,
        selection_metric=metric,
        lm_ppl=rows[chosen]["lm_ppl"],
        text_lm_ppl=round(text_ppl, 4),
    )


class _Member:
    """A trained generator with its label-free figures."""

    def __init__(
        self,
        number: int,
        generator: Generator,
        candidate: Candidate,
        score: Score,
        gain: float | None,
        hmm: FrameHmm | None = None,
    ) -> None:
        self.number = number
        self.generator = generator
        self.candidate = candidate
        self.score = score
        self.gain = gain
        self.hmm = hmm

    @classmethod
    def of_reading(cls, reading: Reading, lm: NgramModel, n_phones: int) -> _Member:
        figures = score(reading.candidate, lm, n_phones - 1)
        return cls(reading.member, reading.generator, reading.candidate, figures, reading.gain)

    def row(self, nearest_disagreement: float | None) -> dict[str, Any]:
        row: dict[str, Any] = {
            "member": self.number,
            "lm_ppl": round(self.score.lm_ppl, 4),
            "usage": round(self.score.usage, 4),
            "weighted_lm_ppl": round(self.score.weighted_lm_ppl, 4),
            "log_prob": round(self.score.log_prob, 2),
        }
        if nearest_disagreement is not None:
            row["nearest_disagreement"] = round(nearest_disagreement, 2)
            row["converged"] = nearest_disagreement < CONVERGED_BELOW
        if self.gain is not None:
            row["likelihood_gain"] = round(self.gain, 5)
        return row


def _by_gan(
    work: Work,
    config: MatchingConfig,
    store: SegmentStore,
    phones: PhoneText,
    lm: NgramModel,
    recordings: Recordings | None,
    start: dict[str, torch.Tensor] | None,
) -> list[_Member]:
    results = train_gan(
        work.folder,
        store,
        phones,
        config,
        dev_lm=lm,
        resume=work.resumed,
        start=start,
        codes=_mfcc_codes(work, config, store, recordings),
    )
    channel = None
    if not config.gan.reference:  # which chooses as published
        settings = config.decipherment
        channel = Channel(
            store,
            scored_utterances(store, config.seed),
            learn_language(phones, settings.min_phone_share),
            n_codes=settings.codes,
            stay=settings.stay_probability,
            seed=config.seed,
            threads=torch.get_num_threads(),
        )
    members = []
    for result in results:
        assert result.score is not None  # a language model was given
        place = work.folder / f"member_{result.member:02d}"
        save_generator(place / GENERATOR_NAME, result.generator)
        gain = None if channel is None else channel.gain(result.generator)
        members.append(
            _Member(result.member, result.generator, result.candidate, result.score, gain)
        )
    return members


def _mfcc_codes(
    work: Work, config: MatchingConfig, store: SegmentStore, recordings: Recordings | None
) -> MfccCodes | None:
    if not any(config.gan.auxiliary):
        return None
    if work.resumed and (work.folder / CODES_NAME).exists():
        return MfccCodes(work.folder, store)
    assert recordings is not None
    return write_mfcc_codes(work.folder, recordings, store, config.gan.auxiliary_codes, config.seed)


def _by_synthetic_speech(
    work: Work,
    config: MatchingConfig,
    store: SegmentStore,
    phones: PhoneText,
    lm: NgramModel,
    speaker: Speaker,
) -> list[_Member]:
    settings, threads = config.synthetic, torch.get_num_threads()
    folder = work.folder / SYNTHETIC_NAME
    # The generator's first output is silence, and a pause is an empty phone.
    outputs = {"": 0} | {phone: i for i, phone in enumerate(phones.phones) if i > 0}
    whole = folder / WHOLE_NAME
    if not (work.resumed and whole.exists()):
        write_synthetic(folder, speaker, outputs, settings.hours, config.seed, threads)
        write_json(whole, {"hours": settings.hours})
    utterances = learning_utterances(store, settings.max_hours * 3600, config.seed)
    synthetic = SyntheticSegments(folder, store, utterances)
    rate_hz = estimate_phone_rate(synthetic, store, utterances, _segment_rate(store, utterances))
    if rate_hz is not None:
        work.counts.update(expected_phone_rate_hz=round(rate_hz, 2))
    found = learn_in_rounds(
        work.folder,
        store,
        synthetic,
        phones,
        config,
        utterances=utterances,
        scored=scored_utterances(store, config.seed),
        resume=work.resumed,
        threads=threads,
    )
    members = []
    for heard in found:
        figures = score(heard.candidate, lm, len(phones.phones) - 1)
        members.append(
            _Member(heard.member, heard.generator, heard.candidate, figures, heard.gain, heard.hmm)
        )
    return members


def _segment_rate(store: SegmentStore, utterances: list[int]) -> float:
    """Count segments a second."""
    times = [store.times(i) for i in utterances]
    seconds = sum(float((rows[:, 1] - rows[:, 0]).sum()) for rows in times)
    return sum(map(len, times)) / max(seconds, 1e-9)


def _choose(members: list[_Member]) -> int:
    gains = [member.gain for member in members]
    known = [gain for gain in gains if gain is not None]
    if len(known) == len(members):
        return gains.index(max(known))
    return select([member.score for member in members])


def _architecture(config: MatchingConfig) -> dict[str, Any]:
    if config.method == "decipherment+gan":
        gan = config.gan
        return {
            "kernel": gan.generator_kernel,
            "stride": gan.generator_stride,
            "dropout": gan.generator_dropout,
            "batch_norm": gan.generator_batch_norm,
            "residual": gan.generator_residual,
            "hidden": gan.generator_hidden,
        }
    settings = config.decipherment
    return {
        "kernel": settings.generator_kernel,
        "dropout": settings.generator_dropout,
        "batch_norm": 1.0,
        "hidden": settings.generator_hidden,
    }
