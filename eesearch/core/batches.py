"""Batches whose samples leave one by one: how many calls with how many samples are to be expected.

Samples are taken as exchangeable: in a batch of B the number that gets as far as a stop which a share r of all samples
reaches is binomial, B draws with probability r. A call with a number of samples that was not measured costs what lies
between its measured neighbours; a call without samples is not made.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlog1py, xlogy

Floats = NDArray[np.float64]


def calls_expected(share: Floats, batch: int, sizes: Sequence[int]) -> Floats:
    """Expected number of calls of each measured size that a batch makes at a stop. [..., M]

    Multiplied with the cost of calls at these sizes this is the expected cost of the stop for one batch.

    Args:
        share: Of the samples that arrives there. [...]
        batch: Samples that start together (B).
        sizes: For which calls were measured, rising; the first is 1, the last B. [M]
    """
    return survivors(share, batch) @ _between(batch, tuple(sizes))


def survivors(share: Floats, batch: int) -> Floats:
    """Probability that n = 0 .. B samples of a batch arrive where a share of all samples does. [..., B + 1]"""
    n = np.arange(batch + 1)
    ways = gammaln(batch + 1) - gammaln(n + 1) - gammaln(batch - n + 1)
    arrives = np.asarray(share, np.float64)[..., None]
    return np.asarray(np.exp(ways + xlogy(n, arrives) + xlog1py(batch - n, -arrives)))


@lru_cache(64)
def _between(batch: int, sizes: tuple[int, ...]) -> Floats:
    """How much each measured size counts for a call with n samples; the row of n = 0 is 0. [B + 1, M]"""
    weight = np.zeros((batch + 1, len(sizes)))
    for m, unit in enumerate(np.eye(len(sizes))):
        weight[1:, m] = np.interp(np.arange(1, batch + 1), sizes, unit)
    return weight
