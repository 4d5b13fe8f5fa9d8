"""A last resort: ask a person, send to the cloud; priced, and right about everything it is asked.

IDK cascades (Wang et al. 2018) end in an expert. In a table it is one more row that gives the label, and in the costs
one more step from anywhere, behind which nothing follows. A deployed network answers `ABSTAINED`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

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
    asked = ExitTable(logits, table.labels, (*table.exits, ASK), table.split, table.samples)
    return asked, tuple(_priced(cost, price) for cost in costs)


def _priced(costs: StageCosts, price: Mapping[Axis, float]) -> StageCosts:
    asked = price.get(costs.axis, -1.0)
    if not asked >= 0.0:
        raise CostError(
            f"the last resort has no price in {costs.axis}", got=dict(price), expected="a number, at least 0"
        )
    rows = np.append(costs.step, np.full((1, len(costs.exits)), np.inf), axis=0)  # nothing follows it
    column = np.append(np.full(len(rows) - 1, asked), np.inf)[:, None]
    return StageCosts(np.append(rows, column, axis=1), (*costs.exits, ASK), costs.axis, costs.backbone)
