"""Figures from blocks in which a network with exits and its backbone alternated.

Robust against what happens now and then, as all that the timer says: samples that leave at the same stop did the same
work, so the mean of a block is made of the median of each stop, weighted by its share of all samples; and of blocks,
then of processes, the median counts. The plain mean of all calls is kept beside it (`raw_mean`). The ratio to the
backbone is taken block by block, so that a drift of the machine meets both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eesearch.core.amounts import Positive
from eesearch.core.costs import StageCosts
from eesearch.core.design import Value

DRAWS = 2000
"""Of the bootstrap."""


class Spent(Value):
    """Milliseconds per sample. Quantiles are over calls: of batches, divided by their size.

    Attributes:
        mean: Of what the work takes, see `costs.pairing`; `raw_mean`: of all calls, whatever happened meanwhile.
    """

    mean: Positive
    raw_mean: Positive
    p50: Positive
    p95: Positive


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocks of one process.

    Attributes:
        exits: Milliseconds per sample of each call of the network with exits. [B, calls]
        backbone: The same of the backbone. [B, calls]
        stop: Where the sample of each call left; None where a call is of several samples. [B, calls]
        wall: Seconds in all; `cpu`: seconds in which the thread ran.
    """

    exits: NDArray[np.float64]
    backbone: NDArray[np.float64]
    stop: NDArray[np.int64] | None
    wall: float
    cpu: float


@dataclass(frozen=True)
class Compared:
    """A network with exits beside its backbone, measured.

    Attributes:
        ratio: Of the mean latencies; `interval`: 95 %, by a bootstrap over the blocks of each process, and never
            narrower than what the processes say.
        spread: Between blocks: half of what lies between the tenth and the ninetieth percentile of their means, over
            the mean.
        processes_spread: Between processes: largest minus smallest mean, over the mean; 0 of a single process.
        contention: Wall over processor time; above 1.05 something else ran on the core.
    """

    exits: Spent
    backbone: Spent
    ratio: float
    interval: tuple[float, float]
    spread: float
    processes_spread: float
    contention: float


def compare_blocks(processes: Sequence[Blocks], *, seed: int = 0) -> Compared:
    """Compare what was timed; the same for the same blocks and seed."""
    exits = [_block_means(process) for process in processes]
    backbone = [_alike(process.backbone, process.stop is not None) for process in processes]
    logs = [np.log(a / b) for a, b in zip(exits, backbone, strict=True)]
    means, medians = [float(np.median(each)) for each in exits], [float(np.median(each)) for each in logs]
    mean, pooled = float(np.median(means)), np.concatenate([e / m for e, m in zip(exits, means, strict=True)])
    low, high = np.percentile(pooled, [10, 90])
    cpu = sum(process.cpu for process in processes)
    return Compared(
        exits=_spent(mean, [process.exits for process in processes]),
        backbone=_spent(
            float(np.median([np.median(each) for each in backbone])), [process.backbone for process in processes]
        ),
        ratio=float(np.exp(np.median(medians))),
        interval=_interval(logs, medians, np.random.default_rng(seed)),
        spread=float(high - low) / 2.0,
        processes_spread=(max(means) - min(means)) / mean,
        contention=sum(process.wall for process in processes) / cpu if cpu > 0.0 else 1.0,
    )


def _alike(calls: NDArray[np.float64], single: bool) -> NDArray[np.float64]:
    """What calls with the same work took in each block; batches differ in theirs. [B]"""
    return np.asarray(np.median(calls, -1) if single else calls.mean(-1))


def _block_means(process: Blocks) -> NDArray[np.float64]:
    """Mean of each block, as if all had the same mix of stops. [B]"""
    if process.stop is None:
        return _alike(process.exits, False)
    means = np.zeros(len(process.exits))
    for stop in np.unique(process.stop):
        here = process.stop == stop
        usual = np.median(process.exits[here])  # for blocks in which nobody left there
        took = [np.median(ms[left]) if left.any() else usual for ms, left in zip(process.exits, here, strict=True)]
        means += here.mean() * np.array(took)
    return means


def _spent(mean: float, calls: Sequence[NDArray[np.float64]]) -> Spent:
    raw, p50, p95 = np.median([[each.mean(), *np.percentile(each, [50, 95])] for each in calls], axis=0).tolist()
    return Spent(mean=mean, raw_mean=raw, p50=p50, p95=p95)


def _interval(
    logs: Sequence[NDArray[np.float64]], medians: Sequence[float], rng: np.random.Generator
) -> tuple[float, float]:
    drawn = np.stack(
        [np.median(each[rng.integers(0, len(each), (DRAWS, len(each)))], axis=-1) for each in logs]
    )  # [processes, DRAWS]
    low, high = np.percentile(np.median(drawn, axis=0), [2.5, 97.5])
    return float(np.exp(min(low, *medians))), float(np.exp(max(high, *medians)))


def predict_calls(costs: StageCosts, stop: NDArray[np.int64]) -> NDArray[np.float64]:
    """What calls are predicted to cost per sample, given where each of their samples leaves. [calls]

    Args:
        costs: Of the active exits and no others, in order. [k]
        stop: Per call and sample; k: it passes the last stop, and is handed on. [calls, batch]
    """
    last = len(costs.exits) - 1
    if costs.calls is None:
        return np.asarray(costs.cumulative(costs.exits)[np.minimum(stop, last)].mean(-1))
    total = np.zeros(len(stop))
    for k in range(last + 1):
        arrived = (stop >= k).sum(-1)
        call = np.interp(arrived, costs.sizes, costs.calls[:, k, k])  # row k is the exit before column k
        total += np.where(arrived > 0, call, 0.0)
    return np.asarray(total / stop.shape[-1])


def predicted_spent(ms: NDArray[np.float64]) -> Spent:
    """Of what is predicted of calls, per sample. [calls]"""
    p50, p95 = np.percentile(ms, [50, 95]).tolist()
    return Spent(mean=float(ms.mean()), raw_mean=float(ms.mean()), p50=p50, p95=p95)


@dataclass(frozen=True)
class Agreement:
    """How well predictions met what was measured, over several networks.

    Attributes:
        error: Median absolute relative error of the mean latency.
        worst: The largest one.
        spearman: Rank correlation of predicted and measured means; None below four networks.
        noise: Largest relative noise of their figures.
        networks: How many.
    """

    error: float
    worst: float
    spearman: float | None
    noise: float
    networks: int


FEWEST_RANKED = 4
"""Networks whose order says something."""


def agreement(predicted: Sequence[float], measured: Sequence[float], noise: Sequence[float]) -> Agreement:
    """Sum up. All [n], n at least 1."""
    errors = np.abs(np.array(predicted) / np.array(measured) - 1.0)
    return Agreement(
        error=float(np.median(errors)),
        worst=float(errors.max()),
        spearman=_spearman(predicted, measured) if len(errors) >= FEWEST_RANKED else None,
        noise=max(noise),
        networks=len(errors),
    )


def _spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Correlation of ranks, equal values sharing theirs; None where all are equal."""
    ranks = [_ranks(np.array(values)) for values in (a, b)]
    if any(np.ptp(each) == 0.0 for each in ranks):
        return None
    a_centred, b_centred = (each - each.mean() for each in ranks)
    return float((a_centred @ b_centred) / np.sqrt((a_centred @ a_centred) * (b_centred @ b_centred)))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    below = (values[None] < values[:, None]).sum(1)
    equal = (values[None] == values[:, None]).sum(1)
    return np.asarray(below + (equal - 1) / 2.0)
