"""The placement rules applied to a trained bank: reach, pass ratios and costs measured by replay, nothing trained.

Each rule is applied twice. *Fixed*: all exits are active while it is measured. *Re-measured*: one greedy pass from the
input to the output, in which an exit that was dropped takes no more samples and no longer divides a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf

import numpy as np
from numpy.typing import NDArray

from eesearch.core.costs import StageCosts
from eesearch.core.design import ExitId
from eesearch.core.errors import PolicyError
from eesearch.core.steps import own_decision
from eesearch.core.tables import ExitTable, best_per_cut
from eesearch.exits import expected, routing
from eesearch.seeding.placement import Seed, nested, panda_chain, panda_shared, percentile, th_paid, th_rule

SDN_EXITS = 6
"""Percentile placements are proposed with one exit up to as many as SDN has."""

Floats = NDArray[np.float64]


def reference_thresholds(table: ExitTable, scores: NDArray[np.float32]) -> Floats:
    """Thresholds that make reach well defined before any policy is chosen.

    For each early exit the lowest threshold at which those that leave are, taken together, at least as often right as
    the network's own classifier is about the same samples; +inf if there is none. The rules of the survey presuppose
    thresholds and do not say which; these are the ones at which leaving costs no accuracy on the table.

    Args:
        table: Calibration; the network's own classifier is its last row.
        scores: As `score_table` gives them. [E, N]

    Returns:
        [E], the last -inf; -inf also where an exit is as good as the own classifier about all samples.

    Raises:
        PolicyError: the last row is not an own classifier.
    """
    if not table.exits[-1].is_output:
        raise PolicyError("the last row of the table is not a network's own classifier", got=table.exits[-1])
    gain = (table.correct.astype(np.int64) - table.correct[-1]) * table.weight  # [E, N]
    thresholds = [_lowest_safe(s.astype(np.float64), g) for s, g in zip(scores[:-1], gain[:-1], strict=True)]
    return np.array([*thresholds, -inf])


def _lowest_safe(scores: Floats, gain: NDArray[np.int64]) -> float:
    """The lowest threshold (midpoint between distinct scores, or -inf) above which the gains do not sum below 0."""
    order = np.argsort(-scores, kind="stable")
    falling, total = scores[order], gain[order].cumsum()
    last_of_equal = np.append(falling[:-1] != falling[1:], True)
    safe = np.flatnonzero(last_of_equal & (total >= 0))
    if not len(safe):
        return inf
    lowest = safe[-1]
    return -inf if lowest == len(falling) - 1 else float((falling[lowest] + falling[lowest + 1]) / 2.0)


@dataclass(frozen=True, eq=False)
class Chain:
    """One early exit per cut and the own classifier, with all that the rules measure. L stops, the last the own.

    Attributes:
        exits: [L]
        step: As StageCosts. [L + 1, L]
        scores: [L, N]
        thresholds: The last is -inf. [L]
    """

    exits: tuple[ExitId, ...]
    step: Floats
    scores: NDArray[np.float32]
    thresholds: Floats

    @property
    def head(self) -> Floats:
        """What a rejected exit adds: head, decision and resumption; 0 for the own classifier. [L]"""
        detour = self.step[0, :-1] + self.step[1:-1, -1] - self.step[0, -1]
        return np.append(detour - own_decision(self.step), 0.0)

    @property
    def prefix(self) -> Floats:
        """Cost from the input to each cut and to the output, without heads. [L]

        Resumption, which comes with the head, cannot be told from it: a cut is told that much too cheap.
        """
        return np.asarray(self.step[0] - self.head)

    def stop(self, active: list[int]) -> NDArray[np.int64]:
        """Where each sample leaves when these exits are active, as an index into `active`. [N]"""
        return routing.route(self.scores[active], self.thresholds[active])

    def reach(self, active: list[int]) -> Floats:
        """Share of the samples that arrives at each of the active exits. [k]"""
        return routing.reach(self.stop(active), len(active))

    def cumulative(self, active: list[int]) -> Floats:
        """Cost of leaving at each of the active exits. [k]"""
        rows = [0, *(i + 1 for i in active[:-1])]
        return np.asarray(self.step[rows, active].cumsum())

    def detour(self, active: list[int], at: int) -> float:
        """What rejected active exit `at` adds to the way between its neighbours."""
        before = active[at - 1] + 1 if at else 0
        here, behind = active[at], active[at + 1]
        return float(self.step[before, here] + self.step[here + 1, behind] - self.step[before, behind])

    def togo(self, active: list[int], at: int) -> float:
        """Mean cost that those who leave at active exit `at` would still have paid without it; 0 if nobody leaves."""
        leaving = self.stop(active) == at
        if not leaving.any():
            return 0.0
        others = [*active[:at], *active[at + 1 :]]
        paid_without = self.cumulative(others)[self.stop(others)[leaving]]
        before_head = self.cumulative(active)[at] - self.detour(active, at)
        return float(paid_without.mean() - before_head)


Rule = Callable[[Chain, list[int], int], bool]
"""`(chain, active exits with the own classifier last, position among them) -> keep it?`"""


def keep_panda_chain(chain: Chain, active: list[int], at: int) -> bool:
    """Eq. 4 as printed, between an exit and the next active one."""
    cumulative, reach = chain.cumulative(active), chain.reach(active)
    return bool(panda_chain(cumulative[at], cumulative[at + 1], reach[at], reach[at + 1]) > 0.0)


def keep_panda_shared(chain: Chain, active: list[int], at: int) -> bool:
    """Eq. 4 for a shared prefix: the exit lowers the mean cost."""
    reach = chain.reach(active)
    return bool(panda_shared(reach[at], reach[at + 1], chain.togo(active, at), chain.detour(active, at)) > 0.0)


TH_RULES = {"th_rule": th_rule, "th_paid": th_paid}


def th_star(chain: Chain, active: list[int], form: str) -> Floats:
    """TH* of each active exit; blocks lie between active exits. [k - 1]

    Args:
        chain: The chain.
        active: Rows, the own classifier last. [k]
        form: `th_rule` or `th_paid`.
    """
    segment = np.diff(chain.prefix[active], prepend=0.0)
    pass_ratio = expected.pass_ratio(chain.reach(active))
    return TH_RULES[form](segment[:-1], segment[1:], chain.head[active[:-1]], pass_ratio)


def _keep_th(chain: Chain, active: list[int], at: int, form: str, th: float) -> bool:
    return bool(th_star(chain, active, form)[at] <= th)


def fixed(chain: Chain, rule: Rule) -> list[int]:
    """The exits that a rule keeps when it is measured with all exits active."""
    everything = list(range(len(chain.exits)))
    return [i for i in everything[:-1] if rule(chain, everything, i)]


def remeasured(chain: Chain, rule: Rule) -> list[int]:
    """The exits that a greedy pass keeps: kept ones, the one in question and those not yet seen are active."""
    kept: list[int] = []
    for i in range(len(chain.exits) - 1):
        if rule(chain, [*kept, *range(i, len(chain.exits))], len(kept)):
            kept.append(i)
    return kept


def propose(table: ExitTable, costs: StageCosts, scores: NDArray[np.float32]) -> list[Seed]:
    """Every distinct placement that the rules make on a bank, each under the first rule that made it.

    At each cut the most accurate head stands for the cut. The TH rule is applied at each TH at which the fixed
    placement changes, so there is no grid.

    Args:
        table: The bank on calibration; the network's own classifier is its last row.
        costs: Knows every exit of the table.
        scores: As `score_table` gives them. [E, N]

    Raises:
        PolicyError: the last row is not an own classifier.
    """
    thresholds = reference_thresholds(table, scores)
    rows = best_per_cut(table.exits, table.accuracy)
    exits = tuple(table.exits[row] for row in rows)
    chain = Chain(exits, costs.select(exits).step, scores[rows], thresholds[rows])
    seeds: dict[tuple[ExitId, ...], Seed] = {}
    for rule, kept in _placements(chain):
        placed = tuple(exits[i] for i in kept)
        if placed:
            seeds.setdefault(placed, Seed(rule, placed))
    return list(seeds.values())


def _placements(chain: Chain) -> list[tuple[str, list[int]]]:
    """All rules' placements, by name."""
    made = [(f"percentile {n}", percentile(chain.prefix, n)) for n in range(SDN_EXITS, 0, -1)]
    for name, rule in (("panda_chain", keep_panda_chain), ("panda_shared", keep_panda_shared)):
        made += [(name, fixed(chain, rule)), (f"{name} re-measured", remeasured(chain, rule))]
    for form in TH_RULES:
        for th, kept in nested(th_star(chain, list(range(len(chain.exits))), form)):
            made.append((f"{form} {th:.4g}", kept))
            made.append((f"{form} {th:.4g} re-measured", remeasured(chain, partial(_keep_th, form=form, th=th))))
    return made
