"""BranchyNet's table, measured again: its designs and thresholds beside ours, from the same networks, in one runtime.

For each network and seed the backbone is trained once (the pretrained ResNet-56: a seed moves the halves of the test
set), and these start from it: BranchyNet's own design (`branches.py`), trained jointly, with the paper's thresholds of
entropy and with thresholds screened on calibration; ours, a bank and a few joint designs; and static networks: those
of ours cut at an exit; beside the ResNet-56 smaller ResNets, too. All are chosen on calibration, and run on test end to
end at batch 1, really stopping early, in blocks that take turns with the backbone.

    python benchmarks/branchynet.py --data DATA --models MODELS [--networks lenet alexnet resnet] [--device DEVICE]
    python benchmarks/branchynet.py --quick

Rows go to branchynet.csv (branchynet-DEVICE.csv, if it is not cpu:eager:t1:b1), one per network, seed, method and pick:
accuracy, points lost to the backbone, predicted and measured speed-up with its 95 % interval; branchynet.png has them.
Picks: `no loss` loses nothing on calibration, `expected` is expected to lose nothing on new samples, `certified` loses
at most so much with a confidence of 90 %. Where nothing qualifies, the backbone is left; BranchyNet's is then the most
accurate that was screened.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, log
from pathlib import Path
from typing import Any

import pandas as pd
from branches import NETWORKS, QUICK, Network
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from safetensors.torch import save_file
from sheet import Clock, Sheet, announce, parser, save, spread, where
from statics import Timed, smaller_resnets, sub_network, time_static

from eesearch import api
from eesearch.core.costs import stage_costs
from eesearch.core.errors import PickError
from eesearch.core.front import Front
from eesearch.core.policy import Policy, Scoring, Stop
from eesearch.costs.profile import load_profile
from eesearch.notebook import Run
from eesearch.reporting.console import ProgressBars
from eesearch.solve.baselines import screened
from eesearch.solve.placed import Placed, evaluations, thresholded
from eesearch.study.handmade import by_hand, exit_table
from eesearch.study.materials import load_study_data
from eesearch.study.picks import Picked
from eesearch.study.question import Study
from eesearch.study.strategies import spread as spread_over
from eesearch.study.verified import Verified, policy_key
from eesearch.study.verify import Effort, verify

OURS, BRANCHY, STATIC, SMALLER = "ours", "BranchyNet", "static", "smaller network"
COLOURS = {OURS: "#0072b2", BRANCHY: "#d55e00", STATIC: "#777777", SMALLER: "#009e73"}
MARKERS = {"expected": "D", "no loss": "o", "certified": "s", "paper's thresholds": "^", "screened": "o"}
STATICS = 4
"""Sub-networks that are shown, beside the cheapest one at no loss."""


@dataclass(frozen=True)
class Entry:
    """What one method gives.

    Attributes:
        picked: None: nothing qualifies, and the backbone is left.
    """

    method: str
    pick: str
    picked: Picked | None


def ours(run: Run, network: Network) -> Iterator[Entry]:
    """Our picks."""
    device = run.device()
    run.certify(network.certified)
    choices = {"expected": ("max-drop=0%", False), "no loss": ("max-drop=0%", True)}
    for name, (selection, naive) in (choices | {"certified": (f"certified={network.certified}", False)}).items():
        try:
            picked = run.pick(selection, device=device.device, naive=naive)
        except PickError:
            yield Entry(OURS, name, None)
        else:
            yield Entry(OURS, name, None if device.is_backbone(picked.point) else picked)


def branchynet(run: Run, network: Network) -> Iterator[Entry]:
    """BranchyNet's design, with its thresholds, and with the cheapest screened ones that lose nothing on calibration.

    If all lose, with the most accurate ones.
    """
    device, (design,) = run.device(), run.answers.designs
    table, scoring = exit_table(run, design, "cal"), Scoring("entropy")
    sure = [1.0 - nats / log(table.logits.shape[-1]) for nats in network.thresholds]
    yield Entry(BRANCHY, "paper's thresholds", by_hand(run, design, thresholded(table.exits, sure, scoring)))
    costs = stage_costs(load_profile(run.directory.profile_file(device.device)), table.exits, "entropy", device.axis)
    candidates = screened(Placed.of(table, costs, range(len(table.exits)), scoring))
    found = evaluations([(policy, ()) for policy in candidates], table, [costs])
    front = Front(found, backbone=device.backbone.cal, axis=device.axis, device=device.device)
    chosen = front.within(0.0) or max(found, key=lambda point: point.accuracy)
    yield Entry(BRANCHY, "screened", by_hand(run, design, chosen.policy))


def statics(run: Run) -> Iterator[Entry]:
    """Sub-networks of every network that was trained and kept: the non-dominated ones on calibration."""
    device = run.device()
    kept = [key for key in run.answers.designs if run.directory.store.path("weights", key).exists()]
    alone = [
        by_hand(run, key, Policy(stops=(Stop(exit=exit_id, threshold=-inf),), criterion="max_prob"))
        for key in kept
        for exit_id in exit_table(run, key, "cal").exits
        if not exit_id.is_output
    ]
    known = {picked.point.cal.policy: picked for picked in alone}
    front = Front(
        [picked.point.cal for picked in alone], backbone=device.backbone.cal, axis=device.axis, device=device.device
    )
    free = front.within(0.0)
    yield Entry(STATIC, "no loss", None if free is None else known[free.policy])
    for number, point in enumerate(spread_over(front.points, STATICS)):
        yield Entry(STATIC, f"sub-network {number + 1}", known[point.policy])


def search(study: Study, path: Path) -> Run:
    """Run a study, or go on with it."""
    with ProgressBars() as bars:
        return api.search_study(study, path, watchers=api.Watchers(progress=bars))


def trained(run: Run, path: Path) -> Path:
    """The weights of a run's backbone as a file."""
    device = run.device()
    net, _ = run.network(device.backbone, load_study_data(run.question()).test.x[:2])
    state = net.backbone.original_state()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def rows_of(network: Network, seed: int, options: argparse.Namespace) -> list[dict[str, object]]:
    """All methods on one network and seed."""
    study = network.question(seed, options.device, (options.data, options.models), options.trials)
    work = options.work / f"branchynet-{study.name}-{options.device.replace(':', '-')}-{seed}"
    our_run = search(study, work / "ours")
    its_run = search(network.design(study, trained(our_run, work / "backbone.safetensors")), work / "branchynet")
    rows = measured(its_run, list(branchynet(its_run, network)), options)
    rows += measured(our_run, list(ours(our_run, network)), options)
    return rows + measured_statics(our_run, network, options)


def measured(run: Run, entries: Sequence[Entry], options: argparse.Namespace) -> list[dict[str, object]]:
    """Entries of one run, end to end."""
    picks = [entry.picked for entry in entries if entry.picked is not None]
    with ProgressBars() as bars:
        ran = verify(run, picks, options.device, effort=_effort(options), progress=bars) if picks else ()
    known = {each.policy: each for each in ran}
    backbone = run.device().backbone.test.accuracy
    rows = []
    for entry in entries:
        row: dict[str, object] = {"backbone": backbone, "method": entry.method, "pick": entry.pick}
        if entry.picked is not None:
            _, point = entry.picked
            row |= _chosen(entry.picked) | _measured(known[policy_key(point.cal)], backbone)
        rows.append(row if entry.picked is not None else row | _left(backbone))
    return rows


def measured_statics(run: Run, network: Network, options: argparse.Namespace) -> list[dict[str, object]]:
    """Static networks, end to end."""
    entries, backbone = list(statics(run)), run.device().backbone.test.accuracy
    rows: list[dict[str, object]] = [
        {"backbone": backbone, "method": STATIC, "pick": entry.pick}
        | (_left(backbone) if entry.picked is None else _chosen(entry.picked))
        for entry in entries
    ]
    timed = {number: sub_network(run, e.picked.point) for number, e in enumerate(entries) if e.picked is not None}
    if network.weights:
        for name, resnet in smaller_resnets(run, options.models).items():
            timed[len(rows)] = resnet
            rows.append({"backbone": backbone, "method": SMALLER, "pick": name})
    pair_ms = 2.0 * run.device().backbone.cal.costs["latency_ms"].mean
    found = time_static(run, list(timed.values()), options.device, _effort(options), pair_ms)
    for number, each in zip(timed, found, strict=True):
        rows[number] |= _measured(each, backbone)
    return rows


def _effort(options: argparse.Namespace) -> Effort:
    return Effort(options.seconds, options.processes)


def _left(backbone: float) -> dict[str, object]:
    """Where nothing qualifies, the backbone is left."""
    return {"stops": "", "accuracy": backbone, "lost": 0.0, "predicted": 1.0, "speedup": 1.0}


def _chosen(picked: Picked) -> dict[str, object]:
    device, point = picked
    rates = zip(point.test.policy.exits, point.test.exit_rate, strict=True)
    return {
        "stops": " > ".join(f"{rate:.1%} {exit_id.cut}" for exit_id, rate in rates),
        "lost_cal": 100.0 * device.drop(point),
        "predicted": 1.0 / device.ratio(point),
    }


def _measured(ran: Verified | Timed, backbone: float) -> dict[str, object]:
    compared = ran if isinstance(ran, Verified) else ran.compared
    low, high = compared.interval
    noise = ran.noise if isinstance(ran, Verified) else max(compared.spread, compared.processes_spread)
    return {
        "accuracy": ran.accuracy,
        "lost": 100.0 * (backbone - ran.accuracy),
        "speedup": 1.0 / compared.ratio,
        "low": 1.0 / high,
        "high": 1.0 / low,
        "noise": noise,
        "backbone_ms": compared.backbone.mean,
    }


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Medians over seeds, with ranges, beside the paper's."""
    told = []
    for key, group in rows.groupby(["network", "method", "pick"], sort=False):
        network, method, pick = key
        told.append(
            {
                "network": network,
                "method": method,
                "pick": pick,
                "seeds": len(group),
                "accuracy %": spread(100.0 * group["accuracy"], 2),
                "points lost": spread(group["lost"], 2),
                "predicted": spread(group["predicted"], 2),
                "speed-up": spread(group["speedup"], 2),
                "noise": group["noise"].max(),
            }
        )
    return pd.DataFrame(told)


def anchors(rows: pd.DataFrame) -> str:
    """The paper's figures, in words."""
    lines = []
    for name in rows["network"].unique():
        paper, own = NETWORKS[name].paper, 100.0 * rows[rows["network"] == name].groupby("seed")["backbone"].first()
        lines.append(
            f"{name}: the paper has {paper.speedup} x at {paper.accuracy} % against {paper.backbone} % of the network; "
            f"ours has {spread(own, 2)} %"
        )
    return "\n".join(lines)


def draw(rows: pd.DataFrame, title: str) -> Figure:
    """Accuracy beside the backbone's against speed-up, a panel per network."""
    names = list(rows["network"].unique())
    figure = Figure(figsize=(max(6.4, 4.4 * len(names)), 4.8), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        draw_network(panel, name, rows[rows["network"] == name])
    handles = {label: handle for p in panels for handle, label in zip(*p.get_legend_handles_labels(), strict=True)}
    columns = 3 if len(names) == 1 else 4
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False, fontsize=8
    )
    panels[0].set_ylabel("accuracy beside the backbone's (points)")
    figure.suptitle(title, fontsize=10)
    return figure


def draw_network(panel: Axes, name: str, rows: pd.DataFrame) -> None:
    """One panel: seeds faint, with 95 % intervals, their medians in full; of static networks every one."""
    paper = NETWORKS[name].paper
    panel.axhline(0.0, color="#bbbbbb", lw=0.8, zorder=0)
    panel.axvline(1.0, color="#bbbbbb", lw=0.8, zorder=0)
    for (method, pick), group in rows.groupby(["method", "pick"], sort=False):
        static, color, gained = method in (STATIC, SMALLER), COLOURS[str(method)], -group["lost"]
        marker, label = ("X", f"{method}") if static else (MARKERS[str(pick)], f"{method}: {pick}")
        bars = (group["speedup"] - group["low"]).fillna(0.0), (group["high"] - group["speedup"]).fillna(0.0)
        panel.errorbar(group["speedup"], gained, xerr=bars, fmt="none", ecolor=color, alpha=0.3, lw=0.8)
        drawn = {"color": color, "mec": "white", "mew": 0.6}
        if static:
            panel.plot(group["speedup"], gained, marker, ms=6, alpha=0.8, label=label, **drawn)
            continue
        panel.plot(group["speedup"], gained, marker, ms=5, alpha=0.3, **drawn)
        panel.plot(group["speedup"].median(), gained.median(), marker, ms=8, label=label, **drawn)
    gain = paper.accuracy - paper.backbone
    panel.plot(paper.speedup, gain, "*", ms=14, color="#cc79a7", mec="white", label="the paper's own figures")
    panel.set(title=name, xlabel="times faster than the backbone, by the clock", xscale="log")
    panel.set_yscale("symlog", linthresh=1.0)
    panel.set_xticks(**_ticks((0.25, 0.5, 1, 2, 3, 4, 6, 8, 12), panel.get_xlim(), "{:g} x"))
    panel.set_yticks(**_ticks((-50, -20, -10, -5, -2, -1, -0.5, 0, 0.5, 1, 2, 5), panel.get_ylim(), "{:g}"))
    panel.minorticks_off()


def _ticks(ticks: Sequence[float], limits: tuple[float, float], form: str) -> dict[str, list[Any]]:
    kept = [tick for tick in ticks if limits[0] <= tick <= limits[1]]
    return {"ticks": kept, "labels": [form.format(tick) for tick in kept]}


def main() -> None:
    """Train, search, measure, report."""
    made = parser(__doc__, minutes=600.0)
    made.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    made.add_argument("--device", default="cpu:eager:t1:b1")
    made.add_argument("--trials", type=int, default=3, help="joint designs of ours")
    made.add_argument("--seconds", type=float, default=15.0, help="that each pick runs end to end")
    made.add_argument("--processes", type=int, default=3, help="fresh ones, of each pick")
    options = made.parse_args()
    networks = {name: NETWORKS[name] for name in options.networks}
    if options.quick:
        networks, options.seeds, options.trials, options.seconds, options.processes = QUICK, 1, 1, 2.0, 1
    elif not (options.data and (options.models or "resnet" not in networks)):
        made.error("name --data, and --models for the ResNet; or --quick")
    name = "branchynet-quick" if options.quick else "branchynet"
    name += "" if options.device == made.get_default("device") else f"-{options.device.replace(':', '-')}"
    sheet, clock = Sheet(options.out / f"{name}.csv", ("network", "seed"), where("onnxruntime")), Clock(options.budget)
    wanted = [(n, seed) for seed in range(options.seeds) for n in networks if not sheet.has(n, seed)]
    announce(sum(networks[n].minutes for n, _ in wanted), sheet)
    for network, seed in wanted:
        if clock.over:
            break
        start = time.monotonic()
        sheet.add((network, seed), rows_of(networks[network], seed, options), time.monotonic() - start)
    rows = sheet.rows[sheet.rows["network"].isin(networks)]
    with pd.option_context("display.width", 220, "display.max_columns", None):
        print(summary(rows).to_string(index=False))
    print(anchors(rows))
    save(draw(rows, f"End to end at batch 1 on {options.device}, on test"), options.out / f"{name}.png")
    print(sheet.compute())


if __name__ == "__main__":
    main()
