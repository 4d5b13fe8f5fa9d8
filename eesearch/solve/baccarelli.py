"""One threshold for all exits, tuned by iteration towards an accuracy: a reconstruction of Baccarelli et al. (2020).

"Optimized training and scalable implementation of conditional deep neural networks with early exits for Fog-supported
IoT applications" is known here only by what a survey says of it (Scardapane et al. 2020, section 6): it "introduces an
iterative approach to fine-tune a single threshold given a desired accuracy on the level, based on a gradient-like
approach exploiting the error between the current level of accuracy and the desired one". The step rule below is ours.

The threshold moves over the positions 0 .. T - 1 of all thresholds that differ in effect: at 0 everybody leaves at the
first exit, at T - 1 nobody leaves early. With e = target - accuracy, a step is

    position += gain * e * (T - 1), rounded away from 0, and at least one position,

upwards while e > 0, and downwards while e <= 0, where the target is met and a lower threshold may be cheaper. Each time
the direction changes the gain is halved (Kesten 1958). A position seen to miss the target and one seen to meet it
enclose a crossing; a step that would leave this bracket ends in its middle. So the bracket shrinks with every step, and
the iteration ends after at most T steps, whatever the accuracy does in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np

from eesearch.core.costs import StageCosts
from eesearch.core.policy import Fit, Policy, Scoring
from eesearch.core.tables import ExitTable
from eesearch.core.weights import mean_right
from eesearch.exits.routing import route
from eesearch.solve.placed import SDN_SHARES, Placed, near_shares

DROPS = tuple(np.linspace(0.0, 0.1, 41).tolist())
"""Accuracies below the own classifier's that are aimed at."""

GAIN = 2.0
"""Positions per unit of accuracy error, as multiples of the number of positions."""


@dataclass(frozen=True)
class Tuned:
    """Where the iteration stopped.

    Attributes:
        position: Of the threshold.
        accuracy: There.
        stop: `reached`: the target is met here and missed one position lower; `lowest`: it is met even where everybody
            leaves at the first exit; `unattainable`: it is missed even where nobody leaves early.
        visited: Positions, in order.
    """

    position: int
    accuracy: float
    stop: Literal["reached", "lowest", "unattainable"]
    visited: tuple[int, ...]


def tune(accuracy: Callable[[int], float], positions: int, target: float, *, start: int) -> Tuned:
    """Iterate to the target accuracy.

    It converges from any start, to `reached` or `lowest`, if the last position attains the target: upwards something
    attains it at the latest there. Whatever is attained only in between (over-thinking) may be passed over, and then
    the stop says `unattainable`, which otherwise it says only of targets that the last position misses.

    Args:
        accuracy: At each position.
        positions: Number of positions, at least 1.
        target: Accuracy to reach.
        start: First position.
    """
    missed, met, gain = -1, positions, GAIN
    position, visited, was_short = start, [start], None
    while True:
        found = accuracy(position)
        short = found < target
        missed, met = (position, met) if short else (missed, position)
        if met - missed == 1:
            break
        gain *= 0.5 if was_short not in (None, short) else 1.0
        stride = max(1, ceil(gain * abs(target - found) * (positions - 1)))
        aim = position + (stride if short else -stride)
        aim = min(max(aim, 0), positions - 1)
        position = aim if missed < aim < met else (missed + met) // 2
        visited.append(position)
        was_short = short
    if met == positions:
        return Tuned(missed, accuracy(missed), "unattainable", tuple(visited))
    return Tuned(met, accuracy(met), "reached" if met else "lowest", tuple(visited))


def baccarelli(table: ExitTable, costs: StageCosts, fits: Sequence[Fit] = ()) -> list[Policy]:
    """Candidates by the reconstructed iteration, one per accuracy aimed at: SDN's six exits, max probability.

    Args:
        table: Calibration.
        costs: Knows every exit of the table.
        fits: That the scores use.
    """
    six = Placed.of(table, costs, near_shares(table, costs, SDN_SHARES), Scoring(fits=tuple(fits)))
    thresholds, scores = six.shared_thresholds(), six.scores.astype(np.float32)

    def accuracy(position: int) -> float:
        stop = route(scores, [*[thresholds[position]] * six.early, -np.inf])
        return float(mean_right(six.correct[stop, np.arange(len(stop))], six.weight))

    chosen, start = dict[int, None](), len(thresholds) // 2
    for drop in DROPS:
        target = float(mean_right(six.correct[-1], six.weight)) - drop - 1e-12
        tuned = tune(accuracy, len(thresholds), target, start=start)
        if tuned.stop != "unattainable":
            chosen[tuned.position] = None
    return [six.policy([float(thresholds[position])] * six.early) for position in chosen]
