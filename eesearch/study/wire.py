"""What goes over a link between two tiers: the number of a stage and the raw bytes of a carry, nothing that is code.

    up    4 bytes: the stage that goes on; 4 bytes: length of the payload; the payload
    down  8 bytes: the answer; 8 bytes: the stop; 4 bytes: the score; 8 bytes each: payload and frames sent further up

Both ends know what a stage is given: a payload of any other length is refused before it is read.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from eesearch.core.errors import PolicyError
from eesearch.nets.backbone import Carry
from eesearch.nets.links import is_coded, quantize, restore

HEADER = struct.Struct("<II")
REPLY = struct.Struct("<qqfqq")
MOST_BYTES = 2**28
"""No carry of one sample is longer."""


@dataclass(frozen=True)
class Reply:
    """What comes back for a sample.

    Attributes:
        stop: Number of the stage where it left.
        payload: Bytes of its carries that crossed links on the way.
        framing: Bytes of the frames around them.
    """

    answer: int
    stop: int
    score: float
    payload: int = 0
    framing: int = 0


@dataclass(frozen=True)
class Shape:
    """A tensor of a carry, of one sample: its sizes, the batch of 1 first, and its kind."""

    sizes: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Bytes as it is."""
        return prod(self.sizes) * torch.empty(0, dtype=self.dtype).element_size()


@dataclass(frozen=True)
class Format:
    """How the carry that a stage is given is laid out.

    Attributes:
        shapes: Its tensors.
        coded: Whether those of floats are sent as 8-bit codes.
    """

    shapes: tuple[Shape, ...]
    coded: bool

    @classmethod
    def of(cls, carry: Sequence[Tensor], *, coded: bool) -> Format:
        """Of carries like this one, of one sample."""
        return cls(tuple(Shape(tuple(t.shape), t.dtype) for t in carry), coded)

    @property
    def size(self) -> int:
        """Length of a payload."""
        return sum(prod(s.sizes) + 8 if self._codes(s) else s.size for s in self.shapes)

    def _codes(self, shape: Shape) -> bool:
        return self.coded and is_coded(torch.empty(shape.sizes, dtype=shape.dtype, device="meta"))

    def pack(self, carry: Carry) -> bytes:
        """The payload of a carry."""
        parts = []
        for tensor, shape in zip(carry, self.shapes, strict=True):
            if self._codes(shape):
                codes, low, step = quantize(tensor)
                parts += [_raw(codes.to(torch.uint8)), _raw(low), _raw(step)]
            else:
                parts.append(_raw(tensor))
        return b"".join(parts)

    def unpack(self, payload: bytes) -> Carry:
        """The carry of a payload.

        Raises:
            PolicyError: it has another length.
        """
        if len(payload) != self.size:
            raise PolicyError("a carry came with another length", got=f"{len(payload)} bytes", expected=f"{self.size}")
        buffer, tensors = bytearray(payload), []
        start = 0
        for shape in self.shapes:
            if self._codes(shape):
                count = prod(shape.sizes)
                codes = torch.frombuffer(buffer, dtype=torch.uint8, count=count, offset=start).float()
                low, step = (
                    torch.frombuffer(bytearray(buffer[at : at + 4]), dtype=torch.float32).view(1, 1)
                    for at in (start + count, start + count + 4)
                )
                tensors.append(restore(codes.view(1, -1), low, step).view(shape.sizes))
                start += count + 8
            else:
                own = bytearray(buffer[start : start + shape.size])
                tensors.append(torch.frombuffer(own, dtype=shape.dtype).view(shape.sizes))
                start += shape.size
        return tuple(tensors)


def _raw(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()


def send_carry(line: socket.socket, stage: int, payload: bytes) -> int:
    """Send a carry to where `stage` runs; returns the bytes of the frame around the payload."""
    line.sendall(HEADER.pack(stage, len(payload)) + payload)
    return HEADER.size


def receive_carry(line: socket.socket, formats: dict[int, Format]) -> tuple[int, bytes] | None:
    """The stage that goes on, and the payload; None if the other end has hung up.

    Raises:
        PolicyError: no such stage is given anything here, or the payload has another length than it can have.
    """
    header = receive(line, HEADER.size)
    if header is None:
        return None
    stage, size = HEADER.unpack(header)
    if stage not in formats or size != formats[stage].size or size > MOST_BYTES:
        expected = {number: layout.size for number, layout in formats.items()}
        raise PolicyError("a carry came that no stage waits for", got=f"stage {stage}, {size} bytes", expected=expected)
    payload = receive(line, size)
    if payload is None:
        raise PolicyError("a carry broke off", expected=f"{size} bytes")
    return stage, payload


def send_reply(line: socket.socket, reply: Reply) -> None:
    """Send back what is answered."""
    line.sendall(REPLY.pack(reply.answer, reply.stop, reply.score, reply.payload, reply.framing))


def receive_reply(line: socket.socket) -> Reply:
    """What the next tier answers.

    Raises:
        PolicyError: the other end has hung up.
    """
    reply = receive(line, REPLY.size)
    if reply is None:
        raise PolicyError("the next tier hung up before it answered")
    return Reply(*REPLY.unpack(reply))


def receive(line: socket.socket, size: int) -> bytes | None:
    """Exactly so many bytes; None if the line ends before."""
    parts, left = [], size
    while left:
        part = line.recv(min(left, 1 << 16))
        if not part:
            return None
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
