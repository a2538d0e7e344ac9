"""For all tests: no network, and threads enough for one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import hypothesis
import pytest

# How long an example takes says how busy the machine is, and nothing of the code.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

# Set before anything imports torch or transformers. Without the first, a checkpoint that is not
# here would be asked for over the network for half a minute.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def own_threads() -> Iterator[None]:
    """A run sets torch's threads for its process, which the tests share: set them back.

    More than one would also let every search for words start as many processes.
    """
    yield
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        if torch.get_num_threads() > 1:
            torch.set_num_threads(1)
