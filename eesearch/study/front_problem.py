"""Modes whose trials are worth a front: a design is trained, and the solver finds its policies."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Literal

from pydantic import ValidationError

from eesearch.core.costs import Profile, StageCosts, stage_costs
from eesearch.core.design import Design, ExitId, Value, content_key
from eesearch.core.front import MAX_DROP, Certificate, Evaluation, Front
from eesearch.core.policy import Scoring, decision_name
from eesearch.core.progress import Progress, silent
from eesearch.core.registry import STRATEGIES
from eesearch.core.tables import ExitTable, reference_row
from eesearch.exits.evaluate import evaluate
from eesearch.nets.exitnet import ExitNet
from eesearch.seeding.bolukbasi import Learned, bolukbasi, fewer, seeds
from eesearch.solve.exact import solve_front
from eesearch.solve.family import Effort, Family
from eesearch.solve.optimism import FoldPoints, fixed_points, fold_points
from eesearch.study.materials import Materials, recall, recall_text
from eesearch.study.problem import SOLVER_VERSION, Problem, solved_for
from eesearch.study.trial import Outcome, Report, StoppedEarlyError
from eesearch.training.plans import AfterEpoch

log = logging.getLogger(__name__)

SOLVED_BY = {"criteria", "answers", "gates", "max_exits", "shared_threshold", "levels", "last_resort"}
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


class FrontProblem(Problem):
    """A trial trains a design, and is worth the front that the solver finds for it."""

    directions: tuple[Literal["minimize", "maximize"], ...] = ("maximize",)

    def __init__(self, materials: Materials, progress: Progress = silent) -> None:
        super().__init__(materials, progress)
        self._gates: dict[tuple[str, str], tuple[list[Learned], list[Learned]]] = {}
        self._folds: dict[str, tuple[FoldPoints, ...]] = {}

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
        for profile in self.materials.profiles:
            self.folded(design, profile)  # now, by who trained it: answers are composed by one process
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

    def device_front(self, design: Design, profile: Profile) -> Front:
        """The whole front of a trained design on a device."""
        return self.front(self.solved(design, profile).points, profile)

    def solved(self, design: Design, profile: Profile) -> Solved:
        """All policies on a trained design that may be on the front of a device, found once and remembered."""
        key = self._key("front", design, profile)
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

    def _key(self, kind: str, design: Design, profile: Profile) -> str:
        """Of what the solver finds on a design for a device."""
        space = self.space.model_dump(mode="json", include=SOLVED_BY)
        asked = (SOLVER_VERSION, space, self.constraints(profile).model_dump(mode="json"), self.study.budget.solve)
        return content_key(kind, design.key, profile.model_dump(mode="json"), *asked)

    def folded(self, design: Design, profile: Profile) -> tuple[FoldPoints, ...]:
        """What the solver finds without each fold of calibration, found once and remembered. [V]"""
        key = self._key("folds", design, profile)
        if key not in self._folds:
            known = recall(self.materials.store, "folds", key)
            if known is None:
                with self.materials.watch.phase("estimate optimism"):
                    found = self._folded(design, profile)
                arrays = {name: array for v, each in enumerate(found) for name, array in each.arrays(v).items()}
                facts = {"folds": str(len(found)), **solved_for(profile)}
                self.materials.store.put("folds", key, arrays, facts)
            else:
                folds = range(int(known[1]["folds"]))
                found = tuple(FoldPoints.from_arrays(known[0], v) for v in folds)
            self._folds[key] = found
        return self._folds[key]

    def _folded(self, design: Design, profile: Profile) -> tuple[FoldPoints, ...]:
        tables: list[tuple[FoldPoints, ...]] = []
        right, effort = self.backbone_right("cal"), Effort(seconds=self.study.budget.solve)
        scorings = self.space.scorings_of(design.strategy, design.loss)
        fold = self.workshop.scoring(design, *scorings[0]).fold
        for done, (criterion, answer) in enumerate(scorings):
            self.progress("estimate optimism", done, len(scorings))
            scoring = self.workshop.scoring(design, criterion, answer)
            table, costs = self.replay(design, profile, decision_name(criterion, answer), "cal")
            family = self._family(table, profile, deepest=MAX_DROP)
            tables.append(fold_points(table, costs, scoring, right, fold=fold, family=family, effort=effort))
        backbone, constraints = self.backbone(profile, "cal"), self.constraints(profile)
        for learned in self._gates_of(design, profile)[1]:  # a fold is scored with what was learnt without it
            if constraints.broken(self.gated(learned, design, profile), backbone):
                continue  # nobody can pick it
            table, costs = self.replay(design, profile, "gate", "cal")
            fits = (*self.workshop.scoring(design, self.space.rule_criterion).fits, learned.fit)
            tables.append(fixed_points(learned.policy, table, costs[0], fits, right, fold=fold))
        self.progress("estimate optimism", len(scorings), len(scorings))
        return tuple(first.merge(others) for first, *others in zip(*tables, strict=True))

    def unseen(self, outcome: Outcome, profile: Profile) -> tuple[FoldPoints, ...]:
        """What the trial found without each fold of calibration, and what that does in the fold. [V]"""
        return self.folded(outcome.design, profile) if outcome.design else ()

    def _solved(self, design: Design, profile: Profile) -> Solved:
        points: list[Evaluation] = []
        certificates: dict[str, Certificate] = {}
        for criterion, answer in self.space.scorings_of(design.strategy, design.loss):
            front = self.solve(design, profile, self.workshop.scoring(design, criterion, answer))
            points += front.points
            if front.certificate is not None:
                certificates[decision_name(criterion, answer)] = front.certificate
        free, family = self._gates_of(design, profile)
        points += [self.gated(learned, design, profile) for learned in family]
        placed = {seed.rule: seed.exits for seed in seeds(free)}
        return Solved(points=self.front(points, profile).points, certificates=certificates, gates=placed)

    def solve(self, design: Design, profile: Profile, scoring: Scoring, exits: Sequence[ExitId] | None = None) -> Front:
        """The front of one scoring on a trained design; or on some of its exits, where only its value is of interest.

        A value looks no deeper than the study's `max_drop`, and a rough front is enough to rank placements by.
        """
        table, costs = self.replay(design, profile, decision_name(scoring.criterion, scoring.answer), "cal")
        if exits is not None:
            own = {table.exits[row].network for row in [reference_row(table.exits)] if row is not None}
            ends = [e for e in table.exits if e.is_last_resort or (e.is_output and e.network in own)]  # on any tier
            table = table.select([e for e in table.exits if e.bare in exits or e in ends])
        with self.materials.watch.phase("solve"):
            solved = self._solve(table, costs, profile, scoring, rough=exits is not None)
        points = [point.made_by(design) for point in solved.points]
        backbone, certificate = self.backbone(profile, "cal"), solved.certificate
        return Front(points, backbone=backbone, axis=profile.axis, device=profile.device, certificate=certificate)

    def _solve(
        self, table: ExitTable, costs: Sequence[StageCosts], profile: Profile, scoring: Scoring, *, rough: bool
    ) -> Front:
        return solve_front(
            table,
            costs,
            scoring=scoring,
            family=self._family(table, profile, deepest=self.study.objectives.max_drop if rough else None),
            effort=Effort(seconds=self.study.budget.solve, refine=not rough),
            progress=silent if rough else self.progress,
        )

    def _family(self, table: ExitTable, profile: Profile, *, deepest: float | None = None) -> Family:
        """The policies of the space that keep the constraints; `deepest`: and lose no more than that."""
        constraints = self.constraints(profile)
        drops = [d for d in (constraints.max_drop, deepest) if d is not None]
        if drops:
            own = float(table.accuracy[reference_row(table.exits)])
            better = max(0.0, own - self.backbone(profile, "cal").accuracy)  # the solver counts from the own classifier
            constraints = constraints.model_copy(update={"max_drop": min(1.0, min(drops) + better)})
        levels = None if self.space.levels == "all" else self.space.levels
        return Family(self.space.max_exits, levels, constraints, self.space.shared_threshold)

    def gated(self, learned: Learned, design: Design, profile: Profile) -> Evaluation:
        """A policy with gates on calibration; its fit is kept."""
        table, costs = self.replay(design, profile, "gate", "cal")
        self.workshop.keep_fit(learned.fit)
        return evaluate(learned.policy, table, costs, self.workshop.fits(learned.policy.fits)).made_by(design)

    def _gates_of(self, design: Design, profile: Profile) -> tuple[list[Learned], list[Learned]]:
        """Those of `learned`, if the study asks for gates on such a design."""
        learns = self.space.gates and design.strategy == "separate" and design != self.workshop.draft_design
        return self.learned(design, profile) if learns else ([], [])

    def learned(self, design: Design, profile: Profile) -> tuple[list[Learned], list[Learned]]:
        """Policies with gates learnt on a trained design: with as many exits as they like, and with `max_exits`."""
        key = (design.key, profile.device)
        if key not in self._gates:
            self._gates[key] = self._learn(design, profile)
        return self._gates[key]

    def _learn(self, design: Design, profile: Profile) -> tuple[list[Learned], list[Learned]]:
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

    def points(self, outcome: Outcome, profile: Profile) -> tuple[Evaluation, ...]:
        """The trial's front on a device."""
        return self.device_front(outcome.design, profile).points if outcome.design else ()
