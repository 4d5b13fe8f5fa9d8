"""The interactive front of one device as a plotly figure: plain JSON-able dictionaries, everything foreign escaped.

Plotly shows names and hover texts as a dialect of HTML, so they are escaped here, where they are made.
"""

from __future__ import annotations

from html import escape
from typing import Any

import pandas as pd

from eesearch.core.front import Evaluation, exit_name
from eesearch.reporting.figures import CROWD, INK, ORACLE, STATIC, Line, Style
from eesearch.reporting.formats import (
    ACCURACY_TITLE,
    AXIS_TITLES,
    cost_words,
    head_words,
    percent,
    points_words,
    stop_words,
)
from eesearch.reporting.frontdata import FrontData, by_strategy, in_unit_column, seed_spots, shown_range
from eesearch.study.answers import DeviceAnswer, OracleAnswer, Point

Trace = dict[str, Any]


def front_plot(device: DeviceAnswer, data: FrontData, styles: dict[str, Style]) -> dict[str, Any]:
    """The figure `{data, layout}` for `Plotly.newPlot`; colours of text and grid are the page's, set when drawn."""
    size = 8 if len(data.points) <= CROWD else 6
    traces = [
        _strategy_trace(device, group, escape(f"{strategy}, on test"), styles[strategy], size)
        for strategy, group in by_strategy(data.points, styles)
    ]
    traces += [_calibration_trace(data), _knee_trace(data), _seed_trace(device, data), _backbone_trace(device, data)]
    traces += [
        _line_trace(data, ORACLE, data.oracle, [_oracle_hover(device, point) for point in device.oracle]),
        _line_trace(data, STATIC, data.static, [point_hover(device, p, "Static sub-network") for p in device.static]),
    ]
    return {"data": [trace for trace in traces if trace["x"]], "layout": _layout(data)}


def _layout(data: FrontData) -> dict[str, Any]:
    level = 100.0 * float(data.backbone["accuracy"].iloc[0])
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level, "layer": "below"}
    return {
        "xaxis": {"title": {"text": AXIS_TITLES[data.axis]}, "rangemode": "tozero", "zeroline": False},
        "yaxis": {"title": {"text": ACCURACY_TITLE}, "zeroline": False, "range": list(shown_range(data))},
        "shapes": [line | {"line": {"color": INK, "width": 1, "dash": "dash"}}],
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "legend": {"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0},
        "margin": {"t": 16, "r": 16, "b": 48, "l": 56},
        "height": 480,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }


def _line_trace(data: FrontData, line: Line, frame: pd.DataFrame, hover: list[str]) -> Trace:
    """A front to compare with; a click on its name in the legend hides it."""
    return {
        "name": line.name,
        "x": in_unit_column(frame["cost"], data.axis),
        "y": (100.0 * frame["accuracy"]).tolist(),
        "mode": "lines+markers",
        "line": {"shape": "hv", "color": line.colour, "width": 1.2, "dash": line.plotly_dash},
        "marker": {"symbol": line.symbol, "size": 6},
        "hovertext": hover,
        "hoverinfo": "text",
    }


def _calibration_trace(data: FrontData) -> Trace:
    selected = data.points.sort_values("cost_cal")
    return {
        "name": "front on calibration",
        "x": in_unit_column(selected["cost_cal"], data.axis),
        "y": (100.0 * selected["accuracy_cal"]).tolist(),
        "mode": "lines",
        "line": {"shape": "hv", "color": INK, "width": 1.2},
        "opacity": 0.6,
        "hoverinfo": "skip",
    }


def _strategy_trace(device: DeviceAnswer, group: pd.DataFrame, name: str, style: Style, size: int) -> Trace:
    accuracy = 100.0 * group["accuracy"]
    interval = {
        "type": "data",
        "symmetric": False,
        "array": (100.0 * group["high"] - accuracy).tolist(),
        "arrayminus": (accuracy - 100.0 * group["low"]).tolist(),
        "thickness": 1,
        "width": 0,
        "color": f"{style.colour}99",
    }
    numbers = group["point"].tolist()
    hover = [point_hover(device, device.points[number], f"Point {number}") for number in numbers]
    return {
        "name": name,
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
    return {
        "name": "knee",
        "x": in_unit_column(knee["cost"], data.axis),
        "y": (100.0 * knee["accuracy"]).tolist(),
        "mode": "markers",
        "marker": {"symbol": "circle-open", "size": 17, "color": INK, "line": {"width": 2}},
        "hoverinfo": "skip",
    }


def _seed_trace(device: DeviceAnswer, data: FrontData) -> Trace:
    spots = seed_spots(data)
    return {
        "name": "seeding rules",
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
    return {
        "name": "backbone, no exits",
        "x": in_unit_column(data.backbone["cost"], data.axis),
        "y": (100.0 * data.backbone["accuracy"]).tolist(),
        "mode": "markers",
        "marker": {"symbol": "x", "size": 11, "color": INK},
        "hovertext": [point_hover(device, device.backbone, "Backbone, no exits")],
        "hoverinfo": "text",
    }


def point_hover(device: DeviceAnswer, point: Point, title: str) -> str:
    """The whole configuration of a point: where samples leave and when, what it answers and costs. Escaped."""
    lines = [f"<b>{escape(title)}</b>", escape(_made(point.test))]
    lines += [escape(f"{s.share} leave at {s.exit}, {s.head} ({s.rule})") for s in stop_words(point.test)]
    drop = points_words(device.backbone.test.accuracy - point.test.accuracy)
    lines.append(f"accuracy {percent(point.test.accuracy)} on test (drop {drop} points)")
    lines.append(f"accuracy {percent(point.cal.accuracy)} on calibration")
    for axis, cost in point.test.costs.items():
        if axis == "params":
            lines.append(f"{cost_words(cost.worst, axis)} deployed")
            continue
        ratio = cost.mean / device.backbone.test.costs[axis].mean
        spread = f"p95 {cost_words(cost.p95, axis, unit=False)}, worst {cost_words(cost.worst, axis, unit=False)}"
        lines.append(f"{cost_words(cost.mean, axis)} on average, {ratio:.2f} x backbone ({spread})")
    return "<br>".join(lines)


def _oracle_hover(device: DeviceAnswer, point: OracleAnswer) -> str:
    """Where the samples of an oracle leave. Escaped."""
    lines = ["<b>Stable oracle: an ideal, computed on test</b>"]
    for exit_, rate in zip(point.exits, point.exit_rate, strict=True):
        lines.append(escape(f"{rate:.1%} leave at {exit_name(exit_)}, {head_words(exit_)}"))
    ratio = point.cost / device.backbone.test.costs[device.axis].mean
    lines.append(f"accuracy {percent(1.0 - point.error)} on test")
    lines.append(f"{cost_words(point.cost, device.axis)} on average, {ratio:.2f} x backbone")
    return "<br>".join(lines)


def _made(evaluation: Evaluation) -> str:
    design = f", design {evaluation.design}" if evaluation.design else ""
    return f"{evaluation.strategy}, criterion {evaluation.policy.decision}{design}"
