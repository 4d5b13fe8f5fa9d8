"""Modules that torch.fx could not look into, written out: what they compute in eval mode, by torch.export."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from eesearch.core.errors import ModelError
from eesearch.exporters.leaves import layer_source
from eesearch.nets.effects import dead_nodes
from eesearch.nets.inputs import Normalize
from eesearch.nets.lower import exporting
from eesearch.nets.trace import PREFIX, attribute


def written_out(module: fx.GraphModule, inputs: tuple[Tensor, ...]) -> fx.GraphModule:
    """The same graph, but that it only calls layers that can be written as a constructor call.

    What takes the place of another module reads that module's tensors by their own paths. It does what the module does
    in eval mode: dropout inside it is gone, and batch norm inside it stands still when the network is trained further.

    Args:
        module: Traced; stays as it is.
        inputs: Of two samples.

    Raises:
        ModelError: torch.export cannot follow a module; the message names it.
    """
    paths = foreign_modules(module)
    foreign = [n for n in module.graph.nodes if n.op == "call_module" and str(n.target) in paths]
    if not foreign:
        return module
    seen = _Arguments(module)
    with torch.no_grad():
        seen.run(*inputs)
    root = fx.GraphModule(module, module.graph)  # constants are added here, not to the network
    graph = fx.Graph()
    made: dict[fx.Node, Any] = {}
    for node in module.graph.nodes:
        if node.op == "output":
            graph.output(fx.node.map_arg(node.args[0], made.__getitem__))
        elif node in foreign:
            made[node] = _inline(graph, root, node, [made[a] for a in node.all_input_nodes], seen.values[node])
        else:
            made[node] = graph.node_copy(node, made.__getitem__)
    return fx.GraphModule(root, graph, class_name="Segment")


def foreign_modules(module: fx.GraphModule) -> list[str]:
    """Paths of the modules that a graph calls and that no constructor call tells, in order."""
    called = dict.fromkeys(str(node.target) for node in module.graph.nodes if node.op == "call_module")
    return [path for path in called if _is_foreign(module, path)]


def _is_foreign(root: nn.Module, path: str) -> bool:
    layer = attribute(root, path)
    if isinstance(layer, Normalize):
        return False
    try:
        layer_source(layer, path)
    except ModelError:
        return True
    return False


class _Arguments(fx.Interpreter):
    """Runs a graph and keeps what each module is called with."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[fx.Node, tuple[Any, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "call_module":
            self.values[n] = tuple(self.env[a] for a in n.all_input_nodes)
        return super().run_node(n)


def _inline(graph: fx.Graph, root: fx.GraphModule, node: fx.Node, given: list[Any], values: tuple[Any, ...]) -> Any:
    """Append what a module computes; returns its value, or a tuple of values."""
    path = str(node.target)
    program = _followed(attribute(root, path), path, node, values)
    signature = program.graph_signature
    tensors = {
        name: full.removeprefix("module.")
        for name, full in {**signature.inputs_to_parameters, **signature.inputs_to_buffers}.items()
    }
    made: dict[fx.Node, Any] = {}
    arguments, dead = iter(given), dead_nodes(program.graph)
    for inner in program.graph.nodes:
        if inner.op == "placeholder" and inner.name in tensors:
            made[inner] = graph.get_attr(f"{path}.{tensors[inner.name]}")
        elif inner.op == "placeholder" and inner.name in signature.inputs_to_lifted_tensor_constants:
            name = signature.inputs_to_lifted_tensor_constants[inner.name]
            constant = f"{path}_{name.rpartition('.')[2]}".replace(".", "_")
            root.register_buffer(constant, program.constants[name], persistent=False)
            made[inner] = graph.get_attr(constant)
        elif inner.op == "placeholder":
            made[inner] = next(arguments)
        elif inner.op == "output":
            outputs = fx.node.map_arg(inner.args[0], made.__getitem__)
            return outputs[0] if len(outputs) == 1 else tuple(outputs)
        elif inner not in dead:  # such nodes only check something
            made[inner] = graph.node_copy(inner, made.__getitem__)
    raise AssertionError("a graph without an output")


def _followed(module: nn.Module, path: str, node: fx.Node, values: tuple[Any, ...]) -> Any:
    nodes = node.all_input_nodes

    class Called(nn.Module):
        """The module as the graph calls it: with its constants, and values in a row."""

        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *given: Tensor) -> Any:
            known = dict(zip(nodes, given, strict=True))
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
            return self.module(*args, **kwargs)

    batch = tuple({0: torch.export.Dim.DYNAMIC} for _ in values)
    try:
        with exporting(), torch.no_grad():
            program = torch.export.export(Called().eval(), values, dynamic_shapes=(batch,))
    except Exception as error:  # a user's forward may do anything
        raise ModelError(
            f"'{path.removeprefix(f'{PREFIX}.')}' cannot be written as plain PyTorch: "
            "neither torch.fx nor torch.export can follow its forward",
            got=f"{_kind(module)}: {(str(error).strip().splitlines() or [''])[0]}",
            expected="a forward without control flow that depends on values",
            do="Export with `--to onnx`, which can also record what a module does.",
        ) from error
    return program


def _kind(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"
