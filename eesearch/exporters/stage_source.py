"""Python text of one stage: a class with the layers of its segment and its head, and a forward that one can read."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from eesearch.exporters.chosen import stop_name
from eesearch.exporters.foreign import foreign_modules, written_out
from eesearch.exporters.leaves import layer_source
from eesearch.exporters.source import NAMES, Statements
from eesearch.nets.backbone import Carry
from eesearch.nets.heads import Head
from eesearch.nets.inputs import Normalize, NormalizeViews
from eesearch.nets.stages import Stage
from eesearch.nets.trace import PREFIX, attribute


@dataclass
class StageText:
    """One stage as text.

    Attributes:
        lines: Of its class.
        tensors: Name below the stage -> tensor of the network, shared and not copied.
    """

    lines: list[str]
    tensors: dict[str, Tensor]


@dataclass
class _Layers:
    """The attributes of a stage's class.

    Attributes:
        names: Where the network has it -> what it is called here.
        lines: Of the constructor.
    """

    names: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def name(self, path: str, wanted: str) -> str:
        """The attribute of what the network has at `path`; a free one that is like `wanted`, if it has none yet."""
        if path not in self.names:
            free = _identifier(wanted)
            while free in self.names.values():
                free += "_"
            self.names[path] = free
        return self.names[path]

    def add(self, found: Any, path: str, wanted: str, rank: int) -> None:
        """Write the layer or tensor that a node uses."""
        if path in self.names:
            return
        if isinstance(found, Normalize):
            if f"{path}.weight" in self.names:
                return
            behind = rank - 2 - isinstance(found, NormalizeViews)
            for part in ("weight", "bias"):  # as they are applied: [C, 1, 1] on a map
                values = getattr(found, part).view(-1, *(1,) * behind)
                self._tensor(self.name(f"{path}.{part}", f"{wanted}.{part}"), values, "buffer")
            return
        name = self.name(path, wanted)
        if isinstance(found, nn.Module):
            self.lines.append(f"self.{name} = {layer_source(found, wanted)}")
            self.tensors |= {f"{name}.{key}": tensor for key, tensor in found.state_dict(keep_vars=True).items()}
        else:
            self._tensor(name, found, "parameter" if isinstance(found, nn.Parameter) else "buffer")

    def _tensor(self, name: str, tensor: Tensor, kind: str) -> None:
        dtype = "" if tensor.dtype == torch.float32 else f", dtype={tensor.dtype}"
        empty = f"torch.zeros({tuple(tensor.shape)}{dtype})"
        made = f"self.{name} = nn.Parameter({empty})"
        self.lines.append(made if kind == "parameter" else f'self.register_buffer("{name}", {empty})')
        self.tensors[name] = tensor


def stage_text(stage: Stage, carry: Carry, number: int, *, is_last: bool) -> StageText:
    """The class `Stage<number>`.

    Args:
        stage: In eval mode; its segment is a graph module.
        carry: What it is given, of two samples: the raw ones, or the carry of the stage before.
        number: Its place.
        is_last: Then there is no next carry.

    Raises:
        ModelError: a module or function cannot be written as plain PyTorch.
    """
    assert isinstance(stage.segment, fx.GraphModule)
    segment = written_out(stage.segment, carry)
    layers = _Layers()
    _collect(segment, segment.graph, layers, "", carry[0].dim())
    body = _SegmentStatements(segment.graph, _shapes(segment, carry), layers)
    lines = body.write()
    given = [body.names[node] for node in segment.graph.nodes if node.op == "placeholder"]
    returned = list(body.returned)
    logits = returned[0]
    if stage.head is not None:
        with torch.no_grad():
            hidden = segment(*carry)[0]
        head_lines, logits = _head(stage.head, hidden, layers, returned)
        lines += ["", f"# the head {stage.head.spec.name}", *head_lines]
    onward = "()" if is_last else f"({', '.join(returned)},)"
    source = "raw samples" if number == 0 else "what the stage before hands on"
    about = f'"""From {source} to the exit {stop_name(stage.exit)}."""'
    frozen = [path.removeprefix(f"{PREFIX}.") for path in foreign_modules(stage.segment)]
    if frozen:
        lines = [f"# written out as in eval mode, without dropout: {', '.join(frozen)}", *lines]
    forward = [f"def forward(self, {', '.join(body.arguments)}):", *_indent([*lines, f"return {onward}, {logits}"])]
    assert given
    constructor = ["def __init__(self):", *_indent(["super().__init__()", *layers.lines])]
    lines = [f"class Stage{number}(nn.Module):", *_indent([about, "", *constructor, "", *forward])]
    return StageText(lines, layers.tensors)


class _SegmentStatements(Statements):
    """Statements of a graph that calls layers; `Normalize` is written out."""

    def __init__(
        self, graph: fx.Graph, shapes: dict[fx.Node, str], layers: _Layers, *, prefix: str = "", **options: Any
    ) -> None:
        count = sum(node.op == "placeholder" for node in graph.nodes)
        self.arguments = options.pop("arguments", NAMES[:count])
        kept = _read_by_constants(graph)
        kept |= options.pop("kept", set())
        super().__init__(graph, shapes, self._attribute, self.arguments, kept=kept, **options)
        self.layers, self.prefix = layers, prefix

    def _attribute(self, target: str) -> str:
        return self.layers.names[f"{self.prefix}{target}"]

    def _value(self, node: fx.Node) -> str:
        if node.op == "call_module":
            owner = node.graph.owning_module
            called = None if owner is None else attribute(owner, str(node.target))
            if isinstance(called, Normalize):
                weight, bias = (f"self.{self._attribute(f'{node.target}.{part}')}" for part in ("weight", "bias"))
                x = self._text(node.args[0])
                normal = f"{x}.to({weight}.dtype) * {weight} + {bias}"
                present = f"{x}.flatten(2).ne(0).any(2)[:, :, None, None, None]"  # a missing view stays 0
                return f"({normal}) * {present}" if isinstance(called, NormalizeViews) else normal
        return super()._value(node)


def _read_by_constants(graph: fx.Graph) -> set[fx.Node]:
    """The first placeholder, if a constant device must become that of the samples."""
    nodes = list(graph.nodes)
    found: list[object] = []
    for node in nodes:
        fx.node.map_aggregate((node.args, node.kwargs), lambda v: found.append(v))
    return {nodes[0]} if any(isinstance(value, torch.device) for value in found) else set()


def _collect(root: nn.Module, graph: fx.Graph, layers: _Layers, prefix: str, rank: int) -> None:
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            path = str(node.target)
            wanted = path.removeprefix(f"{PREFIX}.") if not prefix else re.sub(r"^body\b\.?", "head.", path).strip(".")
            layers.add(attribute(root, path), f"{prefix}{path}", wanted, rank)


def _head(head: Head, hidden: Tensor, layers: _Layers, carried: Sequence[str]) -> tuple[list[str], str]:
    """Its statements, which read the first of the carried names and leave all of them alone; and its logits' name."""
    traced = written_out(fx.GraphModule(head, _trace_head(head, hidden.dim())), (hidden,))
    _collect(traced, traced.graph, layers, "head:", hidden.dim())
    nodes = list(traced.graph.nodes)
    statements = _SegmentStatements(
        traced.graph,
        _shapes(traced, (hidden,)),
        layers,
        prefix="head:",
        arguments=(carried[0],),
        kept={nodes[0]},
        taken=tuple(carried),
    )
    lines = statements.write()
    return lines, statements.returned[0]


class _Hidden(fx.Proxy):
    """A hidden state that knows its rank, by which heads tell maps from vectors."""

    rank = 0

    def dim(self) -> int:
        return self.rank

    @property
    def ndim(self) -> int:
        return self.rank


class _HeadTracer(fx.Tracer):
    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank
        self.whole: nn.Module | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m is self.whole or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        if node.op != "placeholder":
            return super().proxy(node)
        hidden = _Hidden(node, self)
        hidden.rank = self.rank
        return hidden


def _trace_head(head: Head, rank: int) -> fx.Graph:
    """Its forward; a body that cannot be traced is one call."""
    try:
        return _HeadTracer(rank).trace(head)
    except Exception:  # the body of somebody's head may do anything
        tracer = _HeadTracer(rank)
        tracer.whole = head.body
        return tracer.trace(head)


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the shapes of its tensors."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.shapes[n] = tuple(value.shape)
        return value


def _shapes(module: fx.GraphModule, inputs: Carry) -> dict[fx.Node, str]:
    """What is said of each tensor: [N, 16, 8, 8]; N is whatever grows with the batch."""
    recorders = []
    for batch in (inputs, tuple(torch.cat([tensor, tensor[:1]]) for tensor in inputs)):
        recorder = _Recorder(module)
        with torch.no_grad():
            recorder.run(*batch)
        recorders.append(recorder.shapes)
    few, more = recorders
    return {node: _shape(shape, more[node]) for node, shape in few.items() if node in more and shape}


def _shape(few: tuple[int, ...], more: tuple[int, ...]) -> str:
    if len(few) != len(more):
        return ""
    sizes = [str(a) if a == b else "N" if (a, b) == (2, 3) else f"{b - a} N" for a, b in zip(few, more, strict=True)]
    return f"[{', '.join(sizes)}]"


_TAKEN = frozenset(dir(nn.Module()))


def _identifier(path: str) -> str:
    """A dotted path as one attribute: `layer1.0.conv1` is `layer1_0_conv1`, and `0` is `layer_0`."""
    name = re.sub(r"\W", "_", path)
    if not name or name[0].isdigit():
        name = f"layer_{name}"
    return f"{name}_" if name in _TAKEN or keyword.iskeyword(name) else name


def _indent(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" if line else "" for line in lines]
