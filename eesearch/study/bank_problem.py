"""`mode: bank`: the bank comes first, further trials train joint designs; thresholds are never sampled."""

from __future__ import annotations

from functools import cached_property
from math import inf

from eesearch.core.costs import Axis, Profile, StageCosts, stage_costs
from eesearch.core.design import Design, ExitId
from eesearch.core.errors import StudyError
from eesearch.core.front import Evaluation
from eesearch.core.policy import Policy, Scoring, Stop
from eesearch.core.progress import Progress, silent
from eesearch.exits.evaluate import evaluate
from eesearch.exits.routing import score_table
from eesearch.seeding.bank import propose, reference_thresholds
from eesearch.seeding.placement import Seed
from eesearch.study.answers import Answers
from eesearch.study.front_problem import FrontProblem
from eesearch.study.materials import Materials
from eesearch.study.question import WarmStart
from eesearch.study.space import NO_EXIT, Parameter, parameters
from eesearch.study.trial import Outcome, Params, Report

ENQUEUED_SEEDS = 3
"""How many distinct placements of the seeding rules are trained jointly before the sampler proposes."""


class BankProblem(FrontProblem):
    """The bank comes first; warm starts, the seeds' placements and then the sampler's designs are trained jointly.

    Args:
        materials: As in `Problem`.
        progress: As in `Problem`.

    Raises:
        StudyError: a warm start carries an exit that the space lacks.
    """

    def __init__(self, materials: Materials, progress: Progress = silent) -> None:
        super().__init__(materials, progress)
        self._warm = [(f"warm start {start.name}", self._from_warm_start(start)) for start in self.study.warm_start]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The flat static list of a trained design; empty if the space trains nothing beyond the bank."""
        return parameters(self.space, self.materials.heads) if self.space.trained else ()

    def draft(self) -> Outcome | None:
        """Train the same heads on a share of the samples, if the study wants a front soon; no gates are learnt."""
        design = self.workshop.draft_design
        return None if design is None else self.outcome(design)

    def first(self) -> Outcome:
        """Train the bank; its front is trial 0's, or 1's behind a draft."""
        return self.outcome(self.workshop.bank_design)

    def run(self, params: Params, report: Report | None = None) -> Outcome:
        """Train one joint design, warm-started from the backbone and the bank's heads.

        Raises:
            StoppedEarlyError: `report` said so.
        """
        design = self.proposed(params)
        if design is None:
            fronts = [self.front([self.backbone(p, "cal")], p) for p in self.materials.profiles]
            return Outcome(design=None, values=(self.value(fronts),))
        return self.outcome(design, report)

    def proposed(self, params: Params) -> Design | None:
        """The design that the parameters stand for; None: the backbone itself."""
        return self.design(params, start=self.study.training.start)

    def seeds(self) -> list[tuple[str, Params]]:
        """Warm starts, then the best distinct placements of the seeding rules, the first of them by every strategy."""
        if not self.space.trained:
            return []
        placed = [seed for seed, _ in self.replayed_seeds[:ENQUEUED_SEEDS]]
        preferred = self.space.preferred
        others = [strategy for strategy in self.space.trained if strategy != preferred] if placed else []
        found = [(seed.rule, self._as_params(seed, preferred)) for seed in placed]
        compared = [(f"{placed[0].rule}, {strategy}", self._as_params(placed[0], strategy)) for strategy in others]
        return self._warm + found[:1] + compared + found[1:]

    @cached_property
    def replayed_seeds(self) -> list[tuple[Seed, float]]:
        """Distinct placements that the rules propose on the bank, by falling value; solved on the bank, no training."""
        distinct: dict[tuple[ExitId, ...], Seed] = {}
        for profile in self.materials.profiles:
            for seed in self._proposed(profile):
                rule = seed.rule if len(self.materials.profiles) == 1 else f"{seed.rule} ({profile.device})"
                distinct.setdefault(seed.exits, Seed(rule, seed.exits))
        bank = self.workshop.bank_design
        scoring = self.workshop.scoring(bank, *self.space.scorings[0])
        valued = []
        for seed in distinct.values():
            fronts = [self.solve(bank, p, scoring, seed.exits) for p in self.materials.profiles]
            valued.append((seed, self.value(fronts)))
        return sorted(valued, key=lambda pair: -pair[1])

    def _proposed(self, profile: Profile) -> list[Seed]:
        bank = self.workshop.bank_design
        table = self.workshop.table(bank, "cal")
        scoring, costs = self.rules(profile)
        placed = propose(table, costs, score_table(table, scoring))
        return placed + [Seed(rule, exits) for rule, exits in self.solved(bank, profile).gates.items()]

    def rules(self, profile: Profile) -> tuple[Scoring, StageCosts]:
        """How the placement rules score the bank, each exit for itself, and its steps without a last resort.

        Rules place by shares of the network's cost; where none of it is paid by computing, by its multiply-adds.
        """
        bank, criterion = self.workshop.bank_design, self.space.rule_criterion
        exits = self.workshop.table(bank, "cal").exits
        axis: Axis = "macs" if profile.axis == "bytes" else profile.axis
        return self.workshop.scoring(bank, criterion), stage_costs(profile, exits, criterion, axis)

    def seed_evaluation(self, seed: Seed, profile: Profile) -> Evaluation:
        """A rule's placement at the rule's own thresholds: leave where that costs no accuracy on calibration."""
        bank, (scoring, _) = self.workshop.bank_design, self.rules(profile)
        table = self.workshop.table(bank, "cal")
        thresholds = reference_thresholds(table, score_table(table, scoring))
        stops: list[Stop] = []
        for exit_id in (*seed.exits, table.exits[-1]):
            stops.append(Stop(exit=exit_id, threshold=float(thresholds[table.row(exit_id)])))
            if stops[-1].threshold == -inf:  # everybody leaves: what comes after is never met
                break
        policy = Policy(stops=tuple(stops), criterion=scoring.criterion, fits=scoring.keys)
        _, costs = self.replay(bank, profile, scoring.criterion, "cal")
        return evaluate(policy, table, costs, scoring.fits).made_by(bank)

    def _as_params(self, seed: Seed, strategy: str) -> Params:
        chosen = {e.cut: e.head for e in seed.exits}
        params: dict[str, str | float] = {"strategy": strategy, **self.space.loss.start(self.space.used)}
        for cut in self.cuts:
            params[f"exit:{cut}"] = chosen.get(cut, NO_EXIT)
            if self.space.weighs:
                params[f"alpha:{cut}"] = self.space.alpha.start
        return params

    def untried(self, answers: Answers) -> list[str]:
        """Warm starts that no trial has trained."""
        tried = {trial.origin for trial in answers.trials}  # one that failed, or was stopped early, was tried
        designs = [(origin, self.proposed(params)) for origin, params in self._warm if origin not in tried]
        return [origin for origin, design in designs if design is not None and design.key not in answers.designs]

    def _from_warm_start(self, start: WarmStart) -> Params:
        """Raises StudyError: it carries an exit that this space cannot carry."""
        chosen = {e.cut: e for e in start.exits}
        strategy = start.strategy if start.strategy in self.space.trained else self.space.preferred
        params = {"strategy": strategy, **self.space.loss.start(self.space.used, start.loss)}
        for cut in chosen.keys() - set(self.cuts):
            raise StudyError(f"the warm start {start.name} has an exit at '{cut}'", expected=f"one of {self.cuts}")
        for cut in self.cuts:
            found = chosen.get(cut)
            params[f"exit:{cut}"] = NO_EXIT
            if self.space.weighs:
                params[f"alpha:{cut}"] = self.space.alpha.nearest(found.alpha if found else 1.0)
            if found is None:
                continue
            if found.head not in self.materials.heads[cut]:
                raise StudyError(
                    f"the warm start {start.name} has a head '{found.head.name}' at '{cut}' that the space lacks",
                    expected=f"one of {', '.join(h.name for h in self.materials.heads[cut])}",
                    do="Add it to the space's heads, or leave the warm start out.",
                )
            params[f"exit:{cut}"] = found.head.name
        return params
