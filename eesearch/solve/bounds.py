"""What no policy in a box of thresholds can beat.

A box is a path whose thresholds lie between a lenient and a strict end each. A sample may leave at stop k if it passes
all stops before it at their strict ends and leaves there at the lenient end. Let f be the first stop at which it may
leave, its cheapest, and g the first such stop that gets it right. Samples without a g are errors in any case: e0 of
them. If every other sample left at its g and they at their f, that would cost c0; each further error saves at most
paid[g] - paid[f] of one sample. The largest savings first, this gives the least cost B(e) of any policy in the box with
at most e errors: a convex curve, with a corner at most per pair of stops.

Where samples count differently, errors are their weights, and savings are those for one unit of error.

At its right end everybody leaves at their f: that is the policy at the lenient ends. So each bound also yields a
policy, and where nobody's f and g differ, that policy is as good as anything in the box.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eesearch.solve.kernel import (
    Bits,
    Counts,
    compiled,
    inner,
    meet,
    popcount,
)

Floats = NDArray[np.float64]


class Keys(NamedTuple):
    """What stops do with samples: a row per key.

    A key is whatever decides the scores and answers of a stop: an exit, or a path that ends there.

    Attributes:
        leaves: Samples that would leave at a level; thresholds rise with the level, so sets shrink. [Q, L, W]
        levels: Number of levels of each key; what is in `leaves` beyond them is not used. [Q]
        right: Samples answered correctly there. [Q, W]
        units: What a wrong sample counts, in each of G groups of samples that lie together; see `Weighing`. [G]
        sizes: Samples of each group; the next one begins with a new word. [G]
    """

    leaves: Bits
    levels: Counts
    right: Bits
    units: Counts
    sizes: Counts


class Paths(NamedTuple):
    """P paths of at most K + 1 stops; the unused entries of a row are 0.

    Attributes:
        keys: Key of every stop; at the last one everybody leaves. [P, K + 1]
        early: Number of stops with a threshold; the last stop comes after them. [P]
        paid: Cost per sample of leaving at each stop, which does not fall along the path; finite. [P, K + 1]
    """

    keys: Counts
    early: Counts
    paid: Floats


class Limits(NamedTuple):
    """What every policy that is kept must satisfy; empty arrays if nothing.

    Attributes:
        late: For each of R quantile limits the first stop that is too dear; one beyond the last if none is. [P, R]
        late_share: How many samples may leave there or later. [R]
        paid: Cost per sample of leaving at each stop, on A other axes. [P, A, K + 1]
        at_most: Largest sum of it over the samples. [A]
        classes: Samples of each of C classes. [C, W]
        need: How many of them must be answered correctly. [C]
    """

    late: Counts
    late_share: Counts
    paid: Floats
    at_most: Floats
    classes: Bits
    need: Counts


class Problem(NamedTuple):
    """What is searched.

    Attributes:
        samples: N.
        total: What all samples count: errors are units, see `Keys`.
        ends: First word behind each group of samples. [G]
    """

    keys: Keys
    paths: Paths
    limits: Limits
    samples: int
    total: int
    ends: Counts


class Desk(NamedTuple):
    """Room for one path and one of its boxes, so that nothing is allocated on the way.

    The path has S stops here: where it has fewer than four, its last thresholded stop is repeated, which changes
    nothing, as whoever would leave at the second has left at the first.

    Attributes:
        paid: Cost of leaving at each stop. [S]
        stops: Which stop of the path each of them is. [S]
        starts: First words of the bitsets of their first levels; for the last stop the words of a bitset. [S]
        rows: First words of the bitsets of the stops, and room, see `kernel`. [4 S - 3]
        counts: See `kernel`. [G, S + 2, S + 1]
        seen: Of all groups together, samples that may leave at a stop up to each. [S]
        pairs: f and g of every pair of stops f < g, and a group; by falling savings. [G S (S - 1) / 2, 3]
        savings: paid[g] - paid[f] of every pair, for one unit of error.
        moved: Errors of the samples of the group that have this f and g.
        torn: How many samples have this f and a later g. [S]
    """

    paid: Floats
    stops: Counts
    starts: Bits
    rows: Bits
    counts: Counts
    seen: Counts
    pairs: Counts
    savings: Floats
    moved: Counts
    torn: Counts


@inner
def new_desk(stops: int, groups: int) -> Desk:
    """An empty desk for paths of so many stops."""
    pairs = groups * stops * (stops - 1) // 2
    return Desk(
        np.zeros(stops),
        np.zeros(stops, np.int64),
        np.zeros(stops, np.uint64),
        np.zeros(4 * stops - 3, np.uint64),
        np.zeros((groups, stops + 2, stops + 1), np.int64),
        np.zeros(stops, np.int64),
        np.zeros((pairs, 3), np.int64),
        np.zeros(pairs),
        np.zeros(pairs, np.int64),
        np.zeros(stops, np.int64),
    )


@inner
def stops_of(early: int) -> int:
    """Stops that the desk of a path with so many thresholded ones has."""
    return max(early + 1, 4)


@inner
def lay_out(desk: Desk, problem: Problem, row: int) -> None:
    """Put a path with at least one thresholded stop on the desk."""
    stops, early, (_, most, words) = len(desk.paid), problem.paths.early[row], problem.keys.leaves.shape
    for s in range(stops):
        stop = early if s == stops - 1 else min(s, early - 1)
        desk.stops[s] = stop
        desk.paid[s] = problem.paths.paid[row, stop]
        desk.starts[s] = problem.paths.keys[row, stop] * most * words if s < stops - 1 else words
        desk.rows[2 * (stops - 1) + s] = problem.paths.keys[row, stop] * words
    pairs = 0
    for g in range(stops):
        for f in range(g):
            for group in range(len(problem.keys.units)):
                saving = (desk.paid[g] - desk.paid[f]) / problem.keys.units[group]
                i = put_pair(desk.pairs, desk.savings, saving, pairs)
                desk.pairs[i, 0], desk.pairs[i, 1], desk.pairs[i, 2] = f, g, group
                pairs += 1


@inner
def put_pair(pairs: Counts, savings: Floats, saving: float, last: int) -> int:
    """Make room for a pair among so many, which are sorted by falling savings; returns where it goes."""
    i = last
    while i > 0 and savings[i - 1] < saving:
        savings[i] = savings[i - 1]
        for column in range(pairs.shape[1]):
            pairs[i, column] = pairs[i - 1, column]
        i -= 1
    savings[i] = saving
    return i


# The next functions run for every box. They take arrays, not tuples of arrays, whose members would each be counted as
# used and released again: that took as long as the rest together.


@inner
def cheapest(paid: Floats, seen: Counts, samples: int) -> float:
    """Cost of the policy at the lenient ends, where everybody leaves at their f."""
    cost, before = 0.0, 0
    for s in range(len(paid) - 1):
        cost += paid[s] * (seen[s] - before)
        before = seen[s]
    return float(cost + paid[len(paid) - 1] * (samples - before))


@inner
def dearest(cost: float, savings: Floats, moved: Counts) -> float:
    """Cost if all who have a g leave there, from that of all leaving at their f."""
    for i in range(len(moved)):
        cost += moved[i] * savings[i]
    return cost


@inner
def count_pairs(pairs: Counts, counts: Counts, units: Counts, moved: Counts, torn: Counts) -> int:
    """Count samples by f and g, from the counts by stops; returns the errors of those with a g later than their f."""
    total = 0
    torn[:] = 0
    for i in range(len(moved)):
        f, g, group = pairs[i, 0], pairs[i, 1], pairs[i, 2]
        number = counts[group, f + 1, g + 1] - counts[group, f + 1, g] - counts[group, f, g + 1] + counts[group, f, g]
        moved[i] = number * units[group]
        torn[f] += number
        total += moved[i]
    return total


@inner
def count_all(counts: Counts, units: Counts, seen: Counts) -> int:
    """Add up who may leave where, over the groups; returns what those count who may be answered rightly."""
    hit, stops = 0, len(seen)
    seen[:] = 0
    for group in range(len(units)):
        hit += units[group] * counts[group, stops, stops]
        for s in range(stops - 1):
            seen[s] += counts[group, stops + 1, s]
    return hit


@compiled
def beaten(envelope: Floats, errors: int, cost: float, savings: Floats, moved: Counts) -> int:
    """Whether the incumbents are nowhere worse than a curve.

    The curve falls and the envelope is a falling staircase: where the curve is above a step, it stays so until it has
    come down to it, so a few steps mostly settle it.

    Args:
        envelope: Of the incumbents. [N + 1]
        errors: Where the curve begins.
        cost: Its value there.
        savings: Its slopes. [pairs]
        moved: For how many errors each slope lasts. [pairs]

    Returns:
        -1 if so; else a number of errors at which the curve is below the envelope.
    """
    i, left, step = 0, moved[0], envelope[errors]
    while cost >= step and i < len(savings):
        if cost - left * savings[i] >= step:  # all along this slope
            cost -= left * savings[i]
            errors += left
            i += 1
            left = moved[i] if i < len(savings) else 0
        else:
            further = min(left, np.int64((cost - step) / savings[i]) + 1)
            cost -= further * savings[i]
            errors += further
            left -= further
            step = envelope[errors]
    return errors if cost < step else -1


@inner
def value_at(errors: int, cost: float, savings: Floats, moved: Counts, wanted: int) -> float:
    """The curve's value at a number of errors, not before its beginning."""
    for i in range(len(savings)):
        here = min(moved[i], wanted - errors)
        cost -= here * savings[i]
        errors += here
    return cost


@compiled
def lower(floor: Floats, errors: int, cost: float, savings: Floats, moved: Counts) -> None:
    """Bring a floor down to a curve; right of the curve's end a running minimum does it."""
    floor[errors] = min(floor[errors], cost)
    for i in range(len(savings)):
        for e in range(1, moved[i] + 1):
            floor[errors + e] = min(floor[errors + e], cost - e * savings[i])
        errors += moved[i]
        cost -= moved[i] * savings[i]


OUT, OPEN, KEPT = 0, 1, 2
"""Limits: no policy of a box keeps them; some may; the one at the lenient ends does."""


@inner
def within(seen: Counts, problem: Problem, row: int, ends: Counts) -> int:
    """Whether policies in a box keep the limits, from the counts by stops: OUT, OPEN or KEPT.

    At the lenient ends nobody comes further or pays more than anywhere in the box, so that quantiles and other axes
    are settled there. For recall, only samples without a g are wrong everywhere.
    """
    early, limits, samples = problem.paths.early[row], problem.limits, problem.samples
    for r in range(len(limits.late_share)):
        late = limits.late[row, r]
        if late <= early and samples - (seen[late - 1] if late > 0 else 0) > limits.late_share[r]:
            return OUT
    for a in range(len(limits.at_most)):
        total, before = 0.0, 0
        for k in range(early + 1):
            so_far = seen[k] if k < early else samples
            total += limits.paid[row, a, k] * (so_far - before)
            before = so_far
        if total > limits.at_most[a]:
            return OUT
    return recalled(problem, row, ends) if len(limits.need) else KEPT


@inner
def recalled(problem: Problem, row: int, ends: Counts) -> int:
    """Whether policies in a box get enough samples of each class right."""
    keys, limits = problem.keys, problem.limits
    path, early = problem.paths.keys[row], problem.paths.early[row]
    state = KEPT
    for c in range(len(limits.need)):
        possible, settled = np.int64(0), np.int64(0)
        for w in range(keys.right.shape[1]):
            may, seen, hit, sure = ~np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0)
            for k in range(early):
                right, lenient = keys.right[path[k], w], keys.leaves[path[k], ends[k], w]
                sure |= ~seen & lenient & right  # whoever is not seen yet has come here
                may, seen, hit = meet(may, lenient, keys.leaves[path[k], ends[early + k], w], right, (seen, hit))
            last = keys.right[path[early], w]
            possible += np.int64(popcount((hit | (may & last)) & limits.classes[c, w]))
            settled += np.int64(popcount((sure | (~seen & last)) & limits.classes[c, w]))
        if possible < limits.need[c]:
            return OUT
        if settled < limits.need[c]:
            state = OPEN
    return state
