"""What turns designs into evaluations and fronts: shared by all modes, and by those whose trials are worth a front."""

from __future__ import annotations

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import ValidationError

from eesearch.core.constraints import Constraints
from eesearch.core.costs import DeviceProfile, StageCosts, stage_costs
from eesearch.core.design import OUTPUT, OWN, Design, ExitId, ExitSpec, Value, content_key
from eesearch.core.errors import CostError
from eesearch.core.front import Certificate, Evaluation, Front
from eesearch.core.policy import Scoring, decision_name
from eesearch.core.progress import Progress, silent
from eesearch.core.registry import STRATEGIES
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import backbone_evaluation, evaluate
from eesearch.exits.last_resort import with_last_resort
from eesearch.nets.exitnet import ExitNet
from eesearch.seeding.bolukbasi import Learned, bolukbasi, fewer, seeds
from eesearch.solve.exact import solve_front
from eesearch.solve.family import Effort, Family
from eesearch.study.materials import Materials, recall_text
from eesearch.study.space import NO_EXIT
from eesearch.study.trial import BANK, Outcome, Params, Report, StoppedEarlyError
from eesearch.study.workshop import SplitName, Workshop
from eesearch.training.plans import AfterEpoch

log = logging.getLogger(__name__)

SOLVER_VERSION = 2
"""Raised when the solver would answer otherwise, so that remembered fronts are solved again."""

RECENT_REPLAYS = 4
"""Tables with their costs that are kept in memory: a front is looked up point by point."""

SOLVED_BY = {"criteria", "answers", "gates", "max_exits", "levels", "last_resort"}
"""What of a search space decides what the solver finds."""


class Solved(Value):
    """What the solver found on a trained design for a device.

    Attributes:
        certificates: By decision: how far from the best of all policies its front can be.
        gates: Placements that learnt gates led to, by name.
    """

    points: tuple[Evaluation, ...]
    certificates: dict[str, Certificate]
    gates: dict[str, tuple[ExitId, ...]]


def solved_for(profile: DeviceProfile) -> dict[str, str]:
    """Facts about what the solver found, by which `study.upkeep` knows what nobody needs any more."""
    return {"solver": str(SOLVER_VERSION), "device": profile.device}


class Problem(ABC):
    """What all modes share: costs, evaluations and fronts of designs.

    Args:
        materials: Data, backbone, heads, profiles, store.
        progress: Listens to everything that takes time.
    """

    origin = BANK

    def __init__(self, materials: Materials, progress: Progress = silent) -> None:
        self.materials = materials
        self.workshop = Workshop(materials, progress)
        self.progress = progress
        self.study = materials.study
        self.space = materials.study.space
        self._gates: dict[tuple[str, str], tuple[list[Learned], list[Learned]]] = {}
        self._replays: dict[tuple[str, ...], tuple[ExitTable, tuple[StageCosts, ...]]] = {}

    @property
    def key(self) -> str:
        """Changes when values of trials are no longer comparable."""
        profiles = [p.model_dump(mode="json") for p in self.materials.profiles]
        objectives = self.study.objectives.model_dump(mode="json")
        return content_key(self.study.mode, objectives, profiles, SOLVER_VERSION, self.study.budget.solve)

    @property
    def cuts(self) -> tuple[str, ...]:
        """Names of the backbone's cuts."""
        return tuple(cut.name for cut in self.materials.backbone.cuts)

    def design(self, params: Params, *, start: Literal["bank", "backbone", "scratch"]) -> Design | None:
        """What the parameters propose to train, and where that starts; None if no cut carries a head."""
        exits = []
        for cut in self.cuts:
            head = str(params[f"exit:{cut}"])
            if head != NO_EXIT:
                alpha = float(params.get(f"alpha:{cut}", self.space.alpha.start))
                exits.append(ExitSpec(cut=cut, head=self.space.head(head), alpha=alpha))
        if not exits:
            return None
        bank, fresh, strategy = self.workshop.bank_design, self.materials.fresh, str(params["strategy"])
        scratch = start == "scratch" and fresh is not None
        training = self.study.training
        alone = scratch and "before" not in STRATEGIES[strategy].uses  # who else teaches the backbone?
        return self.weighed(
            Design(
                backbone=fresh.key if scratch and fresh is not None else bank.backbone,
                data=bank.data,
                strategy=strategy,
                exits=tuple(exits),
                train=training.backbone if alone else training.joint,
                seed=self.study.seed,
                start=bank.key if start == "bank" else "",
                loss=self.space.loss.spec(params),
                before=training.backbone if scratch else None,
            )
        )

    def weighed(self, design: Design) -> Design:
        """A design that knows what leaving at its exits costs, if its losses ask: in MACs, which every device knows."""
        uses = STRATEGIES[design.strategy].uses
        rises = "ramp" in uses and design.loss.ramp == "sdn"
        if not rises and "costs" not in uses:
            return design
        ids = [ExitId(network="", cut=e.cut, head=e.head.name) for e in design.exits]
        ids.append(ExitId(network="", cut=OUTPUT, head=OWN))
        profile = self.materials.profiles[0]
        paid = stage_costs(profile, ids, self.space.decisions[0], "macs").cumulative(ids)
        costs = tuple(float(cost / profile.macs_prefix[-1]) for cost in paid)
        loss = design.loss.model_copy(update={"costs": costs if "costs" in uses else ()})
        exits = design.exits
        if rises:
            exits = tuple(e.model_copy(update={"alpha": cost}) for e, cost in zip(exits, costs, strict=False))
        return design.model_copy(update={"loss": loss, "exits": exits})

    @abstractmethod
    def proposed(self, params: Params) -> Design | None:
        """The design that the parameters stand for; None: the backbone itself."""

    def taken(self, params: Params, epochs: int) -> int:
        """Samples that the training of proposed parameters takes until so many epochs are reported."""
        design = self.proposed(params)
        if design is None:
            return 0
        work = self.workshop.work(design)
        return work.upto(work.before + epochs).samples

    def replay(
        self, design: Design, profile: DeviceProfile, decision: str, split: SplitName
    ) -> tuple[ExitTable, tuple[StageCosts, ...]]:
        """A design's table, and the steps between its exits on every axis of the profile, its own axis first."""
        key = (design.key, profile.device, decision, split)
        if key not in self._replays:
            found = self.priced(self.workshop.table(design, split), profile, decision)
            while len(self._replays) >= RECENT_REPLAYS:
                del self._replays[next(iter(self._replays))]
            self._replays[key] = found
        return self._replays[key]

    def priced(
        self, table: ExitTable, profile: DeviceProfile, decision: str
    ) -> tuple[ExitTable, tuple[StageCosts, ...]]:
        """A table and its steps, as `replay` gives them; with the last resort, if there is one."""
        costs = tuple(stage_costs(profile, table.exits, decision, axis) for axis in profile.axes)
        if self.space.last_resort:
            return with_last_resort(table, costs, {"params": 0.0, **self.space.last_resort})
        return table, costs

    def backbone(self, profile: DeviceProfile, split: SplitName) -> Evaluation:
        """The unmodified backbone: the zero of drops and the unit of relative costs."""
        table = self.workshop.backbone_table(split)
        costs = [stage_costs(profile, table.exits, self.space.decisions[0], axis) for axis in profile.axes]
        return backbone_evaluation(table, costs, table.exits[-1])

    def reported(self, evaluation: Evaluation, design: Design, profile: DeviceProfile) -> Evaluation:
        """The same policy on the test split."""
        policy = evaluation.policy
        table, costs = self.replay(design, profile, policy.decision, "test")
        return evaluate(policy, table, costs, self.workshop.fits(policy.fits)).made_by(design)

    def constraints(self, profile: DeviceProfile) -> Constraints:
        """Those that this device can tell: one that was not timed knows no latency.

        Raises:
            CostError: the profile is too old to know parameters.
        """
        asked = self.study.objectives.constraints
        if any(limit.axis == "params" for limit in asked.limits) and "params" not in profile.axes:
            raise CostError(f"the profile of {profile.device} has no parameters", do="Measure it again.")
        return asked.model_copy(update={"limits": tuple(lim for lim in asked.limits if lim.axis in profile.axes)})

    def front(self, points: Iterable[Evaluation], profile: DeviceProfile) -> Front:
        """The calibration front of these points on a device: of those that keep the constraints, if any do."""
        backbone = self.backbone(profile, "cal")
        kept = self.constraints(profile).kept(tuple(points), backbone)
        return Front(kept, backbone=backbone, axis=profile.axis, device=profile.device)

    def value(self, fronts: Sequence[Front]) -> float:
        """Value of a trial: mean over devices of the hypervolume near the backbone's accuracy.

        Where no policy keeps the constraints: minus the sum of what the least violating one breaks them by.
        """
        drop, values = self.study.objectives.max_drop, []
        for front, profile in zip(fronts, self.materials.profiles, strict=True):
            broken = self.constraints(profile).broken(front[0], front.backbone) if len(front) else {}
            values.append(-sum(broken.values()) if broken else front.hypervolume(max_drop=drop))
        return sum(values) / len(values)

    @property
    def reference(self) -> tuple[tuple[float, float], ...]:
        """Per device: the backbone's error on calibration, and the deepest error that counts."""
        errors = [self.backbone(profile, "cal").error for profile in self.materials.profiles]
        return tuple((error, error + self.study.objectives.max_drop) for error in errors)

    @abstractmethod
    def points(self, outcome: Outcome, profile: DeviceProfile) -> tuple[Evaluation, ...]:
        """What a trial found on a device, on calibration."""

    def fronts(self, outcome: Outcome) -> tuple[tuple[tuple[float, float], ...], ...]:
        """Per device: (error, cost / backbone's cost) of the trial's front; empty where it keeps no constraint."""
        fronts = []
        for profile in self.materials.profiles:
            front = self.front(self.points(outcome, profile), profile)
            broken = len(front) and self.constraints(profile).broken(front[0], front.backbone)
            fronts.append(() if broken else tuple((float(error), float(cost)) for error, cost in front.values))
        return tuple(fronts)


class FrontProblem(Problem):
    """A trial trains a design, and is worth the front that the solver finds for it."""

    directions: tuple[Literal["minimize", "maximize"], ...] = ("maximize",)

    def revalue(self, outcome: Outcome) -> Outcome:
        """The same design under the present devices and objectives: solved again, not trained."""
        if outcome.design is None:
            return outcome
        anew = self.outcome(outcome.design)
        return anew.model_copy(update={"samples": outcome.samples or anew.samples})  # what it did cost stays

    def outcome(self, design: Design, report: Report | None = None) -> Outcome:
        """Train a design, solve for its fronts, and value them.

        Args:
            design: What to train.
            report: Told what the design is worth after each epoch but the last, if it is trained now.

        Raises:
            StoppedEarlyError: `report` said so.
        """
        if report is not None:
            self.workshop.table(design, "cal", self._reporting(design, report))
        value = self.value([self.device_front(design, p) for p in self.materials.profiles])
        table, work = self.workshop.table(design, "cal"), self.workshop.work(design)
        notes = STRATEGIES[design.strategy].notes
        return Outcome(
            design=design,
            values=(value,),
            last_accuracy=float(table.accuracy[-1]),
            samples=work.samples,
            forward=work.forward,
            backward=work.backward,
            notes=notes(table, design) if notes else {},
        )

    def _reporting(self, design: Design, report: Report) -> AfterEpoch:
        """Reports come after each epoch of the last phase but its last: a network in the making is worth little yet."""
        work = self.workshop.work(design)

        def tell(net: ExitNet, epochs: int) -> None:
            done = epochs - work.before
            if 0 < done < work.last and report(done, self.value_so_far(net, design)):
                raise StoppedEarlyError(work.upto(epochs).samples)

        return tell

    def value_so_far(self, net: ExitNet, design: Design) -> float:
        """What a network is worth in the middle of its training: as a placement, by the criteria that its losses mean.

        These are the first of the space, and those of the strategy.
        """
        strategy, scorings = STRATEGIES[design.strategy], self.space.scorings[:1]
        if strategy.finish is not None:
            net = copy.deepcopy(net)
            strategy.finish(net, design)
        looks = [self.workshop.look(net, *s) for s in dict.fromkeys([*scorings, *strategy.scorings(design.loss)])]
        fronts = []
        for profile in self.materials.profiles:
            points: list[Evaluation] = []
            for seen, scoring in looks:
                table, costs = self.priced(seen, profile, decision_name(scoring.criterion, scoring.answer))
                points += self._solve(table, costs, profile, scoring, rough=True).points
            fronts.append(self.front(points, profile))
        return self.value(fronts)

    def device_front(self, design: Design, profile: DeviceProfile) -> Front:
        """The whole front of a trained design on a device."""
        return self.front(self.solved(design, profile).points, profile)

    def solved(self, design: Design, profile: DeviceProfile) -> Solved:
        """All policies on a trained design that may be on the front of a device, found once and remembered."""
        space = self.space.model_dump(mode="json", include=SOLVED_BY)
        asked = (SOLVER_VERSION, space, self.constraints(profile).model_dump(mode="json"), self.study.budget.solve)
        key = content_key("front", design.key, profile.model_dump(mode="json"), *asked)
        known = recall_text(self.materials.store, "front", key)
        if known is not None:
            try:
                remembered = Solved.model_validate_json(known)
            except ValidationError:
                log.warning("the front %s was written by another eesearch. It is solved again.", key)
            else:
                if self.workshop.has_fits(sorted({fit for point in remembered.points for fit in point.policy.fits})):
                    return remembered
        solved = self._solved(design, profile)
        self.materials.store.put_text("front", key, solved.model_dump_json(), solved_for(profile))
        return solved

    def _solved(self, design: Design, profile: DeviceProfile) -> Solved:
        points: list[Evaluation] = []
        certificates: dict[str, Certificate] = {}
        for criterion, answer in self.space.scorings_of(design.strategy, design.loss):
            front = self.solve(design, profile, self.workshop.scoring(design, criterion, answer))
            points += front.points
            if front.certificate is not None:
                certificates[decision_name(criterion, answer)] = front.certificate
        learns = self.space.gates and design.strategy == "separate"
        free, family = self.learned(design, profile) if learns else ([], [])
        points += [self.gated(learned, design, profile) for learned in family]
        placed = {seed.rule: seed.exits for seed in seeds(free)}
        return Solved(points=self.front(points, profile).points, certificates=certificates, gates=placed)

    def solve(
        self, design: Design, profile: DeviceProfile, scoring: Scoring, exits: Sequence[ExitId] | None = None
    ) -> Front:
        """The front of one scoring on a trained design; or on some of its exits, where only its value is of interest.

        A value looks no deeper than the study's `max_drop`, and a rough front is enough to rank placements by.
        """
        table, costs = self.replay(design, profile, decision_name(scoring.criterion, scoring.answer), "cal")
        if exits is not None:
            table = table.select([e for e in table.exits if e in exits or e.is_output or e.is_last_resort])
        with self.materials.watch.phase("solve"):
            solved = self._solve(table, costs, profile, scoring, rough=exits is not None)
        points = [point.made_by(design) for point in solved.points]
        backbone, certificate = self.backbone(profile, "cal"), solved.certificate
        return Front(points, backbone=backbone, axis=profile.axis, device=profile.device, certificate=certificate)

    def _solve(
        self, table: ExitTable, costs: Sequence[StageCosts], profile: DeviceProfile, scoring: Scoring, *, rough: bool
    ) -> Front:
        constraints = self.constraints(profile)
        if rough:
            drops = [d for d in (constraints.max_drop, self.study.objectives.max_drop) if d is not None]
            own = float(table.accuracy[table.row(next(e for e in table.exits if e.is_output))])
            better = max(0.0, own - self.backbone(profile, "cal").accuracy)  # the solver counts from the own classifier
            constraints = constraints.model_copy(update={"max_drop": min(drops) + better})
        levels = None if self.space.levels == "all" else self.space.levels
        return solve_front(
            table,
            costs,
            scoring=scoring,
            family=Family(self.space.max_exits, levels, constraints),
            effort=Effort(seconds=self.study.budget.solve, refine=not rough),
            progress=silent if rough else self.progress,
        )

    def gated(self, learned: Learned, design: Design, profile: DeviceProfile) -> Evaluation:
        """A policy with gates on calibration; its fit is kept."""
        table, costs = self.replay(design, profile, "gate", "cal")
        self.workshop.keep_fit(learned.fit)
        return evaluate(learned.policy, table, costs, self.workshop.fits(learned.policy.fits)).made_by(design)

    def learned(self, design: Design, profile: DeviceProfile) -> tuple[list[Learned], list[Learned]]:
        """Policies with gates learnt on a trained design: with as many exits as they like, and with `max_exits`."""
        key = (design.key, profile.device)
        if key not in self._gates:
            self._gates[key] = self._learn(design, profile)
        return self._gates[key]

    def _learn(self, design: Design, profile: DeviceProfile) -> tuple[list[Learned], list[Learned]]:
        table = self.workshop.table(design, "cal")
        costs = stage_costs(profile, table.exits, "gate", profile.axis)
        scoring, seed = self.workshop.scoring(design, self.space.rule_criterion), self.study.seed
        with self.materials.watch.phase("learn gates"):
            free, most = bolukbasi(table, costs, scoring=scoring, seed=seed), self.space.max_exits
            family = [
                one if len(one.placed) <= most else fewer(one, table, costs, most, scoring=scoring, seed=seed)
                for one in free
            ]
        return free, family

    def points(self, outcome: Outcome, profile: DeviceProfile) -> tuple[Evaluation, ...]:
        """The trial's front on a device."""
        return self.device_front(outcome.design, profile).points if outcome.design else ()
