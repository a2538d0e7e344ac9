"""The text stage: from unpaired text to sentences of phones and n-gram models of them.

Baevski et al. (2021), section 3.3 and appendix; the reference's ``prepare_text.sh``. Unlike there,
silence is not drawn once: word boundaries are kept, and `corpus.PhoneText` draws it anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from wav2vec_u.config import TextConfig
from wav2vec_u.corpus.rejections import Rejection, write_rejections
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.progress import progress
from wav2vec_u.runtime.seeds import numpy_generator
from wav2vec_u.text.corpus import LM_NAME, LM_SILENCE_NAME, PhoneText, PhoneTextWriter
from wav2vec_u.text.language_filter import LanguageFilter
from wav2vec_u.text.lexicon import Lexicon, Phones
from wav2vec_u.text.ngram import NgramModel
from wav2vec_u.text.normalize import Normalizer
from wav2vec_u.text.phonemize import load_phonemizer
from wav2vec_u.text.source import iter_lines

_LISTED_REJECTIONS = 1_000  # a text of millions of lines needs no list of millions
_SHOWN_CHARACTERS = 80
_BATCH_LINES = 1_000


def run(work: Work, config: TextConfig, text: Path, language: str) -> None:
    """Make sentences of phones, a lexicon and n-gram models.

    Parameters
    ----------
    work : Work
        Gets the files named in `corpus`, ``lexicon.tsv`` and ``rejected.jsonl`` (the first 1,000
        sentences left out), and the counts ``lines``, ``sentences``, ``kept_share``, ``words``,
        ``phones`` (both running), ``word_types``, ``phone_types`` (without silence), ``rejected``
        (sentences by reason), ``words_unpronounced``, ``phones_dropped``, ``phonemizer`` and its
        ``phonemizer_version``. The reasons are ``empty``, ``language``, ``rare_word``,
        ``unpronounceable``, ``rare_phone`` and ``short``.
    config : TextConfig
        Phonemizer and thresholds.
    text : Path
        UTF-8 file with a sentence a line, gzipped or not, or a folder of ``.txt`` files.
    language : str
        Espeak voice, such as ``en-us``, ``de``, ``sw``.

    Raises
    ------
    UserError
        If the text or the lexicon cannot be read, the language is not known, or no sentence is
        left.
    """
    sentences = _Sentences(text, Normalizer(language), LanguageFilter())
    if config.language_filter:
        sentences.learn_language()
    word_counts = sentences.count_words()
    if not word_counts:
        raise UserError(f"{text}: has no line with a word in it")
    frequent = [word for word, count in word_counts.most_common() if count >= config.min_word_count]
    phonemizer = load_phonemizer(config)
    spoken = phonemizer.phonemize(frequent, language)
    rare_phones = _rare_phones(spoken, word_counts, config.min_phone_share)
    lexicon = Lexicon(
        {word: phones for word, phones in spoken.items() if rare_phones.isdisjoint(phones)}
    )

    def why_rejected(sentence: str) -> tuple[str, str] | None:
        for word in sentence.split():
            if word in lexicon:
                continue
            if word_counts[word] < config.min_word_count:
                return "rare_word", f"{word!r} occurs {word_counts[word]} times"
            if word in spoken:
                rare = " ".join(sorted(rare_phones.intersection(spoken[word])))
                return "rare_phone", f"{word!r} has the rare phone {rare}"
            return "unpronounceable", f"{phonemizer.name()} has no phones for {word!r}"
        n_phones = sum(len(lexicon[word]) for word in sentence.split())
        if n_phones < config.min_sentence_phones:
            return "short", f"{n_phones} phones"
        return None

    rejected: Counter[str] = Counter()
    listed: list[Rejection] = []
    lines = 0
    with PhoneTextWriter(
        work.folder,
        silence_probability=config.silence_probability,
        surround_with_silence=config.surround_with_silence,
    ) as writer:
        for place, sentence, foreign in progress(sentences, label="phonemising sentences"):
            lines += 1
            if not sentence:
                why: tuple[str, str] | None = ("empty", "no word")
            elif foreign:
                why = ("language", "letters unlike those of most lines")
            else:
                why = why_rejected(sentence)
            if why is None:
                writer.append([lexicon[word] for word in sentence.split()])
                continue
            rejected[why[0]] += 1
            if len(listed) < _LISTED_REJECTIONS:
                listed.append(Rejection(place, why[0], f"{why[1]}: {_shorten(sentence)}"))
    write_rejections(work.folder, listed)
    if not writer.n_sentences:
        reasons = ", ".join(f"{count} {reason}" for reason, count in rejected.most_common())
        raise UserError(
            f"{text}: no sentence is left ({reasons}); give more text, or lower "
            "text.min_word_count and text.min_sentence_phones"
        )
    inventory = set(writer.phones)
    lexicon = Lexicon(
        {word: lexicon[word] for word in lexicon if inventory.issuperset(lexicon[word])}
    )
    lexicon.write(work.folder)
    _write_language_models(work.folder, config)
    work.counts.update(
        lines=lines,
        sentences=writer.n_sentences,
        kept_share=round(writer.n_sentences / lines, 4),
        words=writer.n_words,
        phones=writer.n_phones,
        word_types=len(lexicon),
        phone_types=len(inventory) - 1,
        rejected=dict(rejected.most_common()),
        words_unpronounced=len(frequent) - len(spoken),
        phones_dropped=sorted(rare_phones),
        phonemizer=phonemizer.name(),
        phonemizer_version=phonemizer.version(),
    )


class _Sentences:
    """Normalised lines of the text, read from the disk at every pass.

    Iterating yields the place, the sentence, and whether it is in a foreign language. Empty lines
    of the text are passed over; lines without a word yield an empty sentence.
    """

    def __init__(self, text: Path, normalizer: Normalizer, bulk: LanguageFilter) -> None:
        self._text = text
        self._normalizer = normalizer
        self._bulk = bulk
        self._filters = False

    def learn_language(self) -> None:
        """From now on, tell foreign sentences."""
        self._bulk.fit(sentence for _, sentence in self._normalized())
        self._filters = True

    def count_words(self) -> Counter[str]:
        """Count the words of the sentences that are not foreign."""
        counts: Counter[str] = Counter()
        for _, sentence, foreign in progress(self, label="counting words"):
            if not foreign:
                counts.update(sentence.split())
        return counts

    def __iter__(self) -> Iterator[tuple[str, str, bool]]:
        lines = self._normalized()
        while batch := list(islice(lines, _BATCH_LINES)):
            foreign = [False] * len(batch)
            if self._filters:
                foreign = (~self._bulk.keeps([sentence for _, sentence in batch])).tolist()
            for (place, sentence), is_foreign in zip(batch, foreign, strict=True):
                yield place, sentence, is_foreign

    def _normalized(self) -> Iterator[tuple[str, str]]:
        for place, line in iter_lines(self._text):
            if line:
                yield place, self._normalizer(line)


def _rare_phones(spoken: dict[str, Phones], counts: Counter[str], min_share: float) -> set[str]:
    """Return the phones that make up less than a share of all phones of the text's words."""
    phone_counts: Counter[str] = Counter()
    for word, phones in spoken.items():
        for phone in phones:
            phone_counts[phone] += counts[word]
    least = min_share * phone_counts.total()
    return {phone for phone, count in phone_counts.items() if count < least}


def _write_language_models(folder: Path, config: TextConfig) -> None:
    phone_text = PhoneText(folder)
    model = NgramModel(config.ngram_order)
    model.fit(phone_text.sentences(), phone_text.phones)
    model.write_arpa(folder / LM_NAME)
    rng = numpy_generator(config.seed, "silence of the language model")
    model.fit(phone_text.sentences_with_silence(rng), phone_text.phones)
    model.write_arpa(folder / LM_SILENCE_NAME)


def _shorten(sentence: str) -> str:
    if len(sentence) <= _SHOWN_CHARACTERS:
        return sentence
    return sentence[: _SHOWN_CHARACTERS - 1] + "…"
