"""The weights of a search that were found without labels, kept for those who search later."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_json

FILE_NAME = "search_weights.json"


@dataclass(frozen=True)
class FoundWeights:
    """What a search went by.

    Attributes
    ----------
    word_cost : float
        Nats, see `graph.word_cost`.
    scale : float
        Factor on the likelihoods, see `graph.scale`.
    """

    word_cost: float
    scale: float

    def save(self, folder: Path) -> None:
        """Write them into an existing folder."""
        write_json(folder / FILE_NAME, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> FoundWeights | None:
        """Read what `save` wrote; None where nothing was searched yet.

        Raises
        ------
        UserError
            If the file is damaged.
        """
        path = folder / FILE_NAME
        if not path.exists():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(float(found["word_cost"]), float(found["scale"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: is damaged; remove {folder} and run again") from error
