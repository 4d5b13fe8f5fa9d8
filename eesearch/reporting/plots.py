"""The interactive fronts of one device as plotly figures: plain JSON-able dictionaries, everything foreign escaped."""

from __future__ import annotations

from math import ceil, floor, inf, log10
from typing import Any

import pandas as pd

from eesearch.reporting.figures import CROWD, INK, Style
from eesearch.reporting.formats import ACCURACY_TITLE, AXIS_TITLES, RATIO_TITLE, TEST_TITLE
from eesearch.reporting.frontdata import (
    FrontData,
    by_strategy,
    in_unit_column,
    log_range,
    rivals,
    seed_spots,
    shown_range,
    strategies_view,
)
from eesearch.reporting.hovers import point_hover
from eesearch.reporting.layers import Trace, layer_traces, named
from eesearch.study.answers import DeviceAnswer

_SIZES = ((CROWD, 8), (10 * CROWD, 6), (inf, 4))
"""Up to so many points, markers are this large (pixels)."""


def front_plot(device: DeviceAnswer, data: FrontData, styles: dict[str, Style]) -> dict[str, Any]:
    """The figure `{data, layout}` for `Plotly.newPlot`; colours of text and grid are the page's, set when drawn."""
    size = next(size for most, size in _SIZES if len(data.points) <= most)
    traces = [
        named(f"{strategy}, on test", "front") | _strategy_trace(device, group, styles[strategy], size)
        for strategy, group in by_strategy(data.points, styles)
    ]
    traces += [_calibration_trace(data), _knee_trace(data), _seed_trace(device, data), _backbone_trace(device, data)]
    traces = [trace for trace in traces if trace["x"]]
    return {"data": [*layer_traces(device, data), *traces], "layout": _layout(data)}


def strategies_plot(device: DeviceAnswer, data: FrontData, styles: dict[str, Style]) -> dict[str, Any] | None:
    """The figure with one front per training strategy in the same axes; None if there is only one."""
    if not data.strategies:
        return None
    traces = [
        named(own.strategy, "strategies")
        | {
            "x": frame["ratio"].tolist(),
            "y": (100.0 * frame["accuracy"]).tolist(),
            "mode": "lines+markers",
            "line": {"shape": "hv", "color": style.colour, "width": 1.5, "dash": style.plotly_dash},
            "marker": {"symbol": style.symbol, "size": 8},
            "hovertext": [point_hover(device, point, own.strategy) for point in own.points],
            "hoverinfo": "text",
        }
        for own, frame in zip(rivals(device), data.strategies, strict=True)
        for style in (styles[own.strategy],)
    ]
    backbone = _backbone_trace(device, data) | named("backbone, no exits", "strategies") | {"x": [1.0]}
    accuracies, costs = strategies_view(data)
    layout = page_layout(
        400,
        {"t": 16, "r": 16, "b": 48, "l": 56},
        xaxis={"title": {"text": RATIO_TITLE}, "zeroline": False} | cost_scale(costs),
        yaxis={"title": {"text": TEST_TITLE}, "zeroline": False, "range": list(accuracies)},
        shapes=[_level(data)],
    )
    return {"data": [trace for trace in (*traces, backbone) if trace["x"]], "layout": layout}


def _level(data: FrontData) -> dict[str, Any]:
    """A dashed line at the backbone's accuracy."""
    level = 100.0 * float(data.backbone["accuracy"].iloc[0])
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level, "layer": "below"}
    return line | {"line": {"color": INK, "width": 1, "dash": "dash"}}


def page_layout(height: int, margin: dict[str, int], **own: Any) -> dict[str, Any]:
    """The layout of a plot of the page: what all of them share, and what is its own; lengths in pixels."""
    return {
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "showlegend": False,
        "margin": margin,
        "height": height,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    } | own


def _layout(data: FrontData) -> dict[str, Any]:
    return page_layout(
        480,
        {"t": 16, "r": 16, "b": 48, "l": 56},
        xaxis={"title": {"text": AXIS_TITLES[data.axis]}, "zeroline": False} | cost_scale(log_range(data)),
        yaxis={"title": {"text": ACCURACY_TITLE}, "zeroline": False, "range": list(shown_range(data))},
        shapes=[_level(data)],
    )


def cost_scale(shown: tuple[float, float] | None) -> dict[str, Any]:
    """Of an axis of costs: logarithmic between two costs, whose exponents plotly wants; None: linear from 0."""
    if shown is None:
        return {"rangemode": "tozero"}
    first, last = (log10(cost) for cost in shown)
    decades = range(floor(first), ceil(last))
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]  # plotly's own leave zeros out
    return {"type": "log", "range": [first, last], "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def _calibration_trace(data: FrontData) -> Trace:
    selected = data.points.sort_values("cost_cal")
    return named("front on calibration", "front") | {
        "x": in_unit_column(selected["cost_cal"], data.axis),
        "y": (100.0 * selected["accuracy_cal"]).tolist(),
        "mode": "lines",
        "line": {"shape": "hv", "color": INK, "width": 1.2},
        "opacity": 0.6,
        "hoverinfo": "skip",
    }


def _strategy_trace(device: DeviceAnswer, group: pd.DataFrame, style: Style, size: int) -> Trace:
    accuracy = 100.0 * group["accuracy"]
    interval = {
        "type": "data",
        "symmetric": False,
        "array": (100.0 * group["high"] - accuracy).tolist(),
        "arrayminus": (accuracy - 100.0 * group["low"]).tolist(),
        "thickness": 1,
        "width": 0,
        "color": f"{style.colour}{'99' if size > 4 else '33'}",  # of thousands, bars are a cloud behind the markers
    }
    numbers = group["point"].tolist()
    hover = [point_hover(device, device.points[number], f"Point {number}", chosen=True) for number in numbers]
    return {
        "x": in_unit_column(group["cost"], device.axis),
        "y": accuracy.tolist(),
        "error_y": interval,
        "mode": "markers",
        "marker": {"color": style.colour, "symbol": style.symbol, "size": size},
        "customdata": numbers,
        "hovertext": hover,
        "hoverinfo": "text",
    }


def _knee_trace(data: FrontData) -> Trace:
    knee = data.points[data.points["knee"].astype(bool)]
    return named("knee", "front") | {
        "x": in_unit_column(knee["cost"], data.axis),
        "y": (100.0 * knee["accuracy"]).tolist(),
        "mode": "markers",
        "marker": {"symbol": "circle-open", "size": 17, "color": INK, "line": {"width": 2}},
        "hoverinfo": "skip",
    }


def _seed_trace(device: DeviceAnswer, data: FrontData) -> Trace:
    spots = seed_spots(data)
    return named("seeding rules", "compare") | {
        "x": in_unit_column([spot["cost"].iloc[0] for spot in spots], data.axis),
        "y": [100.0 * spot["accuracy"].iloc[0] for spot in spots],
        "mode": "markers+text",
        "marker": {"symbol": "diamond-tall", "size": 8, "color": INK},
        "text": [",".join(spot["label"]) for spot in spots],
        "textposition": "bottom right",
        "textfont": {"size": 10},
        "hovertext": [_seed_hover(device, spot) for spot in spots],
        "hoverinfo": "text",
    }


def _seed_hover(device: DeviceAnswer, spot: pd.DataFrame) -> str:
    names = zip(spot["label"], spot["rule"], strict=True)
    title = "Seeds " + "; ".join(f"{label}: {rule}" for label, rule in names)
    return point_hover(device, device.seeds[int(spot.index[0])].point, title)


def _backbone_trace(device: DeviceAnswer, data: FrontData) -> Trace:
    return named("backbone, no exits", "front") | {
        "x": in_unit_column(data.backbone["cost"], data.axis),
        "y": (100.0 * data.backbone["accuracy"]).tolist(),
        "mode": "markers",
        "marker": {"symbol": "x", "size": 11, "color": INK},
        "hovertext": [point_hover(device, device.backbone, "Backbone, no exits")],
        "hoverinfo": "text",
    }
