"""`mode: bank`: a trial trains a design, the solver finds its whole front; thresholds are never sampled."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import cached_property
from math import inf
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from eesearch.core.costs import DeviceProfile, StageCosts, stage_costs
from eesearch.core.design import Design, ExitId, ExitSpec, content_key
from eesearch.core.front import Evaluation, Front
from eesearch.core.policy import Policy, Stop
from eesearch.core.progress import Progress, silent
from eesearch.core.store import write_atomic
from eesearch.exits.evaluate import backbone_evaluation, evaluate, tally
from eesearch.exits.routing import score_table
from eesearch.seeding.bank import propose, reference_thresholds
from eesearch.seeding.placement import Seed
from eesearch.solve.exact import solve_front
from eesearch.study.materials import Materials
from eesearch.study.space import NO_EXIT, Parameter, parameters
from eesearch.study.trial import Outcome, Params
from eesearch.study.workshop import SplitName, Workshop

log = logging.getLogger(__name__)

ENQUEUED_SEEDS = 3
"""How many distinct placements of the seeding rules are trained jointly before the sampler proposes."""

SOLVER_VERSION = 1
"""Raised when the solver would answer otherwise, so that remembered fronts are solved again."""

_EVALUATIONS = TypeAdapter(tuple[Evaluation, ...])


class Problem:
    """What both modes share: costs, evaluations and fronts of designs.

    Args:
        materials: Data, backbone, heads, profiles, store.
        progress: Listens to everything that takes time.
    """

    def __init__(self, materials: Materials, progress: Progress = silent) -> None:
        self.materials = materials
        self.workshop = Workshop(materials, progress)
        self.progress = progress
        self.study = materials.study
        self.space = materials.study.space

    @property
    def key(self) -> str:
        """Changes when values of trials are no longer comparable."""
        profiles = [p.model_dump(mode="json") for p in self.materials.profiles]
        return content_key(self.study.mode, self.study.objectives.model_dump(mode="json"), profiles)

    @property
    def cuts(self) -> tuple[str, ...]:
        """Names of the backbone's cuts."""
        return tuple(cut.name for cut in self.materials.backbone.cuts)

    def design(self, params: Params, *, start: str) -> Design | None:
        """What the parameters propose to train; None if no cut carries a head."""
        exits = []
        for cut in self.cuts:
            head = str(params[f"exit:{cut}"])
            if head != NO_EXIT:
                exits.append(ExitSpec(cut=cut, head=self.space.head(head), alpha=float(params[f"alpha:{cut}"])))
        if not exits:
            return None
        bank = self.workshop.bank_design
        return Design(
            backbone=bank.backbone,
            data=bank.data,
            strategy=str(params["strategy"]),
            exits=tuple(exits),
            train=self.study.training.joint,
            seed=self.study.seed,
            start=start,
        )

    def costs(self, design: Design, profile: DeviceProfile, criterion: str) -> tuple[StageCosts, ...]:
        """Steps between the design's exits on every axis of the profile, the device's own axis first."""
        exits = self.workshop.table(design, "cal").exits
        return tuple(stage_costs(profile, exits, criterion, axis) for axis in profile.axes)

    def backbone(self, profile: DeviceProfile, split: SplitName) -> Evaluation:
        """The unmodified backbone: the zero of drops and the unit of relative costs."""
        table = self.workshop.backbone_table(split)
        costs = [stage_costs(profile, table.exits, self.space.criteria[0], axis) for axis in profile.axes]
        return backbone_evaluation(table, costs, table.exits[-1])

    def reported(self, evaluation: Evaluation, design: Design, profile: DeviceProfile) -> Evaluation:
        """The same policy on the test split."""
        return evaluate(
            evaluation.policy,
            self.workshop.table(design, "test"),
            self.costs(design, profile, evaluation.policy.criterion),
            self.workshop.fit(design),
        ).made_by(design)

    def front(self, points: Iterable[Evaluation], profile: DeviceProfile) -> Front:
        """The calibration front of these points on a device."""
        backbone = self.backbone(profile, "cal")
        return Front(points, backbone=backbone, axis=profile.axis, device=profile.device)

    def value(self, fronts: Sequence[Front]) -> float:
        """Value of a trial (DESIGN: mean over devices of the hypervolume near the backbone's accuracy)."""
        drop = self.study.objectives.max_drop
        return sum(front.hypervolume(max_drop=drop) for front in fronts) / len(fronts)


class BankProblem(Problem):
    """The bank is trial 0; the seeds' placements and then the sampler's designs are trained jointly."""

    directions: tuple[Literal["minimize", "maximize"], ...] = ("maximize",)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The flat static list of a trained design; empty if the space trains nothing beyond the bank."""
        return parameters(self.space, self.materials.heads) if self.space.trained else ()

    def first(self) -> Outcome:
        """Train the bank; its front is trial 0's."""
        return self._outcome(self.workshop.bank_design)

    def run(self, params: Params) -> Outcome:
        """Train one joint design, warm-started from the backbone and the bank's heads."""
        design = self.design(params, start=self.workshop.bank_design.key)
        if design is None:
            fronts = [self.front([self.backbone(p, "cal")], p) for p in self.materials.profiles]
            return Outcome(design=None, values=(self.value(fronts),))
        return self._outcome(design)

    def revalue(self, outcome: Outcome) -> Outcome:
        """The same design under the present devices and objectives: solved again, not trained."""
        return self._outcome(outcome.design) if outcome.design else outcome

    def _outcome(self, design: Design) -> Outcome:
        value = self.value([self.device_front(design, p) for p in self.materials.profiles])
        last = float(self.workshop.table(design, "cal").accuracy[-1])
        return Outcome(design=design, values=(value,), last_accuracy=last)

    def device_front(self, design: Design, profile: DeviceProfile) -> Front:
        """The whole front of a trained design on a device, solved once and remembered."""
        space = self.space
        solver = (SOLVER_VERSION, space.criteria, space.max_exits, space.levels)
        key = content_key("front", design.key, profile.model_dump(mode="json"), solver)
        file = self.materials.store.root / "front" / f"{key}.json"
        if file.exists():
            try:
                return self.front(_EVALUATIONS.validate_json(file.read_bytes()), profile)
            except ValidationError:
                log.warning("%s is damaged. It is solved again.", file)
        points = [p for criterion in space.criteria for p in self.solve(design, profile, criterion).points]
        front = self.front(points, profile)
        write_atomic(file, _EVALUATIONS.dump_json(front.points))
        return front

    def solve(
        self, design: Design, profile: DeviceProfile, criterion: str, exits: Sequence[ExitId] | None = None
    ) -> Front:
        """All policies of one criterion on a trained design, or on some of its exits and the own classifier."""
        table, fit = self.workshop.table(design, "cal"), self.workshop.fit(design)
        costs = self.costs(design, profile, criterion)
        if exits is not None:
            table = table.select([e for e in table.exits if e in exits or e.is_output])
        with self.materials.watch.phase("solve"):
            solved = solve_front(
                table,
                costs[0],
                max_exits=self.space.max_exits,
                criterion=criterion,
                levels=self.space.levels,
                fit=fit,
                progress=self.progress,
            )
            scores, points = score_table(table, criterion, fit), []
            for point in solved.points:  # the solver knows one axis: look the others up
                rows = [table.row(e) for e in point.policy.exits]
                points.append(tally(point.policy, scores[rows], table.correct[rows], costs).made_by(design))
        return self.front(points, profile)

    def points(self, outcome: Outcome, profile: DeviceProfile) -> tuple[Evaluation, ...]:
        """The trial's front on a device."""
        return self.device_front(outcome.design, profile).points if outcome.design else ()

    def seeds(self) -> list[tuple[str, Params]]:
        """The best distinct placements of the seeding rules, as parameters of joint designs."""
        if not self.space.trained:
            return []
        return [(seed.rule, self._as_params(seed)) for seed, _ in self.replayed_seeds[:ENQUEUED_SEEDS]]

    @cached_property
    def replayed_seeds(self) -> list[tuple[Seed, float]]:
        """Distinct placements that the rules propose on the bank, by falling value; solved on the bank, no training."""
        distinct: dict[tuple[ExitId, ...], Seed] = {}
        for profile in self.materials.profiles:
            for seed in self._proposed(profile):
                rule = seed.rule if len(self.materials.profiles) == 1 else f"{seed.rule} ({profile.device})"
                distinct.setdefault(seed.exits, Seed(rule, seed.exits))
        bank, criterion = self.workshop.bank_design, self.space.criteria[0]
        valued = []
        for seed in distinct.values():
            fronts = [self.solve(bank, p, criterion, seed.exits) for p in self.materials.profiles]
            valued.append((seed, self.value(fronts)))
        return sorted(valued, key=lambda pair: -pair[1])

    def _proposed(self, profile: DeviceProfile) -> list[Seed]:
        bank, criterion = self.workshop.bank_design, self.space.criteria[0]
        table = self.workshop.table(bank, "cal")
        scores = score_table(table, criterion, self.workshop.fit(bank))
        return propose(table, self.costs(bank, profile, criterion)[0], scores)

    def seed_evaluation(self, seed: Seed, profile: DeviceProfile) -> Evaluation:
        """A rule's placement at the rule's own thresholds: leave where that costs no accuracy on calibration."""
        bank, criterion = self.workshop.bank_design, self.space.criteria[0]
        table, fit = self.workshop.table(bank, "cal"), self.workshop.fit(bank)
        thresholds = reference_thresholds(table, score_table(table, criterion, fit))
        stops: list[Stop] = []
        for exit_id in (*seed.exits, table.exits[-1]):
            stops.append(Stop(exit=exit_id, threshold=float(thresholds[table.row(exit_id)])))
            if stops[-1].threshold == -inf:  # everybody leaves: what comes after is never met
                break
        policy = Policy(stops=tuple(stops), criterion=criterion, fits=(fit.key,))
        costs = self.costs(bank, profile, criterion)
        return evaluate(policy, table, costs, fit).made_by(bank)

    def _as_params(self, seed: Seed) -> Params:
        chosen = {e.cut: e.head for e in seed.exits}
        params: dict[str, str | float] = {"strategy": self.space.trained[0]}
        for cut in self.cuts:
            params |= {f"exit:{cut}": chosen.get(cut, NO_EXIT), f"alpha:{cut}": self.space.alpha.start}
        return params
