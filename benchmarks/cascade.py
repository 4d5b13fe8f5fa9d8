"""What do exits, whole networks in a row, and both together save at no loss? Many halvings of the samples of a run.

Calibration and test samples of a finished run of several networks are thrown together and halved anew, in both
directions: policies are chosen on one half and reported on the other. Costs are those of the run's profiles.

    python benchmarks/cascade.py RUN [--devices macs ...] [--halvings 20] [--exits 2] [--seconds 20] [--quick]

RUN is such as `eesearch search cifar10_cascade` makes. Rows go to cascade.csv: one per device, halving, direction, kind
of policy and way to pick (`naive`: what loses nothing on calibration; `corrected`: what is expected to lose nothing);
cascade.png shows them. Halvings that the file holds already are not repeated. Of a timed device, costs are what its
profile predicts; what points take by the clock, `eesearch verify` tells.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from eesearch.core.cascades import CascadeProfile
from eesearch.core.constraints import Constraints
from eesearch.core.costs import StageCosts, stage_costs
from eesearch.core.design import Cascade
from eesearch.core.front import Front
from eesearch.core.policy import Scoring
from eesearch.core.tables import ExitTable, reference_row
from eesearch.exits.evaluate import evaluate
from eesearch.solve.exact import solve_front
from eesearch.solve.family import Effort, Family
from eesearch.solve.optimism import fold_points, optimism
from eesearch.study.cascade_problem import MIXED, ONE, WHOLE, apart
from eesearch.study.materials import load_study_data
from eesearch.study.members import cascade_profile
from eesearch.study.run import Run
from eesearch.training.fits import fit_temperature

DEEPEST = 0.02
"""Fronts are searched down to this drop."""


COLORS = {"naive": "#b0b0b0", "corrected": "#1f77b4"}
"""Of the ways to pick."""


@dataclass(frozen=True)
class Subject:
    """A run's samples and costs.

    Attributes:
        table: Calibration and test as one.
        costs: On the device's axis.
    """

    table: ExitTable
    costs: StageCosts


def subject_of(run: Run, device: str) -> Subject:
    """What a run knows about all of its samples."""
    design = next(d for d in run.answers.designs.values() if isinstance(d, Cascade))
    kept = [run.directory.store.get("table", f"{design.key}-{split}") for split in ("cal", "test")]
    cal, test = (ExitTable.from_arrays(*each) for each in kept if each is not None)
    logits = np.concatenate([cal.logits, test.logits], axis=1)
    table = ExitTable(logits, np.concatenate([cal.labels, test.labels]), cal.exits, "cal", "all")
    example = load_study_data(run.question()).test.x[:2]
    profile: CascadeProfile = cascade_profile(run.question(), run.directory, device, design.reference, example)
    return Subject(table, stage_costs(profile, table.exits, "max_prob", profile.axis))


def of_kind(subject: Subject, kind: str) -> Subject:
    """What policies of one kind may use."""
    if kind == WHOLE:
        return replace(subject, table=subject.table.select([e for e in subject.table.exits if e.is_output]))
    return replace(subject, costs=apart(subject.costs)) if kind == ONE else subject


def rows_of(subject: Subject, halving: int, options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """All kinds of policies on one halving, in both directions."""
    order = np.random.default_rng(halving).permutation(len(subject.table.labels))
    first, second = np.array_split(order, 2)
    for direction, (chosen, reported) in enumerate(((first, second), (second, first))):
        for kind in (ONE, WHOLE, MIXED):
            start = time.monotonic()
            part = of_kind(subject, kind)
            for row in picked(part, chosen, reported, halving, options):
                yield (
                    {"halving": halving, "direction": direction, "kind": kind}
                    | row
                    | {"seconds": time.monotonic() - start}
                )


def picked(
    part: Subject, chosen: np.ndarray, reported: np.ndarray, seed: int, options: argparse.Namespace
) -> Iterator[dict[str, object]]:
    """The picks from the front of one half, on the other half."""
    cal, test = (_taken(part.table, rows) for rows in (chosen, reported))
    scoring = Scoring(fits=(fit_temperature(cal, seed=seed),))
    family = Family(options.exits, 24, Constraints(max_drop=DEEPEST))
    effort = Effort(seconds=options.seconds)
    front = solve_front(cal, part.costs, scoring=scoring, family=family, effort=effort)
    whole = reference_row(cal.exits)
    assert whole is not None
    folds = fold_points(cal, [part.costs], scoring, cal.correct[whole], fold=scoring.fold, family=family, effort=effort)
    gaps = optimism([folds])
    for name, expected in (("naive", ()), ("corrected", gaps)):
        point = _cheapest(front, expected)
        if point is None:
            yield {"pick": name, "ratio": 1.0, "drop": 0.0, "networks": "", "exact": False}
            continue
        told = evaluate(front[point].policy, test, [part.costs], scoring.fits)
        yield {
            "pick": name,
            "ratio": told.costs[part.costs.axis].mean / part.costs.backbone,
            "drop": float(test.accuracy[whole]) - told.accuracy,
            "networks": " > ".join(e.cut for e in told.policy.exits),
            "exact": front.certificate is not None and front.certificate.exact,
        }


def _taken(table: ExitTable, rows: np.ndarray) -> ExitTable:
    return ExitTable(table.logits[:, rows], table.labels[rows], table.exits, "cal", "half")


def _cheapest(front: Front, gaps: tuple[tuple[float, float], ...]) -> int | None:
    """The cheapest point that is expected to lose nothing."""
    for number, point in enumerate(front.points):
        drop = front.backbone.accuracy - point.accuracy
        gap = float(np.interp(drop, *zip(*gaps, strict=True))) if gaps else 0.0
        if max(drop, drop + gap) <= 1e-12:
            return number
    return None


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Cost against loss of every pick: a row per device, a column per kind of policy, crosses for the means."""
    kinds, devices = list(dict.fromkeys(rows["kind"])), list(dict.fromkeys(rows["device"]))
    figure = Figure(figsize=(4.2 * len(kinds), 3.5 * len(devices)), layout="constrained")
    axes = figure.subplots(len(devices), len(kinds), sharex=True, sharey=True, squeeze=False)
    for (device, kind), axis in zip(product(devices, kinds), axes.flat, strict=True):
        axis.axhline(0.0, color="#bbbbbb", lw=0.8, zorder=0)
        for pick, color in COLORS.items():
            part = rows[(rows["device"] == device) & (rows["kind"] == kind) & (rows["pick"] == pick)]
            loss = 100.0 * part["drop"]
            told = f"{pick}: {part['ratio'].mean():.2f} x, {loss.mean():+.2f} points lost"
            axis.scatter(part["ratio"], loss, s=16, color=color, alpha=0.45, linewidths=0)
            axis.scatter(part["ratio"].mean(), loss.mean(), s=90, marker="x", color=color, label=told)
        axis.set(title=f"{kind}, {device}", xlim=(0.0, 1.05))
        axis.margins(y=0.25)  # room for the legend
        axis.legend(frameon=False, fontsize=8, loc="lower left")
    for axis in axes[-1]:
        axis.set_xlabel("cost / reference's")
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy lost on the other half (points)")
    figure.savefig(path, dpi=100)


def main() -> None:
    """Halve, solve, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run of several networks")
    parser.add_argument("--halvings", type=int, default=20)
    parser.add_argument("--devices", nargs="+", default=["macs"], help="of the run")
    parser.add_argument("--exits", type=int, default=2, help="most exits of a policy")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the solver, per front")
    parser.add_argument("--quick", action="store_true", help="2 halvings, 3 seconds")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    if options.quick:
        options.halvings, options.seconds = 2, 3.0
    print(f"{platform.machine()}, numpy {np.__version__}")
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "cascade.csv"
    rows = pd.read_csv(file).to_dict("records") if file.exists() else []
    known = {(row["device"], row["halving"]) for row in rows}
    run = Run.load(options.run, trust=True)
    for device in options.devices:
        subject = subject_of(run, device)
        for halving in range(options.halvings):
            if (device, halving) not in known:
                rows += [{"device": device} | row for row in rows_of(subject, halving, options)]
                pd.DataFrame(rows).to_csv(file, index=False, float_format="%.6g")
    draw(pd.DataFrame(rows), options.out / "cascade.png")
    table = pd.DataFrame(rows).assign(drop=lambda t: 100.0 * t["drop"])
    summary = table.groupby(["device", "kind", "pick"], sort=False)[["ratio", "drop"]].agg(
        ["mean", "std", "min", "max"]
    )
    print(summary.round(3).to_string())


if __name__ == "__main__":
    main()
