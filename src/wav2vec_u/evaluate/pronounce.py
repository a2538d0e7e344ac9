"""Transcripts as phones, word by word, exactly as the text stage makes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wav2vec_u.config import TextConfig
from wav2vec_u.text.lexicon import Lexicon, read_lexicon
from wav2vec_u.text.normalize import Normalizer
from wav2vec_u.text.phonemize import load_phonemizer


class Pronouncer:
    """Pronounce transcripts with the text's lexicon, and its phonemizer for words not in it.

    Parameters
    ----------
    text : Path
        Artefact of the text stage.
    config : TextConfig
        Which phonemizer the text stage used.
    language : str
    """

    def __init__(self, text: Path, config: TextConfig, language: str) -> None:
        self._lexicon = read_lexicon(text)
        self._config = config
        self._language = language
        self._normalize = Normalizer(language)

    def pronounce(self, transcripts: Sequence[str]) -> list[list[str] | None]:
        """Return the phones of each transcript, without silence.

        Returns
        -------
        list of (list of str or None)
            None where a word cannot be pronounced or there is no word.

        Raises
        ------
        UserError
            If the phonemizer is not installed.
        """
        sentences = [self._normalize(transcript) for transcript in transcripts]
        unknown = sorted(
            {word for sentence in sentences for word in sentence.split()} - set(self._lexicon)
        )
        lexicon = self._lexicon
        if unknown:
            extra = load_phonemizer(self._config).phonemize(unknown, self._language)
            lexicon = Lexicon({**{word: lexicon[word] for word in lexicon}, **extra})
        return [lexicon.pronounce(sentence) or None for sentence in sentences]
