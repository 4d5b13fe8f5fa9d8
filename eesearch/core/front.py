"""Evaluated policies and the fronts they form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from html import escape
from operator import is_
from typing import TYPE_CHECKING

import moocore
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from eesearch.core.costs import FOLDS, Axis
from eesearch.core.design import Design, ExitId, Value
from eesearch.core.errors import PickError
from eesearch.core.paired import wilson
from eesearch.core.policy import Policy

if TYPE_CHECKING:
    import pandas as pd

MAX_DROP = 0.05
"""Default depth of the rectangle in which fronts are valued: this much error more than the backbone."""


class CostSummary(Value):
    """The cost of a policy over the samples of a split, on one axis: the mean, the 95th percentile, the worst case.

    With batches, the mean is that of batches that shrink as samples leave; percentile and worst case are per sample of
    batches that stay together.
    """

    mean: float
    p95: float
    worst: float


class Evaluation(Value):
    """One policy on one split.

    Attributes:
        design: Key of the design whose network it runs; "" for the unmodified backbone.
        strategy: How that network was trained; "backbone" for the unmodified backbone.
        accuracy: Share of right answers, by the weights of their classes if they have any.
        samples: Number of samples behind it.
        effective_samples: With class weights, how many samples of equal weight would tell the accuracy as surely.
        exit_rate: Share of the samples that leaves at each stop; sums to 1. [k]
        costs: Per axis.
        worst_recall: Share of right answers in the class that has the smallest; None if it was not evaluated.
    """

    policy: Policy
    design: str = ""
    strategy: str = ""
    accuracy: float
    samples: int
    exit_rate: tuple[float, ...]
    costs: dict[Axis, CostSummary]
    worst_recall: float | None = None
    effective_samples: float | None = Field(default=None, exclude_if=partial(is_, None))

    @property
    def error(self) -> float:
        """1 - accuracy."""
        return 1.0 - self.accuracy

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy."""
        return wilson(self.accuracy, self.samples if self.effective_samples is None else self.effective_samples)

    def made_by(self, design: Design) -> Evaluation:
        """The same, marked with the design whose network it runs."""
        return self.model_copy(update={"design": design.key, "strategy": design.strategy})


class Certificate(Value):
    """What a front is known to be within: no policy of the family that was searched lies below it.

    Attributes:
        exact: Whether the family was searched completely; then nothing lies below the front that it had then.
        floor: Steps (error, cost / backbone's cost), by rising error: no policy with at most this error costs less.
        gain: Hypervolume that the front could still gain, see `Front.hypervolume`; 0 if exact.
        paths: Number of paths of exits in the family.
        levels: Largest number of thresholds per exit; None: all.
        seconds: What the search took.
    """

    exact: bool
    floor: tuple[tuple[float, float], ...]
    gain: float
    paths: int
    levels: int | None = None
    seconds: float

    def __str__(self) -> str:
        levels = "all thresholds" if self.levels is None else f"{self.levels} thresholds per exit"
        searched = f"{self.paths:,} paths of exits, {levels}, in {self.seconds:.1f} s"
        if self.exact:
            return f"exact: of {searched}, nothing is better anywhere"
        return f"not exact ({searched}): the hypervolume could still grow by at most {self.gain:.4f}"


class Front:
    """The non-dominated evaluations in (error, mean cost on one axis), by rising cost; duplicates are kept once.

    Args:
        evaluations: Any; the dominated ones are dropped.
        backbone: The unmodified backbone on the same split: the unit of relative costs and the zero of drops.
        axis: The cost axis.
        device: Whose front this is.
        certificate: Of the search that made it, if it was one search.
    """

    def __init__(
        self,
        evaluations: Iterable[Evaluation],
        *,
        backbone: Evaluation,
        axis: Axis,
        device: str,
        certificate: Certificate | None = None,
    ) -> None:
        self.backbone = backbone
        self.axis: Axis = axis
        self.device = device
        self.certificate = certificate
        given = sorted(evaluations, key=lambda e: (e.costs[axis].mean, e.error, e.policy.model_dump_json(), e.design))
        self.points: tuple[Evaluation, ...] = tuple(_non_dominated(given, axis))

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, point: int) -> Evaluation:
        return self.points[point]

    def __repr__(self) -> str:
        return f"Front({len(self)} points on {self.device}, {self.axis})"

    def _repr_html_(self) -> str:
        """A small table for notebooks: every point and the backbone, by rising cost."""
        unit = self.backbone.costs[self.axis].mean
        head = ("point", "leave at", "accuracy", "drop", f"mean {self.axis}", "ratio")
        named = [*((str(i), e) for i, e in enumerate(self.points)), ("backbone", self.backbone)]
        rows = "".join(_html_row("td", _html_cells(name, e, self, unit)) for name, e in named)
        caption = escape(f"{self.device}: front on calibration")
        return f"<table><caption>{caption}</caption><thead>{_html_row('th', head)}</thead><tbody>{rows}</tbody></table>"

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """(error, mean cost / backbone's cost) of every point. [P, 2]"""
        unit = self.backbone.costs[self.axis].mean
        return np.array([(e.error, e.costs[self.axis].mean / unit) for e in self.points]).reshape(-1, 2)

    def merge(self, *others: Front) -> Front:
        """The front of all points of this front and the others (same backbone, axis and device)."""
        points = [e for front in (self, *others) for e in front.points]
        return Front(points, backbone=self.backbone, axis=self.axis, device=self.device)

    def hypervolume(self, *, max_drop: float = MAX_DROP) -> float:
        """Share of the rectangle (0, 0) .. (backbone's error + max_drop, backbone's cost) that the front dominates.

        If no point reaches the rectangle: minus the smallest shortfall (excess error plus excess relative cost), so
        that bad fronts are ranked too.
        """
        return hypervolume(self.values, self.backbone.error + max_drop)

    def within(self, max_drop: float) -> Evaluation | None:
        """The cheapest point whose accuracy is at most `max_drop` below the backbone's; None if there is none."""
        floor = self.backbone.accuracy - max_drop - 1e-12
        return next((e for e in self.points if e.accuracy >= floor), None)

    def knee(self) -> Evaluation:
        """The point farthest below the chord between the cheapest and the best point, axes scaled to [0, 1].

        Raises:
            PickError: the front is empty.
        """
        if not len(self):
            raise PickError(f"the front of {self.device} is empty")
        error, cost = self.values.T
        span = max(error[0] - error[-1], 1e-12), max(cost[-1] - cost[0], 1e-12)
        below = 1.0 - (error - error[-1]) / span[0] - (cost - cost[0]) / span[1]
        return self.points[int(below.argmax())]

    def to_pandas(self) -> pd.DataFrame:
        """One row per point: what it does and costs on the split that it was evaluated on."""
        import pandas as pd

        rows = [{"point": i, "device": self.device} | describe(e) for i, e in enumerate(self.points)]
        frame = pd.DataFrame(rows)
        return frame[[*frame.columns.drop("design"), "design"]] if len(frame) else frame


LEAST_ERROR = 1e-12
"""Of a reference point where no error is allowed: what then counts is the cheapest point that makes none."""


def hypervolume(values: NDArray[np.float64], error: float) -> float:
    """Share of the rectangle (0, 0) .. (error, 1) that points dominate, or minus the smallest shortfall.

    Args:
        values: (error, cost / backbone's cost). [P, 2]
        error: Of the reference point.
    """
    reference = np.array([max(error, LEAST_ERROR), 1.0])
    excess = np.maximum(values - reference, 0.0).sum(-1)
    if not len(values) or excess.min() > 0.0:
        return -float(excess.min()) if len(values) else -2.0
    return float(moocore.hypervolume(values, ref=reference) / reference.prod())


def _non_dominated(given: Sequence[Evaluation], axis: Axis) -> list[Evaluation]:
    """Those whose error is below every cheaper one's; `given` rises in (cost, error)."""
    kept: list[Evaluation] = []
    for evaluation in given:
        if not kept or evaluation.error < kept[-1].error:
            kept.append(evaluation)
    return kept


def _html_row(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _html_cells(name: str, evaluation: Evaluation, front: Front, unit: float) -> tuple[str, ...]:
    stops = zip(evaluation.exit_rate, evaluation.policy.exits, strict=True)
    cost = evaluation.costs[front.axis].mean
    return (
        name,
        ", ".join(f"{rate:.1%} {exit_name(e)}" for rate, e in stops),
        f"{evaluation.accuracy:.2%}",
        f"{100.0 * (front.backbone.accuracy - evaluation.accuracy):+.2f}",
        f"{cost:.4g}",
        f"{cost / unit:.3f}",
    )


def exit_name(exit_id: ExitId) -> str:
    """How an exit is called in tables and plots: its cut, and its tier; `output` and `last resort` are cuts too."""
    coded = " over 8 bits" if exit_id.link else ""
    return f"{exit_id.cut} on {exit_id.tier}{coded}" if exit_id.tier else exit_id.cut


def describe(evaluation: Evaluation) -> dict[str, str | float]:
    """The columns that every table of points shares; lists are `|`-joined, one entry per stop."""
    policy = evaluation.policy
    row: dict[str, str | float] = {"accuracy": evaluation.accuracy}
    for axis, cost in evaluation.costs.items():
        if FOLDS[axis] != "mean":
            row[axis] = cost.worst
        else:
            row |= {axis: cost.mean, f"{axis}_p95": cost.p95, f"{axis}_worst": cost.worst}
    return row | {
        "exits": "|".join(exit_name(e) for e in policy.exits),
        "heads": "|".join(e.head for e in policy.exits),
        "criterion": policy.decision,
        "thresholds": "|".join(str(t) for t in policy.thresholds),
        "exit_rate": "|".join(f"{r:.4f}" for r in evaluation.exit_rate),
        "strategy": evaluation.strategy,
        "design": evaluation.design,
    }
