"""Checks of measured and counted figures: profiles come from other machines, and from people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated

from pydantic import Field

Finite = Annotated[float, Field(allow_inf_nan=False)]
"""A number; differences between two measured ones may be negative."""

Amount = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
"""A cost."""

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
"""What something took."""

ByHead = dict[str, dict[str, Amount]]
"""cut -> head name -> a cost."""


def require_sizes(figures: Mapping[str, Sequence[float]], size: int) -> None:
    """Raise ValueError unless every sequence is empty or of this size."""
    for name, values in figures.items():
        if len(values) not in (0, size):
            raise ValueError(f"{name} has {len(values)} figures; the cuts and the output are {size}")


def require_rising(figures: Mapping[str, Sequence[float]]) -> None:
    """Raise ValueError where a longer prefix costs less than a shorter one."""
    for name, values in figures.items():
        if any(b < a for a, b in pairwise(values)):
            raise ValueError(f"{name} falls: a longer prefix cannot cost less")


def require_known(cuts: Sequence[str], named: Iterable[str]) -> None:
    """Raise ValueError unless the cuts are distinct and these are among them."""
    if len(set(cuts)) < len(cuts):
        raise ValueError("two cuts have the same name")
    unknown = sorted(set(named) - set(cuts))
    if unknown:
        raise ValueError(f"there are heads at '{unknown[0]}', which is no cut")


def require_growing(batches: Sequence[int]) -> None:
    """Raise ValueError unless several batch sizes rise from 1."""
    if len(batches) > 1 and (batches[0] != 1 or any(b <= a for a, b in pairwise(batches))):
        raise ValueError(f"batch sizes must rise from 1; got {', '.join(map(str, batches))}")
