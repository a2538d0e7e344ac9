"""Who speaks: languages and voices of espeak-ng that say what is written in Latin letters."""

from __future__ import annotations

# Languages whose letters the texts of other languages are written in. A voice reads a text of
# another language by its own rules: what it says means nothing, and its phones are as they should
# be.
LATIN_VOICES = (
    "nl", "da", "sv", "nb", "is", "af", "fr", "fr-be", "ca", "es", "es-419", "it", "pt", "pt-br",
    "ro", "la", "fi", "hu", "et", "tr", "az", "uz", "sw", "tn", "eu", "pl", "cs", "sk", "sl", "hr",
    "lv", "lt", "ga", "cy", "gd", "sq", "vi", "id", "ms", "mt", "eo", "ht", "om", "ku", "gn", "lb",
)  # fmt: skip

# Throats, of men, women and old people, and other ways to make the sounds (klatt). Whispers,
# croaks and robots are left out.
VARIANTS = (
    "Alex", "Alicia", "Andrea", "Andy", "Annie", "AnxiousAndy", "Denis", "Diogo", "Gene", "Gene2",
    "Henrique", "Hugo", "Jacky", "Lee", "Marco", "Mario", "Michael", "Mike", "Nguyen", "Reed",
    "Storm", "adam", "anika", "antonio", "aunty", "belinda", "benjamin", "boris", "caleb", "david",
    "ed", "edward", "edward2", "f1", "f2", "f3", "f4", "f5", "grandma", "grandpa", "gustave", "ian",
    "iven", "iven2", "iven3", "iven4", "john", "klatt", "klatt2", "klatt3", "klatt4", "klatt5",
    "klatt6", "linda", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "marcelo", "max", "michel",
    "miguel", "mike2", "norbert", "pablo", "paul", "pedro", "quincy", "rob", "robert", "sandro",
    "shelby", "steph", "steph2", "steph3", "travis", "victor", "zac",
)  # fmt: skip
PLAIN_PROBABILITY = 0.08  # of a voice without a variant
