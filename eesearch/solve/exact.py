"""The exact solver: every placement, head, threshold level and last stop, on one table and one cost axis."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eesearch.core.costs import StageCosts
from eesearch.core.errors import CostError, PolicyError
from eesearch.core.front import Front
from eesearch.core.policy import Fit, Policy, Stop
from eesearch.core.progress import Progress, silent
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import backbone_evaluation, tally
from eesearch.exits.routing import score_table
from eesearch.solve.levels import threshold_levels

if TYPE_CHECKING:
    from eesearch.solve.enumeration import Incumbents, Problem

Levels = list[NDArray[np.float64]]
"""Thresholds of each exit, rising."""


def solve_front(
    table: ExitTable,
    costs: StageCosts,
    *,
    max_exits: int = 3,
    criterion: str = "max_prob",
    levels: int = 24,
    fit: Fit | None = None,
    progress: Progress = silent,
) -> Front:
    """The complete Pareto set of (error, mean cost) over all policies on a table's exits.

    Policies: any subset of at most `max_exits` early exits that a sample can meet in this order, any of the threshold
    levels at each, any last stop. Among policies of equal error and cost the one with the fewest stops is kept, then
    the one whose exits and levels come first.

    Args:
        table: The split to select on (calibration); holds the network's own classifier.
        costs: Knows every exit of the table. Its axis is the one that is minimised.
        max_exits: Largest number of early exits; the last stop is not counted.
        criterion: A name in the CRITERIA registry, of memory `last`.
        levels: Largest number of threshold levels per exit, see `threshold_levels`.
        fit: The temperatures that scores use.
        progress: Told the exits tried as first stop.

    Raises:
        PolicyError: the table lacks the own classifier or holds several, or an option is out of range.
        CostError: a step is negative or not a number.
    """
    outputs = [e for e in table.exits if e.is_output]
    if len(outputs) != 1:
        raise PolicyError(f"a front on the {table.split} table needs its backbone", got=outputs, expected="one output")
    if max_exits < 0:
        raise PolicyError("a policy cannot have fewer than no early exits", got=max_exits)
    step = costs.select(table.exits).step
    scores = score_table(table, criterion, fit)
    choices = _choices(scores, step, levels)
    best = _walk_all(_problem(scores, ~table.correct, step, choices), len(table.labels), max_exits, progress)
    fits = () if fit is None else (fit.key,)
    points = []
    for rows, thresholds in _found(best, choices):
        stops = tuple(Stop(exit=table.exits[r], threshold=t) for r, t in zip(rows, thresholds, strict=True))
        policy = Policy(stops=stops, criterion=criterion, fits=fits)
        points.append(tally(policy, scores[rows], table.correct[rows], [costs]))
    backbone = backbone_evaluation(table, [costs], outputs[0])
    return Front(points, backbone=backbone, axis=costs.axis, device=costs.axis)


def _choices(scores: NDArray[np.float32], step: NDArray[np.float64], levels: int) -> Levels:
    """Thresholds of each exit; among them +inf only where it can pay.

    At +inf nobody leaves and the head is paid, which costs more than leaving the exit out: unless the step past it
    costs more than the way through it, and that only odd costs do.
    """
    choices = []
    for exit_, row in enumerate(scores):
        detour = step[:, exit_, None] + step[exit_ + 1]  # from anywhere to anywhere, through this exit
        never = [inf] if (detour < step).any() else []
        choices.append(np.append(threshold_levels(row, levels), never))
    return choices


def _problem(
    scores: NDArray[np.float32], wrong: NDArray[np.bool_], step: NDArray[np.float64], choices: Levels
) -> Problem:
    """Scores [E, N], wrong answers [E, N], steps and thresholds as the bitsets and arrays that the walk reads."""
    from eesearch.solve.enumeration import Problem  # imports numba, which takes half a second
    from eesearch.solve.kernel import pack

    if not (step >= 0.0).all():
        raise CostError("a step costs less than nothing, or is not a number", expected="steps >= 0, inf if forbidden")
    staying = np.zeros((len(choices), max(map(len, choices)), wrong.shape[1]), np.bool_)
    for exit_, thresholds in enumerate(choices):
        staying[exit_, : len(thresholds)] = ~(scores[exit_].astype(np.float64) >= thresholds[:, None])
    ways_on = np.isfinite(step[1:])  # [E, E]
    after = np.array([wrong[later].all(0) for later in _reachable(ways_on)])
    counts = np.array([len(thresholds) for thresholds in choices])
    return Problem(
        step=step,
        cheapest=step[1:].min(-1),
        levels=np.where(ways_on.any(-1), counts, 0),
        staying=pack(staying),
        wrong=pack(wrong),
        after=pack(after),
        onward=pack(after & wrong),
        spared=np.array([_common(~stay, wrong) for stay in staying]),
    )


def _common(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> NDArray[np.int32]:
    """How many samples each row of a shares with each row of b. [A, N], [B, N] -> [A, B]"""
    return (a.astype(np.float32) @ b.T.astype(np.float32)).astype(np.int32)  # float32 counts exactly up to 2**24


def _reachable(ways_on: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which exits can be met after which, at once or later (transitive closure, Warshall). [E, E]"""
    reachable = ways_on.copy()
    for middle in range(len(reachable)):
        reachable |= reachable[:, middle, None] & reachable[middle]
    return reachable


def _walk_all(problem: Problem, samples: int, max_exits: int, progress: Progress) -> Incumbents:
    """Walk all policies, those with fewer early exits first."""
    from eesearch.solve import enumeration

    best = enumeration.no_incumbents(samples, max_exits)
    exits = len(problem.levels)
    trail = enumeration.new_trail(samples, max_exits, exits)
    enumeration.leave_at_once(problem, best, trail)
    for early in range(1, max_exits + 1):
        for first in range(exits):  # back in Python between first stops, so that Ctrl-C is heard
            enumeration.walk(problem, best, trail, early, first)
            progress(f"solve with {early} early exits", first + 1, exits)
    return best


def _found(best: Incumbents, choices: Levels) -> Iterator[tuple[list[int], list[float]]]:
    """Rows and thresholds of every incumbent that none with fewer errors dominates, by rising number of errors."""
    least_before = np.append(inf, best.envelope[:-1])
    for errors in np.flatnonzero(best.cost < least_before):
        early = best.early[errors]
        rows = best.exits[errors, : early + 1].tolist()
        picked = zip(rows, best.levels[errors, :early], strict=False)
        yield rows, [*(float(choices[row][level]) for row, level in picked), -inf]
