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
    cheapest,
    count_all,
    count_pairs,
    dearest,
    lay_out,
    lower,
    new_desk,
    stops_of,
    value_at,
    within,
)
from eesearch.solve.kernel import (
    Bits,
    Counts,
    compiled,
    count_both,
    count_each,
    inner,
    overlaps_of_4,
    overlaps_of_5,
    overlaps_of_any,
    part,
)

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


# Boxes yet to be looked at are rows of a stack: the lenient level of every thresholded stop, the strict level of every
# one, and the number of errors at which the box around them was not beaten. [depth, 2 K + 1]


@inner
def new_stack(problem: Problem) -> Counts:
    """Room for one path: each halving of one of its ranges leaves one box behind."""
    longest, halvings = problem.paths.keys.shape[1] - 1, 1
    while 1 << halvings < problem.keys.leaves.shape[1]:
        halvings += 1
    return np.zeros((longest * halvings + 2, 2 * longest + 1), np.int64)


@inner
def put_root(stack: Counts, problem: Problem, row: int) -> bool:
    """Make a whole path the only box on the stack; False if one of its stops has no level."""
    early = problem.paths.early[row]
    for k in range(early):
        stack[0, k], stack[0, early + k] = 0, problem.keys.levels[problem.paths.keys[row, k]] - 1
        if stack[0, early + k] < 0:
            return False
    stack[0, 2 * early] = -1
    return True


@compiled
def search_range(job: Job, begin: int, end: int) -> int:
    """Search a range of paths, until told otherwise; returns the first that was not begun."""
    problem = job.problem
    stack, desk = new_stack(problem), new_desk(stops_of(0), len(problem.keys.units))
    for row in range(begin, end):
        early = problem.paths.early[row]
        if job.flag[0] == STOP:
            return row
        if early == 0:
            leave_at_once(job, desk, row)
        elif put_root(stack, problem, row):
            if len(desk.paid) != stops_of(early):
                desk = new_desk(stops_of(early), len(problem.keys.units))
            lay_out(desk, problem, row)
            search_path(job, desk, stack, row)
    return end


@inner
def search_path(job: Job, desk: Desk, stack: Counts, row: int) -> None:
    """Search the path on the desk, whose root is on the stack; the floor comes down to boxes not searched any more."""
    problem, limits, best = job.problem, job.problem.limits, job.best
    early, limited = problem.paths.early[row], len(limits.late_share) + len(limits.at_most) + len(limits.need) > 0
    leaves, right, envelope, flag = problem.keys.leaves, problem.keys.right, best.envelope, job.flag
    paid, stops, starts, rows, counts, seen, pairs, savings, moved, torn = desk
    units, ends = problem.keys.units, problem.ends
    top = 1
    while top > 0:
        top -= 1
        aim(rows, starts, stops, stack, top)
        begin = np.int64(0)
        for group in range(len(ends)):
            span = (group, begin, ends[group])
            if len(paid) == 4:
                overlaps_of_4(leaves, right, rows, span, counts)
            elif len(paid) == 5:
                overlaps_of_5(leaves, right, rows, span, counts)
            else:
                overlaps_of_any(leaves, right, rows, span, counts)
            begin = ends[group]
        errors = problem.total - count_all(counts, units, seen)
        most, least = errors + count_pairs(pairs, counts, units, moved, torn), cheapest(paid, seen, problem.samples)
        cost = dearest(least, savings, moved)
        hint = stack[top, 2 * early]
        if hint < errors or value_at(errors, cost, savings, moved, hint) >= envelope[hint]:
            hint = beaten(envelope, errors, cost, savings, moved)
            if hint < 0:
                continue
        state = within(seen, problem, row, stack[top]) if limited else KEPT
        if state == OUT:
            continue
        if flag[0] != SEARCH:
            lower(job.floor, errors, cost, savings, moved)
            continue
        if state == KEPT and least < envelope[most]:
            keep(best, job.first + row, most, least, stack[top, :early])
            hint = beaten(envelope, errors, cost, savings, moved)
        if hint >= 0 and most > errors:
            top = split(stack, torn, top, early, hint)


@inner
def aim(rows: Bits, starts: Bits, stops: Counts, stack: Counts, top: int) -> None:
    """Point the desk's rows to the ends of the box on top of the stack."""
    last = len(stops) - 1
    early, words = stops[last], starts[last]
    for s in range(last):
        rows[s] = starts[s] + np.uint64(stack[top, stops[s]]) * words
        rows[last + s] = starts[s] + np.uint64(stack[top, early + stops[s]]) * words


@inner
def split(stack: Counts, torn: Counts, top: int, early: int, hint: int) -> int:
    """Replace the box on top by its halves at the stop where most samples are torn, the lenient one on top."""
    at = 0
    for k in range(1, early):
        if torn[k] > torn[at]:
            at = k
    middle = (stack[top, at] + stack[top, early + at]) // 2
    stack[top, 2 * early] = hint
    for i in range(2 * early + 1):
        stack[top + 1, i] = stack[top, i]
    stack[top, at], stack[top + 1, early + at] = middle + 1, middle
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
    errors, cost, begin = problem.total, problem.samples * problem.paths.paid[row, 0], np.int64(0)
    for group in range(len(problem.ends)):
        end = problem.ends[group]
        errors -= problem.keys.units[group] * count_both(right[begin:end], right[begin:end])
        begin = end
    if cost >= job.best.envelope[errors] or within(desk.seen, problem, row, none) != KEPT:
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
    last = len(path) - 2
    leaving, errors = np.zeros((choices, last + 2), np.int64), np.zeros(choices, np.int64)
    if last < 0:
        errors[0] = count_both(everyone, ~keys.right[path[0]])
        return leaving, errors
    here, level = np.zeros((last + 1, len(everyone)), np.uint64), np.zeros(last + 1, np.int64)
    gone, lost, both = level.copy(), level.copy(), np.zeros((keys.levels[path[last]], 2), np.int64)
    here[0], final = everyone, keys.leaves[path[last], : len(both)]
    wrong = (final & ~keys.right[path[last]]) | (~final & ~keys.right[path[last + 1]])  # at one of the last two stops
    at, row = 0, 0
    while row < choices:
        if at == last:
            count_each(here[at], final, wrong, both)
            for each in range(len(both)):
                leaving[row, :last], leaving[row, last] = gone[:last], both[each, 0]
                errors[row] = lost[last] + both[each, 1]
                row += 1
        elif level[at] < keys.levels[path[at]]:
            out = keys.leaves[path[at], level[at]]
            gone[at], wrongly = part(here[at], out, keys.right[path[at]], here[at + 1])
            lost[at + 1] = lost[at] + wrongly
            level[at] += 1
            at += 1
            continue
        else:
            level[at] = 0
        at -= 1
    return leaving, errors
