"""Several networks, `mode: bank`: the solver finds policies over all of them, and trials change single ones.

Trial 0 has the banks of all. A further trial replaces networks: one by itself after a training together with its exits
(any strategy), and those whose arguments are searched by the variants that it proposes. Everything else stays, so every
trial is worth the front of the cascade that it leads to.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from itertools import chain

import numpy as np

from eesearch.core.cascades import member_of
from eesearch.core.costs import Profile, StageCosts
from eesearch.core.design import Cascade, Design, ExitSpec
from eesearch.core.errors import StudyError
from eesearch.core.front import Evaluation, Front
from eesearch.core.policy import Policy, decision_name
from eesearch.exits.evaluate import evaluate
from eesearch.seeding.bolukbasi import Learned
from eesearch.seeding.placement import Seed
from eesearch.seeding.rising import by_rising_cost
from eesearch.solve.cascades import idk_whole
from eesearch.study.bank_problem import BankProblem
from eesearch.study.joined_workshop import JoinedWorkshop
from eesearch.study.points import Point
from eesearch.study.question import WarmStart
from eesearch.study.space import NO_EXIT, Choice, Parameter, parameters
from eesearch.study.trial import Outcome, Params, Report

ONE, WHOLE, MIXED = "one network with exits", "a cascade of whole networks", "networks and exits mixed"
"""What a policy is made of."""

NETWORK = "network"
"""The parameter that says which network is trained together with its exits."""


def made_of(policy: Policy) -> str:
    """One of `ONE`, `WHOLE`, `MIXED`; a single network as it is counts as one network."""
    exits = [e for e in policy.exits if not e.is_last_resort]
    if len({e.network for e in exits}) == 1:
        return ONE
    return WHOLE if all(e.is_output for e in exits) else MIXED


NOTHING_TAKEN = {"samples": 0, "forward": 0, "backward": 0}
"""Of an outcome: nothing was trained."""


class CascadeProblem(BankProblem):
    """Trial 0 has the banks of all networks; a policy may enter these in any order.

    Args:
        materials: With members.
        progress: As in `Problem`.

    Raises:
        StudyError: a warm start carries an exit that no network of fixed arguments has.
    """

    workshop_kind = JoinedWorkshop
    workshop: JoinedWorkshop

    @cached_property
    def single(self) -> dict[str, BankProblem]:
        """The problem of each network that may be trained together with its exits, by its name."""
        found: dict[str, BankProblem] = {}
        if self.space.trained:
            for spec in self.study.backbones:
                if spec.exits and not spec.vary:
                    found[spec.name] = BankProblem(self.materials.members[spec.name], self.progress)
                    found[spec.name].workshop = self.workshop.shop(spec.name)
        return found

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What is searched of networks; then which of them is trained, and everything about how, of each."""
        varied = tuple(chain(*(spec.choices for spec in self.study.backbones)))
        if not self.single:
            return varied
        heads = {cut: specs for name in self.single for cut, specs in self.materials.members[name].heads.items()}
        nobody = [NO_EXIT] if varied else []
        return (*varied, Choice(NETWORK, (*nobody, *self.single)), *parameters(self.space, heads))

    def proposed(self, params: Params) -> Cascade:
        """The cascade that the parameters stand for; that of trial 0, if they change nothing."""
        names = [spec.proposed(params).name for spec in self.study.backbones]
        name = str(params.get(NETWORK, NO_EXIT))
        if name == NO_EXIT:
            return self.workshop.cascade(names)
        design = self.single[name].proposed(params)
        return self.workshop.cascade(names, None if design is None else (name, design))

    def run(self, params: Params, report: Report | None = None) -> Outcome:
        """As in `BankProblem`; a proposal that is what trial 0 has trains nothing."""
        outcome = super().run(params, report)
        return outcome.model_copy(update=NOTHING_TAKEN) if outcome.design == self.workshop.bank_design else outcome

    def revalue(self, outcome: Outcome) -> Outcome:
        """As in `BankProblem`; what took nothing took nothing."""
        anew = super().revalue(outcome)
        free = outcome.design == self.workshop.bank_design and not outcome.samples
        return anew.model_copy(update=NOTHING_TAKEN) if free else anew

    def seeds(self) -> list[tuple[str, Params]]:
        """Warm starts, then the best placement of the seeding rules on each network, the costliest network first."""
        if not self.single:
            return []
        macs = {name: problem.materials.profiles[0].macs_prefix[-1] for name, problem in self.single.items()}
        falling = sorted(macs, key=lambda name: -macs[name])
        found = [(f"{name}: {o}", self._all(name, p)) for name in falling for o, p in self.single[name].seeds()[:1]]
        return self._warm + found

    def _all(self, name: str, params: Params) -> Params:
        """Parameters of a trial that trains one network, from those of that network alone."""
        filled: dict[str, str | float] = {NETWORK: name}
        for spec in self.study.backbones:
            own = spec.proposed({})
            filled |= {f"{spec.name}:{arg}": str(own.args[arg]) for arg in spec.vary}
        for problem in self.single.values():
            for cut in problem.cuts:
                filled[f"exit:{cut}"] = NO_EXIT
                if self.space.weighs:
                    filled[f"alpha:{cut}"] = self.space.alpha.start
        return {**filled, **params}

    def _from_warm_start(self, start: WarmStart) -> Params:
        """The placement on the network that most of its exits hang on, of those that may be trained with exits.

        Raises:
            StudyError: none of its exits hangs on such a network, or the network cannot carry them.
        """
        names = [e.cut.rpartition("/")[0] for e in start.exits]
        known = [name for name in names if name in self.single]
        if not known:
            raise StudyError(
                f"the warm start {start.name} does not suit several networks",
                got=f"exits of {', '.join(sorted(set(names)))}",
                expected=f"exits of one among {', '.join(self.single)}",
            )
        name = max(known, key=known.count)
        exits = tuple(e for e, own in zip(start.exits, names, strict=True) if own == name)
        return self._all(name, self.single[name]._from_warm_start(start.model_copy(update={"exits": exits})))

    def told(self, design: Design) -> tuple[ExitSpec, ...]:
        """Of the networks that the trial changed."""
        assert isinstance(design, Cascade)
        bank = self.workshop.bank_design.members
        changed = [member for name, member in design.members.items() if bank.get(name) != member]
        return tuple(chain(*(member.exits for member in changed or design.members.values())))

    @cached_property
    def replayed_seeds(self) -> list[tuple[Seed, float]]:
        """Whole networks by rising cost, and each before the reference, by falling value; nothing is trained for them.

        Their own thresholds are those at which each network breaks even with the reference; see `seed_evaluation`.
        """
        bank, valued = self.workshop.bank_design, []
        scoring = self.workshop.scoring(bank, *self.space.scorings[0])
        whole = [e for e in self.workshop.table(bank, "cal").exits if e.is_output]
        macs = [self.materials.members[member_of(e)].profiles[0].macs_prefix[-1] for e in whole]
        for seed in by_rising_cost(whole, macs):
            fronts = [self.solve(bank, profile, scoring, seed.exits) for profile in self.materials.profiles]
            valued.append((seed, self.value(fronts)))
        return sorted(valued, key=lambda pair: -pair[1])

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
