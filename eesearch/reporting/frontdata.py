"""The numbers behind every view of a device's front, apart from any drawing."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from eesearch.core.costs import Axis
from eesearch.core.front import Front
from eesearch.reporting.formats import in_unit
from eesearch.study.answers import DeviceAnswer, SeedAnswer, StrategyAnswer
from eesearch.study.points import Point

DEPTH = 0.12
"""Plots begin this far below the backbone's accuracy, or at their lowest point if that is higher."""

CROWDED = 0.25
"""A front whose median point costs less than this share of the backbone gets a logarithmic axis."""

_POINT_COLUMNS = ("cost", "ratio", "accuracy", "low", "high", "drop", "cost_cal", "accuracy_cal")
_FRONT_COLUMNS = ("point", "strategy", "knee", *_POINT_COLUMNS)
_SEED_COLUMNS = ("label", "rule", "value", "enqueued", "distance", "best", *_POINT_COLUMNS)
_ORACLE_COLUMNS = ("cost", "ratio", "accuracy")


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
        oracle: `cost ratio accuracy` of the stable oracle's front, by rising cost; on test.
        static: The columns above; a row per static sub-network.
        dominated: `trial` and the columns above; a row per point of a trial that the merged front leaves out.
        layers: By what others made, a row per point with the columns above.
        strategies: Of each strategy's own front, a row per point with the columns above; () where there is only one.
    """

    axis: Axis
    points: pd.DataFrame
    backbone: pd.DataFrame
    seeds: pd.DataFrame
    oracle: pd.DataFrame
    static: pd.DataFrame
    dominated: pd.DataFrame
    layers: tuple[pd.DataFrame, ...]
    strategies: tuple[pd.DataFrame, ...] = ()


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
    unit = device.backbone.test.costs[device.axis].mean
    oracle = [{"cost": o.cost, "ratio": o.cost / unit, "accuracy": 1.0 - o.error} for o in device.oracle]
    return FrontData(
        axis=device.axis,
        points=pd.DataFrame(points, columns=list(_FRONT_COLUMNS)),
        backbone=pd.DataFrame([_numbers(device, device.backbone)], columns=list(_POINT_COLUMNS)),
        seeds=pd.DataFrame(seeds, columns=list(_SEED_COLUMNS)),
        oracle=pd.DataFrame(oracle, columns=list(_ORACLE_COLUMNS)),
        static=_frame(device, device.static),
        dominated=_frame(device, [tried.point for tried in device.dominated]),
        layers=tuple(_frame(device, layer.points) for layer in device.layers),
        strategies=tuple(_frame(device, own.points) for own in rivals(device)),
    )


def rivals(device: DeviceAnswer) -> tuple[StrategyAnswer, ...]:
    """The strategies to compare; () if there is only one."""
    return device.strategies if len(device.strategies) > 1 else ()


def _frame(device: DeviceAnswer, points: Sequence[Point]) -> pd.DataFrame:
    return pd.DataFrame([_numbers(device, point) for point in points], columns=list(_POINT_COLUMNS))


def _without_numbers(rule: str) -> str:
    """`th_rule 0.93 re-measured (macs)` is `th_rule re-measured` with a parameter, measured on a device."""
    return re.sub(r"\s+(\d[\w.]*|\(.*\)$)", "", rule)


def _numbers(device: DeviceAnswer, point: Point) -> dict[str, float]:
    accuracy = point.test.accuracy
    low, high = point.test.interval
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
    least = rival.costs[front.axis].mean if rival else 0.0  # nothing is sent where all leave on the first tier
    return own.costs[front.axis].mean / least if least else float("nan")


def _label(number: int) -> str:
    """A, B, ..., Z, A2, B2, ..."""
    return chr(ord("A") + number % 26) + (str(number // 26 + 1) if number >= 26 else "")


def lowest_shown(data: FrontData) -> float | None:
    """The accuracy (%) below which points are left out of the first view; None if none lies that deep.

    A cheap exit right after the stem may be 50 points below the backbone and would flatten everything of interest.
    """
    floor = 100.0 * (float(data.backbone["accuracy"].iloc[0]) - DEPTH)
    return floor if (100.0 * data.points["low"] < floor).any() else None


def shown_range(data: FrontData) -> tuple[float, float]:
    """The accuracies (%) of the first view: of the front, its seeds and the backbone, wherever other lines go."""
    others = [*data.backbone["accuracy"], *data.seeds["accuracy"]]
    floor = lowest_shown(data)
    low = 100.0 * min([*data.points["low"], *others]) - 1.0 if floor is None else floor
    return low, min(100.0 * max([*data.points["high"], *others]) + 1.0, 101.0)


def log_range(data: FrontData) -> tuple[float, float] | None:
    """The costs, in their axis' unit, between which a logarithmic axis shows the front; None: a linear one does better.

    Exits that pay well crowd in the first tenth of the way to the backbone, and then nobody can tell them apart.
    """
    low, _ = shown_range(data)
    shown = data.points[100.0 * data.points["accuracy"] >= low]
    if len(shown) < 3 or float(shown["ratio"].median()) >= CROWDED:
        return None
    first, last = float(shown["cost"].min()), float(data.backbone["cost"].iloc[0])
    if first <= 0.0:
        return None
    return 0.8 * in_unit(first, data.axis), 1.2 * in_unit(last, data.axis)


def strategies_view(data: FrontData) -> tuple[tuple[float, float], tuple[float, float] | None]:
    """Of the plot of the strategies' fronts: its `shown_range`, and its `log_range` in costs of the backbone."""
    filled = [frame for frame in data.strategies if len(frame)]
    points = pd.concat(filled) if filled else data.points.iloc[:0]
    alike = replace(data, points=points, seeds=data.seeds.iloc[:0])
    costs, full = log_range(alike), in_unit(float(data.backbone["cost"].iloc[0]), data.axis)
    return shown_range(alike), None if costs is None else (costs[0] / full, costs[1] / full)


def by_strategy(points: pd.DataFrame, strategies: Iterable[str]) -> list[tuple[str, pd.DataFrame]]:
    """The points of each of these strategies that has any."""
    groups = ((name, points[points["strategy"] == name]) for name in strategies)
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
