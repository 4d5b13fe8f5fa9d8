"""Several views of a sample, as of cameras on devices of their own, and what joins them (Teerapittayanon et al. 2017).

A sample is [V, ...]. A view is missing where all of its values are 0, and stays so up to where views are joined: what
is computed of a missing view is 0 again (`keep_missing`), so that a hidden state [N, V, C, H, W] tells by itself which
views are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

_LOWEST = -1e30
"""What a missing view says of each class where the largest counts; finite, for 0 times infinity is no number."""


def is_present(x: Tensor) -> Tensor:
    """Which views are there: [N, V, ...] to booleans [N, V]."""
    return x.flatten(2).ne(0).any(2)


def keep_missing(hidden: Tensor, present: Tensor) -> Tensor:
    """A hidden state [N, V, C, H, W] with zeros for the views that are missing.

    Args:
        hidden: What was computed of each view.
        present: Which of them were there. [N, V]
    """
    return hidden * present.to(hidden.dtype)[:, :, None, None, None]


def mean_of_present(hidden: Tensor, present: Tensor) -> Tensor:
    """The average over the views that are there; 0 where none is.

    Args:
        hidden: 0 where a view is missing. [N, V, ...]
        present: Which views are there, with as many dimensions. [N, V, 1, ...]
    """
    return hidden.sum(1) / present.to(hidden.dtype).sum(1).clamp(min=1.0)


class JoinViews(nn.Module):
    """Maps of all views [N, V, C, H, W], none of whose values is negative, as one map.

    Args:
        how: `max` or `average` over the views that are there, [N, C, H, W]; `concat` of all, [N, V C, H, W].
    """

    def __init__(self, how: Literal["max", "average", "concat"]) -> None:
        super().__init__()
        self.how = how

    def forward(self, hidden: Tensor) -> Tensor:
        """See the class."""
        if self.how == "concat":
            return hidden.flatten(1, 2)
        if self.how == "max":
            return hidden.amax(1)  # a missing view is 0, and nothing is below
        return mean_of_present(hidden, is_present(hidden)[:, :, None, None, None])


class ViewsBody(nn.Module):
    """A body per view, as each device has its own, and one answer from the views that are there.

    Args:
        bodies: Each maps what is read of its view [N, *features] to class scores [N, C].
        how: `max` or `average` of the class scores.
    """

    def __init__(self, bodies: Sequence[nn.Module], how: Literal["max", "average"]) -> None:
        super().__init__()
        self.bodies = nn.ModuleList(bodies)
        self.how = how

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, V, *features] to logits [N, C]; all 0 where no view is there."""
        said = torch.stack([body(features[:, v]) for v, body in enumerate(self.bodies)], 1)  # [N, V, C]
        present = is_present(features)[:, :, None]
        if self.how == "average":
            return mean_of_present(said * present.to(said.dtype), present)
        return said.masked_fill(~present, _LOWEST).amax(1) * present.any(1).to(said.dtype)
