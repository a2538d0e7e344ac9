"""The n-gram model against KenLM's lmplz and against plain, slow code."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.text import kneser_ney
from wav2vec_u.text.ngram import NgramModel
from wav2vec_u.text.ngram_table import FIRST_SYMBOL, SPECIAL_NAMES, unpack

FIXTURES = Path(__file__).parents[1] / "fixtures" / "lm"
TOLERANCE = 1e-4  # log10


def read_corpus(name: str) -> tuple[list[np.ndarray], list[str]]:
    lines = [line.split() for line in (FIXTURES / name).read_text(encoding="utf-8").splitlines()]
    symbols = sorted({symbol for line in lines for symbol in line})
    ids = {symbol: number for number, symbol in enumerate(symbols)}
    return [np.array([ids[symbol] for symbol in line]) for line in lines], symbols


def random_sentences(
    rng: np.random.Generator, n_symbols: int, count: int, longest: int = 12
) -> list[np.ndarray]:
    weights = rng.dirichlet(np.full(n_symbols, 0.5))
    return [rng.choice(n_symbols, size=rng.integers(0, longest), p=weights) for _ in range(count)]


class PlainModel:
    """The same n-grams in dictionaries, scored one token at a time as the ARPA format says."""

    def __init__(self, model: NgramModel) -> None:
        self.names = [*SPECIAL_NAMES, *model.symbols_]
        self.order = model.order
        self.probs: dict[tuple[str, ...], float] = {}
        self.backoffs: dict[tuple[str, ...], float] = {}
        for n, table in enumerate(model.tables_, start=1):
            for tokens, prob, backoff in zip(
                unpack(table.keys, n, len(self.names)),
                table.log10_probs,
                table.log10_backoffs,
                strict=True,
            ):
                ngram = tuple(self.names[token] for token in tokens)
                self.probs[ngram] = float(prob)
                self.backoffs[ngram] = float(backoff)

    def log10_next(self, history: list[str], word: str) -> float:
        if (word,) not in self.probs:
            word = "<unk>"
        context = tuple(w if (w,) in self.probs else "<unk>" for w in history)
        context = context[max(0, len(context) - self.order + 1) :]
        penalty = 0.0
        while (*context, word) not in self.probs:
            penalty += self.backoffs.get(context, 0.0)
            context = context[1:]
        return penalty + self.probs[(*context, word)]

    def log10_prob(self, sentence: np.ndarray) -> float:
        words = ["<s>", *(self.names[s + FIRST_SYMBOL] for s in sentence), "</s>"]
        return sum(self.log10_next(words[:i], words[i]) for i in range(1, len(words)))


@pytest.mark.parametrize("name", ["corpus", "short"])
def test_equals_lmplz_for_every_ngram(name: str) -> None:
    sentences, symbols = read_corpus(f"{name}.txt")
    ours = NgramModel(4).fit(sentences, symbols)
    theirs = NgramModel.read_arpa(FIXTURES / f"{name}.arpa", symbols)
    for mine, golden in zip(ours.tables_, theirs.tables_, strict=True):
        np.testing.assert_array_equal(mine.keys, golden.keys)
        np.testing.assert_allclose(mine.log10_probs, golden.log10_probs, atol=TOLERANCE)
        np.testing.assert_allclose(mine.log10_backoffs, golden.log10_backoffs, atol=TOLERANCE)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sentences, symbols = read_corpus("corpus.txt")
    whole = NgramModel(4).fit(sentences, symbols)
    monkeypatch.setattr(kneser_ney, "_CHUNK_TOKENS", 50)
    chunked = NgramModel(4).fit(iter(sentences), symbols)
    for one, other in zip(whole.tables_, chunked.tables_, strict=True):
        np.testing.assert_array_equal(one.keys, other.keys)
        np.testing.assert_array_equal(one.log10_probs, other.log10_probs)
        np.testing.assert_array_equal(one.log10_backoffs, other.log10_backoffs)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    order=st.integers(2, 6),
    n_symbols=st.integers(1, 6),
    count=st.integers(1, 40),
)
def test_sums_to_one_after_any_history(seed: int, order: int, n_symbols: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    symbols = [f"p{i}" for i in range(n_symbols)]
    sentences = random_sentences(rng, n_symbols, count)
    plain = PlainModel(NgramModel(order).fit(sentences, symbols))
    predicted = [name for (name,) in (key for key in plain.probs if len(key) == 1) if name != "<s>"]
    for _ in range(5):
        length = int(rng.integers(0, order + 1))
        history = [symbols[i] for i in rng.integers(n_symbols, size=length)]
        if rng.random() < 0.5:
            history.insert(0, "<s>")
        total = sum(10 ** plain.log10_next(history, word) for word in predicted)
        assert total == pytest.approx(1.0, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), order=st.integers(2, 5), n_symbols=st.integers(1, 7))
def test_scores_equal_plain_backoff(seed: int, order: int, n_symbols: int) -> None:
    rng = np.random.default_rng(seed)
    # The last symbol never occurs in the training text.
    symbols = [f"p{i}" for i in range(n_symbols + 1)]
    model = NgramModel(order).fit(random_sentences(rng, n_symbols, 20), symbols)
    plain = PlainModel(model)
    wanted = random_sentences(rng, n_symbols + 1, 8)
    expected = [plain.log10_prob(sentence) for sentence in wanted]
    np.testing.assert_allclose(model.log10_probs(wanted), expected, atol=1e-9)
    assert model.log10_prob(wanted[0]) == pytest.approx(expected[0], abs=1e-9)
    predicted = sum(len(sentence) + 1 for sentence in wanted)
    assert model.perplexity(wanted) == pytest.approx(10 ** (-sum(expected) / predicted))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_dense_equals_plain_backoff(order: int) -> None:
    sentences, symbols = read_corpus("corpus.txt")
    few = symbols[:7]  # sentences keep their first symbols, so that some n-grams are seen
    model = NgramModel(4).fit([s[s < len(few)] for s in sentences], [*few, "never-seen"])
    plain = PlainModel(model)
    table = model.dense(order)
    v = len(model.symbols_)
    assert table.shape == (v,) * order
    for ids in itertools.product(range(v), repeat=order):
        # A table of a lower order knows a shorter history.
        history = [model.symbols_[i] for i in ids[:-1]]
        expected = plain.log10_next(history, model.symbols_[ids[-1]])
        assert table[ids] == pytest.approx(expected, abs=1e-4), ids


def test_learns_the_planted_language() -> None:
    # Symbol 2 always follows 1, and nothing else is regular.
    rng = np.random.default_rng(0)
    pieces = [np.array([0]), np.array([1, 2]), np.array([3])]
    sentences = [np.concatenate([pieces[i] for i in rng.integers(3, size=10)]) for _ in range(300)]
    model = NgramModel(2).fit(sentences, list("abcd"))
    table = 10.0 ** model.dense(2)
    assert table[1, 2] > 0.98
    assert max(table[1, 0], table[1, 1], table[1, 3]) < 0.01
    shuffled = [rng.permutation(sentence) for sentence in sentences]
    assert model.perplexity(sentences) < 0.7 * model.perplexity(shuffled)


def test_arpa_round_trip(tmp_path: Path) -> None:
    sentences, symbols = read_corpus("corpus.txt")
    model = NgramModel(4).fit(sentences, symbols)
    for name in ("lm.arpa", "lm.arpa.gz"):
        model.write_arpa(tmp_path / name)
        back = NgramModel.read_arpa(tmp_path / name, symbols)
        assert back.symbols_ == symbols
        for one, other in zip(model.tables_, back.tables_, strict=True):
            np.testing.assert_array_equal(one.keys, other.keys)
            np.testing.assert_allclose(one.log10_probs, other.log10_probs, atol=1e-6)
            np.testing.assert_allclose(one.log10_backoffs, other.log10_backoffs, atol=1e-6)
    # Without symbols, ids follow the file, and sentences get the same probability.
    free = NgramModel.read_arpa(tmp_path / "lm.arpa")
    renamed = np.array([free.symbols_.index(symbol) for symbol in symbols])
    assert sorted(free.symbols_) == symbols
    assert free.perplexity([renamed[s] for s in sentences]) == pytest.approx(
        model.perplexity(sentences), rel=1e-5
    )


def test_unseen_symbols_stay_out_of_the_file(tmp_path: Path) -> None:
    model = NgramModel(2).fit([np.array([1, 2, 1])], ["<SIL>", "a", "b"])
    model.write_arpa(tmp_path / "lm.arpa")
    assert "<SIL>" not in (tmp_path / "lm.arpa").read_text(encoding="utf-8")
    back = NgramModel.read_arpa(tmp_path / "lm.arpa", ["<SIL>", "a", "b"])
    sentence = np.array([1, 0, 2])
    assert back.log10_prob(sentence) == pytest.approx(model.log10_prob(sentence), abs=1e-6)


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no sentence"):
        NgramModel(2).fit([], ["a"])
    with pytest.raises(ValueError, match="ids must be"):
        NgramModel(2).fit([np.array([1])], ["a"])
    with pytest.raises(ValueError, match="order"):
        NgramModel(7)
    model = NgramModel(2).fit([np.array([0])], ["a"])
    with pytest.raises(ValueError, match="ids must be"):
        model.log10_prob(np.array([-1]))
    with pytest.raises(ValueError, match="order"):
        model.dense(3)
    with pytest.raises(UserError, match="ngram_order"):
        NgramModel(6).fit([np.array([0])], [f"p{i}" for i in range(2000)])
    with pytest.raises(ValueError, match="cannot be a symbol"):
        NgramModel(2).fit([np.array([0])], ["a b"]).write_arpa(tmp_path / "lm.arpa")
    assert model.perplexity([]) == float("inf")


GOOD = (FIXTURES / "short.arpa").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        ("", r"cut short, \\data\\ is missing"),
        ("hello\n", r"cut short, \\data\\ is missing"),
        (GOOD[: len(GOOD) // 2], "lm.arpa"),
        (GOOD.replace("\\end\\", ""), r"cut short, \\end\\ is missing"),
        (GOOD.replace("ngram 2=8", "ngram 2=9"), "expected one of 9 2-grams"),
        (GOOD.replace("ngram 2=8", "ngram 2=7"), r"expected \\3-grams:"),
        (GOOD.replace("ngram 2=8", "ngram 2=many"), "lm.arpa:3: expected `ngram N=COUNT`"),
        (GOOD.replace("ngram 2=8\n", ""), "lm.arpa:3: expected `ngram N=COUNT`"),
        (GOOD.replace("\\3-grams:", "\\5-grams:"), r"expected \\3-grams:"),
        (GOOD.replace("-0.6035101", "zero", 1), "no proper numbers"),
        (GOOD.replace("-0.6035101", "0.6035101", 1), "no log10 probability"),
        (GOOD.replace("-0.6035101", "nan", 1), "no log10 probability"),
        (GOOD.replace("a </s>", "z </s>", 1), "'z' is none of the model's symbols"),
        (GOOD.replace("b </s>", "a </s>", 1), "the same 2-gram twice"),
        (GOOD.replace("<s>\t", "d\t"), "no <s>"),
    ],
)
def test_damaged_arpa_is_refused(tmp_path: Path, damaged: str, message: str) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text(damaged, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        NgramModel.read_arpa(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_arpa_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        NgramModel.read_arpa(tmp_path / "absent.arpa")
    (tmp_path / "binary.arpa").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        NgramModel.read_arpa(tmp_path / "binary.arpa")
    (tmp_path / "broken.arpa.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match="cannot be read"):
        NgramModel.read_arpa(tmp_path / "broken.arpa.gz")
    with pytest.raises(UserError, match="none of the model's symbols"):
        NgramModel.read_arpa(FIXTURES / "short.arpa", ["a", "b"])


# --- left-out n-grams ---


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    order=st.integers(2, 5),
    n_symbols=st.integers(1, 6),
    prune=st.lists(st.integers(0, 4), max_size=4),
)
def test_a_pruned_model_sums_to_one_and_is_whole(
    seed: int, order: int, n_symbols: int, prune: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    symbols = [f"p{i}" for i in range(n_symbols)]
    sentences = random_sentences(rng, n_symbols, 30)
    plain = PlainModel(NgramModel(order).fit(sentences, symbols, prune))
    for ngram in plain.probs:
        if len(ngram) > 1:
            assert ngram[:-1] in plain.probs
            assert ngram[1:] in plain.probs
    predicted = [name for (name,) in (key for key in plain.probs if len(key) == 1) if name != "<s>"]
    for _ in range(5):
        history = [symbols[i] for i in rng.integers(n_symbols, size=int(rng.integers(0, order)))]
        total = sum(10 ** plain.log10_next(history, word) for word in predicted)
        assert total == pytest.approx(1.0, abs=1e-9)


def test_pruning_leaves_out_what_is_rare_and_nothing_else() -> None:
    sentences, symbols = read_corpus("corpus.txt")
    whole, pruned = (
        NgramModel(3).fit(sentences, symbols),
        NgramModel(3).fit(sentences, symbols, (0, 1)),
    )
    base = len(symbols) + FIRST_SYMBOL
    counts = kneser_ney.count_ngrams(sentences, len(symbols), 3, base)
    keys, seen = counts.adjusted[2]
    np.testing.assert_array_equal(pruned.tables_[2].keys, keys[seen > 1])
    np.testing.assert_array_equal(pruned.tables_[1].keys, whole.tables_[1].keys)
    np.testing.assert_array_equal(pruned.tables_[0].log10_probs, whole.tables_[0].log10_probs)
    # What stays has the probability that it had, and a little of what the others had.
    found = whole.tables_[2].find(pruned.tables_[2].keys)
    assert (pruned.tables_[2].log10_probs >= whole.tables_[2].log10_probs[found] - 1e-12).all()


def test_a_mass_that_is_pruned_goes_to_the_backoff() -> None:
    # After `a`: b twice, c once. Without `a c`, its one of three counts is backed off.
    model = NgramModel(2).fit([np.array([0, 1]), np.array([0, 1]), np.array([0, 2])], "abc", (1,))
    plain = PlainModel(model)
    assert ("a", "b") in plain.probs
    assert ("a", "c") not in plain.probs
    discount = kneser_ney.discounts(np.array([3, 2, 2, 1, 1]))[2]  # of all bigrams
    assert 10 ** plain.backoffs[("a",)] == pytest.approx((discount + 1) / 3)
