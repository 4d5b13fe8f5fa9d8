"""Where the channels of a hidden state are: behind the batch, as of convolutions, or last, as of linear layers.

Shapes do not tell. What made a value does: the way back from it leads over additions, activations and permutations to
a module or function that knows.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
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
_SERIES = (
    nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.InstanceNorm1d, nn.MaxPool1d, nn.AvgPool1d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d, nn.RNNBase,
)  # fmt: skip
_FIRST_FUNCTIONS = {
    *(F.conv1d, F.conv2d, torch.conv1d, torch.conv2d, F.batch_norm, F.group_norm, F.max_pool1d, F.max_pool2d),
    *(F.avg_pool1d, F.avg_pool2d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.interpolate, F.instance_norm),
}
_SERIES_FUNCTIONS = {F.conv1d, torch.conv1d, F.max_pool1d, F.avg_pool1d, F.adaptive_avg_pool1d}
_LAST_FUNCTIONS = {F.linear, F.layer_norm, F.rms_norm, F.embedding, F.scaled_dot_product_attention}


_NORM_FUNCTIONS = {F.layer_norm, F.rms_norm}
_WITH_STATES = (nn.RNNBase, nn.MultiheadAttention)
_SUMS = {operator.add, torch.add, "add", "add_"}


class Layout(NamedTuple):
    """Of a hidden state.

    Attributes:
        axis: Of its channels, counted with the batch.
        series: Whether its other axis is time: it comes from one-dimensional convolutions, or recurrences.
    """

    axis: int
    series: bool


Layouts = dict[fx.Node, Layout | None]


def layouts_of(nodes: Iterable[fx.Node], facts: Mapping[fx.Node, Fact], root: nn.Module) -> Layouts:
    """Where the channels of each value [N, ...] are, by what made it; None: nothing tells.

    Args:
        nodes: Of a graph, all of them, in order.
        facts: What their values are.
        root: Holds the modules.
    """
    known: Layouts = {}
    for node in nodes:
        rank = 1 + len(facts[node].shape)
        told = _told(node, rank, root)
        if told is not None:
            known[node] = told
        elif _is(node, "permute"):
            known[node] = _moved(node, known, _dims(node, rank))
        elif any(_is(node, name) for name in ("transpose", "swapaxes", "swapdims")):
            known[node] = _moved(node, known, _swapped(_dims(node, rank), rank))
        else:
            known[node] = _of_inputs(node, facts, known)
    return known


def _told(node: fx.Node, rank: int, root: nn.Module) -> Layout | None:
    """What the module or function that made a value tells by itself."""
    if node.op == "call_module":
        return _by_module(attribute(root, str(node.target)), rank)
    if node.op != "call_function":
        return None
    if node.target is operator.getitem:  # the outputs of recurrences and attention come first in a tuple
        source = node.args[0]
        if not isinstance(source, fx.Node) or source.op != "call_module" or node.args[1] != 0:
            return None
        module = attribute(root, str(source.target))
        return _by_module(module, rank) if isinstance(module, _WITH_STATES) else None
    if node.target in _FIRST_FUNCTIONS:
        return Layout(1, node.target in _SERIES_FUNCTIONS)
    if node.target in _LAST_FUNCTIONS and not (node.target in _NORM_FUNCTIONS and _normed_axes(node) != 1):
        return Layout(rank - 1, series=False)
    return None


def _by_module(module: nn.Module, rank: int) -> Layout | None:
    """A subclass may do something else: only what torch ships is known, and subclasses that add no forward."""
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)) and len(module.normalized_shape) != 1:
        return None  # over channels and places alike
    for kinds, axis in ((_FIRST, 1), (_LAST, rank - 1)):
        if isinstance(module, kinds) and type(module).forward.__module__.startswith("torch."):
            return Layout(axis, isinstance(module, _SERIES) and rank == 3)
    return None


def _is(node: fx.Node, name: str) -> bool:
    return (node.op == "call_method" and node.target == name) or (
        node.op == "call_function" and node.target is getattr(torch, name)
    )


def _normed_axes(node: fx.Node) -> int:
    """Over how many axes a function normalises; 0 if only a run of the forward tells."""
    shape = node.args[1] if len(node.args) > 1 else node.kwargs.get("normalized_shape")
    return len(shape) if isinstance(shape, (tuple, list)) else 0


def _dims(node: fx.Node, rank: int) -> list[int]:
    """The axes that a node is given, one by one or together, by position or by name; none if they are not constant."""
    named = [value for name, value in node.kwargs.items() if name not in ("input", "self")]
    given: list[Any] = [*(value for value in node.args if not isinstance(value, fx.Node)), *named]
    dims = given[0] if given and isinstance(given[0], (tuple, list)) else given
    return [dim % rank for dim in dims] if all(isinstance(dim, int) for dim in dims) else []


def _swapped(dims: list[int], rank: int) -> list[int]:
    """The order of axes after two of them have changed places."""
    order = list(range(rank))
    if len(dims) == 2:
        one, other = dims
        order[one], order[other] = other, one
        return order
    return []


def _moved(node: fx.Node, known: Layouts, dims: list[int]) -> Layout | None:
    """Output axis `a` is input axis `dims[a]`."""
    before = known[node.all_input_nodes[0]]
    return before._replace(axis=dims.index(before.axis)) if before and before.axis in dims else None


def _of_inputs(node: fx.Node, facts: Mapping[fx.Node, Fact], known: Layouts) -> Layout | None:
    """That of the first input that has one and whose channels are where they were: as many, first or last.

    A sum has that of the residual stream, of which the branch beside it was made.
    """
    shape = facts[node].shape
    for source in _stream_first(node) if node.target in _SUMS else node.all_input_nodes:
        given, before = facts[source], known[source]
        if given.kind != "tensor" or not given.batched or len(given.shape) < 2 or before is None:
            continue
        if len(given.shape) == len(shape) or (before.axis == 1 and given.shape[:1] == shape[:1]):
            return before
        if before.axis == len(given.shape) and given.shape[-1:] == shape[-1:]:
            return before._replace(axis=len(shape))
    return None


def _stream_first(node: fx.Node) -> list[fx.Node]:
    """The summands; first the one that others are made of, if there is one."""
    summands = node.all_input_nodes
    return sorted(summands, key=lambda one: not any(_leads_to(one, other) for other in summands if other is not one))


def _leads_to(source: fx.Node, end: fx.Node) -> bool:
    """Whether one value is made of another, maybe by way of others."""
    seen, waiting = {end}, [end]
    while waiting:
        for before in waiting.pop().all_input_nodes:
            if before is source:
                return True
            if before not in seen and source < before:
                seen.add(before)
                waiting.append(before)
    return False
