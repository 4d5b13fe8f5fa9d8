"""The report: one self-contained page that works offline.

`report.html` is the template; it escapes whatever it is given (jinja2's autoescape). The plots travel as
compressed JSON: hover texts of thousands of points repeat themselves, and base64 has no character that could end a
script element.
"""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import isnan
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from eesearch.core.costs import Axis
from eesearch.core.front import exit_name
from eesearch.reporting.figures import strategy_styles
from eesearch.reporting.formats import (
    UNITS,
    StopWords,
    cost_words,
    duration,
    head_words,
    percent,
    points_words,
    significant,
    stop_words,
)
from eesearch.reporting.frontdata import FrontData, front_data, records
from eesearch.reporting.plots import front_plot
from eesearch.study.answers import TIE, Answers, DeviceAnswer, ExitFacts, Point, TrialAnswer

ROWS = 200
"""Rows of a table of front points; of longer fronts it shows points spread evenly, and says so."""

NONE = "-"
"""What a table shows where there is nothing to show."""


@dataclass(frozen=True)
class PointRow:
    """A line of the table of front points, in words. `costs`: a cell for each of `DeviceView.costs`."""

    name: str
    marks: tuple[str, ...]
    strategy: str
    stops: list[StopWords]
    accuracy_cal: str
    accuracy_test: str
    interval: str
    drop: str
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
class DeviceView:
    """What the page shows of one device. `costs`: titles of the columns of costs, those of the own axis first."""

    name: str
    axis: Axis
    costs: list[str]
    points: list[PointRow]
    left_out: int
    seeds: list[SeedRow]
    exits: list[ExitRow]
    has_oracle: bool
    has_static: bool
    one_head_per_cut: bool


@dataclass(frozen=True)
class TrialRow:
    """A line of the table of trials, in words."""

    number: int
    failed: bool
    origin: str
    strategy: str
    exits: tuple[str, ...]
    value: str
    last_accuracy: str
    change: str
    seconds: str
    error: str


def render_html(answers: Answers) -> str:
    """The whole page; under 6 MB, most of it plotly, and it asks the network for nothing."""
    source = files("eesearch.reporting").joinpath("report.html").read_text(encoding="utf-8")
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    styles = strategy_styles(answers)
    fronts = [(device, front_data(device)) for device in answers.devices]
    return page.from_string(source).render(
        answers=answers,
        plots=_packed([front_plot(device, data, styles) for device, data in fronts]),
        verdicts=[device.verdict() for device in answers.devices],
        devices=[_device_view(device, data) for device, data in fronts],
        trials=_trial_rows(answers),
        failed=sum(trial.state == "failed" for trial in answers.trials),
        phases=_phase_rows(answers.phases),
        tie=TIE,
        percent=percent,
        plotly=Markup(get_plotlyjs()),
    )


def _device_view(device: DeviceAnswer, data: FrontData) -> DeviceView:
    rows = _point_rows(device, data)
    return DeviceView(
        name=device.device,
        axis=device.axis,
        costs=[title for axis in _axes(device) for title in _cost_titles(axis)],
        points=rows,
        left_out=len(device.points) + 1 - len(rows),
        seeds=_seed_rows(device, data),
        exits=[_exit_row(facts) for facts in device.overthinking],
        has_oracle=bool(device.oracle),
        has_static=bool(device.static),
        one_head_per_cut=not device.oracle_all_heads,
    )


def _packed(plots: list[dict[str, Any]]) -> str:
    """JSON, gzipped, in base64; the same for the same plots."""
    return b64encode(gzip.compress(json.dumps(plots, allow_nan=False).encode(), mtime=0)).decode()


def _axes(device: DeviceAnswer) -> list[Axis]:
    """The axes that the whole front has costs on; the device's own first."""
    points = (device.backbone, *device.points)
    shared = [axis for axis in device.backbone.test.costs if all(axis in p.test.costs for p in points)]
    return sorted(shared, key=lambda axis: axis != device.axis)


def _point_rows(device: DeviceAnswer, data: FrontData) -> list[PointRow]:
    free = device.at_no_loss()
    rows = []
    spread = set(range(0, len(device.points), max(1, -(-len(device.points) // ROWS))))
    for number, (point, numbers) in enumerate(zip(device.points, records(data.points), strict=True)):
        marks = (("knee",) if numbers["knee"] else ()) + (("no loss",) if point == free else ())
        if marks or number in spread:
            rows.append(_point_row(device, point, str(number), numbers, marks))
    (numbers,) = records(data.backbone)
    return [*rows, _point_row(device, device.backbone, "backbone", numbers, ())]


def _point_row(
    device: DeviceAnswer, point: Point, name: str, numbers: Mapping[Hashable, Any], marks: tuple[str, ...]
) -> PointRow:
    return PointRow(
        name=name,
        marks=marks,
        strategy=point.test.strategy,
        stops=stop_words(point.test),
        accuracy_cal=percent(point.cal.accuracy),
        accuracy_test=percent(point.test.accuracy),
        interval=f"{100 * numbers['low']:.2f} to {100 * numbers['high']:.2f}",
        drop=points_words(numbers["drop"]),
        costs=[cell for axis in _axes(device) for cell in _cost_cells(device, point, axis)],
        design=point.test.design,
    )


def _cost_titles(axis: Axis) -> tuple[str, ...]:
    unit = UNITS[axis].replace(" ", "\u00a0")
    return (unit,) if axis == "params" else (f"Mean {unit}", "Ratio", "p95", "Worst")


def _cost_cells(device: DeviceAnswer, point: Point, axis: Axis) -> tuple[str, ...]:
    cost = point.test.costs[axis]
    if axis == "params":  # one number, whatever the samples do
        return (cost_words(cost.worst, axis, unit=False),)
    mean, p95, worst = (cost_words(value, axis, unit=False) for value in (cost.mean, cost.p95, cost.worst))
    return mean, f"{cost.mean / device.backbone.test.costs[axis].mean:.3f}", p95, worst


def _seed_rows(device: DeviceAnswer, data: FrontData) -> list[SeedRow]:
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


def _exit_row(facts: ExitFacts) -> ExitRow:
    lost, gained = (f"{count} ({percent(count / facts.samples)})" for count in (facts.lost, facts.gained))
    return ExitRow(
        exit=exit_name(facts.exit),
        head=head_words(facts.exit),
        accuracy=percent(facts.right / facts.samples),
        lost=lost,
        gained=gained,
    )


def _trial_rows(answers: Answers) -> list[TrialRow]:
    backbone = answers.devices[0].backbone.cal.accuracy if answers.devices else None
    return [_trial_row(trial, backbone) for trial in answers.trials]


def _trial_row(trial: TrialAnswer, backbone: float | None) -> TrialRow:
    last = trial.last_accuracy
    return TrialRow(
        number=trial.number,
        failed=trial.state == "failed",
        origin=trial.origin,
        strategy=trial.strategy,
        exits=trial.exits,
        value=NONE if trial.value is None else significant(trial.value, 3),
        last_accuracy=NONE if last is None else percent(last),
        change=NONE if last is None or backbone is None else points_words(last - backbone),
        seconds=duration(trial.seconds),
        error=trial.error,
    )


def _phase_rows(phases: dict[str, float]) -> Sequence[tuple[str, str, str]]:
    total = sum(phases.values())
    rows = [(name, duration(seconds), f"{seconds / total:.0%}" if total else NONE) for name, seconds in phases.items()]
    return [*rows, ("together", duration(total), "")] if rows else []
