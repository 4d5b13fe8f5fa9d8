"""Networks with exits and their backbone, timed against each other in blocks: what runs in the measuring process.

A block is the same samples through one, then through the other, in an order that turns from block to block: a drift of
the machine meets both. Within one nothing else runs: calls of different networks would empty each other's cache.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eesearch.costs.backends import Backend, Call, find_backend
from eesearch.costs.deployed import StageRunner
from eesearch.costs.devices import Device
from eesearch.costs.timer import Clock, Protocol, warm_up
from eesearch.nets.inputs import as_tensor
from eesearch.nets.stages import Prediction

WARMING = 16
"""Calls of each network that are run again and again until their speed is steady."""

DIGITS = 6
"""Of a millisecond that are sent: nanoseconds."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A module that a back end has prepared, and inputs that it takes."""

    prepared: Any
    args: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Subject:
    """A network with exits, and which samples are timed on it.

    Attributes:
        stages: Lowered and prepared. [k]
        thresholds: Of each stage. [k]
        remembers: Whether a stage is shown the logits of all earlier ones.
        order: Rows of the samples, call by call. [blocks, calls, batch]
    """

    stages: tuple[Piece, ...]
    thresholds: tuple[float, ...]
    remembers: bool
    order: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Course:
    """All that is run in one process.

    Attributes:
        subjects: One after the other.
        backbone: The unmodified network, that each of them alternates with.
        samples: Raw samples. [N, ...]
        at_once: How many of those that are not timed may be computed at once.
        complete: Whether those that are not timed are answered too.
    """

    subjects: tuple[Subject, ...]
    backbone: Piece
    samples: NDArray[Any]
    at_once: int
    complete: bool = True


@dataclass(frozen=True)
class Block:
    """What one block took.

    Attributes:
        subject: Number of the network with exits.
        exits: Milliseconds of each call of it. [calls]
        backbone: The same of the backbone. [calls]
        wall: Seconds in all; with several threads, those in which they ran or waited for a core.
        cpu: Of these, seconds in which they ran.
    """

    subject: int
    exits: list[float]
    backbone: list[float]
    wall: float
    cpu: float


@dataclass(frozen=True)
class Said:
    """What a network with exits says about all samples.

    Attributes:
        subject: Its number.
        answer: Class of each, -1 for those that are handed on. [N]
        stop: Where each leaves; -1 for those that nobody asked about. [N]
    """

    subject: int
    answer: list[int]
    stop: list[int]


def serve(course: Course, device: Device, protocol: Protocol, clock: Clock, channel: IO[str]) -> None:
    """Run the course and write each result; stops at the first network that fails.

    Args:
        course: What to run.
        device: Whose back end runs it.
        protocol: How long is warmed up.
        clock: Where the time comes from.
        channel: Gets a line of JSON per `Block`, one per `Said`, then `"done"`; or an `error`.
    """

    def tell(message: object) -> None:
        channel.write(json.dumps(message, separators=(",", ":")) + "\n")
        channel.flush()

    job = "the unmodified network"
    try:
        with torch.inference_mode():
            backend = find_backend(device.kind, device.backend)
            reference = backend.load(course.backbone.prepared, course.backbone.args, device.threads)
            for number, subject in enumerate(course.subjects):
                job = f"network {number + 1}"
                ride = _Ride(course, subject, reference, (backend, device.threads))
                warm_up(ride.both, protocol, clock)
                for block in range(len(subject.order)):
                    tell(asdict(ride.block(number, block, clock)))
                tell(asdict(ride.said(number)))
    except Exception as error:  # whatever the user's modules raise: told to the parent
        tell({"job": job, "error": f"{type(error).__name__}: {error}"})
        return
    tell("done")


class _Ride:
    """A subject, compiled, beside the backbone."""

    def __init__(self, course: Course, subject: Subject, reference: Call, place: tuple[Backend, int]) -> None:
        backend, threads = place
        calls = tuple(load_piece(backend, piece, threads) for piece in subject.stages)
        self.runner = StageRunner(calls, subject.thresholds, subject.remembers, backend.native)
        self.reference, self.native = reference, backend.native
        self.course, self.order = course, subject.order
        self.batch = subject.order.shape[-1]
        self.known: dict[int, tuple[int, int]] = {}
        self.first = [self._native(rows) for rows in self.order[0][:WARMING]]

    def both(self) -> None:
        """The first calls of each, for warming up: the same every time, as windows of warming up are compared."""
        for call in (self._answer, self._passed):
            for x in self.first:
                call(x)

    def block(self, subject: int, number: int, clock: Clock) -> Block:
        """Time one block."""
        calls = self.order[number]
        inputs = [self._native(rows) for rows in calls]
        start, ran, queued = clock.wall(), clock.cpu(), clock.waited() if clock.waited else 0.0
        if number % 2:
            backbone, _ = _timed(self._passed, inputs, clock)
            exits, said = _timed(self._answer, inputs, clock)
        else:
            exits, said = _timed(self._answer, inputs, clock)
            backbone, _ = _timed(self._passed, inputs, clock)
        wall, cpu = clock.wall() - start, clock.cpu() - ran
        if clock.waited:  # threads wait for each other: wall time says nothing about how long they ran
            wall = cpu + clock.waited() - queued
        for rows, answered in zip(calls, said, strict=True):
            self._note(rows, answered)
        return Block(subject, exits, backbone, wall, cpu)

    def said(self, subject: int) -> Said:
        """Answers and stops of all samples; those that were not timed are run now, if that is asked for."""
        every = range(len(self.course.samples))
        left = [row for row in every if row not in self.known] if self.course.complete else []
        for first in range(0, len(left), self.course.at_once):
            rows = np.array(left[first : first + self.course.at_once])
            x = self._native(rows)
            self._note(rows, self.runner.one(x) if len(rows) == 1 else self.runner.batch(x))
        answer, stop = zip(*(self.known.get(row, (-1, -1)) for row in every), strict=True)
        return Said(subject, list(answer), list(stop))

    def _passed(self, x: Any) -> None:
        self.reference(x)

    def _native(self, rows: NDArray[np.int64]) -> Any:
        return self.native(as_tensor(self.course.samples[rows]))

    def _answer(self, x: Any) -> tuple[int, int, float] | Prediction:
        return self.runner.one(x) if self.batch == 1 else self.runner.batch(x)

    def _note(self, rows: NDArray[np.int64], answered: tuple[int, int, float] | Prediction) -> None:
        if isinstance(answered, Prediction):
            pairs = zip(answered.answer.tolist(), answered.exit.tolist(), strict=True)
            self.known.update(zip(rows.tolist(), pairs, strict=True))
        else:
            self.known[int(rows[0])] = answered[:2]


def load_piece(backend: Backend, piece: Piece, threads: int) -> Call:
    """A call that takes as many samples as the example inputs have, or fewer.

    Where a compiled call takes one number of samples only, there is one for each power of two, and what lies in between
    is filled up.
    """
    most = len(piece.args[0])
    if backend.batches or most == 1:
        return backend.load(piece.prepared, piece.args, threads)
    sizes = [*(2**i for i in range(most.bit_length()) if 2**i < most), most]
    calls = {n: backend.load(piece.prepared, tuple(arg[:n] for arg in piece.args), threads) for n in sizes}

    def call(*inputs: Any) -> tuple[Any, ...]:
        count = len(inputs[0])
        size = next(n for n in sizes if n >= count)
        if size == count:
            return calls[size](*inputs)
        rows = backend.native(torch.arange(size) % count)
        return tuple(output[:count] for output in calls[size](*(given[rows] for given in inputs)))

    return call


def _timed(call: Callable[[Any], Any], inputs: Sequence[Any], clock: Clock) -> tuple[list[float], list[Any]]:
    """Milliseconds of each call, and what it returned."""
    wall, took, said = clock.wall, list[float](), []
    for x in inputs:
        start = wall()
        returned = call(x)
        took.append(round(1000 * (wall() - start), DIGITS))
        said.append(returned)
    return took, said
