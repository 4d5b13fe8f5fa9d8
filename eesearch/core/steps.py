"""Costs as steps: the one matrix that policies, routing and solver read.

cost(leave at e_k | active e_1 < ... < e_k) = step[input, e_1] + step[e_1, e_2] + ... + step[e_{k-1}, e_k]

Peak memory is not added up along a path: the largest step counts. With batches a step costs what a call for the
samples that are left costs (`core.batches`), and is shared by all samples of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eesearch.core.batches import calls_expected
from eesearch.core.design import ExitId, place_of, rows_of
from eesearch.core.errors import CostError

Axis = Literal["macs", "latency_ms", "energy_mj", "bytes", "params", "peak_bytes"]
"""What is counted or measured."""

FOLDS: dict[Axis, Literal["mean", "sum", "max"]] = {
    "macs": "mean",
    "latency_ms": "mean",
    "energy_mj": "mean",
    "bytes": "mean",
    "params": "sum",
    "peak_bytes": "max",
}
"""How the steps of a path make one figure: as a mean over the samples; or, whatever the samples do, as their sum or
their largest. Of `sum` and `max` axes the figure is the `worst` of a policy's costs."""


@dataclass(frozen=True)
class Parts:
    """What the parts of a network cost on one axis, in calls of one size.

    Attributes:
        prefix: From the input to each cut, then to the output; of a `max` axis, each segment alone. [K + 1]
        head: cut -> head name -> what the head adds.
        decision: decision -> what it adds; None: deciding costs nothing.
        resume: What going on after a decision adds.
        size: Samples per call.
    """

    prefix: tuple[float, ...]
    head: dict[str, dict[str, float]]
    decision: dict[str, float] | None = None
    resume: float = 0.0
    size: int = 1

    def decided(self, decision: str) -> float:
        """What a decision adds."""
        return 0.0 if self.decision is None else self.decision[decision]


@dataclass(frozen=True, eq=False)
class StageCosts:
    """What it costs to go on from one stop to the next, on one axis.

    Attributes:
        step: Per sample, if all samples of a batch go on together. Row 0 is the input, row i + 1 is exit i; inf where
            the step is forbidden (same or earlier cut). [E + 1, E]
        exits: Columns of `step`. [E]
        axis: What they are costs of.
        backbone: Cost of the unmodified backbone: no head, no decision.
        batch: Samples that start together.
        sizes: Numbers of samples for which calls were measured, rising; the last is `batch`. Empty where the cost of a
            sample does not depend on how many go on with it. [M]
        calls: What a step costs as one call with so many samples. [M, E + 1, E]
    """

    step: NDArray[np.float64]
    exits: tuple[ExitId, ...]
    axis: Axis
    backbone: float
    batch: int = 1
    sizes: tuple[int, ...] = ()
    calls: NDArray[np.float64] | None = None

    @cached_property
    def _rows(self) -> dict[tuple[str, ...], int]:
        return rows_of(self.exits)

    def _row(self, exit_id: ExitId) -> int:
        row = self._rows.get(place_of(exit_id))
        if row is None:
            raise CostError(f"nothing is known of the cost of exit {exit_id}", got=[str(e) for e in self.exits])
        return row

    def select(self, exits: Sequence[ExitId]) -> StageCosts:
        """The costs of these exits only, in this order.

        Raises:
            CostError: an exit whose cost is not known.
        """
        rows = np.array([self._row(e) for e in exits], dtype=np.intp)
        chosen = np.ix_(np.concatenate([[0], rows + 1]), rows)
        calls = None if self.calls is None else self.calls[:, chosen[0], chosen[1]]
        return replace(self, step=self.step[chosen], exits=tuple(exits), calls=calls)

    def cumulative(self, exits: Sequence[ExitId]) -> NDArray[np.float64]:
        """Cost of leaving at each of these stops, when all of them are active (gamma_i). [k]

        With batches: per sample, if the whole batch comes that far together.

        Raises:
            CostError: the order is forbidden, or the cost of an exit is not known.
        """
        _, steps = self._walk(exits)
        return np.asarray(np.maximum.accumulate(steps) if FOLDS[self.axis] == "max" else steps.cumsum())

    def _walk(self, exits: Sequence[ExitId]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Rows of `step` from the input to the last of these stops [k + 1], and the step into each stop [k]."""
        path = np.array([0, *(self._row(e) + 1 for e in exits)], dtype=np.intp)
        steps = self.step[path[:-1], path[1:] - 1]
        if not np.isfinite(steps).all():
            raise CostError("a sample cannot meet these exits in this order", got=[str(e) for e in exits])
        return path, steps

    def arriving(self, exits: Sequence[ExitId], reach: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean cost, over all samples, of the step into each stop, if these shares of them take it. [k, ...]

        Args:
            exits: Active stops, in order. [k]
            reach: Share of the samples that arrives at each. [k, ...]

        Raises:
            CostError: the order is forbidden, or the cost of an exit is not known.
        """
        path, steps = self._walk(exits)
        if self.calls is None:
            return np.asarray(reach * steps.reshape(-1, *[1] * (reach.ndim - 1)))
        expected = calls_expected(reach, self.batch, self.sizes)  # [k, ..., M]
        per_call = [expected[k] @ self.calls[:, i, j - 1] for k, (i, j) in enumerate(pairwise(path))]
        return np.asarray(per_call) / self.batch

    def mean(self, exits: Sequence[ExitId], exit_rate: NDArray[np.float64]) -> float:
        """Mean cost per sample (eq. 12), rejected heads included.

        Where steps add up and no batch is shared, the same as `exit_rate @ cumulative(exits)`.

        Args:
            exits: Active stops, in order. [k]
            exit_rate: Share of the samples that leaves at each; sums to 1. [k]

        Raises:
            CostError: the order is forbidden, or the cost of an exit is not known.
        """
        if self.calls is None:
            return float(exit_rate @ self.cumulative(exits))
        reach = np.concatenate([[1.0], np.clip(1.0 - exit_rate.cumsum()[:-1], 0.0, 1.0)])
        return float(self.arriving(exits, reach).sum())


def costs_of_calls(
    calls: Sequence[NDArray[np.float64]], known: Sequence[Parts], exits: Sequence[ExitId], axis: Axis
) -> StageCosts:
    """Costs per sample, from those of calls.

    Args:
        calls: Of each size. Each [E + 1, E]
        known: Parts of the unmodified backbone, in calls of the same sizes.
        exits: Columns of the calls. [E]
        axis: What they are costs of.
    """
    whole, size = known[-1], known[-1].size
    backbone = max(whole.prefix) if FOLDS[axis] == "max" else whole.prefix[-1]
    if len(known) == 1:
        return StageCosts(calls[0] / size, tuple(exits), axis, backbone / size)
    sizes = tuple(each.size for each in known)
    return StageCosts(calls[-1] / size, tuple(exits), axis, backbone / size, size, sizes, np.array(calls))


def call_steps(
    cuts: Sequence[str], parts: Parts, exits: Sequence[ExitId], decision: str, axis: Axis
) -> NDArray[np.float64]:
    """The steps between exits of one network, of one call; see `StageCosts.calls`. [E + 1, E]

    Args:
        cuts: Of the network, in order. [K]
        parts: What its parts cost in such a call.
        exits: In the order of the cuts. [E]
        decision: What is decided by at each stop.
        axis: What the parts cost.

    Raises:
        KeyError: a cut, a head or the decision that the parts do not know.
    """
    depth = {cut: k for k, cut in enumerate(cuts)}
    decided = parts.decided(decision)
    depths = [len(cuts) if e.is_output else depth[e.cut] for e in exits]
    own = [0.0 if e.is_output or e.is_none else parts.head[e.cut][e.head] + decided for e in exits]
    step = np.full((len(exits) + 1, len(exits)), np.inf)
    for j, depth_j in enumerate(depths):
        for i, depth_i in enumerate([-1, *depths]):
            if depth_i >= depth_j:
                continue
            if FOLDS[axis] == "max":
                step[i, j] = max(*parts.prefix[depth_i + 1 : depth_j + 1], own[j])
            elif i == 0:
                step[i, j] = parts.prefix[depth_j] + own[j]
            else:
                scored = decided if exits[j].is_output else 0.0  # a head's decision is in `own` already
                step[i, j] = parts.prefix[depth_j] - parts.prefix[depth_i] + parts.resume + own[j] + scored
    return step


def own_decision(step: NDArray[np.float64]) -> float:
    """What deciding by the own classifier adds behind an exit, where that shows.

    Behind the first two exits one after the other the own classifier decides once; behind each of them alone it decides
    once, too. 0 where there is one exit, so that its detour and this decision cannot be told apart.

    Args:
        step: Of a chain, the own classifier last; see `StageCosts`. [L + 1, L]
    """
    if step.shape[1] < 3:
        return 0.0
    whole = step[0, -1]
    alone = step[0, :2] + step[1:3, -1] - whole
    both = step[0, 0] + step[1, 1] + step[2, -1] - whole
    return float(alone.sum() - both)
