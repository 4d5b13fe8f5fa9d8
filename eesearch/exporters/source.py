"""Python text from traced graphs (torch.fx): what a network computes, as a person would have written it."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from eesearch.core.errors import ModelError
from eesearch.exporters.leaves import Expression, literal
from eesearch.nets.effects import dead_nodes

_PUBLIC: tuple[tuple[str, ModuleType], ...] = (
    ("F", F),
    ("torch", torch),
    ("math", math),
    ("torch.special", torch.special),
    ("torch.linalg", torch.linalg),
    ("torch.fft", torch.fft),
)
"""Where functions are looked for, and what those modules are called in the text."""

_INFIX: dict[str, str] = {
    **{"add": "+", "sub": "-", "mul": "*", "truediv": "/", "div": "/", "floordiv": "//", "mod": "%", "matmul": "@"},
    **{"pow": "**", "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "and_": "&", "or_": "|"},
    **{"iadd": "+", "isub": "-", "imul": "*", "itruediv": "/", "xor": "^", "lshift": "<<", "rshift": ">>"},
    **{"bitwise_and": "&", "bitwise_or": "|", "__and__": "&", "__or__": "|", "__xor__": "^"},
}
NAMES = ("x", "y", "z", "u", "v", "w", *(f"t{number}" for number in range(1000)))
"""Of values, in the order in which they are taken."""


class Statements:
    """The statements of one graph, one per node that matters; a value that is read for the last time gives its name on.

    Args:
        graph: Its placeholders are arguments.
        shapes: Node -> what to say of its shape; nothing is said of others.
        attribute: Target of a node that calls a module or reads a tensor -> its name in the text.
        arguments: Names of the placeholders, in order; others than these are named here.
        kept: Nodes whose name no other value may take.
        taken: Names that are in use around the graph.
    """

    def __init__(
        self,
        graph: fx.Graph,
        shapes: Mapping[fx.Node, str],
        attribute: Callable[[str], str],
        arguments: Sequence[str] = (),
        *,
        kept: Container[fx.Node] = (),
        taken: Sequence[str] = (),
    ) -> None:
        self.graph = graph
        self.shapes = shapes
        self.attribute = attribute
        self.names: dict[fx.Node, str] = {}
        self.lines: list[str] = []
        self.kept = kept
        self.device = ""
        self._free: list[str] = []
        self._made = {*arguments, *taken}
        self._given = iter(arguments)
        self._dead = dead_nodes(graph)
        self._last_use = {used: n for n in graph.nodes if n not in self._dead for used in n.all_input_nodes}

    def write(self) -> list[str]:
        """The lines; afterwards `returned` tells what the graph returns."""
        for node in self.graph.nodes:
            if node.op == "placeholder":
                self.names[node] = next(self._given, None) or self._fresh()
                self.device = self.device or self.names[node]
            elif node.op == "output":
                self.returned = tuple(self._text(value) for value in _flat(node.args[0]))
            elif node.op == "get_attr":  # read where it is used
                self.names[node] = f"self.{self.attribute(str(node.target))}"
            elif node not in self._dead:
                self._assign(node)
        return self.lines

    def _assign(self, node: fx.Node) -> None:
        value = self._value(node)
        last = [n for n in node.all_input_nodes if self._last_use[n] is node]
        dying = [n for n in last if n.op != "get_attr" and n not in self.kept]
        if self._dead.issuperset(node.users):  # it only overwrites something
            self._free += [self.names[n] for n in dying]
            self.lines.append(value)
            return
        name = self.names[dying[0]] if dying else self._fresh()
        self._free += [self.names[n] for n in dying[1:] if self.names[n] != name]
        self.names[node] = name
        shape = self.shapes.get(node)
        if value == name:
            return
        self.lines.append(f"{name} = {value}" + (f"  # {shape}" if shape else ""))

    def _fresh(self) -> str:
        if self._free:
            return self._free.pop(0)
        name = next(n for n in NAMES if n not in self._made)
        self._made.add(name)
        return name

    def _value(self, node: fx.Node) -> str:
        args = [self._text(a) for a in node.args]
        options = [f"{k}={self._text(v, k)}" for k, v in node.kwargs.items() if k != "pin_memory"]
        if node.op == "call_module":
            return f"self.{self.attribute(str(node.target))}({', '.join([*args, *options])})"
        if node.op == "call_method":
            return f"{args[0]}.{node.target}({', '.join([*args[1:], *options])})"
        return self._function(node, args, options)

    def _function(self, node: fx.Node, args: list[str], options: list[str]) -> str:
        target: Any = node.target
        if target is getattr:
            return f"{args[0]}.{node.args[1]}"
        if target is operator.getitem:
            return f"{args[0]}[{_index(node.args[1], args[1])}]"
        if target in _SPECIAL:
            return _SPECIAL[target](*args)
        if target in (operator.neg, operator.invert):
            return f"{'-' if target is operator.neg else '~'}{args[0]}"
        name, sign = _name(target)
        if sign and len(args) == 2 and not options:
            first = f"({args[0]})" if args[0].startswith("-") else args[0]
            return f"{first} {sign} {args[1]}"
        if not name:
            raise ModelError(
                "the network calls a function that is not torch's own",
                got=f"{getattr(target, '__module__', '')}.{getattr(target, '__name__', target)}",
                expected="functions of torch",
                do="Export with `--to onnx`, which follows what a function computes.",
            )
        return f"{name}({', '.join([*args, *options])})"

    def _text(self, value: Any, option: str = "") -> str:
        if isinstance(value, fx.Node):
            return self.names[value]
        if isinstance(value, torch.device) or (option == "device" and value is not None):
            return f"{self.device}.device"  # wherever the network was moved to
        if isinstance(value, (torch.dtype, torch.memory_format, torch.layout)):
            return str(value)
        if isinstance(value, slice):
            return f"slice({', '.join(self._text(v) for v in (value.start, value.stop, value.step))})"
        if value is Ellipsis:
            return "..."
        if isinstance(value, dict):
            return f"{{{', '.join(f'{literal(k)}: {self._text(v)}' for k, v in value.items())}}}"
        if isinstance(value, (tuple, list)):
            parts = [Expression(self._text(v)) for v in value]
            return literal(tuple(parts) if isinstance(value, tuple) else parts)
        return literal(value)


def _flat(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _index(value: Any, text: str) -> str:
    """`a:b` for slices, and no brackets around several."""
    if isinstance(value, tuple) and len(value) > 1:
        text = text[1:-1]
    none = text.replace("slice(None, None, None)", ":")
    return none


def _name(target: Any) -> tuple[str, str]:
    """What a function is called, and the sign that stands for it between two values."""
    if isinstance(target, torch._ops.OpOverload):
        plain = target._schema.name.partition("::")[2]
        if target.namespace == "aten" and plain not in _OVERLOADED and (hasattr(torch, plain) or plain in _INFIX):
            return f"torch.{plain}", _INFIX.get(plain, "")
        if target.namespace == "aten" and plain in _FUNCTIONAL:
            return f"F.{plain}", ""
        return f"torch.ops.{target}", ""
    name = getattr(target, "__name__", "")
    if getattr(operator, name, None) is target:
        return f"operator.{name}", _INFIX.get(name, "")
    for prefix, module in _PUBLIC:
        if name and getattr(module, name, None) is target:
            return f"{prefix}.{name}", _INFIX.get(name, "") if prefix == "torch" else ""
    return next(_aliases(target), ""), ""


_OVERLOADED = frozenset({"slice", "select_copy", "_to_copy", "sym_size", "empty", "lift_fresh_copy"})
"""Functions of torch that are not what the operation of the same name is."""


_FUNCTIONAL = frozenset({"linear", "gelu", "silu", "scaled_dot_product_attention"})
"""Operations that are found among the functions of torch.nn, with the same arguments."""


def _slice(value: str, dim: str = "0", start: str = "None", end: str = "None", step: str = "1") -> str:
    """`value[:, start:end]`; nothing where all is taken."""
    first = "" if start in ("None", "0") else start
    last = "" if end in ("None", _END) else end
    if not first and not last and step == "1":
        return value
    span = f"{first}:{last}" + ("" if step == "1" else f":{step}")
    return _item(value, dim, span)


def _item(value: str, dim: str, index: str) -> str:
    """`value[:, index]`: an index into one dimension; negative ones count from the end."""
    number = int(dim)
    return f"{value}[{':, ' * number}{index}]" if number >= 0 else f"{value}[..., {index}{', :' * (-number - 1)}]"


_END = str(2**63 - 1)
_SPECIAL: dict[Any, Callable[..., str]] = {
    torch.ops.aten.sym_size.int: lambda value, dim: f"{value}.shape[{dim}]",
    torch.ops.aten.slice.Tensor: _slice,
    torch.ops.aten.select.int: _item,
    torch.ops.aten.to.dtype: lambda value, dtype, *_: f"{value}.to({dtype})",
    torch.ops.aten.unsqueeze.default: lambda value, dim: f"{value}.unsqueeze({dim})",
}
"""Operations that Python has a way of its own to write."""


def _aliases(target: Any) -> Iterator[str]:
    """Functions that bear another name than they are found under: `F.gelu` is `torch._C._nn.gelu`."""
    for prefix, module in _PUBLIC:
        for name, found in vars(module).items():
            if found is target and not name.startswith("_"):
                yield f"{prefix}.{name}"
