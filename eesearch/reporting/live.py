"""What the terminal shows while a search runs: progress, where it stands, the front so far, the best pick so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from eesearch.reporting.console import ProgressBars
from eesearch.reporting.standing import Standing
from eesearch.reporting.textplot import TextFront
from eesearch.study.answers import Answers
from eesearch.study.trial import Finished

NARROW = 60
"""Terminals with fewer columns get no plot."""

LOWEST, HIGHEST = 7, 14
"""Lines of a plot; a terminal that has less room gets none."""

AROUND = 8
"""Lines that bars and words need around the plot."""


@dataclass(frozen=True)
class _Shown:
    """What is drawn of the answers, computed once and not at every refresh."""

    study: str
    found: str
    verdict: str
    front: TextFront | None


class LiveView(ProgressBars):
    """A panel below the lines of a search; gone at the end, when the answers are printed.

    A context manager whose value is a `core.progress.Progress` like that of `ProgressBars`; `trial` and `answers` are
    listeners for the other watchers of a search. A line per finished trial stays above the panel. Silent when the
    stream is not a terminal: see `shown`.

    Args:
        standing: Told of all trials, whether anything is shown or not.
        quiet: Show nothing at all.
        stream: Where to draw; standard error by default.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        standing: Standing,
        *,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(quiet=quiet, stream=stream, clock=clock)
        self.standing = standing
        self._seen: _Shown | None = None
        self._phase = ""
        self._display = Live(
            console=self._bars.console,
            get_renderable=lambda: self,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,  # standard output may be a pipe, and is nobody's to redirect
            vertical_overflow="crop",
        )

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Tell how far a phase is; the one told last is the one that runs, and has the bar."""
        self._phase = phase
        super().__call__(phase, done, total)

    def trial(self, trial: Finished) -> None:
        """A line that stays, above the panel."""
        self.standing.trial(trial)
        if self.shown:
            # Not with soft_wrap, which rich would apply to the panel too.
            self._display.console.print(Text(trial_words(trial)))

    def answers(self, answers: Answers) -> None:
        """Show these answers from now on."""
        self.standing.answers(answers.trials)
        if self.shown:
            self._seen = _shown(answers)
            self._display.refresh()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The bars, then what is known so far, as much of it as the terminal has room for."""
        running = [task for task in self._bars.tasks if task.description == self._phase]
        yield self._bars.make_tasks_table(running)
        seen = self._seen
        if seen is None:
            return
        height = min(HIGHEST, console.height - AROUND)
        if seen.front is not None and options.max_width >= NARROW and height >= LOWEST:
            width = min(options.max_width, 100)
            yield Text(seen.front.draw(width, height, ascii_only=options.ascii_only), no_wrap=True, overflow="crop")
        yield Text(f"{seen.study}: {self.standing.words()}; {seen.found}", style="bold")
        yield Text(seen.verdict)


def _shown(answers: Answers) -> _Shown:
    device = answers.devices[0]
    found = f"{len(device.points)} points on the front of {device.device}"
    return _Shown(answers.study, found, device.verdict(), TextFront.of(device) if device.points else None)


def trial_words(trial: Finished) -> str:
    """What a finished trial found, on one line."""
    if trial.outcome is not None:
        found = "value " + ", ".join(f"{v:.4f}" for v in trial.outcome.values)
    else:
        found = f"stopped early, after {trial.samples:,} samples" if trial.state == "pruned" else trial.error
    return f"trial {trial.number} ({trial.origin}): {' '.join(found.split())}, {trial.seconds:.1f} s"
