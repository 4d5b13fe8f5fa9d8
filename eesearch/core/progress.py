"""How long operations tell what they have done, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called as `progress(phase, done, total)`; the units are the phase's own."""


def silent(phase: str, done: int, total: int) -> None:
    """Listen to nothing."""
