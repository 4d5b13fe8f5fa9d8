"""What the nodes of a traced graph do beside giving a value: a node that nobody reads may still matter."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any

import torch
from torch import fx

_OPERATORS = re.compile(
    r"(__)?(i(add|sub|mul|matmul|truediv|floordiv|mod|pow|and|or|xor|lshift|rshift)|setitem)(?(1)__)"
)
"""Of Python's that overwrite: `__iadd__`, `operator.iadd`."""

_KNOWN = ("torch", "_operator", "operator", "math", "builtins")
"""Where functions come from whose names tell what they overwrite."""


def is_in_place(name: object) -> bool:
    """Whether a method or function overwrites its input, by torch's way of naming: `clamp_`, not `__add__`."""
    return str(name).endswith("_") and not str(name).endswith("__")


def overwrites(node: fx.Node) -> bool:
    """Whether a node may change something that was there before; of modules and foreign functions nobody knows."""
    target: Any = node.target
    if node.op == "call_method":
        return is_in_place(target) or _OPERATORS.fullmatch(str(target)) is not None
    if node.op != "call_function":
        return node.op == "call_module"
    if isinstance(target, torch._ops.OpOverload):
        return bool(target._schema.is_mutable)
    if (getattr(target, "__module__", None) or "").partition(".")[0] not in _KNOWN:
        return True
    name = getattr(target, "__name__", "")
    named = is_in_place(name) or _OPERATORS.fullmatch(name) is not None
    return named or bool(node.kwargs.get("inplace")) or node.kwargs.get("out") is not None


def dead_nodes(graph: fx.Graph, wanted: Container[fx.Node] = ()) -> set[fx.Node]:
    """Nodes that overwrite nothing, and whose value nobody reads but other such nodes.

    Args:
        graph: As it was traced.
        wanted: Nodes that somebody else reads.
    """
    dead: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        alive = node.op in ("placeholder", "output") or node in wanted or overwrites(node)
        if not alive and dead.issuperset(node.users):
            dead.add(node)
    return dead
