"""The compiled part of the exact search: the boxes of one path after the other, on an explicit stack."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eesearch.solve.bounds import (
    KEPT,
    OUT,
    Desk,
    Floats,
    Keys,
    Problem,
    beaten,
    count,
    lay_out,
    lower,
    new_desk,
    stops_of,
    weigh,
    within,
)
from eesearch.solve.kernel import Bits, Counts, compiled, count_both, inner, part

Flag = NDArray[np.uint8]

SEARCH, STOP, ONLY_FLOOR = 0, 1, 2
"""Flags: go on; begin no other path, and only bring the floor down to the boxes that are left; do so for all paths."""


class Incumbents(NamedTuple):
    """The cheapest policy found for each number of errors; of several, the first, paths in order.

    Attributes:
        envelope: Least cost with at most so many errors, summed over samples; -inf where nothing is of use. [N + 1]
        cost: Cost of the policy kept for exactly so many errors; inf if none. [N + 1]
        path: Its path. [N + 1]
        levels: Its threshold levels. [N + 1, K]
    """

    envelope: Floats
    cost: Floats
    path: Counts
    levels: Counts


class Job(NamedTuple):
    """A search.

    Attributes:
        problem: What is searched.
        best: What it has found.
        floor: Of what it has left open. [N + 1]
        first: Number of the problem's first path.
        flag: SEARCH, STOP or ONLY_FLOOR. [1]
    """

    problem: Problem
    best: Incumbents
    floor: Floats
    first: int
    flag: Flag


class Stack(NamedTuple):
    """Boxes yet to be looked at: their ends, and the number of errors at which the box around them was not beaten."""

    lo: Counts
    hi: Counts
    hint: Counts


@inner
def new_stack(problem: Problem) -> Stack:
    """Room for one path: each halving of one of its ranges leaves one box behind."""
    longest, halvings = problem.paths.keys.shape[1] - 1, 1
    while 1 << halvings < problem.keys.leaves.shape[1]:
        halvings += 1
    most = longest * halvings + 2
    return Stack(np.zeros((most, longest), np.int64), np.zeros((most, longest), np.int64), np.zeros(most, np.int64))


@inner
def put_root(stack: Stack, problem: Problem, row: int) -> bool:
    """Make a whole path the only box on the stack; False if one of its stops has no level."""
    for k in range(problem.paths.early[row]):
        stack.lo[0, k], stack.hi[0, k] = 0, problem.keys.levels[problem.paths.keys[row, k]] - 1
        if stack.hi[0, k] < 0:
            return False
    stack.hint[0] = -1
    return True


@compiled
def search_range(job: Job, begin: int, end: int) -> int:
    """Search a range of paths, until told otherwise; returns the first that was not begun."""
    problem = job.problem
    stack, desk = new_stack(problem), new_desk(stops_of(0))
    for row in range(begin, end):
        early = problem.paths.early[row]
        if job.flag[0] == STOP:
            return row
        if early == 0:
            leave_at_once(job, desk, row)
        elif put_root(stack, problem, row):
            if len(desk.paid) != stops_of(early):
                desk = new_desk(stops_of(early))
            lay_out(desk, problem, row)
            search_path(job, desk, stack, row)
    return end


@inner
def search_path(job: Job, desk: Desk, stack: Stack, row: int) -> None:
    """Search the path on the desk, whose root is on the stack; the floor comes down to boxes not searched any more."""
    problem, limits, envelope = job.problem, job.problem.limits, job.best.envelope
    early, limited = problem.paths.early[row], len(limits.late_share) + len(limits.at_most) + len(limits.need) > 0
    top = 1
    while top > 0:
        top -= 1
        lo, hi = stack.lo[top], stack.hi[top]
        count(desk, problem, row, lo, hi)
        errors, cost, most, least = weigh(desk, problem.samples)
        hint = beaten(envelope, errors, cost, desk.savings, desk.moved, stack.hint[top])
        if hint < 0:
            continue
        state = within(desk, problem, row, lo, hi) if limited else KEPT
        if state == OUT:
            continue
        if job.flag[0] != SEARCH:
            lower(job.floor, errors, cost, desk.savings, desk.moved)
            continue
        if state == KEPT and least < envelope[most]:
            keep(job.best, job.first + row, most, least, lo[:early])
            hint = beaten(envelope, errors, cost, desk.savings, desk.moved, hint)
        if hint >= 0 and most > errors:
            top = split(stack, desk, top, early, hint)


@inner
def split(stack: Stack, desk: Desk, top: int, early: int, hint: int) -> int:
    """Replace the box on top by its halves at the stop where most samples are torn, the lenient one on top."""
    at = 0
    for k in range(1, early):
        if desk.torn[k] > desk.torn[at]:
            at = k
    middle = (stack.lo[top, at] + stack.hi[top, at]) // 2
    for k in range(early):
        stack.lo[top + 1, k], stack.hi[top + 1, k] = stack.lo[top, k], stack.hi[top, k]
    stack.lo[top, at], stack.hi[top + 1, at] = middle + 1, middle
    stack.hint[top], stack.hint[top + 1] = hint, hint
    return top + 2


@inner
def keep(best: Incumbents, path: int, errors: int, cost: float, levels: Counts) -> None:
    """Make a policy the incumbent for its number of errors."""
    best.cost[errors], best.path[errors] = cost, path
    for k in range(len(levels)):
        best.levels[errors, k] = levels[k]
    for more in range(errors, len(best.envelope)):
        if best.envelope[more] <= cost:
            break
        best.envelope[more] = cost


@inner
def leave_at_once(job: Job, desk: Desk, row: int) -> None:
    """Try the one policy of a path without thresholds."""
    problem, none = job.problem, job.problem.paths.early[:0]
    right = problem.keys.right[problem.paths.keys[row, 0]]
    errors, cost = problem.samples - count_both(right, right), problem.samples * problem.paths.paid[row, 0]
    if cost >= job.best.envelope[errors] or within(desk, problem, row, none, none) != KEPT:
        return
    if job.flag[0] == SEARCH:
        keep(job.best, job.first + row, errors, cost, none)
    else:
        job.floor[errors] = min(job.floor[errors], cost)


@compiled
def evaluate_rows(keys: Keys, path: Counts, everyone: Bits, choices: int) -> tuple[Counts, Counts]:
    """Evaluate every choice of levels on a path, the last level turning fastest; survivors are handed down.

    Returns:
        Samples that leave at each thresholded stop; the last column stays 0. [choices, k + 1]
        Errors. [choices]
    """
    early = len(path) - 1
    leaving, errors = np.zeros((choices, early + 1), np.int64), np.zeros(choices, np.int64)
    here = np.zeros((early + 1, len(everyone)), np.uint64)
    level, gone, lost = np.zeros(early + 1, np.int64), np.zeros(early + 1, np.int64), np.zeros(early + 1, np.int64)
    here[0] = everyone
    if early == 0:
        errors[0] = count_both(everyone, ~keys.right[path[0]])
    at, row = 0, 0
    while row < choices and early > 0:
        if level[at] == keys.levels[path[at]]:
            level[at] = 0
            at -= 1
            level[at] += 1
            continue
        out, after = keys.leaves[path[at], level[at]], keys.right[path[at + 1]]
        gone[at], wrong, doomed = part(here[at], out, keys.right[path[at]], after, here[at + 1])
        lost[at + 1] = lost[at] + wrong
        if at + 1 < early:
            at += 1
            continue
        leaving[row, :early], errors[row] = gone[:early], lost[early] + doomed
        level[at] += 1
        row += 1
    return leaving, errors
