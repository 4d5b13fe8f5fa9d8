"""What each part of the search is worth: the whole search against the same without its bank, seeds, and so on.

    full               the bank is trial 0, seeds come next, designs start from the bank's heads, the solver is exact,
                       designs that do not look promising are stopped after some epochs (ASHA)
    no bank            no table of all heads: every trial trains its design, from the trained network and random heads
    no seeds           after the bank, the sampler proposes at once
    no warm start      designs start from random heads
    no exact solver    the policies of every design are searched by NSGA-II, 1,000 of them, and then refined
    no multi-fidelity  every design is trained to its end

The drivers' own proposer asks for designs, on the same clock for all. Nobody estimates optimism: it changes no front.

    python benchmarks/ablation.py --data FOLDER [--clock 6] [--seeds 3] [--budget 120] [--workers 2] [--quick]

Rows go to ablation.csv, the plot to ablation.png. A second call adds the runs that are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import inf
from typing import Any

import moocore
import numpy as np
import optuna
from arena import Arena, Found, figures
from contest import Contest
from optuna.trial import TrialState, create_trial
from rivals import Stopwatch
from solver import Game

from eesearch.core.costs import Profile, StageCosts
from eesearch.core.design import Design
from eesearch.core.errors import EesearchError
from eesearch.core.front import Front
from eesearch.core.policy import Policy, Scoring, Stop
from eesearch.core.tables import ExitTable
from eesearch.drivers.guides import Asked, Proposer
from eesearch.drivers.pruners import make_pruner
from eesearch.drivers.samplers import distributions
from eesearch.solve.keys import outputs_of
from eesearch.solve.optimism import FoldPoints
from eesearch.solve.placed import evaluations
from eesearch.solve.refine import refine_front
from eesearch.study.bank_problem import BankProblem
from eesearch.study.trial import Outcome, Params, StoppedEarlyError

POLICIES = 1000
"""That NSGA-II tries on a design, in some seconds."""


class Whole(BankProblem):
    """The search as it is."""

    def folded(self, design: Design, profile: Profile) -> tuple[FoldPoints, ...]:
        """Nobody estimates optimism here."""
        return ()


class NoBank(Whole):
    """Trial by trial: there is no trial 0 and nothing to seed from."""

    def first(self) -> Outcome:
        """The backbone itself."""
        return Outcome(design=None, values=(0.0,))

    def seeds(self) -> list[tuple[str, Params]]:
        """None."""
        return []


class NoSeeds(Whole):
    """The sampler proposes at once."""

    def seeds(self) -> list[tuple[str, Params]]:
        """None."""
        return []


class NoSolver(Whole):
    """NSGA-II in place of the exact search."""

    def _solve(
        self, table: ExitTable, costs: Sequence[StageCosts], profile: Profile, scoring: Scoring, *, rough: bool
    ) -> Front:
        game = Game.of(table, costs[0], self._family(table, profile), scoring)
        sampler = optuna.samplers.NSGAIISampler(seed=self.study.seed)
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        tried: dict[Any, tuple[int, float]] = {}
        for _ in range(POLICIES):
            trial = study.ask()
            policy = game.chosen(trial)
            tried[policy] = game.evaluate(*policy)
            study.tell(trial, tried[policy])
        best = np.flatnonzero(moocore.is_nondominated(np.array(list(tried.values()), float)))
        found = [_policy(game, *list(tried)[i]) for i in best]
        points = evaluations([(policy, scoring.fits) for policy in found], table, costs)
        if not rough:
            points = refine_front(points, table, outputs_of(table, scoring), costs)
        return self.front(points, profile)


def _policy(game: Game, stops: Sequence[tuple[int, int]], last: int | None) -> Policy:
    exits, taken = game.table.exits, [(row, float(game.levels[row][level])) for row, level in stops]
    taken = [*taken, (last, -inf)] if last is not None else [*taken[:-1], (taken[-1][0], -inf)]
    stopping = tuple(Stop(exit=exits[row], threshold=t) for row, t in taken)
    return Policy(stops=stopping, criterion=game.scoring.criterion, fits=game.scoring.keys)


def play(kind: type[BankProblem], changes: dict[str, Any], arena: Arena, seed: int) -> list[Found]:
    """One search: trial 0, the seeds, then what the sampler proposes, until the clock is over."""
    study = arena.study(**changes)
    path, watch = arena.run(f"{kind.__name__}-{'-'.join(changes) or 'as-it-is'}", study), Stopwatch()
    problem = kind(arena.materials(study, path))
    trials = optuna.create_study(
        direction="maximize",
        pruner=make_pruner(study.pruning, study.training.joint.epochs) or optuna.pruners.NopPruner(),
    )
    space = distributions(problem.parameters)
    proposer = Proposer(problem, Asked(study.sampler, study.guide, study.seed, study.budget.trials))
    first = problem.first()
    trials.add_trial(create_trial(values=list(first.values), user_attrs={"outcome": first.model_dump_json()}))
    ended: list[tuple[float, int, Outcome]] = [(watch.seconds, first.samples, first)]
    samples, queue = first.samples, [params for _, params in problem.seeds()]
    while watch.seconds < arena.clock:
        number = len(trials.get_trials(deepcopy=False))
        trials.enqueue_trial(dict(queue.pop(0) if queue else proposer.propose(trials, number)))
        trial = trials.ask(space)
        try:
            outcome = problem.run(trial.params, partial(_stops, trial) if study.pruning != "none" else None)
        except StoppedEarlyError as stopped:
            samples += stopped.samples
            trials.tell(trial, state=TrialState.PRUNED)
            continue
        except EesearchError as error:  # of this design; the search goes on, as the drivers do
            print(f"trial {number}: {error}", flush=True)
            trials.tell(trial, state=TrialState.FAIL)
            continue
        samples += outcome.samples
        trial.set_user_attr("outcome", outcome.model_dump_json())
        trials.tell(trial, outcome.values[0])
        ended.append((watch.seconds, samples, outcome))
    profile = problem.materials.profiles[0]
    return [
        Found(seconds, done, *figures(problem, problem.points(outcome, profile), outcome.design))
        for seconds, done, outcome in ended
    ]


def _stops(trial: optuna.Trial, epoch: int, value: float) -> bool:
    trial.report(value, epoch)
    return trial.should_prune()


CONTEST = Contest(
    name="ablation",
    players={
        "full": partial(play, Whole, {}),
        "no bank": partial(play, NoBank, {"training__start": "backbone"}),
        "no seeds": partial(play, NoSeeds, {}),
        "no warm start": partial(play, Whole, {"training__start": "backbone"}),
        "no exact solver": partial(play, NoSolver, {}),
        "no multi-fidelity": partial(play, Whole, {"pruning": "none"}),
    },
    shares={"static": 0.1},
    questions={"fashion": ("ablation_fashion.yaml", ("data",)), "digits": ("ablation_digits.yaml", ())},
    quick="digits",
)

if __name__ == "__main__":
    CONTEST.run(CONTEST.options(__doc__, clock=6.0, budget=120.0))
