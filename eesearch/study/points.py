"""Points: policies that were selected on calibration, with what they do on test; and facts of exits and designs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from eesearch.core.costs import Axis, StageCosts
from eesearch.core.design import ExitId, Value
from eesearch.core.front import Evaluation
from eesearch.core.paired import Paired
from eesearch.core.policy import Policy
from eesearch.core.weights import Weights, mean_right


class StopFacts(Value):
    """What happens at one stop of a point, on test.

    Attributes:
        share: Of the samples that leaves here.
        accuracy: Of those; None if nobody leaves here.
        costs: By axis, what a sample that leaves here has paid in all, from the input on.
    """

    share: float
    accuracy: float | None
    costs: dict[Axis, float]


def stop_facts(
    policy: Policy,
    costs: Sequence[StageCosts],
    weight: Weights,
    *,
    stop: NDArray[np.int64],
    right: NDArray[np.bool_],
) -> tuple[StopFacts, ...]:
    """What happens at each stop of a policy. [k]

    Args:
        policy: Whose.
        costs: Of every axis that is told; they know its exits.
        weight: How much each sample counts. [N]
        stop: Where each sample leaves, 0 .. k - 1. [N]
        right: Whether it is answered rightly there. [N]
    """
    paid = {cost.axis: cost.cumulative(policy.exits) for cost in costs}
    return tuple(
        StopFacts(
            share=float(left.mean()),
            accuracy=float(mean_right(right[left], weight[left])) if left.any() else None,
            costs={axis: float(cumulative[k]) for axis, cumulative in paid.items()},
        )
        for k, left in enumerate(stop == k for k in range(len(policy.stops)))
    )


class Point(Value):
    """One policy: what it was selected by (`cal`), and what it is reported to do (`test`).

    Attributes:
        stops: One per stop of the policy; empty where nobody looked (baselines, seeds).
        paired: The policy and the backbone on test; None where nobody looked.
    """

    cal: Evaluation
    test: Evaluation
    stops: tuple[StopFacts, ...] = ()
    paired: Paired | None = None


class Layer(Value):
    """Points beside the front, to compare with.

    Attributes:
        kind: What they are: a method of the literature on the same exits; a cascade of several networks; points
            measured again end to end.
        points: By rising cost on calibration.
    """

    name: str
    kind: Literal["baseline", "cascade", "verified"]
    points: tuple[Point, ...]


class Tried(Value):
    """A point of a trial's own front that is not on the merged one."""

    trial: int
    point: Point


class PickElsewhere(Value):
    """The cheapest point of one device within a drop, and what it costs on every device of the run.

    Attributes:
        limit: Largest drop to expect on new samples, as a share.
        device: Whose pick it is.
        point: Its number on that device's front.
        ratios: device -> mean cost on test over the backbone's there; devices where that cannot be told are left out.
    """

    limit: float
    device: str
    point: int
    ratios: dict[str, float]


class OracleAnswer(Value):
    """The stable oracle on one path of exits, on test: an ideal to look at, no policy.

    Attributes:
        exits: The active exits, the last stop included. [k]
        cost: Mean per sample on the device's axis.
        exit_rate: Share of the samples that leaves at each. [k]
    """

    exits: tuple[ExitId, ...]
    error: float
    cost: float
    exit_rate: tuple[float, ...]


class ExitFacts(Value):
    """What going on from an exit to the own classifier does on test: over-thinking, and what it is for.

    Attributes:
        accuracy: Of the exit, by the weights of classes.
        right: Number of samples that the exit is right about.
        lost: Of these, those that the own classifier gets wrong.
        gained: Number of samples that the exit gets wrong and the own classifier right.
    """

    exit: ExitId
    accuracy: float
    right: int
    lost: int
    gained: int
    samples: int

    @model_validator(mode="before")
    @classmethod
    def _of_older_version(cls, fields: Any) -> Any:
        """Before there were class weights, accuracy was the share of samples."""
        if isinstance(fields, dict) and "accuracy" not in fields and fields.get("samples"):
            return fields | {"accuracy": fields["right"] / fields["samples"]}
        return fields


class DesignFacts(Value):
    """What is known of a trained design beside its points.

    Attributes:
        trial: That trained it.
        last_accuracy: Calibration accuracy of its own last classifier.
        notes: Figures that its strategy tells about it.
    """

    trial: int
    last_accuracy: float | None = None
    notes: dict[str, float] = Field(default_factory=dict)
