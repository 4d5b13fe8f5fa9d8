"""The rows of `front.csv`: what a front's points do and cost, a column for each figure."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

import pandas as pd

from eesearch.core.costs import Axis
from eesearch.core.front import describe
from eesearch.study.answers import DeviceAnswer
from eesearch.study.points import Point

COLUMNS = (
    "point", "device", "strategy", "exits", "heads", "criterion", "thresholds", "exit_rate",
    "accuracy_cal", "accuracy_test", "accuracy_test_low", "accuracy_test_high",
    "drop_cal", "drop_promised", "drop_test", "drop_test_low", "drop_test_high",
    "macs", "latency_ms", "latency_ms_p95", "latency_ms_worst", "macs_ratio", "latency_ratio", "params", "peak_bytes",
    "energy_mj", "energy_mj_p95", "energy_mj_worst", "bytes", "bytes_p95", "bytes_worst", "design",
)  # fmt: skip

_RATIOS: dict[Axis, str] = {"macs": "macs_ratio", "latency_ms": "latency_ratio"}


def table_rows(devices: Sequence[DeviceAnswer]) -> pd.DataFrame:
    """The rows of `front.csv`: per device its front by rising cost, then the backbone.

    Rates, accuracies and costs are those on test, unless a column ends in `_cal`; latencies in milliseconds. Drops are
    shares of accuracy lost to the backbone: on calibration; to be expected on new samples (`drop_promised`; empty where
    the optimism of picks was not estimated); on test, with the paired 95 % interval.
    """
    rows = []
    for device in devices:
        named: list[tuple[int | str, Point]] = [*enumerate(device.points), ("backbone", device.backbone)]
        rows += [_row(device, name, point) for name, point in named]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def drop_interval(device: DeviceAnswer, point: Point) -> tuple[float, float] | None:
    """The paired 95 % interval of the accuracy lost to the backbone on test, as shares.

    None where policy and backbone were not compared sample by sample, and for the backbone, which is no estimate.
    """
    return None if point.paired is None or device.is_backbone(point) else point.paired.interval()


def _row(device: DeviceAnswer, name: int | str, point: Point) -> dict[str, object]:
    low, high = point.test.interval
    row: dict[str, object] = dict(describe(point.test))
    row |= {"point": name, "device": device.device, "accuracy_cal": point.cal.accuracy}
    row |= {"accuracy_test": point.test.accuracy, "accuracy_test_low": low, "accuracy_test_high": high}
    row |= {"drop_cal": device.drop(point), "drop_test": device.backbone.test.accuracy - point.test.accuracy}
    row |= {"drop_promised": device.corrected(point)} if device.optimism else {}
    row["drop_test_low"], row["drop_test_high"] = drop_interval(device, point) or (nan, nan)
    for axis, cost in point.test.costs.items():
        if axis in _RATIOS:
            row[_RATIOS[axis]] = cost.mean / device.backbone.test.costs[axis].mean
    return row
