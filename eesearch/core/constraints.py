"""Constraints on policies: at most so much latency, so many parameters, at least so much recall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from eesearch.core.costs import FOLDS, Axis
from eesearch.core.design import Value
from eesearch.core.errors import CostError, PolicyError
from eesearch.core.front import Evaluation

Statistic = Literal["mean", "p95", "worst"]


class Limit(Value):
    """At most so much of one axis.

    Attributes:
        at: The mean over samples, the 95th percentile, or the worst case. What a policy deploys as a whole is its worst
            case: the number of parameters (axis `params`), the peak memory of activations (`peak_bytes`).
        at_most: In the axis' unit.
    """

    axis: Axis
    at: Statistic = "mean"
    at_most: float = Field(ge=0.0)

    @model_validator(mode="before")
    @classmethod
    def _as_a_whole(cls, fields: Any) -> Any:
        """What a policy deploys is the same for every sample: there is no mean of it."""
        if isinstance(fields, dict) and FOLDS.get(fields.get("axis", "macs"), "mean") != "mean":
            if fields.get("at", "worst") != "worst":
                raise ValueError(f"{fields['axis']} is limited as a whole; got at: {fields['at']}, expected worst")
            return {**fields, "at": "worst"}
        return fields

    def __str__(self) -> str:
        return f"{self.at} {self.axis} at most {self.at_most:g}"


SHORT: dict[str, tuple[Axis, float]] = {"max_params": ("params", 1.0), "max_memory_mb": ("peak_bytes", 1e6)}
"""Limits that may be written as one number: axis, and its units in that number."""


class Constraints(Value):
    """What every point of a front must keep, on the split that it was selected on.

    `max_params: 1e6` and `max_memory_mb: 2` are short for limits on `params` and `peak_bytes`.

    Attributes:
        limits: On costs.
        min_recall: Least share of right answers within each class.
        max_drop: Largest loss of accuracy against the backbone, as a share.
    """

    limits: tuple[Limit, ...] = ()
    min_recall: float | None = Field(default=None, ge=0.0, le=1.0)
    max_drop: float | None = Field(default=None, ge=0.0, le=1.0)

    @model_validator(mode="before")
    @classmethod
    def _in_full(cls, fields: Any) -> Any:
        """Limits that were written short."""
        if not isinstance(fields, dict) or not SHORT.keys() & fields.keys():
            return fields
        limits = fields.get("limits", ())
        if not isinstance(limits, list | tuple):
            return fields  # which is told as it is
        short = []
        for name, (axis, unit) in SHORT.items():
            if name in fields:
                try:
                    short.append({"axis": axis, "at_most": float(fields[name]) * unit})
                except TypeError:
                    raise ValueError(f"{name} must be a number; got {fields[name]!r}") from None
        return {**{name: value for name, value in fields.items() if name not in SHORT}, "limits": [*limits, *short]}

    def __bool__(self) -> bool:
        return bool(self.limits) or self.min_recall is not None or self.max_drop is not None

    def broken(self, evaluation: Evaluation, backbone: Evaluation) -> dict[str, float]:
        """Which constraints a policy breaks, and by how much relative to the bound.

        Raises:
            CostError: it was not evaluated on an axis with a limit.
            PolicyError: it was evaluated without labels, and a recall is asked for.
        """
        excess = {}
        for limit in self.limits:
            if limit.axis not in evaluation.costs:
                raise CostError(f"nothing is known of {limit.axis}", got=list(evaluation.costs), do=f"Drop '{limit}'.")
            value = getattr(evaluation.costs[limit.axis], limit.at)
            excess[str(limit)] = (value - limit.at_most) / max(limit.at_most, 1e-12)
        if self.min_recall is not None:
            if evaluation.worst_recall is None:
                raise PolicyError("recall needs labels", got="an evaluation without labels")
            lack = self.min_recall - evaluation.worst_recall
            excess[f"recall of every class at least {self.min_recall:g}"] = lack / max(self.min_recall, 1e-12)
        if self.max_drop is not None:
            over = backbone.accuracy - evaluation.accuracy - self.max_drop
            excess[f"accuracy drop at most {self.max_drop:g}"] = over / max(backbone.accuracy, 1e-12)
        return {name: amount for name, amount in excess.items() if amount > 1e-12}

    def relaxed(self, slack: float, backbone: Evaluation) -> Constraints:
        """Each bound loosened by this share of itself; the drop by this share of the backbone's accuracy."""
        limits = tuple(limit.model_copy(update={"at_most": limit.at_most * (1.0 + slack)}) for limit in self.limits)
        recall = None if self.min_recall is None else max(0.0, self.min_recall * (1.0 - slack))
        drop = None if self.max_drop is None else min(1.0, self.max_drop + slack * backbone.accuracy)
        return Constraints(limits=limits, min_recall=recall, max_drop=drop)

    def violation(self, evaluation: Evaluation, backbone: Evaluation) -> float:
        """By how much the constraint that is broken most is broken, relative to its bound; 0 if all are kept."""
        return max(self.broken(evaluation, backbone).values(), default=0.0)

    def kept(self, evaluations: Sequence[Evaluation], backbone: Evaluation) -> tuple[Evaluation, ...]:
        """Those that keep all constraints; if there is none, the one with the least violation."""
        excess = [self.violation(e, backbone) for e in evaluations]
        if not excess or min(excess) == 0.0:
            return tuple(e for e, amount in zip(evaluations, excess, strict=True) if amount == 0.0)
        return (evaluations[excess.index(min(excess))],)
