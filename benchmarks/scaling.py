"""Trials per hour with more workers, against the ideal, and what a driver costs per trial.

Throughput: the shipped digits study for counted MACs, with its bank trained beforehand. N processes side by side on
SQLite and on PostgreSQL, and one Ray driver with N workers; each computes with one thread. Counted are the designs that
were trained (a sampler may propose one twice), from the start of the first trial after the bank to the end of the last:
what starting Python, loading data and the last report take is in `wall_s`, not in the rate. The ideal is the rate of
one local process, times N up to the number of processors. N beyond it is oversubscribed on purpose.

Overhead: what one local process spends per trial on asking and telling, apart from training, solving and drawing the
report; and the same, for a problem that costs nothing, with 10,000 trials in the database.

    python benchmarks/scaling.py [--quick] [--workers 1 2 4] [--trials 25] [--repeats 3] [--out benchmarks/results]

Raw rows go to scaling.csv and overhead.csv, the plot to scaling.png. A second call adds the rows that are missing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import yaml
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))

from eesearch.answering import Watchers
from eesearch.api import search_study
from eesearch.drivers.job import Job
from eesearch.drivers.storage import open_database
from eesearch.drivers.trials import Trials
from eesearch.study.bank_problem import BankProblem
from eesearch.study.files import load_study
from eesearch.study.question import Study
from eesearch.study.rundir import RunDir
from eesearch.study.space import Choice, LogFloat
from eesearch.study.trial import Outcome
from eesearch.study.workers import working
from tests.chaos.harness import STUDY
from tests.services.postgres import Postgres, missing

SETUPS = ("SQLite", "PostgreSQL", "Ray")
COLOURS = {"SQLite": "#0072b2", "PostgreSQL": "#009e73", "Ray": "#d55e00"}
CORES = len(os.sched_getaffinity(0))


def main() -> None:
    """Read the options, run what is missing, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tiny study, 1 and 2 workers, 500 stored trials")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--trials", type=int, default=25, help="per search, the bank included")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    suffix = "-quick" if options.quick else ""
    fields = STUDY if options.quick else load_study("digits").model_dump(mode="json") | {"devices": ["macs"]}
    fields = fields | {"budget": {"trials": 6 if options.quick else options.trials}}
    with server() as postgres:
        setups = [s for s in SETUPS if (s != "PostgreSQL" or postgres) and (s != "Ray" or find_spec("ray"))]
        rows = Rows(options.out / f"scaling{suffix}.csv", ["setup", "workers", "repeat"])
        for repeat in range(1 if options.quick else options.repeats):
            for workers in [1, 2] if options.quick else options.workers:
                for setup in setups:  # they take turns: a machine that slows down slows all of them
                    rows.add([setup, workers, repeat], lambda s=setup, w=workers: throughput(s, w, fields, postgres))
        costs = Rows(options.out / f"overhead{suffix}.csv", ["where", "stored"])
        costs.add(["SQLite", 0], lambda: overhead(fields))
        for stored in [500] if options.quick else [0, 1000, 10_000]:
            for setup in setups[:2] if postgres else setups[:1]:
                address = postgres.new_database(f"stored-{stored}") if postgres and setup == "PostgreSQL" else None
                costs.add([f"{setup}, no work", stored], lambda n=stored, a=address: stored_overhead(n, a))
    told(rows.table, costs.table)
    draw(rows.table, options.out / f"scaling{suffix}.png")


class Rows:
    """A CSV file that grows; what it has already is not measured again."""

    def __init__(self, file: Path, keys: list[str]) -> None:
        self.file, self.keys = file, keys
        self.table = pd.read_csv(file) if file.exists() else pd.DataFrame()

    def add(self, key: list[Any], measure: Any) -> None:
        """Measure a row if it is missing."""
        if len(self.table) and (self.table[self.keys] == key).all(axis=1).any():
            return
        row = dict(zip(self.keys, key, strict=True)) | measure()
        print(row, flush=True)
        self.table = pd.concat([self.table, pd.DataFrame([row])], ignore_index=True)
        self.table.to_csv(self.file, index=False)


@contextmanager
def server() -> Iterator[Postgres | None]:
    """PostgreSQL, if it is installed."""
    if reason := missing():
        print(f"without PostgreSQL: {reason}", flush=True)
        yield None
        return
    made = Postgres()
    try:
        yield made
    finally:
        made.remove()


def throughput(setup: str, workers: int, fields: dict[str, Any], postgres: Postgres | None) -> dict[str, object]:
    """One search with so many workers."""
    with tempfile.TemporaryDirectory(prefix="eesearch-scaling-") as name:
        folder = Path(name)
        (folder / "study.yaml").write_text(yaml.safe_dump(fields))
        command = ["search", str(folder / "study.yaml"), "--run", str(folder / "run"), "--quiet"]
        if setup == "PostgreSQL" and postgres:
            command += ["--storage", postgres.new_database(folder.name)]
        go([[*command, "--trials", "1"]], 1)
        command += ["--driver", "ray"] if setup == "Ray" else []
        start = time.monotonic()
        go([command] * (1 if setup == "Ray" else workers), workers)
        wall = time.monotonic() - start
        trials = json.loads((folder / "run" / "front.json").read_text())["trials"][1:]
        spans = times(folder / "run", command[command.index("--storage") + 1] if "--storage" in command else None)
    span = (max(end for _, end in spans) - min(begin for begin, _ in spans)).total_seconds()
    designs = len({trial["design"] for trial in trials if trial["design"]})
    return {
        "cores": CORES,
        "trials": len(trials),
        "designs": designs,
        "span_s": round(span, 2),
        "wall_s": round(wall, 2),
        "trial_s": round(statistics.mean((end - begin).total_seconds() for begin, end in spans), 3),
        "designs_per_hour": round(3600 * designs / span, 1),
    }


def go(commands: list[list[str]], cores: int) -> None:
    """Run them side by side; Ray's own cluster gets so many workers."""
    code = (
        "from eesearch.drivers import ray_cluster\n"
        f"ray_cluster.count_cpus = lambda: {cores}\n"
        "from eesearch.cli import main\n"
        "main()"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen([sys.executable, "-c", code, *c], env=environment, stdout=subprocess.DEVNULL) for c in commands
    ]
    codes = [process.wait() for process in started]
    if any(codes):
        raise SystemExit(f"a search failed: exit codes {codes}")


def times(path: Path, url: str | None) -> list[tuple[datetime, datetime]]:
    """When the trials after the bank began and ended."""
    run = RunDir(path)
    with run.preparing():
        database = open_database(run, url)
    (study,) = database.studies().values()
    found = [t for t in study.get_trials(deepcopy=False) if t.number and t.state == optuna.trial.TrialState.COMPLETE]
    database.storage.engine.dispose()
    return [(t.datetime_start, t.datetime_complete) for t in found]


class Clock:
    """Seconds spent in some methods, their own calls of other such methods left out."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner: list[float] = []

    @contextmanager
    def on(self, owner: type, method: str, name: str) -> Iterator[None]:
        """Time a method for as long as the block lasts."""
        plain = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            self._inner.append(0.0)
            try:
                return plain(*args, **kwargs)
            finally:
                took = time.perf_counter() - start
                self.seconds[name] = self.seconds.get(name, 0.0) + took - self._inner.pop()
                if self._inner:
                    self._inner[-1] += took

        setattr(owner, method, timed)
        try:
            yield
        finally:
            setattr(owner, method, plain)


def overhead(fields: dict[str, Any]) -> dict[str, object]:
    """A real search of one local process: seconds per trial by what they were spent on."""
    from eesearch.answering import Answering

    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="eesearch-overhead-") as name:
        path = Path(name) / "run"
        search_study(Study.model_validate(fields | {"budget": {"trials": 1}}), path, watchers=Watchers())
        with (
            clock.on(Trials, "claim", "ask"), clock.on(Trials, "over", "ask"), clock.on(Trials, "tell", "tell"),
            clock.on(BankProblem, "run", "work"), clock.on(BankProblem, "seeds", "seeds"),
            clock.on(Answering, "trial", "answers"),
        ):  # fmt: skip
            search_study(Study.model_validate(fields), path, watchers=Watchers())
    count = fields["budget"]["trials"] - 1
    ask, tell, work = (clock.seconds[name] / count for name in ("ask", "tell", "work"))
    return {
        "trials": count,
        "ask_s": round(ask, 4),
        "tell_s": round(tell, 4),
        "work_s": round(work, 4),
        "answers_s": round(clock.seconds["answers"] / count, 4),
        "percent": round(100 * (ask + tell) / work, 2),
    }


class NoWork:
    """A space like that of the digits study, where every trial is done at once."""

    key, origin, directions, reference = "nothing", "bank", ("maximize",), ()
    parameters = tuple(
        p
        for cut in range(8)
        for p in (Choice(f"exit:{cut}", ("none", "a", "b", "c")), LogFloat(f"alpha:{cut}", 0.1, 3.0))
    )

    def draft(self) -> None:
        """There is no bank."""

    def first(self) -> None:
        """There is no bank."""

    def seeds(self) -> tuple[()]:
        """Nor any seed."""
        return ()

    def fronts(self, outcome: Outcome) -> tuple[tuple[tuple[float, float], ...], ...]:
        """One point."""
        return (((1.0 - outcome.values[0], 0.5),),)


def stored_overhead(stored: int, url: str | None, asked: int = 20) -> dict[str, object]:
    """Asking and telling beside so many finished trials."""
    from eesearch.drivers.samplers import distributions

    problem, dice = NoWork(), random.Random(0)
    fields = {"name": "nothing", "backbone": {"model": "a:b"}, "data": {"source": "a:b"}}
    study = Study.model_validate(fields | {"budget": {"trials": stored + asked}})
    known = distributions(problem.parameters)
    with tempfile.TemporaryDirectory(prefix="eesearch-stored-") as name:
        run = RunDir(Path(name) / "run")
        with run.preparing():
            database = open_database(run, url)
        with working(run.path) as worker, Trials(Job(problem, study, run, database, worker)) as trials:
            fill(trials._study, database.storage, known, stored)
            asking, telling = [], []
            for _ in range(asked):
                start = time.perf_counter()
                claim = trials.claim()
                asking.append(time.perf_counter() - start)
                start = time.perf_counter()
                trials.tell(claim, Outcome(design=None, values=(dice.random(),)))
                over = trials.over()
                telling.append(time.perf_counter() - start)
            assert over
        database.storage.engine.dispose()
    return {
        "trials": asked,
        "first_ask_s": round(asking[0], 4),
        "ask_s": round(statistics.median(asking), 4),
        "tell_s": round(statistics.median(telling), 4),
    }


def fill(study: optuna.Study, storage: optuna.storages.RDBStorage, known: dict[str, Any], stored: int) -> None:
    """Put finished trials into a database, all at once: one by one, 10,000 take an hour."""
    from optuna.distributions import distribution_to_json
    from optuna.storages._rdb import models

    dice, now = random.Random(0), datetime.now()
    trials: list[dict[str, Any]] = []
    values: list[dict[str, Any]] = []
    params: list[dict[str, Any]] = []
    attributes: list[dict[str, Any]] = []
    texts = {name: distribution_to_json(d) for name, d in known.items()}
    for number in range(stored):
        key, value = number + 1, dice.random()
        times = {"datetime_start": now, "datetime_complete": now}
        trials.append({"trial_id": key, "number": number, "study_id": study._study_id, "state": "COMPLETE", **times})
        values.append({"trial_id": key, "objective": 0, "value": value, "value_type": "FINITE"})
        outcome = Outcome(design=None, values=(value,)).model_dump_json()
        for name, text in (("outcome", outcome), ("origin", "sampler"), ("worker", "somebody")):
            attributes.append({"trial_id": key, "key": name, "value_json": json.dumps(text)})
        for name, d in known.items():
            drawn = dice.randrange(4) if hasattr(d, "choices") else d.low * (d.high / d.low) ** dice.random()
            row = {"trial_id": key, "param_name": name, "param_value": drawn, "distribution_json": texts[name]}
            params.append(row)
    tables = (models.TrialModel, trials), (models.TrialValueModel, values), (models.TrialParamModel, params)
    with storage.engine.begin() as connection:
        for model, rows in (*tables, (models.TrialUserAttributeModel, attributes)):
            if rows:
                connection.execute(model.__table__.insert(), rows)
        if connection.dialect.name == "postgresql" and stored:
            connection.exec_driver_sql(f"ALTER SEQUENCE trials_trial_id_seq RESTART WITH {stored + 1}")


def told(rows: pd.DataFrame, costs: pd.DataFrame) -> None:
    """The medians, and the share of the ideal."""
    rates = rows.groupby(["setup", "workers"])["designs_per_hour"].median()
    table = rates.reset_index()
    if ("SQLite", 1) in rates.index:
        table["of_ideal"] = [
            r / (rates["SQLite", 1] * min(n, CORES)) for r, n in zip(rates, table["workers"], strict=True)
        ]
    print(table.to_string(index=False, float_format="{:.2f}".format))
    print(costs.to_string(index=False))


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Rates by the number of workers, a line per setup, and the ideal."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for setup, group in rows.groupby("setup", sort=False):
        medians = group.groupby("workers")["designs_per_hour"].median()
        axes.plot(medians.index, medians, "o-", color=COLOURS[setup], label=setup)
        axes.plot(group["workers"], group["designs_per_hour"], ".", color=COLOURS[setup], alpha=0.4)
    one = rows[(rows["setup"] == "SQLite") & (rows["workers"] == 1)]["designs_per_hour"].median()
    counts = sorted(rows["workers"].unique())
    axes.plot(counts, [one * min(n, CORES) for n in counts], "--", color="grey", label=f"ideal, {CORES} processors")
    axes.set(xlabel="workers", ylabel="designs trained per hour", xticks=counts, ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
