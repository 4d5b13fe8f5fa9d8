"""Can the weights alpha of joint training be a policy? Networks for new weights, interpolated rather than trained.

Joint trials share one pretrained start, so a few extreme weightings (the corners: every exit's weight low, and each
exit's high in turn) might span the others: the network for any alpha would then be a mean of the corners' weights, its
batch norm estimated anew, and cost forward passes and a solve instead of a training. For random alphas, log-uniform in
the range of the search space, the front of each of these is valued, on calibration and the same policies on test:

    dedicated     trained with this alpha: what the others are compared with
    interpolated  mixed from the corners. With u_i = log(alpha_i / low) / log(high / low), the corner where exit i is
                  high weighs u_i, the one where all are low 1 - sum u_i (barycentric coordinates in log alpha);
                  negative weights are set to 0, and all are divided by their sum
    extrapolated  as interpolated, but negative weights are kept
    nearest       the corner that is nearest in log alpha, as it was trained
    average       all corners weigh the same, whatever alpha is
    start         what all trainings start from: the backbone with the bank's heads

A front alone says what one alpha gives; "all" says what the merged front of all random alphas of a seed gives, as a
search would have it. Interpolation is accepted if it reaches 99 % of the hypervolume of dedicated training.

    python benchmarks/alpha.py --data fashion_mnist.npz [--train 20000] [--epochs 2] [--alphas 5] [--seeds 0 1]
                               [--out runs/alpha] [--summary CSV]

The runs and the raw rows are kept in --out; a second call goes on where the first one stopped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import islice, product
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.optim.swa_utils import update_bn

from eesearch.core.design import Design, content_key
from eesearch.core.front import Front
from eesearch.nets.exitnet import ExitNet
from eesearch.study.bank_problem import BankProblem
from eesearch.study.files import load_study
from eesearch.study.modes import build_problem
from eesearch.study.question import Study
from eesearch.study.rundir import open_run
from eesearch.training.samples import Batches, Samples

matplotlib.use("Agg")
import matplotlib.pyplot as plt

EXITS = 3
HEAD = {"kind": "linear", "pool": "mixed", "size": 2}
NORMALISED_ON = 4096
"""Training samples that the batch norm of a mixed network is estimated on."""

CALIBRATION = 0.2
"""Share of the training samples that calibrate: 1 % of a hypervolume is little."""

ENOUGH = 0.99
"""Share of the hypervolume of dedicated training at which interpolation is accepted."""

KEY = ["method", "alpha"]
METHODS = ("dedicated", "interpolated", "extrapolated", "nearest", "average", "start")
PASSES_A_MINUTE = 120_000
TRAINED_A_MINUTE = 45_000
"""Samples that one slow core looks at, and learns from."""


def first_samples(source: Path, train: int, folder: Path) -> Path:
    """The data with the first so many training samples, and half as many test samples."""
    kept = folder / f"first_{train}.npz"
    if not kept.exists():
        with np.load(source) as arrays:
            most = {"x_train": train, "y_train": train, "x_test": train // 2, "y_test": train // 2}
            np.savez(kept, **{name: arrays[name][: most.get(name)] for name in arrays.files})
    return kept


def question(data: Path, epochs: int, seed: int) -> Study:
    """The study whose backbone and placement are used: one head at each of three cuts."""
    fields = load_study("fashion_mnist").model_dump(mode="json")
    fields |= {"name": "alpha", "devices": ["macs"], "budget": {"trials": 1}, "seed": seed}
    fields["data"] |= {"source": str(data), "calibration": {"from": "train", "share": CALIBRATION}}
    fields["training"]["joint"] |= {"epochs": epochs, "lr": 0.001}
    cuts = {"candidates": "auto", "max_cuts": EXITS}
    fields["space"] |= {"cuts": cuts, "heads": [HEAD], "strategies": ["separate", "joint"], "gates": False}
    return Study.model_validate(fields)


def corners(low: float, high: float) -> NDArray[np.float64]:
    """Each exit's weight high in turn, then all low. [E + 1, E]"""
    return np.vstack([np.where(np.eye(EXITS) > 0.0, high, low), np.full(EXITS, low)])


def coefficients(alpha: NDArray[np.float64], low: float, high: float, *, clipped: bool) -> NDArray[np.float64]:
    """What each corner weighs in the network for an alpha [E]; they sum to 1. [E + 1]"""
    place = np.log(alpha / low) / np.log(high / low)
    weights = np.append(place, 1.0 - place.sum())
    if clipped:
        weights = weights.clip(0.0)
    return weights / weights.sum()


def nearest(alpha: NDArray[np.float64], low: float, high: float) -> int:
    """Number of the corner that is nearest in log alpha."""
    return int(np.linalg.norm(np.log(corners(low, high) / alpha), axis=1).argmin())


def mix(nets: Sequence[ExitNet], weights: NDArray[np.float64], batches: Batches) -> ExitNet:
    """The weighted mean of networks, its batch norm estimated on training samples as a training sees them."""
    net = ExitNet.from_arrays(nets[0].backbone, *nets[0].arrays())  # a copy
    with torch.no_grad():
        for mean, *others in zip(*(n.parameters() for n in (net, *nets)), strict=True):
            mean.copy_(sum(float(w) * other for w, other in zip(weights, others, strict=True)))
    update_bn(islice(batches.epoch(0), -(-NORMALISED_ON // max(batches.sizes))), net)
    net.refresh()
    return net


class Bench:
    """One study: what is trained, mixed and valued for one seed.

    Args:
        problem: Its bank carries the placement's heads and no others.
        alphas: How many random ones are drawn.
        rows: The file of raw rows.
    """

    def __init__(self, problem: BankProblem, alphas: int, rows: Path) -> None:
        self.problem, self.rows = problem, rows
        self.seed = problem.study.seed
        self.ends = problem.space.alpha.low, problem.space.alpha.high
        self.alphas = np.exp(np.random.default_rng(self.seed).uniform(*np.log(self.ends), (alphas, EXITS)))

    def trained(self, alpha: NDArray[np.float64]) -> Design:
        """What trains the placement with these weights. [E]"""
        params: dict[str, str | float] = {"strategy": self.problem.space.preferred}
        for cut, weight in zip(self.problem.cuts, alpha, strict=True):
            params |= {f"exit:{cut}": self.problem.space.heads[0].name, f"alpha:{cut}": float(weight)}
        design = self.problem.proposed(params)
        assert design is not None
        return design

    def mixed(self, alpha: NDArray[np.float64], method: str) -> Design:
        """The design under which the mixed network for these weights is stored, made now if it is not there."""
        weights = np.full(EXITS + 1, 1.0 / (EXITS + 1))
        if method != "average":
            weights = coefficients(alpha, *self.ends, clipped=method == "interpolated")
        made_of = [self.trained(corner) for corner in corners(*self.ends)]
        start = content_key("mixed", weights.tolist(), [design.key for design in made_of])
        design = self.trained(alpha).model_copy(update={"start": start})  # a key of its own
        store, workshop = self.problem.materials.store, self.problem.workshop
        if store.get("weights", design.key) is None:
            batches = Batches(Samples.of(self.problem.materials.dataset.train, self.seed), design.train)
            nets = [workshop.network(corner) for corner in made_of]
            store.put("weights", design.key, *mix(nets, weights, batches).arrays())
        return design

    def made(self, method: str, alpha: NDArray[np.float64]) -> tuple[Design, int, int]:
        """What a method has for an alpha: the design, samples that it learns from, and others that it looks at."""
        if method == "start":
            return self.problem.workshop.bank_design, 0, 0
        if method == "nearest":
            return self.trained(corners(*self.ends)[nearest(alpha, *self.ends)]), 0, 0
        if method in ("corner", "dedicated"):
            design = self.trained(alpha)
            return design, self.problem.workshop.work(design).samples, 0
        return self.mixed(self.alphas[0] if method == "average" else alpha, method), 0, NORMALISED_ON

    def value(self, designs: Sequence[Design]) -> dict[str, float]:
        """Hypervolume of the merged front on calibration, and of the same policies on test."""
        problem, profile = self.problem, self.problem.materials.profiles[0]
        by_key = {design.key: design for design in designs}
        front = problem.front([p for design in by_key.values() for p in problem.device_front(design, profile)], profile)
        reported = [problem.reported(point, by_key[point.design], profile) for point in front]
        backbone, drop = problem.backbone(profile, "test"), problem.study.objectives.max_drop
        test = Front(reported, backbone=backbone, axis=profile.axis, device=profile.device)
        return {"cal": problem.value([front]), "test": test.hypervolume(max_drop=drop)}

    def fill(self) -> pd.DataFrame:
        """Add the rows that are missing: of the corners, of every alpha, of all alphas together."""
        for number, corner in enumerate(corners(*self.ends)):
            self._row("corner", str(number), corner[None])
        for number, alpha in enumerate(self.alphas):
            for method in METHODS:
                self._row(method, str(number), alpha[None])
        for method in METHODS:
            self._row(method, "all", self.alphas)
        return pd.read_csv(self.rows, dtype={"alpha": str})

    def _row(self, method: str, name: str, alphas: NDArray[np.float64]) -> None:
        """Make and value a method's networks for some alphas, if the file has no row of this name."""
        known = pd.read_csv(self.rows, dtype={"alpha": str}) if self.rows.exists() else pd.DataFrame(columns=KEY)
        if (known[KEY].astype(str) == [method, name]).all(axis=1).any():
            return
        begun = time.process_time()
        designs, learnt, seen = zip(*(self.made(method, alpha) for alpha in alphas), strict=True)
        row: dict[str, str | float] = {"seed": self.seed, "method": method, "alpha": name}
        row |= {f"alpha_{i}": float(w) for i, w in enumerate(alphas[0])} if len(alphas) == 1 else {}
        row |= self.value(designs)
        row |= {"last_cal": self._last(designs, "cal"), "last_test": self._last(designs, "test")}
        row |= {"learnt": sum(learnt), "seen": sum(seen), "cpu_seconds": time.process_time() - begun}
        new = pd.DataFrame([row])
        (pd.concat([known, new]) if len(known) else new).to_csv(self.rows, index=False)
        print(f"seed {self.seed}, {method} {name}: {row['cal']:.4f}, on test {row['test']:.4f}", flush=True)

    def _last(self, designs: Sequence[Design], split: Literal["cal", "test"]) -> float:
        """Mean accuracy of the last exits."""
        return float(np.mean([self.problem.workshop.table(design, split).accuracy[-1] for design in designs]))


def compare(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per method, split, and single or merged fronts: hypervolume, and its share of dedicated training's.

    `gained` is the share of what dedicated training gains over the start: hypervolume that all have says nothing.
    Seconds are those of the first time: a network that is used again costs none, so merged fronts are nearly free.
    """
    told = []
    for merged, split, method in product((False, True), ("cal", "test"), METHODS):
        chosen = rows[(rows["alpha"] == "all") == merged]
        values = chosen.pivot_table(index=["seed", "alpha"], columns="method", values=split)
        ratio = values[method] / values["dedicated"]
        gained = (values[method] - values["start"]) / (values["dedicated"] - values["start"])
        own = chosen[chosen["method"] == method]
        row = {"fronts": "merged" if merged else "single", "split": split, "method": method, "count": len(own)}
        row |= {"value": values[method].mean(), "ratio_median": ratio.median(), "ratio_min": ratio.min()}
        row |= {"ratio_max": ratio.max(), "reaching_99": (ratio >= ENOUGH).mean(), "gained_median": gained.median()}
        row |= {"last_accuracy": own[f"last_{split}"].mean()}
        told.append(row | own[["learnt", "seen", "cpu_seconds"]].mean().to_dict())
    return pd.DataFrame(told)


def verdict(told: pd.DataFrame, rows: pd.DataFrame) -> str:
    """By the rule, on single fronts; and what the corners cost."""
    at = told[(told["fronts"] == "single") & (told["method"] == "interpolated")].set_index("split")
    shares = at[["ratio_median", "ratio_min", "ratio_max"]].itertuples(name=None)
    said = [f"{split}: median {median:.1%}, {low:.1%} to {high:.1%}" for split, median, low, high in shares]
    kept = (at["ratio_min"] >= ENOUGH).all()
    paid = rows[rows["method"] == "corner"].groupby("seed")[["learnt", "cpu_seconds"]].sum().mean()
    return (
        f"interpolated against dedicated, {'; '.join(said)}. {'Accepted' if kept else 'Kept out'}: every front has "
        f"{'at least' if kept else 'to reach'} {ENOUGH:.0%}. The corners cost {paid['learnt']:,.0f} training samples, "
        f"{paid['cpu_seconds']:.0f} s, once per seed."
    )


def plot(rows: pd.DataFrame, file: Path) -> None:
    """Every front against that of dedicated training."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    single = rows[(rows["alpha"] != "all") & (rows["method"] != "corner")]
    for axes, (split, name) in zip(panels, (("cal", "calibration"), ("test", "test")), strict=True):
        values = single.pivot_table(index=["seed", "alpha"], columns="method", values=split)
        for method, marker in zip(METHODS[1:], "osv^x", strict=True):
            axes.scatter(values["dedicated"], values[method], marker=marker, label=method, alpha=0.8)
        ends = np.array([values["dedicated"].min(), values["dedicated"].max()])
        axes.plot(ends, ends, color="black", linewidth=0.8, label="as good as dedicated")
        axes.plot(ends, ENOUGH * ends, color="black", linewidth=0.8, linestyle="--", label=f"{ENOUGH:.0%} of it")
        axes.set(xlabel="hypervolume, trained with this alpha", ylabel="hypervolume", title=name)
    panels[0].legend(fontsize="small")
    figure.savefig(file, dpi=120)


def main() -> None:
    """Read the command line, make and value what is missing, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--train", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=2, help="of each joint training")
    parser.add_argument("--alphas", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--out", type=Path, default=Path("runs/alpha"))
    parser.add_argument("--summary", type=Path, help="CSV file for the summary; in --out by default")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # sums in another order train another network
    trainings, looked_at = EXITS + 1 + asked.alphas, 3 * EXITS + 4 * asked.alphas
    minutes = (
        6 + trainings * asked.epochs
    ) * asked.train / TRAINED_A_MINUTE + looked_at * asked.train / PASSES_A_MINUTE
    print(f"{trainings} trainings a seed: about {len(asked.seeds) * minutes:.0f} minutes on one core", flush=True)
    data, parts = first_samples(asked.data, asked.train, asked.out), []
    for seed in asked.seeds:
        study = question(data, asked.epochs, seed)
        problem = build_problem(study, open_run(asked.out / f"run-{seed}", study))
        assert isinstance(problem, BankProblem)
        parts.append(Bench(problem, asked.alphas, asked.out / f"rows-{seed}.csv").fill())
    found = pd.concat(parts)
    told = compare(found)
    told.to_csv(asked.summary or asked.out / "summary.csv", index=False, float_format="%.4f")
    print(told.to_string(index=False, float_format="{:.4f}".format))
    print(verdict(told, found))
    plot(found, asked.out / "alpha.png")


if __name__ == "__main__":
    main()
