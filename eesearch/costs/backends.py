"""What runs a module when it is timed, by name; an entry is `(module, args) -> a call without arguments`.

An entry may compile or convert the module. Its call returns what the module returns for `args`; it runs under
`torch.inference_mode` with the module in eval mode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from eesearch.core.registry import BACKENDS

Backend = Callable[[nn.Module, tuple[Tensor, ...]], Callable[[], Any]]


@BACKENDS.register("eager")
def eager(module: nn.Module, args: tuple[Tensor, ...]) -> Callable[[], Any]:
    """The module as PyTorch runs it, operation by operation."""

    def call() -> Any:
        return module(*args)

    return call
