"""How much samples count, as the bitsets of a search know it.

Samples of equal weight lie together, each weight from a new word on, so that a word has one weight. Bits between them
belong to nobody and are 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from eesearch.core.weights import Weights
from eesearch.solve.kernel import Bits, Counts, pack


@dataclass(frozen=True, eq=False)
class Weighing:
    """The samples of a table.

    Attributes:
        samples: N.
        weights: Of every sample; None: all count 1. [N]
    """

    samples: int
    weights: Weights | None = None

    @property
    def total(self) -> int:
        """What all samples count together."""
        return self.samples if self.weights is None else int(self.weights.sum())

    @cached_property
    def units(self) -> Counts:
        """Weights that there are, rising. [G]"""
        return np.ones(1, np.int64) if self.weights is None else np.unique(self.weights)

    @cached_property
    def sizes(self) -> Counts:
        """Samples of each weight. [G]"""
        sizes = [self.samples] if self.weights is None else np.unique(self.weights, return_counts=True)[1]
        return np.asarray(sizes, np.int64)

    @property
    def words(self) -> int:
        """W."""
        return int((-(-self.sizes // 64)).sum())

    @cached_property
    def _bits(self) -> NDArray[np.int64]:
        """Bit of every sample. [N]"""
        group = np.unique(np.ones(self.samples) if self.weights is None else self.weights, return_inverse=True)[1]
        order = np.argsort(group, kind="stable")
        spare = np.concatenate([[0], (-self.sizes % 64).cumsum()[:-1]])  # bits of nobody before each weight
        bits = np.empty(self.samples, np.int64)
        bits[order] = np.arange(self.samples) + spare[group[order]]
        return bits

    def pack(self, members: NDArray[np.bool_]) -> Bits:
        """Bitsets of boolean rows. [..., N] -> [..., W]"""
        if self.weights is None:
            return pack(members)
        spread = np.zeros((*members.shape[:-1], 64 * self.words), np.bool_)
        spread[..., self._bits] = members
        return pack(spread)

    def count(self, right: NDArray[np.bool_]) -> int:
        """What some samples count together. [N]"""
        return int(right.sum() if self.weights is None else self.weights[right].sum())
