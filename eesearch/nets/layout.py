"""Where the channels of a hidden state are: behind the batch, as of convolutions, or last, as of linear layers.

Shapes do not tell. What made a value does: the way back from it leads over additions, activations and permutations to
a module or function that knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import fx, nn

from eesearch.nets.facts import Fact
from eesearch.nets.trace import attribute

_FIRST = (
    nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm,
    nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)  # fmt: skip
_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.Embedding, nn.MultiheadAttention, nn.RNNBase)
_SERIES = (nn.Conv1d, nn.BatchNorm1d, nn.MaxPool1d, nn.AvgPool1d, nn.RNNBase)
_FIRST_FUNCTIONS = {
    *(F.conv1d, F.conv2d, torch.conv1d, torch.conv2d, F.batch_norm, F.group_norm, F.max_pool1d, F.max_pool2d),
    *(F.avg_pool1d, F.avg_pool2d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.interpolate, F.instance_norm),
}
_SERIES_FUNCTIONS = {F.conv1d, torch.conv1d, F.max_pool1d, F.avg_pool1d}
_LAST_FUNCTIONS = {F.linear, F.layer_norm, F.rms_norm, F.embedding, F.scaled_dot_product_attention}


class Layout(NamedTuple):
    """Of a hidden state.

    Attributes:
        axis: Of its channels, counted with the batch.
        series: Whether its other axis is time: it comes from one-dimensional convolutions, or recurrences.
    """

    axis: int
    series: bool


def layout_of(node: fx.Node, facts: Mapping[fx.Node, Fact], root: nn.Module) -> Layout | None:
    """Where the channels of a value [N, ...] are, by what made it; None: nothing tells."""
    rank = 1 + len(facts[node].shape)
    if node.op == "call_module":
        known = _by_module(attribute(root, str(node.target)), rank)
        return known or _of_inputs(node, facts, root)
    if node.op == "call_function" and node.target in _FIRST_FUNCTIONS:
        return Layout(1, node.target in _SERIES_FUNCTIONS)
    if node.op == "call_function" and node.target in _LAST_FUNCTIONS:
        return Layout(rank - 1, series=False)
    if _is(node, "permute"):
        return _moved(node, facts, root, _dims(node, rank))
    if any(_is(node, name) for name in ("transpose", "swapaxes", "swapdims")):
        one, other = _dims(node, rank)
        swapped = {one: other, other: one}
        return _moved(node, facts, root, [swapped.get(axis, axis) for axis in range(rank)])
    return _of_inputs(node, facts, root)


def _by_module(module: nn.Module, rank: int) -> Layout | None:
    """A subclass may do something else: only what torch ships is known, and subclasses that add no forward."""
    for kinds, axis in ((_FIRST, 1), (_LAST, rank - 1)):
        if isinstance(module, kinds) and type(module).forward.__module__.startswith("torch."):
            return Layout(axis, isinstance(module, _SERIES) and rank == 3)
    return None


def _is(node: fx.Node, name: str) -> bool:
    return (node.op == "call_method" and node.target == name) or (
        node.op == "call_function" and node.target is getattr(torch, name)
    )


def _dims(node: fx.Node, rank: int) -> list[int]:
    """The axes that a node is given, one by one or together, by position or by name."""
    named = [value for name, value in node.kwargs.items() if name not in ("input", "self")]
    given: list[Any] = [*(value for value in node.args if not isinstance(value, fx.Node)), *named]
    dims = given[0] if given and isinstance(given[0], (tuple, list)) else given
    return [int(dim) % rank for dim in dims]


def _moved(node: fx.Node, facts: Mapping[fx.Node, Fact], root: nn.Module, dims: list[int]) -> Layout | None:
    """Output axis `a` is input axis `dims[a]`."""
    before = layout_of(node.all_input_nodes[0], facts, root)
    return before and before._replace(axis=dims.index(before.axis))


def _of_inputs(node: fx.Node, facts: Mapping[fx.Node, Fact], root: nn.Module) -> Layout | None:
    """That of the first input that has one and whose channels are where they were: as many, first or last."""
    shape = facts[node].shape
    for source in node.all_input_nodes:
        given = facts[source]
        if given.kind != "tensor" or not given.batched or len(given.shape) < 2:
            continue
        before = layout_of(source, facts, root)
        if before is None:
            continue
        if len(given.shape) == len(shape):
            return before
        if before.axis == 1 and given.shape[0] == shape[0]:
            return before
        if before.axis == len(given.shape) and given.shape[-1] == shape[-1]:
            return before._replace(axis=len(shape))
    return None
