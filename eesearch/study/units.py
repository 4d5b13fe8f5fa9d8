"""Numbers as a person writes them in a study: durations and shares."""

from __future__ import annotations

import re
from math import nan
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

_DURATION = r"\s*(\d+(?:\.\d+)?(?:e-?\d+)?)\s*([smh]?)\s*"
_SHARE = r"\s*(\d+(?:\.\d+)?(?:e-?\d+)?)\s*(%?)\s*"

LARGEST_BARE_SHARE = 0.25
"""A larger number without `%` was rather meant as a percentage."""


def seconds(text: object) -> object:
    """Read a duration: a number of seconds, or `90s`, `10m`, `2h`."""
    match = re.fullmatch(_DURATION, str(text))
    if text is None or match is None:
        if text is None:
            return None
        raise ValueError(f"'{text}' is no duration; write 90s, 10m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def share(text: object) -> object:
    """Read a share: `0.005`, or `0.5%`."""
    match = re.fullmatch(_SHARE, str(text))
    value = float(match[1]) if match else nan
    if match is None or (not match[2] and value > LARGEST_BARE_SHARE):
        raise ValueError(f"'{text}' is no share; write 0.5% or 0.005")
    return value * (0.01 if match[2] else 1.0)


def write_share(value: float) -> float | str:
    """A share as `share` reads it; 15 digits are enough to get any percentage back that has no more."""
    return value if value <= LARGEST_BARE_SHARE else f"{100.0 * value:.15g}%"


def _number_or_text(pattern: str, **bounds: float) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": "number", **bounds}, {"type": "string", "pattern": f"^{pattern}$"}]})


Duration = Annotated[float, BeforeValidator(seconds), Field(gt=0.0), _number_or_text(_DURATION, exclusiveMinimum=0.0)]
Share = Annotated[
    float,
    BeforeValidator(share),
    Field(ge=0.0, le=1.0),
    PlainSerializer(write_share),
    _number_or_text(_SHARE, minimum=0.0, maximum=LARGEST_BARE_SHARE),
]
