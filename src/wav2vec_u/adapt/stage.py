"""The adapt stage: the encoder is fine-tuned on what was understood, and transcribes if it can."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from wav2vec_u.adapt.labels import doubtful_words, lies_in
from wav2vec_u.adapt.rounds import LOG_NAME, Language, Recordings, Rounds
from wav2vec_u.adapt.teacher import Teacher
from wav2vec_u.config import AdaptConfig, WordsConfig
from wav2vec_u.decode.hypotheses import read_hypotheses
from wav2vec_u.encoder.shipped import find_encoder
from wav2vec_u.finetune.data import TooFewUtterances
from wav2vec_u.graph.parallel import SearchSettings
from wav2vec_u.graph.stage import usable
from wav2vec_u.matching.batches import draw_within
from wav2vec_u.matching.frame_hmm import HMM_NAME
from wav2vec_u.runtime.artifact import Work, read_record
from wav2vec_u.runtime.device import pick_device
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_jsonl
from wav2vec_u.runtime.seeds import numpy_generator
from wav2vec_u.silence.speech import read_speech
from wav2vec_u.text.corpus import PhoneText
from wav2vec_u.words.hypotheses import WordHypothesis, read_word_hypotheses
from wav2vec_u.words.tuning import Tuning

TRAIN_SPLIT = "train"
LEAST_PHONES = 2  # that are heard for so many seconds
LEAST_SECONDS = 2.0


def run(
    work: Work,
    config: AdaptConfig,
    search: WordsConfig,
    *,
    encoder: str,
    whole: bool,
    language: str,
    silence: Path,
    features: Path,
    segments: Path,
    text: Path,
    graph: Path,
    selftrain: Path,
    decode: Path,
    words: Path,
) -> None:
    """Fine-tune the encoder round by round, and keep the last round that helped.

    Then the folder gets what `model.AdaptedModel.load` reads, and ``hypotheses.jsonl`` in the form
    of the words stage. In any case it gets ``round_NN/`` and ``log.jsonl``; no round where the
    method is ``none``, the encoder cannot learn (``mfcc``), would take too long (``auto``), or
    nothing was heard.

    Parameters
    ----------
    work : Work
        Resumed round by round, and inside a round. Gets the counts ``rounds`` (that helped),
        ``agreement``, ``agreement_before`` and ``taken``, or ``skipped``.
    config : AdaptConfig
    search : WordsConfig
        How words are looked for.
    encoder : str
        Of the features stage.
    whole : bool
        Whether the encoder hears utterances with their pauses (`SilenceConfig.mode` ``mask``).
    language : str
    silence, features, segments, text, graph, selftrain, decode, words : Path
        Finished artefacts.

    Raises
    ------
    UserError
        If an artefact is damaged, or the training fails.
    """
    why = _why_not(config, encoder, selftrain)
    if why is not None:
        _skip(work, why)
        return
    utterances = {utterance.id: utterance for utterance in read_speech(silence)}
    names = [
        item.id
        for item in _heard_before(words, decode)
        if item.split == TRAIN_SPLIT and item.phones and item.id in utterances
    ]
    recordings = Recordings(utterances, [], whole)
    rng = numpy_generator(config.seed, "utterances to adapt to")
    drawn = draw_within(
        range(len(names)), lambda i: recordings.seconds(names[i]), config.max_hours * 3600, rng
    )
    chosen = {names[i] for i in drawn}
    # Read anew: of a large corpus, what was heard is far more than what is learned from.
    heard = [item for item in _heard_before(words, decode) if item.id in chosen]
    if _well_heard(heard, config.min_confidence) < LEAST_PHONES:
        _skip(work, "hardly anything was heard")
        return
    recordings = Recordings(utterances, [item.id for item in heard], whole)
    phone_text = PhoneText(text)
    teacher = Teacher.load(selftrain, segments, features)
    rounds = Rounds(
        work.folder,
        encoder,
        teacher,
        recordings,
        Language(
            phone_text.phones,
            language,
            SearchSettings.of(graph, search, teacher.model.stay) if usable(graph) else None,
            Tuning.of(search, phone_text.phones_per_word),
        ),
        config,
    )
    try:
        best = rounds.run(heard, work.resumed)
    except TooFewUtterances as error:
        _skip(work, str(error))
        return
    except FloatingPointError as error:
        raise UserError(f"adapt: {error}; lower adapt.learning_rate") from error
    if best is not None:
        for path in rounds.place(best).iterdir():
            shutil.copyfile(path, work.folder / path.name)
    figures = rounds.figures(best or 0)
    work.counts.update(
        rounds=0 if best is None else best + 1,
        agreement=figures["agreement"],
        agreement_before=figures["agreement_before"],
        taken=best is not None,
    )


def is_taken(adapt: Path) -> bool:
    """Tell whether a finished stage has a model that transcribes."""
    record = read_record(adapt)
    return record is not None and bool(record.counts.get("taken"))


def _why_not(config: AdaptConfig, encoder: str, selftrain: Path) -> str | None:
    if config.method == "none":
        return "adapt.method is none"
    if encoder == "mfcc":
        return "mfcc has nothing that could learn"
    own = find_encoder(encoder) is not None
    if config.method == "auto" and not own and pick_device(config.device).type == "cpu":
        return "it would take days without a GPU; set adapt.method=encoder to do it all the same"
    if not (selftrain / HMM_NAME).exists():
        return "there is no phone trigram"
    return None


def _skip(work: Work, why: str) -> None:
    write_jsonl(work.folder / LOG_NAME, [])  # there was no round
    work.counts.update(rounds=0, taken=False, skipped=why)


def _heard_before(words: Path, decode: Path) -> Iterator[WordHypothesis]:
    """Yield what words were said with, or what was heard without words where there are none."""
    in_words = read_word_hypotheses(words)
    first = next(in_words, None)
    if first is not None:
        yield first
        yield from in_words
        return
    for item in read_hypotheses(decode):
        yield WordHypothesis(item.id, item.recording, item.split, (), item.spans)


def _well_heard(heard: Sequence[WordHypothesis], min_confidence: float) -> int:
    """Count the phones of which there is enough to learn them."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for item in heard:
        doubtful = doubtful_words(item, min_confidence)
        for phone in item.phones:
            if not lies_in(phone, doubtful):
                seconds[phone.phone] += phone.end_s - phone.start_s
    return sum(length >= LEAST_SECONDS for length in seconds.values())
