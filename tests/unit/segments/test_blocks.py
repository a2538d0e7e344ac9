from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_frames import MemoryFrames

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.segments.blocks import is_usable, rechunk, reservoir_sample, train_blocks


@given(lengths=st.lists(st.integers(0, 7), max_size=8), rows=st.integers(1, 9))
def test_rechunk_keeps_every_row_in_order(lengths, rows):
    frames = np.arange(2 * sum(lengths), dtype=np.float32).reshape(-1, 2)
    blocks = np.split(frames, np.cumsum(lengths)[:-1]) if lengths else []

    chunks = list(rechunk(blocks, rows))

    assert all(len(chunk) == rows for chunk in chunks[:-1])
    assert all(0 < len(chunk) <= rows for chunk in chunks)
    if chunks:
        np.testing.assert_array_equal(np.concatenate(chunks), frames)
    else:
        assert len(frames) == 0


def test_a_short_stream_is_sampled_whole():
    frames = np.arange(20, dtype=np.float32).reshape(10, 2)
    sample, n_rows = reservoir_sample([frames[:3], frames[3:]], 50, np.random.default_rng(0))
    np.testing.assert_array_equal(sample, frames)
    assert n_rows == 10


def test_sample_does_not_depend_on_the_cut_and_repeats_nothing():
    frames = np.arange(30_000, dtype=np.float32)[:, None]
    one, n_rows = reservoir_sample([frames], 500, np.random.default_rng(3))
    many, _ = reservoir_sample(np.array_split(frames, 77), 500, np.random.default_rng(3))
    np.testing.assert_array_equal(one, many)
    assert n_rows == 30_000
    assert len(np.unique(one)) == 500


def test_sample_is_uniform():
    frames = np.repeat(np.arange(10, dtype=np.float32), 2_000)[:, None]
    sample, _ = reservoir_sample([frames], 5_000, np.random.default_rng(1))
    shares = np.bincount(sample[:, 0].astype(int), minlength=10) / 5_000
    assert np.abs(shares - 0.1).max() < 0.02  # four standard deviations


def test_only_usable_frames_of_split_train_are_learned_from():
    good = np.ones((4, 2))
    broken = np.full((3, 2), np.nan)
    source = MemoryFrames(
        [good, 9 * good, broken, np.empty((0, 2))], splits=["train", "test", "train", "train"]
    )
    blocks = train_blocks(source)
    for _ in range(2):  # every call is a fresh pass
        (block,) = blocks()
        np.testing.assert_array_equal(block, good)


def test_without_training_utterances_the_mend_is_named():
    source = MemoryFrames([np.ones((4, 2))], splits=["test"])
    with pytest.raises(UserError, match="split `train`"):
        train_blocks(source)


def test_usable_frames():
    assert is_usable(np.zeros((1, 2), np.float32))
    assert not is_usable(np.zeros((0, 2), np.float32))
    assert not is_usable(np.array([[0.0, np.inf]], np.float32))
