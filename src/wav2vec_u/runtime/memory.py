"""Memory as the operating system sees it."""

from __future__ import annotations

import sys


def peak_rss_mb() -> float:
    """Peak resident memory of this process so far, in MiB (0 where the system does not tell)."""
    if sys.platform == "win32":
        return 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
