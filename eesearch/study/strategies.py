"""What each training strategy reaches by itself: a front of its own designs, its hypervolume, what training took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from eesearch.core.costs import Profile
from eesearch.core.front import Evaluation, Front
from eesearch.study.answers import StrategyAnswer, TrainingCost, TrialAnswer
from eesearch.study.points import Point
from eesearch.study.problem import Problem

MOST_OF_A_LAYER = 60
"""Points that are kept per device of a strategy, or of a method of the literature."""

Tried = tuple[TrialAnswer, tuple[Evaluation, ...]]
"""A trial, and its points on calibration."""

Look = Callable[[Evaluation], Point]
"""Looks a point of calibration up on test."""

T = TypeVar("T")


def compare_strategies(
    problem: Problem, profile: Profile, tried: Sequence[Tried], look: Look
) -> tuple[StrategyAnswer, ...]:
    """What each strategy that was tried reaches on a device, in the order of their first trials."""
    names = dict.fromkeys(trial.strategy for trial, _ in tried if trial.strategy)
    return tuple(
        _answer(problem, profile, [pair for pair in tried if pair[0].strategy == name], look) for name in names
    )


def counted_volume(problem: Problem, front: Front, profile: Profile) -> float | None:
    """Hypervolume of a front, as trials are valued; None as long as it is empty, or its one point breaks limits."""
    if not len(front) or problem.constraints(profile).broken(front[0], front.backbone):
        return None
    return front.hypervolume(max_drop=problem.study.objectives.max_drop)


def spread(given: Sequence[T], most: int) -> tuple[T, ...]:
    """So many of them at most, evenly, the first and the last included."""
    chosen = np.linspace(0, len(given) - 1, min(len(given), most)).round().astype(int)
    return tuple(given[i] for i in chosen)


def _answer(problem: Problem, profile: Profile, tried: Sequence[Tried], look: Look) -> StrategyAnswer:
    trials = [trial for trial, _ in tried]
    front = problem.front([evaluation for _, own in tried for evaluation in own], profile)
    points = _looked_up(front, look)
    volume = counted_volume(problem, front, profile)
    own = {point.design for point in front.points}
    last = [t.last_accuracy for t in trials if t.design in own and t.last_accuracy is not None]
    once = list({trial.design or trial.number: trial for trial in reversed(trials)}.values())
    best = max((t for t in trials if t.value is not None), key=lambda t: t.value or 0.0, default=None)
    free = None if volume is None else front.within(0.0)
    return StrategyAnswer(
        strategy=trials[0].strategy,
        trials=len(trials),
        designs=len({trial.design for trial in trials if trial.design}),
        points=spread(points, MOST_OF_A_LAYER),
        free=None if free is None else points[front.points.index(free)],
        half=_at_half(front, points),
        hypervolume=volume,
        hypervolume_test=None if volume is None else _volume_on_test(problem, profile, points),
        last_accuracy=min(last, default=None),
        cost=_cost(once),
        best=best.number if best else None,
        best_cost=_cost([best]) if best else None,
    )


def _at_half(front: Front, points: Sequence[Point]) -> Point | None:
    """The most accurate point at half the backbone's cost or less; on a front the last of them."""
    limit = front.backbone.costs[front.axis].mean / 2.0
    return next((p for p in reversed(points) if p.cal.costs[front.axis].mean <= limit), None)


def _looked_up(front: Front, look: Look) -> list[Point]:
    """The points of a front with what they do on test; those of one table together, as few tables are in memory."""
    by_table = sorted(front.points, key=lambda e: (e.design, e.policy.decision))
    found = {(e.design, e.policy): look(e) for e in by_table}
    return [found[e.design, e.policy] for e in front.points]


def _volume_on_test(problem: Problem, profile: Profile, points: Sequence[Point]) -> float:
    from eesearch.study.policies import ordered_hypervolume  # loads numba

    backbone = problem.backbone(profile, "test")
    unit = backbone.costs[profile.axis].mean
    values = np.array([(p.test.error, p.test.costs[profile.axis].mean / unit) for p in points])
    return ordered_hypervolume(values, backbone.error + problem.study.objectives.max_drop)


def _cost(trials: Sequence[TrialAnswer]) -> TrainingCost:
    return TrainingCost(
        samples=sum(trial.samples for trial in trials),
        forward=sum(trial.forward for trial in trials),
        backward=sum(trial.backward for trial in trials),
    )
