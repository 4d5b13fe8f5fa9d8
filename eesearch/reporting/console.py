"""What the terminal shows: the verdict, the front as a table, progress bars."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from types import TracebackType
from typing import IO, Any, Self, TextIO

from rich import box
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from eesearch.core.front import MAX_DROP
from eesearch.reporting.formats import (
    UNITS,
    cost_words,
    duration,
    further_axes,
    percent,
    points_words,
    short_interval,
    stop_words,
    system_words,
)
from eesearch.reporting.promises import free_words
from eesearch.study.answers import Answers, DeviceAnswer
from eesearch.study.front_table import drop_interval
from eesearch.study.points import Point

PATIENCE = 2.0
"""Seconds that an operation may take before it gets a bar."""


def verdict_text(answers: Answers) -> Text:
    """Do exits pay: a line per device. Print it first."""
    return Text("\n".join(answers.verdicts()), style="bold")


def front_table(device: DeviceAnswer, points: Sequence[int] | None = None, *, naive: bool = False) -> Table:
    """The front of a device and its backbone, readable at 100 columns.

    Args:
        device: Whose front.
        points: Numbers of the points to show; all by default.
        naive: Mark the cheapest point without loss on calibration, and not the one that is expected to have none.
    """
    table = Table(title=Text(device.device), box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left")
    table.collapse_padding = True
    table.add_column("point", no_wrap=True)
    table.add_column("leave at: exit (head)", overflow="fold")
    shown = range(len(device.points)) if points is None else points
    paired = any(drop_interval(device, device.points[number]) for number in shown)
    further = [UNITS[axis] for axis in further_axes(device)]
    for name in ("cal %", "test %", "drop", *(["95 %"] if paired else []), UNITS[device.axis], "ratio", *further):
        table.add_column(name, justify="right", no_wrap=True)
    table.caption = Text(_caption(device, naive=naive, paired=paired))
    knee = device.front().knee() if device.points else None
    free = device.within(0.0, naive=naive)
    for number in shown:
        point = device.points[number]
        marks = ("*" if point.cal == knee else "") + ("=" if point == free else "")
        table.add_row(*_cells(device, point, f"{number}{marks}", paired=paired))
    table.add_section()
    table.add_row(*_cells(device, device.backbone, "backbone", paired=paired), style="bold")
    return table


def _caption(device: DeviceAnswer, *, naive: bool, paired: bool) -> str:
    marks = "*: the knee"
    if device.within(0.0, naive=naive) is not None:
        marks += f"; =: the cheapest that {free_words(device, naive=naive)}"
    words = f"{marks}; drop: percentage points, on test"
    words += "; 95 %: its paired interval" if paired else ""
    return f"{words}\n{system_words(device)}" if device.system else words


def highlights(device: DeviceAnswer, count: int = 7) -> list[int]:
    """Numbers of the points to show first: the marked ones, and others spread over the end near the backbone.

    Points whose calibration accuracy lies more than `MAX_DROP` below the backbone's are shown only if marked.
    """
    points = device.points
    floor = device.backbone.cal.accuracy - MAX_DROP
    near = [n for n, point in enumerate(points) if point.cal.accuracy >= floor] or list(range(len(points)))
    knee, free = device.front().knee() if points else None, device.at_no_loss()
    marked = {n for n, point in enumerate(points) if point.cal == knee or point == free}
    chosen = max(count - len(marked), 2)
    spread = {near[round(i * (len(near) - 1) / (chosen - 1))] for i in range(chosen)} if near else set()
    return sorted(marked | spread)


def _cells(device: DeviceAnswer, point: Point, name: str, *, paired: bool) -> list[Text]:
    """Text, not markup: an exit may be called `[red]`."""
    stops = "\n".join(f"{s.share:>6} {s.exit} ({s.head})" for s in stop_words(point.test))
    drop = points_words(device.backbone.test.accuracy - point.test.accuracy)
    cost = cost_words(point.test.costs[device.axis].mean, device.axis, unit=False)
    accuracies = [percent(e.accuracy).rstrip("%") for e in (point.cal, point.test)]
    told = [short_interval(drop_interval(device, point))] if paired else []
    further = [cost_words(point.test.costs[axis].mean, axis, unit=False) for axis in further_axes(device)]
    cells = (name, stops, *accuracies, drop, *told, cost, f"{device.ratio(point):.3f}", *further)
    return [Text(cell) for cell in cells]


class ProgressBars:
    """A bar per phase with rate and remaining time, for what takes longer than two seconds; gone at the end.

    A context manager whose value is a `core.progress.Progress`. Silent when the stream is not a terminal.

    Args:
        quiet: Show nothing at all.
        stream: Where to draw; standard error by default.
        clock: Seconds that never go back.

    Attributes:
        shown: Whether anybody looks.
    """

    def __init__(
        self, *, quiet: bool = False, stream: TextIO | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        target = sys.stderr if stream is None else stream
        self.shown = not quiet and target.isatty()
        self._bars = _PatientBars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _PaceColumn(),
            console=Console(file=target, force_terminal=True) if self.shown else Console(quiet=True),
            get_time=clock,
            transient=True,
            redirect_stdout=False,  # standard output may be a pipe, and is nobody's to redirect
        )
        self._display: Live = self._bars.live
        self._logged: list[tuple[logging.StreamHandler[Any], IO[str]]] = []

    def __enter__(self) -> Self:
        if self.shown:
            self._display.start()
            self._logged = _through_display(self._bars.console.file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handler, stream in self._logged:
            handler.setStream(stream)
        self._logged = []
        self._display.stop()

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Tell how far a phase is; a phase that starts over gets a fresh bar."""
        if not self.shown:
            return
        known = next((task for task in self._bars.tasks if task.description == phase), None)
        if known is not None and done < known.completed:
            self._bars.remove_task(known.id)
            known = None
        if known is None:
            self._bars.add_task(phase, total=total, completed=done, begun=done)
        else:
            self._bars.update(known.id, completed=done, total=total)


def _through_display(stream: IO[str]) -> list[tuple[logging.StreamHandler[Any], IO[str]]]:
    """Let log records that go to `stream` take the way of the display, which draws itself again below them.

    Returns:
        The handlers that were changed, with the stream that each had.
    """
    handlers = [h for h in logging.getLogger().handlers if isinstance(h, logging.StreamHandler) and h.stream is stream]
    for handler in handlers:
        handler.setStream(sys.stderr)  # the display has put its own there
    return [(handler, stream) for handler in handlers]


class _PatientBars(RichProgress):
    """Leaves out what has not lasted yet; asked at every refresh, so that a long first step gets its bar too."""

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        return super().make_tasks_table([task for task in tasks if (_lasted(task) or 0.0) >= PATIENCE])


def _lasted(task: Task) -> float | None:
    """Seconds that the phase took, or has taken so far; rich's `elapsed` goes on after the end."""
    return task.elapsed if task.finished_time is None else task.finished_time


class _PaceColumn(ProgressColumn):
    """Rate and remaining time from the whole phase: steps may take minutes, longer than rich's window of samples."""

    def render(self, task: Task) -> Text:
        left = (task.total or 0.0) - task.completed
        return Text(pace_words(task.completed - task.fields["begun"], left, _lasted(task)))


def pace_words(done: float, left: float, seconds: float | None) -> str:
    """`12.3/s, 41.0 s left`, or `4.2 s each, ...` where one takes longer than a second.

    Args:
        done: Steps done in `seconds`; those that a resumed phase found done do not count.
        left: Steps to do.
        seconds: Since the phase began; None before.
    """
    if not done or not seconds:
        return "" if seconds is None else f"{duration(seconds)} so far"
    each = seconds / done
    rate = f"{1.0 / each:,.1f}/s" if each < 1.0 else f"{duration(each)} each"
    return f"{rate}, {duration(left * each)} left" if left else f"{rate}, {duration(seconds)}"
