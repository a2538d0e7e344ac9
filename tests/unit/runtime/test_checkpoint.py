"""Checkpoints give back what was put in, and are replaced whole."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError

from wav2vec_u.runtime import checkpoint
from wav2vec_u.runtime.checkpoint import load_checkpoint, save_checkpoint
from wav2vec_u.runtime.errors import UserError

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False)
    | st.text(max_size=4)
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(state=st.dictionaries(st.text(max_size=3), trees, max_size=3))
def test_plain_values_come_back(tmp_path_factory: pytest.TempPathFactory, state: Any) -> None:
    path = tmp_path_factory.mktemp("checkpoint") / "state.safetensors"
    save_checkpoint(path, state)
    assert load_checkpoint(path) == state


def test_an_optimisers_state_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(3)).sum().backward()
    optimizer.step()
    state = {"optimizer": optimizer.state_dict(), "weights": layer.state_dict()}
    save_checkpoint(tmp_path / "c", state)
    loaded = load_checkpoint(tmp_path / "c")
    torch.testing.assert_close(loaded["weights"], dict(state["weights"]), rtol=0, atol=0)
    other = torch.optim.Adam(layer.parameters())
    other.load_state_dict(loaded["optimizer"])
    torch.testing.assert_close(
        other.state_dict()["state"], optimizer.state_dict()["state"], rtol=0, atol=0
    )


def test_shared_and_strided_tensors(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    save_checkpoint(tmp_path / "c", {"a": base, "b": base.T, "empty": torch.zeros(0, 2)})
    loaded = load_checkpoint(tmp_path / "c")
    assert torch.equal(loaded["a"], base)
    assert torch.equal(loaded["b"], base.T)
    assert loaded["empty"].shape == (0, 2)


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="set"):
        save_checkpoint(tmp_path / "c", {"a": [{1, 2}]})


def test_damage_is_a_users_error(tmp_path: Path) -> None:
    path = tmp_path / "c"
    save_checkpoint(path, {"a": torch.ones(100)})
    whole = path.read_bytes()
    for content in (b"", whole[:50], whole[:-10], b"\x80\x04pickle"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="no readable checkpoint"):
            load_checkpoint(path)
    with pytest.raises(UserError, match="no readable checkpoint"):
        load_checkpoint(tmp_path / "missing")


def test_a_full_disk_keeps_the_older_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path / "c", {"step": 1})

    def full(*args: Any, **kwargs: Any) -> None:
        # As safetensors words it.
        raise SafetensorError("Error while serializing: I/O error: No space left (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError) as caught:
        save_checkpoint(tmp_path / "c", {"step": 2})
    assert caught.value.errno == errno.ENOSPC
    assert load_checkpoint(tmp_path / "c") == {"step": 1}
