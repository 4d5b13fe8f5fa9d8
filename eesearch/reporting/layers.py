"""What the report draws beside the front, a layer each: oracle, static networks, dominated points, others' methods."""

from __future__ import annotations

from html import escape
from typing import Any

import pandas as pd

from eesearch.reporting.figures import INK, ORACLE, STATIC, Line
from eesearch.reporting.formats import cost_words, percent
from eesearch.reporting.frontdata import FrontData, in_unit_column
from eesearch.reporting.hovers import oracle_hover, point_hover
from eesearch.reporting.policies import NAMES
from eesearch.study.answers import DeviceAnswer
from eesearch.study.points import Layer
from eesearch.study.verified import verified_words

Trace = dict[str, Any]

GROUPS = {
    "front": "This run",
    "compare": "To compare with",
    "cascade": "Cascades",
    "verified": "Measured again, end to end",
    "baseline": "Methods of the literature",
}
"""Titles of the groups of layers, in the order of the page."""

HIDDEN = ("baseline", "dominated")
"""Shown on demand: many lines, or many points."""

# Okabe and Ito's colours again, with shapes that are left open: the points of this run are filled.
_COLOURS = ("#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#D55E00", "#0072B2")
# One shape more than colours: the first 42 methods differ in one of the two.
_SYMBOLS = (
    "square-open",
    "triangle-up-open",
    "diamond-open",
    "triangle-down-open",
    "pentagon-open",
    "hexagon-open",
    "cross-open",
)
_DASHES = ("solid", "dash", "dot", "dashdot")


def layer_traces(device: DeviceAnswer, data: FrontData) -> list[Trace]:
    """A trace per layer that is not empty; those of `HIDDEN` wait for their switch."""
    static = [point_hover(device, point, "Static sub-network") for point in device.static]
    order = sorted({layer.name for layer in device.layers})  # a method looks the same on all devices
    traces = [
        _line(data, ORACLE, data.oracle, [oracle_hover(device, point) for point in device.oracle]),
        _line(data, STATIC, data.static, static),
        _dominated(device, data),
        _verified(device),
        *(
            _layer(device, layer, frame, order.index(layer.name))
            for layer, frame in zip(device.layers, data.layers, strict=True)
        ),
    ]
    return [trace for trace in traces if trace["x"]]


def named(label: str, group: str) -> Trace:
    """The name of a trace: escaped for plotly, and plain for the page's own switches."""
    return {"name": escape(label), "meta": {"label": label, "group": group}}


def _line(data: FrontData, line: Line, frame: pd.DataFrame, hover: list[str]) -> Trace:
    """A front to compare with."""
    return named(line.name, "compare") | {
        "x": in_unit_column(frame["cost"], data.axis),
        "y": (100.0 * frame["accuracy"]).tolist(),
        "mode": "lines+markers",
        "line": {"shape": "hv", "color": line.colour, "width": 1.2, "dash": line.plotly_dash},
        "marker": {"symbol": line.symbol, "size": 6},
        "hovertext": hover,
        "hoverinfo": "text",
    }


def _dominated(device: DeviceAnswer, data: FrontData) -> Trace:
    hover = [point_hover(device, tried.point, f"Trial {tried.trial}, dominated") for tried in device.dominated]
    return named("dominated points of trials", "compare") | {
        "x": in_unit_column(data.dominated["cost"], data.axis),
        "y": (100.0 * data.dominated["accuracy"]).tolist(),
        "mode": "markers",
        "marker": {"symbol": "circle-open", "size": 5, "color": INK},
        "visible": False,
        "hovertext": hover,
        "hoverinfo": "text",
    }


def _verified(device: DeviceAnswer) -> Trace:
    """Where points of the front really lie, by the clock and by the answers of the network that ran."""
    found = list(device.numbers().items()) if device.axis == "latency_ms" else []
    hover = [
        "<br>".join(
            [
                f"<b>Point {number}, measured end to end</b>",
                f"{cost_words(entry.measured.mean, device.axis)} on average (predicted "
                f"{cost_words(entry.predicted.mean, device.axis)}), accuracy {percent(entry.accuracy)}",
                escape(verified_words(entry, f"Point {number}")),
            ]
        )
        for number, entry in found
    ]
    return named("measured end to end", "verified") | {
        "x": [entry.measured.mean for _, entry in found],
        "y": [100.0 * entry.accuracy for _, entry in found],
        "mode": "markers",
        "marker": {"symbol": "hexagon-open", "size": 10, "color": INK, "line": {"width": 2}},
        "hovertext": hover,
        "hoverinfo": "text",
    }


def _layer(device: DeviceAnswer, layer: Layer, frame: pd.DataFrame, number: int) -> Trace:
    name = NAMES.get(layer.name, layer.name)
    colour = _COLOURS[number % len(_COLOURS)]
    return named(name, layer.kind) | {
        "x": in_unit_column(frame["cost"], device.axis),
        "y": (100.0 * frame["accuracy"]).tolist(),
        "mode": "lines+markers",
        "line": {"shape": "hv", "color": colour, "width": 1, "dash": _DASHES[number // len(_COLOURS) % len(_DASHES)]},
        "marker": {"symbol": _SYMBOLS[number % len(_SYMBOLS)], "size": 7},
        "visible": layer.kind not in HIDDEN,
        "hovertext": [point_hover(device, point, name) for point in layer.points],
        "hoverinfo": "text",
    }
