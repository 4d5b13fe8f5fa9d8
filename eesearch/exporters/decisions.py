"""Python text of a decision: the registered criterion itself, followed by torch.export, never a copy by hand."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn

from eesearch.core.errors import ModelError
from eesearch.core.policy import Criterion
from eesearch.exporters.source import Statements
from eesearch.nets.lower import exporting

_PROBE = 5
"""Samples that are traced with; any number of them is answered for."""


class _Decision(nn.Module):
    """A criterion on tensors in a row, as torch.export takes them."""

    def __init__(self, criterion: Criterion, kinds: tuple[str, ...]) -> None:
        super().__init__()
        self.criterion, self.kinds = criterion, kinds

    def forward(self, logits: Tensor, *values: Tensor) -> tuple[Tensor, Tensor]:
        answer, score = self.criterion.function(logits, dict(zip(self.kinds, values, strict=True)))
        return answer, score


def decision_graph(criterion: Criterion, parameters: Mapping[str, Tensor], classes: int, stops: int) -> fx.Graph:
    """What a criterion computes from the logits of so many stops.

    Args:
        criterion: As registered.
        parameters: Fitted values of these stops, by kind. Each [k, D]
        classes: C
        stops: k

    Returns:
        Placeholders are the logits [k, N, C], then the parameters in their order; returns answer [N, C] and score [N].

    Raises:
        ModelError: torch.export cannot follow it.
    """
    logits = torch.randn(stops, _PROBE, classes, generator=torch.Generator().manual_seed(0))
    values = tuple(parameters.values())
    dynamic = ({1: torch.export.Dim.DYNAMIC}, *({} for _ in values))
    try:
        with exporting(), torch.no_grad():
            program = torch.export.export(
                _Decision(criterion, tuple(parameters)),
                (logits, *values),
                dynamic_shapes=(dynamic[0], dynamic[1:]),
            )
    except Exception as error:  # a criterion of others may do anything
        first = (str(error).strip().splitlines() or [""])[0]
        raise ModelError(
            "the criterion cannot be exported",
            got=f"{type(error).__name__}: {first}",
            expected="a pure function of tensors, without control flow that depends on values",
        ) from error
    graph: fx.Graph = program.graph
    graph.eliminate_dead_code()
    return graph


def decision_source(name: str, graph: fx.Graph, kinds: tuple[str, ...]) -> list[str]:
    """A function `name(logits, temperature, ...)` that does what a graph does."""
    nodes = list(graph.nodes)
    statements = Statements(graph, {}, str, ("logits", *kinds), kept=set(nodes[: 1 + len(kinds)]))
    body = statements.write()
    about = '"""Logits [k, N, C] of the stops so far to (answer [N, C], score [N]); fitted values are [k, D]."""'
    lines = [about, *body, f"return {', '.join(statements.returned)}"]
    return [f"def {name}(logits, {', '.join(kinds)}):", *(f"    {line}" for line in lines)]
