"""What a link may do to a carry: each tensor of it as 8-bit codes, with a smallest value and a step per sample.

A coded network runs the same arithmetic in its own graph, so that its answers are those of a sender that packs codes
into bytes and a receiver that unpacks them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, fx

from eesearch.core.design import HeadSpec
from eesearch.nets.backbone import Backbone, Carry
from eesearch.nets.heads import tap_shape
from eesearch.nets.modes import evaluating

CODED = "8bit@"
"""Prefix of the name of a link, before the cut at which the carry is coded."""

LEVELS = 255
"""Steps between the smallest and the largest value."""

_SMALLEST_STEP = 1e-30


def link_name(cut: str) -> str:
    """How a coded link right after a cut is called in an `ExitId`."""
    return f"{CODED}{cut}"


def quantize(tensor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes 0 .. 255 as floats [N, F], and per sample the smallest value [N, 1] and the step between codes [N, 1]."""
    flat = tensor.flatten(1)
    low = flat.amin(1, keepdim=True)
    step = ((flat.amax(1, keepdim=True) - low) / LEVELS).clamp(min=_SMALLEST_STEP)
    return ((flat - low) / step).round().clamp(0, LEVELS), low, step


def restore(codes: Tensor, low: Tensor, step: Tensor) -> Tensor:
    """The values that codes stand for. [N, F]"""
    return codes * step + low


def is_coded(tensor: Tensor) -> bool:
    """Whether a link codes a tensor of a carry: a mask or an index crosses as it is."""
    return tensor.dtype == torch.float32 and tensor.dim() > 1


def carry_at(backbone: Backbone, cut: str) -> Carry:
    """The carry of the example right after a cut; the mode of the network is kept."""
    last = [c.name for c in backbone.cuts].index(cut) + 1
    with evaluating(backbone), torch.no_grad():
        return backbone.run(backbone.start(backbone.example), 0, last)


def carry_bytes(carry: Sequence[Tensor], *, coded: bool = False) -> int:
    """Payload of the carry of one sample: all tensors as they are, or coded with 8 bytes more for each that is."""
    return sum(
        prod(tensor.shape[1:]) + 8 if coded and is_coded(tensor) else prod(tensor.shape[1:]) * tensor.element_size()
        for tensor in carry
    )


def gathered_bytes(spec: HeadSpec, cut_shape: tuple[int, ...], classes: int) -> int:
    """Payload of what devices with a view each send to where a head joins their views, all together.

    Class scores of each (DDNN: 4 |C| bytes per device); for a head on joined views (`concat`) what it reads.

    Args:
        spec: The head.
        cut_shape: [V, C, H, W]
        classes: Number of classes.
    """
    return 4 * (prod(tap_shape(cut_shape, spec.tap)) if spec.views == "concat" else cut_shape[0] * classes)


def code_segment(carry: Sequence[Tensor]) -> fx.GraphModule:
    """A segment that codes a carry like this one and restores it; it has no weights, and merges with others."""
    graph = fx.Graph()
    given = [graph.placeholder(f"carry_{i}") for i in range(len(carry))]
    graph.output(tuple(_coded(graph, node) if is_coded(t) else node for node, t in zip(given, carry, strict=True)))
    return fx.GraphModule({}, graph, class_name="Segment")


def _coded(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """The nodes of `restore(*quantize(tensor))`, in the shape that the tensor has."""

    def arithmetic(tensor: Tensor) -> Tensor:
        return restore(*quantize(tensor)).view_as(tensor)

    traced = fx.symbolic_trace(arithmetic).graph
    made: dict[fx.Node, fx.Node] = {}
    for inner in traced.nodes:
        if inner.op == "placeholder":
            made[inner] = node
        elif inner.op == "output":
            result = made[inner.args[0]]
        else:
            made[inner] = graph.node_copy(inner, made.__getitem__)
    return result
