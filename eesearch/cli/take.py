"""Verbs that take a run's choice along, and those that need no run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from eesearch.cli.verbs import (
    SELECTION,
    NaiveOption,
    RunArgument,
    TrustOption,
    app,
    console,
    write,
)
from eesearch.core.errors import InputError


@app.command()
def predict(
    run: RunArgument,
    inputs: Annotated[Path, typer.Argument(metavar="INPUT.npz", help="Holds x (samples, or texts), and maybe y.")],
    pick: Annotated[str, typer.Option(metavar="SEL", help=SELECTION)] = "max-drop=0.5%",
    naive: NaiveOption = False,
    out: Annotated[Path | None, typer.Option(help="CSV file; standard output by default.")] = None,
    trust: TrustOption = False,
) -> None:
    """Answer samples with a chosen point, really stopping early: index,answer,exit,score; -1 is handed on."""
    from eesearch.study.predictions import predict_file

    csv, summary = predict_file(run, pick, inputs, naive=naive, trust=trust)
    write(out, csv)
    print(summary, file=sys.stderr)


@app.command()
def export(
    run: RunArgument,
    to: Annotated[
        str, typer.Option(metavar="FORMAT", help="config torch lightning hf hydra onnx openvino executorch.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A folder that is not there yet.")],
    pick: Annotated[str, typer.Option(metavar="SEL", help=SELECTION)] = "max-drop=0.5%",
    naive: NaiveOption = False,
    check: Annotated[int, typer.Option(help="Test samples on which the export is compared; 0: none.")] = 256,
    trust: TrustOption = False,
) -> None:
    """Write a chosen point for another pipeline; it is read again and compared before it is there."""
    from eesearch.exporters.formats import export as write_export
    from eesearch.study.run import Run

    done = write_export(Run.load(run, trust=trust), pick, to, out, check=check, naive=naive)
    for file in done.files:
        print(done.path / file)
    print(done.verdict, file=sys.stderr)


@app.command()
def solve(
    table: Annotated[Path, typer.Argument(metavar="TABLE.npz", help="Logits [E, N, C] and labels [N] of all exits.")],
    costs: Annotated[Path, typer.Argument(metavar="COSTS.json", help="What prefixes and heads cost.")],
    max_exits: Annotated[int, typer.Option(help="Most exits on cuts; the own classifier is not counted.")] = 3,
    levels: Annotated[str, typer.Option(help="Thresholds tried per exit, or `all`.")] = "24",
    criterion: Annotated[str, typer.Option(help="Score that decides whether a sample leaves.")] = "max_prob",
    answer: Annotated[
        Literal["own", "most_confident"], typer.Option(help="Whose answer a sample leaves with.")
    ] = "own",
    method: Annotated[Literal["auto", "exact", "anytime"], typer.Option(help="How to search.")] = "auto",
    seconds: Annotated[float | None, typer.Option(help="Stop then, with the best found so far.")] = None,
    test: Annotated[Path | None, typer.Option(help="Another table, on which the points are told too.")] = None,
    form: Annotated[Literal["table", "csv", "json"], typer.Option("--format", help="How to print.")] = "table",
    out: Annotated[Path | None, typer.Option(help="File for CSV or JSON; standard output by default.")] = None,
) -> None:
    """Find the front of a network that has its exits already, from two files; without torch."""
    from eesearch.core.policy import Scoring
    from eesearch.reporting.tables import solved_table
    from eesearch.solve.family import Effort, Family, read_levels
    from eesearch.solve.files import solve_files

    if out is not None and form == "table":
        raise InputError("--out writes CSV or JSON", got="--format table", do="Add --format csv or json.")
    found = solve_files(
        table, costs, scoring=Scoring(criterion, answer), family=Family(max_exits, read_levels(levels)),
        effort=Effort(method, seconds), test=test,
    )  # fmt: skip
    if form == "table":
        console().print(solved_table(found.rows(), str(found.front.certificate)))
    else:
        write(out, found.to_csv() if form == "csv" else found.to_json())
