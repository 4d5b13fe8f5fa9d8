"""Runs beside each other: their fronts on the devices that they share, their hypervolumes, their picks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from eesearch.core.costs import Axis
from eesearch.core.errors import InputError
from eesearch.core.front import MAX_DROP
from eesearch.reporting.formats import cost_words, duration, percent
from eesearch.reporting.markdown import DROPS, cheapest_within, within_words
from eesearch.study.answers import Answers, DeviceAnswer
from eesearch.study.policies import ordered_hypervolume
from eesearch.study.rundir import RunDir

NAIVE = "Drops on calibration as they are, no optimism taken off: the same rule for all."
"""How points within a loss were chosen, in the table of runs."""

UNLIKE = 0.05
"""Backbones whose costs differ by more than this share were not measured alike."""


@dataclass(frozen=True)
class ComparedRun:
    """One run on one device.

    Attributes:
        name: How the run is called: its directory's name, or its path where two have the same.
        hypervolume_cal: Of its calibration front, against the reference of all runs; where it was chosen, so an
            optimistic figure.
        hypervolume: Of the same points in the same order, on test, see `study.policies.ordered_hypervolume`.
        seconds: Wall time of its trials, for all its devices.
    """

    name: str
    device: DeviceAnswer
    hypervolume_cal: float
    hypervolume: float
    seconds: float


@dataclass(frozen=True)
class ComparedDevice:
    """All runs on one device.

    Attributes:
        accuracy_cal: Of the reference, the first run's backbone, on calibration; hypervolumes reach `MAX_DROP` below.
        accuracy: The same on test.
        cost_cal: Its mean cost on calibration; no hypervolume reaches beyond.
        cost: The same on test.
        cautions: What makes the runs hard to compare here.
    """

    device: str
    axis: Axis
    accuracy_cal: float
    accuracy: float
    cost_cal: float
    cost: float
    runs: tuple[ComparedRun, ...]
    cautions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compared:
    """What several runs found on the devices that all of them share.

    Attributes:
        cautions: What makes the runs hard to compare on any device.
        alone: Devices that not all runs have.
    """

    devices: tuple[ComparedDevice, ...]
    cautions: tuple[str, ...]
    alone: tuple[str, ...]

    def to_pandas(self) -> pd.DataFrame:
        """A row per device and run: figures are those on test unless a column ends in `_cal`, costs in units of `axis`.

        `ratio_...` and `drop_...` are those of the cheapest point that loses at most so many percentage points on
        calibration, against the run's own backbone; empty where there is none.
        """
        return pd.DataFrame([_row(device, run) for device in self.devices for run in device.runs])


def compare_runs(runs: Sequence[RunDir]) -> Compared:
    """Read several runs and compare them on the devices that they share.

    Raises:
        InputError: there are fewer than two, or no device is in all of them.
        RunError: one holds no answers.
    """
    if len(runs) < 2:
        raise InputError("a comparison needs two runs", got=len(runs), do="Name the directories of two runs or more.")
    answers = dict(zip(_names(runs), [run.answers() for run in runs], strict=True))
    shared = [d for d in next(iter(answers.values())).devices if all(_find(a, d) for a in answers.values())]
    if not shared:
        each = "; ".join(f"{name}: {', '.join(d.device for d in a.devices)}" for name, a in answers.items())
        raise InputError(
            "the runs have no device in common", got=each,
            do="Search with the same --device: an old run takes over its trials when its devices change.",
        )  # fmt: skip
    known = {d.device for d in shared}
    alone = dict.fromkeys(d.device for a in answers.values() for d in a.devices if d.device not in known)
    return Compared(
        devices=tuple(_compared(device, answers) for device in shared),
        cautions=_cautions(answers, dict(zip(answers, runs, strict=True))),
        alone=tuple(alone),
    )


def _names(runs: Sequence[RunDir]) -> list[str]:
    """Short names where they are distinct, and paths where they are not; a number for a run that is named twice."""
    names = [run.path.absolute().name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run.path) for run in runs]
    return [name if names.count(name) == 1 else f"{name} #{n}" for n, name in enumerate(names, start=1)]


def _find(answers: Answers, device: DeviceAnswer) -> DeviceAnswer | None:
    return next((d for d in answers.devices if (d.device, d.axis) == (device.device, device.axis)), None)


def _compared(device: DeviceAnswer, answers: dict[str, Answers]) -> ComparedDevice:
    axis, reference = device.axis, device.backbone
    found = {name: own for name, a in answers.items() if (own := _find(a, device)) is not None}
    runs = tuple(
        ComparedRun(
            name, own, _volume(own, reference.cal.error, reference.cal.costs[axis].mean, split="cal"),
            _volume(own, reference.test.error, reference.test.costs[axis].mean, split="test"),
            _seconds(answers[name]),
        )
        for name, own in found.items()
    )  # fmt: skip
    return ComparedDevice(
        device.device, axis, reference.cal.accuracy, reference.test.accuracy, reference.cal.costs[axis].mean,
        reference.test.costs[axis].mean, runs, _unlike(found),
    )  # fmt: skip


def _volume(device: DeviceAnswer, error: float, cost: float, *, split: str) -> float:
    points = [getattr(point, split) for point in device.points]
    values = np.array([(p.error, p.costs[device.axis].mean / cost) for p in points]).reshape(-1, 2)
    return ordered_hypervolume(values, error + MAX_DROP)


def _seconds(answers: Answers) -> float:
    return sum(trial.seconds for trial in answers.trials)


def _unlike(devices: dict[str, DeviceAnswer]) -> tuple[str, ...]:
    """Backbones that cost differently on this device: other networks, or another measurement."""
    costs = {name: d.backbone.cal.costs[d.axis].mean for name, d in devices.items()}
    low, high = min(costs.values()), max(costs.values())
    if high - low <= UNLIKE * high:
        return ()
    axis = next(iter(devices.values())).axis
    told = "; ".join(f"{name}: {cost_words(cost, axis)}" for name, cost in costs.items())
    return (f"the backbones cost differently: {told}. Compare ratios rather than costs.",)


def _cautions(answers: dict[str, Answers], runs: dict[str, RunDir]) -> tuple[str, ...]:
    """Whatever differs in what was classified, and by which network."""
    told = []
    for split, matter in (
        ("test", "their accuracies are of other samples"),
        ("cal", "they were selected on other samples"),
        ("train", "they learnt from other samples"),
    ):
        hashes = [a.data.get("hashes", {}).get(split) for a in answers.values()]
        told += [f"the {split} data differ: {matter}."] if len(set(hashes)) > 1 else []
    networks = {name: _network(run) for name, run in runs.items()}
    known = [network for network in networks.values() if network]
    if len(set(known)) > 1:
        told.append("the backbones differ: drops and ratios are against each run's own.")
    return tuple(told)


def _network(run: RunDir) -> str | None:
    """Content hash of the untrained network that a run began with; None in old runs."""
    try:
        return str(json.loads((run.path / "inputs.json").read_text(encoding="utf-8"))["network"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _row(device: ComparedDevice, run: ComparedRun) -> dict[str, object]:
    own = run.device
    backbone = own.backbone.test
    row: dict[str, object] = {
        "device": device.device, "axis": device.axis, "run": run.name, "points": len(own.points),
        "hypervolume_cal": run.hypervolume_cal, "hypervolume": run.hypervolume,
        "backbone_accuracy": backbone.accuracy, "backbone_cost": backbone.costs[device.axis].mean,
    }  # fmt: skip
    for drop in DROPS:
        point = cheapest_within(own, own.points, drop)
        row[f"ratio_{100.0 * drop:g}"] = None if point is None else own.ratio(point)
        row[f"drop_{100.0 * drop:g}"] = None if point is None else backbone.accuracy - point.test.accuracy
    return row | {"seconds": run.seconds}


def compared_tables(compared: Compared) -> list[Table]:
    """A table per device, readable at 110 columns: a row per run."""
    return [_table(device) for device in compared.devices]


def compared_cautions(compared: Compared) -> Text:
    """What to keep in mind, a line each; empty if there is nothing."""
    lines = [f"caution: {caution}" for caution in compared.cautions]
    lines += [f"caution, {device.device}: {caution}" for device in compared.devices for caution in device.cautions]
    lines += [f"not compared, not all runs have it: {device}" for device in compared.alone]
    return Text("\n".join(lines))


def _table(device: ComparedDevice) -> Table:
    title = f"{device.device}: the cheapest within a loss on calibration, told on test: ratio (points lost)"
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left", pad_edge=False)
    table.add_column("\nrun", overflow="fold")
    table.add_column("\npoints", justify="right", no_wrap=True)
    for drop in DROPS:
        table.add_column(f"within\n{100.0 * drop:g} points", justify="right", no_wrap=True)
    for name in ("area\ncal", "area\ntest", "\ntrials"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in device.runs:
        picks = [within_words(run.device, run.device.points, drop) for drop in DROPS]
        areas = [f"{run.hypervolume_cal:.4f}", f"{run.hypervolume:.4f}"]
        table.add_row(*map(Text, (run.name, str(len(run.device.points)), *picks, *areas, duration(run.seconds))))
    table.caption = Text(f"{NAIVE} {reference_words(device)}")
    return table


def reference_words(device: ComparedDevice) -> str:
    """What hypervolumes are measured against."""
    return (
        f"area: hypervolume, as a share of the rectangle up to the cost of {device.runs[0].name}'s backbone "
        f"({cost_words(device.cost, device.axis)}) and {100.0 * MAX_DROP:g} points below its accuracy "
        f"({percent(device.accuracy)} on test), the same for all runs; on test: the same points in the same order."
    )
