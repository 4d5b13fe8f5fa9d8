"""What is asked of the Hugging Face hub: nothing, unless the user says so."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "HF_HUB_OFFLINE"
"""Of the environment: 0 allows downloads; anything else, and nothing, forbids them."""

ALLOW = f"To download it, set {VARIABLE}=0."
"""What to do about what is not there, for messages."""


def may_download() -> bool:
    """Whether the user has said that the hub may be asked."""
    return os.environ.get(VARIABLE, "").strip().upper() in {"0", "FALSE", "NO", "OFF"}


@contextmanager
def hub_as_allowed() -> Iterator[None]:
    """Within the block, libraries of the hub that are imported already ask for nothing, unless the user allows it.

    Where the network is unreachable they would try again and again, for minutes. They read the environment once, when
    they are imported: too early for us, so what they have read is changed, and set back.
    """
    names = () if may_download() else ("huggingface_hub.constants", "datasets.config")
    modules = [sys.modules.get(name) for name in names]
    before = [(module, getattr(module, VARIABLE)) for module in modules if hasattr(module, VARIABLE)]
    try:
        for module, _ in before:
            setattr(module, VARIABLE, True)
        yield
    finally:
        for module, value in before:
            setattr(module, VARIABLE, value)
