"""Searches against each other: who takes turns with whom, what is noted, what is told, what is drawn.

A contest is a script of its own (`search_cost.py`, `ablation.py`) that says who plays and how. Every run gets a process
and a thread of its own; after everything that it finds, the hypervolume of its front so far is noted (`arena.curve`).
"""

from __future__ import annotations

import argparse
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from arena import Arena, Found, curve, errors, static
from matplotlib.figure import Figure
from sheet import Clock, Sheet, announce, parser, save, spread

from eesearch.study.files import load_study

STATIC = "static"
"""Sub-networks cut at an exit: what is had without any policy."""

PALETTE = (
    "#000000", "#0072b2", "#d55e00", "#56b4e9", "#999999", "#e69f00", "#cc79a7", "#009e73", "#8c564b", "#c8b400",
    "#7f3c8d", "#66c2a5",
)  # fmt: skip
STUDIES = Path(__file__).parent / "studies"
KEYS = ("question", "clock", "seed", "method")

Player = Callable[[Arena, int], list[Found]]
"""`(arena, seed) -> what it had found by when`."""


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
            where[name] = str(options.data / where[name])
        if "models" in folders:
            backbone["weights"] = str(options.models / backbone["weights"])
        return Arena(fields, options.work / f"{self.name}-{question}-{seed}", 60.0 * clock)

    def run(self, options: argparse.Namespace) -> None:
        """Run what is missing, tell, draw."""
        sheet = Sheet(options.out / f"{self.name}{'-quick' if options.quick else ''}.csv", KEYS)
        todo = [job for job in self._jobs(options) if not sheet.has(*job)]
        announce(sum(self.shares.get(job[3], 1.0) * options.clock for job in todo) / options.workers, sheet)
        os.environ |= {"OMP_NUM_THREADS": "1"}
        budget, context = Clock(options.budget), get_context("spawn")
        with ProcessPoolExecutor(options.workers, mp_context=context, max_tasks_per_child=1) as pool:
            running: dict[Future[Any], tuple[Any, ...]] = {}
            while todo or running:
                while todo and len(running) < options.workers and not budget.over:
                    job = todo.pop(0)
                    running[pool.submit(played, self, options, *job)] = job
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    _note(sheet, running.pop(future), future)
        told(sheet, self.methods)

    def _jobs(self, options: argparse.Namespace) -> Iterator[tuple[str, float, int, str]]:
        """Seed by seed, competitors take turns."""
        for question, seed in product(options.question, range(options.seeds)):
            for method in options.only or self.methods:
                yield question, options.clock, seed, method


def _note(sheet: Sheet, job: tuple[Any, ...], future: Future[Any]) -> None:
    try:
        rows, took = future.result()
    except ImportError as error:
        print(f"{job[3]} is left out: {error}", flush=True)
        return
    sheet.add(job, rows, took)
    last = rows[-1]
    print(f"{job}: {len(rows)} rows, {last['seconds']:.0f} s, hypervolume {last['test']:.4f} on test", flush=True)


def played(
    contest: Contest, options: argparse.Namespace, question: str, clock: float, seed: int, method: str
) -> tuple[list[dict[str, float]], float]:
    """One competitor's run, in a process of its own."""
    logging.basicConfig(level=logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore")  # of other people's tools
    start = time.monotonic()
    arena = contest.arena(options, question, clock, seed)
    wrong = errors(arena.prepare())  # whoever comes first trains the network; the other waits
    if method == STATIC:
        return curve([Found(0.0, 0, *static(arena.problem(STATIC)))], wrong), time.monotonic() - start
    return curve(contest.players[method](arena, seed), wrong), time.monotonic() - start


def until(run: pd.DataFrame, column: str, value: float) -> float:
    """When a run first had a hypervolume on test, by seconds or samples; NaN: never."""
    reached = run[run["test"] >= value - 1e-12]
    return float(reached[column].iloc[0]) if len(reached) else np.nan


def compared(rows: pd.DataFrame, first: str) -> pd.DataFrame:
    """Per question, seed and competitor: its final hypervolume, when it had it, when the first had as much, and ratios.

    Args:
        rows: Raw.
        first: Who all are compared with.
    """
    table = []
    for (question, seed), runs in rows.groupby(["question", "seed"]):
        ours = runs[runs["method"] == first]
        for method, run in runs.groupby("method", sort=False):
            final = float(run["test"].iloc[-1])
            row: dict[str, Any] = {"question": question, "seed": seed, "method": method, "final": final}
            for column in ("seconds", "samples"):
                theirs, mine = until(run, column, final), until(ours, column, final)
                ratio = mine / theirs if theirs and final > 0.0 else np.nan  # nothing is reached at once
                row |= {column: theirs, f"first's {column}": mine, f"{column} ratio": ratio}
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
        "final": 4, "final - first's": 4, "first at its time": 4, "seconds": 0, "first's seconds": 0,
        "seconds ratio": 3, "samples ratio": 3,
    }  # fmt: skip
    seeds = compared(sheet.rows, methods[0])
    groups = seeds.groupby(["question", "method"], sort=False)
    table = pd.DataFrame({name: groups[name].agg(lambda v, d=d: spread(v, d)) for name, d in digits.items()})
    print(f"first: {methods[0]}")
    with pd.option_context("display.width", 220, "display.max_columns", None):
        print(table.to_string())
    print(sheet.compute())
    draw(sheet.rows, sheet.file.with_suffix(".png"), methods)


def draw(rows: pd.DataFrame, path: Path, methods: Sequence[str]) -> None:
    """Hypervolume on test against seconds and against samples: medians over seeds, a line per competitor."""
    questions = list(dict.fromkeys(rows["question"]))
    figure = Figure(figsize=(11, 4.6 * len(questions)), layout="constrained")
    for axes, (question, part) in zip(
        figure.subplots(len(questions), 2, squeeze=False), rows.groupby("question", sort=False), strict=True
    ):
        for axis, column in zip(axes, ("seconds", "samples"), strict=True):
            for number, method in enumerate(methods):
                runs = [run for _, run in part[part["method"] == method].groupby("seed")]
                if runs:
                    _line(axis, runs, column, method, number)
            label = "seconds of the search" if column == "seconds" else "training samples through the network"
            axis.set(xscale="log", xlabel=label, ylabel="hypervolume on test", title=question, ylim=(0.0, None))
        axes[1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(figure, path)


def _line(axis: Any, runs: list[pd.DataFrame], column: str, method: str, number: int) -> None:
    if method == STATIC:
        level = np.median([run["test"].iloc[-1] for run in runs])
        axis.axhline(level, color="#bbbbbb", lw=1.5, ls="--", label="static sub-networks")
        return
    times = np.unique(np.concatenate([run[column].clip(lower=1.0) for run in runs]))
    values = np.stack([_steps(run, column, times) for run in runs])
    marker = "o" if max(map(len, runs)) < 4 else ""
    axis.plot(
        times, np.median(values, axis=0), label=method, marker=marker, ms=5, lw=1.4 if number else 2.6,
        color=PALETTE[number], drawstyle="steps-post",
    )  # fmt: skip


def _steps(run: pd.DataFrame, column: str, times: np.ndarray) -> np.ndarray:
    at = np.searchsorted(run[column].clip(lower=1.0), times, side="right") - 1
    return np.where(at >= 0, run["test"].to_numpy()[at.clip(min=0)], 0.0)
