"""The fronts of all devices as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from textwrap import fill
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from eesearch.core.costs import Axis
from eesearch.reporting.formats import ACCURACY_TITLE, AXIS_TITLES, RATIO_TITLE, TEST_TITLE, in_unit, percent
from eesearch.reporting.frontdata import (
    FrontData,
    by_strategy,
    front_data,
    in_unit_column,
    log_range,
    lowest_shown,
    records,
    rivals,
    seed_spots,
    shown_range,
    strategies_view,
)
from eesearch.reporting.policies import NAMES
from eesearch.study.answers import Answers, DeviceAnswer

INK = "#7d8590"
"""Backbone, seeds and calibration front: a grey that is read on white and on black."""

Form = Literal["png", "svg", "pdf"]
"""Kinds of picture files."""

WIDTH = 7.0
"""Inches: two columns of a paper, or one page."""

LONGEST_LINE = 34
"""Letters per line of a legend."""

CROWD = 40
"""With more points than this, markers are smaller."""


@dataclass(frozen=True)
class Style:
    """How the points of one strategy look."""

    colour: str
    marker: str
    symbol: str
    """Plotly's name of `marker`."""
    dash: str = "-"
    """Of its line, in plots of lines; where there are more strategies than colours."""
    plotly_dash: str = "solid"


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


PRINTED: Any = {
    "font.size": 8.0,
    "axes.titlesize": 9.0,
    "legend.fontsize": 7.0,
    "axes.linewidth": 0.6,
    "svg.fonttype": "none",  # text stays text: it can be searched, and edited
    "pdf.fonttype": 42,
    "svg.hashsalt": "eesearch",
}
"""Matplotlib's settings for figures that are printed; to be in force while one is drawn."""

_NO_DATES: dict[Form, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""Two pictures of the same answers are the same file."""

ORACLE = Line("stable oracle, an ideal, on test", "#B07D00", "*", "star", ":", "dot")
STATIC = Line("static sub-networks, on test", "#8A6F9E", ".", "circle", "--", "dash")

# Okabe and Ito's palette, told apart by people with any kind of colour blindness, and a shape for each besides.
SERIES = (
    Style("#0072B2", "o", "circle"),
    Style("#D55E00", "s", "square"),
    Style("#009E73", "^", "triangle-up"),
    Style("#CC79A7", "D", "diamond"),
    Style("#56B4E9", "v", "triangle-down"),
    Style("#E69F00", "P", "cross"),
)

# Paul Tol's muted palette, as safe as the other one, for those we are compared with; their shapes are hollow.
_OTHERS = tuple(
    zip(
        ("#332288", "#117733", "#882255", "#999933", "#44AA99", "#AA4499", "#88CCEE", "#CC6677", "#661100"),
        ("<", "p", ">", "h", "^", "8", "v", "d", "H"),
        strict=True,
    )
)


# One shape more than colours: the first 42 strategies differ in one of the two.
_SHAPES = (*((style.marker, style.symbol) for style in SERIES), ("*", "star"))
_DASHES = (("-", "solid"), ("--", "dash"), (":", "dot"), ("-.", "dashdot"))


def strategy_styles(answers: Answers) -> dict[str, Style]:
    """A style for every strategy on any front, the same on all devices; `separate` and `joint` come first."""
    found = {p.test.strategy for device in answers.devices for p in device.points}
    found |= {own.strategy for device in answers.devices for own in device.strategies}
    names = sorted(found, key=lambda name: ({"separate": 0, "joint": 1}.get(name, 2), name))
    return {name: _style(number) for number, name in enumerate(names)}


def _style(number: int) -> Style:
    turn, place = divmod(number, len(SERIES))
    return Style(SERIES[place].colour, *_SHAPES[number % len(_SHAPES)], *_DASHES[turn % len(_DASHES)])


def _layer_styles(answers: Answers) -> dict[str, tuple[str, str]]:
    """Colour and shape of everybody we are compared with, the same on all devices."""
    names = sorted({layer.name for device in answers.devices for layer in device.layers})
    return {name: _OTHERS[i % len(_OTHERS)] for i, name in enumerate(names)}


def figure_bytes(figure: Figure, form: Form) -> bytes:
    """A figure as a file: the same figure gives the same bytes at any time."""
    buffer = BytesIO()
    with rc_context(PRINTED):
        figure.savefig(buffer, format=form, dpi=300, metadata=_NO_DATES[form])
    return buffer.getvalue()


def draw_front(answers: Answers) -> Figure:
    """A panel per device: the calibration front, its points on test, backbone, seeds, and who there is to compare.

    Another one follows where several strategies were tried: the front of each by itself.

    As wide as two columns of a paper (7 inches), in letters that are read at that size; the legend stands beside.
    """
    shown = [front_data(device) for device in answers.devices]
    styles, others = strategy_styles(answers), _layer_styles(answers)
    with rc_context(PRINTED):
        figure = paper_figure([lines for data in shown for lines in _entries(data)])
        panels = iter(figure.axes)
        for device, data in zip(answers.devices, shown, strict=True):
            title, axes = f"{answers.study} · {device.device}", next(panels)
            axes.set_title(fill(title, 60), parse_math=False)
            _draw_layers(axes, device, data, others)
            _draw_panel(axes, data, styles)
            if data.strategies:
                axes = next(panels)
                axes.set_title(fill(f"{title} · training strategies", 60), parse_math=False)
                _draw_strategies(axes, device, data, styles)
    return figure


def paper_figure(entries: Sequence[int]) -> Figure:
    """Panels below each other, each as high as its legend needs.

    Args:
        entries: Lines of each panel's legend.
    """
    heights = [max(3.1, 0.6 + 0.155 * lines) for lines in entries]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)
    return figure


def _entries(data: FrontData) -> list[int]:
    """Lines of the legends of a device's panels, about: its own layers, the others, and a line per seed."""
    rules = sum(len(spot) for spot in seed_spots(data))
    return [7 + rules + len(data.layers), *([2 + len(data.strategies)] if data.strategies else [])]


def finish(axes: Axes, axis: Axis) -> None:
    """Labels with units, a grid behind, and the legend beside the panel, strategies first."""
    axes.set_xlabel(AXIS_TITLES[axis])
    axes.set_ylabel(ACCURACY_TITLE)
    axes.grid(color="#e5e7eb", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.margins(x=0.06)
    axes.set_xlim(left=0.0)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(handles)), key=lambda i: not isinstance(handles[i], ErrorbarContainer))
    axes.legend(
        [handles[i] for i in order], [labels[i] for i in order],
        loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0.0, frameon=False,
    )  # fmt: skip


def _draw_panel(axes: Axes, data: FrontData, styles: dict[str, Style]) -> None:
    _draw_lines(axes, data)
    _draw_backbone(axes, data)
    _draw_points(axes, data, styles)
    _draw_seeds(axes, data)
    finish(axes, data.axis)
    axes.set_ylim(*shown_range(data))
    _scale_costs(axes, log_range(data))
    _tell_hidden(axes, data)


def _scale_costs(axes: Axes, costs: tuple[float, float] | None) -> None:
    """A logarithmic axis between two costs; None: it stays as it is."""
    if costs is not None:
        axes.set_xscale("log")
        axes.set_xlim(*costs)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda cost, place: f"{cost:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())


def _draw_strategies(axes: Axes, device: DeviceAnswer, data: FrontData, styles: dict[str, Style]) -> None:
    """A line per strategy: its own front on test, in the order in which calibration chose its points."""
    level = 100.0 * float(data.backbone["accuracy"].iloc[0])
    axes.axhline(level, color=INK, linestyle="--", linewidth=1.0)
    for own, frame in zip(rivals(device), data.strategies, strict=True):
        style = styles[own.strategy]
        if len(frame):
            axes.plot(
                frame["ratio"], 100.0 * frame["accuracy"], color=style.colour, linestyle=style.dash, linewidth=0.9,
                marker=style.marker, markersize=4, drawstyle="steps-post", label=legend_text(own.strategy),
            )  # fmt: skip
    axes.plot([1.0], [level], "X", color="black", markersize=8, label="backbone, no exits")
    finish(axes, data.axis)
    axes.set(xlabel=RATIO_TITLE, ylabel=TEST_TITLE)
    accuracies, costs = strategies_view(data)
    axes.set_ylim(*accuracies)
    _scale_costs(axes, costs)


def _draw_layers(axes: Axes, device: DeviceAnswer, data: FrontData, styles: dict[str, tuple[str, str]]) -> None:
    """What others made on the same exits: thin lines behind everything, each with a colour and a shape."""
    for layer, frame in sorted(zip(device.layers, data.layers, strict=True), key=lambda pair: pair[0].name):
        colour, marker = styles[layer.name]
        axes.plot(
            in_unit_column(frame["cost"], data.axis), 100.0 * frame["accuracy"],
            color=colour, linewidth=0.5, marker=marker, markersize=3.5, markerfacecolor="none", markeredgewidth=0.5,
            drawstyle="steps-post", label=legend_text(NAMES.get(layer.name, layer.name)), zorder=1.5,
        )  # fmt: skip


def _tell_hidden(axes: Axes, data: FrontData) -> None:
    """How many points of the front lie below the panel."""
    floor, _ = shown_range(data)
    hidden = int((100.0 * data.points["accuracy"] < floor).sum())
    if hidden:
        axes.text(
            0.99, 0.02, f"not shown: {hidden} {'point' if hidden == 1 else 'points'} below {floor:.0f} %",
            transform=axes.transAxes, ha="right", fontsize=7, color=INK,
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
    axes.plot([cost], [accuracy], "X", color="black", markersize=8, label="backbone, no exits")
    _annotate(axes, f"backbone {percent(row['accuracy'])}", (cost, accuracy), offset=(-8, 8), ha="right")


def _draw_points(axes: Axes, data: FrontData, styles: dict[str, Style]) -> None:
    points = data.points
    for strategy, group in by_strategy(points, styles):
        style = styles[strategy]
        accuracy = 100.0 * group["accuracy"]
        axes.errorbar(
            in_unit_column(group["cost"], data.axis), accuracy,
            yerr=[accuracy - 100.0 * group["low"], 100.0 * group["high"] - accuracy],
            linestyle="none", marker=style.marker, color=style.colour, ecolor=f"{style.colour}66",
            markersize=4 if len(points) <= CROWD else 2.5, elinewidth=0.8, label=legend_text(f"{strategy}, on test"),
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
    axes.plot(*place, "o", markersize=11, markerfacecolor="none", color="black", label=None if hidden else "knee")
    _annotate(axes, f"knee (point {knee['point']})", place, offset=(9, -14), ha="left")


def _draw_seeds(axes: Axes, data: FrontData) -> None:
    """Small lettered diamonds."""
    for spot in seed_spots(data):
        rules = zip(spot["label"], spot["rule"], strict=True)
        names = "\n".join(fill(f"{label}  {rule}", LONGEST_LINE, subsequent_indent="    ") for label, rule in rules)
        place = (in_unit(spot["cost"].iloc[0], data.axis), 100.0 * spot["accuracy"].iloc[0])
        axes.plot(*place, "d", color=INK, markersize=5, label=_plain(names), zorder=3, linestyle="none")
        _annotate(axes, ",".join(spot["label"]), place, offset=(4, -10), ha="left")


def _annotate(axes: Axes, text: str, place: tuple[float, float], *, offset: tuple[int, int], ha: str) -> None:
    axes.annotate(text, place, xytext=offset, textcoords="offset points", ha=ha, fontsize=7, color="#374151")


def legend_text(text: str) -> str:
    """A name of any length in the width of a legend."""
    return _plain(fill(text, LONGEST_LINE))


def _plain(text: str) -> str:
    """Text of foreign origin as matplotlib is to show it: no formulas between dollar signs."""
    return text.replace("$", r"\$")
