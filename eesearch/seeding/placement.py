"""Placement rules of the literature, as functions of numbers; `eesearch.seeding.bank` measures these on a bank.

Symbols as in `eesearch.exits.expected`: cost of segment i (f), of head i (c), cumulative cost (gamma), reach (I), pass
ratio (cm). The element-wise rules take numbers or arrays over exits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eesearch.core.design import ExitId
from eesearch.core.errors import PolicyError

SDN_SHARES = (0.15, 0.90)
"""Shares of the network's cost at which shallow-deep networks have their first and last internal classifier."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Seed:
    """A placement that a rule proposes.

    Attributes:
        rule: Which rule, with its parameter.
        exits: The early exits, at least one, in the order of the cuts; the network's own classifier goes without
            saying.
    """

    rule: str
    exits: tuple[ExitId, ...]


def percentile(prefix_costs: ArrayLike, shares: int | Sequence[float]) -> list[int]:
    """Cuts at given shares of the network's cost (survey section 4; Kaya et al. 2019, SDN: six at 15 to 90 %).

    Args:
        prefix_costs: From the input to each cut, then to the output. [K + 1]
        shares: In [0, 1]; or how many, evenly spaced over SDN's range (one: in its middle).

    Returns:
        The cut nearest to each share, rising, each once; none if the network has no cuts.

    Raises:
        PolicyError: a share outside [0, 1], or fewer than one.
    """
    if isinstance(shares, int):
        first, last = SDN_SHARES
        shares = np.linspace(first, last, shares).tolist() if shares != 1 else [(first + last) / 2.0]
    if not shares or min(shares) < 0.0 or max(shares) > 1.0:
        raise PolicyError("percentile placement needs shares of the network's cost", got=shares, expected="in [0, 1]")
    costs = np.asarray(prefix_costs, np.float64)
    if len(costs) < 2:
        return []
    distance = np.abs(costs[:-1] / costs[-1] - np.asarray(shares)[:, None])  # [S, K]
    return [int(cut) for cut in np.unique(distance.argmin(-1))]


def panda_chain(cumulative: ArrayLike, cumulative_next: ArrayLike, reach: ArrayLike, reach_next: ArrayLike) -> Floats:
    """Panda's relation as printed (eq. 4): keep where (gamma_next - gamma)(I - I_next) > gamma I_next.

    Right for a chain of separate models whose stages are paid again; with a shared prefix it charges the prefix twice.

    Args:
        cumulative: Cost of leaving here.
        cumulative_next: Cost of leaving at the next stop.
        reach: Share of the samples that arrives here.
        reach_next: Share that arrives at the next stop.

    Returns:
        By how much the relation holds; keep where it is above 0.
    """
    here, following = np.asarray(cumulative, np.float64), np.asarray(cumulative_next, np.float64)
    arriving, going_on = np.asarray(reach, np.float64), np.asarray(reach_next, np.float64)
    return np.asarray((following - here) * (arriving - going_on) - here * going_on)


def panda_shared(reach: ArrayLike, reach_next: ArrayLike, togo: ArrayLike, head: ArrayLike) -> Floats:
    """Panda's relation for exits on one network: keep where (I - I_next) togo > I c.

    The left side is what those who leave are spared, the right side what all who arrive pay.

    Args:
        reach: Share of the samples that arrives here.
        reach_next: Share that arrives at the next stop.
        togo: Mean cost that those who leave here would still have paid without this exit.
        head: Cost of the head and its decision.

    Returns:
        Mean cost saved per sample; keep where it is above 0.
    """
    arriving, going_on = np.asarray(reach, np.float64), np.asarray(reach_next, np.float64)
    return np.asarray((arriving - going_on) * np.asarray(togo) - arriving * np.asarray(head))


def th_rule(segment: ArrayLike, segment_next: ArrayLike, head: ArrayLike, pass_ratio: ArrayLike) -> Floats:
    """TH* of the TH rule as printed (eq. 5; Baccarelli et al. 2020): an exit is kept iff TH >= TH*.

    TH* = (cm f_next + (1 - cm) c + f) / (f_next + f): cost with the exit over cost without, with the head charged to
    those who leave only. At TH = 1 it therefore keeps an exit that nobody uses.

    Args:
        segment: Cost of the block before the exit.
        segment_next: Cost of the block after it.
        head: Cost of the head and its decision.
        pass_ratio: Share of those arriving that goes on.
    """
    cm = np.asarray(pass_ratio, np.float64)
    return _th_star(segment, segment_next, (1.0 - cm) * np.asarray(head), cm)


def th_paid(segment: ArrayLike, segment_next: ArrayLike, head: ArrayLike, pass_ratio: ArrayLike) -> Floats:
    """TH* of the TH rule with the head charged to all who arrive: (f + c + cm f_next) / (f + f_next).

    Args:
        segment: Cost of the block before the exit.
        segment_next: Cost of the block after it.
        head: Cost of the head and its decision.
        pass_ratio: Share of those arriving that goes on.
    """
    return _th_star(segment, segment_next, np.asarray(head, np.float64), np.asarray(pass_ratio, np.float64))


def _th_star(segment: ArrayLike, segment_next: ArrayLike, charged: Floats, cm: Floats) -> Floats:
    """Cost with the exit over cost without; inf where two blocks cost nothing, so that there is nothing to save."""
    before, following = np.asarray(segment, np.float64), np.asarray(segment_next, np.float64)
    without = following + before
    with_exit = np.asarray(cm * following + charged + before)
    return np.divide(with_exit, without, out=np.full_like(with_exit, np.inf), where=without > 0.0)


def nested(th_star: Floats) -> list[tuple[float, list[int]]]:
    """All non-empty placements that some TH in [0, 1] makes, by rising TH: at most one per exit, each within the next.

    Args:
        th_star: TH* of each early exit. [L - 1]

    Returns:
        The smallest TH of each placement, and the exits that it keeps.
    """
    tried = np.unique(th_star[th_star <= 1.0])
    return [(float(th), np.flatnonzero(th_star <= th).tolist()) for th in tried]
