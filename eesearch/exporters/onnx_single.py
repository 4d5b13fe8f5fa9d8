"""One ONNX graph of all stages for one sample: each further stage lies inside the `If` of the stop before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

import numpy as np

from eesearch.core.imports import need

OUTPUTS = ("answer", "exit", "score")


def single_graph(models: Sequence[Any], thresholds: Sequence[float], *, asks: bool) -> Any:
    """A model `x [1, ...] -> answer int64 [1], exit int64 [1], score float [1]` that runs no stage it does not need.

    The thresholds are the constant `thresholds` of the graph.

    Args:
        models: Of the stages, in order, as `stage_model` gives them.
        thresholds: One per stage.
        asks: Whether a sample that no stage is sure about is handed on: answer -1, exit k.

    Raises:
        InputError: onnx is not installed.
    """
    onnx = need("onnx", "onnx")
    need("onnx.compose", "onnx")
    graph = _Nested(onnx, models, thresholds, asks=asks).level(0)
    first = models[0]
    x = onnx.ValueInfoProto()
    x.CopyFrom(next(value for value in first.graph.input if value.name == "x"))
    x.type.tensor_type.shape.dim[0].dim_value = 1
    graph.input.append(x)
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(thresholds, np.float64), "thresholds"))
    model = onnx.helper.make_model(graph, opset_imports=first.opset_import, ir_version=first.ir_version)
    onnx.checker.check_model(model, full_check=True)
    return model


class _Nested:
    """Builds the graphs from the outermost to the innermost."""

    def __init__(self, onnx: Any, models: Sequence[Any], thresholds: Sequence[float], *, asks: bool) -> None:
        self.onnx, self.thresholds, self.asks = onnx, thresholds, asks
        self.models = [onnx.inliner.inline_local_functions(model) if model.functions else model for model in models]

    def level(self, number: int) -> Any:
        """The graph of a stage, its decision, and in one branch all that follows; names of outer graphs are seen."""
        helper = self.onnx.helper
        prefix = f"s{number}_"
        stage = self.onnx.compose.add_prefix(self.models[number], prefix).graph
        given = {prefix + value.name: _origin(value.name) for value in self.models[number].graph.input}
        nodes = [_renamed(node, given) for node in stage.node]
        said, sure = f"{prefix}answer", f"{prefix}score"
        if self.thresholds[number] == -inf and not self._follows(number):
            nodes += [
                helper.make_node("Identity", [said], [f"{prefix}out_answer"]),
                self._constant(f"{prefix}out_exit", np.array([number])),
                helper.make_node("Identity", [sure], [f"{prefix}out_score"]),
            ]
            return self._graph(prefix, nodes, stage.initializer)
        nodes += [
            helper.make_node("Cast", [sure], [f"{prefix}double"], to=self.onnx.TensorProto.DOUBLE),
            self._constant(f"{prefix}number", np.array([number])),
            helper.make_node("Gather", ["thresholds", f"{prefix}number"], [f"{prefix}threshold"]),
            helper.make_node("GreaterOrEqual", [f"{prefix}double", f"{prefix}threshold"], [f"{prefix}sure"]),
            helper.make_node("Squeeze", [f"{prefix}sure"], [f"{prefix}leaves"]),
            helper.make_node(
                "If",
                [f"{prefix}leaves"],
                [f"{prefix}out_{name}" for name in OUTPUTS],
                then_branch=self._left(number, said, sure),
                else_branch=self.level(number + 1) if number + 1 < len(self.models) else self._handed_on(number + 1),
            ),
        ]
        return self._graph(prefix, nodes, stage.initializer)

    def _follows(self, number: int) -> bool:
        return self.asks or number + 1 < len(self.models)

    def _left(self, number: int, said: str, sure: str) -> Any:
        make, prefix = self.onnx.helper.make_node, f"left{number}_"
        nodes = [
            make("Identity", [said], [f"{prefix}out_answer"]),
            self._constant(f"{prefix}out_exit", np.array([number])),
            make("Identity", [sure], [f"{prefix}out_score"]),
        ]
        return self._graph(prefix, nodes, ())

    def _handed_on(self, number: int) -> Any:
        values = (np.array([-1]), np.array([number]), np.array([np.nan], np.float32))
        prefix = "asked_"
        return self._graph(
            prefix, [self._constant(f"{prefix}out_{n}", v) for n, v in zip(OUTPUTS, values, strict=True)], ()
        )

    def _graph(self, prefix: str, nodes: Sequence[Any], initializers: Sequence[Any]) -> Any:
        helper, kinds = self.onnx.helper, self.onnx.TensorProto
        types = (kinds.INT64, kinds.INT64, kinds.FLOAT)
        names = [f"{prefix}out_{name}" for name in OUTPUTS]
        if prefix == "s0_":  # the outermost graph's outputs are the network's
            nodes = [*nodes, *(helper.make_node("Identity", [n], [o]) for n, o in zip(names, OUTPUTS, strict=True))]
            names = list(OUTPUTS)
        outputs = [helper.make_tensor_value_info(n, t, [1]) for n, t in zip(names, types, strict=True)]
        return helper.make_graph(list(nodes), f"{prefix}graph", [], outputs, list(initializers))

    def _constant(self, name: str, value: np.ndarray) -> Any:
        tensor = self.onnx.numpy_helper.from_array(value, f"{name}_value")
        return self.onnx.helper.make_node("Constant", [], [name], value=tensor)


def _origin(name: str) -> str:
    """What an input of a stage is called where it was made: `carry_0_1` is stage 0's; `x` is the network's own."""
    kind, _, rest = name.partition("_")
    return f"s{rest.partition('_')[0]}_{name}" if kind in ("carry", "logits") else name


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    """A node that reads other names, in its subgraphs too."""
    for i, name in enumerate(node.input):
        node.input[i] = names.get(name, name)
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for inner in graph.node:
                _renamed(inner, names)
    return node
