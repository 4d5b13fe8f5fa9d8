"""Batches: costs that depend on how many samples go on, and the linear costs that stand in for them in the search.

A step that a share r of the samples takes costs phi(r) per sample, and phi(r) / r is a mean of cost(n) / n over the
numbers n of samples that a call may have. So a step that costs a fixed amount for each who takes it,
- the least of cost(n) / n, is never dearer than the real one: what is searched with it bounds every policy;
- phi(r) / r at some r, is right where that share takes it: its optimum is near the real one if about so many go on.
All are searched, what they find is told its real cost, and refinement goes by real costs only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eesearch.core.batches import calls_expected
from eesearch.core.costs import StageCosts

SHARES = (0.5, 0.25, 0.125, 0.0625)
"""Shares of the samples at which stand-ins are right."""


def linear_steps(costs: StageCosts) -> list[NDArray[np.float64]]:
    """Costs per sample that takes a step: the steps themselves, or the bound and then the stand-ins. Each [E + 1, E]

    Everybody takes the step from the input: there all are right.

    Args:
        costs: Of the axis that is minimised.
    """
    if costs.calls is None:
        return [costs.step]
    per_sample = costs.calls / np.array(costs.sizes)[:, None, None]
    expected = calls_expected(np.array(SHARES), costs.batch, costs.sizes)  # [S, M]
    allowed = np.where(np.isfinite(costs.calls), costs.calls, 0.0)
    stand_ins = np.tensordot(expected, allowed, 1) / (np.array(SHARES) * costs.batch)[:, None, None]
    steps = [per_sample.min(0), *np.where(np.isfinite(costs.step), stand_ins, np.inf)]
    for step in steps:
        step[0] = costs.step[0]
    return steps
