"""Latency of modules, measured in fresh, pinned processes, one at a time on this machine (repeatable to 1-2 %).

Jobs go to the worker as a pickle through its standard input, from this process only; nothing that lies in a file is
ever unpickled. Rounds come back as lines of JSON.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import IO, Any

import cloudpickle
from filelock import FileLock, Timeout

from eesearch.core.costs import Timing
from eesearch.core.errors import CostError
from eesearch.core.progress import Progress, silent
from eesearch.costs.devices import Device
from eesearch.costs.machine import steady_environment
from eesearch.costs.pieces import Prepared
from eesearch.costs.summary import figures, noise_between
from eesearch.costs.timer import Protocol, Rounds

PHASE = "measure latency"
"""The name under which progress is told; its unit is one job in one process."""


@dataclass(frozen=True, eq=False)
class Job:
    """One figure to measure, prepared for a back end; see `pieces.Figure`.

    Attributes:
        name: Unique among the jobs measured together.
        parts: Run in a row; the first is given its example inputs.
        minus: If given, the figure is a difference (`timer.time_call`).
        decides: Whether the host looks at what is given last.
    """

    name: str
    parts: tuple[Prepared, ...]
    minus: tuple[Prepared, ...] = ()
    decides: bool = False


@dataclass(frozen=True)
class Measured:
    """Figures by the names of their jobs, and how far processes disagree.

    Attributes:
        timings: name -> figure in milliseconds per call.
        noise: Relative spread between processes (median over jobs without `minus`), at least the protocol's floor.
        mj: Millijoules per call by the names of the jobs for which every process could tell.
    """

    timings: dict[str, Timing]
    noise: float
    mj: Mapping[str, float] = field(default_factory=dict)


Measure = Callable[[Sequence[Job], Device, Protocol, Progress], Measured]


def measure(
    jobs: Sequence[Job], device: Device, protocol: Protocol | None = None, progress: Progress = silent
) -> Measured:
    """Measure jobs on a timed device, alone on this machine as far as other measurements of ours go.

    Args:
        jobs: Measured one after the other in every process.
        device: Its threads and back end are used.
        protocol: How long and how often; the full protocol by default.
        progress: Told after each job.

    Raises:
        CostError: the device is not timed here, a job cannot be sent, or fails in the worker.
    """
    protocol = protocol or Protocol()
    rounds = measure_rounds(jobs, device, protocol, progress)
    whole = [rounds[job.name] for job in jobs if not job.minus]
    timings = {job: summarize(found) for job, found in rounds.items()}
    return Measured(timings, noise_between(whole, protocol), _energy(rounds))


def measure_rounds(
    jobs: Sequence[Job], device: Device, protocol: Protocol, progress: Progress = silent
) -> dict[str, list[Rounds]]:
    """The rounds of each job in each process; see `measure`."""
    if not device.timed:
        raise CostError(f"nothing is timed on the device '{device.name}'", expected="a device such as cpu:eager:t1:b1")
    if len({job.name for job in jobs}) < len(jobs):
        raise CostError("two measurements have the same name", got=[job.name for job in jobs])
    payload = packed("eesearch.costs.worker:serve", tuple(jobs), device, protocol)
    rounds: dict[str, list[Rounds]] = {job.name: [] for job in jobs}
    total = protocol.processes * len(jobs)
    with alone(progress, total):
        for process in range(protocol.processes):
            for done, (job, found) in enumerate(_replies(payload, device), process * len(jobs) + 1):
                rounds[job].append(found)
                progress(PHASE, done, total)
    return rounds


def _energy(rounds: Mapping[str, Sequence[Rounds]]) -> dict[str, float]:
    """The median over processes, where all of them could tell; a negative difference becomes 0, as a time does."""
    told = {job: [each.mj for each in found if each.mj is not None] for job, found in rounds.items()}
    return {job: max(0.0, median(mj)) for job, mj in told.items() if mj and len(mj) == len(rounds[job])}


def summarize(processes: Sequence[Rounds]) -> Timing:
    """One figure from its rounds in all processes; a negative difference becomes 0, and noisy."""
    return Timing(**figures(processes))


def packed(task: str, *arguments: object) -> bytes:
    """What a worker is sent: it calls `task(*arguments, clock, channel)`.

    Args:
        task: `module:function` of ours.
        arguments: What can be pickled.

    Raises:
        CostError: an argument cannot be pickled.
    """
    try:
        return bytes(cloudpickle.dumps((task, arguments)))
    except (pickle.PicklingError, TypeError, AttributeError, RuntimeError) as error:
        raise CostError(
            "the model cannot be sent to the measuring process",
            got=str(error),
            do="It must be possible to pickle it: no open files, locks or generators among its attributes.",
        ) from error


@contextmanager
def alone(progress: Progress, total: int, phase: str = PHASE) -> Iterator[None]:
    """Hold the lock that all measurements of this user on this machine share."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    lock = FileLock(Path(tempfile.gettempdir()) / f"eesearch-measure-{user}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress("wait for another measurement", 0, 1)
        lock.acquire()
    try:
        progress(phase, 0, total)
        yield
    finally:
        lock.release()


def _replies(payload: bytes, device: Device) -> Iterator[tuple[str, Rounds]]:
    """The rounds of each job, from one fresh worker."""
    for message in messages(payload, device):
        yield message.pop("job"), Rounds(**message)


def messages(payload: bytes, device: Device) -> Iterator[dict[str, Any]]:
    """Run one fresh worker and yield what it tells; whatever happens, it is gone afterwards.

    Args:
        payload: See `packed`.
        device: Whose threads and environment it gets.

    Raises:
        CostError: the task failed, or the worker died.
    """
    with tempfile.TemporaryFile() as errors, _worker(device, errors) as (send, receive):
        with suppress(BrokenPipeError):  # it died at once: told below, with its last words
            send.write(payload)
            send.close()
        for line in receive:
            message = json.loads(line)
            if message == "done":
                return
            if "error" in message:
                raise CostError(f"measuring {message['job']} failed", got=message["error"])
            yield message
        errors.seek(0)
        last_words = errors.read().decode(errors="replace").strip().splitlines()[-3:]
        raise CostError("the measuring process died", got=" / ".join(last_words) or "no message")


@contextmanager
def _worker(device: Device, errors: IO[bytes]) -> Iterator[tuple[IO[Any], IO[Any]]]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "eesearch.costs.worker", str(device.threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=environment(device),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdin, process.stdout
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        with suppress(BrokenPipeError):  # what it had not read yet
            process.stdin.close()


def environment(device: Device) -> dict[str, str]:
    """Environment of a worker: its imports are ours, its threads and its allocator are the device's."""
    paths = [path or os.getcwd() for path in sys.path]
    return {**os.environ, **steady_environment(device.threads), "PYTHONPATH": os.pathsep.join(paths)}


@dataclass(frozen=True)
class Measuring:
    """How latency is measured.

    Attributes:
        protocol: How long and how often.
        measure: Turns jobs into figures; tests pass one that needs no time.
        progress: Told after each figure.
    """

    protocol: Protocol = field(default_factory=Protocol)
    measure: Measure = measure
    progress: Progress = silent
