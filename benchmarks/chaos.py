"""Hundreds of SIGKILLs at random moments, and after each: is everything that was finished still there?

Small searches (six to eight trials of scikit-learn's digits, some seconds each) are killed by the clock, shortly after
a trial was told, or at an operation of storage: just before or after a file is renamed, a file is flushed to the disk
or a transaction is committed. The same command then goes on until it is killed again, or done. After every kill the
finished trials must be there, bit-identical, with every entry of the store whole and unchanged, and no design trained
twice; in the end all trials must be there once, and with one process the front must be that of an undisturbed search.

    python benchmarks/chaos.py [--kills 300] [--seed 0] [--quick] [--out benchmarks/results]

Half of the kills meet single processes; the others one or all of three processes on SQLite, or on PostgreSQL if it is
installed. Rows go to chaos.csv; what a failure left is kept, and named. Run it from the root of the repository.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.chaos.harness import (
    STUDY,
    Blow,
    Place,
    blows,
    check_store,
    check_trainings,
    check_trials,
    placed,
    snapshot,
    survive,
    survive_together,
)
from tests.services.postgres import Postgres, missing

WORKERS, TRIALS = 3, {"one process": 6, "three on SQLite": 8, "three on PostgreSQL": 8}
MOST_ROUNDS = 12
"""Kills, or rounds of them, that one search meets at most before it may end."""


def main() -> int:
    """Read the options, kill, sum up; the exit code says whether all survived."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="ten kills")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    kills = 10 if options.quick else options.kills
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / ("chaos-quick.csv" if options.quick else "chaos.csv")
    print(f"{kills} kills: about {max(1, kills // 15)} minutes on 2 idle cores; rows go to {file}", flush=True)
    start, rows = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="eesearch-chaos-") as folder, ExitStack() as stack:
        most = 3 if options.quick else MOST_ROUNDS
        for row in storm(kills, options.seed, Path(folder), stack, most=most):
            rows.append(row)
            pd.DataFrame(rows).to_csv(file, index=False)
    table = pd.DataFrame(rows)
    print(table.groupby(["kind", "moment"])[["kills"]].sum().to_string())
    failed = int((table["lost"] != "").sum())
    searches = table["search"].nunique()
    print(
        f"{table['kills'].sum()} kills in {searches} searches, {time.monotonic() - start:.0f} s: "
        + (f"{failed} of them FAILED" if failed else "nothing was lost, damaged or done twice")
    )
    return int(failed > 0)


def storm(kills: int, seed: int, folder: Path, stack: ExitStack, *, most: int) -> Iterator[dict[str, object]]:
    """Searches until so many kills have met them; a row per round of kills, and one per end."""
    dice, moments = random.Random(seed), blows(seed, operations=200)
    kinds = ["one process", "three on SQLite"]
    server = None
    if missing():
        print(f"without PostgreSQL: {missing()}", flush=True)
    else:
        server = Postgres()
        stack.callback(server.remove)
        kinds += ["one process", "three on PostgreSQL"]
    with placed(folder / "undisturbed") as place:
        place.finish()
        undisturbed = (place.run / "front.csv").read_bytes()
    met, search = 0, 0
    while met < kills:
        kind = kinds[search % len(kinds)]
        storage = server.new_database(f"search-{search}") if server and kind == "three on PostgreSQL" else None
        fields = STUDY | {"budget": {"trials": TRIALS[kind]}}
        busy_s = 0.0 if kind == "one process" else 0.2
        with placed(folder / str(search), storage=storage, fields=fields, busy_s=busy_s) as place:
            for row in endure(place, kind, moments, dice, undisturbed, most=most):
                met += int(row["kills"])
                print(f"{met}/{kills} {kind}, {row['moment']}: {row['lost'] or 'ok'}", flush=True)
                yield {"search": search, **row}
                if row["lost"]:
                    kept = Path(tempfile.mkdtemp(prefix="eesearch-chaos-failed-"))
                    shutil.copytree(place.folder, kept, dirs_exist_ok=True)
                    print(f"kept in {kept}", flush=True)
            shutil.rmtree(place.folder)
        search += 1


def endure(
    place: Place, kind: str, moments: Iterator[Blow], dice: random.Random, undisturbed: bytes, *, most: int
) -> Iterator[dict[str, object]]:
    """One search, killed until it is done or has met enough; then it ends undisturbed."""
    for number in range(most + 1):
        blow, start, lost, kills = next(moments), time.monotonic(), "", 0
        end = number == most
        try:
            if end:
                finish(place, kind, undisturbed)
            elif kind == "one process":
                kills = int(survive(place, blow))
            else:
                kills = survive_together(place, blow, workers=WORKERS, all_die=dice.random() < 0.5)
            if not (kills or end):  # it was done before
                end = True
                finish(place, kind, undisturbed)
        except AssertionError as error:
            lost, end = " ".join(str(error).split())[:500] or "an assertion failed", True
        done = snapshot(place).trials
        yield {
            "kind": kind,
            "moment": "end" if end else blow.kind,
            "at": round(blow.at, 3),
            "pause": round(blow.pause, 3),
            "kills": kills,
            "trials_finished": len(done),
            "seconds": round(time.monotonic() - start, 2),
            "lost": lost,
        }
        if end:
            return


def finish(place: Place, kind: str, undisturbed: bytes) -> None:
    """Assert that the same command ends the search well."""
    place.finish()
    check_trials(place, snapshot(place), trials=TRIALS[kind])
    check_trainings(place)
    check_store(place)
    same = (place.run / "front.csv").read_bytes() == undisturbed
    assert same or kind != "one process", "the front is not that of an undisturbed search"


if __name__ == "__main__":
    sys.exit(main())
