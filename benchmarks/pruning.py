"""Do pruners stop the right designs? Every design of a study is trained to its end, and stopped afterwards, on paper.

Warm-started designs begin at the bank's front and at first lose at their last exit, so what a design is worth after one
epoch might say little about what it is worth in the end. Designs of the study's space, drawn at random, are trained in
full; their values after each epoch are the rows. Then, without any training: the rank correlation of the value after
each epoch with the final one; and each of the drivers' own pruners is shown the trials in many random orders: which
share of the epochs is spent, how often is the design that full training finds best among those that are kept, and what
does the best of the kept lack?

    python benchmarks/pruning.py --data fashion_mnist.npz [--train 20000] [--designs 16] [--epochs 6] [--seed 0]
                                 [--out runs/pruning] [--summary CSV]

The run and its rows are kept in --out; a second call goes on where the first one stopped.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
import optuna
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from eesearch.drivers.pruners import make_pruner
from eesearch.drivers.samplers import distributions
from eesearch.study.bank_problem import BankProblem
from eesearch.study.files import load_study
from eesearch.study.modes import build_problem
from eesearch.study.question import Study
from eesearch.study.rundir import open_run
from eesearch.study.trial import Params

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PRUNERS = ("asha", "hyperband", "median")
ORDERS = 200
"""Random orders in which a pruner is shown the trials."""


def first_samples(source: Path, train: int, folder: Path) -> Path:
    """The data with the first so many training samples only."""
    kept = folder / f"first_{train}.npz"
    if not kept.exists():
        with np.load(source) as arrays:
            given = {name: arrays[name] for name in arrays.files}
        np.savez(kept, **{name: v[:train] if name in ("x_train", "y_train") else v for name, v in given.items()})
    return kept


def question(data: Path, epochs: int, seed: int) -> Study:
    """The study whose designs are trained."""
    fields = load_study("fashion_mnist").model_dump(mode="json")
    fields |= {"name": "pruning", "devices": ["macs"], "budget": {"trials": 1}, "seed": seed}
    fields["data"]["source"] = str(data)
    fields["training"]["joint"] |= {"epochs": epochs, "lr": 0.001}
    fields["space"] |= {"cuts": {"candidates": "auto", "max_cuts": 6}, "gates": False}
    return Study.model_validate(fields)


def draw(problem: BankProblem, designs: int, seed: int) -> list[Params]:
    """Parameters of random designs, each different."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    found: dict[str, Params] = {}
    while len(found) < designs:
        params = study.ask(distributions(problem.parameters)).params
        design = problem.proposed(params)
        if design is not None:
            found.setdefault(design.key, params)
    return list(found.values())


def train(problem: BankProblem, drawn: list[Params], rows: Path) -> pd.DataFrame:
    """Train what the rows lack; a row per design and epoch."""
    done = pd.read_csv(rows) if rows.exists() else pd.DataFrame({"design": []})
    for number, params in enumerate(drawn):
        if number in set(done["design"]):
            continue
        design = problem.proposed(params)
        assert design is not None
        for kind in ("weights", "table"):  # of a training that a kill cut off, some epochs would tell nothing
            for file in problem.materials.store.path(kind, design.key).parent.glob(f"{design.key}*"):
                file.unlink()
        for file in (problem.materials.store.root.parent / "checkpoints").glob(f"{design.key}*"):
            file.unlink()
        start = time.perf_counter()
        told: list[tuple[int, float, float]] = []
        outcome = problem.run(params, partial(_note, told, start))
        _note(told, start, design.train.epochs, outcome.values[0])
        found = pd.DataFrame(told, columns=["epoch", "value", "seconds"])
        found.insert(0, "design", number)
        found["last_accuracy"] = outcome.last_accuracy
        done = pd.concat([done, found])
        done.to_csv(rows, index=False)
        print(f"design {number}: {', '.join(f'{value:.4f}' for _, value, _ in told)}", flush=True)
    return done


def _note(told: list[tuple[int, float, float]], start: float, epochs: int, value: float) -> bool:
    told.append((epochs, value, time.perf_counter() - start))
    return False


def replay(values: NDArray[np.float64], pruner: str, seed: int) -> tuple[list[int], list[int]]:
    """Show the designs in a random order to a pruner: which are kept, and how many epochs each got.

    Args:
        values: After each epoch. [D, T]
        pruner: Of the drivers.
        seed: Of the order.
    """
    epochs = values.shape[1]
    study = optuna.create_study(direction="maximize", pruner=make_pruner(pruner, epochs), study_name=f"replay {seed}")
    kept, spent = [], [0] * len(values)
    for number in np.random.default_rng(seed).permutation(len(values)):
        trial = study.ask()
        for epoch in range(1, epochs + 1):
            spent[number] = epoch
            if epoch == epochs:
                study.tell(trial, values[number, -1])
                kept.append(int(number))
                break
            trial.report(values[number, epoch - 1], epoch)
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
    return kept, spent


def judge(values: NDArray[np.float64], seconds: NDArray[np.float64]) -> pd.DataFrame:
    """A row per pruner, and per epoch the rank correlation with the end.

    Args:
        values: After each epoch. [D, T]
        seconds: Since the design's start, what looking at it takes included. [D, T]
    """
    rows, best, span = [], int(values[:, -1].argmax()), float(np.ptp(values[:, -1]))
    for epoch in range(1, values.shape[1]):
        rho = spearmanr(values[:, epoch - 1], values[:, -1]).statistic
        rows.append({"what": f"rank correlation of epoch {epoch} with the last", "value": rho})
    for pruner in PRUNERS:
        found = [replay(values, pruner, seed) for seed in range(ORDERS)]
        paid = [sum(seconds[d, epochs - 1] for d, epochs in enumerate(spent)) for _, spent in found]
        rows += [
            {"what": f"{pruner}: speed-up in epochs", "value": values.size / np.mean([sum(s) for _, s in found])},
            {"what": f"{pruner}: speed-up in seconds", "value": seconds[:, -1].sum() / np.mean(paid)},
            {"what": f"{pruner}: kept", "value": np.mean([len(kept) for kept, _ in found])},
            {"what": f"{pruner}: best design kept", "value": np.mean([best in kept for kept, _ in found])},
            {
                "what": f"{pruner}: lost by the best kept, of the spread of final values",
                "value": np.mean([values[best, -1] - values[kept, -1].max() for kept, _ in found]) / span,
            },
        ]
    return pd.DataFrame(rows)


def plot(values: NDArray[np.float64], file: Path) -> None:
    """Each design's value by epoch, coloured by how good it is in the end."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    rank = values[:, -1].argsort().argsort() / max(len(values) - 1, 1)
    for curve, colour in zip(values, plt.get_cmap("viridis")(rank), strict=True):
        axes.plot(range(1, values.shape[1] + 1), curve, color=colour)
    axes.set(xlabel="epochs", ylabel="value (hypervolume)", title="Designs by epoch; the lighter, the better at last")
    figure.savefig(file, dpi=120)


def main() -> None:
    """Read the command line, train what is missing, judge the pruners."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--train", type=int, default=20_000)
    parser.add_argument("--designs", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/pruning"))
    parser.add_argument("--summary", type=Path)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)  # sums in another order train another network
    samples = asked.train * asked.epochs * asked.designs
    print(f"{asked.designs} designs, {samples:,} training samples: about {samples / 60_000:.0f} minutes on one core")
    study = question(first_samples(asked.data, asked.train, asked.out), asked.epochs, asked.seed)
    problem = build_problem(study, open_run(asked.out / "run", study))
    assert isinstance(problem, BankProblem)
    rows = train(problem, draw(problem, asked.designs, asked.seed), asked.out / "rows.csv")
    values, seconds = (rows.pivot(index="design", columns="epoch", values=v).to_numpy() for v in ("value", "seconds"))
    found = judge(values, seconds)
    print(found.to_string(index=False, float_format="{:.3f}".format))
    found.to_csv(asked.summary or asked.out / "summary.csv", index=False)
    plot(values, asked.out / "pruning.png")


if __name__ == "__main__":
    main()
