"""Networks with exits run end to end on a device of this machine: fresh, pinned processes, as for any other figure.

What comes back is raw; `costs.pairing` makes figures of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eesearch.core.errors import CostError
from eesearch.core.progress import Progress, silent
from eesearch.costs.backends import Backend, find_backend
from eesearch.costs.blocks import Block, Course, Piece, Said, Subject
from eesearch.costs.devices import Device
from eesearch.costs.latency import alone, messages, packed
from eesearch.costs.pairing import Blocks
from eesearch.costs.timer import Protocol
from eesearch.nets.lower import Lowered

PHASE = "measure end to end"
"""The name under which progress is told; its unit is one block in one process."""

AT_ONCE = 256
"""Samples that are not timed are computed so many at once, where the back end allows it."""

FEWEST_BLOCKS, MOST_BLOCKS, BLOCK = 5, 30, 50
"""Blocks of one process, and calls that a block should have before there is another one."""

PASSES = 10
"""A sample is timed at most so often in one process."""


@dataclass(frozen=True, eq=False)
class Ride:
    """One network with exits, on its way.

    Attributes:
        stages: Lowered, for as many samples as one call gets.
        order: Which samples are timed, see `timing_order`. [blocks, calls, batch]
    """

    stages: tuple[Lowered, ...]
    order: NDArray[np.int64]


@dataclass(frozen=True)
class Ran:
    """What one network did in one process.

    Attributes:
        blocks: In order.
        said: About all samples.
    """

    blocks: tuple[Block, ...]
    said: Said

    def timed(self, order: NDArray[np.int64]) -> Blocks:
        """Per sample, for `pairing.compare_blocks`.

        Args:
            order: Which samples were timed. [blocks, calls, batch]
        """
        batch = order.shape[-1]
        return Blocks(
            exits=np.array([block.exits for block in self.blocks]) / batch,
            backbone=np.array([block.backbone for block in self.blocks]) / batch,
            stop=np.array(self.said.stop)[order[..., 0]] if batch == 1 else None,
            wall=sum(block.wall for block in self.blocks),
            cpu=sum(block.cpu for block in self.blocks),
        )


Finished = Callable[[int, Sequence[Ran]], None]
"""Told the number of each ride whose last process is done, with what it did in each of them."""


def timing_order(
    stop: NDArray[np.int64], pair_ms: float, seconds: float, *, batch: int = 1, seed: int = 0
) -> NDArray[np.int64]:
    """Which samples are timed, and in what order: as many blocks and calls as the time allows.

    One at a time, samples are drawn so that every stretch has each stop's share, as nearly as can be: blocks are then
    alike. In batches the order is random, as who meets whom in a batch matters.

    Args:
        stop: Where each sample is expected to leave. [N]
        pair_ms: What a sample is expected to take in both networks together.
        seconds: Of one process.
        batch: Samples of a call.
        seed: Of the order.

    Returns:
        Rows of the samples. [blocks, calls, batch]
    """
    rng = np.random.default_rng(seed)
    most = max(1, PASSES * len(stop) // batch)
    calls = min(most, max(1, round(1000 * seconds / (batch * pair_ms))))
    blocks = min(calls, max(FEWEST_BLOCKS, min(MOST_BLOCKS, calls // BLOCK)))
    size = max(1, calls // blocks)
    needed = blocks * size * batch
    passes = -(-needed // len(stop))
    drawn = [rng.permutation(len(stop)) if batch > 1 else _balanced(stop, rng) for _ in range(passes)]
    return np.concatenate(drawn)[:needed].reshape(blocks, size, batch)


def _balanced(stop: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """A random order of all samples in which those of each stop are evenly spaced."""
    place = np.empty(len(stop))
    for number in np.unique(stop):
        members = rng.permutation(np.flatnonzero(stop == number))
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(place, kind="stable")


RunRides = Callable[..., None]
"""`run_rides`, or what tests put in its place."""


def run_rides(
    rides: Sequence[Ride],
    backbone: nn.Module,
    samples: NDArray[np.generic],
    *,
    device: Device,
    protocol: Protocol,
    finished: Finished,
    progress: Progress = silent,
) -> None:
    """Run networks with real early stopping, in blocks that alternate with the backbone.

    Args:
        rides: One after the other in every process.
        backbone: The unmodified network, raw samples to logits; in eval mode.
        samples: Raw ones; in the first process every network answers all of them. [N, ...]
        device: Its back end, threads and batch.
        protocol: Its `processes`; how long is warmed up.
        finished: Told what each ride did, as soon as it is known.
        progress: Told after each block.

    Raises:
        CostError: the device is not timed here, a network cannot be sent, or fails on the back end.
    """
    if not device.timed:
        raise CostError(f"nothing runs on the device '{device.name}' here", expected="a device such as cpu:eager:t1:b1")
    backend = find_backend(device.kind, device.backend)
    course = _course(rides, backbone, samples, backend, device.batch)
    run_course(course, device=device, protocol=protocol, finished=finished, progress=progress)


def run_course(
    course: Course, *, device: Device, protocol: Protocol, finished: Finished, progress: Progress = silent
) -> None:
    """The same of networks that are prepared already: they may come from elsewhere, such as a quantiser.

    Args:
        course: What runs in every process; only in the first one every sample is answered.
        device: A timed one; its back end made the pieces.
        protocol: Its `processes`; how long is warmed up.
        finished: Told what each network did, as soon as it is known.
        progress: Told after each block.

    Raises:
        CostError: a network cannot be sent, or fails on the back end.
    """
    total, done = protocol.processes * sum(len(subject.order) for subject in course.subjects), 0
    ran: list[list[Ran]] = [[] for _ in course.subjects]
    with alone(progress, total, PHASE):
        for process in range(protocol.processes):
            payload = packed("eesearch.costs.blocks:serve", replace(course, complete=process == 0), device, protocol)
            blocks: list[Block] = []
            for message in messages(payload, device):
                if "exits" in message:
                    blocks.append(Block(**message))
                    done += 1
                    progress(PHASE, done, total)
                    continue
                said = Said(**message)
                ran[said.subject].append(Ran(tuple(blocks), said))
                blocks = []
                if process == protocol.processes - 1:
                    finished(said.subject, ran[said.subject])


def _course(
    rides: Sequence[Ride], backbone: nn.Module, samples: NDArray[np.generic], backend: Backend, batch: int
) -> Course:
    subjects = tuple(
        Subject(
            stages=tuple(_piece(backend, stage.module, stage.example) for stage in ride.stages),
            thresholds=tuple(stage.threshold for stage in ride.stages),
            remembers=any(name.startswith("logits") for stage in ride.stages for name in stage.inputs),
            order=ride.order,
        )
        for ride in rides
    )
    whole = _piece(backend, backbone, rides[0].stages[0].example)
    return Course(subjects, whole, samples, AT_ONCE if backend.batches and not backend.largest else batch)


def _piece(backend: Backend, module: nn.Module, args: tuple[Tensor, ...]) -> Piece:
    module.eval()
    with torch.no_grad():
        return Piece(backend.prepare(module, args), args)
