"""How well this machine can be measured: one fixed module as several figures that ought to be the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from torch import nn

from eesearch.core.errors import CostError
from eesearch.core.progress import Progress, silent
from eesearch.core.timings import CONTENDED
from eesearch.costs.devices import parse_device
from eesearch.costs.latency import Job, measure_rounds
from eesearch.costs.pieces import Prepared
from eesearch.costs.timer import Protocol, Rounds
from eesearch.nets.modes import evaluating

FIGURES = 5
"""How often the module is measured as a figure of its own, in each process."""


@dataclass(frozen=True)
class Noise:
    """The timer's own noise on a device. Spreads are (largest - smallest) / median.

    Attributes:
        device: Its name.
        ms: The figure, milliseconds per call.
        figures: Spread of the figures, which ought to be one: differences below it say nothing.
        processes: Spread between processes, the median over figures.
        rounds: Spread of the middle 80 % of the rounds within a process, the median over processes and figures.
        contention: Largest wall time over processor time.
        floor: What the protocol always expects.
        settled: Whether all rounds settled.
    """

    device: str
    ms: float
    figures: float
    processes: float
    rounds: float
    contention: float
    floor: float
    settled: bool

    @property
    def ties(self) -> float:
        """Relative difference under which two figures are the same as far as this machine can tell."""
        return max(self.floor, self.figures, self.processes)

    @property
    def verdict(self) -> str:
        """What to make of it."""
        words = f"differences under {self.ties:.1%} are ties"
        if self.contention > CONTENDED:
            return f"{words}; other work runs on these cores: measure again when it has ended"
        return words if self.settled else f"{words}; the rounds never settled: the machine's speed changes"


def timer_noise(
    device: str,
    protocol: Protocol | None = None,
    progress: Progress = silent,
    measure: Callable[..., dict[str, list[Rounds]]] = measure_rounds,
) -> Noise:
    """Measure a fixed module several times over, as figures of a profile are measured.

    Args:
        device: A timed device.
        protocol: The full one by default.
        progress: Told after each figure.
        measure: Jobs to rounds; tests pass one that needs no time.

    Raises:
        CostError: nothing is timed there, the device does not exist, or the measurement failed.
    """
    where, protocol = parse_device(device), protocol or Protocol()
    if not where.timed:
        raise CostError(f"nothing is timed on the device '{device}'", expected="a device such as cpu:eager:t1:b1")
    module, x = _reference(), torch.ones(where.batch, 3, 32, 32)
    with evaluating(module):
        part = Prepared(where.runs.prepare(module, (x,)), (x,))
    jobs = [Job(f"reference {i}", (part,)) for i in range(FIGURES)]
    return _judged(device, list(measure(jobs, where, protocol, progress).values()), protocol)


def _judged(device: str, found: Sequence[Sequence[Rounds]], protocol: Protocol) -> Noise:
    medians = [[median(rounds.ms) for rounds in processes] for processes in found]
    figures = [median(each) for each in medians]
    every = [rounds for processes in found for rounds in processes]
    return Noise(
        device,
        ms=median(figures),
        figures=_spread(figures),
        processes=median(map(_spread, medians)),
        rounds=median(_spread(np.percentile(rounds.ms, [10, 50, 90]).tolist()) for rounds in every),
        contention=max(rounds.contention for rounds in every),
        floor=protocol.floor,
        settled=all(rounds.settled for rounds in every),
    )


def _spread(ms: Sequence[float]) -> float:
    return (max(ms) - min(ms)) / median(ms)


def _reference() -> nn.Module:
    """Three convolutions of a small network: a few milliseconds, and more than fits into the nearest cache."""
    layers = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(*layers, nn.Conv2d(64, 64, 3, padding=1), nn.Flatten(), nn.Linear(64 * 1024, 10)).eval()
