"""Paths: the sequences of stops that a family of policies allows, enumerated in blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from eesearch.core.design import ExitId

Rows = NDArray[np.int64]
"""Paths with the same number of stops, as rows of the table. [P, k]"""

BLOCK = 1 << 17
"""Most paths that are listed at once."""


class PathTree:
    """All paths of a family.

    Args:
        exits: Rows of the table. [E]
        step: Costs as in `StageCosts`. [E + 1, E]
        max_exits: Most exits on cuts.

    Attributes:
        answers: Where a path may end: not where nothing is said. [E]
    """

    def __init__(self, exits: Sequence[ExitId], step: NDArray[np.float64], max_exits: int) -> None:
        self.answers = np.array([not e.is_none for e in exits])
        self.on_cut = np.array([not (e.is_output or e.is_last_resort) for e in exits])
        self.first = np.flatnonzero(np.isfinite(step[0]))
        self.onward = np.isfinite(step[1:])
        self.max_exits = max_exits
        self.longest = max_exits + int((~self.on_cut).sum())

    def allows(self, path: Sequence[int]) -> bool:
        """Whether a sample can meet these stops in this order, and the family allows so many."""
        steps = all(self.onward[i, j] for i, j in pairwise(path))
        return bool(path) and path[0] in self.first and steps and self.on_cut[list(path)].sum() <= self.max_exits

    def count(self) -> int:
        """Number of paths."""
        # ways[c, e]: paths that end at exit e and have c exits on cuts
        ways = np.zeros((self.max_exits + 1, len(self.on_cut)))
        for e in self.first:
            if self.on_cut[e] <= self.max_exits:
                ways[int(self.on_cut[e]), e] += 1
        total = ways.sum()
        for _ in range(self.longest - 1):
            longer = np.zeros_like(ways)
            for c in range(self.max_exits + 1):
                reached = ways[c] @ self.onward
                longer[c] += np.where(self.on_cut, 0, reached)
                if c < self.max_exits:
                    longer[c + 1] += np.where(self.on_cut, reached, 0)
            ways, total = longer, total + longer.sum()
        return int(total)

    def blocks(self, size: int = BLOCK) -> Iterator[Rows]:
        """All paths, those with fewer stops first, then by rows; each block has at most `size`."""
        for stops in range(1, self.longest + 1):
            yield from self._extended(np.empty((1, 0), np.int64), stops, size)

    def _extended(self, prefixes: Rows, stops: int, size: int) -> Iterator[Rows]:
        """All paths with so many stops that begin with these prefixes."""
        if not len(prefixes) or prefixes.shape[1] == stops:
            for start in range(0, len(prefixes), size):
                yield prefixes[start : start + size]
            return
        # A prefix has at most E continuations: as many prefixes at a time as make no more than a block.
        share = max(1, size // max(len(self.on_cut), 1))
        for start in range(0, len(prefixes), share):
            yield from self._extended(self.longer(prefixes[start : start + share]), stops, size)

    def longer(self, prefixes: Rows) -> Rows:
        """Every prefix with every stop that may come next."""
        if prefixes.shape[1] == 0:
            may = np.zeros((len(prefixes), len(self.on_cut)), np.bool_)
            may[:, self.first] = True
        else:
            may = self.onward[prefixes[:, -1]]
        used = self.on_cut[prefixes].sum(1) if prefixes.shape[1] else np.zeros(len(prefixes), np.int64)
        may = may & ((used[:, None] + self.on_cut) <= self.max_exits)
        parent, row = np.nonzero(may)
        return np.column_stack([prefixes[parent], row])


def paid(step: NDArray[np.float64], paths: Rows, *, largest: bool = False) -> NDArray[np.float64]:
    """Cost per sample of leaving at each stop. [P, k]

    Args:
        step: As in `StageCosts`. [E + 1, E]
        paths: [P, k]
        largest: Whether the largest step counts (peak memory), not their sum.
    """
    before = np.column_stack([np.zeros(len(paths), np.int64), paths[:, :-1] + 1])
    steps = step[before, paths]
    return np.asarray(np.maximum.accumulate(steps, axis=1) if largest else steps.cumsum(1))
