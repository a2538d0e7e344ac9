"""A little knowledge of languages, for noticing that a text is in another one than was said."""

from __future__ import annotations

# Frequent function words, most of them long enough to differ between languages.
_LISTS: dict[str, str] = {
    "en": "the of and to that was with for his not but they have from this which are",
    "de": "der die und das nicht ist mit den von auf sich ein eine auch dem dass war",
    "fr": "les des est une dans que qui pour pas sur avec ce il elle plus par mais",
    "es": "los las una por con para como pero más del que está fue sus sin cuando muy",
    "it": "che della una per con non sono gli nel alla anche come più dei era questo",
    "pt": "uma não com para por mais como mas dos foi ele das seu sua quando muito são",
    "nl": "het een van dat niet zijn met voor maar ook aan naar was door hij deze zij",
    "sv": "och att det som inte för med han var den till sig hade från hon men ett",
    "pl": "nie się jest jak ale był tym tego czy już przez tak tylko jego gdy była dla",
    "tr": "bir ve bu için ile çok daha gibi ama kadar olan değil sonra olarak her ne",
    "sw": "na ya wa kwa ni katika kuwa hii yake watu kama lakini pia huo hilo baada",
    "id": "yang dan dengan untuk tidak dari ini itu pada akan dalam adalah oleh juga",
    "fi": "ja on ei että oli hän mutta niin kun myös ovat sitä joka kuin se mitä",
}
FREQUENT_WORDS = {language: tuple(words.split()) for language, words in _LISTS.items()}

# Names as in the Unicode character names; languages that are not listed are not checked.
SCRIPTS: dict[str, str] = {
    "ru": "CYRILLIC",
    "uk": "CYRILLIC",
    "bg": "CYRILLIC",
    "ky": "CYRILLIC",
    "tt": "CYRILLIC",
    "kk": "CYRILLIC",
    "el": "GREEK",
    "am": "ETHIOPIC",
    "ti": "ETHIOPIC",
    "ar": "ARABIC",
    "fa": "ARABIC",
    "ur": "ARABIC",
    "he": "HEBREW",
    "hi": "DEVANAGARI",
    "mr": "DEVANAGARI",
    "ne": "DEVANAGARI",
    "bn": "BENGALI",
    "ta": "TAMIL",
    "te": "TELUGU",
    "kn": "KANNADA",
    "ml": "MALAYALAM",
    "ka": "GEORGIAN",
    "hy": "ARMENIAN",
    "ko": "HANGUL",
    "th": "THAI",
}
