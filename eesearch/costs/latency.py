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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
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
    """

    timings: dict[str, Timing]
    noise: float


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
    if not device.timed:
        raise CostError(f"nothing is timed on the device '{device.name}'", expected="a device such as cpu:eager:t1:b1")
    if len({job.name for job in jobs}) < len(jobs):
        raise CostError("two measurements have the same name", got=[job.name for job in jobs])
    payload = _payload(jobs, device, protocol)
    rounds: dict[str, list[Rounds]] = {job.name: [] for job in jobs}
    total = protocol.processes * len(jobs)
    with _alone(progress, total):
        for process in range(protocol.processes):
            for done, (job, found) in enumerate(_replies(payload, device), process * len(jobs) + 1):
                rounds[job].append(found)
                progress(PHASE, done, total)
    whole = [rounds[job.name] for job in jobs if not job.minus]
    return Measured({job: summarize(found) for job, found in rounds.items()}, noise_between(whole, protocol))


def summarize(processes: Sequence[Rounds]) -> Timing:
    """One figure from its rounds in all processes; a negative difference becomes 0, and noisy."""
    return Timing(**figures(processes))


def _payload(jobs: Sequence[Job], device: Device, protocol: Protocol) -> bytes:
    try:
        return bytes(cloudpickle.dumps((tuple(jobs), device, protocol)))
    except (pickle.PicklingError, TypeError, AttributeError, RuntimeError) as error:
        raise CostError(
            "the model cannot be sent to the measuring process",
            got=str(error),
            do="It must be possible to pickle it: no open files, locks or generators among its attributes.",
        ) from error


@contextmanager
def _alone(progress: Progress, total: int) -> Iterator[None]:
    """Hold the lock that all measurements of this user on this machine share."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    lock = FileLock(Path(tempfile.gettempdir()) / f"eesearch-measure-{user}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress("wait for another measurement", 0, 1)
        lock.acquire()
    try:
        progress(PHASE, 0, total)
        yield
    finally:
        lock.release()


def _replies(payload: bytes, device: Device) -> Iterator[tuple[str, Rounds]]:
    """Run one fresh worker and yield the rounds of each job; whatever happens, it is gone afterwards."""
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
            yield message.pop("job"), Rounds(**message)
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
