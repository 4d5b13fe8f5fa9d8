"""Risk control: which policies lose at most so much accuracy on new samples, with the confidence asked for.

Policy and backbone are compared on samples that nothing has seen; only where exactly one of them is right do they
differ. Candidates are tested from the safest to the cheapest, until one fails (Laufer-Goldshtein et al., "Efficiently
controlling multiple risks with Pareto testing", ICLR 2023), each with the exact unconditional test of two matched
proportions (Berger and Boos, "P values maximized over a confidence set", JASA 1994).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from math import ceil, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, betaincinv, gammaln, xlog1py, xlogy

from eesearch.core.errors import PolicyError
from eesearch.core.paired import Paired

GAMMA = 0.001
"""How likely the confidence set of a p-value may miss the truth; no p-value is smaller."""

MOST_TESTED = 25
"""Most candidates that are tested."""

GRID, ZOOM, ZOOMS = 9, 4, 2
"""Points at which the largest p-value is looked for; then so many on either side of the best, so many times."""

DEVIATIONS, NEGLIGIBLE = 7.0, 1e-17
"""Half-width of the part of a binomial that is added up, in standard deviations, and the least probability that counts;
what is missed is added as it is."""

SLACK_PRECISION = 1e-5
"""How close the smallest slack is found."""

Floats = NDArray[np.float64]


def p_value(paired: Paired, slack: float, *, gamma: float = GAMMA) -> float:
    """Exact p-value of "the policy loses at least `slack`" (H0: b - c >= slack), from paired counts.

    b and c are the shares of all samples on which only the backbone, or only the policy, is right. With psi = b + c,
    the number of samples that differ is binomial, and given it the number lost is; the largest probability of a drop
    as small as the one seen is taken over psi in its Clopper-Pearson interval, and gamma is added.

    Args:
        paired: Policy and backbone, on samples that did not choose the policy.
        slack: Largest drop that is allowed, as a share; from 1 on everything is.
        gamma: Error probability of the interval of psi.

    Returns:
        Between gamma and 1: at most x with probability at most x, whatever policy loses `slack` or more.

    Raises:
        PolicyError: there are no samples, the slack is below 0, or gamma is not between 0 and 1.
    """
    lost, gained, samples = paired.counts
    _check(samples, slack, gamma)
    slack = min(slack, 1.0)
    low, high = (max(end, slack) for end in _share_interval(lost + gained, samples, gamma))
    grid = np.linspace(low, high, GRID if high > low else 1)
    for _ in range(ZOOMS):
        tail = _tail(grid, slack, lost - gained, samples)
        best = int(tail.argmax())
        below, above = max(best - 1, 0), min(best + 1, len(grid) - 1)
        fine = [np.linspace(grid[i], grid[j], ZOOM + 1)[:-1] for i, j in ((below, best), (best, above)) if i < j]
        grid = np.concatenate([*fine, grid[above : above + 1]])
    tail = _tail(grid, slack, lost - gained, samples)
    best = int(tail.argmax())
    # Between its neighbours a concave function is at most so much above the best point.
    sides = tail[best - 1 : best + 2] if 0 < best < len(tail) - 1 else tail[best : best + 1]
    return float(min(1.0, gamma + tail[best] + (tail[best] - sides.min())))


def _share_interval(count: int, samples: int, error: float) -> tuple[float, float]:
    """Clopper-Pearson interval of a share; it misses with at most this probability, half of it on either side."""
    low = betaincinv(count, samples - count + 1, error / 2.0) if count > 0 else 0.0
    high = betaincinv(count + 1, samples - count, 1.0 - error / 2.0) if count < samples else 1.0
    return float(low), float(high)


def _tail(psi: Floats, slack: float, drop: int, samples: int) -> Floats:
    """Probability that at most `drop` samples are lost on balance, if b + c = psi and b - c = slack. [G]

    Args:
        psi: Each at least slack, at most 1; rising. [G]
        slack: As a share.
        drop: Number of samples.
        samples: n.
    """
    half = DEVIATIONS * sqrt(samples * float((psi * (1.0 - psi)).max())) + 3.0 * DEVIATIONS
    first, last = max(0, int(samples * psi[0] - half)), min(samples, ceil(samples * psi[-1] + half))
    differ, share = np.arange(first, last + 1), psi[:, None]
    chosen = gammaln(samples + 1) - gammaln(differ + 1) - gammaln(samples - differ + 1)
    mass = np.exp(chosen + xlogy(differ, share) + xlog1py(samples - differ, -share))
    lost = np.divide(share + slack, 2.0 * share, out=np.full_like(share, 0.5), where=share > 0.0)
    most, sure = (differ + drop) // 2, np.where(drop >= differ, 1.0, 0.0)  # more cannot be lost than differ
    counted = (mass > NEGLIGIBLE) & (most >= 0) & (most < differ)
    at, m = np.nonzero(counted)
    within = np.broadcast_to(sure, mass.shape).copy()
    within[counted] = bdtr(most[m].astype(np.float64), differ[m], lost[at, 0])
    missed = np.maximum(0.0, 1.0 - (mass * (mass > NEGLIGIBLE)).sum(1))
    return np.asarray(np.minimum(1.0, (mass * within).sum(1) + missed), np.float64)


def smallest_slack(differ: float, samples: int, delta: float) -> float:
    """The smallest slack for which a policy that loses nothing is certified, if as many samples are lost as gained.

    Somewhat above z sqrt(differ / samples), z the normal quantile of 1 - delta: 1.28 for delta = 0.1.

    Args:
        differ: Share of the samples on which exactly one of policy and backbone is right.
        samples: Number of certification samples.
        delta: Level of the test.

    Returns:
        As a share, to five digits; 1.0 if no slack below it can be certified.

    Raises:
        PolicyError: there are no samples, or a share is not between 0 and 1.
    """
    _check(samples, differ, delta)
    each = ceil(min(differ, 1.0) * samples / 2.0)
    even = Paired(lost=min(each, samples // 2), gained=min(each, samples // 2), samples=samples)
    fails, passes = 0.0, 1.0
    while passes - fails > SLACK_PRECISION:
        middle = (fails + passes) / 2.0
        if p_value(even, middle) <= delta:
            passes = middle
        else:
            fails = middle
    return passes


def _check(samples: int, share: float, error: float) -> None:
    if samples < 1:
        raise PolicyError("nothing is certified without samples", got=samples, expected="at least 1")
    if not share >= 0.0:
        raise PolicyError("a share of samples is below 0 or not a number", got=share, expected="at least 0")
    if not 0.0 < error < 1.0:
        raise PolicyError("an error probability is between 0 and 1", got=error)


def order_of_tests(p: NDArray[Any], cost: NDArray[Any], most: int = MOST_TESTED) -> NDArray[np.intp]:
    """Which candidates are tested, and in which order: from the safest to the cheapest (Pareto testing).

    Those that no other candidate beats in estimated p-value and cost; if there are too many, evenly spaced ones, with
    both ends.

    Args:
        p: Estimated p-values, on the samples that chose the candidates. [K]
        cost: Of the same. [K]
        most: Largest number of candidates, at least 1.

    Returns:
        Indices, by rising p and falling cost; of equal candidates the first. [T], T <= most

    Raises:
        PolicyError: `most` is below 1, or a value is not a number.
    """
    if most < 1 or not (np.isfinite(p).all() and np.isfinite(cost).all()):
        raise PolicyError("candidates to test need finite values, and room for one", got=f"most {most}")
    order = np.lexsort((cost, p))
    cheapest = np.minimum.accumulate(np.asarray(cost, np.float64)[order])
    kept = order[np.append(True, cheapest[1:] < cheapest[:-1])[: len(order)]]
    evenly = np.linspace(0, len(kept) - 1, min(most, len(kept))).round().astype(np.intp)  # the safest, if it is one
    return np.asarray(kept[evenly])


def passed(p_values: Sequence[float], delta: float) -> int:
    """How many hypotheses are rejected in their order before the first that is not (fixed sequence testing)."""
    return sum(1 for _ in takewhile(lambda p: p <= delta, p_values))
