"""The picture of several runs: their fronts over each other."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eesearch.core.front import MAX_DROP
from eesearch.core.store import write_atomic
from eesearch.reporting.compare import Compared, ComparedDevice, ComparedRun
from eesearch.reporting.figures import (
    INK,
    PRINTED,
    SERIES,
    Form,
    Style,
    figure_bytes,
    finish,
    legend_text,
    paper_figure,
)
from eesearch.reporting.formats import in_unit
from eesearch.reporting.frontdata import DEPTH


def draw_comparison(compared: Compared) -> Figure:
    """A panel per shared device: every run's points on test, joined in the order in which calibration chose them."""
    with rc_context(PRINTED):
        figure = paper_figure([2 * len(device.runs) + 3 for device in compared.devices])
        for axes, device in zip(figure.axes, compared.devices, strict=True):
            axes.set_title(fill(device.device, 60), parse_math=False)
            _draw_panel(axes, device)
    return figure


def save_comparison(compared: Compared, path: Path, form: Form) -> None:
    """Draw the comparison and write it.

    Raises:
        RunError: the disk is full, or the directory cannot be written.
    """
    write_atomic(path, figure_bytes(draw_comparison(compared), form))


def _draw_panel(axes: Axes, device: ComparedDevice) -> None:
    for number, run in enumerate(device.runs):
        style = SERIES[number % len(SERIES)]
        _draw_run(axes, device, run, style)
    level = 100.0 * device.accuracy
    axes.axhline(level - 100.0 * MAX_DROP, color=INK, linestyle=":", linewidth=0.8, label="areas count from here up")
    finish(axes, device.axis)
    axes.set_ylabel("Accuracy on test (%)")
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, level - 100.0 * DEPTH), high)


def _draw_run(axes: Axes, device: ComparedDevice, run: ComparedRun, style: Style) -> None:
    points = run.device.points
    dash = ("-", "--", "-.", ":")[SERIES.index(style) % 4]
    name = f"{run.name}, area {run.hypervolume:.4f}"
    axes.plot(
        [in_unit(point.test.costs[device.axis].mean, device.axis) for point in points],
        [100.0 * point.test.accuracy for point in points],
        color=style.colour, marker=style.marker, markersize=3, linewidth=0.8, linestyle=dash,
        drawstyle="steps-post", label=legend_text(name),
    )  # fmt: skip
    backbone = run.device.backbone.test
    axes.plot(
        [in_unit(backbone.costs[device.axis].mean, device.axis)], [100.0 * backbone.accuracy],
        "X", color=style.colour, markersize=8, markeredgecolor="white", markeredgewidth=0.5,
        label=legend_text(f"backbone of {run.name}"),
    )  # fmt: skip
