"""Refinement: the thresholds of a front, each moved in turn to the best of all midpoints of the calibration scores.

With the other thresholds fixed, everything that one threshold decides is known beforehand: who arrives, and what
becomes of those who go on. One pass over the samples by falling score then tells errors and cost of every position of
the threshold: a coordinate sweep. A policy moves only to where it is better, so refinement never worsens a point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from eesearch.core.costs import Axis, StageCosts
from eesearch.core.design import ExitId
from eesearch.core.front import Evaluation
from eesearch.core.policy import Policy
from eesearch.core.progress import Progress, silent
from eesearch.exits.evaluate import Answered, tally
from eesearch.solve.weighing import Weighing

if TYPE_CHECKING:
    from eesearch.solve.keys import Outputs

Scores = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Accept = Callable[[Policy, Scores, NDArray[np.bool_]], bool]
"""Whether a policy keeps the constraints, told from scores [k, N] and correctness [k, N] of its stops."""

CACHED_STOPS = 64
"""Stops whose outputs are kept in memory, at 13 bytes a sample."""


class Stops(NamedTuple):
    """What the stops of a path say of every sample, whatever the thresholds are.

    Attributes:
        scores: [k, N]
        correct: Whether what is answered at each is right. [k, N]
        order: The samples by falling score; those whose score is not a number come last. [k, N]
        paid: Cost of leaving at each. [k]
        weights: What each sample counts where it is wrong. [N]
        shared: With batches, cost of the step into each stop, summed over all samples, if 0 .. N of them take it; else
            empty. [k, N + 1]
    """

    scores: Scores
    correct: NDArray[np.bool_]
    order: Ints
    paid: Floats
    weights: Ints
    shared: Floats


class Positions(NamedTuple):
    """Every place of one threshold between two adjacent distinct scores, falling, and what the policy comes to there.

    Attributes:
        thresholds: Midpoints in float64 (why: see `threshold_levels`). [P]
        errors: Wrong answers among all samples, by their weights. [P]
        cost: Summed over all samples. [P]
        errors_now: With the threshold as it is.
        cost_now: The same.
    """

    thresholds: Floats
    errors: Ints
    cost: Floats
    errors_now: int
    cost_now: float


def stops_of(scores: Scores, correct: NDArray[np.bool_], cumulative: Floats, weights: Ints | None = None) -> Stops:
    """The stops of a path, with their scores sorted.

    Args:
        scores: Of the stops, on their path. [k, N]
        correct: Whether what is answered at each is right. [k, N]
        cumulative: Cost of leaving at each. [k]
        weights: What each sample counts; None: all the same. [N]
    """
    order = np.stack([_falling(row) for row in scores])
    paid = np.asarray(cumulative, np.float64)
    return Stops(scores, correct, order, paid, _counted(scores, weights), np.empty((0, 0)))


def _counted(scores: Scores, weights: Ints | None) -> Ints:
    return np.ones(scores.shape[-1], np.int64) if weights is None else weights


def _falling(score: Scores) -> Ints:
    return np.argsort(-score, kind="stable")


def refine(stops: Stops, thresholds: Sequence[float] | Floats) -> Floats:
    """Thresholds at least as good in errors and in cost, which no move of a single one improves further.

    Each in turn moves to the cheapest position that is no worse in either and better in one, until none moves. That
    nobody leaves at an exit (leave it out), or that everybody does (end there), are other paths and no positions.

    Args:
        stops: Of one path.
        thresholds: The last is -inf and stays. [k]

    Returns:
        [k]
    """
    settled = np.array(thresholds, np.float64)
    for now, _, _ in _sweeps(stops, settled, lambda _: True):
        settled = now
    return settled


def sweep(stops: Stops, thresholds: Floats, at: int) -> Positions:
    """Errors and cost at every position of the threshold of stop `at`, the others being as they are."""
    return Positions(*_sweep(stops, thresholds, at))


def refine_front(
    points: Sequence[Evaluation],
    table: Answered,
    outputs: Outputs,
    costs: Sequence[StageCosts],
    accept: Accept | None = None,
    *,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
) -> list[Evaluation]:
    """Refine every point, and keep what else was met on the way and belongs on the front.

    Args:
        points: As evaluated on this table with these costs.
        table: The split to select on (calibration).
        outputs: What its exits say under the scoring of the policies.
        costs: The first is minimised and never rises; the others are only told.
        accept: No policy that it refuses is taken; None: all may be.
        stop: Asked before each sweep and each candidate; once true, all stay as they then are.
        progress: Told the points done.

    Returns:
        The points, refined, in their order; then, by rising cost, those positions of their thresholds that neither a
        refined point nor another position dominates.

    Raises:
        PolicyError: an exit is not in the table.
        CostError: an exit has no cost, or a sample cannot meet the exits in this order.
    """
    if not points:
        return []
    weighing = Weighing(points[0].samples, table.weights)
    paths, met = _Paths(table, outputs, costs), _Met(weighing, costs[0].axis)
    for point in points:
        met.know(point)
    refined = list(points)
    by_path = sorted(range(len(points)), key=lambda i: paths.rows(points[i].policy.exits))
    for done, i in enumerate(by_path, start=1):
        if stop():
            break
        refined[i] = _refined(points[i], paths, met, accept, stop)
        met.know(refined[i])
        progress("refine", done, len(points))
    others = sorted(met.kept(), key=lambda kept: paths.rows(kept[0].policy.exits))
    return refined + _undominated([paths.evaluate(*kept) for kept in others], refined, met.axis)


def _refined(
    point: Evaluation, paths: _Paths, met: _Met, accept: Accept | None, stop: Callable[[], bool]
) -> Evaluation:
    """One point, its thresholds settled; what its sweeps pass is shown to `met`."""
    stops = paths.stops(point.policy.exits)

    def allowed(thresholds: Floats) -> bool:
        if stop():
            return False
        return accept is None or accept(_moved(point.policy, thresholds), stops.scores, stops.correct)

    settled = np.array(point.policy.thresholds)
    for now, at, positions in _sweeps(stops, settled, allowed):
        settled = now
        if stop():
            break
        for position in met.beating(positions):
            thresholds = _replaced(now, at, positions.thresholds[position])
            if allowed(thresholds):
                met.keep(positions, position, point, thresholds)
    found = paths.evaluate(point, settled)
    cost, cost_before = (e.costs[met.axis].mean for e in (found, point))
    # sweeps add costs up over samples, evaluations over rates: equal ones may differ in the last bit
    return found if found.error <= point.error and cost <= cost_before else point


def _sweeps(
    stops: Stops, thresholds: Floats, allowed: Callable[[Floats], bool]
) -> Iterator[tuple[Floats, int, Positions]]:
    """Sweep the coordinates in turn until none moves.

    Yields:
        Thresholds, the coordinate swept and its positions, before each move; the last thresholds are settled.
    """
    early = len(thresholds) - 1
    still = at = 0
    while still < early:
        positions = sweep(stops, thresholds, at)
        yield thresholds, at, positions
        moves = (_replaced(thresholds, at, threshold) for threshold in _improving(positions))
        moved = next(filter(allowed, moves), None)
        still = still + 1 if moved is None else 0
        thresholds = thresholds if moved is None else moved
        at = (at + 1) % early


def _improving(positions: Positions) -> Iterator[float]:
    """Thresholds no worse than the present one in errors and cost, and better in one; the cheapest first.

    Between the scores of two samples that arrive there may be many of samples that do not: of all thresholds that come
    to the same, the one in the middle keeps its distance on both sides.
    """
    thresholds, errors, cost, errors_now, cost_now = positions
    no_worse = (errors <= errors_now) & (cost <= cost_now)
    better = np.flatnonzero(no_worse & ((errors < errors_now) | (cost < cost_now)))
    for least, wrong in sorted(set(zip(cost[better].tolist(), errors[better].tolist(), strict=True))):
        same = better[(cost[better] == least) & (errors[better] == wrong)]
        yield float(thresholds[same[len(same) // 2]])


def _replaced(thresholds: Floats, at: int, threshold: float) -> Floats:
    changed = thresholds.copy()
    changed[at] = threshold
    return changed


def _moved(policy: Policy, thresholds: Floats) -> Policy:
    moves = zip(policy.stops, thresholds.tolist(), strict=True)
    return policy.model_copy(update={"stops": tuple(s.model_copy(update={"threshold": t}) for s, t in moves)})


def _undominated(found: list[Evaluation], rivals: list[Evaluation], axis: Axis) -> list[Evaluation]:
    """Those found that neither a rival nor another one found dominates or equals, by rising cost."""
    everyone = [*((e, False) for e in rivals), *((e, True) for e in found)]  # of equals, rivals come first
    kept, least = [], np.inf
    for evaluation, new in sorted(everyone, key=lambda e: (e[0].costs[axis].mean, e[0].error)):
        if evaluation.error < least:
            least = evaluation.error
            kept += [evaluation] if new else []
    return kept


class _Met:
    """What the sweeps passed: for each number of errors the cheapest position that beat all that was known before."""

    def __init__(self, weighing: Weighing, axis: Axis) -> None:
        self.axis: Axis = axis
        self._total = weighing.total
        # minus the least cost with at most so many errors, so that it rises
        self._least = np.full(self._total + 1, -np.inf)
        self._kept: dict[int, tuple[float, Evaluation, Floats]] = {}

    def know(self, point: Evaluation) -> None:
        """This is known already."""
        self._lower(round(point.error * self._total), point.costs[self.axis].mean * point.samples)

    def _lower(self, errors: int, cost: float) -> None:
        dearer = int(np.searchsorted(self._least, -cost))  # those before it
        self._least[errors:dearer] = -cost

    def beating(self, positions: Positions) -> Iterator[int]:
        """Positions that beat everything known, also what is kept meanwhile; the cheapest first."""
        errors, cost = positions.errors, positions.cost
        found = np.flatnonzero(-cost > self._least[errors])
        for position in found[np.lexsort((errors[found], cost[found]))].tolist():
            if -cost[position] > self._least[errors[position]]:
                yield position

    def keep(self, positions: Positions, position: int, point: Evaluation, thresholds: Floats) -> None:
        """Remember that the path of `point` comes to this position with these thresholds."""
        errors, cost = int(positions.errors[position]), float(positions.cost[position])
        self._lower(errors, cost)
        self._kept[errors] = cost, point, thresholds

    def kept(self) -> list[tuple[Evaluation, Floats]]:
        """Points and thresholds of what nothing known beats."""
        entries = sorted(self._kept.items(), key=lambda entry: entry[0])
        return [(point, moved) for errors, (cost, point, moved) in entries if -cost >= self._least[errors]]


class _Paths:
    """The stops of policies on one table, and policies evaluated there."""

    def __init__(self, table: Answered, outputs: Outputs, costs: Sequence[StageCosts]) -> None:
        self._table, self._outputs, self._costs = table, outputs, costs
        self._sorted = lru_cache(CACHED_STOPS)(self._sorted_output)
        self.rows = lru_cache(None)(self._rows)
        self.stops = lru_cache(1)(self._stops)  # policies of equal path come one after the other
        self._own_costs = lru_cache(1)(self._selected)

    def _rows(self, exits: tuple[ExitId, ...]) -> tuple[int, ...]:
        return tuple(self._table.row(e) for e in exits)

    def _selected(self, exits: tuple[ExitId, ...]) -> list[StageCosts]:
        return [cost.select(exits) for cost in self._costs]

    def _sorted_output(self, path: tuple[int, ...]) -> tuple[Scores, NDArray[np.bool_], Ints]:
        score, correct = self._outputs.at(path)
        return score, correct, _falling(score)

    def _stops(self, exits: tuple[ExitId, ...]) -> Stops:
        rows, alone = self.rows(exits), self._outputs.by_exit
        said = [self._sorted(rows[k : k + 1] if alone else rows[: k + 1]) for k in range(len(rows))]
        scores, correct, order = (np.stack(parts) for parts in zip(*said, strict=True))
        cost, samples = self._own_costs(exits)[0], scores.shape[1]
        shared = np.empty((0, 0))
        if cost.calls is not None:
            shared = samples * cost.arriving(exits, np.tile(np.arange(samples + 1) / samples, (len(exits), 1)))
        weights = _counted(scores, self._table.weights)
        return Stops(scores, correct, order, cost.cumulative(exits), weights, shared)

    def evaluate(self, point: Evaluation, thresholds: Floats) -> Evaluation:
        """The path of a point, with its design, at other thresholds."""
        stops, costs = self.stops(point.policy.exits), self._own_costs(point.policy.exits)
        policy = _moved(point.policy, thresholds)
        found = tally(policy, stops.scores, stops.correct, costs, table=self._table)
        return found.model_copy(update={"design": point.design, "strategy": point.strategy})


@numba.njit(cache=True)
def _sweep(stops: Stops, thresholds: Floats, at: int) -> tuple[Floats, Ints, Floats, int, float]:
    """See `sweep`. Costs are added up from the numbers that leave at each stop, so that equal ones come out equal."""
    k, samples = stops.scores.shape
    later = np.full(samples, -1)  # where those who arrive leave if they go on; -1 for those who do not arrive
    count, count_now = np.zeros(k, np.int64), np.zeros(k, np.int64)
    errors, errors_now = 0, 0
    for n in range(samples):
        stop, now = _leaves(stops.scores, thresholds, n, at)
        if stop > at:
            later[n] = stop
        count[stop] += 1
        count_now[now] += 1
        errors += stops.weights[n] * (not stops.correct[stop, n])
        errors_now += stops.weights[n] * (not stops.correct[now, n])
    found_threshold = np.empty(samples)
    found_errors, found_cost = np.empty(samples, np.int64), np.empty(samples)
    found, above = 0, np.nan
    for n in stops.order[at]:  # those before n leave here, n and those after it go on
        score = np.float64(stops.scores[at, n])  # float64, in which two neighbouring float32 have one between them
        middle = (above + score) / 2.0
        if score < above and np.isfinite(middle):
            found_threshold[found], found_errors[found] = middle, errors
            found_cost[found] = _total(count, stops.paid, stops.shared)
            found += 1
        above = score
        if later[n] >= 0:
            count[at] += 1
            count[later[n]] -= 1
            errors += stops.weights[n] * (int(stops.correct[later[n], n]) - int(stops.correct[at, n]))
    cost_now = _total(count_now, stops.paid, stops.shared)
    return found_threshold[:found], found_errors[:found], found_cost[:found], errors_now, cost_now


@numba.njit(cache=True)
def _leaves(scores: Scores, thresholds: Floats, n: int, at: int) -> tuple[int, int]:
    """Where a sample leaves if it goes on at stop `at`, and where it leaves now."""
    last = len(thresholds) - 1
    now = last
    for stop in range(last):
        if scores[stop, n] >= thresholds[stop]:
            now = min(now, stop)
            if stop != at:
                return stop, now
    return last, now


@numba.njit(cache=True)
def _total(count: Ints, paid: Floats, shared: Floats) -> float:
    total = 0.0
    if len(shared):
        arriving = count.sum()
        for stop in range(len(paid)):
            total += shared[stop, arriving]
            arriving -= count[stop]
        return total
    for stop in range(len(paid)):
        total += count[stop] * paid[stop]
    return total
