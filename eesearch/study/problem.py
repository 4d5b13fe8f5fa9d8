"""What turns designs into evaluations and fronts: shared by all modes, and by those whose trials are worth a front."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eesearch.core.cascades import systems_of
from eesearch.core.constraints import Constraints
from eesearch.core.costs import Axis, Profile, StageCosts, stage_costs
from eesearch.core.design import OUTPUT, OWN, Design, ExitId, ExitSpec, content_key
from eesearch.core.errors import CostError
from eesearch.core.front import Evaluation, Front
from eesearch.core.policy import decision_named
from eesearch.core.progress import Progress, silent
from eesearch.core.registry import STRATEGIES
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import backbone_evaluation, evaluate
from eesearch.exits.last_resort import with_last_resort
from eesearch.exits.tiers import tiered_networks
from eesearch.solve.optimism import FoldPoints
from eesearch.study.materials import Materials
from eesearch.study.space import NO_EXIT
from eesearch.study.trial import BANK, Outcome, Params
from eesearch.study.workshop import SplitName, Workshop

log = logging.getLogger(__name__)

SOLVER_VERSION = 5
"""Raised when the solver would answer otherwise, so that remembered fronts are solved again."""

COUNTED: tuple[Axis, ...] = ("params", "peak_bytes")
"""Axes that every device can tell."""

RECENT_REPLAYS = 4
"""Tables with their costs that are kept in memory: a front is looked up point by point."""


def solved_for(profile: Profile) -> dict[str, str]:
    """Facts about what the solver found, by which `study.upkeep` knows what nobody needs any more."""
    return {"solver": str(SOLVER_VERSION), "device": profile.device}


class Problem(ABC):
    """What all modes share: costs, evaluations and fronts of designs.

    Args:
        materials: Data, backbone, heads, profiles, store.
        progress: Listens to everything that takes time.
    """

    origin = BANK
    workshop_kind: type[Workshop] = Workshop

    def __init__(self, materials: Materials, progress: Progress = silent) -> None:
        self.materials = materials
        self.workshop = self.workshop_kind(materials, progress)
        self.progress = progress
        self.study = materials.study
        self.space = materials.study.space
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

    def told(self, design: Design) -> tuple[ExitSpec, ...]:
        """Which of a design's exits answers tell of the trial that made it."""
        return design.exits

    def draft(self) -> Outcome | None:
        """What comes before the first trial: nothing, unless a mode says otherwise."""
        return None

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
        self, design: Design, profile: Profile, decision: str, split: SplitName
    ) -> tuple[ExitTable, tuple[StageCosts, ...]]:
        """A design's table, and the steps between its exits on every axis of the profile, its own axis first."""
        key = (design.key, profile.device, decision, split)
        if key not in self._replays:
            table = self.workshop.table(design, split)
            coded = self.workshop.coded_tables(design, split, profile)
            found = self.priced(table, profile, decision, coded)
            while len(self._replays) >= RECENT_REPLAYS:
                del self._replays[next(iter(self._replays))]
            self._replays[key] = found
        return self._replays[key]

    def priced(
        self, table: ExitTable, profile: Profile, decision: str, coded: Sequence[ExitTable] = ()
    ) -> tuple[ExitTable, tuple[StageCosts, ...]]:
        """A table and its steps, as `replay` gives them; on all tiers of a system; with the last resort, if any.

        What crosses a link is a carry, and not what exits have said: who decides by several exits stays on one tier.
        """
        systems = systems_of(profile)
        if systems and decision_named(decision).memory == "last":
            table = tiered_networks(table, systems, coded)
        asked = {"params": 0.0, "peak_bytes": 0.0, **self.space.last_resort}
        axes = [axis for axis in profile.axes if not self.space.last_resort or axis in asked]
        costs = tuple(stage_costs(profile, table.exits, decision, axis) for axis in axes)
        return with_last_resort(table, costs, asked) if self.space.last_resort else (table, costs)

    def backbone(self, profile: Profile, split: SplitName) -> Evaluation:
        """The unmodified backbone: the zero of drops and the unit of relative costs."""
        table = self.workshop.backbone_table(split)
        costs = [stage_costs(profile, table.exits, self.space.decisions[0], axis) for axis in profile.axes]
        return backbone_evaluation(table, costs, table.exits[-1])

    def backbone_right(self, split: SplitName) -> NDArray[np.bool_]:
        """Whether the unmodified backbone is right about each sample. [N]"""
        return np.asarray(self.workshop.backbone_table(split).correct[-1])

    def reported(self, evaluation: Evaluation, design: Design, profile: Profile) -> Evaluation:
        """The same policy on the test split."""
        policy = evaluation.policy
        table, costs = self.replay(design, profile, policy.decision, "test")
        return evaluate(policy, table, costs, self.workshop.fits(policy.fits)).made_by(design)

    def constraints(self, profile: Profile) -> Constraints:
        """Those that this device can tell: one that was not timed knows no latency.

        Raises:
            CostError: the profile is too old to know what is counted.
        """
        asked = self.study.objectives.constraints
        for axis in COUNTED:
            if any(limit.axis == axis for limit in asked.limits) and axis not in profile.axes:
                raise CostError(f"the profile of {profile.device} has no {axis}", do="Measure it again.")
        return asked.model_copy(update={"limits": tuple(lim for lim in asked.limits if lim.axis in profile.axes)})

    def front(self, points: Iterable[Evaluation], profile: Profile) -> Front:
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
    def points(self, outcome: Outcome, profile: Profile) -> tuple[Evaluation, ...]:
        """What a trial found on a device, on calibration."""

    @abstractmethod
    def unseen(self, outcome: Outcome, profile: Profile) -> tuple[FoldPoints, ...]:
        """What a trial found without each fold of calibration, and what that does there; () if it found nothing."""

    def fronts(self, outcome: Outcome) -> tuple[tuple[tuple[float, float], ...], ...]:
        """Per device: (error, cost / backbone's cost) of the trial's front; empty where it keeps no constraint."""
        fronts = []
        for profile in self.materials.profiles:
            front = self.front(self.points(outcome, profile), profile)
            broken = len(front) and self.constraints(profile).broken(front[0], front.backbone)
            fronts.append(() if broken else tuple((float(error), float(cost)) for error, cost in front.values))
        return tuple(fronts)
