"""Do exits pay on a network that is tiny already? MLPerf Tiny's ResNet-8 on onnxruntime, beside its int8 version.

Per seed, which moves the halves that calibrate and report, the heads and the training: `eesearch search` on the study
`cifar10_resnet8`; then these networks run end to end, each in blocks that alternate with the fp32 backbone:

    naive, corrected  picks of the front within a drop: as calibration says, and as is to be expected on new samples
    static            sub-networks where everybody leaves at the same exit: those that calibration finds worth having
    int8              the backbone, quantised by onnxruntime (static, QDQ, per channel, on training images)
    fp32              the backbone beside itself: what the clock makes of no difference

The two last ones also take the largest logit, as a network with exits does. Picks read calibration; accuracy is that of
what ran, on the test half. Where no point keeps a drop, the backbone is what one deploys: ratio 1.

    python benchmarks/tiny.py --data DIR --models DIR [--seeds 3] [--seconds 12] [--processes 3] [--quick]

`--quick`: a small CNN on scikit-learn's digits, one seed and process. Rows go to tiny.csv, accuracy against latency to
tiny.png. A second call adds what is missing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from sheet import Clock, Sheet, announce, parser, save, spread, where
from torch import Tensor, nn

from eesearch.answering import Watchers
from eesearch.api import search_study
from eesearch.core.errors import PickError
from eesearch.core.front import exit_name
from eesearch.costs.blocks import Course, Piece, Subject
from eesearch.costs.devices import parse_device
from eesearch.costs.endtoend import AT_ONCE, Ran, run_course, timing_order
from eesearch.costs.pairing import compare_blocks
from eesearch.nets.inputs import as_tensor
from eesearch.reporting.console import ProgressBars
from eesearch.study.files import load_study
from eesearch.study.materials import load_study_data
from eesearch.study.picks import Picked
from eesearch.study.question import Study
from eesearch.study.run import Run
from eesearch.study.verified import Verified, policy_key
from eesearch.study.verify import Effort, verify
from eesearch.training.data import Dataset

DEVICE = "cpu:onnxruntime:t1:b1"
DROPS, QUICK_DROPS = (0.0, 0.005, 0.01, 0.02), (0.02,)
"""Exporting every stage of every network to ONNX takes most of the time: the quick form has few."""
QUANTISED_ON = 256
"""Training images that show the quantiser the range of what flows."""

HEADS = "[{kind: linear, pool: avg, size: 1}, {kind: linear, pool: mixed, size: 2}]"
QUICK = (
    f"devices=[{DEVICE}, macs]",
    "backbone.args={channels: [24, 48, 96], blocks: 1, classes: 10, in_channels: 1}",
    f"space={{cuts: {{max_cuts: 3}}, heads: {HEADS}, strategies: [separate], max_exits: 1}}",
    "training.epochs=10",
    "budget={trials: 1}",
    "measuring={processes: 1, rounds_max: 8, warmup: 0.05, warmup_max: 0.2}",
)
TICKS = (-50, -20, -10, -5, -2, -1, -0.5, 0, 0.5, 1)
"""Of points: evenly up to one, by their logarithm beyond."""

MINUTES = 25
"""Per seed, in full."""

COLOURS = {"naive": "#b0b0b0", "corrected": "#0072b2", "static": "#d55e00", "int8": "#009e73", "fp32": "#000000"}
MARKERS = {"naive": "o", "corrected": "o", "static": "s", "int8": "*", "fp32": "D"}


def question(options: argparse.Namespace, seed: int) -> Study:
    """The study of one seed."""
    chosen = [f"seed={seed}", "verify.points=0"]
    if options.quick:
        return load_study("digits", [*QUICK, *chosen])
    files = options.data / "cifar10.npz", options.models / "cifar10_mlperftiny_resnet8.safetensors"
    named = [f"data.source={files[0]}", f"backbone.weights={files[1]}"]
    return load_study(options.study, [*named, *chosen])


def picked(run: Run, drops: Sequence[float]) -> dict[tuple[str, str], Picked | None]:
    """What is picked, by the way to pick and the drop; None: the backbone."""
    found: dict[tuple[str, str], Picked | None] = {}
    for drop in drops:
        for kind in ("naive", "corrected"):
            try:
                pick = run.pick(max_drop=drop, device=DEVICE, naive=kind == "naive")
            except PickError:
                found[kind, f"{drop:.1%}"] = None
            else:
                found[kind, f"{drop:.1%}"] = None if pick.device.is_backbone(pick.point) else pick
    return found


def static(run: Run) -> dict[tuple[str, str], Picked | None]:
    """The sub-networks where everybody leaves at the same exit, as a front of their own."""
    device = run.device(DEVICE)
    points = tuple(point for point in device.static if not device.is_backbone(point))
    front = device.model_copy(update={"points": points})
    named = [(point, point.cal.policy.exits[0]) for point in points]
    return {("static", f"{exit_name(at)} ({at.head})"): Picked(front, point) for point, at in named}


def measured(run: Run, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows of all networks of one run."""
    chosen = picked(run, QUICK_DROPS if options.quick else DROPS) | static(run)
    effort = Effort(options.seconds, options.processes)
    with ProgressBars() as bars:
        entries = verify(run, [each for each in chosen.values() if each], DEVICE, effort=effort, progress=bars)
    known = {entry.policy: entry for entry in entries}
    for (kind, name), pick in chosen.items():
        row = row_of(known[policy_key(pick.point.cal)], pick) if pick else as_backbone(run)
        yield {"kind": kind, "name": name} | row
    yield from whole(run, effort)


def row_of(entry: Verified, pick: Picked) -> dict[str, Any]:
    """One network with exits."""
    return {
        "exits": "|".join(exit_name(e) for e in pick.point.cal.policy.exits),
        "strategy": pick.point.cal.strategy,
        "accuracy": entry.accuracy,
        "drop": pick.device.backbone.test.accuracy - entry.accuracy,
        "ms": entry.measured.mean,
        "fp32_ms": entry.backbone.mean,
        "ratio": entry.ratio,
        "ratio_low": entry.interval[0],
        "ratio_high": entry.interval[1],
        "predicted_ratio": entry.predicted_ratio,
        "noise": entry.noise,
        "contention": entry.contention,
        "differing": entry.differing,
        "samples": entry.total,
    }


def as_backbone(run: Run) -> dict[str, Any]:
    """What is deployed where no point keeps a drop."""
    test = run.device(DEVICE).backbone.test
    return {"exits": "output", "accuracy": test.accuracy, "drop": 0.0, "ratio": 1.0, "predicted_ratio": 1.0}


class Answering(nn.Module):
    """A whole network in the form of a stage: what it answers, and the largest logit in place of a score.

    Args:
        network: The backbone.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[N, ...] to logits [N, C], answer [N], score [N]."""
        (logits,) = self.network(x)
        return logits, logits.argmax(-1), logits.amax(-1)


class Shown(CalibrationDataReader):
    """Samples one by one, as the quantiser asks for them."""

    def __init__(self, name: str, x: NDArray[Any]) -> None:
        self.left = iter([{name: x[i : i + 1]} for i in range(len(x))])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next one."""
        return next(self.left, None)


def quantise(model: bytes, x: NDArray[Any]) -> bytes:
    """The int8 version of an ONNX model.

    Weights keep 7 of their 8 bits: without instructions for 8-bit products (VNNI), sums of the full range saturate,
    which cost this ResNet-8 three points of accuracy.

    Args:
        model: fp32.
        x: Raw samples. [N, ...]
    """
    graph = onnx.load_from_string(model)
    with tempfile.TemporaryDirectory() as folder:
        given, prepared, made = (Path(folder) / f"{name}.onnx" for name in ("given", "prepared", "made"))
        onnx.save(graph, given)
        quant_pre_process(str(given), str(prepared))
        quantize_static(
            str(prepared),
            str(made),
            Shown(graph.graph.input[0].name, x),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )
        return made.read_bytes()


def whole(run: Run, effort: Effort) -> Iterator[dict[str, Any]]:
    """The backbone in int8, and in fp32, each beside the backbone in fp32."""
    study, device = run.question(), parse_device(DEVICE)
    data, told = load_study_data(study), run.device(DEVICE).backbone.test
    model, answering = lowered(run, data)
    shown = np.random.default_rng(study.seed).permutation(len(data.train.x))[:QUANTISED_ON]
    models = {"int8": quantise(answering, data.train.x[shown]), "fp32": answering}
    args = (as_tensor(data.test.x[:1]),)
    pair_ms, everyone = 2.0 * told.costs["latency_ms"].mean, np.zeros(len(data.test.x), np.int64)
    order = timing_order(everyone, pair_ms, effort.seconds / effort.processes)
    subjects = tuple(Subject((Piece(each, args),), (-inf,), False, order) for each in models.values())
    course = Course(subjects, Piece(model, args), data.test.x, AT_ONCE)
    found: dict[int, Sequence[Ran]] = {}
    protocol = replace(study.measuring, processes=effort.processes)
    with ProgressBars() as bars:
        run_course(course, device=device, protocol=protocol, finished=found.__setitem__, progress=bars)
    for number, (kind, each) in enumerate(models.items()):
        compared = compare_blocks([ran.timed(order) for ran in found[number]])
        accuracy = float((np.array(found[number][0].said.answer) == data.test.y).mean())
        yield {
            "kind": kind,
            "name": f"{len(each) / 1024:.0f} kB",
            "exits": "output",
            "accuracy": accuracy,
            "drop": told.accuracy - accuracy,
            "ms": compared.exits.mean,
            "fp32_ms": compared.backbone.mean,
            "ratio": compared.ratio,
            "ratio_low": compared.interval[0],
            "ratio_high": compared.interval[1],
            "predicted_ratio": nan,
            "noise": max(compared.processes_spread, compared.spread),
            "contention": compared.contention,
            "samples": len(data.test.y),
        }


def lowered(run: Run, data: Dataset) -> tuple[bytes, bytes]:
    """The backbone as an ONNX model: as it is, and answering."""
    net, _ = run.network(run.device(DEVICE).backbone, data.test.x[:2])
    backbone = net.eval().backbone
    network, runs, args = backbone.span(0, len(backbone.segments)), parse_device(DEVICE).runs, data.test.x[:1]
    with torch.no_grad():
        plain, answering = (runs.prepare(each.eval(), (as_tensor(args),)) for each in (network, Answering(network)))
    return plain, answering


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Medians and ranges over seeds."""
    found = []
    for (kind, name), part in rows.groupby(["kind", "name"], sort=False):
        found.append(
            {
                "network": kind,
                "": name,
                "seeds": len(part),
                "test %": spread(100.0 * part["accuracy"], 2),
                "points lost": spread(100.0 * part["drop"], 2),
                "measured, x fp32": spread(part["ratio"]),
                "predicted": spread(part["predicted_ratio"]),
                "ms": spread(part["ms"]),
                "noise": spread(part["noise"], 2),
            }
        )
    return pd.DataFrame(found).sort_values("network", key=lambda c: c.map(list(COLOURS).index), kind="stable")


def draw(rows: pd.DataFrame, path: Path, title: str) -> None:
    """Accuracy against latency: medians over seeds, and their ranges."""
    figure = Figure(figsize=(6.8, 4.6), layout="constrained")
    axis = figure.subplots()
    axis.axhline(0.0, color="#dddddd", lw=0.8, zorder=0)
    axis.axvline(1.0, color="#dddddd", lw=0.8, zorder=0)
    gained = rows.assign(gained=-100.0 * rows["drop"])
    for kind, colour in COLOURS.items():
        groups = gained[gained["kind"] == kind].groupby("name", sort=False)[["ratio", "gained"]]
        middle = groups.median().sort_values("ratio")
        low, high = (middle - groups.min().loc[middle.index]).T, (groups.max().loc[middle.index] - middle).T
        axis.errorbar(
            middle["ratio"],
            middle["gained"],
            xerr=(low.loc["ratio"], high.loc["ratio"]),
            yerr=(low.loc["gained"], high.loc["gained"]),
            fmt=MARKERS[kind] + ("--" if kind == "static" else "-"),
            ms=13 if kind == "int8" else 6,
            lw=1.0,
            elinewidth=0.7,
            color=colour,
            mec="white",
            label=kind,
        )
    axis.set(xlabel="measured latency / fp32 backbone's", ylabel="accuracy on test - backbone's (points)", title=title)
    axis.set_yscale("symlog", linthresh=1.0)
    axis.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axis.minorticks_off()
    ms = rows["fp32_ms"].median()
    top = axis.secondary_xaxis("top", functions=(lambda ratio: ratio * ms, lambda there: there / ms))
    top.set_xlabel("ms")
    axis.legend(frameon=False, loc="center left")
    save(figure, path)


def main() -> None:
    """Search, measure, sum up, draw."""
    made = parser(__doc__, minutes=120)
    made.add_argument("--seconds", type=float, default=12.0, help="per network, in all processes")
    made.add_argument("--processes", type=int, default=3, help="fresh ones per network")
    made.add_argument("--study", default="cifar10_resnet8", help="a study file in its place")
    options = made.parse_args()
    if options.quick:
        options.seeds, options.seconds, options.processes = 1, 1.5, 1
    elif not (options.data and options.models):
        made.error("the full form needs --data and --models")
    name = "tiny-quick" if options.quick else "tiny"
    sheet = Sheet(options.out / f"{name}.csv", ["study", "seed"], where("onnxruntime"))
    names = {seed: question(options, seed).name for seed in range(options.seeds)}
    missing = [seed for seed, study in names.items() if not sheet.has(study, seed)]
    announce((2.0 if options.quick else MINUTES) * len(missing), sheet)
    clock = Clock(options.budget)
    for seed in range(options.seeds):
        study = question(options, seed)
        if clock.over or sheet.has(study.name, seed):
            continue
        begun = time.monotonic()
        with ProgressBars() as bars:
            run = search_study(study, options.work / f"{name}-{seed}", watchers=Watchers(progress=bars))
        rows = list(measured(run, options))
        sheet.add([study.name, seed], rows, time.monotonic() - begun)
    with pd.option_context("display.width", 240, "display.max_columns", None):
        print(summary(sheet.rows).to_string(index=False))
    draw(sheet.rows, options.out / f"{name}.png", f"{sheet.rows['study'].iloc[0]} on {DEVICE}")
    print(f"total compute: {sheet.compute()}")


if __name__ == "__main__":
    main()
