"""A family of policies on one table and one axis, and what has been found in it so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil, inf

import numpy as np
from numpy.typing import NDArray

from eesearch.core.costs import FOLDS, Axis, StageCosts
from eesearch.core.progress import Progress, silent
from eesearch.solve.boxes import Incumbents, Keys, Limits, Paths, no_incumbents, search_paths
from eesearch.solve.family import Effort, Family
from eesearch.solve.keys import ExitOutputs, KeyMaker, KeyRing, Outputs, never_pays
from eesearch.solve.paths import PathTree, Rows, paid
from eesearch.solve.weighing import Weighing

Stop = Callable[[], bool]


@dataclass(frozen=True, eq=False)
class Question:
    """What is searched.

    Attributes:
        outputs: What stops say.
        labels: [N]; None if no recall is asked for.
        weighing: The samples, and how much each counts.
        axis: The one that is minimised.
        step: Its steps, or those of a linear stand-in (`batched`). [E + 1, E]
        others: Of every axis with a limit, by its name, the minimised one included.
        tree: The paths.
        family: Thresholds and constraints.
        most_errors: Policies with more do not count.
    """

    outputs: Outputs
    labels: NDArray[np.int64] | None
    weighing: Weighing
    axis: Axis
    step: NDArray[np.float64]
    others: dict[Axis, StageCosts]
    tree: PathTree
    family: Family
    most_errors: int


class Search:
    """Explores paths, and keeps the best policy for each number of errors, in units of the samples' weights.

    Args:
        question: What is searched.
        effort: Memory and threads.
        progress: Told of the paths explored.

    Attributes:
        stop: Whether to give up.
    """

    def __init__(self, question: Question, effort: Effort, progress: Progress = silent) -> None:
        self.question, self.effort, self.progress = question, effort, progress
        self.stop: Stop = lambda: False
        total, longest = question.weighing.total, question.tree.longest
        self.best: Incumbents = no_incumbents(total, longest)
        self.best.envelope[question.most_errors + 1 :] = -inf  # nothing there is of any use
        self.rows = np.full((total + 1, longest), -1, np.int64)
        self.floor = np.full(total + 1, inf)
        self.total, self.done = question.tree.count(), 0
        self.all_begun = True  # whether the floor knows of all paths that `explore` was given last
        self.maker = KeyMaker(
            question.outputs,
            weighing=question.weighing,
            levels=question.family.levels,
            never=np.any([never_pays(cost.step) for cost in question.others.values()], axis=0),
            memory_gb=effort.memory_gb,
        )

    def explore(self, paths: Rows) -> bool:
        """Search paths with the same number of stops completely; False if that was cut short."""
        shares = self.maker.shares(paths) if len(paths) else ()
        for number, share in enumerate(shares, start=1):
            self.all_begun = number == len(shares)
            if self.stop():
                self.all_begun = False
                return False
            self.progress("solve", min(self.done, self.total), self.total)
            ring = self.maker.make(share)
            usable = self._usable(share, ring)
            if not self._explore(ring.keys, share[usable], ring.index[usable]):
                return False
        return True

    def _usable(self, paths: Rows, ring: KeyRing) -> NDArray[np.bool_]:
        """Paths that end in an answer, with a threshold at each early stop, whose worst case breaks no limit. [P]"""
        usable = (ring.keys.levels[ring.index[:, :-1]] > 0).all(1) & self.question.tree.answers[paths[:, -1]]
        for limit in self.question.family.constraints.limits:
            if limit.at == "worst":
                cost = self.question.others[limit.axis]
                whole = paid(cost.step, paths, largest=FOLDS[cost.axis] == "max")[:, -1]
                usable &= whole <= limit.at_most * (1 + 1e-12)
        return np.asarray(usable)

    def _explore(self, keys: Keys, paths: Rows, index: Rows) -> bool:
        if not len(paths):
            return True
        question = self.question
        spare = [(0, 0), (0, question.tree.longest - paths.shape[1])]
        listed = Paths(
            keys=np.pad(index, spare),
            early=np.full(len(paths), paths.shape[1] - 1),
            paid=np.pad(paid(question.step, paths), spare),
        )
        first = self.done
        left = search_paths(
            keys, listed, _limits(question, paths), self.best,
            first=first, threads=self.effort.threads, stop=self.stop,
        )  # fmt: skip
        self.done += len(paths)
        new = np.flatnonzero(np.isfinite(self.best.cost) & (self.best.path >= first))
        self.rows[new] = -1
        self.rows[new, : paths.shape[1]] = paths[self.best.path[new] - first]
        np.minimum(self.floor, left.floor, out=self.floor)
        return not np.isfinite(left.floor).any()

    def found(self) -> Iterator[tuple[list[int], list[float]]]:
        """Rows and thresholds of every policy that none with fewer errors beats, by rising number of errors."""
        least = inf
        for errors in np.flatnonzero(np.isfinite(self.best.cost)):
            if self.best.cost[errors] >= least:
                continue
            least = self.best.cost[errors]
            rows = [int(row) for row in self.rows[errors] if row >= 0]
            levels = self.best.levels[errors]
            yield rows, [*(self.maker.threshold(tuple(rows[: k + 1]), levels[k]) for k in range(len(rows) - 1)), -inf]


def _limits(question: Question, paths: Rows) -> Limits:
    """The constraints as the engine reads them, for these paths."""
    samples, longest = question.weighing.samples, question.tree.longest
    constraints = question.family.constraints
    means = [limit for limit in constraints.limits if limit.at == "mean"]
    tails = [limit for limit in constraints.limits if limit.at == "p95"]
    late = np.zeros((len(paths), len(tails)), np.int64)
    for r, limit in enumerate(tails):
        late[:, r] = (paid(question.others[limit.axis].step, paths) <= limit.at_most * (1 + 1e-12)).sum(1)
    other = np.zeros((len(paths), len(means), longest))
    for a, limit in enumerate(means):
        step = question.step if limit.axis == question.axis else question.others[limit.axis].step
        other[:, a, : paths.shape[1]] = paid(step, paths)
    classes = np.empty((0, 0), np.bool_)
    if constraints.min_recall is not None and question.labels is not None:
        classes = question.labels == np.unique(question.labels)[:, None]
    need = np.array([ceil(c.sum() * (constraints.min_recall or 0.0) - 1e-9) for c in classes], np.int64)
    return Limits(
        late=late,
        late_share=np.full(len(tails), samples - ceil(0.95 * samples - 1e-9), np.int64),
        paid=other,
        at_most=np.array([limit.at_most * samples * (1 + 1e-12) for limit in means]),
        classes=question.weighing.pack(classes) if len(classes) else np.zeros((0, question.weighing.words), np.uint64),
        need=need,
    )


def floor_of_all(question: Question) -> NDArray[np.float64]:
    """Least cost, summed over samples, that any policy with at most so many errors can have. [errors + 1]

    Each sample pays the cheapest way to the cheapest exit that is right about it, and the cheapest of all where none
    is, or where an error is allowed; nobody pays for a head on the way. Loose, but known at once and never wrong.
    Where answers belong to paths nothing is known of who is right: then everybody pays the cheapest exit.
    """
    cost, shorter = (
        question.step[0],
        np.minimum(question.step[0], (question.step[0][:, None] + question.step[1:]).min(0)),
    )
    while (shorter < cost).any():
        cost, shorter = shorter, np.minimum(shorter, (shorter[:, None] + question.step[1:]).min(0))
    cheapest, weighing = cost.min(), question.weighing
    samples, total = weighing.samples, weighing.total
    if not isinstance(question.outputs, ExitOutputs):
        return np.full(total + 1, samples * cheapest)
    needed = np.full(samples, np.nan)
    for row in np.argsort(cost, kind="stable"):
        needed[np.isnan(needed) & question.outputs.correct[row]] = cost[row]
    some = ~np.isnan(needed)
    weights = np.ones(samples, np.int64) if weighing.weights is None else weighing.weights
    savings = (needed[some] - cheapest) / weights[some]  # of one unit of error
    largest = np.argsort(-savings, kind="stable")
    saved = np.repeat(savings[largest], weights[some][largest]).cumsum()
    floor = np.full(total + 1, inf)
    floor[weighing.count(~some) :] = samples * cheapest + saved[-1:].sum() - np.append(0.0, saved)
    return floor
