"""Several networks, `mode: bank`: the banks of all are trained, and the solver finds policies over all of them."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from eesearch.core.costs import Profile, StageCosts
from eesearch.core.design import Design
from eesearch.core.front import Evaluation, Front
from eesearch.core.policy import Policy, decision_name
from eesearch.core.progress import Progress, silent
from eesearch.exits.evaluate import evaluate
from eesearch.seeding.bolukbasi import Learned
from eesearch.seeding.placement import Seed
from eesearch.solve.cascades import idk_whole
from eesearch.study.bank_problem import BankProblem
from eesearch.study.joined_workshop import JoinedWorkshop
from eesearch.study.materials import Materials
from eesearch.study.points import Point

ONE, WHOLE, MIXED = "one network with exits", "a cascade of whole networks", "networks and exits mixed"
"""What a policy is made of."""


def made_of(policy: Policy) -> str:
    """One of `ONE`, `WHOLE`, `MIXED`; a single network as it is counts as one network."""
    exits = [e for e in policy.exits if not e.is_last_resort]
    if len({e.network for e in exits}) == 1:
        return ONE
    return WHOLE if all(e.is_output for e in exits) else MIXED


class CascadeProblem(BankProblem):
    """Trial 0 is all there is to train: heads of every network; a policy may enter the networks in any order.

    Args:
        materials: With members.
        progress: As in `Problem`.
    """

    def __init__(self, materials: Materials, progress: Progress = silent) -> None:
        super().__init__(materials, progress)
        self.workshop: JoinedWorkshop = JoinedWorkshop(materials, progress)

    @cached_property
    def replayed_seeds(self) -> list[tuple[Seed, float]]:
        """None: rules place exits on one network, and nothing is trained that could begin with them."""
        return []

    def _gates_of(self, design: Design, profile: Profile) -> tuple[list[Learned], list[Learned]]:
        """None: gates are learnt for the exits of one network."""
        return [], []

    def layer(self, kind: str, profile: Profile) -> tuple[Evaluation, ...]:
        """The calibration front of the policies of one kind on a device, by the first decision of the space.

        Args:
            kind: `ONE` or `WHOLE`.
            profile: Of the device.
        """
        design, (criterion, answer) = self.workshop.bank_design, self.space.scorings[0]
        table, costs = self.replay(design, profile, decision_name(criterion, answer), "cal")
        if kind == WHOLE:
            table = table.select([e for e in table.exits if e.is_output or e.is_last_resort])
        else:
            costs = tuple(apart(cost) for cost in costs)
        scoring = self.workshop.scoring(design, criterion, answer)
        points = [e.made_by(design) for e in self._solve(table, costs, profile, scoring, rough=False).points]
        return self.front(points, profile).points

    def idk(self, profile: Profile) -> tuple[Point, ...]:
        """IDK cascades (Wang et al. 2018) of whole networks, by rising cost, as they are built there.

        They decide by the surest network so far, which is priced as the first decision of the space. They know of no
        tiers, and stay on the first.
        """
        design, decision = self.workshop.bank_design, self.space.decisions[0]
        fits = self.workshop.scoring(design, "max_prob").fits
        (table, costs), (tested, _) = (self.replay(design, profile, decision, split) for split in ("cal", "test"))
        whole = [e for e in table.exits if e.is_output and table.row(e) == table.row(e.bare)]
        policies = idk_whole(table.select(whole), costs[0], fits)
        cal = [evaluate(policy, table, costs, fits).made_by(design) for policy in policies]
        front = Front(cal, backbone=self.backbone(profile, "cal"), axis=profile.axis, device=profile.device)
        return tuple(Point(cal=e, test=evaluate(e.policy, tested, costs, fits).made_by(design)) for e in front.points)


def apart(costs: StageCosts) -> StageCosts:
    """The same steps, but none from one network to another."""
    networks = np.array([e.network for e in costs.exits])
    asked = np.array([e.is_last_resort for e in costs.exits])
    apart = (networks[:, None] != networks) & ~asked
    forbidden = np.concatenate([np.zeros((1, len(networks)), np.bool_), apart])
    calls = None if costs.calls is None else np.where(forbidden, np.inf, costs.calls)
    return replace(costs, step=np.where(forbidden, np.inf, costs.step), calls=calls)
