"""Adaptive max pooling as slices, for graphs that have no operation for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def largest_2d(x: Tensor, size: list[int]) -> tuple[Tensor, Tensor]:
    """A map [N, C, H, W] pooled to [N, C, *size], as `adaptive_max_pool2d` does; nobody reads the indices."""
    height, width = x.shape[-2:]
    rows = []
    for i in range(size[0]):
        top, bottom = i * height // size[0], -(-(i + 1) * height // size[0])
        spans = [(j * width // size[1], -(-(j + 1) * width // size[1])) for j in range(size[1])]
        rows.append(torch.stack([x[..., top:bottom, a:b].amax((-2, -1)) for a, b in spans], -1))
    largest = torch.stack(rows, -2)
    return largest, torch.zeros_like(largest, dtype=torch.int64)


def largest_1d(x: Tensor, size: list[int]) -> tuple[Tensor, Tensor]:
    """A sequence [N, D, T] pooled to [N, D, *size], as `adaptive_max_pool1d` does."""
    largest, index = largest_2d(x.unsqueeze(-2), [1, *size])
    return largest.squeeze(-2), index.squeeze(-2)


def _uneven(pool: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Any]:
    """Only where windows differ in size: even ones are plain max pooling, which every graph knows."""

    def pooled(x: Tensor, size: list[int]) -> Any:
        even = all(int(side) % wanted == 0 for side, wanted in zip(x.shape[-len(size) :], size, strict=True))
        return NotImplemented if even else pool(x, size)

    return pooled


DECOMPOSED: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.adaptive_max_pool1d.default: largest_1d,
    torch.ops.aten.adaptive_max_pool2d.default: largest_2d,
}
"""Always, for `torch.export`'s `run_decompositions`."""

UNEVEN: dict[Any, Callable[..., Any]] = {op: _uneven(pool) for op, pool in DECOMPOSED.items()}
"""Where windows differ in size."""
