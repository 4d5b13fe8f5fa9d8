"""What the values of a traced forward are, learnt by running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from eesearch.nets.trace import Traced


@dataclass(frozen=True)
class Fact:
    """What is known about a node's value from running the graph at two batch sizes.

    Attributes:
        kind: `tensor`; `size` (an int: constant, or the batch size); `other`.
        shape: Of a tensor, without its first dimension.
        batched: Whether a tensor's first dimension is the batch.
        floating: Whether a tensor holds floating-point numbers.
        boolean: Whether it holds truth values.
        size: The constant int; None where it is the batch size.
    """

    kind: str
    shape: tuple[int, ...] = ()
    batched: bool = False
    floating: bool = False
    boolean: bool = False
    size: int | None = None


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps what `Fact` needs of every value."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.seen: dict[str, object] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        kept = (tuple(value.shape), value.dtype) if isinstance(value, Tensor) else None
        self.seen[n.name] = kept or (value if isinstance(value, int) else None)
        return value


def learn_facts(traced: Traced, batch: Tensor) -> dict[fx.Node, Fact]:
    """Run the graph on a batch, and on a batch of one more, to see what each value is.

    Args:
        traced: In eval mode.
        batch: Raw samples [N, ...].
    """
    runs = []
    for x in (batch, torch.cat([batch, batch[:1]])):
        recorder = _Recorder(fx.GraphModule(traced.root, traced.graph))
        with torch.no_grad():
            recorder.run(x.clone())  # the first module may overwrite it
        runs.append(recorder.seen)
    return {node: _fact(runs[0][node.name], runs[1][node.name], len(batch)) for node in traced.nodes}


def _fact(small: object, large: object, batch: int) -> Fact:
    if isinstance(small, int) and isinstance(large, int):
        if small == large:
            return Fact("size", size=small)
        return Fact("size") if (small, large) == (batch, batch + 1) else Fact("other")
    if isinstance(small, tuple) and isinstance(large, tuple):
        shape, dtype = small
        batched = shape[:1] == (batch,) and large[0] == (batch + 1, *shape[1:])
        return Fact("tensor", shape[1:], batched, dtype.is_floating_point, dtype == torch.bool)
    return Fact("other")
