"""Speech recognition without transcripts: recordings and unpaired text in, a recogniser out.

>>> from wav2vec_u import Pipeline, Recognizer, load_config
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wav2vec_u.config import load_config
    from wav2vec_u.pipeline import Pipeline
    from wav2vec_u.recognizer import Recognizer

__all__ = ["Pipeline", "Recognizer", "__version__", "load_config"]

# Where the public names live. They are imported when first asked for: `import wav2vec_u` and the
# help of the command line must not wait for torch.
_HOMES = {
    "Pipeline": "wav2vec_u.pipeline",
    "Recognizer": "wav2vec_u.recognizer",
    "load_config": "wav2vec_u.config",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("wav2vec-u")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'wav2vec_u' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
