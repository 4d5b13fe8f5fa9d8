"""Optimizers and schedules of a training section."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn
from torch.optim import Optimizer

from eesearch.core.design import TrainSpec


def make_optimizer(parts: Mapping[str, list[nn.Parameter]], spec: TrainSpec) -> Optimizer:
    """The optimizer of a training section, one group of parameters for each part; SGD with Nesterov momentum 0.9.

    Fused: with many small heads the calls are what costs time.
    """
    groups = [{"params": parameters, "part": part} for part, parameters in parts.items()]
    decay = spec.weight_decay
    if spec.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=spec.lr, momentum=0.9, nesterov=True, weight_decay=decay, fused=True)
    kind = torch.optim.AdamW if spec.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=spec.lr, weight_decay=decay, fused=True)


def annealed(schedule: Literal["constant", "cosine", "linear"], done: float) -> float:
    """Factor of the learning rate when a share `done` of the steps is done: 1 at 0; `cosine` and `linear` 0 at 1."""
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    return 1 - done if schedule == "linear" else 1.0
