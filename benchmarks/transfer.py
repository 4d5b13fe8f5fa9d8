"""Do rankings by multiply-adds hold by the clock? One bank, priced on several back ends of this machine.

The bank of a study is trained once. Each device's profile is measured several times, devices taking turns, and all that
is chosen with one measurement is priced with the others: otherwise noise would look like insight. Calibration and
test samples are thrown together and halved anew per seed; policies are chosen on one half and told on the other.

ranks   Kendall's tau between cost in multiply-adds and on the device (ratios to the backbone's), of random policies,
        and of all placements of at most two exits (best head per cut), each at its cheapest policy by multiply-adds
        within one point; "itself" is tau between two measurements of the same device: more cannot be expected. Pairs
        that the device ranks otherwise by more than the noise are counted: smaller differences are ties.
picks   the cheapest policy within a drop, found by the solver for multiply-adds and for the device, both priced on
        the device. Regret: how much more the first one costs. Below the noise it is a tie.

    python benchmarks/transfer.py --data DIR --models DIR [--study cifar10_resnet20] [--repeats 3] [--seeds 3] [--quick]

`--quick`: scikit-learn's digits and two devices. Rows go to transfer.csv, a picture per study to transfer-STUDY.png.
A second call, of another study or device, adds what is missing; devices that are not installed are left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import ceil, inf
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import kendalltau
from sheet import Clock, Sheet, announce, parser, save, spread, where

from eesearch.answering import Watchers
from eesearch.api import profile, search_study
from eesearch.core.costs import Profile, StageCosts, stage_costs
from eesearch.core.errors import CostError
from eesearch.core.front import Evaluation, Front
from eesearch.core.policy import Policy, Scoring, Stop
from eesearch.core.tables import ExitTable, best_per_cut
from eesearch.costs.devices import parse_device
from eesearch.exits.evaluate import evaluate
from eesearch.exits.routing import path_outputs
from eesearch.reporting.console import ProgressBars
from eesearch.solve.exact import solve_front
from eesearch.solve.family import Effort, Family
from eesearch.solve.oracle import static_front
from eesearch.study.files import load_study
from eesearch.study.question import Study
from eesearch.study.run import Run
from eesearch.training.fits import fit_temperature

MACS = "macs"
DEVICES = (
    "cpu:eager:t1:b1",
    "cpu:eager:t2:b1",
    "cpu:eager:t1:b8",
    "cpu:compile:t1:b1",
    "cpu:onnxruntime:t1:b1",
    "cpu:openvino:t1:b1",
)
QUICK_DEVICES = ("cpu:eager:t1:b1", "cpu:onnxruntime:t1:b1")
QUICK = (
    "backbone.args={channels: [8, 16, 32], blocks: 1, classes: 10, in_channels: 1}",
    "space={heads: [{kind: linear, pool: mixed, size: 2}], strategies: [separate], max_exits: 2}",
    "training.epochs=10",
    "measuring={processes: 1, rounds_max: 8, warmup: 0.02, warmup_max: 0.1, round: 0.01, rounds_min: 3, floor: 0.1}",
)
DROPS = (0.0, 0.005, 0.01, 0.02)
PLACED_WITHIN = 0.01
"""Drop at which placements are compared."""

RANDOM, SHOWN = 500, 60
"""Random policies that are ranked; most policies of a set that are shown."""

MINUTES = 45
"""In full, for all devices."""

COLOURS = {"random": "#c0c0c0", "best by multiply-adds": "#0072b2", "static sub-networks": "#d55e00"}
MARKERS = {"random": ".", "best by multiply-adds": "o", "static sub-networks": "s"}


@dataclass(frozen=True, eq=False)
class Half:
    """One halving of a bank's samples, and what multiply-adds say about it.

    Attributes:
        cal: Where is chosen; `test`: where is told.
        scoring: Fitted on `cal`.
        macs: What the exits cost in multiply-adds.
        front: By multiply-adds, on `cal`.
        sets: Policies that are ranked, as they are on `test`, by name.
    """

    cal: ExitTable
    test: ExitTable
    scoring: Scoring
    family: Family
    macs: StageCosts
    front: Front
    sets: dict[str, list[Evaluation]]

    def told(self, policy: Policy) -> Evaluation:
        """What a policy does on test."""
        return evaluate(policy, self.test, [self.macs], self.scoring.fits)


def question(name: str, options: argparse.Namespace) -> Study:
    """The study whose bank is used; its files are looked for in the folders that are given."""
    chosen = ["devices=[macs]", "budget.trials=1", "verify.points=0"]
    if options.quick:
        return load_study(name, [*chosen, *QUICK])
    study = load_study(name)
    chosen.append(f"data.source={options.data / Path(study.data.source).name}")
    if study.backbone.weights:
        chosen.append(f"backbone.weights={options.models / Path(study.backbone.weights).name}")
    return load_study(name, chosen)


def pooled(run: Run) -> ExitTable:
    """Calibration and test samples of a run's bank as one table."""
    bank = next(trial.design for trial in run.answers.trials if trial.origin == "bank")
    kept = [run.directory.store.get("table", f"{bank}-{split}") for split in ("cal", "test")]
    cal, test = (ExitTable.from_arrays(*each) for each in kept if each is not None)
    logits, labels = np.concatenate([cal.logits, test.logits], axis=1), np.concatenate([cal.labels, test.labels])
    return ExitTable(logits, labels, cal.exits, "cal", "all")


def halved(table: ExitTable, counted: Profile, study: Study, seed: int) -> Half:
    """One halving, solved for multiply-adds."""
    order = np.random.default_rng(seed).permutation(len(table.labels))
    cal, test = (
        replace(table, logits=table.logits[:, rows], labels=table.labels[rows], split=split)
        for split, rows in zip(("cal", "test"), np.array_split(order, 2), strict=True)
    )
    scoring = Scoring(fits=(fit_temperature(cal, seed=seed),))
    family, macs = Family(study.space.max_exits), stage_costs(counted, table.exits, "max_prob", "macs")
    front = solve_front(cal, macs, scoring=scoring, family=family)
    half = Half(cal, test, scoring, family, macs, front, {})
    half.sets["random"] = [half.told(policy) for policy in random_policies(half, seed)]
    half.sets["placements"] = [half.told(policy) for policy in placements(half)]
    half.sets["best by multiply-adds"] = [half.told(point.policy) for point in front.points]
    statics = static_front(cal, [macs], scoring).points
    half.sets["static sub-networks"] = [half.told(point.policy) for point in statics]
    return half


def random_policies(half: Half, seed: int) -> Iterator[Policy]:
    """Random exits at random cuts, each leaving a random share of the calibration samples that it is shown."""
    rng, table = np.random.default_rng(seed), half.cal
    places = [
        [row for row, e in enumerate(table.exits) if e.cut == cut] for cut in dict.fromkeys(e.cut for e in table.exits)
    ]
    early, output = [rows for rows in places if not table.exits[rows[0]].is_output], len(table.exits) - 1
    for _ in range(RANDOM):
        count = int(rng.integers(1, min(half.family.max_exits, len(early)) + 1))
        chosen = np.sort(rng.choice(len(early), count, replace=False))
        rows = [*(int(rng.choice(early[place])) for place in chosen), output]
        scores, _ = path_outputs(table, rows, half.scoring)
        shares = rng.random(count)
        limits = [*(float(np.quantile(each, share)) for each, share in zip(scores, shares, strict=False)), -inf]
        stops = tuple(Stop(exit=table.exits[row], threshold=limit) for row, limit in zip(rows, limits, strict=True))
        yield Policy(stops=stops, criterion=half.scoring.criterion, fits=half.scoring.keys)


def placements(half: Half) -> list[Policy]:
    """The cheapest policy by multiply-adds of every placement of one or two exits; the same one is told once."""
    table, found = half.cal, list[Policy]()
    best = [row for row in best_per_cut(table.exits, table.accuracy) if not table.exits[row].is_output]
    for count in (1, 2):
        for rows in combinations(best, count):
            exits = [table.exits[row] for row in (*rows, len(table.exits) - 1)]
            part, costs = table.select(exits), half.macs.select(exits)
            front = solve_front(part, costs, scoring=half.scoring, family=Family(count), effort=Effort(refine=False))
            point = front.within(PLACED_WITHIN)
            if point is not None and len(point.policy.stops) > 1:
                found.append(point.policy)
    return list(dict.fromkeys(found))


def prices(points: Sequence[Evaluation], costs: StageCosts) -> NDArray[np.float64]:
    """What policies cost, over what the backbone costs. [P]"""
    spent = [costs.mean(point.policy.exits, np.array(point.exit_rate)) for point in points]
    return np.array(spent) / costs.backbone


def rows_of(half: Half, profiles: Sequence[Profile], shown: bool) -> Iterator[dict[str, Any]]:
    """One device on one halving.

    Args:
        half: The halving.
        profiles: Measurements of the device. [R]
        shown: Whether policies are told one by one, too.
    """
    measured = [stage_costs(each, half.cal.exits, "max_prob", each.axis) for each in profiles]
    timed = np.array([prices(half.sets["random"], costs) for costs in measured])  # [R, P]
    between = float(np.median(np.ptp(timed, axis=0) / np.median(timed, axis=0)))
    noise = max(between, *(each.latency.noise for each in profiles if each.latency))
    backbone = {"backbone_ms": float(np.median([each.backbone for each in measured])), "noise": noise}
    for repeat, costs in enumerate(measured):
        others = [each for each in measured if each is not costs] or [costs]
        for name in ("random", "placements"):
            yield {"part": "ranks", "set": name, "repeat": repeat} | backbone | ranks(half, name, costs, others, noise)
        own = solve_front(half.cal, costs, scoring=half.scoring, family=half.family)
        for drop in DROPS:
            yield {"part": "picks", "max_drop": drop, "repeat": repeat} | backbone | regret(half, own, others, drop)
    if shown:
        for name in COLOURS:
            points = half.sets[name][:: ceil(len(half.sets[name]) / SHOWN)]
            on_device = np.median([prices(points, costs) for costs in measured], axis=0)
            for point, counted, ratio in zip(points, prices(points, half.macs), on_device, strict=True):
                row = {"part": "points", "set": name, "accuracy": point.accuracy}
                yield row | {"macs_ratio": counted, "ratio": ratio}


def ranks(half: Half, name: str, costs: StageCosts, others: Sequence[StageCosts], noise: float) -> dict[str, float]:
    """How far the order by multiply-adds is that on the device."""
    points = half.sets[name]
    counted, timed = prices(points, half.macs), prices(points, costs)
    again = [float(kendalltau(timed, prices(points, each)).statistic) for each in others]
    cheaper = counted[:, None] < counted[None] * (1.0 - 1e-9)
    slower = timed[:, None] > timed[None]
    beyond = timed[:, None] > timed[None] * (1.0 + noise)
    return {
        "policies": len(points),
        "tau": float(kendalltau(counted, timed).statistic),
        "tau_itself": float(np.mean(again)),
        "inverted": float(slower[cheaper].mean()),
        "inverted_beyond_noise": float(beyond[cheaper].mean()),
    }


def regret(half: Half, own: Front, others: Sequence[StageCosts], drop: float) -> dict[str, Any]:
    """What is lost by choosing by multiply-adds; all prices are those of other measurements than the one chosen by."""
    chosen = [half.told((front.within(drop) or front.backbone).policy) for front in (half.front, own)]
    by_macs, by_device = (prices([point], half.macs)[0] for point in chosen)
    priced = np.array([prices(chosen, each) for each in others])  # [R - 1, 2]
    more = priced[:, 0] / priced[:, 1] - 1.0
    accuracy, cuts = half.test.accuracy[-1], ["|".join(e.cut for e in point.policy.exits) for point in chosen]
    return {
        "ratio_macs": float(np.median(priced[:, 0])),
        "ratio_own": float(np.median(priced[:, 1])),
        "drop_macs": float(accuracy - chosen[0].accuracy),
        "drop_own": float(accuracy - chosen[1].accuracy),
        "counted_macs": float(by_macs),
        "counted_own": float(by_device),
        "regret": float(np.median(more)),
        "regret_range": float(np.ptp(more)),
        "same": cuts[0] == cuts[1],
        "cuts_macs": cuts[0],
        "cuts_own": cuts[1],
    }


def summary(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Per device: the ranks; and the picks, medians and ranges over seeds and measurements."""
    ranked, chosen = [], []
    for device, part in rows.groupby("device", sort=False):
        found = {
            "device": device,
            "backbone ms": spread(part["backbone_ms"].dropna()),
            "noise": spread(part["noise"].dropna(), 2),
        }
        for name in ("random", "placements"):
            own = part[(part["part"] == "ranks") & (part["set"] == name)]
            found[f"tau, {name}"] = spread(own["tau"], 2)
            found["itself" if name == "random" else "itself "] = spread(own["tau_itself"], 2)
            found["otherwise" if name == "random" else "otherwise "] = f"{own['inverted_beyond_noise'].median():.1%}"
        ranked.append(found)
        for drop, own in part[part["part"] == "picks"].groupby("max_drop"):
            limit = own[["noise", "regret_range"]].max(axis=1)
            chosen.append(
                {
                    "device": device,
                    "within": f"{100.0 * drop:g}",
                    "by MACs": spread(own["ratio_macs"]),
                    "own": spread(own["ratio_own"]),
                    "regret %": spread(100.0 * own["regret"], 1),
                    "points lost": f"{100.0 * own['drop_macs'].median():.2f} / {100.0 * own['drop_own'].median():.2f}",
                    "same cuts": f"{int(own['same'].astype(bool).sum())} of {len(own)}",
                    "ties": f"{int((own['regret'].abs() <= limit).sum())} of {len(own)}",
                }
            )
    return pd.DataFrame(ranked), pd.DataFrame(chosen)


def draw(rows: pd.DataFrame, path: Path, title: str) -> None:
    """Cost in multiply-adds against cost on every device, and what choosing by multiply-adds costs there."""
    devices = list(dict.fromkeys(rows["device"]))
    columns = ceil(len(devices) / 2) + 1
    figure = Figure(figsize=(3.1 * columns + 0.6, 6.2), layout="constrained")
    grid = figure.add_gridspec(2, columns)
    shared: Axes | None = None
    for number, device in enumerate(devices):
        place = grid[number // (columns - 1), number % (columns - 1)]
        axis = figure.add_subplot(place, sharex=shared)
        shared = shared or axis
        part = rows[rows["device"] == device]
        for name, colour in COLOURS.items():
            own = part[(part["part"] == "points") & (part["set"] == name)]
            axis.plot(own["macs_ratio"], own["ratio"], MARKERS[name], ms=5, mew=0, color=colour, label=name)
        axis.axline((0, 0), slope=1, color="#bbbbbb", lw=0.8, zorder=0)
        tau = part[part["part"] == "ranks"].groupby("set")["tau"].median()
        axis.set_title(f"{device}\ntau: random {tau['random']:.2f}, placements {tau['placements']:.2f}", fontsize=9)
        axis.set(xlabel="multiply-adds / backbone's", ylabel="predicted time / backbone's")
    if shared is not None:
        figure.legend(*shared.get_legend_handles_labels(), frameon=False, loc="lower left", ncols=3)
    _regrets(figure.add_subplot(grid[:, -1]), rows, devices)
    figure.suptitle(title)
    save(figure, path)


def _regrets(axis: Axes, rows: pd.DataFrame, devices: Sequence[str]) -> None:
    """What the best policy by multiply-adds costs more than the device's own: medians and ranges."""
    shades = ("#08306b", "#2171b5", "#6baed6", "#c6dbef")
    for number, (drop, shade) in enumerate(zip(DROPS, shades, strict=True)):
        picks = rows[(rows["part"] == "picks") & (rows["max_drop"] == drop)]
        told = [100.0 * picks.loc[picks["device"] == device, "regret"] for device in devices]
        middle = np.array([each.median() for each in told])
        reach = np.array([(each.median() - each.min(), each.max() - each.median()) for each in told]).T
        places = np.arange(len(devices)) + 0.2 * (number - 1.5)
        axis.barh(places, middle, 0.18, xerr=reach, color=shade, label=f"within {100.0 * drop:g}", ecolor="#888888")
    for place, device in enumerate(devices):
        noise = 100.0 * rows.loc[rows["device"] == device, "noise"].median()
        axis.fill_betweenx([place - 0.45, place + 0.45], -noise, noise, color="#eeeeee", zorder=0, lw=0)
    axis.axvline(0.0, color="#888888", lw=0.8)
    axis.set_yticks(
        range(len(devices)), [device.removeprefix("cpu:").replace(":", " ") for device in devices], fontsize=8
    )
    axis.invert_yaxis()
    axis.set_title("chosen by multiply-adds: time more\nthan the device's own pick", fontsize=9)
    axis.set_xlabel("% (grey: within the noise)")
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.1), "ncols": 2}
    axis.legend(frameon=False, fontsize=8, title="points lost", title_fontsize=8, **below)


def present(names: Sequence[str]) -> list[str]:
    """Devices that are here; of the others is told why not."""
    found = []
    for name in names:
        try:
            parse_device(name)
        except CostError as error:
            print(f"left out: {error}")
        else:
            found.append(name)
    return found


def main() -> None:
    """Train the bank, measure in turns, rank, choose, sum up, draw."""
    made = parser(__doc__, minutes=90)
    made.add_argument("--study", help="by default cifar10_resnet20")
    made.add_argument("--device", action="append", help=f"by default {', '.join(DEVICES)}")
    made.add_argument("--repeats", type=int, default=3, help="measurements of each profile")
    options = made.parse_args()
    if options.quick:
        options.seeds, options.repeats = 2, 2
    elif not options.data:
        made.error("the full form needs --data, and --models for pretrained networks")
    study = question(options.study or ("digits" if options.quick else "cifar10_resnet20"), options)
    name, clock = "transfer-quick" if options.quick else "transfer", Clock(options.budget)
    sheet = Sheet(options.out / f"{name}.csv", ["study", "device", "seed"], where("onnxruntime", "openvino"))
    devices = present(options.device or (QUICK_DEVICES if options.quick else DEVICES))
    lacking = [d for d in devices if not all(sheet.has(study.name, d, seed) for seed in range(options.seeds))]
    announce((1.5 if options.quick else MINUTES) * len(lacking) / len(devices), sheet)
    at, begun = options.work / f"{name}-{study.name}", time.monotonic()
    with ProgressBars() as bars:
        run = search_study(study, at, watchers=Watchers(progress=bars))
        counted = profile(study, at, MACS)
        profiles: list[dict[str, Profile]] = []
        for repeat in range(options.repeats if lacking else 0):
            if clock.over:
                made.error(f"the budget was over after {repeat} of {options.repeats} measurements: call this again")
            there = at / f"measured-{repeat}"  # kept: a second call measures what is missing
            profiles.append({device: profile(study, there, device, progress=bars) for device in lacking})
    table, shared = pooled(run), time.monotonic() - begun
    for seed in range(options.seeds):
        missing = [device for device in lacking if not sheet.has(study.name, device, seed)]
        if clock.over or not missing:
            continue
        begun = time.monotonic() - shared  # the first row pays for bank and profiles
        half = halved(table, counted, study, seed)
        for device in missing:
            rows = list(rows_of(half, [each[device] for each in profiles], shown=seed == 0))
            sheet.add([study.name, device, seed], rows, time.monotonic() - begun)
            begun, shared = time.monotonic(), 0.0
    rows = sheet.rows[sheet.rows["study"] == study.name]
    with pd.option_context("display.width", 260, "display.max_columns", None):
        print(*(part.to_string(index=False) for part in summary(rows)), sep="\n\n")
    draw(rows, options.out / f"{name}-{study.name}.png", f"{study.name}: are costs in multiply-adds costs in time?")
    print(f"total compute: {sheet.compute()}")


if __name__ == "__main__":
    main()
