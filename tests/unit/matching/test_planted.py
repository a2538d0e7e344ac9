from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np

from wav2vec_u.testing.language import make_language
from wav2vec_u.testing.planted import plant


def test_the_same_seed_makes_the_same_language_and_another_seed_another() -> None:
    first, again, other = make_language(1), make_language(1), make_language(2)
    assert first.lexicon == again.lexicon
    assert first.sentences(5, "a") == again.sentences(5, "a")
    assert first.sentences(5, "a") != first.sentences(5, "b")
    assert first.lexicon != other.lexicon


def test_words_are_distinct_pronounceable_and_unequally_frequent() -> None:
    language = make_language(0, n_words=100)
    assert language.phones[0] == "<SIL>"
    assert len(language.lexicon) == len(set(language.lexicon.values())) == 100
    for spoken in language.lexicon.values():
        assert all(a != b for a, b in pairwise(spoken))
        assert set(spoken) <= set(language.phones[1:])
    counts = Counter(w for sentence in language.sentences(500, "x") for w in sentence)
    assert counts.most_common(1)[0][1] > 20 * np.median([counts[w] for w in language.lexicon])


def test_planted_vectors_hold_the_truth() -> None:
    language = make_language(0)
    planted = plant(language, utterances=30, sentences=20, noise=0.3)
    store = planted.segments
    assert len(store) == 30
    assert store.splits.count("test") == 3
    right = total = repeated = 0
    for i in range(len(store)):
        vectors, labels = store.vectors(i), store.labels(i)
        distance = ((vectors[:, None] - planted.centres[None]) ** 2).sum(-1)
        right += int((distance.argmin(1) == labels).sum())
        total += len(labels)
        repeated += int((labels[1:] == labels[:-1]).sum())
        truth = store.truth(i)
        assert 0 not in truth
        assert len(truth) <= len(labels)
    assert right / total > 0.99
    assert 0.2 < repeated / total < 0.4


def test_speech_and_text_are_other_sentences() -> None:
    planted = plant(make_language(0), utterances=50, sentences=50)
    spoken = {tuple(planted.segments.truth(i).tolist()) for i in range(50)}
    written = {tuple(planted.text.sentence(i).tolist()) for i in range(50)}
    assert len(spoken & written) < 5


def test_text_batches_are_padded_sentences_with_silence() -> None:
    planted = plant(make_language(0), utterances=2, sentences=9)
    ids, lengths = planted.text.sample_batch(np.random.default_rng(0), 6)
    assert ids.shape == (6, lengths.max())
    written = [planted.text.sentence(i).tolist() for i in range(9)]
    for row, length in zip(ids, lengths, strict=True):
        assert row[0] == row[length - 1] == 0
        assert not row[length:].any()
        assert [phone for phone in row[:length].tolist() if phone] in written
