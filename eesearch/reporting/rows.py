"""The tables of the report: their cells in words."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from eesearch.core.costs import FOLDS, Axis
from eesearch.core.front import Evaluation, exit_name
from eesearch.reporting.formats import (
    UNITS,
    StopWords,
    cost_words,
    duration,
    head_words,
    interval_words,
    note_words,
    percent,
    points_words,
    significant,
    state_words,
    stop_words,
)
from eesearch.reporting.frontdata import FrontData, records
from eesearch.study.answers import Answers, DeviceAnswer, TrialAnswer, pays_for_exits
from eesearch.study.front_table import drop_interval
from eesearch.study.points import ExitFacts, Point

ROWS = 200
"""Rows of a table of front points; of longer fronts it shows points spread evenly, and says so."""

NONE = "-"
"""What a table shows where there is nothing to show."""


@dataclass(frozen=True)
class PointRow:
    """A line of the table of front points, in words.

    Attributes:
        interval: Of the accuracy on test; `drop_interval`: of the drop, empty where nobody compared sample by sample.
        promised: Drop to expect on new samples.
        costs: A cell for each of `cost_titles`.
    """

    name: str
    marks: tuple[str, ...]
    strategy: str
    stops: list[StopWords]
    accuracy_cal: str
    accuracy_test: str
    interval: str
    drop: str
    drop_interval: str
    promised: str
    costs: list[str]
    design: str


@dataclass(frozen=True)
class SeedRow:
    """A line of the table of seeding rules, in words."""

    label: str
    rule: str
    stops: list[StopWords]
    value: str
    accuracy_cal: str
    accuracy_test: str
    ratio: str
    distance: str
    enqueued: bool


@dataclass(frozen=True)
class ExitRow:
    """A line of the table of over-thinking, in words."""

    exit: str
    head: str
    accuracy: str
    lost: str
    gained: str


@dataclass(frozen=True)
class TrialRow:
    """A line of the table of trials, in words.

    Attributes:
        change: Of its last exit, against the backbone; `paid`: it lost much.
        notes: What its strategy tells about it.
    """

    number: int
    state: str
    failed: bool
    origin: str
    strategy: str
    exits: tuple[str, ...]
    value: str
    last_accuracy: str
    change: str
    paid: bool
    notes: list[tuple[str, str]]
    seconds: str
    error: str


def shared_axes(device: DeviceAnswer) -> list[Axis]:
    """The axes that the whole front has costs on; the device's own first."""
    points = (device.backbone, *device.points)
    shared = [axis for axis in device.backbone.test.costs if all(axis in p.test.costs for p in points)]
    return sorted(shared, key=lambda axis: axis != device.axis)


def cost_titles(device: DeviceAnswer) -> list[str]:
    """Titles of the columns of costs, those of the own axis first."""
    return [title for axis in shared_axes(device) for title in _titles(axis)]


def _titles(axis: Axis) -> tuple[str, ...]:
    unit = UNITS[axis].replace(" ", "\u00a0")
    return (unit,) if FOLDS[axis] != "mean" else (f"Mean {unit}", "Ratio", "p95", "Worst")


def point_rows(device: DeviceAnswer, data: FrontData) -> list[PointRow]:
    """The front by rising cost, then the backbone; of a long front, points spread evenly."""
    free, axes = device.at_no_loss(), shared_axes(device)
    rows = []
    spread = set(range(0, len(device.points), max(1, -(-len(device.points) // ROWS))))
    for number, (point, numbers) in enumerate(zip(device.points, records(data.points), strict=True)):
        marks = (("knee",) if numbers["knee"] else ()) + (("no loss",) if point == free else ())
        if marks or number in spread:
            rows.append(_point_row(device, (point, str(number), marks), numbers, axes))
    (numbers,) = records(data.backbone)
    return [*rows, _point_row(device, (device.backbone, "backbone", ()), numbers, axes)]


def _point_row(
    device: DeviceAnswer,
    marked: tuple[Point, str, tuple[str, ...]],
    numbers: Mapping[Hashable, Any],
    axes: Sequence[Axis],
) -> PointRow:
    point, name, marks = marked
    return PointRow(
        name=name,
        marks=marks,
        strategy=point.test.strategy,
        stops=stop_words(point.test),
        accuracy_cal=percent(point.cal.accuracy),
        accuracy_test=percent(point.test.accuracy),
        interval=f"{100 * numbers['low']:.2f} to {100 * numbers['high']:.2f}",
        drop=points_words(numbers["drop"]),
        drop_interval=interval_words(drop_interval(device, point)),
        promised=points_words(device.corrected(point)),
        costs=[cell for axis in axes for cell in _cost_cells(device, point, axis)],
        design=point.test.design,
    )


def _cost_cells(device: DeviceAnswer, point: Point, axis: Axis) -> tuple[str, ...]:
    cost = point.test.costs[axis]
    if FOLDS[axis] != "mean":  # one number, whatever the samples do
        return (cost_words(cost.worst, axis, unit=False),)
    mean, p95, worst = (cost_words(value, axis, unit=False) for value in (cost.mean, cost.p95, cost.worst))
    return mean, f"{cost.mean / device.backbone.test.costs[axis].mean:.3f}", p95, worst


def seed_rows(device: DeviceAnswer, data: FrontData) -> list[SeedRow]:
    """Where the seeding rules landed."""
    return [
        SeedRow(
            label=numbers["label"],
            rule=seed.rule,
            stops=stop_words(seed.point.test),
            value=significant(seed.value, 3),
            accuracy_cal=percent(numbers["accuracy_cal"]),
            accuracy_test=percent(numbers["accuracy"]),
            ratio=f"{numbers['ratio']:.3f}",
            distance="no front point is as accurate" if isnan(numbers["distance"]) else f"{numbers['distance']:.3f}",
            enqueued=seed.enqueued,
        )
        for seed, numbers in zip(device.seeds, records(data.seeds), strict=True)
    ]


def exit_row(facts: ExitFacts) -> ExitRow:
    """What going on from an exit does."""
    lost, gained = (f"{count} ({percent(count / facts.samples)})" for count in (facts.lost, facts.gained))
    return ExitRow(
        exit=exit_name(facts.exit),
        head=head_words(facts.exit),
        accuracy=percent(facts.accuracy),
        lost=lost,
        gained=gained,
    )


def trial_rows(answers: Answers) -> list[TrialRow]:
    """Every trial, with its last exit against the backbone."""
    backbone = answers.devices[0].backbone.cal if answers.devices else None
    return [_trial_row(trial, backbone) for trial in answers.trials]


def _trial_row(trial: TrialAnswer, backbone: Evaluation | None) -> TrialRow:
    last = trial.last_accuracy
    return TrialRow(
        number=trial.number,
        state=state_words(trial),
        failed=trial.state == "failed",
        origin=trial.origin,
        strategy=trial.strategy,
        exits=trial.exits,
        value=NONE if trial.value is None else significant(trial.value, 3),
        last_accuracy=NONE if last is None else percent(last),
        change=NONE if last is None or backbone is None else points_words(last - backbone.accuracy),
        paid=last is not None and backbone is not None and pays_for_exits(last, backbone),
        notes=note_words(trial.notes),
        seconds=duration(trial.seconds),
        error=trial.error,
    )


def phase_rows(phases: dict[str, float]) -> Sequence[tuple[str, str, str]]:
    """Wall time by phase, and together."""
    total = sum(phases.values())
    rows = [(name, duration(seconds), f"{seconds / total:.0%}" if total else NONE) for name, seconds in phases.items()]
    return [*rows, ("together", duration(total), "")] if rows else []
