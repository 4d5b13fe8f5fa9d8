"""Where trainings run: on a CUDA device where there is one, in mixed precision; else on the CPU, in float32.

Only the CPU gives the same weights bit for bit, run after run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import torch
from torch import nn

from eesearch.core.errors import InputError
from eesearch.training.cache import CACHING, Caching
from eesearch.training.samples import Inputs

Accelerator = Literal["auto", "cpu", "cuda"]

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Room:
    """Where a training runs, and what it may cache.

    Attributes:
        caching: Of what is computed once and read in every epoch.
    """

    device: torch.device = CPU
    caching: Caching = CACHING


HERE = Room()
"""On the CPU."""


def find_device(asked: Accelerator) -> torch.device:
    """The device that trainings run on; `auto`: CUDA if there is any.

    Raises:
        InputError: CUDA is asked for and there is none.
    """
    available = asked != "cpu" and torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise InputError("there is no CUDA device here", do="Set resources.accelerator to auto or cpu.")
    return torch.device("cuda") if available else CPU


def device_of(module: nn.Module) -> torch.device:
    """Where a module's weights are; the CPU if it has none."""
    return next((tensor.device for tensor in chain(module.parameters(), module.buffers())), CPU)


@contextmanager
def placed(module: nn.Module, device: torch.device) -> Iterator[None]:
    """A module on a device; afterwards it is where it was."""
    before = device_of(module)
    module.to(device)
    try:
        yield
    finally:
        module.to(before)


def moved(inputs: Inputs, device: torch.device) -> Inputs:
    """A batch on a device."""
    if isinstance(inputs, Mapping):
        return {name: tensor.to(device, non_blocking=True) for name, tensor in inputs.items()}
    return inputs.to(device, non_blocking=True)


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """float32 as it is on a CPU: CUDA devices round the factors of convolutions otherwise (TF32)."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 where it is safe and fast, on CUDA devices that know it; weights and losses stay float32."""
    enabled = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
