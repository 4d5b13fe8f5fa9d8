"""Is the latency of a front the latency on the device? Points of real fronts run end to end, on several back ends.

Points spread over the first front of each run are verified (`eesearch verify`) on every device: the network with its
exits runs over test samples in blocks that alternate with the unmodified network, in fresh processes, and its mean
latency is set beside what the front predicts. The prediction was put together from prefixes, heads, decisions and
resumptions before; nothing is fitted to what is measured here.

    python benchmarks/latency.py RUN [RUN ...] [--points 20] [--seconds 8] [--processes 3] [--device D ...] [--quick]
                                 [--out DIR]

Each RUN is a finished run, such as `eesearch search cifar10_resnet56 --set devices=[macs]` makes. A device that its
study does not list is profiled first. Rows go to latency.csv (one per point), the scatter plot to latency.png. What a
run has verified on this machine in as many processes is not measured again (`verified.json` of the run), so a second
call adds what is missing.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from eesearch.costs.devices import parse_device, usable_cores
from eesearch.reporting.console import ProgressBars
from eesearch.study.picks import Picked
from eesearch.study.run import Run
from eesearch.study.strategies import spread
from eesearch.study.verified import Verified, policy_key
from eesearch.study.verify import Effort, verify

DEVICES = ("cpu:eager:t1:b1", "cpu:eager:t2:b1", "cpu:onnxruntime:t1:b1", "cpu:openvino:t1:b1")
COLORS = {"eager": "#0072b2", "compile": "#cc79a7", "onnxruntime": "#d55e00", "openvino": "#009e73"}


def rows_of(run: Run, name: str, options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Points of the run's first front, predicted and measured on a device."""
    front = run.device()
    chosen = spread([Picked(front, point) for point in front.points if not front.is_backbone(point)], options.points)
    known = {(e.policy, e.device): e for e in run.directory.verified() if e.processes >= options.processes}
    missing = [picked for picked in chosen if (policy_key(picked.point.cal), name) not in known]
    if missing:
        with ProgressBars() as bars:
            effort = Effort(options.seconds, options.processes)
            found = verify(run, missing, name, effort=effort, progress=bars)
        known |= {(entry.policy, entry.device): entry for entry in found}
    for picked in chosen:
        yield row_of(run, picked, known[policy_key(picked.point.cal), name])


def row_of(run: Run, picked: Picked, entry: Verified) -> dict[str, object]:
    """One point, for the table."""
    test = picked.point.test
    return {
        "study": run.answers.study,
        "device": entry.device,
        "point": entry.point,
        "exits": "|".join(e.cut for e in test.policy.exits),
        "accuracy": entry.accuracy,
        "accuracy_table": entry.table_accuracy,
        "differing": entry.differing,
        "macs_ratio": test.costs["macs"].mean / picked.device.backbone.test.costs["macs"].mean,
        "predicted_ms": entry.predicted.mean,
        "measured_ms": entry.measured.mean,
        "error": entry.error,
        "predicted_ratio": entry.predicted_ratio,
        "ratio": entry.ratio,
        "ratio_low": entry.interval[0],
        "ratio_high": entry.interval[1],
        "p50_predicted_ms": entry.predicted.p50,
        "p50_measured_ms": entry.measured.p50,
        "p95_predicted_ms": entry.predicted.p95,
        "p95_measured_ms": entry.measured.p95,
        "backbone_predicted_ms": entry.predicted_backbone,
        "backbone_measured_ms": entry.backbone.mean,
        "backbone_p50_ms": entry.backbone.p50,
        "noise": entry.noise,
        "contention": entry.contention,
        "samples": entry.samples,
        "calls": entry.calls,
        "processes": entry.processes,
    }


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Per study and device: how far predictions are off, and where exits do not pay."""
    found = []
    for (study, device), part in rows.groupby(["study", "device"], sort=False):
        slower = (part["ratio_low"] > 1.0) | (part["p50_measured_ms"] > part["backbone_p50_ms"])
        found.append(
            {
                "study": study,
                "device": device,
                "points": len(part),
                "backbone ms": part["backbone_measured_ms"].median(),
                "median |error|": part["error"].abs().median(),
                "largest |error|": part["error"].abs().max(),
                "of the ratio": (part["predicted_ratio"] / part["ratio"] - 1.0).abs().median(),
                "Spearman": spearmanr(part["predicted_ms"], part["measured_ms"]).statistic,
                "noise": part["noise"].median(),
                "contention": part["contention"].max(),
                "slower, mean": int((part["ratio_low"] > 1.0).sum()),
                "slower, median": int(slower.sum()),
                "MACs against time": spearmanr(part["macs_ratio"], part["ratio"]).statistic,
            }
        )
    return pd.DataFrame(found)


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Predicted against measured, and cost in multiply-adds against cost in time."""
    studies = list(dict.fromkeys(rows["study"]))
    figure = Figure(figsize=(4.6 * (len(studies) + 1), 4.2), layout="constrained")
    axes = figure.subplots(1, len(studies) + 1)
    for axis, study in zip(axes, studies, strict=False):
        part = rows[rows["study"] == study]
        _scatter(axis, part, "predicted_ms", "measured_ms")
        axis.set(xscale="log", yscale="log", xlabel="predicted mean (ms)", ylabel="measured mean (ms)", title=study)
    _scatter(axes[-1], rows, "macs_ratio", "ratio")
    axes[-1].set(xlabel="MACs / backbone's", ylabel="measured time / backbone's", title="all: multiply-adds and time")
    axes[-1].axhline(1.0, color="#bbbbbb", lw=0.8, zorder=0)
    axes[0].legend(frameon=False, loc="upper left", fontsize=8)
    figure.savefig(path, dpi=130)


def _scatter(axis: Axes, rows: pd.DataFrame, x: str, y: str) -> None:
    low, high = rows[[x, y]].min().min(), rows[[x, y]].max().max()
    axis.plot([low, high], [low, high], color="#bbbbbb", lw=0.8, zorder=0)
    for device, part in rows.groupby("device", sort=False):
        where = parse_device(str(device))
        filled = COLORS.get(where.backend, "#555555") if where.threads == 1 else "none"
        axis.scatter(
            part[x], part[y], s=22, label=device, facecolors=filled, edgecolors=COLORS.get(where.backend, "#555555")
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="finished runs")
    parser.add_argument("--points", type=int, default=20, help="of each front")
    parser.add_argument("--seconds", type=float, default=8.0, help="per point")
    parser.add_argument("--processes", type=int, default=3, help="fresh ones per point")
    parser.add_argument("--device", action="append", help=f"by default {', '.join(DEVICES)}")
    parser.add_argument("--quick", action="store_true", help="5 points, 2 seconds, one process")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    if options.quick:
        options.points, options.seconds, options.processes = 5, 2.0, 1
    return options


def main() -> None:
    """Verify what is missing, write rows, sum up, draw."""
    options = _options()
    runs = [Run.load(path, trust=True) for path in options.runs]
    work = [(run, device) for run in runs for device in options.device or DEVICES]
    print(
        f"about {len(work) * options.points * options.seconds / 60:.0f} minutes, and what profiling and compiling take"
    )
    print(f"{platform.machine()}, {len(usable_cores())} cores, torch {torch.__version__}, numpy {np.__version__}")
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for run, name in work:
        start = time.monotonic()
        rows += rows_of(run, name, options)
        pd.DataFrame(rows).to_csv(options.out / "latency.csv", index=False, float_format="%.6g")
        print(f"{run.answers.study}, {name}: {time.monotonic() - start:.0f} s")
    table = pd.DataFrame(rows)
    with pd.option_context("display.width", 220, "display.max_columns", None, "display.float_format", "{:.3f}".format):
        print(summary(table).to_string(index=False))
    draw(table, options.out / "latency.png")


if __name__ == "__main__":
    main()
