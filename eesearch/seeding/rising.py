"""Placements on several networks, by rule: the cheap ones first, as whoever builds a cascade by hand begins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eesearch.core.cascades import member_of
from eesearch.core.design import ExitId
from eesearch.seeding.placement import Seed


def by_rising_cost(whole: Sequence[ExitId], costs: Sequence[float]) -> list[Seed]:
    """All networks that are cheaper than the reference, by rising cost; and each of them alone before it.

    Args:
        whole: Own classifiers of the networks, that of the reference last. [L]
        costs: Of each network. [L]

    Returns:
        Their exits, without the reference's own classifier, which follows always; none where nothing is cheaper.
    """
    cheaper = [row for row in np.argsort(costs, kind="stable") if costs[row] < costs[-1]]
    rising = tuple(whole[row] for row in cheaper)
    alone = [Seed(f"{member_of(e)} first", (e,)) for e in rising]
    return [Seed("networks by rising cost", rising), *alone] if len(rising) > 1 else alone
