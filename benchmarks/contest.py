"""Searches against each other: who takes turns with whom, what is noted, what is told, what is drawn.

A contest is a script of its own (`search_cost.py`, `ablation.py`) that says who plays and how. Every run gets a process
and a thread of its own; after everything that it finds, the hypervolume of its front so far is noted (`arena.curve`).
"""

from __future__ import annotations

import argparse
import logging
import os
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from arena import Arena, Found, MissingRivalError, Player, curve, errors, static, within
from matplotlib.figure import Figure
from sheet import Clock, Sheet, announce, parser, save, spread, where

from eesearch.study.files import load_study

STATIC = "static"
"""Sub-networks cut at an exit: what is had without any policy."""

PALETTE = (
    "#000000", "#0072b2", "#d55e00", "#56b4e9", "#999999", "#e69f00", "#cc79a7", "#009e73", "#8c564b", "#c8b400",
    "#7f3c8d", "#66c2a5",
)  # fmt: skip
STUDIES = Path(__file__).parent / "studies"
KEYS = ("question", "clock", "seed", "method")


@dataclass(frozen=True)
class Contest:
    """Who plays.

    Attributes:
        name: Of the files.
        players: By name, in the order in which they take turns; the first is what all are compared with.
        shares: About what share of the clock those use that do not use all of it.
        questions: Study file and the folders that it needs (`data`, `models`), by name.
        quick: The question of the quick form.
    """

    name: str
    players: Mapping[str, Player]
    shares: Mapping[str, float]
    questions: Mapping[str, tuple[str, tuple[str, ...]]]
    quick: str

    @property
    def methods(self) -> tuple[str, ...]:
        """Everybody, and what is had without a search."""
        return (*self.players, STATIC)

    def options(self, doc: str | None, *, clock: float, budget: float) -> argparse.Namespace:
        """Read them.

        Args:
            doc: Of the script.
            clock: Minutes of every competitor.
            budget: Minutes in all.
        """
        made = parser(doc, minutes=budget)
        first = next(iter(self.questions))
        made.add_argument("--question", nargs="+", default=[first], help=f"of {', '.join(self.questions)}")
        made.add_argument("--clock", type=float, default=clock, help="minutes of every competitor")
        made.add_argument("--only", nargs="+", help=f"competitors: {', '.join(self.methods)}")
        made.add_argument("--workers", type=int, default=min(2, len(os.sched_getaffinity(0))), help="runs side by side")
        options = made.parse_args()
        if options.quick:
            options.question, options.clock, options.seeds = [self.quick], 0.5, 1
        for name in {name for question in options.question for name in self.questions[question][1]}:
            if getattr(options, name) is None:
                made.error(f"this question needs --{name}")
        return options

    def arena(self, options: argparse.Namespace, question: str, clock: float, seed: int) -> Arena:
        """What everybody starts from."""
        file, folders = self.questions[question]
        fields = load_study(str(STUDIES / file)).model_dump(mode="json") | {"seed": seed}
        backbone = fields["backbones"][0]
        if "data" in folders:
            where, name = (fields["data"]["args"], "file") if fields["data"]["args"] else (fields["data"], "source")
            where[name] = str(options.data / Path(where[name]).name)  # a study that was read has absolute paths
        if "models" in folders:
            backbone["weights"] = str(options.models / Path(backbone["weights"]).name)
        return Arena(fields, options.work / f"{self.name}-{question}-{seed}", 60.0 * clock)

    def run(self, options: argparse.Namespace) -> None:
        """Run what is missing, tell, draw."""
        file = options.out / f"{self.name}{'-quick' if options.quick else ''}.csv"
        sheet = Sheet(file, KEYS, where("moocore", "numba", "ray", "earlyon"))
        todo = [job for job in self._jobs(options) if not sheet.has(*job)]
        announce(sum(self.shares.get(job[3], 1.0) * options.clock for job in todo) / options.workers, sheet)
        os.environ |= {"OMP_NUM_THREADS": "1"}
        budget, context = Clock(options.budget), get_context("spawn")
        with ProcessPoolExecutor(options.workers, mp_context=context, max_tasks_per_child=1) as pool:
            running: dict[Future[Any], tuple[int, tuple[Any, ...]]] = {}
            free, failed = sorted(os.sched_getaffinity(0))[: options.workers], 0
            while todo or running:
                while todo and free and not budget.over:
                    core, job = free.pop(), todo.pop(0)
                    running[pool.submit(played, self, options, core, *job)] = core, job
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    core, job = running.pop(future)
                    free.append(core)
                    failed += not _noted(sheet, job, future)
        told(sheet, self.methods)
        if failed:
            raise SystemExit(f"{failed} runs failed")

    def _jobs(self, options: argparse.Namespace) -> Iterator[tuple[str, float, int, str]]:
        """Seed by seed, competitors take turns."""
        for question, seed in product(options.question, range(options.seeds)):
            for method in options.only or self.methods:
                yield question, options.clock, seed, method


def _noted(sheet: Sheet, job: tuple[Any, ...], future: Future[Any]) -> bool:
    """Write what a run gave; False if it failed, which stops nobody else."""
    error = future.exception()
    if isinstance(error, MissingRivalError):
        print(f"{job[3]} is left out: {error}", flush=True)
        return True
    if error is not None:
        traceback.print_exception(error)
        print(f"{job} failed", flush=True)
        return False
    rows, took = future.result()
    sheet.add(job, rows, took)
    last = rows[-1]
    print(f"{job}: {len(rows)} rows, {last['seconds']:.0f} s, hypervolume {last['test']:.4f} on test", flush=True)
    return True


def played(
    contest: Contest, options: argparse.Namespace, core: int, question: str, clock: float, seed: int, method: str
) -> tuple[list[dict[str, float]], float]:
    """One competitor's run, in a process of its own, on a core of its own."""
    os.sched_setaffinity(0, {core})  # whatever it starts, and our solver's threads, stay there
    logging.basicConfig(level=logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore")  # of other people's tools
    start = time.monotonic()
    arena = contest.arena(options, question, clock, seed)
    backbone_errors = errors(arena.prepare())  # whoever comes first trains the network; the other waits
    if method == STATIC:
        found = [Found(0.0, 0, *static(arena.problem(STATIC)))]
    else:
        found = within(contest.players[method](arena, seed), arena.clock)
    return curve(found, backbone_errors), time.monotonic() - start


def until(run: pd.DataFrame, column: str, value: float) -> float:
    """When a run had a hypervolume on test and kept it, by seconds or samples; infinite: never.

    On test, hypervolume may fall again: what was had only in passing does not count.
    """
    kept = run["test"][::-1].cummin()[::-1]
    reached = run[kept >= value - 1e-12]
    return float(reached[column].iloc[0]) if len(reached) else np.inf


def compared(rows: pd.DataFrame, first: str) -> pd.DataFrame:
    """Per question, clock, seed and competitor: its final hypervolume, when it had it, when the reference had as much.

    Who never came near (no hypervolume) or searched for nothing (no time) has no ratio; what the reference never
    reached has an infinite one. Where the reference has not run yet, nobody has one.

    Args:
        rows: Raw.
        first: The reference: who all are compared with.
    """
    table = []
    for (question, clock, seed), runs in rows.groupby(["question", "clock", "seed"]):
        ours = runs[runs["method"] == first]
        for method, run in runs.groupby("method", sort=False):
            final = float(run["test"].iloc[-1])
            row: dict[str, Any] = {"question": question, "clock": clock, "seed": seed, "method": method, "final": final}
            row["trials"] = run["trials"].iloc[-1]
            for column in ("seconds", "samples"):
                theirs, mine = until(run, column, final), until(ours, column, final)
                near = theirs > 0.0 and final > 0.0 and len(ours) > 0
                row |= {column: theirs, f"first's {column}": mine if near else np.nan}
                row[f"{column} ratio"] = mine / theirs if near else np.nan
            upto = ours[ours["seconds"] <= row["seconds"]]
            row["first at its time"] = float(upto["test"].iloc[-1]) if len(upto) else 0.0
            row["final - first's"] = final - float(ours["test"].iloc[-1]) if len(ours) else np.nan
            table.append(row)
    return pd.DataFrame(table)


def told(sheet: Sheet, methods: Sequence[str]) -> None:
    """Print the table of medians and ranges over seeds, and draw."""
    if not len(sheet.rows):
        return
    digits = {
        "trials": 0, "final": 4, "final - first's": 4, "first at its time": 4, "seconds": 0, "first's seconds": 0,
        "seconds ratio": 3, "samples ratio": 3,
    }  # fmt: skip
    seeds = compared(sheet.rows, methods[0])
    groups = seeds.groupby(["question", "clock", "method"], sort=False)
    table = pd.DataFrame({name: groups[name].agg(lambda v, d=d: spread(v, d)) for name, d in digits.items()})
    print(f"first: {methods[0]}")
    with pd.option_context("display.width", 220, "display.max_columns", None):
        print(table.to_string())
    print(sheet.compute())
    draw(sheet.rows, sheet.file.with_suffix(".png"), methods)


def draw(rows: pd.DataFrame, path: Path, methods: Sequence[str]) -> None:
    """Hypervolume on test against seconds and against samples: medians and ranges over seeds, a line per competitor."""
    parts = rows.groupby(["question", "clock"], sort=False)
    figure = Figure(figsize=(11, 4.6 * len(parts)), layout="constrained")
    for axes, ((question, clock), part) in zip(figure.subplots(len(parts), 2, squeeze=False), parts, strict=True):
        for axis, column in zip(axes, ("seconds", "samples"), strict=True):
            for number, method in enumerate(methods):
                runs = [run for _, run in part[part["method"] == method].groupby("seed")]
                if runs:
                    _line(axis, runs, column, method, number)
            begins = part[column][part[column] > 0.0].min()
            label = "seconds of the search" if column == "seconds" else "training samples through the backbone"
            axis.set(
                xscale="log",
                xlabel=label,
                ylabel="hypervolume on test",
                title=f"{question}, {clock:g} minutes",
                ylim=(0.0, None),
                xlim=(0.7 * begins, None),
            )
        axes[1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(figure, path)


def _line(axis: Any, runs: list[pd.DataFrame], column: str, method: str, number: int) -> None:
    if method == STATIC:
        level = np.median([run["test"].iloc[-1] for run in runs])
        axis.axhline(level, color="#bbbbbb", lw=1.5, ls="--", label="static sub-networks")
        return
    times = np.unique(np.concatenate([run[column].clip(lower=1.0) for run in runs]))
    values = np.stack([_steps(run, column, times) for run in runs])
    axis.plot(
        times, np.median(values, axis=0), label=method, marker="o", markevery=[-1], ms=5, lw=1.4 if number else 2.6,
        color=PALETTE[number], drawstyle="steps-post",
    )  # fmt: skip
    reach = {"color": PALETTE[number], "alpha": 0.15, "lw": 0, "step": "post"}
    axis.fill_between(times, values.min(axis=0), values.max(axis=0), **reach)


def _steps(run: pd.DataFrame, column: str, times: np.ndarray) -> np.ndarray:
    at = np.searchsorted(run[column].clip(lower=1.0), times, side="right") - 1
    return np.where(at >= 0, run["test"].to_numpy()[at.clip(min=0)], 0.0)
