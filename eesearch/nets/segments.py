"""Segments as graph modules of their own: made from spans of a traced forward, and merged again."""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from eesearch.nets.cuts import Point
from eesearch.nets.effects import is_in_place
from eesearch.nets.facts import Fact
from eesearch.nets.trace import Traced, attribute

_OUT_OF_PLACE: dict[Any, Any] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


def make_segments(
    traced: Traced, facts: dict[fx.Node, Fact], points: Sequence[Point], batch: Tensor
) -> list[fx.GraphModule]:
    """Cut the forward at `points`; each segment maps the values of one cut to a tuple of those of the next.

    Modules keep their paths below the root, and are shared with it, not copied. No segment overwrites what it is given:
    what works in place on that is told to make a new value or, where that cannot be told, gets a copy.

    Args:
        traced: The model.
        facts: What its values are.
        points: Where it is cut.
        batch: Raw samples, to see what is overwritten. [N, ...]
    """
    segments = _between(traced, facts, points, {})
    copied = _overwritten(segments, batch)
    return _between(traced, facts, points, copied) if copied else segments


def _between(
    traced: Traced, facts: dict[fx.Node, Fact], points: Sequence[Point], copied: Mapping[int, Sequence[int]]
) -> list[fx.GraphModule]:
    """The segments before, between and behind `points`; `copied`: see `_overwritten`."""
    output = traced.nodes[-1]
    ends = [*(p.position for p in points), len(traced.nodes) - 2]
    orders = [p.moved(1 + len(facts[p.carry[0]].shape)) for p in points]
    edges = [
        _Edge((traced.nodes[0],), None, copied.get(0, ())),
        *(_Edge(p.carry, o, copied.get(k, ())) for k, (p, o) in enumerate(zip(points, orders, strict=True), start=1)),
        _Edge(output.all_input_nodes),
    ]
    starts = [0, *(p.position for p in points)]
    return [
        _segment(traced, facts, traced.nodes[start + 1 : end + 1], edges[k : k + 2])
        for k, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


class _Edge(NamedTuple):
    """What is carried from one segment to the next.

    Attributes:
        carry: The tensors.
        order: Of the axes, in which the first of them travels.
        copied: Which of them the next segment has to copy first.
    """

    carry: Sequence[fx.Node]
    order: tuple[int, ...] | None = None
    copied: Sequence[int] = ()


def _overwritten(segments: Sequence[nn.Module], batch: Tensor) -> dict[int, list[int]]:
    """Number of a segment -> which tensors of its carry it overwrites, seen by their version counters.

    It may do so through a view of them, within a module that is kept whole, or only in training mode, as dropout does.
    What keeps statistics stays in eval mode.
    """
    found: dict[int, set[int]] = {k: set() for k in range(len(segments))}
    learning = [m for segment in segments for m in segment.modules() if next(m.buffers(), None) is None]
    for training in (False, True):
        carry: tuple[Tensor, ...] = (batch.clone(),)
        for module in learning:
            module.training = training
        with torch.random.fork_rng(), torch.no_grad():
            for k, segment in enumerate(segments):
                before = [tensor._version for tensor in carry]
                made = segment(*carry)
                found[k] |= {i for i, tensor in enumerate(carry) if tensor._version != before[i]}
                carry = made
    for module in learning:
        module.training = False
    return {k: sorted(which) for k, which in found.items() if which}


def _segment(
    traced: Traced, facts: dict[fx.Node, Fact], span: Sequence[fx.Node], edges: Sequence[_Edge]
) -> fx.GraphModule:
    graph = fx.Graph()
    before, after = edges
    carry = before.carry
    made: dict[fx.Node, Any] = {node: graph.placeholder(node.name) for node in carry}
    first = next(iter(graph.nodes))
    parts: dict[str, Any] = {}
    if before.order is not None:
        back = tuple(before.order.index(axis) for axis in range(len(before.order)))
        moved = graph.call_method("permute", (first, back))
        made[carry[0]] = graph.call_method("contiguous", (moved,))
    for place in before.copied:
        made[carry[place]] = graph.call_method("clone", (made[carry[place]],))

    def fetch(node: fx.Node) -> Any:
        if node not in made and node.op == "get_attr":
            parts[str(node.target)] = attribute(traced.root, str(node.target))
            made[node] = graph.node_copy(node)
        elif node not in made:  # a size from before the cut
            size = facts[node].size
            made[node] = graph.call_method("size", (first, 0)) if size is None else size
        return made[node]

    for node in span:
        if node.op == "get_attr" or node in traced.dead:
            continue
        made[node] = graph.node_copy(node, fetch)
        if node.op == "call_module":
            parts.setdefault(str(node.target), attribute(traced.root, str(node.target)))
        if _overwritable(node, carry):
            _spare_input(made[node], parts)
    gives = [fetch(node) for node in after.carry]
    if after.order is not None:
        gives[0] = graph.call_method("permute", (gives[0], after.order))
    graph.output(tuple(gives))
    return fx.GraphModule(parts, graph, class_name="Segment")


def _overwritable(node: fx.Node, carry: Sequence[fx.Node]) -> bool:
    """Whether a node's first input is of the carry, and nobody reads it after the node has (perhaps) overwritten it."""
    source = next(iter(node.all_input_nodes), None)
    return source is not None and source in carry and list(source.users)[-1] is node and bool(node.users)


def _spare_input(node: fx.Node, parts: dict[str, Any]) -> None:
    """Let a node make a new value instead of overwriting the carry, which a head may still have to read."""
    if node.op == "call_module" and getattr(parts[str(node.target)], "inplace", False):
        spared = copy.copy(parts[str(node.target)])
        spared.inplace = False
        parts[str(node.target)] = spared
    elif node.op == "call_function":
        node.target = _OUT_OF_PLACE.get(node.target, node.target)
        if node.kwargs.get("inplace"):
            node.update_kwarg("inplace", False)
    elif node.op == "call_method" and is_in_place(node.target):
        node.target = str(node.target).removesuffix("_")


def own_tensors(segments: Sequence[nn.Module]) -> tuple[Tensor, ...]:
    """The tensors that segments read themselves, without one of the model's modules around them."""
    nodes = ((segment, node) for segment in segments for node in segment.graph.nodes)  # type: ignore[union-attr]
    return tuple(attribute(segment, str(node.target)) for segment, node in nodes if node.op == "get_attr")


def merge_segments(segments: Sequence[nn.Module]) -> nn.Module:
    """One segment that does what several in a row do, with the same modules."""
    if len(segments) == 1:
        return segments[0]
    graph = fx.Graph()
    parts: dict[str, Any] = {}
    carry: tuple[Any, ...] | None = None
    for segment in segments:
        assert isinstance(segment, fx.GraphModule)
        carry = _inline(graph, segment, carry, parts)
    graph.output(carry)
    return fx.GraphModule(parts, graph, class_name="Segment")


def _inline(
    graph: fx.Graph, segment: fx.GraphModule, carry: tuple[Any, ...] | None, parts: dict[str, Any]
) -> tuple[Any, ...]:
    """Append a segment's nodes, reading `carry` (placeholders, where there is none yet); returns what it makes."""
    made: dict[fx.Node, Any] = {}
    given = iter(carry or ())
    for node in segment.graph.nodes:
        if node.op == "output":
            return fx.node.map_arg(node.args[0], made.__getitem__)
        if node.op == "placeholder" and carry is not None:
            made[node] = next(given)
            continue
        made[node] = graph.node_copy(node, made.__getitem__)
        if node.op in ("call_module", "get_attr"):
            # The first to use a module decides: it alone may have to spare the input of the merged segment.
            parts.setdefault(str(node.target), attribute(segment, str(node.target)))
    raise AssertionError("a graph without an output")


def carrying(segment: nn.Module, *, enters: bool, first: bool, keeps: bool, ends: bool) -> nn.Module:
    """A segment of one among several networks, of which the next one starts from the raw samples again.

    The raw samples travel last in the carry. After the last stop of a network, all that is handed on with them is the
    tap, which a head still has to read; whoever enters the next network throws it away.

    Args:
        segment: Of its network alone.
        enters: Whether it follows the last stop of another network: its carry is a tap and the raw samples.
        first: Whether it is the first of its network, and so reads the raw samples.
        keeps: Whether another network follows.
        ends: Whether it leads to the last stop of its network.
    """
    assert isinstance(segment, fx.GraphModule)
    if not enters and not keeps:
        return segment
    graph = fx.Graph()
    if enters:
        graph.placeholder("left")
    own = [graph.placeholder(n.name) for n in segment.graph.nodes if n.op == "placeholder"]
    samples = own[0] if first else graph.placeholder("samples")
    parts: dict[str, Any] = {}
    made = _inline(graph, segment, tuple(own), parts)
    graph.output((*(made[:1] if ends else made), samples) if keeps else made)
    return fx.GraphModule(parts, graph, class_name="Segment")
