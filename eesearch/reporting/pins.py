"""What the report shows of a point that is pinned: JSON-able, in words wherever the page only shows it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from eesearch.core.costs import FOLDS, Axis
from eesearch.core.design import LAST_RESORT, OUTPUT, ExitId, content_key
from eesearch.core.policy import Stop
from eesearch.reporting.formats import (
    UNITS,
    StopWords,
    cost_words,
    in_unit,
    interval_words,
    percent,
    points_words,
    stop_words,
)
from eesearch.reporting.frontdata import FrontData, records
from eesearch.reporting.hovers import design_facts, made_words
from eesearch.reporting.promises import LIMITS
from eesearch.reporting.rows import shared_axes
from eesearch.study.answers import Answers, DeviceAnswer
from eesearch.study.front_table import drop_interval
from eesearch.study.points import Point, StopFacts

Facts = dict[str, Any]

_TITLES: dict[Axis, str] = {
    "macs": "Multiply-adds",
    "latency_ms": "Latency",
    "energy_mj": "Energy",
    "bytes": "Traffic",
    "params": "Parameters",
    "peak_bytes": "Peak memory",
}

KEY_DIGITS = 12
"""Hex digits of a point's key: short in an address, and still no two points of a front share one."""


def pins(answers: Answers, device: DeviceAnswer, data: FrontData) -> Facts:
    """Everything that the page needs to pin points of a device's front, and to pick them by limits.

    The limits are on what picks read, and never on test: `lost` is the drop to expect on new samples (on calibration
    where that is not known: then not `promised`), `cost` that on calibration. `drawn`: where the point is in the plot.
    """
    numbers, axes = records(data.points), shared_axes(device)
    return {
        "name": device.device,
        "axis": device.axis,
        "unit": UNITS[device.axis],
        "units": [UNITS[axis] for axis in axes],
        "cuts": cuts_in_order(answers, device),
        "promised": bool(device.optimism),
        "full": in_unit(device.backbone.test.costs[device.axis].mean, device.axis),
        **_begin(device, [row["knee"] for row in numbers]),
        "points": [
            _point(device, point, axes, (row["low"], row["high"]))
            for point, row in zip(device.points, numbers, strict=True)
        ],
    }


def _begin(device: DeviceAnswer, knees: list[bool]) -> Facts:
    """The point that the page begins with: by the least of the usual limits (in percentage points), or the knee."""
    for limit in LIMITS:
        if (point := device.within(limit)) is not None:
            return {"start": device.points.index(point), "limit": 100.0 * limit}
    return {"start": knees.index(True) if any(knees) else None, "limit": None}


def cuts_in_order(answers: Answers, device: DeviceAnswer) -> list[str]:
    """The longest chain of cuts that is known of the backbone: of the bank's exits, or of a trial's."""
    chains = [[facts.exit.cut for facts in device.overthinking]]
    chains += [[name.rpartition(":")[0] for name in trial.exits] for trial in answers.trials]
    distinct = ([cut for cut in dict.fromkeys(chain) if cut not in (OUTPUT, LAST_RESORT)] for chain in chains)
    return max(distinct, key=len)


def point_key(point: Point) -> str:
    """What tells the point apart on every front that it is on; its number changes when the front grows."""
    return content_key(point.cal.design, point.cal.policy.model_dump(mode="json"))[:KEY_DIGITS]


def _point(device: DeviceAnswer, point: Point, axes: Sequence[Axis], interval: tuple[float, float]) -> Facts:
    axis = device.axis
    drop = device.backbone.test.accuracy - point.test.accuracy
    low, high = (f"{100 * end:.2f}" for end in interval)
    paired = interval_words(drop_interval(device, point))
    promised = (
        f"{points_words(device.corrected(point))} points promised, {points_words(device.drop(point))} on calibration"
    )
    return {
        "key": point_key(point),
        "lost": device.expected(point),
        "cost": in_unit(point.cal.costs[axis].mean, axis),
        "drawn": [in_unit(point.test.costs[axis].mean, axis), 100.0 * point.test.accuracy],
        "made": made_words(point.test),
        "facts": [
            ["Accuracy on test", f"{percent(point.test.accuracy)}, 95 % interval {low} to {high}"],
            ["Lost on test", f"{points_words(drop)} points" + (f", 95 % interval {paired}" if paired else "")],
            *([["Lost on new samples", promised]] if device.optimism else []),
            ["Accuracy on calibration", percent(point.cal.accuracy)],
            *([_TITLES[name], _cost(device, point, name)] for name in axes),
            *([name.capitalize(), words] for name, words in design_facts(device, point.test.design)),
        ],
        "stops": [
            _stop(axes, stop, words, facts)
            for stop, words, facts in zip_longest(point.test.policy.stops, stop_words(point.test), point.stops)
        ],
        "rates": list(point.test.exit_rate),
    }


def _cost(device: DeviceAnswer, point: Point, axis: Axis) -> str:
    cost = point.test.costs[axis]
    if FOLDS[axis] != "mean":
        return f"{cost_words(cost.worst, axis)} deployed"
    ratio = cost.mean / device.backbone.test.costs[axis].mean
    p95, worst = (cost_words(value, axis, unit=False) for value in (cost.p95, cost.worst))
    reference = "every raw sample sent" if axis == "bytes" else "backbone"
    return f"{cost_words(cost.mean, axis)} on average, {ratio:.3f} x {reference} (p95 {p95}, worst {worst})"


def _stop(axes: Sequence[Axis], stop: Stop, words: StopWords, facts: StopFacts | None) -> Facts:
    row = {
        "cut": stop.exit.cut,
        "name": words.exit,
        "head": words.head,
        "kind": _kind(stop.exit),
        "network": stop.exit.network,
        "share": words.share,
        "rule": words.rule,
    }
    if facts is None:
        return row
    return row | {
        "accuracy": None if facts.accuracy is None else percent(facts.accuracy),
        "costs": [cost_words(facts.costs[axis], axis, unit=False) if axis in facts.costs else "" for axis in axes],
        "paid": in_unit(facts.costs[axes[0]], axes[0]),
    }


def _kind(exit_id: ExitId) -> str:
    return "ask" if exit_id.is_last_resort else "output" if exit_id.is_output else "exit"
