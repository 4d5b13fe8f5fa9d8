"""Who searches in `search_cost.py`: our search, and what people would use instead, each from the same trained network.

A rival is a function `(arena, seed) -> what it had found by when`. Time is charged in a rival's favour: the trials of
those that run in our own framework are charged with what training, tables and evaluation took, not with our answers and
reports; our own search is charged with all that the clock on the wall says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, combinations, product
from math import inf
from typing import Any

import moocore
import numpy as np
import optuna
from arena import Arena, Found, Player, Points, figures, looked_up, reopened
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from solver import Game

from eesearch.answering import Watchers
from eesearch.api import search_study
from eesearch.core.design import Design, ExitSpec, HeadSpec
from eesearch.core.policy import Policy, Scoring
from eesearch.solve.baselines import sdn
from eesearch.solve.family import Family
from eesearch.solve.placed import SDN_SHARES, Placed, thresholded
from eesearch.study.problem import Problem
from eesearch.study.trial import Finished

SDN_EPOCHS = (1, 4)
"""Of the one design that needs no search: as short as everybody's, and longer."""

NACHOS_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The seven values of the one threshold."""

NACHOS_FIRST, NACHOS_EACH = 6, 2
"""Random candidates before there is a surrogate, and candidates per generation of it."""

DRAFT = 0.1
"""Share of the training samples that our first front is learnt from."""

TABLE_SECONDS = 300.0
"""Most seconds of a search that trains nothing beyond the bank."""

TRIALS = 60
"""What everybody says that the budget is, more than the clock allows: NSGA-II makes populations of ten of it."""


class Stopwatch:
    """Seconds since it was made, without those that were forgiven."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """So far."""
        return time.monotonic() - self._begun

    def forgive(self, seconds: float) -> None:
        """Do not count some of them."""
        self._begun += seconds


def eesearch(arena: Arena, seed: int) -> list[Found]:
    """Our search, by the clock on the wall; a draft of its bank comes first, learnt from a tenth of the samples."""
    study = arena.study(budget={"trials": TRIALS, "timeout": arena.clock}, training__draft=DRAFT)
    path, watch, ended = arena.run("eesearch", study), Stopwatch(), list[tuple[float, Finished]]()
    search_study(study, path, watchers=Watchers(trial=lambda trial: ended.append((watch.seconds, trial))))
    return _trials(reopened(study, path), ended)


def joint_trials(sampler: str) -> Player:
    """Every trial trains a design and draws its thresholds: `mode: joint-trials`, with one of Optuna's samplers."""
    return partial(_joint_trials, sampler)


def _joint_trials(sampler: str, arena: Arena, seed: int) -> list[Found]:
    study = arena.study(mode="joint-trials", sampler=sampler, budget={"trials": TRIALS, "timeout": arena.clock})
    path, ended = arena.run(sampler, study), list[Finished]()
    search_study(study, path, watchers=Watchers(trial=ended.append))
    spent = accumulate(trial.seconds for trial in ended)
    return _trials(reopened(study, path), list(zip(spent, ended, strict=True)))


def _trials(problem: Problem, ended: Sequence[tuple[float, Finished]]) -> list[Found]:
    found, samples, profile = [], 0, problem.materials.profiles[0]
    for seconds, trial in ended:
        samples += trial.samples
        if trial.outcome is not None:
            points = problem.points(trial.outcome, profile)
            found.append(Found(seconds, samples, *figures(problem, points, trial.outcome.design)))
    return found


def placed_design(problem: Problem, exits: Sequence[tuple[str, HeadSpec]], epochs: int | None = None) -> Design:
    """A design that is trained jointly from the trained network, with random heads."""
    joint = problem.study.training.joint
    bank = problem.workshop.bank_design
    return problem.weighed(
        Design(
            backbone=bank.backbone,
            data=bank.data,
            strategy=problem.space.preferred,
            exits=tuple(ExitSpec(cut=cut, head=head) for cut, head in exits),
            train=joint if epochs is None else joint.model_copy(update={"epochs": epochs}),
            seed=problem.study.seed,
        )
    )


def near(problem: Problem, shares: Sequence[float]) -> list[str]:
    """The cuts nearest to given shares of the multiply-adds."""
    macs = problem.materials.profiles[0].macs_prefix
    passed = np.array(macs[:-1]) / macs[-1]
    return [problem.cuts[i] for i in np.unique([np.abs(passed - share).argmin() for share in shares])]


def sdn_placement(arena: Arena, seed: int) -> list[Found]:
    """Shallow-deep networks: six exits at 15 to 90 % of the cost, trained jointly, one shared threshold swept."""
    problem = arena.problem("sdn")
    profile, watch, found, samples = problem.materials.profiles[0], Stopwatch(), list[Found](), 0
    exits = [(cut, problem.materials.heads[cut][-1]) for cut in near(problem, SDN_SHARES)]
    for epochs in SDN_EPOCHS:
        if watch.seconds > arena.clock:
            break
        design = placed_design(problem, exits, epochs)
        samples += problem.workshop.work(design).samples
        table, costs = problem.replay(design, profile, "max_prob", "cal")
        fits = problem.workshop.scoring(design, "max_prob").fits
        candidates = [(policy, used) for used in ((), fits) for policy in sdn(table, costs[0], used)]
        seconds, looking = watch.seconds, Stopwatch()
        found.append(Found(seconds, samples, *looked_up(problem, design, candidates)))
        watch.forgive(looking.seconds)
    return found


def nachos(arena: Arena, seed: int) -> list[Found]:
    """As NACHOS (Gambella et al. 2024) goes about it: NSGA-II on surrogates proposes placements, which are trained.

    What is varied is which cuts carry an exit; all have the same head, and one threshold of seven values, which is then
    repaired exit by exit. Its backbones are drawn from a supernet; here the network is given. More generous than the
    paper: every threshold of every candidate may enter the front. The surrogates are Gaussian processes.
    """
    problem = arena.problem("nachos")
    rng, cuts, most = np.random.default_rng(seed), problem.cuts, problem.space.max_exits
    watch, found, samples = Stopwatch(), list[Found](), 0
    deepest = problem.reference[0][1]
    known: dict[tuple[int, ...], tuple[float, float]] = {}
    while watch.seconds < arena.clock:
        codes = _proposed(known, len(cuts), most, rng)
        if not codes:
            break  # all are trained
        for code in codes:
            exits = [(cut, problem.materials.heads[cut][-1]) for cut, there in zip(cuts, code, strict=True) if there]
            design = placed_design(problem, exits)
            samples += problem.workshop.work(design).samples
            candidates = [(policy, ()) for policy in _repaired(problem, design)]
            seconds, looking = watch.seconds, Stopwatch()
            cal, test = looked_up(problem, design, candidates)
            watch.forgive(looking.seconds)
            known[code] = _stands_for(cal, deepest)
            found.append(Found(seconds, samples, cal, test))
            if watch.seconds > arena.clock:
                break
    return found


def _stands_for(points: Points, deepest: float) -> tuple[float, float]:
    """The point of a candidate that dominates most of what counts; where none counts, the most accurate one."""
    areas = np.maximum(deepest - points[:, 0], 0.0) * np.maximum(1.0 - points[:, 1], 0.0)
    error, cost = points[areas.argmax() if areas.any() else points[:, 0].argmin()]
    return float(error), float(cost)


def _proposed(
    known: dict[tuple[int, ...], tuple[float, float]], cuts: int, most: int, rng: np.random.Generator
) -> list[tuple[int, ...]]:
    """Placements to train next: random ones at first, then those that the surrogates believe in."""
    everyone = [
        tuple(int(i in c) for i in range(cuts)) for k in range(1, most + 1) for c in combinations(range(cuts), k)
    ]
    fresh = [code for code in everyone if code not in known]
    if len(known) < NACHOS_FIRST or len(fresh) <= NACHOS_EACH:
        return [fresh[i] for i in rng.choice(len(fresh), min(NACHOS_EACH, len(fresh)), replace=False)]
    kernel = ConstantKernel() * RBF(2.0) + WhiteKernel(1e-4, (1e-8, 1e-1))
    x, y = np.array(list(known), float), np.array(list(known.values()))
    models = [GaussianProcessRegressor(kernel, normalize_y=True, random_state=0).fit(x, target) for target in y.T]
    study = optuna.create_study(
        directions=["minimize", "minimize"],
        sampler=optuna.samplers.NSGAIISampler(population_size=20, seed=int(rng.integers(2**31))),
    )
    said = np.stack([model.predict(np.array(everyone, float)) for model in models], axis=1)
    beliefs = dict(zip(everyone, said, strict=True))

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        code = tuple(trial.suggest_int(f"cut{i}", 0, 1) for i in range(cuts))
        error, cost = beliefs.get(code, (1.0, 2.0))  # too many exits, or none
        return float(error), float(cost)

    study.optimize(objective, n_trials=200)
    best = [tuple(trial.params.values()) for trial in study.best_trials]
    hoped = [code for code in dict.fromkeys(best) if code in beliefs and code not in known] or fresh
    return [hoped[i] for i in rng.choice(len(hoped), min(NACHOS_EACH, len(hoped)), replace=False)]


def _repaired(problem: Problem, design: Design) -> list[Policy]:
    """One threshold for all exits, of seven values; then an exit's is raised as long as calibration gets better."""
    profile = problem.materials.profiles[0]
    table, costs = problem.replay(design, profile, "max_prob", "cal")
    here = Placed.of(table, costs[0], range(len(table.exits)), Scoring())
    steps, candidates = [*NACHOS_THRESHOLDS, inf], []

    def right(thresholds: Sequence[float]) -> float:
        leaves = here.scores[:-1] >= np.array(thresholds)[:, None]
        first = np.where(leaves.any(0), leaves.argmax(0), here.early)
        return float(here.correct[first, np.arange(len(first))].mean())

    for start in range(len(NACHOS_THRESHOLDS)):
        at = [start] * here.early
        candidates.append(at.copy())
        for k in range(here.early):
            while at[k] + 1 < len(steps):
                raised = [*at[:k], at[k] + 1, *at[k + 1 :]]
                if right([steps[i] for i in raised]) <= right([steps[i] for i in at]):
                    break
                at = raised
        candidates.append(at)
    return [thresholded(here.exits, [steps[i] for i in at], Scoring()) for at in candidates]


def bank_nsga2(arena: Arena, seed: int) -> list[Found]:
    """Our bank, and NSGA-II instead of the exact solver; policies are evaluated by passes over its bitsets.

    It chooses among the solver's levels. Thresholds are not refined afterwards.
    """

    def rounds(game: Game, reported: Game, watch: Stopwatch) -> list[tuple[float, Points, Points]]:
        sampler = optuna.samplers.NSGAIISampler(seed=seed)
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        told, tried, end = [], dict[Any, tuple[int, float]](), watch.seconds + min(TABLE_SECONDS, arena.clock)
        while watch.seconds < end:
            until = watch.seconds + 0.1 * max(10.0, watch.seconds)  # looks at the front are spread on a log axis
            new = dict[Any, tuple[int, float]]()
            while watch.seconds < min(until, end):
                trial = study.ask()
                policy = game.chosen(trial)
                point = game.evaluate(*policy)
                study.tell(trial, point)
                if policy not in tried:
                    new[policy] = tried[policy] = point
            told.append((watch.seconds, *_both(game, reported, new)))
        return told

    return _on_bank(arena, "bank-nsga2", rounds)


def exhaustive(arena: Arena, seed: int) -> list[Found]:
    """As MESS (Kouris et al. 2021) goes about it: trained once, then every placement, with one number for thresholds.

    That is a quantile of its scores at every exit, so that each lets the same share go; 24 of them are tried.
    """

    def rounds(game: Game, reported: Game, watch: Stopwatch) -> list[tuple[float, Points, Points]]:
        own, most = len(game.table.exits) - 1, game.family.max_exits
        rows = [row for row in range(own) if len(game.leaves[row])]
        paths = [p for k in range(1, most + 1) for p in combinations(rows, k)]
        cut = [e.cut for e in game.table.exits]
        found = {}
        for path, level, last in product(paths, range(game.family.levels or 1), (own, None)):
            if len({cut[row] for row in path}) == len(path):
                policy = tuple((row, min(level, len(game.leaves[row]) - 1)) for row in path), last
                found[policy] = game.evaluate(*policy)
        return [(watch.seconds, *_both(game, reported, found))]

    return _on_bank(arena, "exhaustive", rounds)


def _on_bank(arena: Arena, name: str, search: Callable[..., list[tuple[float, Points, Points]]]) -> list[Found]:
    watch = Stopwatch()
    problem = arena.problem(name)
    bank, profile = problem.workshop.bank_design, problem.materials.profiles[0]
    table, costs = problem.replay(bank, profile, "max_prob", "cal")
    scoring = problem.workshop.scoring(bank, "max_prob")
    looking = Stopwatch()
    test = problem.replay(bank, profile, "max_prob", "test")[0]
    watch.forgive(looking.seconds)
    game = Game.of(table, costs[0], Family(problem.space.max_exits, int(problem.space.levels)), scoring)
    told = search(game, game.on(test), watch)
    samples = problem.workshop.work(bank).samples
    return [Found(seconds, samples, cal, test) for seconds, cal, test in told]


def _both(game: Game, reported: Game, found: dict[Any, tuple[int, float]]) -> tuple[Points, Points]:
    """Figures on both splits of what nothing beats on calibration."""
    cal = np.array(list(found.values()), np.float64).reshape(-1, 2)
    best = np.flatnonzero(moocore.is_nondominated(cal)) if len(cal) else []
    policies = list(found)
    test = np.array([reported.evaluate(*policies[i]) for i in best], np.float64).reshape(-1, 2)
    return cal[best] / game.scale, test / reported.scale
