"""A last resort: ask a person, send to the cloud; priced, and right about everything it is asked.

IDK cascades (Wang et al. 2018) end in an expert. In a table it is one more row that gives the label, and in the costs
one more step from anywhere, behind which nothing follows. A deployed network answers `ABSTAINED`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eesearch.core.costs import Axis, StageCosts
from eesearch.core.design import ASK
from eesearch.core.errors import CostError
from eesearch.core.tables import ExitTable


def with_last_resort(
    table: ExitTable, costs: Sequence[StageCosts], price: Mapping[Axis, float]
) -> tuple[ExitTable, tuple[StageCosts, ...]]:
    """Add the last resort to a table and to its costs; reported accuracies then count what it is asked as right.

    Args:
        table: Any split.
        costs: One per axis.
        price: What asking costs on each of these axes, on top of what has been paid.

    Raises:
        CostError: an axis has no price, or it is negative or no number.
    """
    answers = np.eye(table.logits.shape[-1], dtype=np.float32)[table.labels]  # [N, C]
    logits = np.concatenate([table.logits, answers[None]])
    asked = replace(table, logits=logits, exits=(*table.exits, ASK))
    return asked, tuple(_priced(cost, price) for cost in costs)


def _priced(costs: StageCosts, price: Mapping[Axis, float]) -> StageCosts:
    asked = price.get(costs.axis, -1.0)
    if not asked >= 0.0:
        raise CostError(
            f"the last resort has no price in {costs.axis}", got=dict(price), expected="a number, at least 0"
        )
    calls = None
    if costs.calls is not None:  # each sample is asked about for itself
        calls = np.array([_asking(call, asked * size) for call, size in zip(costs.calls, costs.sizes, strict=True)])
    return replace(costs, step=_asking(costs.step, asked), exits=(*costs.exits, ASK), calls=calls)


def _asking(step: NDArray[np.float64], asked: float) -> NDArray[np.float64]:
    """The last resort as one more row and column. [E + 2, E + 1]"""
    rows = np.append(step, np.full((1, step.shape[1]), np.inf), axis=0)  # nothing follows it
    return np.append(rows, np.append(np.full(len(step), asked), np.inf)[:, None], axis=1)
