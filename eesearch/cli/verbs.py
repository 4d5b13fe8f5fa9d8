"""What all verbs share: the application, its exit codes, common arguments, where output goes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from eesearch import __version__
from eesearch.core.errors import EesearchError

if TYPE_CHECKING:
    from rich.console import Console

# torch, optuna and scikit-learn take seconds to import: every verb imports what it needs when it runs.


class Verbs(TyperGroup):
    """Gives errors of ours their exit codes, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen verb."""
        try:
            return super().invoke(ctx)
        except EesearchError as error:
            print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            print("interrupted; the same command continues", file=sys.stderr)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Verbs,
    help="Search early-exit versions of a classifier: where to exit, with which head, trained how, stopping when.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

SELECTION = "knee | point=N | max-drop=0.5% | certified=1% | budget-ms=X, each with an optional @device"

StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or the name of a shipped one.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, such as runs/digits.")]
RunOption = Annotated[Path | None, typer.Option("--run", help="Run directory; runs/<name of the study> by default.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a field: budget.trials=5.")
]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Run the code that the file names, though no study of yours has run it.")
]
NaiveOption = Annotated[
    bool, typer.Option("--naive", help="Believe losses on calibration, as others do: no optimism is taken off.")
]
MaxCacheOption = Annotated[
    float | None,
    typer.Option(metavar="GB", help="Most hidden states to cache, in memory and on disk; beyond: computed anew."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress.")]


STORAGE = "EESEARCH_STORAGE"
"""The variable of the environment that names the usual database."""

StorageOption = Annotated[
    str | None,
    typer.Option(metavar="URL", envvar=STORAGE, help="Database for several machines: postgresql://user@host/db."),
]


@contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C raises `KeyboardInterrupt` inside, so that what is known is saved; once more ends the process at once.

    So does SIGTERM, which schedulers of clusters send. All end with exit code 130. Where signals are ignored (a job in
    the background of a script), they stay so.
    """
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    heard = [each for each, handler in before.items() if handler != signal.SIG_IGN]

    def stop(number: int, frame: object) -> None:
        for each in heard:
            signal.signal(each, leave)
        print("stopping: saving what is known; Ctrl-C again stops at once", file=sys.stderr, flush=True)
        raise KeyboardInterrupt

    def leave(number: int, frame: object) -> None:
        shown = "\x1b[?25h" if sys.__stderr__ is not None and sys.__stderr__.isatty() else ""  # the panel's cursor
        os.write(2, f"{shown}stopped at once; the same command continues\n".encode())
        os._exit(130)  # no handler and no thread may hold it up; whatever is on disk is whole at any moment

    for each in heard:
        signal.signal(each, stop)
    try:
        yield
    finally:
        for each in heard:
            signal.signal(each, before[each])


def _version(wanted: bool) -> None:
    if wanted:
        print(f"eesearch {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


def write(out: Path | None, text: str) -> None:
    """To a file, or to standard output."""
    if out is None:
        sys.stdout.write(text)
    else:
        from eesearch.core.store import write_atomic

        write_atomic(out, text)


def console() -> Console:
    """Standard output: as wide as the terminal, or 110 columns where there is none."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=110)
