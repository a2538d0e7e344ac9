"""Units, learning rates, batches and masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from songs import SMALL_NETWORK

from wav2vec_u.config import FinetuneConfig, TextConfig, load_config
from wav2vec_u.encoder.network import SpeechNetwork
from wav2vec_u.finetune.backbone import OwnBackbone
from wav2vec_u.finetune.batches import epoch_batches, hold_out
from wav2vec_u.finetune.masks import draw_masks
from wav2vec_u.finetune.schedule import tri_stage_scale
from wav2vec_u.finetune.units import Units, collect_units, spell
from wav2vec_u.runtime.errors import UserError


def test_letters_are_those_of_the_normalised_words() -> None:
    spelled = spell(["The CAT's --", "...", "a b"], "letters", TextConfig(), "en")
    assert spelled == [list("the|cat's"), None, ["a", "|", "b"]]


def test_phones_come_from_the_phonemizer_of_the_text() -> None:
    config = TextConfig(phonemizer="graphemes")
    assert spell(["ab c", "2 x"], "phones", config, "en") == [["a", "b", "c"], None]


def test_rare_symbols_are_no_units() -> None:
    units = collect_units([["a", "b"], ["b", "a", "q"]], "letters", "en", min_count=2)
    assert units.symbols == ("a", "b")
    assert units.unknown(["q", "a", "z", "q"]) == ["q", "z"]
    assert units.encode(["b", "a"]) == [1, 0]


@given(st.lists(st.integers(0, 2), max_size=12))
def test_tidied_letters_give_the_same_words(ids: list[int]) -> None:
    units = Units("letters", ("a", "b", "|"), "en")
    tidy = units.tidy(ids)
    written = "".join(units.symbols[number] for number in tidy)
    words = "".join(units.symbols[number] for number in ids).replace("|", " ").split()
    assert written == "|".join(words)
    assert units.join([units.symbols[number] for number in tidy]) == " ".join(words)


def test_phones_are_never_tidied() -> None:
    assert Units("phones", ("a", "b"), "en").tidy([0, 0, 1, 1]) == [0, 0, 1, 1]


def test_tri_stage_rises_holds_and_falls() -> None:
    scales = [tri_stage_scale(update, 1_000, 0.1, 0.4) for update in range(1_000)]
    assert scales[0] == pytest.approx(0.01)
    assert np.allclose(np.diff(scales[:100]), 0.01)
    assert set(scales[99:500]) == {1.0}
    assert np.allclose(np.diff(scales[499:]), -0.95 / 500)
    assert scales[-1] == pytest.approx(0.05)


@given(st.integers(1, 60), st.floats(0, 0.5), st.floats(0, 0.49))
def test_tri_stage_is_never_zero_and_never_above_one(
    updates: int, warm_up: float, hold: float
) -> None:
    for update in range(updates):
        assert 0 < tri_stage_scale(update, updates, warm_up, hold) <= 1


def test_a_schedule_without_decay_is_refused() -> None:
    with pytest.raises(UserError, match=r"finetune.*less than 1 together"):
        load_config(finetune={"warm_up_share": 0.6, "hold_share": 0.4})


@given(st.lists(st.integers(0, 5), min_size=2, max_size=40), st.floats(0.05, 0.9))
def test_no_text_stands_on_both_sides(texts: list[int], share: float) -> None:
    train, validation = hold_out(texts, share, most=10, seed=3)
    assert sorted(train + validation) == list(range(len(texts)))
    assert not {texts[i] for i in train} & {texts[i] for i in validation}
    assert train
    if len(set(texts)) > 1:
        assert validation


def test_held_out_share_and_its_bound() -> None:
    train, validation = hold_out(range(100), 0.1, most=200, seed=0)
    assert (len(train), len(validation)) == (90, 10)
    assert len(hold_out(range(100), 0.5, most=7, seed=0)[1]) == 7
    assert hold_out(range(100), 0.1, most=200, seed=1)[1] != validation


@given(
    st.lists(st.integers(2_000, 200_000), min_size=1, max_size=60),
    st.floats(0.2, 40.0),
    st.integers(0, 3),
)
def test_batches_hold_everything_once_and_are_bounded(
    lengths: list[int], batch_seconds: float, epoch: int
) -> None:
    array = np.array(lengths, dtype=np.int64)
    batches = epoch_batches(range(len(lengths)), array, batch_seconds, 0, epoch)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * array[batch].max() / 16_000 <= batch_seconds
    assert batches == epoch_batches(range(len(lengths)), array, batch_seconds, 0, epoch)


def test_batches_have_little_padding_and_change_with_the_epoch() -> None:
    lengths = np.random.default_rng(0).integers(16_000, 160_000, 500)
    first, second = (epoch_batches(range(500), lengths, 60.0, 0, epoch) for epoch in (0, 1))
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in first)
    assert padded < 1.15 * lengths.sum()
    assert {tuple(sorted(batch)) for batch in first} != {tuple(sorted(batch)) for batch in second}


def test_masks_hide_the_share_that_is_asked_for() -> None:
    backbone = OwnBackbone(SpeechNetwork(SMALL_NETWORK))
    lengths = torch.tensor([160_000] * 200 + [80_000] * 200)
    config = FinetuneConfig(time_mask_share=0.4, channel_mask_share=0.25, channel_mask_width=0.1)
    masks = draw_masks(backbone, lengths, config, torch.Generator().manual_seed(0))
    assert masks.time.shape == (400, backbone.n_steps(160_000))
    assert masks.channels.shape == (400, backbone.dim)
    assert not masks.time[200:, backbone.n_steps(80_000) :].any()
    # Ends are hidden more rarely, since no span begins before the utterance.
    assert float(masks.time[:200].float().mean()) == pytest.approx(0.4, abs=0.02)
    assert float(masks.channels.float().mean()) == pytest.approx(0.25, abs=0.03)


def test_masks_of_no_share_hide_nothing() -> None:
    backbone = OwnBackbone(SpeechNetwork(SMALL_NETWORK))
    config = FinetuneConfig(time_mask_share=0.0, channel_mask_share=0.0)
    masks = draw_masks(backbone, torch.tensor([32_000]), config, torch.Generator())
    assert not masks.time.any()
    assert not masks.channels.any()
