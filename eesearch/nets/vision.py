"""torchvision, and what imports it, beside whatever torch is installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import cloudpickle
import torch

from eesearch.core.errors import DataError, InputError
from eesearch.core.imports import need

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []
"""Kept: what a library declares goes with it."""


def torchvision(error: type[InputError] = DataError) -> Any:
    """The module `torchvision`.

    Beside a torch built without CUDA, a torchvision built with it cannot load its compiled part; then its import stops
    at operators that were to come from there (of detection, which nothing here runs). They are declared, and it is
    imported again. One that fits its torch declares them itself, and would stop at ours: so it is tried first.

    Args:
        error: What to raise.

    Raises:
        InputError: the class given: it is not installed, or cannot be imported.
    """
    try:
        return need("torchvision", "vision", error)
    except RuntimeError as cause:
        if "torchvision::" not in str(cause) or _declared:
            raise error("torchvision does not fit the torch that is installed", got=cause) from cause
    library = torch.library.Library("torchvision", "DEF")
    _declared.append(library)
    for name in ("nms", "qnms"):
        library.define(f"{name}{_SIGNATURE}")
    return torchvision(error)


def unpickled(payload: bytes) -> Any:
    """What another process has sent; its classes may be of libraries that import torchvision.

    Raises:
        Exception: whatever the import of a class raises.
    """
    try:
        return cloudpickle.loads(payload)
    except RuntimeError as cause:
        if "torchvision::" not in str(cause):
            raise
        torchvision()
        return cloudpickle.loads(payload)


def need_vision(module: str, extra: str, error: type[InputError] = InputError) -> Any:
    """Import an optional library that imports torchvision, now or later, if it is there (timm, transformers).

    Args:
        module: Its import path.
        extra: The extra of eesearch that installs it.
        error: What to raise.

    Raises:
        InputError: the class given: it is not installed, or torchvision cannot be imported.
    """
    if find_spec("torchvision") is not None:
        torchvision(error)
    return need(module, extra, error)
