"""What a sampler is told of trials that found whole fronts, and what it proposes then.

A stored trial keeps its honest value, the hypervolume of its own front. The sampler is shown a view: an Optuna study in
memory with the same parameters and other values. It is made anew from the storage for every proposal, so the same
trials and the same seed give the same proposal, in whichever process.

    gain          what the merged front of all trials would lose without this one
    accuracies    three objectives: accuracy within 25, 50 and 75 % of the backbone's cost
    scalarized    random hypervolume scalarization: the mean over random directions is proportional to the front's
                  hypervolume, and each proposal follows one (Zhang and Golovin 2020, "Random Hypervolume
                  Scalarizations for Provable Multi-Objective Black Box Optimization")

None of them is the default: by `benchmarks/samplers.py` (20 seeds, docs/results/samplers.csv), a search that is told
each design's own hypervolume is ahead of all three after 20 and 40 trials, or level within the noise. After 80 of 255
designs `gain` is ahead by 0.1 %, where all have found nearly everything.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import moocore
import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import BaseGASampler, BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from eesearch.core.design import content_key
from eesearch.core.errors import StudyError
from eesearch.core.front import LEAST_ERROR, hypervolume
from eesearch.drivers.records import outcome_of
from eesearch.drivers.samplers import distributions, make_sampler
from eesearch.study.trial import SearchProblem

Direction = Literal["minimize", "maximize"]

Told = Mapping[int, Sequence[float]]
"""What a sampler is told of complete trials, by number."""

Fronts = tuple[NDArray[np.float64], ...]
"""Per device: (error, cost / the backbone's cost) of a trial's points. Each [P, 2]"""

SHARES = (0.25, 0.5, 0.75)
"""Of the backbone's cost: where guide `accuracies` looks."""

TIE = 1e-6
"""Weight of a trial's own hypervolume where a guide says the same of many trials: that they add nothing."""

SHOWN = 200
"""Most ended trials that a sampler is shown: the better half and the later half. A proposal then takes the same time
however long the search gets."""


def gains(fronts: Sequence[Fronts], deepest: Sequence[float]) -> list[float]:
    """What the hypervolume of the merged front would lose without each trial; mean over devices.

    Args:
        fronts: Of each trial.
        deepest: Per device: the largest error that counts.
    """
    total = np.zeros(len(fronts))
    for device, error in enumerate(deepest):
        points = np.concatenate([front[device] for front in fronts]) if fronts else np.empty((0, 2))
        owner = np.repeat(np.arange(len(fronts)), [len(front[device]) for front in fronts])
        if not len(points):
            continue
        whole = _share(points, error)
        for trial in np.unique(owner[moocore.is_nondominated(points)]):
            total[trial] += whole - _share(points[owner != trial], error)
    return list(total / len(deepest))


def _share(points: NDArray[np.float64], error: float) -> float:
    return max(0.0, hypervolume(points, error))


def accuracies(fronts: Fronts) -> tuple[float, ...]:
    """The best accuracy within each of `SHARES` of the backbone's cost, 0 if nothing is so cheap; mean over devices."""
    best = [[max((1.0 - e for e, c in front if c <= share), default=0.0) for share in SHARES] for front in fronts]
    return tuple(float(mean) for mean in np.mean(best, axis=0))


def scalarized(fronts: Fronts, deepest: Sequence[float], direction: NDArray[np.float64]) -> float:
    """How far a trial's points reach from the corner (deepest error, backbone's cost) into a direction.

    The largest over its points of min_i (max(0, 1 - y_i / corner_i) / direction_i)^2; mean over devices.

    Args:
        fronts: Of the trial.
        deepest: Per device: the largest error that counts.
        direction: Positive, of length 1. [2]
    """
    reached = []
    for front, error in zip(fronts, deepest, strict=True):
        inside = np.maximum(0.0, 1.0 - front / np.array([max(error, LEAST_ERROR), 1.0]))  # [P, 2]
        reached.append(float(((inside / direction) ** 2).min(axis=1).max(initial=0.0)))
    return sum(reached) / len(reached)


@dataclass(frozen=True)
class Asked:
    """What a study says about proposals.

    Attributes:
        sampler: Name or import path, see `make_sampler`.
        guide: `hypervolume`, `gain`, `accuracies` or `scalarized`.
        seed: The study's.
        trials: The study's budget.
    """

    sampler: str
    guide: str
    seed: int
    trials: int


class Proposer:
    """Proposes designs of one problem.

    Failed trials are left out, as samplers ignore them. Trials that were stopped early are shown with their last value
    where there is one objective (TPE ranks them below the others; several objectives cannot use them), running ones
    as running. The bank has no parameters: it is left out, but its front counts as another's for `gain`.

    Args:
        problem: What is searched.
        asked: How.

    Raises:
        StudyError: the sampler cannot be made.
    """

    def __init__(self, problem: SearchProblem, asked: Asked) -> None:
        self._problem, self._asked = problem, asked
        self._guided = asked.guide != "hypervolume"
        self._distributions = distributions(problem.parameters)
        self._fronts: dict[int, Fronts] = {}
        self._sampler(0)  # refused before anything is trained

    def propose(self, study: Study, number: int) -> dict[str, str | float]:
        """Parameters of the next trial, to be enqueued in the study; nothing is written.

        Args:
            study: All trials so far. Its own sampler is not used.
            number: Of trials before this one that ended by themselves or run: a repeated one counts once.

        Raises:
            StudyError: the sampler cannot propose in this space.
        """
        seed = int(content_key(self._asked.seed, number), 16) % 2**32
        sampler = self._sampler(seed)
        trials = [] if isinstance(sampler, RandomSampler) else study.get_trials(deepcopy=False)
        complete = [t for t in trials if t.state == TrialState.COMPLETE]
        told = self._told(complete, seed) if self._guided else {t.number: t.values for t in complete}
        seen = [t for t in trials if t.params.keys() == self._distributions.keys()]
        try:
            return dict(_view(seen, told, self._directions, sampler).ask(self._distributions).params)
        except Exception as error:  # a foreign sampler may fail in any way; one of Optuna's is not to blame the study
            if ":" not in self._asked.sampler:
                raise
            raise StudyError(
                f"sampler: '{self._asked.sampler}' cannot propose in this search space",
                got=f"{type(error).__name__}: {error}",
                expected=f"one for {len(self._directions)} objective(s), choices and real numbers",
            ) from error

    def _sampler(self, seed: int) -> BaseSampler:
        return make_sampler(
            self._asked.sampler,
            seed=seed,
            trials=self._asked.trials,
            directions=len(self._directions),
        )

    @property
    def _directions(self) -> tuple[Direction, ...]:
        if not self._guided:
            return tuple(self._problem.directions)
        return tuple("maximize" for _ in (SHARES if self._asked.guide == "accuracies" else (1,)))

    @cached_property
    def _deepest(self) -> list[float]:
        return [error for _, error in self._problem.reference]

    def _told(self, complete: Sequence[FrozenTrial], seed: int) -> Told:
        """Values of the complete trials under the guide, by number."""
        fronts = [self._front(t) for t in complete]
        values: list[tuple[float, ...]]
        if self._asked.guide == "accuracies":
            values = [accuracies(front) for front in fronts]
        else:
            if self._asked.guide == "gain":
                single = gains(fronts, self._deepest)
            else:
                direction = np.abs(np.random.default_rng(seed).standard_normal(2)) + 1e-9
                direction /= np.linalg.norm(direction)
                single = [scalarized(front, self._deepest, direction) for front in fronts]
            values = [(value + TIE * t.values[0],) for value, t in zip(single, complete, strict=True)]
        return {t.number: list(value) for t, value in zip(complete, values, strict=True)}

    def _front(self, trial: FrozenTrial) -> Fronts:
        """A complete trial's points; they never change, and reading them takes a while."""
        if trial.number not in self._fronts:
            outcome = outcome_of(trial)
            found = self._problem.fronts(outcome) if outcome else ()
            found = found or ((),) * len(self._problem.reference)
            self._fronts[trial.number] = tuple(np.array(points, np.float64).reshape(-1, 2) for points in found)
        return self._fronts[trial.number]


class _Shown(FrozenTrial):
    """A trial that Optuna need not copy: nobody changes it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shown:
        return copy.copy(self)


def _view(trials: Sequence[FrozenTrial], told: Told, directions: Sequence[Direction], sampler: BaseSampler) -> Study:
    """A study in memory of the trials that have parameters, with the values that are told of them."""
    view = optuna.create_study(directions=list(directions), sampler=sampler)
    single = len(directions) == 1
    ended = [t for t in trials if t.number in told or (single and t.state == TrialState.PRUNED)]
    running = [t for t in trials if t.state == TrialState.RUNNING]
    generation = _generations(sampler)
    complete = 0
    for trial in sorted([*_most_telling(ended, told, directions), *running], key=lambda t: t.number):
        attributes = generation(complete) if trial.number in told else {}
        complete += trial.number in told
        view.add_trial(_shown(trial, told.get(trial.number), attributes))
    return view


def _most_telling(ended: Sequence[FrozenTrial], told: Told, directions: Sequence[Direction]) -> Sequence[FrozenTrial]:
    """All, or the best and the latest."""
    if len(ended) <= SHOWN:
        return ended
    complete = [t for t in ended if t.number in told]
    signs = [-1.0 if direction == "maximize" else 1.0 for direction in directions]
    values = np.array([told[t.number] for t in complete]) * signs  # [T, D], smaller is better
    rank = moocore.pareto_rank(values) if len(signs) > 1 else values[:, 0]
    best = {complete[i].number for i in np.argsort(rank, kind="stable")[: SHOWN // 2]}
    others = [t for t in ended if t.number not in best]
    return [t for t in ended if t.number in best] + others[len(best) - SHOWN :]


def _generations(sampler: BaseSampler) -> Callable[[int], dict[str, int]]:
    """The generation that a genetic sampler takes the n-th complete trial for, in the attribute where it looks."""
    if not isinstance(sampler, BaseGASampler) or not sampler.population_size:
        return lambda n: {}
    name, size = sampler._get_generation_key(), sampler.population_size
    return lambda n: {name: n // size}


def _shown(trial: FrozenTrial, values: Sequence[float] | None, attributes: dict[str, int]) -> FrozenTrial:
    return _Shown(
        number=trial.number,
        trial_id=trial._trial_id,
        state=trial.state,
        value=None,
        values=values,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={},
        system_attrs=attributes,
        intermediate_values=trial.intermediate_values,
    )
