"""What exact search is worth: the solver against Optuna's samplers on one table, the same levels and one clock.

Everybody chooses at most `--max-exits` exits and one of the same threshold levels at each, and may let all leave at the
last of them. The samplers' policies are evaluated by a few passes over the solver's own bitsets, so that searches are
compared and not evaluations; what a sampler spends on choosing and on evaluating is noted apart. Methods take turns for
each seed. Hypervolume is that of a front: the share of the rectangle (0, 0) .. (backbone's error + 5 points, backbone's
cost) that it dominates. No policy that a sampler finds may beat the exact front: this is asserted.

    python benchmarks/solver.py [--quick] [--budget 30] [--seconds 60] [--table TABLE.npz --costs COSTS.json]

By default the table is the published one of a ResNet-56 on CIFAR-10. Rows go to solver.csv with hardware and versions
in every row, the plot to solver.png. A second call adds what is missing.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numba
import numpy as np
import optuna
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eesearch.core.costs import StageCosts
from eesearch.core.front import MAX_DROP, hypervolume
from eesearch.core.policy import Scoring
from eesearch.solve.boxes import Keys, evaluate_all
from eesearch.solve.costs_file import read_costs
from eesearch.solve.exact import solve_front
from eesearch.solve.family import Effort, Family
from eesearch.solve.kernel import pack
from eesearch.solve.keys import ExitOutputs, leaving, outputs_of
from eesearch.solve.levels import threshold_levels
from eesearch.solve.table_file import Table, read_table
from eesearch.solve.weighing import Weighing

REPLAY = Path(__file__).parents[1] / "docs" / "results" / "replay"
SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "NSGA-II": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "TPE": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True),
    "GP": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}
METHODS = ("exact", "anytime", *SAMPLERS)
COLOURS = dict(zip(METHODS, ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#999999"), strict=True))
CHECKPOINTS = 60
"""Times at which the hypervolume of a sampler is taken, evenly spaced on a log axis."""

KEY = ["table", "max_exits", "levels", "method", "seed"]


@dataclass(frozen=True)
class Game:
    """One table as bitsets, and what a policy on it comes to.

    Attributes:
        table, costs: What `solve_front` gets.
        family: Policies that may be chosen.
        scoring: How they score.
        levels: Thresholds of each exit. Each [L]
        leaves: Samples that leave at each level of each exit. Each [L, W]
        right: Samples that each exit gets right. [E, W]
        everyone: All samples. [W]
    """

    table: Table
    costs: StageCosts
    family: Family
    scoring: Scoring
    levels: list[NDArray[np.float64]]
    leaves: list[NDArray[np.uint64]]
    right: NDArray[np.uint64]
    everyone: NDArray[np.uint64]

    @classmethod
    def of(cls, table: Table, costs: StageCosts, family: Family, scoring: Scoring = Scoring()) -> Game:
        """Pack a table."""
        outputs = outputs_of(table, scoring)
        assert isinstance(outputs, ExitOutputs)
        samples = outputs.correct.shape[1]
        chosen = [threshold_levels(row, family.levels or samples) for row in outputs.scores]
        empty = np.empty(0, np.uint64)
        return cls(table, costs, family, scoring, chosen, [], pack(outputs.correct), empty).on(table)

    @property
    def samples(self) -> int:
        """N."""
        return self.table.correct.shape[1]

    def evaluate(self, stops: Sequence[tuple[int, int]], last: int | None) -> tuple[int, float]:
        """Errors and cost, summed over samples.

        Args:
            stops: Row and level of each early exit, in order.
            last: Row where the rest leaves; None: at the last of the early exits.
        """
        step, here, errors, cost, before = self.costs.step, self.everyone, 0, 0.0, 0
        for row, level in [*stops, (last, -1)] if last is not None else [*stops[:-1], (stops[-1][0], -1)]:
            cost += float(np.bitwise_count(here).sum()) * step[before, row]
            gone = here if level < 0 else here & self.leaves[row][level]
            errors += int(np.bitwise_count(gone & ~self.right[row]).sum())
            here, before = here ^ gone, row + 1
        return errors, cost

    def on(self, table: Table) -> Game:
        """The same exits, levels and thresholds on other samples."""
        outputs, weighing = outputs_of(table, self.scoring), Weighing(table.correct.shape[1])
        assert isinstance(outputs, ExitOutputs)
        leaves = [leaving(row, levels, weighing) for row, levels in zip(outputs.scores, self.levels, strict=True)]
        everyone = pack(np.ones(table.correct.shape[1], np.bool_))
        return replace(self, table=table, leaves=leaves, right=pack(outputs.correct), everyone=everyone)

    @property
    def scale(self) -> tuple[float, float]:
        """What errors and costs are divided by, to be shares of the samples and of the backbone's cost."""
        return float(self.samples), self.samples * self.costs.backbone

    def chosen(self, trial: optuna.Trial) -> tuple[tuple[tuple[int, int], ...], int | None]:
        """Let a sampler choose a policy, as `evaluate` takes it."""
        early = len(self.leaves) - 1
        chosen: dict[str, tuple[int, int]] = {}
        for k in range(self.family.max_exits):
            row = trial.suggest_int(f"exit{k}", 0, early)  # `early`: this one is not used
            level = trial.suggest_int(f"level{k}", 0, (self.family.levels or self.samples) - 1)
            if row < early and len(self.leaves[row]):
                chosen.setdefault(self.table.exits[row].cut, (row, min(level, len(self.leaves[row]) - 1)))
        ends_early = trial.suggest_categorical("last", ["own", "early"]) == "early"
        stops = tuple(sorted(chosen.values()))
        return stops, None if ends_early and stops else early

    def value(self, points: Sequence[tuple[int, float]]) -> float:
        """Hypervolume of the front of (errors, cost) points."""
        values = np.array(points, np.float64) / self.scale
        own = 1.0 - float(self.table.correct[-1].mean())
        return hypervolume(values, own + MAX_DROP)


@dataclass(frozen=True)
class Played:
    """Every policy that a sampler tried: errors, cost and seconds since the start; and where the time went."""

    points: list[tuple[int, float]]
    seconds: list[float]
    evaluating: float


def sample(
    game: Game, sampler: optuna.samplers.BaseSampler, *, seconds: float = np.inf, trials: float = np.inf
) -> Played:
    """Let a sampler search until the time or the trials are spent."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    points: list[tuple[int, float]] = []
    times: list[float] = []
    evaluating, start = 0.0, time.perf_counter()
    while len(points) < trials and time.perf_counter() - start < seconds:
        trial = study.ask()
        policy = game.chosen(trial)
        begun = time.perf_counter()
        point = game.evaluate(*policy)
        evaluating += time.perf_counter() - begun
        study.tell(trial, point)
        points.append(point)
        times.append(time.perf_counter() - start)
    return Played(points, times, evaluating)


def solved(game: Game, method: str, seconds: float | None = None) -> tuple[list[tuple[int, float]], float, bool]:
    """Points of the solver's front on the same levels, seconds, and whether it is complete."""
    effort = Effort(method="exact" if method == "exact" else "anytime", seconds=seconds, refine=False)
    start = time.perf_counter()
    front = solve_front(game.table, game.costs, family=game.family, effort=effort)
    took = time.perf_counter() - start
    axis, n = game.costs.axis, game.samples
    points = [(round(p.error * n), p.costs[axis].mean * n) for p in front.points]
    return points, took, front.certificate is not None and front.certificate.exact


def kernel(game: Game, seconds: float) -> pd.DataFrame:
    """Policies a second of plain enumeration on one core: all levels along random paths to the own classifier."""
    most = max(map(len, game.leaves))
    leaves = np.stack([np.pad(levels, [(0, most - len(levels)), (0, 0)]) for levels in game.leaves])
    levels, units = np.array([len(levels) for levels in game.leaves]), np.ones(1, np.int64)
    keys = Keys(leaves, levels, game.right, units, np.array([game.samples]))
    step, own, rng = game.costs.step, len(game.leaves) - 1, np.random.default_rng(0)
    policies, start, spent = 0, time.perf_counter(), 0.0
    while spent < seconds:
        path = [int(row) for row in np.sort(rng.choice(own, size=min(game.family.max_exits, own), replace=False))]
        if not np.isfinite([step[i + 1, j] for i, j in pairwise(path)]).all() or not keys.levels[path].all():
            continue
        left, errors = evaluate_all(keys, [*path, own], game.samples)
        if not policies:  # the first call compiles, and is held against the samplers' evaluation
            levels = [0] * len(path)
            cost = left[tuple(levels)] @ game.costs.cumulative([game.table.exits[row] for row in [*path, own]])
            at_once = game.evaluate(list(zip(path, levels, strict=True)), own)
            assert np.allclose((errors[tuple(levels)], cost), at_once), "the kernel miscounts"
            start = time.perf_counter()
        policies += errors.size
        spent = time.perf_counter() - start
    return pd.DataFrame([{"seconds": spent, "evaluations": policies, "policies_per_second": policies / spent}])


def beats(point: tuple[int, float], front: Sequence[tuple[int, float]]) -> bool:
    """Whether no point of a front is at least as good in both; costs are sums of floats."""
    return not any(e <= point[0] and c <= point[1] * (1 + 1e-9) for e, c in front)


def measure(game: Game, method: str, seed: int, seconds: float, exact: Sequence[tuple[int, float]]) -> pd.DataFrame:
    """Hypervolume over time of one method; a row per checkpoint."""
    if method == "kernel":
        return kernel(game, min(seconds, 5.0))
    if method in SAMPLERS:
        played = sample(game, SAMPLERS[method](seed), seconds=seconds)
        assert not any(beats(point, exact) for point in set(played.points)), f"{method} beats the exact front"
        return over_time(game, played)
    limits = [None] if method == "exact" else [limit for limit in (0.25, 0.5, 1, 2, 4, 8, 16, 32) if limit <= seconds]
    rows = []
    for limit in limits:  # a search that is cut short tells its front, so each limit is a search of its own
        points, took, complete = solved(game, method, limit)
        assert not any(beats(point, exact) for point in points), f"{method} beats the exact front"
        rows.append({"seconds": took, "hypervolume": game.value(points), "complete": complete})
        if complete:
            break
    return pd.DataFrame(rows)


def over_time(game: Game, played: Played) -> pd.DataFrame:
    """Hypervolume of what was found until each checkpoint."""
    ends = np.array(played.seconds)
    times = np.unique(np.searchsorted(ends, np.geomspace(ends[0], ends[-1], CHECKPOINTS)).clip(max=len(ends) - 1))
    front: list[tuple[int, float]] = []
    rows, known = [], 0
    for last in times.tolist():
        fresh = front + [point for point in set(played.points[known : last + 1]) if beats(point, front)]
        front = [p for p in fresh if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in fresh)]
        known = last + 1
        rows.append({"seconds": ends[last], "hypervolume": game.value(front), "evaluations": known})
    frame = pd.DataFrame(rows)
    frame["evaluating"] = played.evaluating
    frame["choosing"] = ends[-1] - played.evaluating
    return frame


def main() -> None:
    """Read the options, run what is missing, draw."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    rows_file = options.out / ("solver-quick.csv" if options.quick else "solver.csv")
    seeds, seconds = (1, 5.0) if options.quick else (options.seeds, options.seconds)
    table = read_table(options.table)
    game = Game.of(table, read_costs(options.costs, table)[0], Family(options.max_exits, options.levels))
    minutes = seeds * (len(SAMPLERS) * seconds + 2 * min(seconds, 64)) / 60 + 0.5
    print(f"about {minutes:.1f} minutes on {len(os.sched_getaffinity(0))} cores; rows go to {rows_file}")
    rows = pd.read_csv(rows_file) if rows_file.exists() else pd.DataFrame(columns=KEY)
    end = time.monotonic() + 60 * options.budget
    solved(replace(game, family=replace(game.family, max_exits=1)), "exact")  # compiles, or loads what was compiled
    exact, _, complete = solved(game, "exact")
    assert complete, "the exact search was cut short"
    for seed in range(seeds):
        for method in ("kernel", *METHODS):
            key = dict(zip(KEY, (options.table.stem, options.max_exits, options.levels, method, seed), strict=True))
            if (rows[KEY] == pd.Series(key)).all(axis=1).any() or time.monotonic() > end:
                continue
            new = measure(game, method, seed, seconds, exact).assign(**key, **_facts())
            rows = pd.concat([rows, new[[*KEY, *new.columns.drop(KEY)]]]) if len(rows) else new
            rows.to_csv(rows_file, index=False)
    mine = rows[(rows[KEY[:3]] == [options.table.stem, options.max_exits, options.levels]).all(axis=1)]
    enumerated = mine.loc[mine["method"] == "kernel", "policies_per_second"].median()
    print(f"kernel: {enumerated / 1e6:.1f} million policies a second")
    print(summary(mine, game.value(exact)).to_string(index=False))
    draw(mine[mine["method"] != "kernel"], game.value(exact), rows_file.with_suffix(".png"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, 5 seconds per sampler")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each sampler")
    parser.add_argument("--budget", type=float, default=30.0, help="minutes in all; nothing is begun after that")
    parser.add_argument("--max-exits", type=int, default=3)
    parser.add_argument("--levels", type=int, default=24)
    parser.add_argument("--table", type=Path, default=REPLAY / "cifar10_resnet56.npz")
    parser.add_argument("--costs", type=Path, help="by default beside the table")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    options.costs = options.costs or options.table.with_suffix(".json")
    return options


def _facts() -> dict[str, str]:
    versions = {"python": platform.python_version(), "numpy": np.__version__, "numba": numba.__version__}
    versions |= {"optuna": optuna.__version__}
    return {
        "machine": f"{platform.machine()}, {numba.get_num_threads()} threads",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def summary(rows: pd.DataFrame, exact: float) -> pd.DataFrame:
    """Per method: seconds, share of the exact hypervolume at the end, seconds until within 1 % of it (medians)."""
    told = []
    for method in METHODS:
        runs = [run for _, run in rows[rows["method"] == method].groupby("seed")]
        if not runs:
            continue
        close = [run.loc[run["hypervolume"] >= 0.99 * exact, "seconds"].min() for run in runs]
        last = pd.DataFrame([run.iloc[-1] for run in runs])
        told.append(
            {
                "method": method,
                "seconds": last["seconds"].median(),
                "of exact": (last["hypervolume"] / exact).median(),
                "within 1 % after": np.median(close) if not np.isnan(close).any() else np.nan,
                "policies": last.get("evaluations", pd.Series(dtype=float)).median(),
                "choosing": last.get("choosing", pd.Series(dtype=float)).median(),
                "evaluating": last.get("evaluating", pd.Series(dtype=float)).median(),
            }
        )
    return pd.DataFrame(told)


def draw(rows: pd.DataFrame, exact: float, path: Path) -> None:
    """Hypervolume against time, a line per seed and method."""
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.add_subplot()
    for (method, seed), run in rows.groupby(["method", "seed"], sort=False):
        label = method if seed == rows.loc[rows["method"] == method, "seed"].min() else None
        style = "o" if method == "exact" else ("o-" if method == "anytime" else "-")
        share = (run["hypervolume"] / exact).clip(lower=0.0)
        axes.plot(
            run["seconds"], share, style, drawstyle="steps-post", ms=5, lw=1.2, color=COLOURS[str(method)], label=label
        )
    axes.axhline(1.0, color="#bbbbbb", lw=0.8, zorder=0)
    axes.set(xscale="log", xlabel="seconds", ylabel="share of the exact front's hypervolume", ylim=(None, 1.01))
    first = rows.iloc[0]
    title = f"{first['table']}: at most {first['max_exits']} exits, {first['levels']} levels; {first['machine']}"
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, loc="upper left")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
