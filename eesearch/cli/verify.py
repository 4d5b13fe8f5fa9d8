"""The verb that measures chosen points again, end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from eesearch.cli.verbs import SELECTION, NaiveOption, QuietOption, RunArgument, TrustOption, app, console, write
from eesearch.core.errors import InputError


@app.command()
def verify(
    run: RunArgument,
    pick: Annotated[list[str] | None, typer.Option(metavar="SEL", help=SELECTION)] = None,
    every: Annotated[
        int | None, typer.Option("--all", metavar="N", min=1, help="So many points, spread over the front.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Where to run; that of the front by default.")] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="Per point, about.")] = 15.0,
    processes: Annotated[int, typer.Option(min=1, help="Fresh processes, which share the seconds.")] = 3,
    naive: NaiveOption = False,
    form: Annotated[Literal["table", "csv", "json"], typer.Option("--format", help="How to print.")] = "table",
    out: Annotated[Path | None, typer.Option(help="File for CSV or JSON; standard output by default.")] = None,
    trust: TrustOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run chosen points end to end, really stopping early, and set what was predicted beside what was measured."""
    from eesearch.reporting.console import ProgressBars
    from eesearch.reporting.verified import verified_frame, verified_table
    from eesearch.study.run import Run
    from eesearch.study.usual import wanted_picks
    from eesearch.study.verify import Effort, verify_picks

    if out is not None and form == "table":
        raise InputError("--out writes CSV or JSON", got="--format table", do="Add --format csv or json.")
    found = Run.load(run, trust=trust)
    picks = wanted_picks(found, pick or (), every=every, device=device, naive=naive)
    with ProgressBars(quiet=quiet) as bars:
        entries = verify_picks(found, picks, device, effort=Effort(seconds, processes), progress=bars)
    if form == "csv":
        write(out, verified_frame(entries).to_csv(index=False))
    elif form == "json":
        write(out, json.dumps([entry.model_dump(mode="json") for entry in entries], indent=1) + "\n")
    else:
        for name in dict.fromkeys(entry.device for entry in entries):
            console().print(verified_table([entry for entry in entries if entry.device == name]))
