"""`mode: joint-trials`: the plain way others work, kept as our baseline.

Every trial draws placement, heads, weights and thresholds together, trains that one network with random heads from
the backbone, and is one point of (calibration error, relative cost). No bank, no solver.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Literal

from eesearch.core.costs import Profile, stage_costs
from eesearch.core.design import Design
from eesearch.core.front import Evaluation
from eesearch.core.policy import Policy, Stop
from eesearch.exits.evaluate import evaluate
from eesearch.solve.optimism import FoldPoints, fixed_points
from eesearch.study.problem import Problem
from eesearch.study.space import NO_EXIT, Parameter, slots
from eesearch.study.trial import Outcome, Params, Report
from eesearch.training.fits import FOLDS, stratified_folds


class JointTrials(Problem):
    """Multi-objective trials: minimise the calibration error and the cost relative to the backbone's."""

    directions: tuple[Literal["minimize", "maximize"], ...] = ("minimize", "minimize")

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Up to `max_exits` exits, each with a head, alpha and a threshold; and the criterion."""
        return slots(self.space, self.materials.heads)

    def first(self) -> None:
        """There is no bank."""

    def seeds(self) -> Sequence[tuple[str, Params]]:
        """There is no table to seed from."""
        return []

    def run(self, params: Params, report: Report | None = None) -> Outcome:
        """Train the proposed design and evaluate it at the proposed thresholds; it is never stopped early."""
        design = self.proposed(params)
        if design is None:
            error = self.backbone(self.materials.profiles[0], "cal").error
            return Outcome(design=None, values=(error, 1.0))
        *early, output = self.workshop.table(design, "cal").exits
        slot = self.slots_of(params)
        stops = [Stop(exit=e, threshold=float(params[f"threshold:{slot[e.cut]}"])) for e in early]
        scoring = self.workshop.scoring(design, str(params["criterion"]))
        policy = Policy(
            stops=(*stops, Stop(exit=output, threshold=-inf)), criterion=scoring.criterion, fits=scoring.keys
        )
        work = self.workshop.work(design)
        outcome = Outcome(
            design=design,
            policy=policy,
            values=(0.0, 0.0),
            samples=work.samples,
            forward=work.forward,
            backward=work.backward,
        )
        return self.revalue(outcome)

    def proposed(self, params: Params) -> Design | None:
        """The design that the parameters stand for; None: the backbone itself."""
        by_cut, slot = dict(params), self.slots_of(params)
        for cut in self.cuts:
            number = slot.get(cut)
            by_cut[f"exit:{cut}"] = str(params[f"exit:{number}"]).rpartition(":")[2] if number else NO_EXIT
            by_cut[f"alpha:{cut}"] = params.get(f"alpha:{number}", self.space.alpha.start)
        return self.design(by_cut, start="backbone")

    def slots_of(self, params: Params) -> dict[str, int]:
        """Which slot places the exit of a cut; the first one, if several do."""
        found: dict[str, int] = {}
        for number in range(1, self.space.max_exits + 1):
            chosen = str(params[f"exit:{number}"])
            if chosen != NO_EXIT:
                found.setdefault(chosen.rpartition(":")[0], number)
        return found

    def revalue(self, outcome: Outcome) -> Outcome:
        """Error and relative cost on the present devices."""
        if outcome.design is None:
            return outcome
        ratios = []
        for profile in self.materials.profiles:
            (point,) = self.points(outcome, profile)
            ratios.append(point.costs[profile.axis].mean / self.backbone(profile, "cal").costs[profile.axis].mean)
        last = float(self.workshop.table(outcome.design, "cal").accuracy[-1])
        values = (point.error, sum(ratios) / len(ratios))
        return outcome.model_copy(update={"values": values, "last_accuracy": last})

    def points(self, outcome: Outcome, profile: Profile) -> tuple[Evaluation, ...]:
        """The trial's one point."""
        design, policy = outcome.design, outcome.policy
        if design is None or policy is None:
            return (self.backbone(profile, "cal"),)
        table, costs = self.replay(design, profile, policy.decision, "cal")
        fits = self.workshop.scoring(design, policy.criterion).fits
        return (evaluate(policy, table, costs, fits).made_by(design),)

    def unseen(self, outcome: Outcome, profile: Profile) -> tuple[FoldPoints, ...]:
        """The trial's one point, fold by fold: its thresholds were proposed, not chosen on calibration.

        Nothing where the point breaks the constraints, so that nobody can pick it.
        """
        design, (point,), right = outcome.design, self.points(outcome, profile), self.backbone_right("cal")
        if self.constraints(profile).broken(point, self.backbone(profile, "cal")):
            return ()
        if design is None or outcome.policy is None:
            table = self.workshop.backbone_table("cal")
            costs = stage_costs(profile, table.exits, self.space.decisions[0], profile.axis)
            fold = stratified_folds(table.labels, FOLDS, self.study.seed)
            return fixed_points(point.policy, table, costs, (), right, fold=fold)
        table, axes = self.replay(design, profile, point.policy.decision, "cal")
        scoring = self.workshop.scoring(design, point.policy.criterion)
        return fixed_points(point.policy, table, axes[0], scoring.fits, right, fold=scoring.fold)
