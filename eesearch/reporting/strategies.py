"""Training strategies beside each other, in words: their hypervolumes, their last exits, what training took."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from eesearch.reporting.formats import count_words, percent, points_words
from eesearch.reporting.frontdata import rivals
from eesearch.study.answers import LAST_LOST, DeviceAnswer, StrategyAnswer, TrainingCost, pays_for_exits
from eesearch.study.points import Point

NONE = "-"
"""What a table shows where there is nothing to show."""

_NOTE = (
    "designs: trained to the end, of the trials; no loss on cal: cost of the cheapest point without loss on "
    "calibration, no optimism taken off, on test, x backbone (points lost); at half: accuracy on test of the best "
    "point at half the backbone's cost; last exit: worst own classifier on the front against the backbone, in points "
    f"on calibration, ! where more than {100.0 * LAST_LOST:g} are lost; sample-segments run forward and backward: of "
    "all trials"
)
"""What the columns of `strategies_table` are."""


@dataclass(frozen=True)
class StrategyRow:
    """A line of the table of strategies, in words.

    Attributes:
        designs: Those that were trained to the end, of the trials.
        ratio: Cost on test of the cheapest point that loses nothing on calibration; `accuracy`, `drop`: of it, on test.
        half: Accuracy on test of the point that is most accurate on calibration at half the backbone's cost.
        last: The worst own classifier of the designs on its front; `change`: against the backbone, both on calibration.
        paid: That one lost much.
        costs: Samples, forward and backward of all its trials, and of the best alone if there is one.
        best: The trial with the highest value.
    """

    strategy: str
    designs: str
    volume_cal: str
    volume_test: str
    ratio: str
    accuracy: str
    drop: str
    half: str
    last: str
    change: str
    paid: bool
    costs: list[tuple[str, ...]]
    best: str


def strategy_rows(device: DeviceAnswer) -> list[StrategyRow]:
    """A row per strategy; none if there is only one."""
    return [_row(device, own) for own in rivals(device)]


def _row(device: DeviceAnswer, own: StrategyAnswer) -> StrategyRow:
    free, last, whole = own.free, own.last_accuracy, device.backbone.cal
    all_trials = _cost_words(own.cost)
    best = [] if own.best_cost is None else [_cost_words(own.best_cost)]
    return StrategyRow(
        strategy=own.strategy,
        designs=f"{own.designs} of {own.trials}",
        volume_cal=_volume(own.hypervolume),
        volume_test=_volume(own.hypervolume_test),
        ratio=f"{device.ratio(free):.3f}" if free else NONE,
        accuracy=percent(free.test.accuracy) if free else NONE,
        drop=_drop(device, free) if free else NONE,
        half=percent(own.half.test.accuracy) if own.half else NONE,
        last=NONE if last is None else percent(last),
        change=NONE if last is None else points_words(last - whole.accuracy),
        paid=last is not None and pays_for_exits(last, whole),
        costs=list(zip(all_trials, *best, strict=True)),
        best="" if own.best is None else f"trial {own.best}",
    )


def _volume(volume: float | None) -> str:
    return NONE if volume is None else f"{volume:.4f}"


def _drop(device: DeviceAnswer, point: Point) -> str:
    return points_words(device.backbone.test.accuracy - point.test.accuracy)


def _cost_words(cost: TrainingCost) -> tuple[str, str, str]:
    """Samples, forward, backward; passes that nobody counted are missing."""
    passes = [count_words(n) if cost.forward else NONE for n in (cost.forward, cost.backward)]
    return count_words(cost.samples), passes[0], passes[1]


def strategies_table(device: DeviceAnswer) -> Table:
    """A line per strategy, readable at 100 columns."""
    title = Text(f"{device.device}: training strategies, hypervolume of a front each")
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", caption_justify="left")
    table.caption = Text(_NOTE)
    table.add_column("\nstrategy", overflow="fold")
    for name in ("\ndesigns", "volume\ncal", "volume\ntest", "no loss\non cal", "test %\nat half", "last\nexit"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("\nforward", "\nbackward"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in strategy_rows(device):
        free = NONE if row.ratio == NONE else f"{row.ratio} ({row.drop})"
        last = f"{row.change}{'!' if row.paid else ''}"
        cells = (
            row.strategy,
            row.designs,
            row.volume_cal,
            row.volume_test,
            free,
            row.half.removesuffix("%").strip(),
            last,
        )
        table.add_row(*map(Text, (*cells, *(cost[0] for cost in row.costs[1:]))))
    return table
