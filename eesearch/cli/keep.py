"""The verb that keeps a run's directory in order."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from eesearch.cli.verbs import RunArgument, app
from eesearch.core.errors import InputError

if TYPE_CHECKING:
    from eesearch.study.rundir import RunDir

MIB = 2**20


@app.command()
def store(
    run: RunArgument,
    verify: Annotated[bool, typer.Option("--verify", help="Read every entry; damaged ones are set aside.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove what nobody needs any more.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what --prune would remove.")] = False,
) -> None:
    """Tell what a run keeps, check it, or tidy it up; tables and networks are never removed."""
    from eesearch.study.rundir import RunDir

    if dry_run and not prune:
        raise InputError("--dry-run shows what --prune would remove", do="Add --prune.")
    directory = RunDir(run)
    whole = _verify(directory) if verify else True
    if prune:
        _prune(directory, dry_run=dry_run)
    if not (verify or prune):
        _list(directory)
    if not whole:
        raise typer.Exit(1)


def _list(run: RunDir) -> None:
    from eesearch.study.upkeep import shelves

    found = shelves(run)
    for shelf in found:
        print(f"{shelf.kind:<12} {shelf.entries:>6} entries {shelf.size / MIB:>10.2f} MiB")
    total = sum(shelf.size for shelf in found)
    print(f"{'in all':<12} {sum(s.entries for s in found):>6} entries {total / MIB:>10.2f} MiB")


def _verify(run: RunDir) -> bool:
    from eesearch.study.upkeep import set_aside, verify

    damaged = verify(run)
    for each in damaged:
        print(each, file=sys.stderr)
    if damaged:
        print(f"{len(damaged)} damaged: set aside, and made again when they are needed")
    else:
        print("every entry is whole")
    missing = set_aside(run)
    if missing:
        print(f"{len(missing)} set aside and not made again so far: {', '.join(missing)}")
    return not damaged


def _prune(run: RunDir, *, dry_run: bool) -> None:
    from eesearch.study.upkeep import prune

    gone = prune(run, dry_run=dry_run)
    for each in gone:
        print(f"{each.path}: {each.why}", file=sys.stderr)
    verb = "would be removed" if dry_run else "removed"
    print(f"{len(gone)} files {verb}: {sum(each.size for each in gone) / MIB:.2f} MiB")
