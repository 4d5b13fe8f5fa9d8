"""Which sampler, told what of a trial's front, finds good designs soonest: replayed on designs that were trained once.

The pool: the digits with a small network, four cuts that carry no head, a linear one trained at either of two weights
alpha, or a small MLP: 255 designs, all trained jointly and solved for counted MACs, some seconds each. A search then
looks its trials up: trial 0 is the bank, then come the placements of the seeding rules, then a sampler proposes,
through the very code of the drivers. A proposal stands for the nearest design of the pool that was not looked up yet:
real weights are continuous, so no design is proposed twice. What is written after 10, 20, 40 and 80 trials: how much of
the hypervolume that the whole pool adds to the bank's the merged calibration front has (0: none, 1: all), and the
hypervolume of the same policies on test.

    python benchmarks/samplers.py [--quick] [--seeds 20] [--budget 30] [--out runs/samplers] [--summary CSV]

The pool and the raw rows are kept in --out; a second call adds what is missing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import optuna
import pandas as pd
import torch
from numpy.typing import NDArray
from optuna.trial import create_trial

from eesearch.core.design import Design, ExitSpec, HeadSpec, TrainSpec, content_key
from eesearch.core.front import hypervolume
from eesearch.drivers.guides import Asked, Proposer
from eesearch.drivers.samplers import distributions
from eesearch.study.bank_problem import BankProblem
from eesearch.study.files import load_study
from eesearch.study.modes import build_problem
from eesearch.study.question import Study
from eesearch.study.rundir import open_run
from eesearch.study.space import NO_EXIT, Choice, LogFloat, Parameter
from eesearch.study.trial import Outcome, Params

ALPHAS = {"linear-mixed2": (0.2, 2.0), "mlp32-mixed2": (2.0,)}
"""Weights that the pool's designs were trained with, by head."""

CHECKPOINTS = (10, 20, 40, 80)
PLAYERS = (
    *(("tpe", guide) for guide in ("hypervolume", "gain", "accuracies", "scalarized")),
    ("random", "hypervolume"),
    *(("samplers:Together", guide) for guide in ("hypervolume", "gain", "scalarized")),
    ("nsga2", "hypervolume"),
    ("nsga2", "accuracies"),
    ("gp", "hypervolume"),
)
SLOW = {"gp": 40}
"""Samplers that take a second or more for a proposal, and how many trials they get."""

KEY = ["sampler", "guide", "seed"]


class Together(optuna.samplers.TPESampler):
    """TPE that looks at all parameters together, as `auto` does where trials are few; named by its import path."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed=seed, multivariate=True)


Exits = tuple[tuple[str, str, float], ...]
"""What a design of the pool is known by: (cut, head, alpha) of each exit."""

BANK: Exits = (("bank", "", 0.0),)


@dataclass(frozen=True, eq=False)
class Pool:
    """Trained designs, and the question that a replayed search asks; a `SearchProblem` as far as proposals go.

    Attributes:
        facts: Cuts, heads, alpha's range, the backbone's errors, the seeds, the bank's front.
        trained: (error, cost / backbone's cost) of every design's policies on calibration and on test. [P, 2] each
    """

    facts: Mapping[str, Any]
    trained: Mapping[Exits, Mapping[str, NDArray[np.float64]]]
    directions = ("maximize",)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Those of a bank search over the pool's cuts and heads."""
        low, high = self.facts["alpha"]
        flat: list[Parameter] = [Choice("strategy", ("joint",))]
        for cut, heads in self.facts["heads"].items():
            flat += [Choice(f"exit:{cut}", (NO_EXIT, *heads)), LogFloat(f"alpha:{cut}", low, high)]
        return tuple(flat)

    @property
    def reference(self) -> tuple[tuple[float, float], ...]:
        """Of its one device."""
        own = self.facts["backbone"]["cal"]
        return ((own, own + self.facts["max_drop"]),)

    def nearest(self, params: Params, used: Collection[Exits], seed: int) -> tuple[Exits, Params]:
        """The unused design that differs least from a proposal: in heads, then in weights; and its parameters."""
        wanted = {cut: (str(params[f"exit:{cut}"]), float(params[f"alpha:{cut}"])) for cut in self.facts["cuts"]}

        def distance(exits: Exits) -> tuple[float, str]:
            there = {cut: (head, alpha) for cut, head, alpha in exits}
            far = 0.0
            for cut, (head, alpha) in wanted.items():
                found, weight = there.get(cut, (NO_EXIT, alpha))
                far += found != head or abs(np.log(weight / alpha)) / 10.0
            return far, content_key(seed, exits)

        chosen = min((exits for exits in self.trained if exits not in used), key=distance)
        there = {cut: (head, alpha) for cut, head, alpha in chosen}
        told: dict[str, str | float] = {"strategy": "joint"}
        for cut, (_, alpha) in wanted.items():
            told |= {f"exit:{cut}": there.get(cut, (NO_EXIT,))[0], f"alpha:{cut}": there.get(cut, ("", alpha))[1]}
        return chosen, told

    def outcome(self, exits: Exits) -> Outcome:
        """What is stored with a trial; without exits it is the backbone itself."""
        specs = tuple(ExitSpec(cut=cut, head=HEADS.get(head, HeadSpec()), alpha=alpha) for cut, head, alpha in exits)
        made = {"backbone": "pool", "data": "pool", "strategy": "joint", "train": TrainSpec(), "seed": 0}
        design = Design(**made, exits=specs) if specs else None
        return Outcome(design=design, values=(self.value([exits], "cal"),))

    def fronts(self, outcome: Outcome) -> tuple[tuple[tuple[float, float], ...], ...]:
        """Points of a design on calibration."""
        return (tuple(map(tuple, self.trained[exits_of(outcome)]["cal"].tolist())),)

    def value(self, designs: Sequence[Exits], split: str) -> float:
        """Hypervolume on a split of the policies that are non-dominated on calibration, of all these designs."""
        cal, points = (np.concatenate([self.trained[exits][s] for exits in designs]) for s in ("cal", split))
        if not len(cal):
            return 0.0  # the backbone itself: no error more, nothing saved
        best = moocore.is_nondominated(cal)
        return hypervolume(points[best], self.facts["backbone"][split] + self.facts["max_drop"])

    def found(self, designs: Sequence[Exits]) -> dict[str, float]:
        """What a search that trained these has."""
        return {
            "cal": (self.value(designs, "cal") - self.least) / (self.most - self.least),
            "test": self.value(designs, "test"),
        }

    @cached_property
    def least(self) -> float:
        """What every search has: the bank's hypervolume on calibration."""
        return self.value([BANK], "cal")

    @cached_property
    def most(self) -> float:
        """What no search can exceed: that of all designs together."""
        return self.value(list(self.trained), "cal")


HEADS = {h.name: h for h in (HeadSpec(pool="mixed", size=2), HeadSpec(kind="mlp", pool="mixed", size=2, hidden=(32,)))}


def exits_of(outcome: Outcome) -> Exits:
    """The design's name in the pool."""
    if outcome.design is None:
        return ()
    exits = tuple((e.cut, e.head.name, e.alpha) for e in outcome.design.exits)
    return BANK if exits[0][0] == BANK[0][0] else exits


def question() -> Study:
    """The study that the pool answers."""
    fields = load_study("digits").model_dump(mode="json")
    fields["backbones"][0]["args"]["channels"] = [8, 16, 32]
    fields["training"]["joint"] |= {"batch_size": 128, "lr": 0.001, "epochs": 3}
    fields |= {"name": "samplers", "devices": ["macs"], "budget": {"trials": 1}}
    heads = [head.model_dump(mode="json") for head in HEADS.values()]
    fields["space"] |= {"cuts": {"candidates": "auto", "max_cuts": 4}, "heads": heads, "gates": False}
    return Study.model_validate(fields)


def complete(folder: Path, minutes: float) -> Pool | None:
    """Train what the pool lacks; None if the time was too short."""
    pool, end = load(folder), time.monotonic() + 60 * minutes
    if pool is not None and not missing(pool):
        return pool
    torch.set_num_threads(1)  # sums in another order train another network
    problem = build_problem(question(), open_run(folder / "run", question()))
    assert isinstance(problem, BankProblem)
    if pool is None:
        (folder / "facts.json").write_text(json.dumps(facts(problem)))
        pool = load(folder)
        assert pool is not None
    todo = missing(pool)
    print(f"training {len(todo)} designs, about {len(todo) / 20:.0f} minutes")
    with (folder / "pool.jsonl").open("a") as file:
        for exits in todo:
            if time.monotonic() > end:
                return None
            file.write(json.dumps({"exits": exits} | points(problem, trained(problem, exits))) + "\n")
    return load(folder)


def load(folder: Path) -> Pool | None:
    """What is there of the pool."""
    if not (folder / "facts.json").exists():
        return None
    known = json.loads((folder / "facts.json").read_text())
    designs: dict[Exits, Mapping[str, NDArray[np.float64]]] = {(): arrays({"cal": [], "test": []})}
    file = folder / "pool.jsonl"
    for line in file.read_text().splitlines() if file.exists() else ():
        design = json.loads(line)
        designs[tuple(map(tuple, design["exits"]))] = arrays(design)
    return Pool(known, {BANK: arrays(known["bank"])} | designs)


def arrays(record: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    """A design's points as arrays."""
    return {split: np.array(record[split], np.float64).reshape(-1, 2) for split in ("cal", "test")}


def missing(pool: Pool) -> list[Exits]:
    """Designs that are not trained yet."""
    options = [
        [None, *((cut, head, alpha) for head in heads for alpha in ALPHAS[head])]
        for cut, heads in pool.facts["heads"].items()
    ]
    every = (tuple(exit for exit in exits if exit) for exits in product(*options))
    return [exits for exits in every if exits not in pool.trained]


def facts(problem: BankProblem) -> dict[str, Any]:
    """What replayed searches need to know of the study."""
    problem.first()
    profile, alpha = problem.materials.profiles[0], problem.space.alpha
    return {
        "cuts": problem.cuts,
        "heads": {cut: [h.name for h in heads] for cut, heads in problem.materials.heads.items()},
        "alpha": (alpha.low, alpha.high),
        "backbone": {split: problem.backbone(profile, split).error for split in ("cal", "test")},
        "max_drop": problem.study.objectives.max_drop,
        "seeds": [(rule, dict(params)) for rule, params in problem.seeds()],
        "bank": points(problem, problem.workshop.bank_design),
    }


def trained(problem: BankProblem, exits: Exits) -> Design:
    """Train a design of the pool."""
    params: dict[str, str | float] = {"strategy": "joint"}
    for cut in problem.cuts:
        params |= {f"exit:{cut}": NO_EXIT, f"alpha:{cut}": 1.0}
    for cut, head, alpha in exits:
        params |= {f"exit:{cut}": head, f"alpha:{cut}": alpha}
    design = problem.run(params).design
    assert design is not None
    return design


def points(problem: BankProblem, design: Design) -> dict[str, list[tuple[float, float]]]:
    """A design's calibration front, and the same policies on test."""
    profile = problem.materials.profiles[0]
    front = problem.device_front(design, profile).points
    found = {"cal": front, "test": [problem.reported(e, design, profile) for e in front]}
    unit = {split: problem.backbone(profile, split).costs["macs"].mean for split in found}
    return {split: [(e.error, e.costs["macs"].mean / unit[split]) for e in all_] for split, all_ in found.items()}


def play(pool: Pool, sampler: str, guide: str, seed: int, trials: int) -> pd.DataFrame:
    """One replayed search; a row per checkpoint."""
    study = optuna.create_study(direction="maximize")
    proposer = Proposer(pool, Asked(sampler, guide, seed, trials))  # a pool has what a proposer looks at
    space, seeds = distributions(pool.parameters), [params for _, params in pool.facts["seeds"]]
    designs, bank = [BANK], pool.outcome(BANK)
    study.add_trial(create_trial(values=list(bank.values), user_attrs={"outcome": bank.model_dump_json()}))
    rows, thinking = [], 0.0
    for number in range(1, trials):
        begun = time.perf_counter()
        params = seeds[number - 1] if number <= len(seeds) else proposer.propose(study, number)
        thinking += time.perf_counter() - begun
        design, params = pool.nearest(params, designs, seed)
        outcome = pool.outcome(design)
        attributes = {"outcome": outcome.model_dump_json()}
        study.add_trial(
            create_trial(values=list(outcome.values), params=dict(params), distributions=space, user_attrs=attributes)
        )
        designs.append(design)
        if len(designs) in CHECKPOINTS:
            rows.append({"trials": len(designs), **pool.found(designs), "seconds": thinking})
    return pd.DataFrame(rows).assign(sampler=sampler, guide=guide, seed=seed)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Per player and checkpoint: mean and quartiles, and the difference to TPE told hypervolumes, seed by seed."""
    base = rows[(rows["sampler"] == "tpe") & (rows["guide"] == "hypervolume")].set_index(["trials", "seed"])
    told = []
    for (sampler, guide, trials), group in rows.groupby(["sampler", "guide", "trials"], sort=False):
        at = group.set_index(["trials", "seed"])
        row = {"sampler": sampler, "guide": guide, "trials": trials, "seeds": len(group)}
        for split in ("cal", "test"):
            q25, q50, q75 = group[split].quantile([0.25, 0.5, 0.75])
            difference = (at[split] - base[split]).dropna()
            error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else np.nan
            row |= {f"{split}_mean": group[split].mean(), f"{split}_q25": q25, f"{split}_median": q50}
            row |= {f"{split}_q75": q75, f"{split}_difference": difference.mean(), f"{split}_error": error}
        row["seconds_per_proposal"] = group["seconds"].mean() / trials
        told.append(row)
    return pd.DataFrame(told).sort_values(["trials", "cal_mean"], ascending=[True, False], ignore_index=True)


def main() -> None:
    """Read the options, train and play what is missing, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two seeds")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budget", type=float, default=30.0, help="minutes in all; nothing is begun after that")
    parser.add_argument("--only", default="", help="samplers to play, separated by commas; all by default")
    parser.add_argument("--out", type=Path, default=Path("runs/samplers"))
    parser.add_argument("--summary", type=Path, help="CSV file for the summary; in --out by default")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    end = time.monotonic() + 60 * options.budget
    pool = complete(options.out, options.budget)
    if pool is None:
        print("the pool is not complete; run this again")
        return
    file = options.out / "rows.csv"
    rows = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=[*KEY, "trials"])
    chosen = [p for p in PLAYERS if not options.only or p[0] in options.only.split(",")]
    for seed, (sampler, guide) in product(range(2 if options.quick else options.seeds), chosen):
        done = (rows[KEY] == pd.Series({"sampler": sampler, "guide": guide, "seed": seed})).all(axis=1).any()
        if done or time.monotonic() > end:
            continue
        new = play(pool, sampler, guide, seed, SLOW.get(sampler, CHECKPOINTS[-1]))
        rows = pd.concat([rows, new[[*KEY, *new.columns.drop(KEY)]]]) if len(rows) else new
        rows.to_csv(file, index=False)
    told = summary(rows)
    told.to_csv(options.summary or options.out / "summary.csv", index=False, float_format="%.4f")
    print(told.to_string(index=False, float_format="%.4f"))


if __name__ == "__main__":
    main()
