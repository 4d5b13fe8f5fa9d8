"""ONNX of parts of a network: the whole is exported once with every carry as an output, and its parts are cut out.

torch needs a second for a segment and several for a deep network, so parts are never exported one by one where that can
be helped: spans are extracted from the one graph, and a tail (a head, a head with its decision) is exported by itself
and hung behind.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from eesearch.core.errors import ModelError
from eesearch.core.imports import need
from eesearch.nets.backbone import Backbone, Carry
from eesearch.nets.graph_export import export_onnx

log = logging.getLogger(__name__)


def as_tuple(made: Any) -> tuple[Any, ...]:
    """What a module gives, as a tuple even if it is one tensor."""
    return tuple(made) if isinstance(made, tuple | list) else (made,)


class Piece(nn.Module):
    """Some segments, and what reads the carry behind them: `(carry...) -> (next carry..., what the tail gives...)`.

    Args:
        backbone: The network.
        first: The first segment; 0 reads the raw sample.
        last: The segment before which it ends.
        tail: Takes the carry's tensors one by one.
    """

    def __init__(self, backbone: Backbone, first: int, last: int, tail: nn.Module | None = None) -> None:
        super().__init__()
        self.span = backbone.span(first, last)
        self.tail = tail

    def forward(self, *carry: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        carry = as_tuple(self.span(*carry))
        return carry if self.tail is None else (*carry, *as_tuple(self.tail(*carry)))


class NetworkGraph:
    """A network as ONNX, in pieces; exported on the first call.

    Args:
        backbone: In eval mode, on the CPU.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._tails: dict[tuple[nn.Module, int], Any] = {}

    def piece(self, first: int, last: int, tail: nn.Module | None = None) -> bytes:
        """Segments `first`, ..., `last - 1` as one ONNX model for any number of samples; see `Piece`.

        Inputs are called `x` (the raw sample) or `carry_<i>`; outputs `next_<i>` for the next carry, then `tail_<i>`
        for what the tail gives.

        Raises:
            InputError: onnx or onnxscript is not installed.
            ModelError: torch can export neither the network nor this piece by itself.
        """
        inputs = [f"carry_{i}" for i in range(len(self._carries[first]))] if first else ["x"]
        outputs = [f"next_{i}" for i in range(len(self._carries[last]))]
        model = self._span(first, last, (inputs, outputs))
        if model is None:
            return self._alone(Piece(self._backbone, first, last, tail), first, (inputs, outputs))
        if tail is not None:
            _append(model, self._tail(tail, last))
        return bytes(model.SerializeToString())

    def _span(self, first: int, last: int, names: tuple[list[str], list[str]]) -> Any:
        """Some segments, cut out of the whole; None where that cannot be done."""
        before, after = self._names(first), self._names(last)
        new = list(dict.fromkeys(name for name in after if name not in before))
        if self._whole is None or not new or len(set(before)) < len(before):
            return None
        model = _extracted(self._whole, before, new)
        if not _is_closed(model):
            return None
        inputs, outputs = names
        called = {
            **dict(zip(reversed(after), reversed(outputs), strict=True)),
            **dict(zip(before, inputs, strict=True)),
        }
        _rename(model.graph, lambda name: called.get(name, f"span_{name}" if name else name))
        _give(model.graph, {output: called[name] for name, output in zip(after, outputs, strict=True)})
        return model

    @cached_property
    def _carries(self) -> list[Carry]:
        """Before every segment, and behind the last."""
        carries: list[Carry] = [(self._backbone.example,)]
        with torch.no_grad():
            for segment in self._backbone.segments:
                carries.append(as_tuple(segment(*carries[-1])))
        return carries

    @cached_property
    def _called(self) -> dict[int, str]:
        """Every tensor of a carry by its identity, called after the first carry that holds it."""
        called: dict[int, str] = {}
        for k, carry in enumerate(self._carries):
            for i, tensor in enumerate(carry):
                called.setdefault(id(tensor), f"cut_{k}_{i}")
        return called

    def _names(self, k: int) -> list[str]:
        """The tensors of a carry in the graph of the whole."""
        return [self._called[id(tensor)] for tensor in self._carries[k]]

    @cached_property
    def _whole(self) -> Any:
        """The network with every carry as an output; None where it cannot be exported."""
        names = [name for k in range(1, len(self._carries)) for name in self._names(k)]
        places = {name: place for place, name in reversed(list(enumerate(names))) if name != "cut_0_0"}
        every = _Every(self._backbone, list(places.values()))
        try:
            return export_onnx(every, self._carries[0], ["cut_0_0"], list(places), what="the network")
        except ModelError as error:
            log.info("the network is exported piece by piece: %s", error)
            return None

    def _tail(self, tail: nn.Module, last: int) -> Any:
        """A tail as a model of its own, whose inputs are called as the outputs of what it hangs behind."""
        if (tail, last) not in self._tails:
            carry = self._carries[last]
            names = [f"next_{i}" for i in range(len(carry))]
            self._tails[tail, last] = export_onnx(tail, carry, names, _tail_names(tail, carry), what="a head")
        return self._tails[tail, last]

    def _alone(self, piece: Piece, first: int, names: tuple[list[str], list[str]]) -> bytes:
        inputs, outputs = names
        carry = self._carries[first]
        if piece.tail is not None:
            with torch.no_grad():
                following = as_tuple(piece.span(*carry))
            outputs = [*outputs, *_tail_names(piece.tail, following)]
        return bytes(export_onnx(piece, carry, inputs, outputs, what="a part of the network").SerializeToString())


class _Every(nn.Module):
    """All segments, giving every carry, of which some tensors are kept."""

    def __init__(self, backbone: Backbone, kept: Sequence[int]) -> None:
        super().__init__()
        self.segments, self.kept = backbone.segments, tuple(kept)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        carry: Carry = (x,)
        made: list[Tensor] = []
        for segment in self.segments:
            carry = as_tuple(segment(*carry))
            made += carry
        return tuple(made[place] for place in self.kept)


def _tail_names(tail: nn.Module, carry: Carry) -> list[str]:
    with torch.no_grad():
        return [f"tail_{i}" for i in range(len(as_tuple(tail(*carry))))]


def _extracted(model: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """What lies between some values of a model, as a model of its own."""
    need("onnx", "onnx")
    from onnx.utils import Extractor

    return Extractor(model).extract_model(list(inputs), list(outputs))


def _is_closed(model: Any) -> bool:
    """Whether its nodes read nothing that it does not have."""
    known = {value.name for value in (*model.graph.input, *model.graph.initializer)} | {""}
    for node in model.graph.node:
        if not known.issuperset(node.input):
            return False
        known.update(node.output)
    return known.issuperset(value.name for value in model.graph.output)


def _give(graph: Any, sources: Mapping[str, str]) -> None:
    """Let a graph give these outputs, in this order, from values that are its inputs or outputs already."""
    from onnx import helper

    values = {value.name: value for value in (*graph.input, *graph.output)}
    given = []
    for output, source in sources.items():
        value = type(values[source])()
        value.CopyFrom(values[source])
        value.name = output
        given.append(value)
        if source != output:
            graph.node.append(helper.make_node("Identity", [source], [output], name=f"give_{output}"))
    del graph.output[:]
    graph.output.extend(given)


def _append(model: Any, tail: Any) -> None:
    """Hang a model behind another; the inputs of the second are called as the outputs of the first."""
    kept = {value.name for value in (*tail.graph.input, *tail.graph.output)}
    own = type(tail)()
    own.CopyFrom(tail)
    _rename(own.graph, lambda name: name if name in kept or not name else f"tail_of_{name}")
    model.graph.node.extend(own.graph.node)
    model.graph.initializer.extend(own.graph.initializer)
    model.graph.output.extend(own.graph.output)
    known = {(function.domain, function.name) for function in model.functions}
    model.functions.extend(f for f in own.functions if (f.domain, f.name) not in known)
    domains = {opset.domain for opset in model.opset_import}
    model.opset_import.extend(opset for opset in own.opset_import if opset.domain not in domains)


def _rename(graph: Any, name: Callable[[str], str]) -> None:
    """Call all values of a graph, and of the graphs within it, otherwise; the empty name stands for none."""
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = name(value.name)
    for node in graph.node:
        node.input[:] = [name(each) for each in node.input]
        node.output[:] = [name(each) for each in node.output]
        node.name = name(node.name)
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _rename(inner, name)
