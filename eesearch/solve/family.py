"""What a solver is asked: which policies, and how much work may be spent on them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Literal

from eesearch.core.constraints import Constraints
from eesearch.core.errors import PolicyError


@dataclass(frozen=True)
class Family:
    """A set of policies: paths of exits that a sample can meet in this order, and thresholds at them.

    Attributes:
        max_exits: Largest number of exits on cuts. The own classifier behind them is not counted; a path that ends
            at an exit on a cut, where everybody leaves, counts that one.
        levels: Largest number of thresholds per exit, see `threshold_levels`; None: every midpoint between two of
            its scores, which leaves no policy out.
        constraints: What every policy must keep on the table.
        shared_threshold: Whether policies with one threshold for all of their exits are tried, too (`solve.shared`):
            of these there may be any number. Certificates say nothing of them.
    """

    max_exits: int = 3
    levels: int | None = 24
    constraints: Constraints = Constraints()
    shared_threshold: bool = False

    def __post_init__(self) -> None:
        if self.max_exits < 0:
            raise PolicyError("a policy cannot have fewer than no early exits", got=self.max_exits)
        if self.levels is not None and self.levels < 1:
            raise PolicyError("an exit needs threshold levels", got=self.levels, expected="at least 1")


@dataclass(frozen=True)
class Effort:
    """How a family is searched.

    Attributes:
        method: `exact`: completely. `anytime`: first where good policies are likely, then completely, as far as the
            time goes. `auto`: exact if that is expected to take less than about a minute.
        seconds: When to stop and answer with what is found; None: never for `exact`, a minute for `anytime`.
        refine: Whether thresholds that were chosen among levels are then moved to the best midpoints.
        least: Whether the least violation is looked for where nothing keeps the constraints; else there is no point.
        memory_gb: Most memory for bitsets.
        threads: None: as many as the process may use. The answer does not depend on it.
    """

    method: Literal["auto", "exact", "anytime"] = "auto"
    seconds: float | None = None
    refine: bool = True
    least: bool = True
    memory_gb: float = 2.0
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None and not 0.0 < self.seconds < inf:
            raise PolicyError("a time limit is a number of seconds", got=self.seconds, expected="above 0")


ANYTIME_SECONDS = 60.0
"""How long the anytime method searches if nothing else is said."""


def clock(seconds: float | None) -> Callable[[], bool]:
    """A function that says whether so many seconds have passed since now."""
    end = None if seconds is None else time.monotonic() + seconds
    return lambda: end is not None and time.monotonic() >= end


def read_levels(text: str) -> int | None:
    """Read a number of levels, or `all`.

    Raises:
        PolicyError: it is neither.
    """
    if text == "all":
        return None
    if not text.isdecimal():
        raise PolicyError(f"'{text}' is no number of threshold levels", expected="a number, or all")
    return int(text)
