"""Where a network can be cut, as a table and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table
from rich.text import Text

from eesearch.core.store import write_atomic
from eesearch.reporting.figures import PRINTED, SERIES, Form, figure_bytes, legend_text, paper_figure
from eesearch.reporting.formats import cost_words, in_unit
from eesearch.reporting.tables import plain_table

if TYPE_CHECKING:
    from eesearch.study.inspection import InspectedNetwork


def inspection_table(network: InspectedNetwork) -> Table:
    """A line for each cut, and one for the output: what a head would read there, and what it costs to get there."""
    devices = tuple(network.cuts[-1].latency_ms)
    columns = (
        "after",
        "kind",
        "hidden state",
        "stride",
        "MACs (M)",
        "share",
        "params",
        *(f"{d} (ms)" for d in devices),
    )
    table = plain_table(network.name, (*columns, "heads"))
    whole = network.cuts[-1].macs
    for cut in network.cuts:
        costs = [f"{cut.macs / whole:.1%}", f"{cut.params:,.0f}", *(f"{cut.latency_ms[d]:.4f}" for d in devices)]
        table.add_row(
            Text(cut.name),
            cut.kind,
            "x".join(map(str, cut.shape)),
            cut.stride,
            cost_words(cut.macs, "macs", unit=False),
            *costs,
            Text("\n".join(cut.heads)),
        )
    table.caption = Text("MACs, parameters and latency: of one sample, from the input to there, without any head")
    return table


def draw_inspection(networks: tuple[InspectedNetwork, ...]) -> Figure:
    """A panel per network: how much of all multiply-adds, and of the time on each device, is spent up to each cut."""
    with rc_context(PRINTED):
        figure = paper_figure([max(6, len(network.cuts)) for network in networks])
        for axes, network in zip(figure.axes, networks, strict=True):
            _draw(axes, network)
    return figure


def save_inspection(networks: tuple[InspectedNetwork, ...], path: Path, form: Form) -> None:
    """Draw it and write it.

    Raises:
        RunError: the disk is full, or the directory cannot be written.
    """
    write_atomic(path, figure_bytes(draw_inspection(networks), form))


def _draw(axes: Axes, network: InspectedNetwork) -> None:
    places, whole = range(len(network.cuts)), network.cuts[-1]
    lines = {f"MACs, of {in_unit(whole.macs, 'macs'):.4g} M": [cut.macs / whole.macs for cut in network.cuts]}
    for device, total in whole.latency_ms.items():
        lines[f"{device}, of {total:.3g} ms"] = [cut.latency_ms[device] / total for cut in network.cuts]
    for number, (label, shares) in enumerate(lines.items()):
        style = SERIES[number % len(SERIES)]
        axes.plot(
            places,
            [100.0 * share for share in shares],
            color=style.colour,
            marker=style.marker,
            markersize=3,
            label=legend_text(label),
        )
    names = [f"{cut.name}  {'x'.join(map(str, cut.shape))}" for cut in network.cuts]
    axes.set_xticks(list(places), names, rotation=90, fontsize=6)
    axes.set_ylabel("Spent up to here (%)")
    axes.set_ylim(0.0, 105.0)
    axes.set_title(network.name, parse_math=False)
    axes.grid(axis="y", linewidth=0.4)
    axes.legend(loc="upper left", fontsize=7)
