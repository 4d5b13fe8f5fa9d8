"""Where an interrupted training goes on."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eesearch.core.store import write_atomic


@dataclass(frozen=True)
class Checkpoint:
    """A file with the state of one training after its last complete epoch; never pickled code, only tensors.

    Attributes:
        path: Of the file; its directory is made when needed.
        owner: Key of what is trained, for what cannot be seen in weights and samples (the weights of the losses).
    """

    path: Path
    owner: str = ""

    def phase(self, index: int, owner: str) -> Checkpoint:
        """The checkpoint of one phase of a training that has several."""
        return Checkpoint(self.path.with_name(f"{self.path.name}.{index}"), owner)

    def save(self, state: dict[str, Any]) -> None:
        """Write tensors and plain values, completely or not at all.

        Raises:
            RunError: the disk is full, or the directory cannot be written.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomic(self.path, buffer.getvalue())

    def load(self, made_for: str) -> dict[str, Any] | None:
        """The state if it was `made_for` this very training, else None: then the training starts anew.

        A damaged file is set aside (`.damaged`).
        """
        if not self.path.exists():
            return None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError):
            os.replace(self.path, self.path.with_name(f"{self.path.name}.damaged"))
            return None
        return state if isinstance(state, dict) and state.get("made_for") == made_for else None

    def clear(self) -> None:
        """Remove the file, when what it led to is safe elsewhere."""
        self.path.unlink(missing_ok=True)


def weights_hash(model: nn.Module) -> str:
    """Hash of all weights and buffers, bit for bit."""
    return tensors_hash(model.state_dict())


def tensors_hash(tensors: Mapping[Any, Tensor]) -> str:
    """Hash of named tensors, bit for bit."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()
