"""torchvision, and what imports it, beside a torch that has no CUDA."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

from eesearch.core.errors import InputError
from eesearch.core.imports import need

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def need_vision(module: str, extra: str, error: type[InputError] = InputError) -> Any:
    """Import torchvision, or an optional library that imports it if it is there (timm, transformers, datasets).

    Args:
        module: Its import path.
        extra: The extra of eesearch that installs it.
        error: What to raise.

    Raises:
        InputError: the class given: it is not installed.
    """
    declare_operators()
    return need(module, extra, error)


@cache
def declare_operators() -> torch.library.Library | None:
    """Declare the operators that torchvision refers to while it is imported, but that its CUDA build cannot load here.

    They are declared, not defined: networks do not need them.
    """
    if torch.version.cuda is not None or find_spec("torchvision") is None or hasattr(torch.ops.torchvision, "nms"):
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in _OPERATORS:
        library.define(operator)
    return library
