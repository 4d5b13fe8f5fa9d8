"""The walk over all policies: nested enumeration with the set of surviving samples handed down.

Every policy is a path of early exits, each at one threshold level, and a last stop. Paths with fewer early exits are
walked first, so that good incumbents exist when it gets expensive. A subtree is cut only when no completion of it can
be cheaper than every incumbent with at most as many errors, so the result is exact.

Notation: m samples survive, c is what has been paid for all samples so far, e the errors of those that left.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from eesearch.solve.kernel import Bits, count_both, count_three, divide, intersect, pack

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Problem(NamedTuple):
    """What the walk reads.

    Attributes:
        step: [E + 1, E], as StageCosts; not negative.
        cheapest: Least step from each exit to any other; inf where it ends. [E]
        levels: Number of threshold levels of each exit; 0 where nothing can follow. [E]
        staying: Samples below each threshold; thresholds rise, so the sets grow. [E, L, W]
        wrong: Samples that each exit gets wrong. [E, W]
        after: Samples that every exit reachable from this one gets wrong. [E, W]
        onward: The same, with this exit among them. [E, W]
        spared: Of all samples, those that leave at an exit's level and that another exit gets wrong. [E, L, E]
    """

    step: Floats
    cheapest: Floats
    levels: Ints
    staying: Bits
    wrong: Bits
    after: Bits
    onward: Bits
    spared: NDArray[np.int32]


class Incumbents(NamedTuple):
    """The cheapest policy found for each number of errors.

    Attributes:
        envelope: Least cost with at most so many errors, summed over samples. [N + 1]
        cost: Cost of the policy kept for exactly so many errors; inf if none. [N + 1]
        early: Its number of early exits. [N + 1]
        exits: Its early exits and, after them, its last stop. [N + 1, K + 1]
        levels: Threshold levels of its early exits. [N + 1, K]
    """

    envelope: Floats
    cost: Floats
    early: Ints
    exits: Ints
    levels: Ints


class Trail(NamedTuple):
    """Where the walk stands: a path of early exits, and what it has come to after each number of them.

    Attributes:
        exits: The early exits, and the last stop after them. [K + 1]
        levels: Their threshold levels. [K]
        here: Survivors. [K + 1, W]
        left: Their number, m. [K + 1]
        cost: What has been paid, c. [K + 1]
        errors: Of those that left, e. [K + 1]
        misses: How many survivors each exit gets wrong, once the path is complete but for its last two stops. [E]
    """

    exits: Ints
    levels: Ints
    here: Bits
    left: Ints
    cost: Floats
    errors: Ints
    misses: Ints


def no_incumbents(samples: int, max_exits: int) -> Incumbents:
    """Nothing found yet."""
    return Incumbents(
        envelope=np.full(samples + 1, np.inf),
        cost=np.full(samples + 1, np.inf),
        early=np.zeros(samples + 1, np.int64),
        exits=np.zeros((samples + 1, max_exits + 1), np.int64),
        levels=np.zeros((samples + 1, max_exits), np.int64),
    )


def new_trail(samples: int, max_exits: int, exits: int) -> Trail:
    """At the input, with every sample."""
    everyone = pack(np.ones(samples, np.bool_))
    trail = Trail(
        exits=np.zeros(max_exits + 1, np.int64),
        levels=np.zeros(max_exits, np.int64),
        here=np.zeros((max_exits + 1, len(everyone)), np.uint64),
        left=np.zeros(max_exits + 1, np.int64),
        cost=np.zeros(max_exits + 1),
        errors=np.zeros(max_exits + 1, np.int64),
        misses=np.zeros(exits, np.int64),
    )
    trail.here[0], trail.left[0] = everyone, samples
    return trail


@numba.njit(cache=True)
def leave_at_once(problem: Problem, best: Incumbents, trail: Trail) -> None:
    """Try all policies without early exits."""
    for last in range(len(problem.levels)):
        cost = trail.left[0] * problem.step[0, last]
        errors = count_both(trail.here[0], problem.wrong[last])
        if cost < best.envelope[errors]:
            trail.exits[0] = last
            keep(best, trail, 0, cost, errors)


@numba.njit(cache=True)
def walk(problem: Problem, best: Incumbents, trail: Trail, early: int, first: int) -> None:
    """Try all policies with exactly `early` early exits, at least one, of which the first is `first`.

    A loop over depths instead of a recursion, which numba cannot keep in its cache.
    """
    depth = 0
    trail.exits[0], trail.levels[0] = first, -1
    while depth >= 0:
        until = first + 1 if depth == 0 else len(problem.levels)
        if depth + 1 == early:
            close(problem, best, trail, depth, until)
            depth -= 1
        elif advance(problem, best, trail, depth, until):
            depth += 1
            trail.exits[depth], trail.levels[depth] = 0, -1
        else:
            depth -= 1


@numba.njit(cache=True)
def advance(problem: Problem, best: Incumbents, trail: Trail, depth: int, until: int) -> bool:
    """Move to the next early exit and level at a depth that may lead to something better; False if there is none.

    Three bounds cut the walk. All who go on to an exit pay at least the step there, and whom neither it nor any later
    exit gets right are errors in any case; the higher the threshold, the more also pay a step after it; and who leaves
    wrongly is known once the threshold is.
    """
    here, current = trail.here[depth], trail.exits[depth]
    row = trail.exits[depth - 1] + 1 if depth > 0 else 0
    for exit_ in range(current, until):
        paid = trail.cost[depth] + trail.left[depth] * problem.step[row, exit_]
        if problem.levels[exit_] == 0 or not paid < np.inf:  # nothing follows this exit, or it cannot follow
            continue
        floor = trail.errors[depth] + count_both(here, problem.onward[exit_])
        wrong, after, staying = problem.wrong[exit_], problem.after[exit_], problem.staying[exit_]
        for level in range(trail.levels[depth] + 1 if exit_ == current else 0, problem.levels[exit_]):
            left, lost, doomed = divide(here, staying[level], wrong, after)
            errors = trail.errors[depth] + lost
            least = paid + left * problem.cheapest[exit_]
            if best.envelope[floor] <= least:
                break
            if least < best.envelope[errors + doomed]:
                trail.exits[depth], trail.levels[depth] = exit_, level
                intersect(here, staying[level], trail.here[depth + 1])
                trail.left[depth + 1], trail.cost[depth + 1], trail.errors[depth + 1] = left, paid, errors
                return True
    return False


@numba.njit(cache=True)
def close(problem: Problem, best: Incumbents, trail: Trail, depth: int, until: int) -> None:
    """Try all last early exits from the one at this depth on, at all their levels, with all last stops.

    Here the walk spends its time. The cost of a policy is known before its errors are; and a last stop errs on all the
    survivors that it gets wrong, less those that leave before: these are at most those that would leave there if all
    samples had come so far. Only where this bound cannot settle it, errors are counted.
    """
    here = trail.here[depth]
    row = trail.exits[depth - 1] + 1 if depth > 0 else 0
    for last in range(len(problem.levels)):
        trail.misses[last] = count_both(here, problem.wrong[last])
    for exit_ in range(trail.exits[depth], until):
        paid = trail.cost[depth] + trail.left[depth] * problem.step[row, exit_]
        if problem.levels[exit_] == 0 or not paid < np.inf:
            continue
        floor = trail.errors[depth] + count_both(here, problem.onward[exit_])
        wrong, after, staying = problem.wrong[exit_], problem.after[exit_], problem.staying[exit_]
        for level in range(problem.levels[exit_]):
            left, lost, _ = divide(here, staying[level], wrong, after)
            if best.envelope[floor] <= paid + left * problem.cheapest[exit_]:
                break
            gone = trail.errors[depth] + lost
            for last in range(len(problem.levels)):
                cost = paid + left * problem.step[exit_ + 1, last]
                least = gone + max(0, trail.misses[last] - problem.spared[exit_, level, last])
                if not cost < best.envelope[least]:  # "not": a forbidden step is inf, or nan when nobody takes it
                    continue
                errors = gone + count_three(here, staying[level], problem.wrong[last])
                if cost < best.envelope[errors]:
                    trail.exits[depth], trail.levels[depth], trail.exits[depth + 1] = exit_, level, last
                    keep(best, trail, depth + 1, cost, errors)


@numba.njit(cache=True)
def keep(best: Incumbents, trail: Trail, early: int, cost: float, errors: int) -> None:
    """Make the trail the incumbent for its number of errors."""
    best.cost[errors] = cost
    best.early[errors] = early
    best.exits[errors] = trail.exits
    best.levels[errors] = trail.levels
    for more in range(errors, len(best.envelope)):
        if best.envelope[more] <= cost:
            break
        best.envelope[more] = cost
