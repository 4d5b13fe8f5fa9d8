"""The verb that certifies a choice on samples that nothing has seen."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from eesearch.cli.verbs import RunArgument, TrustOption, app, write


@app.command()
def certify(
    run: RunArgument,
    max_drop: Annotated[str, typer.Option(help="Largest loss of accuracy to the backbone: 1%.")],
    confidence: Annotated[float, typer.Option(help="That it is kept on new samples.")] = 0.9,
    device: Annotated[str | None, typer.Option(help="One of the run's devices; its first by default.")] = None,
    pool: Annotated[
        Path | None, typer.Option(metavar="X.npz", help="New samples x, and maybe y; the run's share by default.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The list of --pool, filled in: CSV index,label.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File for list or answer; standard output by default.")] = None,
    trust: TrustOption = False,
) -> None:
    """Certify the cheapest point that loses at most so much, on samples that had no part in the search."""
    from eesearch.reporting.console import ProgressBars
    from eesearch.study.certifying import certify_files
    from eesearch.study.run import Run

    found = Run.load(run, trust=trust)
    with ProgressBars() as bars:
        text, remark = certify_files(
            found, max_drop, confidence=confidence, device=device, pool=pool, labels=labels, progress=bars
        )
    write(out, text)
    if remark:
        print(remark, file=sys.stderr)
