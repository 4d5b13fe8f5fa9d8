"""The solver: every placement, head, threshold and last stop of a family of policies, on one table and one axis.

What stops say (`keys`: a bitset per stop and threshold) and what may be met (`paths`) go through a branch and bound on
boxes of thresholds (`boxes`), path after path (`search`), in order or where it looks likely (`anytime`); thresholds
chosen among levels are then moved to the best midpoints (`refine`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import floor, inf
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eesearch.core.constraints import Constraints
from eesearch.core.costs import FOLDS, Axis, StageCosts
from eesearch.core.errors import CostError, PolicyError
from eesearch.core.front import MAX_DROP, Certificate, Evaluation, Front, hypervolume
from eesearch.core.policy import Policy, Scoring, Stop
from eesearch.core.progress import Progress, silent
from eesearch.core.tables import ExitTable, reference_row
from eesearch.exits.evaluate import backbone_evaluation, tally
from eesearch.solve.family import ANYTIME_SECONDS, Effort, Family, clock

if TYPE_CHECKING:
    from eesearch.solve.keys import Outputs
    from eesearch.solve.search import Question, Search
    from eesearch.solve.stream import ScoreTable

# numba takes half a second to import: the modules that use it are imported when something is solved.


def solve_front(
    table: ExitTable | ScoreTable,
    costs: StageCosts | Sequence[StageCosts],
    *,
    scoring: Scoring = Scoring(),
    family: Family = Family(),
    effort: Effort = Effort(),
    progress: Progress = silent,
) -> Front:
    """The Pareto set of (error, mean cost) over a family of policies on a table's exits.

    By the method `exact` it is complete: no policy of the family on these thresholds is better anywhere. Otherwise
    `front.certificate` says how much better one could be. Among policies of equal error and cost the one with the
    fewest stops is kept, then the one whose exits come first. Where batches make the cost of a step depend on how many
    samples take it, linear stand-ins are searched (`solve.batched`), and the certificate comes from one that no policy
    is cheaper than.

    Args:
        table: The split to select on (calibration); holds the network's own classifier.
        costs: Know every exit of the table. The axis of the first is minimised; the points are evaluated on all.
        scoring: How policies score and answer; a `ScoreTable` has been scored.
        family: Which policies.
        effort: How they are searched.
        progress: Told the paths explored.

    Raises:
        PolicyError: the table lacks the own classifier or holds several, or an option is out of range.
        CostError: a step is negative or no number, an axis with a limit is missing, or the first is no mean (`params`).
        InputError: the bitsets do not fit into the memory.
    """
    from eesearch.solve.batched import linear_steps
    from eesearch.solve.keys import outputs_of
    from eesearch.solve.search import Search

    began = time.monotonic()
    axes = (costs,) if isinstance(costs, StageCosts) else tuple(costs)
    backbone, constraints, refines = own_classifier(table, axes), family.constraints, _refines(family, effort)
    front = partial(Front, backbone=backbone, axis=axes[0].axis, device=axes[0].axis)
    searched = replace(family, constraints=_loosened(constraints, axes[0].axis)) if refines else family
    question = _question(table, axes, searched, backbone, outputs=outputs_of(table, scoring))
    method = effort.method if effort.method != "auto" else _method(question)
    seconds = ANYTIME_SECONDS if method == "anytime" and effort.seconds is None else effort.seconds
    steps, points = linear_steps(question.others[axes[0].axis]), list[Evaluation]()
    linear = len(steps) == 1
    searches, complete = [Search(replace(question, step=step), effort, progress) for step in steps], True
    for search in searches:
        complete &= _run(search, method, lambda: clock(seconds and seconds / len(steps)))
        points += _evaluated(search, table, axes, scoring)
    if not linear:  # what is found keeps limits at the costs of the stand-ins
        points = [point for point in points if not searched.constraints.broken(point, backbone)]
    reached = front([point for point in points if not constraints.broken(point, backbone)])
    certificate = _certificate(searches[0], reached, complete=complete and linear, seconds=time.monotonic() - began)
    if refines:
        points = _refined(points if linear else front(points).points, table, axes, question, stop=searches[-1].stop)
    kept = [point for point in points if not constraints.broken(point, backbone)]
    if family.shared_threshold:
        kept += _shared(table, axes, scoring, constraints, kept)
    if not kept and constraints and effort.least:
        kept += _least_violating(points, table, axes, scoring, searches[0], bounds=constraints)
    return front(kept, certificate=certificate)


def _refines(family: Family, effort: Effort) -> bool:
    return effort.refine and family.levels is not None


COST_SLACK, DROP_SLACK = 0.1, 0.01
"""How much of a cost, as a share of it, and how much accuracy refinement usually gains at most."""


def _loosened(
    constraints: Constraints, axis: Axis, *, cost: float = COST_SLACK, drop: float = DROP_SLACK
) -> Constraints:
    """What is searched among levels, so that refinement may bring it within the bounds.

    Only bounds on what refinement lowers: errors, and the mean of the axis that is minimised. Whatever keeps these, a
    policy that is no worse in both keeps, too: no policy of the family is lost to one that breaks the bounds.

    Args:
        constraints: What is asked.
        axis: The one that is minimised.
        cost: By what share of itself a limit on its mean is loosened.
        drop: By how much accuracy a limit on the drop is.
    """
    limits = [
        limit.model_copy(update={"at_most": limit.at_most * (1.0 + cost)})
        if (limit.axis, limit.at) == (axis, "mean")
        else limit
        for limit in constraints.limits
    ]
    most = None if constraints.max_drop is None else min(1.0, constraints.max_drop + drop)
    return constraints.model_copy(update={"limits": tuple(limits), "max_drop": most})


def _evaluated(
    search: Search, table: ExitTable | ScoreTable, axes: Sequence[StageCosts], scoring: Scoring
) -> list[Evaluation]:
    """Every policy found, evaluated on all axes."""
    points = []
    for rows, thresholds in search.found():
        stops = tuple(Stop(exit=table.exits[r], threshold=t) for r, t in zip(rows, thresholds, strict=True))
        policy = Policy(stops=stops, criterion=scoring.criterion, answer=scoring.answer, fits=scoring.keys)
        said = [search.question.outputs.at(tuple(rows[: k + 1])) for k in range(len(rows))]
        scores, correct = (np.stack(each) for each in zip(*said, strict=True))
        points.append(tally(policy, scores, correct, axes, table=table))
    return points


def _refined(
    points: Sequence[Evaluation],
    table: ExitTable | ScoreTable,
    axes: Sequence[StageCosts],
    question: Question,
    *,
    stop: Callable[[], bool],
) -> list[Evaluation]:
    """The points with their thresholds moved to the best midpoints, and what was met on the way where people pick."""
    from eesearch.solve.refine import refine_front

    backbone, constraints = own_classifier(table, axes), question.family.constraints

    def accept(policy: Policy, scores: NDArray[np.float32], correct: NDArray[np.bool_]) -> bool:
        return not constraints.broken(tally(policy, scores, correct, axes, table=table), backbone)

    # No move adds errors or cost: bounds on these need not be asked for again.
    others = [limit for limit in constraints.limits if (limit.axis, limit.at) != (question.axis, "mean")]
    lowered = not others and constraints.min_recall is None
    found = refine_front(points, table, question.outputs, axes, None if lowered else accept, stop=stop)
    deepest = backbone.error + min(MAX_DROP, MAX_DROP if constraints.max_drop is None else constraints.max_drop)
    return found[: len(points)] + [point for point in found[len(points) :] if point.error <= deepest + 1e-12]


def _shared(
    table: ExitTable | ScoreTable,
    axes: Sequence[StageCosts],
    scoring: Scoring,
    constraints: Constraints,
    known: Sequence[Evaluation],
) -> list[Evaluation]:
    """What policies of many exits with one threshold add, if they keep the constraints."""
    from eesearch.solve.shared import shared_points

    backbone = own_classifier(table, axes)
    return [p for p in shared_points(table, axes, scoring, known) if not constraints.broken(p, backbone)]


def _least_violating(
    near: Sequence[Evaluation],
    table: ExitTable | ScoreTable,
    axes: Sequence[StageCosts],
    scoring: Scoring,
    first: Search,
    *,
    bounds: Constraints,
) -> tuple[Evaluation, ...]:
    """Nothing keeps the constraints: a policy with the least violation, to a hundredth of it, as far as the time goes.

    The slack by which all bounds must be loosened until some policy keeps them is found by doubling and halving. Where
    policies are refined, refinement may bring one from anywhere within the bounds: that is tried first. The best of
    those that are `near`, from the search before, is never lost.
    """
    from eesearch.solve.search import Search

    family, backbone = first.question.family, own_classifier(table, axes)
    refines = _refines(family, first.effort)

    def solved(constraints: Constraints) -> list[Evaluation]:
        question = _question(
            table, axes, replace(family, constraints=constraints), backbone, outputs=first.question.outputs
        )
        search = Search(question, first.effort)
        _run(search, _method(question), lambda: first.stop)
        points = _evaluated(search, table, axes, scoring)
        return _refined(points, table, axes, question, stop=first.stop) if refines else points

    free = _loosened(bounds, axes[0].axis, cost=inf, drop=1.0)
    best = bounds.kept([*near, *(solved(free) if refines and free != bounds else ())], backbone)
    high = bounds.violation(best[0], backbone) if best else LEAST_SLACK
    low = 0.0
    while high < MOST_SLACK and (not best or high - low > SLACK_PRECISION * high) and not first.stop():
        slack = (low + high) / 2.0 if best else high
        found = solved(bounds.relaxed(slack, backbone))
        if found:
            best = bounds.kept([*best, *found], backbone)
            high = min(slack, bounds.violation(best[0], backbone))
        else:
            low, high = slack, high if best else 2.0 * slack
    # without any, no time is left, or a bound is 0, which no share of itself loosens
    return best or bounds.kept(solved(Constraints()), backbone)


LEAST_SLACK, MOST_SLACK, SLACK_PRECISION = 1e-4, 1e4, 0.01
"""Where the search for the least violation begins and ends, and how close it comes."""


def _certificate(search: Search, reached: Front, *, complete: bool, seconds: float) -> Certificate:
    """What the front is within, from the least cost of what was left unexplored."""
    question, backbone = search.question, reached.backbone
    weighing, paths, unit = question.weighing, search.total, backbone.costs[reached.axis].mean
    found = np.where(np.isfinite(search.best.cost), search.best.cost, inf)
    least = np.minimum.accumulate(np.minimum(found, search.floor))[: question.most_errors + 1]
    least = least / (weighing.samples * unit)
    corner = np.flatnonzero(least < np.append(inf, least[:-1]))
    bound = np.column_stack([corner / weighing.total, least[corner]])
    volumes = [max(0.0, hypervolume(front, backbone.error + MAX_DROP)) for front in (bound, reached.values)]
    gain = 0.0 if complete else max(0.0, volumes[0] - volumes[1])
    steps = tuple((float(error), float(cost)) for error, cost in bound)
    return Certificate(
        exact=complete, floor=steps, gain=gain, paths=paths, levels=question.family.levels, seconds=seconds
    )


def own_classifier(table: ExitTable | ScoreTable, axes: Sequence[StageCosts]) -> Evaluation:
    """The unmodified backbone on a table; of several networks, the reference (`core.tables.reference_row`).

    Raises:
        PolicyError: the table lacks its own classifier.
    """
    row = reference_row(table.exits)
    if row is None:
        raise PolicyError(f"a front on the {table.split} table needs its backbone", got="no own classifier")
    return backbone_evaluation(table, axes, table.exits[row])


def _question(
    table: ExitTable | ScoreTable,
    axes: Sequence[StageCosts],
    family: Family,
    backbone: Evaluation,
    *,
    outputs: Outputs,
) -> Question:
    from eesearch.solve.paths import PathTree
    from eesearch.solve.search import Question
    from eesearch.solve.weighing import Weighing

    if FOLDS[axes[0].axis] != "mean":
        do = "Limit it, and let the first axis be one that is paid per sample."
        raise CostError(f"{axes[0].axis} is no mean over samples, and cannot be minimised over them", do=do)
    by_axis = {cost.axis: cost.select(table.exits) for cost in axes}
    if family.constraints.min_recall is not None and table.labels is None:
        raise PolicyError("recall needs labels", got="a table without labels", do="Give logits and labels.")
    missing = [str(limit) for limit in family.constraints.limits if limit.axis not in by_axis]
    if missing:
        raise CostError(f"nothing is known of the axis of '{missing[0]}'", got=list(by_axis))
    for cost in by_axis.values():
        if not (cost.step >= 0.0).all():
            raise CostError("a step costs less than nothing, or is not a number", expected="steps >= 0, inf: forbidden")
    weighing, drop = Weighing(outputs.at((0,))[0].shape[0], table.weights), family.constraints.max_drop
    most = inf if drop is None else (backbone.error + drop) * weighing.total + 1e-6
    step = by_axis[axes[0].axis].step
    return Question(
        outputs=outputs,
        labels=table.labels,
        weighing=weighing,
        axis=axes[0].axis,
        step=step,
        others=by_axis,
        tree=PathTree(table.exits, step, family.max_exits),
        family=family,
        most_errors=int(min(weighing.total, floor(most) if most < inf else weighing.total)),
    )


def _method(question: Question) -> str:
    """`exact` if that is expected to take less than about a minute."""
    keys = 0 if question.outputs.by_exit else question.tree.count()
    samples = 64 * question.weighing.words * (1.0 + len(question.weighing.units) / GROUPS_THAT_DOUBLE)
    boxes = question.tree.count() * BOXES_PER_PATH * (min(question.family.levels or inf, samples) / 24) ** 0.5
    seconds = samples * (boxes * SECONDS_PER_BOX_AND_SAMPLE + keys * SECONDS_PER_KEY_AND_SAMPLE)
    return "exact" if seconds < EXACT_SECONDS else "anytime"


BOXES_PER_PATH = 300
"""Boxes that a path takes at 24 levels; with more levels about as their square root. A rough figure."""

GROUPS_THAT_DOUBLE = 20
"""Classes of so many different weights make a box take twice as long, samples being equal. A rough figure."""

SECONDS_PER_BOX_AND_SAMPLE = 1e-10
"""On one core of 2024."""

SECONDS_PER_KEY_AND_SAMPLE = 6e-7
"""The same; a key is made anew for every path where scores belong to paths."""

EXACT_SECONDS = 60.0


def _run(search: Search, method: str, start: Callable[[], Callable[[], bool]]) -> bool:
    from eesearch.solve.anytime import search_anytime, search_exactly

    return (search_exactly if method == "exact" else search_anytime)(search, start)
