"""Randomness of the contract kits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

CLASSES = 3
"""Classes of the made-up data."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's global generator at a seed inside, and as it was afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
