"""A front as a plot in text, for terminals: told apart by shapes, not by colours."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from eesearch.core.costs import Axis
from eesearch.reporting.formats import UNITS, cost_words
from eesearch.reporting.frontdata import DEPTH
from eesearch.study.answers import DeviceAnswer
from eesearch.study.points import Point

MARGIN = 8
"""Columns left of a plot, for the accuracies."""

_FANCY = {
    "point": "●",
    "pick": "◆",
    "step": "·",
    "backbone": "X",
    "level": "╌",
    "side": "│",
    "foot": "─",
    "corner": "└",
}
_PLAIN = {
    "point": "o",
    "pick": "#",
    "step": ".",
    "backbone": "X",
    "level": "-",
    "side": "|",
    "foot": "-",
    "corner": "+",
}


@dataclass(frozen=True)
class TextFront:
    """What is plotted of a device: its front on calibration, where points are selected.

    Attributes:
        points: (mean cost, accuracy), by rising cost.
        pick: Index of the cheapest point that is expected to lose nothing on new samples; None if there is none.
        backbone: The same of the backbone.
    """

    axis: Axis
    points: tuple[tuple[float, float], ...]
    pick: int | None
    backbone: tuple[float, float]

    @classmethod
    def of(cls, device: DeviceAnswer) -> TextFront:
        """What is plotted of a device."""

        def place(point: Point) -> tuple[float, float]:
            return point.cal.costs[device.axis].mean, point.cal.accuracy

        free = device.at_no_loss()
        pick = None if free is None else device.points.index(free)
        return cls(device.axis, tuple(map(place, device.points)), pick, place(device.backbone))

    def draw(self, width: int, height: int, *, ascii_only: bool = False) -> str:
        """The plot as lines of `width` letters.

        Args:
            width: At least 30.
            height: Lines in all, at least 5: the last two are the axis.
            ascii_only: For terminals that know no other letters.
        """
        marks = _PLAIN if ascii_only else _FANCY
        grid = _Grid(self, width - MARGIN, height - 2)
        rows = grid.rows(marks)
        labels = grid.labels()
        lines = [f"{labels[r]:>{MARGIN - 2}} {marks['side']}{row}" for r, row in enumerate(rows)]
        lines.append(" " * (MARGIN - 1) + marks["corner"] + marks["foot"] * (width - MARGIN))
        right = cost_words(grid.right, self.axis)
        key = f"{marks['point']} front on calibration, {marks['pick']} no loss, {marks['backbone']} backbone"
        room = width - MARGIN - len(right) - 3
        foot = f"0 {key[:room] if len(key) <= room else UNITS[self.axis][:room]:^{room}} {right}"
        return "\n".join([*lines, " " * MARGIN + foot])


class _Grid:
    """Where costs and accuracies fall in a field of letters."""

    def __init__(self, front: TextFront, columns: int, rows: int) -> None:
        self.front, self.columns, self.count = front, columns, rows
        costs, accuracies = zip(*front.points, front.backbone, strict=True)
        self.right = 1.02 * max(costs)
        self.high = max(accuracies)
        self.low = min(max(min(accuracies), front.backbone[1] - DEPTH), self.high - 0.01)

    def column(self, cost: float) -> int:
        return min(int(cost / self.right * self.columns), self.columns - 1)

    def row(self, accuracy: float) -> int:
        """From the top; beyond the last row if it lies below the field."""
        return round((self.high - accuracy) / (self.high - self.low) * (self.count - 1))

    def rows(self, marks: dict[str, str]) -> list[str]:
        """Later marks cover earlier ones: the level of the backbone, steps, points, the pick, the backbone."""
        field = [[" "] * self.columns for _ in range(self.count)]
        field[self.row(self.front.backbone[1])] = [marks["level"]] * self.columns
        costs = [self.column(cost) for cost, _ in self.front.points]
        for column in range(self.columns):
            reached = bisect_right(costs, column) - 1
            if reached >= 0:
                self._put(field, column, self.front.points[reached][1], marks["step"])
        for number, (cost, accuracy) in enumerate(self.front.points):
            if number != self.front.pick:
                self._put(field, self.column(cost), accuracy, marks["point"])
        if self.front.pick is not None:
            cost, accuracy = self.front.points[self.front.pick]
            self._put(field, self.column(cost), accuracy, marks["pick"])
        self._put(field, self.column(self.front.backbone[0]), self.front.backbone[1], marks["backbone"])
        return ["".join(row) for row in field]

    def _put(self, field: list[list[str]], column: int, accuracy: float, mark: str) -> None:
        row = self.row(accuracy)
        if row < self.count:
            field[row][column] = mark

    def labels(self) -> list[str]:
        """Accuracies beside the first, the middle and the last row."""
        labelled = {0, self.count // 2, self.count - 1}
        step = (self.high - self.low) / (self.count - 1)
        return [f"{self.high - r * step:.1%}" if r in labelled else "" for r in range(self.count)]
