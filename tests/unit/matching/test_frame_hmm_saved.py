"""The model of frames on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_frame_hmm import STATES, corpus, model

from wav2vec_u.matching.frame_hmm import FrameHmm
from wav2vec_u.runtime.checkpoint import load_checkpoint, save_checkpoint
from wav2vec_u.runtime.errors import UserError


def test_a_saved_model_reads_as_before(tmp_path: Path) -> None:
    hmm = model(7, power=0.3, stay=0.7)
    path = tmp_path / "frame_hmm.safetensors"
    hmm.save(path)
    loaded = FrameHmm.load(path)
    assert (loaded.power, loaded.stay) == (0.3, 0.7)
    np.testing.assert_array_equal(loaded.language.phones, STATES)
    np.testing.assert_array_equal(loaded.prior, hmm.prior)
    utterances = corpus(8)
    one, other = (item.read(utterances, threads=1) for item in (hmm, loaded))
    assert one.gain == other.gain
    for found, again in zip(one.posteriors, other.posteriors, strict=True):
        np.testing.assert_array_equal(found, again)


def test_a_missing_or_damaged_model_is_a_users_error(tmp_path: Path) -> None:
    path = tmp_path / "frame_hmm.safetensors"
    with pytest.raises(UserError, match=r"frame_hmm\.safetensors"):
        FrameHmm.load(path)
    model().save(path)
    whole = path.read_bytes()
    for content in (b"", whole[:60], whole[:-4], b"no safetensors"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"frame_hmm\.safetensors"):
            FrameHmm.load(path)


@pytest.mark.parametrize(
    "change",
    [{"phones": [1, 3, 4]}, {"power": None}, {"trigram": 0.5}, {"stay": {}}],
    ids=["phones", "power", "trigram", "stay"],
)
def test_a_checkpoint_of_something_else_is_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    path = tmp_path / "frame_hmm.safetensors"
    model().save(path)
    save_checkpoint(path, {**load_checkpoint(path), **change})
    with pytest.raises(UserError, match=r"holds no model of frames; run the matching again"):
        FrameHmm.load(path)


@pytest.mark.parametrize("name", ["phones", "unigram", "bigram", "trigram", "prior", "power"])
def test_a_model_that_lacks_a_part_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "frame_hmm.safetensors"
    model().save(path)
    state = load_checkpoint(path)
    assert isinstance(state.pop(name), (torch.Tensor, float))
    save_checkpoint(path, state)
    with pytest.raises(UserError, match=r"frame_hmm\.safetensors: holds no model of frames"):
        FrameHmm.load(path)
