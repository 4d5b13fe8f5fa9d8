"""What do policies save on the same trained exits? Chosen on one half of the samples, reported on the other.

Calibration and test samples of a finished run are thrown together and halved anew, in both directions. Every method
sees one half, the same exits and the same costs, and proposes policies; of those on its front, the cheapest is taken
that loses at most 0, 0.5, 1 or 2 points to the unmodified network; if none is cheaper than that network, the network
stays as it is. What the pick costs and loses on the other half is a row. A promise is broken if more is lost there.

    naive       what loses so little on the half that chose it, for every method alike
    corrected   ours: what is expected to lose so little on new samples (`eesearch.solve.optimism`)
    certified   ours: two thirds of the half choose, the rest certifies at confidence 0.9 (`eesearch.solve.trust`)

Beside them stand static networks: the sub-networks cut at an exit, other runs' networks on the same samples (--static),
or the pretrained ResNet-8, 20, 32 and 44 (--models), and cascades of whole networks, by IDK and by our solver.

    python benchmarks/policies.py RUN [--design bank|best] [--device macs] [--seeds 20] [--models DIR]
                                      [--static RUN ...] [--methods sdn ztw ...] [--decisions max_prob ...]
    python benchmarks/policies.py --quick      # searches the digits first; then two halvings

RUN is such as `eesearch search cifar10_resnet56` or `eesearch search sst2_transformer` makes; with --design best the
exits are those of the trained design with the highest value on the run's own calibration. Seeds are halvings. Rows go
to policies.csv, the plot to policies-NAME.png. A second call adds what is missing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, nan
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from networks import bank_of, of_models, of_run, side_by_side, tables_of
from numpy.typing import NDArray
from sheet import Clock, Sheet, announce, parser, save, spread

from eesearch.api import search_study
from eesearch.core.costs import StageCosts, stage_costs
from eesearch.core.front import MAX_DROP, Front
from eesearch.core.paired import Paired
from eesearch.core.policy import Policy, Scoring, Stop
from eesearch.core.tables import ExitTable
from eesearch.costs.profile import load_any_profile
from eesearch.exits.evaluate import outcomes
from eesearch.reporting.policies import NAMES
from eesearch.solve.baselines import BASELINES
from eesearch.solve.cascades import idk_whole
from eesearch.solve.exact import own_classifier
from eesearch.solve.family import Effort, Family
from eesearch.solve.learned_schedules import LEARNED_BASELINES
from eesearch.solve.optimism import fold_points, optimism
from eesearch.solve.placed import evaluations
from eesearch.solve.trust import order_of_tests, p_value, passed
from eesearch.study.answers import DeviceAnswer
from eesearch.study.files import load_study
from eesearch.study.points import Point
from eesearch.study.policies import (
    DROPS,
    OURS,
    Candidates,
    Method,
    compare,
    gated,
    learnt,
    ordered_hypervolume,
    published,
    solved,
)
from eesearch.study.run import Run
from eesearch.training.fits import fit_temperature
from eesearch.training.scoring import fitted_scoring

METHODS = ("sdn", "ztw", "branchynet", "deebert", "msdnet", "eenet", "patience")
"""Compared unless others are asked for: idk, streeter, baccarelli reconstruction, bolukbasi."""

SUB, IDK, SOLVED = "sub-network", "IDK cascade of networks", "our cascade of networks"
NAIVE, CORRECTED, CERTIFIED, STATIC = "naive", "corrected", "certified", "static"
DELTA = 0.1
"""Error probability of a certificate."""

KEYS = ("table", "halving", "direction")
QUICK = ("devices=[macs]", "budget.trials=1", "budget.timeout=null")
Rows = NDArray[np.intp]
Told = Iterator[dict[str, object]]


@dataclass(frozen=True, eq=False)
class Subject:
    """What is halved, and how ours is searched.

    Attributes:
        name: Of study and design.
        table: What the exits of the design say about all samples. [E, N, C]
        own: What the unmodified network says. [1, N, C]
        costs: Of these exits, and of the unmodified network, on the device's axis.
        decisions: Criterion and answer of each way of scoring that ours may use.
        family, effort: Of our solver.
        networks: Others on the same samples, and what going from one to the next costs; None if there are none.
    """

    name: str
    table: ExitTable
    own: ExitTable
    costs: StageCosts
    decisions: Sequence[tuple[str, str]]
    family: Family
    effort: Effort
    networks: tuple[ExitTable, StageCosts] | None = None


def subject_of(run: Run, options: argparse.Namespace) -> Subject:
    """All samples of a run, and the networks beside it."""
    bank = bank_of(run)
    key = bank if options.design == "bank" else max(_trained(run), key=lambda found: found[0])[1]
    parts, whole = tables_of(run, key), tables_of(run, bank)
    study, profile = run.directory.study(), load_any_profile(run.directory.profile_file(options.device))
    table, own = (_joined(each) for each in (parts, whole))
    own = own.select(own.exits[-1:])
    costs = stage_costs(profile, table.exits, study.space.decisions[0], profile.axis)
    samples = whole[0].samples, whole[1].samples
    networks = [of_run(Run.load(path), options.device, samples) for path in options.static]
    if options.models:
        networks += of_models(run, options.models, options.work / f"networks-{samples[0]}.npz")
    levels = None if study.space.levels == "all" else study.space.levels
    shared = study.space.shared_threshold or options.shared_threshold
    asked = [tuple((name + "/own").split("/")[:2]) for name in options.decisions]
    return Subject(
        name="-".join(_how(study.name, options, shared)),
        table=table,
        own=own,
        costs=costs,
        decisions=[(criterion, answer) for criterion, answer in asked] or study.space.scorings,
        family=Family(study.space.max_exits, levels, shared_threshold=shared),
        effort=Effort(seconds=options.seconds),
        networks=side_by_side(networks, own, costs.backbone, costs.axis) if networks else None,
    )


def _how(study: str, options: argparse.Namespace, shared: bool) -> list[str]:
    """What tells rows of one study apart: rows that were made otherwise do not answer the same question."""
    said = [options.design] if options.design != "bank" else []
    said += [options.device.replace(":", "_")] if options.device != "macs" else []
    said += ["shared"] if shared else []
    return [study, *said, *(decision.replace("/", "_") for decision in options.decisions)]


def _trained(run: Run) -> list[tuple[float, str]]:
    trials = [(t.value, t.design) for t in run.answers.trials if t.origin not in ("bank", "draft")]
    return [(value, design) for value, design in trials if value is not None and design]


def _joined(parts: Sequence[ExitTable]) -> ExitTable:
    logits = np.concatenate([part.logits for part in parts], axis=1)
    return ExitTable(logits, np.concatenate([part.labels for part in parts]), parts[0].exits, "cal", "all")


def taken(table: ExitTable, rows: Rows, split: str) -> ExitTable:
    """Some samples."""
    return replace(table, logits=table.logits[:, rows], labels=table.labels[rows], split=split, samples=split)


def compared(subject: Subject, chosen: Rows, reported: Rows, seed: int, names: Sequence[str]) -> Told:
    """Every method's picks from one half, on the other; a row each."""
    cal, test = taken(subject.table, chosen, "cal"), taken(subject.table, reported, "test")
    backbone = backbone_point(subject, chosen, reported)
    scorings = scorings_of(subject, cal, seed)
    heat = Scoring(fits=scorings[0].fits[:1])
    known = {**published(heat.fits), **learnt(seed), "bolukbasi": gated(heat, seed)}
    methods: dict[str, Method] = {OURS: solved(scorings, subject.family, subject.effort), SUB: alone}
    methods |= {name: known[name] for name in names}
    found = {m.method: m for m in compare((cal, test), subject.costs, methods).methods}
    for name in methods:
        yield from (row | {"seconds": found[name].seconds} for row in picks(name, NAIVE, found[name].front, backbone))
    right = subject.own.correct[0, chosen]
    how = {"family": subject.family, "effort": subject.effort}
    folds = [fold_points(cal, [subject.costs], each, right, fold=heat.fold, **how) for each in scorings]
    yield from picks(OURS, CORRECTED, found[OURS].front, backbone, optimism(folds))
    yield from certified(subject, chosen, reported, seed)
    yield from rivals(subject, chosen, reported, seed, backbone)


def scorings_of(subject: Subject, cal: ExitTable, seed: int) -> list[Scoring]:
    """Every way of scoring that ours may use, fitted on calibration."""

    def none() -> None:
        raise SystemExit("a decision that needs what training learnt is not compared here")

    return [fitted_scoring(each, lambda: cal, none, seed=seed) for each in subject.decisions]


def backbone_point(subject: Subject, chosen: Rows, reported: Rows) -> Point:
    """The unmodified network on both halves."""
    halves = (taken(subject.own, chosen, "cal"), taken(subject.own, reported, "test"))
    cal, test = (own_classifier(half, [subject.costs]) for half in halves)
    return Point(cal=cal, test=test)


def alone(table: ExitTable, costs: StageCosts) -> Candidates:
    """Every exit, or network, as a network without exits."""
    stops = [(Stop(exit=exit_id, threshold=-inf),) for exit_id in table.exits]
    return [(Policy(stops=stop, criterion="max_prob"), ()) for stop in stops]


def picks(
    method: str, kind: str, front: Sequence[Point], backbone: Point, gaps: Sequence[tuple[float, float]] = ()
) -> Told:
    """The cheapest point within each drop; the unmodified network where none is cheaper than it."""
    axis = next(iter(backbone.cal.costs))
    device = DeviceAnswer(device="", axis=axis, backbone=backbone, points=tuple(front), optimism=tuple(gaps))
    on_test = np.array([(p.test.error, device.ratio(p)) for p in front]).reshape(-1, 2)
    volume = ordered_hypervolume(on_test, backbone.test.error + MAX_DROP)
    for allowed in DROPS:
        yield told(method, kind, allowed, device.within(allowed), backbone) | {"hypervolume": volume}


def told(method: str, kind: str, allowed: float, point: Point | None, backbone: Point) -> dict[str, object]:
    """A row: what a pick costs and loses on the half that did not choose it."""
    axis = next(iter(backbone.cal.costs))
    stays = point is None or point.cal.costs[axis].mean >= backbone.cal.costs[axis].mean
    shown = backbone if stays or point is None else point
    return {
        "method": method,
        "pick": kind,
        "allowed": allowed,
        "ratio": shown.test.costs[axis].mean / backbone.test.costs[axis].mean,
        "drop": backbone.test.accuracy - shown.test.accuracy,
        "chosen_at": backbone.cal.accuracy - shown.cal.accuracy,
        "unmodified": stays,
    }


def certified(subject: Subject, chosen: Rows, reported: Rows, seed: int) -> Told:
    """Risk control: two thirds of a half choose and order candidates, the rest tests them until one fails."""
    selecting, testing = np.split(chosen, [2 * len(chosen) // 3])
    cal, fresh, test = (
        taken(subject.table, rows, split) for rows, split in ((selecting, "cal"), (testing, "cert"), (reported, "test"))
    )
    backbone = backbone_point(subject, selecting, reported)
    candidates = solved(scorings_of(subject, cal, seed), subject.family, subject.effort)(cal, subject.costs)
    fits = dict(candidates)
    found = evaluations(candidates, cal, [subject.costs])
    front = Front(found, backbone=backbone.cal, axis=subject.costs.axis, device="").points

    def paired(policy: Policy, table: ExitTable, rows: Rows) -> Paired:
        return Paired.of(outcomes(policy, table, fits[policy])[1], subject.own.correct[0, rows])

    selected = [paired(point.policy, cal, selecting) for point in front]
    for allowed in DROPS:
        some = [i for i, each in enumerate(selected) if each.drop < allowed]
        estimated = np.array([p_value(selected[i], allowed) for i in some])
        cost = np.array([front[i].costs[subject.costs.axis].mean for i in some])
        order = [some[i] for i in order_of_tests(estimated, cost)]
        p_values = [p_value(paired(front[i].policy, fresh, testing), allowed) for i in order]
        last = passed(p_values, DELTA)
        point = None
        if last:
            chosen_one = front[order[last - 1]]
            (there,) = evaluations([(chosen_one.policy, fits[chosen_one.policy])], test, [subject.costs])
            point = Point(cal=chosen_one, test=there)
        yield told(OURS, CERTIFIED, allowed, point, backbone)


def rivals(subject: Subject, chosen: Rows, reported: Rows, seed: int, backbone: Point) -> Told:
    """Whole networks: each alone, and cascades of them."""
    if subject.networks is None:
        return
    table, costs = subject.networks
    cal, test = taken(table, chosen, "cal"), taken(table, reported, "test")
    fits = (fit_temperature(cal, seed=seed),)
    cascade = Family(len(table.exits) - 1, subject.family.levels)
    methods: dict[str, Method] = {
        IDK: lambda t, c: [(policy, fits) for policy in idk_whole(t, c, fits)],
        SOLVED: solved([Scoring(fits=fits)], cascade, subject.effort),
    }
    for found in compare((cal, test), costs, methods).methods:
        yield from picks(found.method, NAIVE, found.front, backbone)
    singles = alone(table, costs)[:-1]
    for on_cal, on_test in zip(*(evaluations(singles, half, [costs]) for half in (cal, test)), strict=True):
        yield told(on_cal.policy.exits[0].network, STATIC, nan, Point(cal=on_cal, test=on_test), backbone)


def measure(subject: Subject, sheet: Sheet, clock: Clock, options: argparse.Namespace) -> pd.DataFrame:
    """All rows of a subject; those that are missing are made."""
    for halving in range(options.seeds):
        first, second = np.array_split(np.random.default_rng(halving).permutation(len(subject.table.labels)), 2)
        for direction, halves in enumerate(((first, second), (second, first))):
            key = (subject.name, halving, direction)
            if sheet.has(*key) or clock.over:
                _check_methods(sheet.rows, key, options.methods)
                continue
            start = time.perf_counter()
            rows = list(compared(subject, *halves, halving, options.methods))
            sheet.add(key, rows, time.perf_counter() - start)
            print(f"{subject.name}, halving {halving}.{direction}: {time.perf_counter() - start:.0f} s", flush=True)
    return sheet.rows[(sheet.rows["table"] == subject.name) & (sheet.rows["halving"] < options.seeds)]


def _check_methods(rows: pd.DataFrame, key: Sequence[object], methods: Sequence[str]) -> None:
    """Rows are made of all methods at once."""
    there = set(rows.loc[(rows[list(KEYS)] == list(key)).all(axis=1), "method"])
    if there and (missing := set(methods) - there):
        raise SystemExit(f"the rows of {key} lack {', '.join(sorted(missing))}: give another --out")


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Medians and ranges over halvings, and how often a promise was broken: a row per method, pick and drop allowed."""
    found = []
    for (method, pick, allowed), group in rows.groupby(["method", "pick", "allowed"], sort=False, dropna=False):
        found.append(
            {
                "method": NAMES.get(str(method), method),
                "pick": pick,
                "within": "" if np.isnan(allowed) else f"{100 * allowed:g}",
                "cost / backbone's": spread(group["ratio"]),
                "points lost": spread(100 * group["drop"], 2),
                "broken": "" if np.isnan(allowed) else f"{(group['drop'] > allowed + 1e-12).mean():.0%}",
                "unmodified": f"{group['unmodified'].astype(bool).mean():.0%}",
                "hypervolume": spread(group["hypervolume"]),
            }
        )
    return pd.DataFrame(found).set_index(["method", "pick", "within"])


COLOURS = {
    OURS: "#000000", "sdn": "#0072b2", "ztw": "#56b4e9", "branchynet": "#d55e00", "deebert": "#e69f00",
    "msdnet": "#009e73", "eenet": "#cc79a7", "patience": "#7f3fbf", SUB: "#888888",
}  # fmt: skip
PICKS = {NAIVE: "#999999", CORRECTED: "#0072b2", CERTIFIED: "#000000"}
CASCADES = {IDK: "#e69f00", SOLVED: "#d55e00"}


def draw(rows: pd.DataFrame, title: str, path: Path) -> None:
    """Cost against accuracy lost. Left: all methods by the naive rule. Right: ours by three rules, whole networks."""
    figure = Figure(figsize=(11.5, 5.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    others = [m for m in dict.fromkeys(rows["method"]) if m not in (*COLOURS, *CASCADES) and rows_of(rows, m, NAIVE)]
    for method in (*COLOURS, *others):
        line(left, rows, method, NAIVE, COLOURS.get(method, "#bbbbbb"), NAMES.get(method, method))
    for pick, colour in PICKS.items():
        line(right, rows, OURS, pick, colour, f"ours, {pick}")
    for method, colour in CASCADES.items():
        line(right, rows, method, NAIVE, colour, method)
    line(right, rows, SUB, NAIVE, COLOURS[SUB], SUB)
    for axes in (left, right):
        for name, group in rows[rows["pick"] == STATIC].groupby("method"):
            at = group["ratio"].median(), 100 * group["drop"].median()
            axes.plot(*at, "D", ms=6, color="#882255", zorder=3)
            place = {"xytext": (-6, 3), "textcoords": "offset points", "ha": "right"}
            axes.annotate(str(name), at, fontsize=8, color="#882255", **place)
        axes.plot(1.0, 0.0, "*", ms=12, color="#882255", zorder=3, label="unmodified network", ls="none")
        axes.axhline(0.0, color="#cccccc", lw=0.8, zorder=0)
        axes.set(xlabel="mean cost / unmodified network's", xlim=(0.0, 1.08))
        axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncol=3)
    shown = rows[rows["pick"] != STATIC].groupby(["method", "pick", "allowed"])["drop"].median()
    left.set(ylabel="accuracy lost on the other half (points)", ylim=(None, 100 * max(shown.max(), max(DROPS)) + 0.5))
    left.set_title("the cheapest within 0, 0.5, 1, 2 points (naive)", fontsize=10)
    whole = ", and whole networks" if rows["method"].isin(CASCADES).any() else ""
    right.set_title(f"what can be promised{whole}", fontsize=10)
    figure.suptitle(f"{title}: medians and ranges over halvings", fontsize=11)
    save(figure, path)


def rows_of(rows: pd.DataFrame, method: str, pick: str) -> bool:
    """Whether there are any."""
    return bool(((rows["method"] == method) & (rows["pick"] == pick)).any())


def line(axes: Axes, rows: pd.DataFrame, method: str, pick: str, colour: str, label: str) -> None:
    """Medians of the picks of a method, joined by a line, with thin ranges."""
    part = rows[(rows["method"] == method) & (rows["pick"] == pick)]
    if part.empty:
        return
    ratio, drop = (part.assign(drop=100 * part["drop"]).groupby("allowed")[name] for name in ("ratio", "drop"))
    x, y = ratio.median(), drop.median()
    ends = [[v - each.min(), each.max() - v] for v, each in ((x, ratio), (y, drop))]
    marker = "s" if method == SUB else "o"
    axes.errorbar(x, y, ends[1], ends[0], fmt="none", ecolor=colour, elinewidth=0.6, alpha=0.35)
    axes.plot(x, y, marker=marker, ms=5, lw=1.4 if method == OURS else 1.0, color=colour, label=label)


def main() -> None:
    """Read the options, halve, choose, report, draw."""
    made = parser(__doc__, minutes=120, seeds=20)
    made.add_argument("run", type=Path, nargs="?", help="a finished run; without it: --quick")
    made.add_argument("--design", choices=("bank", "best"), default="bank")
    made.add_argument("--device", default="macs", help="of the run")
    made.add_argument("--static", type=Path, nargs="*", default=[], help="runs of other networks on the same samples")
    made.add_argument("--methods", nargs="+", choices=[*BASELINES, *LEARNED_BASELINES, "bolukbasi"], default=METHODS)
    made.add_argument("--decisions", nargs="*", default=[], help="criterion[/answer] of ours; by default the study's")
    made.add_argument("--shared-threshold", action="store_true", help="as if the space said so")
    made.add_argument("--seconds", type=float, default=60.0, help="of our solver, per front")
    options = made.parse_args()
    if options.quick:
        options.seeds, options.seconds = min(options.seeds, 2), 5.0
    elif options.run is None:
        made.error("name a run, or give --quick")
    sheet = Sheet(options.out / ("policies-quick.csv" if options.quick else "policies.csv"), KEYS)
    announce(1 if options.quick else 5 * options.seeds, sheet)
    run = search_study(load_study("digits", QUICK), options.work / "digits-bank") if options.run is None else None
    subject = subject_of(run or Run.load(options.run, trust=True), options)
    rows = measure(subject, sheet, Clock(options.budget), options)
    if rows.empty:
        print("the budget was over before anything was compared")
        return
    with pd.option_context("display.width", 200, "display.max_rows", None, "display.max_columns", None):
        print(summary(rows).to_string())
    draw(rows, subject.name, options.out / f"policies-{subject.name}{'-quick' if options.quick else ''}.png")
    print(sheet.compute())


if __name__ == "__main__":
    main()
