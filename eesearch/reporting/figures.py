"""The fronts of all devices as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from eesearch.core.store import write_atomic
from eesearch.reporting.formats import ACCURACY_TITLE, AXIS_TITLES, in_unit, percent
from eesearch.reporting.frontdata import (
    FrontData,
    by_strategy,
    front_data,
    in_unit_column,
    lowest_shown,
    records,
    seed_spots,
    shown_range,
)
from eesearch.study.answers import Answers

INK = "#7d8590"
"""Backbone, seeds and calibration front: a grey that is read on white and on black."""

LONG_LABEL = 26
"""With a longer name in it, a legend has two columns instead of three."""

CROWD = 40
"""With more points than this, markers are smaller."""


@dataclass(frozen=True)
class Style:
    """How the points of one strategy look."""

    colour: str
    marker: str
    symbol: str
    """Plotly's name of `marker`."""


@dataclass(frozen=True)
class Line:
    """How a front is drawn that is there to compare with."""

    name: str
    colour: str
    marker: str
    symbol: str
    dash: str
    """Matplotlib's name."""
    plotly_dash: str


ORACLE = Line("stable oracle, an ideal, on test", "#B07D00", "*", "star", ":", "dot")
STATIC = Line("static sub-networks, on test", "#8A6F9E", ".", "circle", "--", "dash")

# Okabe and Ito's palette, told apart by people with any kind of colour blindness, and a shape for each besides.
_STYLES = (
    Style("#0072B2", "o", "circle"),
    Style("#D55E00", "s", "square"),
    Style("#009E73", "^", "triangle-up"),
    Style("#CC79A7", "D", "diamond"),
    Style("#56B4E9", "v", "triangle-down"),
    Style("#E69F00", "P", "cross"),
)


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


def _draw_panel(axes: Axes, data: FrontData, styles: dict[str, Style]) -> None:
    _draw_lines(axes, data)
    _draw_backbone(axes, data)
    _draw_points(axes, data, styles)
    _draw_seeds(axes, data)
    axes.set_xlabel(AXIS_TITLES[data.axis])
    axes.set_ylabel(ACCURACY_TITLE)
    axes.grid(color="#e5e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(x=0.06)
    axes.set_xlim(left=0.0)
    axes.set_ylim(*shown_range(data))
    _tell_hidden(axes, data)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(handles)), key=lambda i: not isinstance(handles[i], ErrorbarContainer))  # strategies first
    columns = 2 if max(map(len, labels)) > LONG_LABEL else 3
    axes.legend(
        [handles[i] for i in order], [labels[i] for i in order],
        loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=columns, frameon=False, fontsize="small",
    )  # fmt: skip


def _tell_hidden(axes: Axes, data: FrontData) -> None:
    """How many points of the front lie below the panel."""
    floor, _ = shown_range(data)
    hidden = int((100.0 * data.points["accuracy"] < floor).sum())
    if hidden:
        axes.text(
            0.99, 0.02, f"not shown: {hidden} {'point' if hidden == 1 else 'points'} below {floor:.0f} %",
            transform=axes.transAxes, ha="right", fontsize="small", color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0},
        )  # fmt: skip


def _draw_lines(axes: Axes, data: FrontData) -> None:
    """The oracle's front and that of the static sub-networks, if they were found."""
    for line, frame in ((ORACLE, data.oracle), (STATIC, data.static)):
        if len(frame):
            axes.plot(
                in_unit_column(frame["cost"], data.axis), 100.0 * frame["accuracy"],
                color=line.colour, linestyle=line.dash, marker=line.marker, linewidth=1.2, label=line.name,
                drawstyle="steps-post",
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


def _plain(text: str) -> str:
    """Text of foreign origin as matplotlib is to show it: no formulas between dollar signs."""
    return text.replace("$", r"\$")
