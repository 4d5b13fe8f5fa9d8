"""The front as data and, apart from that, as a picture."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from eesearch.core.costs import Axis
from eesearch.core.front import Front
from eesearch.core.store import write_atomic
from eesearch.reporting.formats import ACCURACY_TITLE, AXIS_TITLES, in_unit, percent
from eesearch.study.answers import Answers, DeviceAnswer, Point, SeedAnswer, wilson

INK = "#7d8590"
"""Backbone, seeds and calibration front: a grey that is read on white and on black."""

DEPTH = 0.12
"""Plots begin this far below the backbone's accuracy, or at their lowest point if that is higher."""

LONG_LABEL = 26
"""With a longer name in it, a legend has two columns instead of three."""

CROWD = 40
"""With more points than this, markers are smaller."""

_POINT_COLUMNS = ("cost", "ratio", "accuracy", "low", "high", "drop", "cost_cal", "accuracy_cal")
_FRONT_COLUMNS = ("point", "strategy", "knee", *_POINT_COLUMNS)
_SEED_COLUMNS = ("label", "rule", "value", "enqueued", "distance", "best", *_POINT_COLUMNS)


@dataclass(frozen=True, eq=False)
class FrontData:
    """What is plotted and tabulated of one device; the same numbers in the picture and in the page.

    The columns `cost ratio accuracy low high drop` are those on test: mean cost in the axis' own unit (MACs or ms),
    over the backbone's, accuracy as a share with its 95 % interval, and accuracy lost to the backbone (a share).
    `cost_cal accuracy_cal` are those on calibration, by which points were selected.

    Attributes:
        points: `point strategy knee` and the columns above; a row per point of the front.
        backbone: The columns above; one row.
        seeds: `label rule value enqueued distance best` and the columns above. `label` is a letter for plots;
            `distance` is the seed's cost over that of the cheapest front point that is at least as accurate, both on
            calibration (NaN if no point is); `best`: no seed of the same rule has a higher value, and plots show it.
    """

    axis: Axis
    points: pd.DataFrame
    backbone: pd.DataFrame
    seeds: pd.DataFrame


@dataclass(frozen=True)
class Style:
    """How the points of one strategy look."""

    colour: str
    marker: str
    symbol: str
    """Plotly's name of `marker`."""


# Okabe and Ito's palette, told apart by people with any kind of colour blindness, and a shape for each besides.
_STYLES = (
    Style("#0072B2", "o", "circle"),
    Style("#D55E00", "s", "square"),
    Style("#009E73", "^", "triangle-up"),
    Style("#CC79A7", "D", "diamond"),
    Style("#56B4E9", "v", "triangle-down"),
    Style("#E69F00", "P", "cross"),
)


def front_data(device: DeviceAnswer) -> FrontData:
    """The numbers behind every view of a device's front."""
    front = device.front()
    knee = front.knee() if len(front) else None
    points = [
        {"point": i, "strategy": p.test.strategy, "knee": p.cal == knee} | _numbers(device, p)
        for i, p in enumerate(device.points)
    ]
    best = list({_without_numbers(s.rule): s for s in sorted(device.seeds, key=lambda s: s.value)}.values())
    seeds = [
        {"label": _label(i), "rule": seed.rule, "value": seed.value, "enqueued": seed.enqueued}
        | {"distance": _distance(front, seed), "best": seed in best}
        | _numbers(device, seed.point)
        for i, seed in enumerate(device.seeds)
    ]
    return FrontData(
        axis=device.axis,
        points=pd.DataFrame(points, columns=list(_FRONT_COLUMNS)),
        backbone=pd.DataFrame([_numbers(device, device.backbone)], columns=list(_POINT_COLUMNS)),
        seeds=pd.DataFrame(seeds, columns=list(_SEED_COLUMNS)),
    )


def _without_numbers(rule: str) -> str:
    """`th_rule 0.93 re-measured (macs)` is `th_rule re-measured` with a parameter, measured on a device."""
    return re.sub(r"\s+(\d[\w.]*|\(.*\)$)", "", rule)


def _numbers(device: DeviceAnswer, point: Point) -> dict[str, float]:
    accuracy = point.test.accuracy
    low, high = wilson(accuracy, point.test.samples)
    return {
        "cost": point.test.costs[device.axis].mean,
        "ratio": device.ratio(point),
        "accuracy": accuracy,
        "low": min(low, accuracy),  # at 0 and 1 the interval may miss its own end by a rounding error
        "high": max(high, accuracy),
        "drop": device.backbone.test.accuracy - accuracy,
        "cost_cal": point.cal.costs[device.axis].mean,
        "accuracy_cal": point.cal.accuracy,
    }


def _distance(front: Front, seed: SeedAnswer) -> float:
    own = seed.point.cal
    rival = front.within(front.backbone.accuracy - own.accuracy)
    return own.costs[front.axis].mean / rival.costs[front.axis].mean if rival else float("nan")


def _label(number: int) -> str:
    """A, B, ..., Z, A2, B2, ..."""
    return chr(ord("A") + number % 26) + (str(number // 26 + 1) if number >= 26 else "")


def strategy_styles(answers: Answers) -> dict[str, Style]:
    """A style for every strategy on any front, the same on all devices; `separate` and `joint` come first."""
    found = {p.test.strategy for device in answers.devices for p in device.points}
    names = sorted(found, key=lambda name: ({"separate": 0, "joint": 1}.get(name, 2), name))
    return {name: _STYLES[i % len(_STYLES)] for i, name in enumerate(names)}


def save_png(answers: Answers, path: Path) -> None:
    """Draw the fronts of all devices and write them as PNG.

    Raises:
        RunError: the disk is full, or the directory cannot be written.
    """
    buffer = BytesIO()
    draw_front(answers).savefig(buffer, format="png", dpi=150)
    write_atomic(path, buffer.getvalue())


def draw_front(answers: Answers) -> Figure:
    """One panel per device: the calibration front, its points on test, backbone and seeds."""
    columns = min(2, len(answers.devices))
    rows = -(-len(answers.devices) // columns)
    shown = [front_data(device) for device in answers.devices]
    height = 5.2 + 0.07 * max(len(seed_spots(data)) for data in shown)  # the legend has two or three columns
    figure = Figure(figsize=(7.0 * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    styles = strategy_styles(answers)
    for place, (device, data) in enumerate(zip(answers.devices, shown, strict=True), start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.set_title(fill(f"{answers.study} · {device.device}", 64), parse_math=False)
        _draw_panel(axes, data, styles)
    return figure


def lowest_shown(data: FrontData) -> float | None:
    """The accuracy (%) below which points are left out of the first view; None if none lies that deep.

    A cheap exit right after the stem may be 50 points below the backbone and would flatten everything of interest.
    """
    floor = 100.0 * (float(data.backbone["accuracy"].iloc[0]) - DEPTH)
    return floor if (100.0 * data.points["low"] < floor).any() else None


def _draw_panel(axes: Axes, data: FrontData, styles: dict[str, Style]) -> None:
    _draw_backbone(axes, data)
    _draw_points(axes, data, styles)
    _draw_seeds(axes, data)
    axes.set_xlabel(AXIS_TITLES[data.axis])
    axes.set_ylabel(ACCURACY_TITLE)
    axes.grid(color="#e5e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(x=0.06, y=0.1)
    axes.set_xlim(left=0.0)
    floor = lowest_shown(data)
    if floor is not None:
        axes.set_ylim(floor, min(axes.get_ylim()[1], 101.0))
        hidden = int((100.0 * data.points["accuracy"] < floor).sum())
        text = f"not shown: {hidden} below {floor:.0f} %" if hidden else ""
        axes.text(0.99, 0.02, text, transform=axes.transAxes, ha="right", fontsize="small", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(handles)), key=lambda i: not isinstance(handles[i], ErrorbarContainer))  # strategies first
    columns = 2 if max(map(len, labels)) > LONG_LABEL else 3
    axes.legend(
        [handles[i] for i in order], [labels[i] for i in order],
        loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=columns, frameon=False, fontsize="small",
    )  # fmt: skip


def _draw_backbone(axes: Axes, data: FrontData) -> None:
    (row,) = records(data.backbone)
    cost, accuracy = in_unit(row["cost"], data.axis), 100.0 * row["accuracy"]
    axes.axhline(accuracy, color=INK, linestyle="--", linewidth=1.0)
    axes.plot([cost], [accuracy], "X", color="black", markersize=10, label="backbone, no exits")
    _annotate(axes, f"backbone {percent(row['accuracy'])}", (cost, accuracy), offset=(-8, 8), ha="right")


def _draw_points(axes: Axes, data: FrontData, styles: dict[str, Style]) -> None:
    points = data.points
    for strategy, group in by_strategy(points, styles):
        style = styles[strategy]
        accuracy = 100.0 * group["accuracy"]
        axes.errorbar(
            in_unit_column(group["cost"], data.axis), accuracy,
            yerr=[accuracy - 100.0 * group["low"], 100.0 * group["high"] - accuracy],
            linestyle="none", marker=style.marker, color=style.colour, ecolor=f"{style.colour}99",
            markersize=5 if len(points) <= CROWD else 3, elinewidth=1.0, label=_plain(f"{strategy}, on test"),
        )  # fmt: skip
    if len(points):
        _draw_selection(axes, data)


def _draw_selection(axes: Axes, data: FrontData) -> None:
    """The front on calibration and its knee."""
    points = data.points.sort_values("cost_cal")
    axes.step(
        in_unit_column(points["cost_cal"], data.axis), 100.0 * points["accuracy_cal"],
        where="post", color=INK, alpha=0.6, linewidth=1.0, label="front on calibration", zorder=3,
    )  # fmt: skip
    (knee,) = records(points[points["knee"]])
    place = (in_unit(knee["cost"], data.axis), 100.0 * knee["accuracy"])
    hidden = place[1] < (lowest_shown(data) or 0.0)
    axes.plot(*place, "o", markersize=14, markerfacecolor="none", color="black", label=None if hidden else "knee")
    _annotate(axes, f"knee (point {knee['point']})", place, offset=(9, -14), ha="left")


def _draw_seeds(axes: Axes, data: FrontData) -> None:
    """Small lettered diamonds."""
    for spot in seed_spots(data):
        names = "\n".join(f"{label}  {rule}" for label, rule in zip(spot["label"], spot["rule"], strict=True))
        place = (in_unit(spot["cost"].iloc[0], data.axis), 100.0 * spot["accuracy"].iloc[0])
        axes.plot(*place, "d", color=INK, markersize=5, label=_plain(names), zorder=3)
        _annotate(axes, ",".join(spot["label"]), place, offset=(4, -10), ha="left")


def _annotate(axes: Axes, text: str, place: tuple[float, float], *, offset: tuple[int, int], ha: str) -> None:
    axes.annotate(text, place, xytext=offset, textcoords="offset points", ha=ha, fontsize=8, color="#374151")


def by_strategy(points: pd.DataFrame, styles: dict[str, Style]) -> list[tuple[str, pd.DataFrame]]:
    """The points of each strategy that has any, in the order of the styles."""
    groups = ((name, points[points["strategy"] == name]) for name in styles)
    return [(name, group) for name, group in groups if len(group)]


def seed_spots(data: FrontData) -> list[pd.DataFrame]:
    """The best seed of each rule by where it landed: rules that chose the same placement share a marker."""
    return [spot for _, spot in data.seeds[data.seeds["best"].astype(bool)].groupby(["cost", "accuracy"], sort=False)]


def records(frame: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """The rows of a frame."""
    return frame.to_dict("records")


def in_unit_column(costs: Iterable[float], axis: Axis) -> list[float]:
    """A column of costs in the unit of their axis."""
    return [in_unit(cost, axis) for cost in costs]


def _plain(text: str) -> str:
    """Text of foreign origin as matplotlib is to show it: no formulas between dollar signs."""
    return text.replace("$", r"\$")
