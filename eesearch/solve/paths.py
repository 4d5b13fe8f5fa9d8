"""Paths: the sequences of stops that a family of policies allows, enumerated in blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from eesearch.core.design import ExitId

Rows = NDArray[np.int64]
"""Paths with the same number of stops, as rows of the table. [P, k]"""

BLOCK = 1 << 17
"""Most paths that are listed at once."""


class PathTree:
    """All paths of a family: no network is entered twice, and no more exits are active than are allowed.

    An exit counts wherever a sample may leave and go on otherwise: on a cut, or behind a whole network that another
    one follows. The last stop is free where it is a network's own classifier, and so is handing on behind it.

    Args:
        exits: Rows of the table. [E]
        step: Costs as in `StageCosts`. [E + 1, E]
        max_exits: Most exits.

    Attributes:
        answers: Where a path may end: not where nothing is said. [E]
        on_cut: Which exits count as the last stop, too. [E]
        network: Number of each exit's network; a last resort is a network of its own. [E]
    """

    def __init__(self, exits: Sequence[ExitId], step: NDArray[np.float64], max_exits: int) -> None:
        self.answers = np.array([not e.is_none for e in exits])
        self.output = np.array([e.is_output for e in exits])
        self.resort = np.array([e.is_last_resort for e in exits])
        self.on_cut = ~(self.output | self.resort)
        numbers = {name: number for number, name in enumerate(dict.fromkeys(e.network for e in exits))}
        self.network = np.array([numbers[e.network] for e in exits], np.int64)
        self.first = np.flatnonzero(np.isfinite(step[0]))
        self.onward = np.isfinite(step[1:])
        self.max_exits = max_exits
        self.longest = max_exits + 1 + int(self.resort.any())

    def allows(self, path: Sequence[int]) -> bool:
        """Whether a sample can meet these stops in this order, and the family allows so many."""
        rows = np.asarray(path, np.int64)[None]
        return bool(path) and all(self._may(rows[:, :k])[0, row] for k, row in enumerate(path))

    def after(self, path: Sequence[int]) -> list[int]:
        """Stops that may follow these."""
        return [int(row) for row in np.flatnonzero(self._may(np.asarray(path, np.int64)[None])[0])]

    def count(self) -> int:
        """Number of paths."""
        entered = 1 << self.network
        sets = np.arange(1 << int(self.network.max() + 1))  # of networks
        same = self.network[:, None] == self.network
        ways = np.zeros((len(sets), len(self.on_cut)))  # paths through a set of networks that end at an exit
        ways[entered[self.first], self.first] = self.on_cut[self.first] <= self.max_exits
        total = ways.sum()
        for stops in range(1, self.longest):
            may = self.onward & (self._used(stops, np.arange(len(self.on_cut))) <= self.max_exits)
            longer = ways @ (may & same)
            for network in np.unique(entered):
                before = sets[sets & network == 0]
                longer[before | network] += ways[before] @ (may & ~same & (entered == network))
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
        parent, row = np.nonzero(self._may(prefixes))
        return np.column_stack([prefixes[parent], row])

    def _may(self, prefixes: Rows) -> NDArray[np.bool_]:
        """Which stops may come next. [P, E]"""
        may = np.zeros((len(prefixes), len(self.on_cut)), np.bool_)
        if prefixes.shape[1] == 0:
            may[:, self.first] = True
            return np.asarray(may & (self.on_cut <= self.max_exits))
        last = prefixes[:, -1]
        may = self.onward[last] & (self._used(prefixes.shape[1], last) <= self.max_exits)
        for stop in prefixes.T:  # whose network was left must not be entered again
            entered = self.network[stop][:, None] == self.network
            may &= ~entered | (self.network[last][:, None] == self.network)
        return may

    def _used(self, stops: int, last: NDArray[np.int64]) -> NDArray[np.int64]:
        """Exits that are active if so many stops, the last of them as given, are followed by one more. [P, E]"""
        return np.asarray(stops + self.on_cut - (self.output[last][:, None] & self.resort))


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
