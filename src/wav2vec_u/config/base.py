"""What all settings have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

SAMPLE_RATE = 16_000  # Hz; what every published speech encoder expects

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0)]


def _as_tuple(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else (value,)


# One number is as good as a list with one number.
Weights = Annotated[
    tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1), BeforeValidator(_as_tuple)
]
Rates = Annotated[tuple[PositiveFloat, ...], Field(min_length=1), BeforeValidator(_as_tuple)]


class Settings(BaseModel):
    """Base of all settings: immutable, and strict about unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
