"""What a phase trains where that is not the network with its exits as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import torch
from torch import Tensor, nn

from eesearch.nets.backbone import Backbone, Carry
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.modes import evaluating
from eesearch.training.accelerator import device_of, moved
from eesearch.training.samples import Samples
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
        with torch.no_grad():  # nothing before the stretch learns
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


def embed(backbone: Backbone, samples: Samples, max_cache_gb: float, *, segments: int) -> Samples:
    """Replace samples by what the first segments make of them; the samples as they are where that is too large.

    Args:
        backbone: Those segments are trained; stays as it is.
        samples: Raw, or what fewer segments made of them.
        max_cache_gb: What is too large; it is then computed anew in every epoch.
        segments: How many have run afterwards.
    """
    inputs, total = samples.inputs, len(samples.labels)

    def run(first: int, last: int) -> Carry:
        part = inputs[first:last] if isinstance(inputs, Tensor) else {k: v[first:last] for k, v in inputs.items()}
        start, carry = carry_of(backbone, moved(part, device_of(backbone)))
        return backbone.run(carry, start, segments)

    with evaluating(backbone), torch.no_grad():
        example = run(0, 1)
        if total * sum(prod(tensor.shape) * tensor.element_size() for tensor in example) > max_cache_gb * 1e9:
            return samples
        kept = [torch.empty(total, *tensor.shape[1:], dtype=tensor.dtype) for tensor in example]
        for first in range(0, total, PASS_BATCH):
            for whole, made in zip(kept, run(first, first + PASS_BATCH), strict=True):
                whole[first : first + PASS_BATCH] = made  # on the CPU, wherever it was made
    return replace(samples, inputs={(segments, place): tensor for place, tensor in enumerate(kept)})
