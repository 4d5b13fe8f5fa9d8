"""Keys: what decides which samples leave at a stop, and what becomes of them, as bitsets.

A criterion that looks at one exit makes a key of every exit. One that looks at all active exits, or an answer that they
give together, makes a key of every path that leads to a stop: neither depends on thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from eesearch.core.errors import InputError
from eesearch.core.policy import Scoring
from eesearch.core.tables import ExitTable
from eesearch.exits.routing import score_table, stop_output
from eesearch.solve.boxes import Keys
from eesearch.solve.levels import threshold_levels
from eesearch.solve.paths import Rows
from eesearch.solve.stream import ScoreTable
from eesearch.solve.weighing import Weighing

GIB = 2**30

MANY_KEYS = 1000
"""Most keys of paths that are made at a time: in between it is asked whether there is time for more."""


class Outputs(Protocol):
    """What stops say: a score and a right or wrong answer for every sample."""

    by_exit: bool
    """Whether a stop says the same whatever the stops before it."""

    def at(self, path: tuple[int, ...]) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]:
        """Scores [N] and correctness [N] at the last stop of a path."""
        ...


class ExitOutputs:
    """Scores and correctness that belong to an exit.

    Args:
        scores: [E, N]
        correct: [E, N]
    """

    by_exit = True

    def __init__(self, scores: NDArray[np.floating[Any]], correct: NDArray[np.bool_]) -> None:
        self.scores, self.correct = scores, correct

    def at(self, path: tuple[int, ...]) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]:
        """Scores [N] and correctness [N] at the last stop of a path."""
        return self.scores[path[-1]], self.correct[path[-1]]


@dataclass(frozen=True, eq=False)
class PathOutputs:
    """Scores and correctness that belong to a path of active exits."""

    table: ExitTable
    scoring: Scoring
    by_exit = False

    def at(self, path: tuple[int, ...]) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]:
        """Scores [N] and correctness [N] at the last stop of a path."""
        return stop_output(self.table, path, self.scoring)


def outputs_of(table: ExitTable | ScoreTable, scoring: Scoring) -> ExitOutputs | PathOutputs:
    """What the exits of a table say under a criterion and an answer.

    Raises:
        InputError: there is no such criterion or answer.
        PolicyError: they do not go together, or a fit does not match the table.
    """
    if isinstance(table, ScoreTable):
        return ExitOutputs(table.scores, table.correct)
    if scoring.decision.memory == "last":
        return ExitOutputs(score_table(table, scoring), table.correct)
    return PathOutputs(table, scoring)


@dataclass(frozen=True, eq=False)
class KeyRing:
    """The keys of some paths.

    Attributes:
        keys: Bitsets. Q keys.
        index: Key of every stop of every path. [P, k]
        thresholds: Of each key's levels, rising. [Q]
    """

    keys: Keys
    index: Rows
    thresholds: list[NDArray[np.float64]]


class KeyMaker:
    """Makes the keys of blocks of paths.

    Args:
        outputs: What stops say.
        weighing: The samples.
        levels: Largest number of thresholds per key; None: all midpoints.
        never: Exits at which "nobody leaves" is worth trying, see `never_pays`; where stops speak for paths it always
            is, as an exit is heard whether anybody leaves there or not. [E]
        memory_gb: Most memory for the keys of one block.

    Raises:
        InputError: not even the keys of one path fit.
    """

    def __init__(
        self, outputs: Outputs, *, weighing: Weighing, levels: int | None, never: NDArray[np.bool_], memory_gb: float
    ) -> None:
        self.outputs, self.weighing, self.never = outputs, weighing, never | (not outputs.by_exit)
        samples = weighing.samples
        self.count = samples if levels is None else levels
        needed = (min(self.count, samples) + 1) * weighing.words * 8 / GIB
        self.most_keys = int(memory_gb / needed)
        rows = len(never)
        if self.most_keys < (rows if outputs.by_exit else 2 * rows):
            raise InputError(
                f"{self.count} threshold levels for {samples} samples do not fit into the memory",
                got=f"{memory_gb:g} GiB",
                expected=f"at least {needed * rows * (1 if outputs.by_exit else 2):.3g} GiB",
                do="Use fewer levels, or allow more memory.",
            )
        self._ring: KeyRing | None = None

    def make(self, paths: Rows) -> KeyRing:
        """The keys of paths with the same number of stops."""
        if self.outputs.by_exit:
            if self._ring is None:
                every = [(row,) for row in range(len(self.never))]
                self._ring = self._pack(every, np.empty((0, 0), np.int64))
            return KeyRing(self._ring.keys, paths, self._ring.thresholds)
        number: dict[tuple[int, ...], int] = {}
        index = np.empty_like(paths)
        for k in range(paths.shape[1]):
            _, first, of = np.unique(paths[:, : k + 1], axis=0, return_index=True, return_inverse=True)
            known = [number.setdefault(tuple(paths[f, : k + 1].tolist()), len(number)) for f in first]
            index[:, k] = np.array(known)[of.ravel()]
        return self._pack(list(number), index)

    def threshold(self, path: tuple[int, ...], level: int) -> float:
        """The threshold of a level at the last stop of a path."""
        if self._ring is not None:
            return float(self._ring.thresholds[path[-1]][level])
        return float(self._thresholds(path, self.outputs.at(path)[0])[level])

    def _thresholds(self, path: tuple[int, ...], score: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        return np.append(threshold_levels(score, self.count), [inf] if self.never[path[-1]] else [])

    def shares(self, paths: Rows) -> Sequence[Rows]:
        """Split a block so that the keys of each part fit into the memory."""
        if self.outputs.by_exit:
            return [paths]
        # Neighbours share their first stops: a part of P paths has at most P keys for the last stop, and few others.
        size = max(1, min(MANY_KEYS, self.most_keys // 2 // max(1, paths.shape[1] - 1)))
        return [paths[start : start + size] for start in range(0, len(paths), size)]

    def _pack(self, stops: Sequence[tuple[int, ...]], index: Rows) -> KeyRing:
        thresholds, rights, sets = [], [], []
        for path in stops:
            score, correct = self.outputs.at(path)
            chosen = self._thresholds(path, score)
            thresholds.append(chosen)
            rights.append(self.weighing.pack(correct))
            sets.append(leaving(score, chosen, self.weighing))
        words = rights[0].shape[-1]
        leaves = np.zeros((len(stops), max(1, *map(len, thresholds)), words), np.uint64)
        for key, members in enumerate(sets):
            leaves[key, : len(members)] = members
            sets[key] = np.empty(0, np.uint64)  # each is held once
        counts = np.array([len(chosen) for chosen in thresholds])
        units, sizes = self.weighing.units, self.weighing.sizes
        return KeyRing(Keys(leaves, counts, np.array(rights), units, sizes), index, thresholds)


def leaving(
    score: NDArray[np.floating[Any]], thresholds: NDArray[np.float64], weighing: Weighing
) -> NDArray[np.uint64]:
    """Bitsets of the samples that leave at each threshold; who has no score never leaves. [L, W]"""
    # Number of thresholds that a sample reaches: one comparison of small integers per sample and level.
    reached = np.searchsorted(thresholds, score.astype(np.float64), side="right")
    reached[np.isnan(score)] = 0
    levels = np.arange(len(thresholds))[:, None]
    parts = [weighing.pack(reached > levels[at : at + 64]) for at in range(0, len(levels), 64)]
    return np.concatenate([np.empty((0, weighing.words), np.uint64), *parts])


def never_pays(step: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Exits at which it may pay that nobody leaves, though the head is paid. [E]

    That costs more than leaving the exit out, unless the step past it costs more than the way through it; and that
    only odd costs do.
    """
    through = (step[:, e, None] + step[e + 1] for e in range(step.shape[1]))  # from anywhere to anywhere
    return np.array([bool((way < step).any()) for way in through])
