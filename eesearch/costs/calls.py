"""What is timed: loaded parts in a row, and what the host does between and after them when a network is deployed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from eesearch.costs.backends import Call

THRESHOLD = 0.5
"""Scores are compared with it; which way that goes takes no time."""


def in_a_row(calls: Sequence[Call], inputs: Sequence[Any], *, decides: bool = False) -> Callable[[], Any]:
    """A call without arguments that runs parts one after the other.

    Of more than one sample, those that stay are picked from the carry between two parts, as they are where some leave.

    Args:
        calls: Each reads what the one before it gives.
        inputs: Native, of the first.
        decides: Whether the host looks at the answers [N] and scores [N] that are given last.
    """
    given, first, rest = tuple(inputs), calls[0], tuple(calls[1:])
    several = len(given[0]) > 1

    def run() -> Any:
        made = first(*given)
        for call in rest:
            made = call(*(_stay(made) if several else made))
        if decides:
            return _decide_all(made) if several else _decide(made)
        return made

    return run


def _stay(carry: Sequence[Any]) -> tuple[Any, ...]:
    tap = carry[0]
    stays: Any = np.ones(len(tap), bool)
    if isinstance(tap, torch.Tensor):
        stays = torch.from_numpy(stays).to(tap.device)
    return tuple(tensor[stays] for tensor in carry)


def _decide(made: Sequence[Any]) -> tuple[bool, Any]:
    """Of one sample: whether it leaves, and with which answer."""
    return made[-1].item() >= THRESHOLD, made[-2].item()


def _decide_all(made: Sequence[Any]) -> tuple[bool, Any]:
    """Of several: whether all leave, and the answers of those that do."""
    answer, score = (np.asarray(each.cpu() if isinstance(each, torch.Tensor) else each) for each in made[-2:])
    leaves = score.astype(np.float64) >= THRESHOLD
    return bool(leaves.all()), answer[leaves]
