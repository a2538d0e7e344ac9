"""``python -m wav2vec_u`` is ``wav2vec-u``."""

from __future__ import annotations

from wav2vec_u.cli import main

if __name__ == "__main__":
    main()
