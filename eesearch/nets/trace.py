"""Tracing a model with torch.fx: what cannot be traced stays whole, what differs between modes is found out.

Every model is traced as the `model` of a root that calls it with the raw sample alone, so that optional arguments of
its `forward` keep their defaults, and so that paths are the same with and without preprocessing.
"""

from __future__ import annotations

import copy
import inspect
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property, reduce
from itertools import chain
from typing import Any

import torch
from torch import Tensor, fx, nn

from eesearch.core.errors import SplitError
from eesearch.nets.adapters import PLACE
from eesearch.nets.effects import dead_nodes
from eesearch.nets.inputs import Normalize, Preprocessed

PREFIX = "model"
"""Path of the user's model below the root."""


class Root(nn.Module):
    """A model that is called with the raw sample alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Raw samples [N, ...] to logits [N, C]."""
        logits: Tensor = self.model(x)
        return logits


@dataclass(frozen=True)
class Call:
    """One call of a module in the traced forward.

    Attributes:
        path: Qualified name of the module.
        position: Index of the last node that exists when the call returns.
        output: The node of its result; None if that is not one value.
    """

    path: str
    position: int
    output: fx.Node | None


@dataclass
class Traced:
    """A traced model.

    Attributes:
        root: Holds the modules; in eval mode.
        graph: Its forward in eval mode.
        calls: Every call of a module below the root, in the order in which the calls returned.
        whole: Modules that are kept whole -> why.
        owners: Name of a node -> path of the module whose forward made it.
        nodes: Of the graph, in order.
        dead: Those of them that do nothing for anybody: neither the forward nor a head at a place of an adapter's.
    """

    root: nn.Module
    graph: fx.Graph
    calls: list[Call]
    whole: dict[str, str]
    owners: dict[str, str]
    nodes: list[fx.Node] = field(init=False)
    dead: set[fx.Node] = field(init=False)

    def __post_init__(self) -> None:
        self.nodes = list(self.graph.nodes)
        self.dead = dead_nodes(self.graph, {node for node in self.nodes if PLACE in node.meta})

    @property
    def name(self) -> str:
        """Class of the user's model."""
        return type(self.root.get_submodule(PREFIX)).__name__


class _Tracer(fx.Tracer):
    """Notes every call, every node's owner, and the innermost module that could not be traced."""

    def __init__(self, whole: dict[str, str]) -> None:
        super().__init__()
        self.whole = whole
        self.calls: list[Call] = []
        self.owners: dict[str, str] = {}
        self.failed = PREFIX
        self._path = [""]

    @cached_property
    def _names(self) -> dict[int, str]:
        """Identity of each parameter and buffer -> its name; torch.fx would go through all for each that is read."""
        return {id(tensor): name for name, tensor in chain(self.root.named_buffers(), self.root.named_parameters())}

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, Tensor) and id(a) in self._names:
            return self.create_node("get_attr", self._names[id(a)], (), {})
        return super().create_arg(a)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if not isinstance(attr_val, nn.Parameter) or id(attr_val) not in self._names:
            return super().getattr(attr, attr_val, parameter_proxy_cache)
        name = self._names[id(attr_val)]
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        kept = module_qualified_name in self.whole or isinstance(m, Normalize)
        kept = kept or (module_qualified_name != PREFIX and type(m).__module__.startswith("transformers."))
        return kept or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        path = self.path_of_module(m)
        leaf = self.is_leaf_module(m, path)
        self._path.append(self._path[-1] if leaf else path)
        try:
            result = super().call_module(m, forward, args, kwargs)
        except Exception:  # only to note which module it was; raised again
            if self.failed == PREFIX:  # the first to see it is the innermost
                self.failed = path
            raise
        finally:
            self._path.pop()
        output = result.node if isinstance(result, fx.Proxy) else None
        self.calls.append(Call(path, len(self.graph.nodes) - 1, output))
        return result

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        self.owners[node.name] = self._path[-1]
        return node


def trace_model(model: nn.Module) -> Traced:
    """Trace a model's forward in eval mode.

    A module whose own forward cannot be traced, or does something else in training mode than in eval mode (as
    `F.dropout(x, training=self.training)` does), is kept whole, so that the segments do the same as the model in both
    modes.

    Args:
        model: Taken over, without a copy; left in eval mode.

    Raises:
        SplitError: the model's own forward is the one that cannot be traced or depends on the mode.
    """
    root = (model if isinstance(model, Preprocessed) else Root(model)).eval()
    # Forwards that count their calls in a buffer do so while they are traced: the training mode gets its own copy.
    twin = copy.deepcopy(root).train()
    whole: dict[str, str] = {}
    while True:
        traced = _trace(root, whole)
        differing = _differing(traced, _trace(twin, whole))
        if not differing:
            return traced
        if differing & {"", PREFIX}:
            raise SplitError(
                f"cannot split {traced.name}: its own forward does something else in training mode than in eval mode",
                expected="a forward that does not look at self.training",
                do="Use modules for it: nn.Dropout instead of F.dropout, a module of its own for stochastic depth.",
            )
        whole.update(dict.fromkeys(differing, "its forward looks at self.training"))


def _trace(root: nn.Module, whole: dict[str, str]) -> Traced:
    """Trace; each module that fails joins `whole`, until the rest can be traced."""
    before = set(vars(root))
    while True:
        tracer = _Tracer(whole)
        try:
            with torch.random.fork_rng():
                graph = tracer.trace(root)
        except Exception as error:  # a user's forward may raise anything
            reason = f"{type(error).__name__}: {_first_line(error)}"
            if tracer.failed == PREFIX:
                raise SplitError(
                    f"cannot split {type(root.get_submodule(PREFIX)).__name__}: its own forward cannot be traced",
                    got=reason,
                    expected="a forward without control flow that depends on values, or assignment to parts of them",
                    do="Move such code into a submodule (it is kept whole then), "
                    "or write the model as nn.Sequential of its blocks.",
                ) from error
            whole[tracer.failed] = reason
            for name in vars(root).keys() - before:  # constants; they would be numbered on in the next attempt
                delattr(root, name)
            continue
        return Traced(root, graph, tracer.calls, dict(whole), tracer.owners)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def _differing(evaluated: Traced, trained: Traced) -> set[str]:
    """Paths of the modules whose own forward made other nodes in training mode."""
    one, two = _made_by(evaluated), _made_by(trained)
    differing = {path for path in one.keys() | two.keys() if one.get(path) != two.get(path)}
    if not differing and str(evaluated.graph) != str(trained.graph):
        return {PREFIX}  # the same nodes, wired differently
    return differing


def _made_by(traced: Traced) -> dict[str, list[str]]:
    made: dict[str, list[str]] = defaultdict(list)
    for node in traced.nodes:
        arguments = fx.node.map_arg((node.args, node.kwargs), lambda _: "value")
        made[traced.owners[node.name]].append(f"{node.op} {node.target} {arguments}")
    return dict(made)


def attribute(root: nn.Module, target: str) -> Any:
    """The module, parameter or tensor at a dotted path."""
    return reduce(getattr, target.split("."), root)


def structure(traced: Traced) -> str:
    """Text that is equal iff two traced models do the same with the same weights.

    The traced code, and of each module that it calls: class, settings, and the source where it is not torch's own.
    """
    parts = [traced.graph.python_code("self").src]
    for target in sorted({str(node.target) for node in traced.nodes if node.op == "call_module"}):
        for path, module in attribute(traced.root, target).named_modules():
            settings = {k: _setting(v) for k, v in sorted(vars(module).items()) if k[0] != "_" and k != "training"}
            cls: Any = type(module)
            parts.append(f"{target}.{path}: {cls.__qualname__} {settings} {_source(cls)}")
    return "\n".join(parts)


def _setting(value: object) -> object:
    """A plain value as it is, a function by its name; of anything else only its type (its text may hold an address)."""
    if isinstance(value, (tuple, list)):
        return [_setting(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, "__qualname__", type(value).__qualname__)


@cache
def _source(cls: Any) -> str:
    if cls.__module__.startswith("torch."):
        return ""
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):  # defined in a shell
        return ""
