"""What exits could do at best and do at worst: oracles, sub-networks without decisions, over-thinking.

An oracle knows who will be right where, so it is no policy but an ideal to look at. The *plain* oracle lets a sample
leave at the first active exit that is right about it, lucky guesses included: with enough poor exits somebody always
guesses right. The *stable* oracle lets it leave at the first one from which on all active ones are right, so that its
error is that of the last stop and only its cost is in question. No policy errs less than the plain oracle on its path;
but one that gives up early whom nobody gets right, or is lucky, may cost less than the stable one at the same error.

Exits are judged by their own answers: an ensemble's depend on the path, and on what would have been seen before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import numba
import numpy as np
from numpy.typing import NDArray

from eesearch.core.costs import StageCosts
from eesearch.core.design import ExitId
from eesearch.core.front import Front
from eesearch.core.policy import Policy, Scoring, Stop
from eesearch.core.tables import ExitTable, best_per_cut, reference_row
from eesearch.core.weights import Weights, mean_right
from eesearch.exits.evaluate import tally
from eesearch.exits.routing import exit_rate
from eesearch.solve.exact import own_classifier
from eesearch.solve.kernel import Bits, count_both, intersect, pack
from eesearch.solve.paths import PathTree

if TYPE_CHECKING:
    from eesearch.solve.stream import ScoreTable

MOST_WORK = 1 << 33
"""Words of bitsets that the search for an oracle's front may read, which takes seconds. Where it would read more, of
every cut only the most accurate head takes part."""


@dataclass(frozen=True)
class OraclePoint:
    """An oracle on one path.

    Attributes:
        exits: The active exits, the last stop included. [k]
        error: Share of wrong answers, by the weights of samples.
        cost: Mean per sample.
        exit_rate: Share of the samples that leaves at each; sums to 1. [k]
    """

    exits: tuple[ExitId, ...]
    error: float
    cost: float
    exit_rate: tuple[float, ...]


@dataclass(frozen=True)
class OracleFront:
    """The least that a stable oracle pays for each error, whatever the path.

    Attributes:
        points: Non-dominated, by rising cost.
        all_heads: Whether all heads took part; if not, of every cut only the most accurate one did, and a path through
            others may cost an oracle less.
    """

    points: tuple[OraclePoint, ...]
    all_heads: bool


@dataclass(frozen=True)
class Overthinking:
    """What going on from an exit to the own classifier does (Kaya et al., Shallow-Deep Networks, ICML 2019).

    Attributes:
        accuracy: Of the exit, by the weights of samples.
        right: Number of samples that the exit is right about.
        lost: Of these, those that the own classifier gets wrong: the network thought too long.
        gained: Number of samples that the exit gets wrong and the own classifier right.
        samples: N.
    """

    exit: ExitId
    accuracy: float
    right: int
    lost: int
    gained: int
    samples: int


def stable_oracle(table: ExitTable | ScoreTable, costs: StageCosts, exits: Sequence[ExitId]) -> OraclePoint:
    """Each sample leaves at the first of these stops from which on all are right; at the last if there is none.

    Raises:
        PolicyError: the table does not hold an exit.
        CostError: an exit has no cost, or a sample cannot meet the exits in this order.
    """
    correct = table.correct[[table.row(e) for e in exits]]
    silent = np.array([[e.is_none] for e in exits])  # it says nothing, so nobody leaves there, and nobody is wrong
    stable = np.logical_and.accumulate((correct | silent)[::-1])[::-1]
    return _leaving(stable & ~silent, correct, costs, tuple(exits), table.weights)


def plain_oracle(table: ExitTable | ScoreTable, costs: StageCosts, exits: Sequence[ExitId]) -> OraclePoint:
    """Each sample leaves at the first of these stops that is right; at the last if there is none.

    No policy on these stops has a smaller error, and no stable oracle a smaller cost.

    Raises:
        PolicyError: the table does not hold an exit.
        CostError: an exit has no cost, or a sample cannot meet the exits in this order.
    """
    correct = table.correct[[table.row(e) for e in exits]]
    return _leaving(correct, correct, costs, tuple(exits), table.weights)


def _leaving(
    leaves: NDArray[np.bool_],
    correct: NDArray[np.bool_],
    costs: StageCosts,
    exits: tuple[ExitId, ...],
    weights: Weights | None,
) -> OraclePoint:
    """Samples leave at the first stop where they may, or at the last. [k, N], [k, N]"""
    samples = leaves.shape[1]
    stop = np.where(leaves.any(0), leaves.argmax(0), len(exits) - 1)
    rate = exit_rate(stop, len(exits))
    error = 1.0 - float(mean_right(correct[stop, np.arange(samples)], weights))
    return OraclePoint(exits, error, costs.mean(exits, rate), tuple(rate.tolist()))


def oracle_front(table: ExitTable | ScoreTable, costs: StageCosts, max_exits: int) -> OracleFront:
    """The front of the stable oracle over all paths of a family of policies.

    Its error is that of the last stop; so for each last stop the path is found on which it costs least.

    Args:
        table: The split to report on: nothing is selected, so no other split is needed.
        costs: Know every exit of the table.
        max_exits: Largest number of exits on cuts, see `Family`.

    Raises:
        CostError: an exit has no cost.
    """
    step = costs.select(table.exits).step
    right = pack(table.correct)
    tree = PathTree(table.exits, step, max_exits)
    all_heads = tree.count() * right.shape[-1] <= MOST_WORK
    best = best_per_cut(table.exits, mean_right(table.correct, table.weights))
    rows = np.arange(len(table.exits)) if all_heads else np.sort(best)
    silent = np.array([e.is_none for e in table.exits])
    points = []
    for last in rows[tree.answers[rows]].tolist():
        path = _cheapest(right, step, (rows, tree.on_cut, silent, max_exits, table.correct.shape[1]), last)
        if len(path):
            points.append(stable_oracle(table, costs, [table.exits[row] for row in path]))
    kept: list[OraclePoint] = []
    for point in sorted(points, key=lambda p: (p.cost, p.error)):
        if not kept or point.error < kept[-1].error:
            kept.append(point)
    return OracleFront(tuple(kept), all_heads)


def static_front(
    table: ExitTable | ScoreTable, costs: Sequence[StageCosts], scoring: Scoring = Scoring(), *, device: str = ""
) -> Front:
    """The front of the static sub-networks: everybody leaves at the same exit, and no other head is there.

    Args:
        table: The split to select on; holds the network's own classifier.
        costs: The first is minimised; the others are told.
        scoring: Whose criterion and fits the policies name; with one stop nothing is scored.
        device: Whose front it is; by default the axis.
    """
    step = costs[0].select(table.exits).step[0]
    points = []
    for row, exit_ in enumerate(table.exits):
        if np.isfinite(step[row]) and not (exit_.is_last_resort or exit_.is_none):
            policy = Policy(stops=(Stop(exit=exit_, threshold=-inf),), criterion=scoring.criterion, fits=scoring.keys)
            correct = table.correct[row : row + 1]
            points.append(tally(policy, np.zeros(correct.shape, np.float32), correct, costs, table=table))
    backbone = own_classifier(table, costs)
    return Front(points, backbone=backbone, axis=costs[0].axis, device=device or costs[0].axis)


def overthinking(table: ExitTable | ScoreTable) -> list[Overthinking]:
    """What going on from each exit on a cut to the own classifier does, in the order of the table."""
    end = table.correct[reference_row(table.exits)]
    found = []
    for exit_, here in zip(table.exits, table.correct, strict=True):
        if not (exit_.is_output or exit_.is_last_resort):
            lost, gained = int((here & ~end).sum()), int((~here & end).sum())
            accuracy = float(mean_right(here, table.weights))
            found.append(Overthinking(exit_, accuracy, int(here.sum()), lost, gained, len(end)))
    return found


@numba.njit(cache=True)
def _cheapest(
    right: Bits,
    step: NDArray[np.float64],
    family: tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_], int, int],
    last: int,
) -> NDArray[np.int64]:
    """The path to a last stop on which the stable oracle costs least; of equals one with fewer stops, then the first.

    From the last stop backwards, the samples that are right from a stop on shrink as stops are put before it. Those
    that are not right from a stop on are those that go on from it, and pay the steps up to the next stop that says
    anything: at a silent one nobody leaves.

    Args:
        right: Samples that each exit gets right. [E, W]
        step: [E + 1, E]
        family: Rows that may take part, which of all rows are on a cut [E], which are silent [E], how many on cuts at
            most, samples.
        last: Row of the last stop.

    Returns:
        Rows, in the order in which a sample meets them; empty if there is no path. [k]
    """
    rows, on_cut, silent, most, samples = family
    deepest = len(rows)
    stable = np.empty((deepest + 1, right.shape[1]), np.uint64)  # by number of stops put before the last
    path, place = np.empty(deepest + 1, np.int64), np.zeros(deepest + 1, np.int64)
    paid, used = np.zeros(deepest + 1), np.zeros(deepest + 1, np.int64)
    owed = np.zeros(deepest + 1)  # steps from a silent stop on, for each who will be found to go on
    intersect(right[last], right[last], stable[0])  # a copy; the assignment of a row compiles for five seconds
    path[0], used[0] = last, int(on_cut[last])
    best, found = np.inf, np.empty(0, np.int64)
    if used[0] <= most and step[0, last] < np.inf:
        best, found = samples * step[0, last], path[:1].copy()
    depth = 0 if used[0] <= most else -1
    while depth >= 0:
        if place[depth] == len(rows):
            depth -= 1
            continue
        before = rows[place[depth]]
        place[depth] += 1
        on = step[before + 1, path[depth]] + owed[depth]
        if not on < np.inf or used[depth] + on_cut[before] > most:
            continue
        cost = paid[depth]
        if not silent[before]:
            cost += (samples - count_both(stable[depth], right[before])) * on
            on = 0.0
        whole = cost + samples * (step[0, before] + on)
        if whole < best or (whole == best and depth + 2 < len(found)):
            path[depth + 1] = before
            best, found = whole, path[: depth + 2][::-1].copy()
        if cost < best:
            intersect(stable[depth], stable[depth] if silent[before] else right[before], stable[depth + 1])
            owed[depth + 1] = on
            path[depth + 1], place[depth + 1] = before, 0
            paid[depth + 1], used[depth + 1] = cost, used[depth] + int(on_cut[before])
            depth += 1
    return found
