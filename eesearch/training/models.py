"""What a phase trains where that is not the network with its exits as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from eesearch.nets.backbone import Backbone, Carry
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.modes import evaluating
from eesearch.training.accelerator import device_of, moved
from eesearch.training.cache import Caching, Layout, nbytes
from eesearch.training.samples import Inputs, Samples
from eesearch.training.taps import PASS_BATCH

Embedded = Mapping[tuple[int, int], Tensor]
"""(number of segments that have run, place in the carry) -> [N, ...]."""


class Alone(nn.Module):
    """A classifier as a network whose only exit is its own output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Raw samples [N, ...] to [its logits [N, C]]."""
        return [self.network(inputs)]


class Taught(nn.Module):
    """A network with exits beside its teacher, which does not learn.

    Args:
        net: The student.
        teacher: Another network.
    """

    def __init__(self, net: ExitNet, teacher: Backbone) -> None:
        super().__init__()
        self.net = net
        self.teacher = teacher

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Raw samples to the logits [N, C] of every exit of the student, then those of the teacher."""
        with torch.no_grad():
            told = self.teacher(inputs)
        return [*self.net(inputs), told]


class Stretch(nn.Module):
    """Some segments of a network in a row, and what answers behind them.

    Args:
        net: All weights are shared with it.
        first: Number of the first segment.
        last: Behind the last one.
        heads: Numbers of the heads behind it; none: the network's own classifier answers.
    """

    def __init__(self, net: ExitNet, first: int, last: int, heads: tuple[int, ...]) -> None:
        super().__init__()
        self.backbone = net.backbone
        self.heads = net.heads
        self._first, self._last, self._answering = first, last, heads

    def forward(self, inputs: Tensor | Embedded) -> list[Tensor]:
        """Raw samples, or embeddings made by the segments before, to logits [N, C] of each head."""
        start, carry = carry_of(self.backbone, inputs)
        with torch.no_grad(), evaluating(self.backbone):  # nothing before the stretch learns, whatever it shares
            carry = self.backbone.run(carry, start, self._first)
        carry = self.backbone.run(carry, self._first, self._last)
        if not self._answering:
            return [self.backbone.output(carry)]
        hidden = self.backbone.tap(self._last - 1, carry)
        return [self.heads[i](hidden) for i in self._answering]


def carry_of(backbone: Backbone, inputs: Tensor | Embedded) -> tuple[int, Carry]:
    """How many segments have run to make these inputs, and the carry after them."""
    if isinstance(inputs, Tensor):
        return 0, backbone.start(inputs)
    return next(iter(inputs))[0], tuple(inputs.values())


def embed(backbone: Backbone, samples: Samples, caching: Caching, *, segments: int) -> Samples:
    """Replace samples by what the first segments make of them; the samples as they are where that is too large.

    Args:
        backbone: Those segments are trained; stays as it is.
        samples: Raw, or what fewer segments made of them: these count as cached while the others are made.
        caching: Says what is too large; it is then computed anew in every epoch.
        segments: How many have run afterwards.
    """
    inputs, total = samples.inputs, len(samples.labels)

    def run(first: int, last: int) -> Carry:
        with evaluating(backbone), torch.no_grad():
            start, carry = carry_of(backbone, moved(_rows(inputs, first, last), device_of(backbone)))
            return backbone.run(carry, start, segments)

    def batches() -> Iterator[tuple[tuple[int, int], Tensor]]:
        for first in range(0, total, PASS_BATCH):
            yield from (((segments, place), made) for place, made in enumerate(run(first, first + PASS_BATCH)))

    layouts = {
        (segments, place): Layout((total, *tensor.shape[1:]), tensor.dtype) for place, tensor in enumerate(run(0, 1))
    }
    where = caching.place(nbytes(layouts), samples.cached_bytes)
    caching.tell(f"hidden states after {segments} of {len(backbone.segments)} segments", nbytes(layouts), where)
    kept = where.keep(layouts, batches())
    return samples if kept is None else replace(samples, inputs=kept)


def _rows(inputs: Inputs, first: int, last: int) -> Inputs:
    if isinstance(inputs, Tensor):
        return inputs[first:last].clone()  # raw samples may be read-only
    return {name: tensor[first:last] for name, tensor in inputs.items()}
