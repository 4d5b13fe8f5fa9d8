"""Verbs that show what a run found."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from eesearch.cli.verbs import (
    STORAGE,
    NaiveOption,
    QuietOption,
    RunArgument,
    StorageOption,
    app,
    console,
)
from eesearch.core.errors import InputError

if TYPE_CHECKING:
    from eesearch.study.answers import DeviceAnswer


PICTURES: dict[str, Literal["png", "svg", "pdf"]] = {".png": "png", ".svg": "svg", ".pdf": "pdf"}
REPORTS: dict[str, Literal["html", "png", "svg", "pdf", "md"]] = {**PICTURES, ".html": "html", ".md": "md"}


@app.command()
def front(
    run: RunArgument,
    device: Annotated[str | None, typer.Option(help="One device only.")] = None,
    max_drop: Annotated[str | None, typer.Option(help="At most this far below the backbone: 0.5%.")] = None,
    budget_ms: Annotated[float | None, typer.Option(help="At most this latency.")] = None,
    at: Annotated[Literal["mean", "p95", "worst"], typer.Option(help="Which latency the budget is for.")] = "mean",
    naive: NaiveOption = False,
    form: Annotated[Literal["table", "csv", "json"], typer.Option("--format", help="How to print.")] = "table",
) -> None:
    """Show the points of a run's fronts; drops are those to expect on new samples, budgets judged on calibration."""
    from eesearch.study.picks import Wanted, chosen_points, find_device
    from eesearch.study.rundir import RunDir

    if at != "mean" and budget_ms is None:
        raise InputError(f"--at {at} says which latency a budget is for", do="Give --budget-ms, too.")
    answers = RunDir(run).answers()
    timed = [d for d in answers.devices if d.axis == "latency_ms" or budget_ms is None]
    devices = [find_device(answers.devices, device)] if device else timed or answers.devices
    wanted = Wanted.parse(max_drop=max_drop, budget_ms=budget_ms, at=at, naive=naive)
    chosen = [(d, chosen_points(d, wanted)) for d in devices]
    _print_points(chosen, form, naive=naive)


@app.command()
def report(
    run: RunArgument,
    form: Annotated[
        Literal["html", "png", "svg", "pdf", "md"] | None,
        typer.Option("--format", help="What to make; what --out ends in, or else html.", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The file; in the run directory by default.")] = None,
) -> None:
    """Draw a run's answers again: the interactive page, a picture, or Markdown."""
    from eesearch.api import report as draw

    ending = REPORTS.get(out.suffix) if out else None
    if out is not None and ending is None:
        raise InputError("--out is no report", got=out.name, expected=f"a name that ends in {', '.join(REPORTS)}")
    if form and ending and form != ending:
        raise InputError(f"--out {out} is no {form}", do="Leave out --format, or let the name end in it.")
    print(draw(run, form or ending or "html", out=out))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Run directories, two or more.")],
    form: Annotated[Literal["table", "csv"], typer.Option("--format", help="How to print.")] = "table",
    out: Annotated[Path | None, typer.Option(help="Draw the fronts over each other: .png, .svg or .pdf.")] = None,
) -> None:
    """Set runs beside each other on the devices that they share: hypervolumes, and what each can do within a loss."""
    from eesearch.reporting.compare import compare_runs, compared_cautions, compared_tables
    from eesearch.reporting.comparison import save_comparison
    from eesearch.study.rundir import RunDir

    drawn = PICTURES.get(out.suffix) if out else None
    if out is not None and drawn is None:
        raise InputError("--out draws a picture", got=out.name, expected="a name that ends in .png, .svg or .pdf")
    compared = compare_runs([RunDir(run) for run in runs])
    if out is not None and drawn is not None:
        save_comparison(compared, out, drawn)
    if form == "csv":
        sys.stdout.write(compared.to_pandas().to_csv(index=False))
    else:
        for table in compared_tables(compared):
            console().print(table)
        console().print(compared_cautions(compared))


@app.command("profile-diff")
def profile_diff(
    first: Annotated[str, typer.Argument(metavar="A", help="A profile (.json), or RUN@DEVICE.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one of the same network.")],
    form: Annotated[Literal["table", "csv", "json"], typer.Option("--format", help="How to print.")] = "table",
) -> None:
    """Say which cuts rank differently on two devices: where an exit pays sooner on one than on the other."""
    from eesearch.costs.differences import compare_networks
    from eesearch.reporting.profiles import (
        difference_csv,
        difference_json,
        difference_notes,
        difference_table,
        find_profiles,
    )

    differences, left_out = compare_networks(find_profiles(first), find_profiles(second))
    if form != "table":
        sys.stdout.write(difference_csv(differences) if form == "csv" else difference_json(differences))
        return
    for name, difference in differences.items():
        heading = [f"Network {name}:"] if name else []
        for shown in (*heading, difference.verdict(), difference_table(difference), *difference_notes(difference)):
            console().print(shown, markup=False, highlight=False)
    if left_out:
        console().print(f"Not compared, one of them does not know it: network {', '.join(left_out)}.", markup=False)


@app.command()
def dashboard(
    run: RunArgument,
    host: Annotated[str, typer.Option(help="Name or address to listen at.")] = "localhost",
    port: Annotated[int, typer.Option(help="0: any that is free.")] = 8080,
    storage: StorageOption = None,
) -> None:
    """Open optuna-dashboard on a run's trials, until Ctrl-C; a search may go on meanwhile."""
    from eesearch.drivers.dashboard import serve_dashboard
    from eesearch.study.rundir import RunDir

    def tell(url: str) -> None:
        print(f"dashboard: {url} (Ctrl-C ends it)", flush=True)

    usual = os.environ.get(STORAGE) or None
    serve_dashboard(RunDir(run), host, port, storage=None if storage == usual else storage, usual=usual, ready=tell)


@app.command()
def policies(
    run: RunArgument,
    device: Annotated[str | None, typer.Option(help="One of the run's devices; its first by default.")] = None,
    form: Annotated[Literal["table", "csv"], typer.Option("--format", help="How to print.")] = "table",
    quiet: QuietOption = False,
) -> None:
    """Compare our policies with those of the literature on the same exits: chosen on calibration, told on test."""
    from eesearch.reporting.console import ProgressBars
    from eesearch.reporting.policies import policies_table
    from eesearch.study.policies import compare_policies
    from eesearch.study.rundir import RunDir

    with ProgressBars(quiet=quiet) as bars:
        compared = compare_policies(RunDir(run), device, progress=bars)
    if form == "csv":
        sys.stdout.write(compared.to_pandas().to_csv(index=False))
    else:
        console().print(policies_table(compared))


def _print_points(chosen: list[tuple[DeviceAnswer, list[int]]], form: str, *, naive: bool) -> None:
    from eesearch.reporting.console import front_table
    from eesearch.reporting.frontdata import rivals
    from eesearch.reporting.promises import promises, promises_table
    from eesearch.reporting.strategies import strategies_table
    from eesearch.reporting.verified import front_verified_table
    from eesearch.study.front_table import table_rows

    if form == "table":
        for device, points in chosen:
            console().print(front_table(device, points, naive=naive))
            if promises(device):
                console().print(promises_table(device))
            measured = front_verified_table(device)
            if measured is not None:
                console().print(measured)
            if rivals(device):
                console().print(strategies_table(device))
        return
    rows = table_rows([device for device, _ in chosen])
    shown = {(device.device, number) for device, points in chosen for number in (*points, "backbone")}
    rows = rows[[key in shown for key in zip(rows["device"], rows["point"], strict=True)]]
    sys.stdout.write(rows.to_csv(index=False) if form == "csv" else rows.to_json(orient="records", indent=1) + "\n")
