"""The one timer: how calls are warmed up, repeated in rounds, paired, and judged. Knows no process and no network.

Round medians are robust against what happens now and then; the lower half of the rounds tells whether the machine was
quiet half of the time. Differences are taken between neighbouring calls, so that a drift of the machine meets both.

The standard library only, and nothing newer than Python 3.9: this file travels with the device kit (`costs.kit`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from operator import sub
from pathlib import Path
from statistics import median
from typing import Any

Call = Callable[[], Any]


@dataclass(frozen=True)
class Protocol:
    """How often and how long everything is measured. Times in seconds.

    Attributes:
        processes: Fresh processes; between two of them lie 1 to 2 % that no repetition within one can show.
        warmup: At least this long, and until three windows agree.
        warmup_max: At most this long.
        warmup_agree: Largest relative difference between windows that agree.
        round: Length of a window and of a round; at least one call.
        rounds_min: Rounds per call and process, at least.
        rounds_max: At most; a call whose rounds have not settled by then is noisy.
        settled: Largest relative spread of the lower half of the rounds.
        floor: Relative difference between processes that is always to be expected.
    """

    processes: int = 3
    warmup: float = 0.25
    warmup_max: float = 2.0
    warmup_agree: float = 0.02
    round: float = 0.05
    rounds_min: int = 5
    rounds_max: int = 30
    settled: float = 0.01
    floor: float = 0.02

    @classmethod
    def quick(cls) -> Protocol:
        """One process and few short rounds: for a first look and for tests, not for reported figures."""
        return cls(processes=1, warmup=0.02, warmup_max=0.1, round=0.01, rounds_min=3, rounds_max=8, floor=0.1)

    @property
    def name(self) -> str:
        """All fields: figures that were measured by different protocols are never taken for each other."""
        return " ".join(f"{part.name}={getattr(self, part.name):.12g}" for part in fields(self))


@dataclass(frozen=True)
class Clock:
    """Where the time comes from, in seconds.

    Attributes:
        wall: Wall time.
        cpu: Time that this thread really ran; all threads of the process, if `waited` is given.
        waited: Time that threads of this process had work and no core. Several threads wait for each other, so that
            wall time cannot be compared with the time that they ran.
    """

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.thread_time
    waited: Callable[[], float] | None = None

    @classmethod
    def of(cls, threads: int) -> Clock:
        """The clock for calls with so many threads, as good as the system's counters are."""
        if threads == 1:
            return cls()
        return cls(cpu=time.process_time, waited=_in_queue if _THREADS.is_dir() else lambda: 0.0)


_THREADS = Path("/proc/self/task")


def _in_queue() -> float:
    """Seconds that this process's threads have stood in the scheduler's queue."""
    total = 0
    for thread in _THREADS.iterdir():
        with suppress(OSError, IndexError, ValueError):  # it has just ended, or the kernel does not count
            total += int((thread / "schedstat").read_text().split()[1])
    return total / 1e9


@dataclass(frozen=True)
class Rounds:
    """Rounds of one figure in one process.

    Attributes:
        ms: Milliseconds per call, the median of each round. [rounds]
        contention: Wall time over the time in which the thread ran; above 1.05 something else ran on the core.
        settled: Whether the lower half of the rounds spread little enough before the most rounds were run.
        mj: Millijoules per call, median of rounds; None where the machine cannot tell.
    """

    ms: list[float]
    contention: float
    settled: bool
    mj: float | None = None


def time_call(
    call: Call, protocol: Protocol, clock: Clock, minus: Call | None = None, meter: Callable[[], float] | None = None
) -> Rounds:
    """Measure a call, or how much longer it takes than another one.

    The two of a difference alternate call by call, and each call is compared with its neighbour: the two must share
    what they work on (a prefix; a prefix and a head), for calls of different networks would empty each other's cache.

    Args:
        call: What is measured.
        protocol: How long and how often; `processes` is the caller's.
        clock: Tests pass one that they move by hand.
        minus: Its time is taken off; the figures may be negative.
        meter: Joules since some moment, if the machine can tell.
    """
    calls = [call] if minus is None else [minus, call]
    repeats = min(warm_up(each, protocol, clock) for each in calls)
    stints: list[_Stint] = []
    settled = False
    while len(stints) < protocol.rounds_min or not (settled or len(stints) == protocol.rounds_max):
        stints.append(_run(calls, repeats, clock, turned=len(stints) * repeats % 2 == 1))
        settled = all(_spread([s.ms[i] for s in stints]) < protocol.settled for i in range(len(calls)))
    mj = None if meter is None else _energy(calls, repeats, (protocol, clock), meter)
    return Rounds([s.figure for s in stints], _contention(stints, clock), settled, mj)


def _contention(stints: Sequence[_Stint], clock: Clock) -> float:
    cpu, waited = sum(s.cpu for s in stints), sum(s.waited for s in stints)
    took = sum(s.wall for s in stints) if clock.waited is None else cpu + waited
    return took / cpu if cpu > 0 else 1.0


def _energy(calls: Sequence[Call], repeats: int, how: tuple[Protocol, Clock], meter: Callable[[], float]) -> float:
    """Millijoules per call; of two calls the difference: they have rounds of their own, for meters are slow."""
    protocol, clock = how
    spent: list[list[float]] = [[] for _ in calls]
    for _ in range(protocol.rounds_min):
        for i, call in enumerate(calls):
            start = meter()
            _run([call], repeats, clock)
            spent[i].append(1000 * (meter() - start) / repeats)
    *less, total = map(median, spent)
    return total - sum(less)


@dataclass(frozen=True)
class _Stint:
    """One round: median milliseconds of each call, and of the differences between neighbours; seconds in total."""

    ms: list[float]
    figure: float
    wall: float
    cpu: float
    waited: float


def _run(calls: Sequence[Call], repeats: int, clock: Clock, *, turned: bool = False) -> _Stint:
    took: list[list[float]] = [[] for _ in calls]
    order = list(range(len(calls)))
    if turned:
        order.reverse()
    wall, cpu, waited = clock.wall, clock.cpu(), clock.waited() if clock.waited else 0.0
    for _ in range(repeats):
        for i in order:
            start = wall()
            calls[i]()
            took[i].append(1000 * (wall() - start))
        order.reverse()  # A B, B A, A B, ...: a drift of the machine cancels
    cpu = clock.cpu() - cpu
    waited = clock.waited() - waited if clock.waited else 0.0
    figure = median(took[0]) if len(calls) == 1 else median(map(sub, took[1], took[0]))
    return _Stint([median(each) for each in took], figure, sum(map(sum, took)) / 1000, cpu, waited)


def warm_up(call: Call, protocol: Protocol, clock: Clock) -> int:
    """Run a call until its speed is steady; returns how many calls fill a round."""
    start = clock.wall()
    windows: list[float] = []
    repeats = 1
    while True:
        stint = _run([call], repeats, clock)
        windows = [*windows[-2:], stint.ms[0]]
        spent = clock.wall() - start
        agree = len(windows) == 3 and max(windows) - min(windows) <= protocol.warmup_agree * min(windows)
        if (spent >= protocol.warmup and agree) or spent >= protocol.warmup_max:
            return repeats
        repeats = max(1, round(repeats * protocol.round / max(stint.wall, 1e-9)))


def _spread(ms: Sequence[float]) -> float:
    """Relative spread of the lower half of the rounds."""
    low = sorted(ms)[: (len(ms) + 1) // 2]
    return (low[-1] - low[0]) / low[0] if low[0] > 0 else 0.0
