"""What is promised, and what came: picks by the drop on calibration beside picks by the drop to expect on new samples.

Three drops of one point, all against the backbone: *on calibration*, where it was chosen, so too good a figure;
*promised*, which is that plus the optimism of such picks (`eesearch.solve.optimism`); *reported*: on test, with its
paired interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rich import box
from rich.table import Table
from rich.text import Text

from eesearch.reporting.formats import interval_words, points_words
from eesearch.study.answers import SPENT, DeviceAnswer
from eesearch.study.front_table import drop_interval
from eesearch.study.points import Point

LIMITS = (0.0, 0.005, 0.01)
"""Largest drops within which picks are told."""

NONE = "-"
"""What a table shows where there is nothing to show."""

TITLE = "What is promised, and what came"

NOTE = (
    "The cheapest point within a limit. Naive: by its drop on calibration, where it was chosen, as most others do it; "
    "corrected: by the drop to expect on new samples, which is the one promised. Drops are percentage points lost to "
    "the backbone; 95 %: paired interval of the drop on test; ratio: mean cost on test over the backbone's."
)
"""What the columns are."""


@dataclass(frozen=True)
class Promise:
    """The cheapest point within a limit, as two rules find it; None: there is none.

    Attributes:
        limit: Largest drop, as a share.
        naive: By the drop on calibration.
        corrected: By the drop to expect on new samples.
    """

    limit: float
    naive: Point | None
    corrected: Point | None


@dataclass(frozen=True)
class PromiseRow:
    """A line of the table of promises, in words.

    Attributes:
        limit: In percentage points.
        rule: `naive`, `corrected`, or `both` where they choose the same point.
        point: Its number on the front.
        calibration: Drop there; `promised`: on new samples; `reported`: on test.
        interval: Of the latter; empty where there is none.
        ratio: Mean cost on test over the backbone's.
    """

    limit: str
    rule: str
    point: str
    calibration: str = NONE
    promised: str = NONE
    reported: str = NONE
    interval: str = ""
    ratio: str = NONE


def promises(device: DeviceAnswer) -> tuple[Promise, ...]:
    """Picks within `LIMITS`; () where optimism was not estimated, as in older runs, or constraints are broken."""
    if not device.optimism or not device.points or device.broken:
        return ()
    return tuple(Promise(limit, device.within(limit, naive=True), device.within(limit)) for limit in LIMITS)


def free_words(device: DeviceAnswer, *, naive: bool = False) -> str:
    """What is true of the point that is marked as one without loss."""
    calibration = naive or not device.optimism
    return "loses nothing on calibration" if calibration else "is expected to lose nothing on new samples"


def promise_rows(device: DeviceAnswer) -> list[PromiseRow]:
    """One or two rows per limit."""
    rows = []
    for promise in promises(device):
        limit = f"{100.0 * promise.limit:g}"
        if promise.naive == promise.corrected and promise.naive is not None:
            rows.append(_row(device, limit, "both", promise.naive))
            continue
        rows.append(_row(device, limit, "naive", promise.naive))
        rows.append(_row(device, limit, "corrected", promise.corrected))
    return rows


def _row(device: DeviceAnswer, limit: str, rule: str, point: Point | None) -> PromiseRow:
    if point is None:
        return PromiseRow(limit, rule, "none")
    return PromiseRow(
        limit=limit,
        rule=rule,
        point=f"{device.points.index(point)}",
        calibration=points_words(device.drop(point)),
        promised=points_words(device.corrected(point)),
        reported=points_words(_lost(device, point)),
        interval=interval_words(drop_interval(device, point)),
        ratio=f"{device.ratio(point):.3f}",
    )


def promise_sentences(device: DeviceAnswer) -> list[str]:
    """The same in plain words: a paragraph for each limit, or for several that change nothing."""
    alike = groupby(promises(device), key=lambda promise: (promise.naive, promise.corrected))
    return [_told(device, [promise.limit for promise in group], *points) for points, group in alike]


def _told(device: DeviceAnswer, limits: Sequence[float], naive: Point | None, corrected: Point | None) -> str:
    first, *others = (f"at most {_limit(limit)}" if limit else "nothing" for limit in limits)
    wanted = f"{first} (or {', or '.join(others)})" if others else first
    if naive is None:
        return f"No point loses {_so_little(limits[-1])} on calibration."
    kept = ", which is within the limit, too" if corrected == naive else ""
    told = (
        f"Chosen on {naive.cal.samples:,} samples as the cheapest that loses {wanted} there, {_name(device, naive)} is "
        f"expected to {_loses(device.corrected(naive), 'lose', 'gain')} on new ones{kept}; {_came(device, naive)}."
    )
    if corrected == naive:
        return told
    if corrected is None:
        return f"{told} No point is expected to lose {_so_little(limits[-1])} on new ones."
    return (
        f"{told} The cheapest that is expected to lose {wanted} on new ones is {_name(device, corrected)}, "
        f"promised to {_loses(device.corrected(corrected), 'lose', 'gain')}; {_came(device, corrected)}."
    )


def _limit(drop: float) -> str:
    return f"{100.0 * drop:g} point{'' if drop == 0.01 else 's'}"


def _so_little(drop: float) -> str:
    return f"as little as {_limit(drop)}" if drop else "nothing"


def _name(device: DeviceAnswer, point: Point) -> str:
    return f"point {device.points.index(point)}" + (" (the backbone itself)" if device.is_backbone(point) else "")


def _came(device: DeviceAnswer, point: Point) -> str:
    """What became of it on test."""
    interval = interval_words(drop_interval(device, point))
    told = f" (95 %: {interval} lost)" if interval else ""
    cost = f"{device.ratio(point):.3f} x the backbone's {SPENT[device.axis]}"
    return f"on test it {_loses(_lost(device, point), 'lost', 'gained')}{told}, at {cost}"


def _loses(drop: float, lost: str, gained: str) -> str:
    words = points_words(drop).lstrip("+-")
    if float(words) == 0.0:
        return f"{lost} nothing"
    return f"{lost if drop > 0.0 else gained} {words} points"


def _lost(device: DeviceAnswer, point: Point) -> float:
    """On test, as a share."""
    return device.backbone.test.accuracy - point.test.accuracy


def promises_table(device: DeviceAnswer) -> Table:
    """The rows for a terminal, readable at 100 columns."""
    table = Table(title=Text(f"{device.device}: {TITLE.lower()}"), box=box.SIMPLE_HEAD)
    table.title_justify = table.caption_justify = "left"
    table.caption = Text(NOTE)
    table.add_column("limit", justify="right", no_wrap=True)
    table.add_column("pick", no_wrap=True)
    for name in ("point", "drop on cal", "promised", "on test", "95 %", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in promise_rows(device):
        cells = (row.limit, row.rule, row.point, row.calibration, row.promised, row.reported, row.interval, row.ratio)
        table.add_row(*map(Text, cells))
    return table
