"""Policies of the literature beside the solver's, on one table and one cost: chosen on calibration, told on test."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eesearch.core.costs import Axis, Profile, StageCosts, stage_costs
from eesearch.core.design import Value
from eesearch.core.errors import RunError
from eesearch.core.front import LEAST_ERROR, MAX_DROP, Evaluation, Front, describe
from eesearch.core.policy import Fit, Policy, Scoring
from eesearch.core.progress import Progress, silent
from eesearch.core.tables import ExitTable
from eesearch.costs.profile import load_any_profile
from eesearch.nets.exitnet import ExitNet
from eesearch.seeding.bolukbasi import Learned, bolukbasi
from eesearch.solve.baselines import BASELINES, Baseline
from eesearch.solve.exact import own_classifier, solve_front
from eesearch.solve.family import Effort, Family
from eesearch.solve.learned_schedules import LEARNED_BASELINES, LearnedBaseline
from eesearch.solve.placed import SDN_SHARES, evaluations, near_shares
from eesearch.study.picks import find_device
from eesearch.study.points import Point
from eesearch.study.question import Study
from eesearch.study.rundir import RunDir
from eesearch.training.scoring import fitted_scoring

DROPS = (0.0, 0.005, 0.01, 0.02)
"""Losses of calibration accuracy against the backbone's at which methods are compared."""

OURS = "ours"
"""Name of the solver's row."""

Candidates = Sequence[tuple[Policy, tuple[Fit, ...]]]
"""Policies, each with the fits that its thresholds were chosen with."""

Method = Callable[[ExitTable, StageCosts], Candidates]
"""`(calibration table, costs) -> candidates`; sees nothing else."""


class MethodAnswer(Value):
    """What one method found.

    Attributes:
        picks: For each drop the cheapest of its policies that keeps it on calibration; None if none does.
        front: Its whole calibration front.
        hypervolume_cal: Of its calibration front where it was chosen, so an optimistic figure.
        hypervolume: Of the same front on test, see `ordered_hypervolume`.
        hypervolume_best: Of the same points on test, those dropped that test shows to be dominated. Whoever has many
            points gains by this choice, so methods are not ranked by it.
        candidates: Number of policies that it proposed.
        points: Those of them on its calibration front.
        seconds: Wall time from the calibration table to the calibration front.
    """

    method: str
    picks: tuple[Point | None, ...]
    front: tuple[Point, ...] = ()
    hypervolume_cal: float
    hypervolume: float
    hypervolume_best: float
    candidates: int
    points: int
    seconds: float


class Comparison(Value):
    """All methods on one table and one cost.

    Attributes:
        axis: What all costs of `picks` are; every rejected head and decision is paid.
        decision: Whose decision is paid at every stop, for all methods the same; "" if it costs nothing.
        backbone: The zero of drops and the unit of costs.
        drops: At which `picks` were made.
        methods: By falling hypervolume.
    """

    device: str
    axis: Axis
    decision: str = ""
    backbone: Point
    drops: tuple[float, ...]
    methods: tuple[MethodAnswer, ...]

    def drop(self, point: Point, split: Literal["cal", "test"] = "test") -> float:
        """How far a point's accuracy lies below the backbone's."""
        backbone, own = (getattr(p, split).accuracy for p in (self.backbone, point))
        return float(backbone - own)

    def ratio(self, point: Point, split: Literal["cal", "test"] = "test") -> float:
        """A point's mean cost over the backbone's."""
        backbone, own = (getattr(p, split).costs[self.axis].mean for p in (self.backbone, point))
        return float(own / backbone)

    def to_pandas(self) -> pd.DataFrame:
        """A row per method and drop; accuracies, costs and rates are those on test unless a column ends in `_cal`."""
        rows = []
        for method in self.methods:
            found = method.model_dump(exclude={"picks", "front"}) | {"device": self.device, "decision": self.decision}
            for allowed, point in zip(self.drops, method.picks, strict=True):
                rows.append(found | {"max_drop": allowed} | ({} if point is None else self._figures(point)))
        return pd.DataFrame(rows)

    def _figures(self, point: Point) -> dict[str, object]:
        figures: dict[str, object] = {"accuracy_cal": point.cal.accuracy, "drop_cal": self.drop(point, "cal")}
        figures |= {"ratio_cal": self.ratio(point, "cal"), "drop": self.drop(point), "ratio": self.ratio(point)}
        return figures | describe(point.test)


def ordered_hypervolume(values: NDArray[np.float64], error: float) -> float:
    """Share of the rectangle (0, 0) .. (error, 1) below the steps through points, in the order that they have.

    Points of a calibration front come by rising calibration cost: for a given budget the last affordable one is taken,
    whatever test says about it. A point that is worse on test than a cheaper one therefore costs area, and none is left
    out for it; the dominated hypervolume would leave it out, which is choosing on test. On a front it is that volume.

    Args:
        values: (error, cost / backbone's cost) on test, in calibration's order. [P, 2]
        error: Of the reference point.
    """
    error = max(error, LEAST_ERROR)
    gain = np.maximum(error - values[:, 0], 0.0)
    cost = np.minimum(np.append(values[:, 1], 1.0), 1.0)
    return float(gain @ np.diff(cost) / error)


def compare(
    tables: tuple[ExitTable, ExitTable],
    costs: StageCosts,
    methods: Mapping[str, Method],
    *,
    device: str = "",
    clock: Callable[[], float] = time.perf_counter,
    progress: Progress = silent,
) -> Comparison:
    """Let every method choose on calibration, and see what that does on test.

    Args:
        tables: Calibration and test, of the same exits, with one own classifier.
        costs: Knows every exit.
        methods: By name.
        device: What the answer is named after.
        clock: Seconds that never go back.
        progress: Told the methods.

    Raises:
        PolicyError: a table lacks its own classifier, or holds several; or what a method says of its tables.
        CostError: an exit has no cost.
    """
    cal, test = (own_classifier(table, [costs]) for table in tables)
    answers = []
    for done, (name, method) in enumerate(methods.items()):
        progress("methods of the literature", done, len(methods))
        start = clock()
        candidates = method(tables[0], costs)
        found = evaluations(candidates, tables[0], [costs])
        front = Front(found, backbone=cal, axis=costs.axis, device=device)
        seconds = clock() - start
        fits = dict(candidates)
        reported = evaluations([(e.policy, fits[e.policy]) for e in front.points], tables[1], [costs])
        answers.append(_answer(name, front, reported, test, (len(candidates), seconds)))
    progress("methods of the literature", len(methods), len(methods))
    return Comparison(
        device=device,
        axis=costs.axis,
        backbone=Point(cal=cal, test=test),
        drops=DROPS,
        methods=tuple(sorted(answers, key=lambda a: -a.hypervolume)),
    )


def _answer(
    name: str, front: Front, reported: Sequence[Evaluation], backbone: Evaluation, spent: tuple[int, float]
) -> MethodAnswer:
    """What a calibration front does on test."""
    on_test = {cal.policy: Point(cal=cal, test=test) for cal, test in zip(front.points, reported, strict=True)}
    picks = [front.within(drop) for drop in DROPS]
    unit = backbone.costs[front.axis].mean
    values = np.array([(e.error, e.costs[front.axis].mean / unit) for e in reported]).reshape(-1, 2)
    best = Front(reported, backbone=backbone, axis=front.axis, device=front.device)
    return MethodAnswer(
        method=name,
        picks=tuple(None if pick is None else on_test[pick.policy] for pick in picks),
        front=tuple(on_test.values()),
        hypervolume_cal=ordered_hypervolume(front.values, front.backbone.error + MAX_DROP),
        hypervolume=ordered_hypervolume(values, backbone.error + MAX_DROP),
        hypervolume_best=best.hypervolume(),
        candidates=spent[0],
        points=len(front),
        seconds=spent[1],
    )


def published(fits: Sequence[Fit]) -> dict[str, Method]:
    """The named baselines, each with raw scores, as published, and with scores that these fits make comparable.

    Calibration decides which of the two are used. Sharing a threshold between exits, or asking which of them is the
    surest, means something else with temperatures.

    Args:
        fits: Temperatures.
    """
    return {name: partial(_proposed, baseline, tuple(fits)) for name, baseline in BASELINES.items()}


def _proposed(baseline: Baseline, fits: tuple[Fit, ...], table: ExitTable, costs: StageCosts) -> Candidates:
    found: dict[Policy, tuple[Fit, ...]] = {}
    for used in dict.fromkeys(((), fits)):
        found |= {policy: used if policy.fits else () for policy in baseline(table, costs, used)}
    return list(found.items())


def learnt(seed: int) -> dict[str, Method]:
    """The named baselines that learn more of calibration than temperatures, with fits for the exits that they have.

    Args:
        seed: Decides folds and paths of the fits.
    """
    return {name: partial(_learnt, baseline, seed) for name, baseline in LEARNED_BASELINES.items()}


def _learnt(baseline: LearnedBaseline, seed: int, table: ExitTable, costs: StageCosts) -> Candidates:
    placed = table.select([table.exits[row] for row in near_shares(table, costs, SDN_SHARES)])
    scoring = fitted_scoring((baseline.criterion, baseline.answer), lambda: placed, _no_net, seed=seed)
    return [(policy, scoring.fits) for policy in baseline.propose(placed, costs, scoring.fits)]


def _no_net() -> ExitNet:
    raise RunError("methods of the literature see tables, and no network")


def solved(scorings: Sequence[Scoring], family: Family, effort: Effort = Effort()) -> Method:
    """Our own row: the solver's front of a family, for each way of scoring.

    Args:
        scorings: At least one.
        family: Which policies.
        effort: How they are searched.
    """

    def method(table: ExitTable, costs: StageCosts) -> Candidates:
        found = []
        for scoring in scorings:
            front = solve_front(table, costs, scoring=scoring, family=family, effort=effort)
            found += [(point.policy, scoring.fits) for point in front.points]
        return found

    return method


def gated(scoring: Scoring, seed: int, known: Sequence[Learned] | None = None) -> Method:
    """Bolukbasi's row: policies with learnt gates, one for each price of an error, with as many exits as they like.

    Args:
        scoring: Whose temperatures the gates see.
        seed: Decides between equally good splits of a tree.
        known: What it learns, if that is known.
    """

    def method(table: ExitTable, costs: StageCosts) -> Candidates:
        learned = bolukbasi(table, costs, scoring=scoring, seed=seed) if known is None else known
        return [(one.policy, (*scoring.fits, one.fit)) for one in learned]

    return method


def compare_policies(run: RunDir, device: str | None = None, *, progress: Progress = silent) -> Comparison:
    """Compare ours and the named baselines on the tables of a run's bank; nothing is trained.

    Args:
        run: A directory that a search wrote.
        device: One of its devices; the first by default.
        progress: Told the methods.

    Raises:
        RunError: the run is of several networks, has no bank, or its store lacks the bank's tables or fit; bytes are
            what counts on the device.
        PickError: the run has no such device.
        CostError: the device's profile cannot be read.
    """
    answers, study = run.answers(), run.study()
    if len(study.backbones) > 1:
        raise RunError(
            f"{run.path} is of several networks: methods of the literature are compared on the exits of one",
            do="Its report shows the cascades of whole networks beside its front.",
        )
    chosen = find_device(answers.devices, device)
    if chosen.axis == "bytes":
        raise RunError(
            f"methods of the literature know of no tiers: they can save no bytes on {chosen.device}",
            do="Name another device with --device (device=).",
        )
    bank = next((trial.design for trial in answers.trials if trial.origin == "bank" and trial.design), None)
    if bank is None:
        raise RunError(
            f"{run.path} has no bank",
            do="Methods are compared on the bank: search with `mode: bank`, until it is trained.",
        )
    cal, test = (_table(run, bank, split) for split in ("cal", "test"))
    scorings = _scorings(run, bank, cal)
    levels = None if study.space.levels == "all" else study.space.levels
    family = Family(study.space.max_exits, levels, shared_threshold=study.space.shared_threshold)
    effort = Effort(seconds=study.budget.solve)
    temperatures = Scoring(study.space.rule_criterion, fits=scorings[0].fits[:1])
    profile = load_any_profile(run.profile_file(chosen.device))
    ours = {OURS: solved(scorings, family, effort)}
    return literature((cal, test), profile, study, temperatures, ours=ours, progress=progress)


def literature(
    tables: tuple[ExitTable, ExitTable],
    profile: Profile,
    study: Study,
    temperatures: Scoring,
    *,
    ours: Mapping[str, Method] | None = None,
    gates: Sequence[Learned] | None = None,
    progress: Progress = silent,
) -> Comparison:
    """The methods of the literature on the exits of a bank; all pay the study's first decision.

    Args:
        tables: Calibration and test, of the bank.
        profile: Of the device whose axis is the cost.
        study: Its space and seed.
        temperatures: Under which scores of different exits are comparable.
        ours: Methods to set beside them.
        gates: Bolukbasi's policies at the same costs, if somebody learnt them before; otherwise they are learnt.
        progress: Told the methods.

    Raises:
        CostError: the profile lacks an exit or the decision.
    """
    known = {**published(temperatures.fits), **learnt(study.seed)}
    methods = {**(ours or {}), **known, "bolukbasi": gated(temperatures, study.seed, gates)}
    decision = study.space.decisions[0]
    costs = stage_costs(profile, tables[0].exits, decision, profile.axis)
    compared = compare(tables, costs, methods, device=profile.device, progress=progress)
    return compared.model_copy(update={"decision": decision if profile.latency else ""})


def _table(run: RunDir, bank: str, split: str) -> ExitTable:
    kept = run.store.get("table", f"{bank}-{split}")
    if kept is None:
        raise RunError(
            f"the store of {run.path} lacks the {split} table of the bank",
            do="Run `eesearch search` with the same study and --run again: it makes what is missing.",
        )
    return ExitTable.from_arrays(*kept)


def _scorings(run: RunDir, bank: str, cal: ExitTable) -> list[Scoring]:
    """Every way of scoring that the study allows; its fits from the store, or fitted again to the same values."""
    study, made = run.study(), dict[str, Fit]()

    def keep(kind: str, make: Callable[[], Fit]) -> Fit:
        if kind not in made:
            kept = run.store.get("fit", f"{bank}-{kind}")
            made[kind] = make() if kept is None else Fit.from_arrays(*kept)
        return made[kind]

    def net() -> ExitNet:
        raise RunError(f"the bank of {run.path} learnt nothing beside its heads")

    return [fitted_scoring(pair, lambda: cal, net, seed=study.seed, keep=keep) for pair in study.space.scorings]
