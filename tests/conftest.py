"""For all tests: no network, and threads enough for one."""

from __future__ import annotations

import os

# Set before anything imports torch or transformers. Without the first, a checkpoint that is not
# here would be asked for over the network for half a minute.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
