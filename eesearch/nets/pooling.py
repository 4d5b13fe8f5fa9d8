"""Adaptive pooling in operations that graphs have, and run fast: torch's own export gathers every pixel of each window.

What is pooled is the same, to rounding for means. Window i of p over a side n holds the pixels from floor(i n / p) up
to ceil((i + 1) n / p).
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Grid(NamedTuple):
    """Windows of one size at equal distances, over a side that is padded with nothing before and behind."""

    kernel: int
    stride: int
    before: int
    behind: int


def windows(side: int, size: int) -> list[tuple[int, int]]:
    """First pixel, and the one behind the last, of each window."""
    return [(i * side // size, -(-(i + 1) * side // size)) for i in range(size)]


def grid_of(side: int, size: int) -> Grid | None:
    """The grid whose windows, cut off at the edges, are the adaptive ones; None: there is none."""
    wanted = windows(side, size)
    for stride in {side // size, -(-side // size)} - {0}:
        before = max(stride - wanted[1][0], 0) if size > 1 else 0
        kernel = max(last - i * stride + before for i, (_, last) in enumerate(wanted))
        placed = [(i * stride - before, i * stride - before + kernel) for i in range(size)]
        if wanted == [(max(first, 0), min(last, side)) for first, last in placed]:
            return Grid(kernel, stride, before, max(placed[-1][1] - side, 0))
    return None


def largest_2d(x: Tensor, size: list[int]) -> tuple[Tensor, Tensor]:
    """A map [N, C, H, W] pooled to [N, C, *size], as `adaptive_max_pool2d` does; nobody reads the indices."""
    rows, columns = (grid_of(int(side), wanted) for side, wanted in zip(x.shape[-2:], size, strict=True))
    if rows is None or columns is None:
        largest = _largest_slices(_largest_slices(x, size[0], -2), size[1], -1)
    else:
        padded = F.pad(x, (columns.before, columns.behind, rows.before, rows.behind), value=-inf)
        kernel, stride = (rows.kernel, columns.kernel), (rows.stride, columns.stride)
        largest = F.max_pool2d(padded, kernel, stride)
    return largest, torch.zeros_like(largest, dtype=torch.int64)


def _largest_slices(x: Tensor, size: int, dim: int) -> Tensor:
    """One dimension after the other: the largest of a rectangle is the largest of its columns' largest."""
    return torch.stack([x.narrow(dim, a, b - a).amax(dim) for a, b in windows(x.shape[dim], size)], dim)


def largest_1d(x: Tensor, size: list[int]) -> tuple[Tensor, Tensor]:
    """A sequence [N, D, T] pooled to [N, D, *size], as `adaptive_max_pool1d` does."""
    largest, index = largest_2d(x.unsqueeze(-2), [1, *size])
    return largest.squeeze(-2), index.squeeze(-2)


def mean_2d(x: Tensor, size: list[int]) -> Tensor:
    """A map [N, C, H, W] pooled to [N, C, *size], as `adaptive_avg_pool2d` does: two products of matrices."""
    height, width = x.shape[-2:]
    return _shares(height, size[0], x) @ x @ _shares(width, size[1], x).T


def mean_1d(x: Tensor, size: list[int]) -> Tensor:
    """A sequence [N, D, T] pooled to [N, D, *size], as `adaptive_avg_pool1d` does."""
    return x @ _shares(x.shape[-1], size[0], x).T


def _shares(side: int, size: int, like: Tensor) -> Tensor:
    """What share of each window a pixel has; computed in the graph, which may not hold new constants. [size, side]"""
    window, at = torch.arange(size, device=like.device)[:, None], torch.arange(side, device=like.device)
    inside = (at >= window * side // size) & (at * size < (window + 1) * side)
    return inside.to(like.dtype) / inside.sum(1, keepdim=True)


def _uneven(pool: Callable[..., Any]) -> Callable[..., Any]:
    """Only where windows differ in size: even ones are plain pooling, which every graph knows."""

    def pooled(x: Tensor, size: list[int]) -> Any:
        even = all(int(side) % wanted == 0 for side, wanted in zip(x.shape[-len(size) :], size, strict=True))
        return NotImplemented if even else pool(x, size)

    return pooled


DECOMPOSED: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.adaptive_max_pool1d.default: largest_1d,
    torch.ops.aten.adaptive_max_pool2d.default: largest_2d,
}
"""Always, for `torch.export`'s `run_decompositions`."""

_MEAN: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.adaptive_avg_pool1d.default: mean_1d,
    torch.ops.aten.adaptive_avg_pool2d.default: mean_2d,
    torch.ops.aten._adaptive_avg_pool2d.default: mean_2d,
}

UNEVEN = {op: _uneven(pool) for op, pool in (DECOMPOSED | _MEAN).items()}
"""Where windows differ in size."""
