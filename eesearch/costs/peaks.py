"""Bytes of activations that are alive while a module runs, and bytes of what travels between segments."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def tensor_bytes(tensors: Iterable[Tensor]) -> float:
    """Bytes of tensors as they are sent: their own elements, whatever else their memory holds."""
    return float(sum(tensor.numel() * tensor.element_size() for tensor in tensors))


def peak_bytes(module: nn.Module, args: tuple[Tensor, ...]) -> float:
    """Most bytes of activations that are alive at once while a module runs, its inputs included.

    Memory counts once, however many tensors look at it (views, in-place operations); parameters and buffers do not
    count, nor does what a kernel allocates for itself.

    Args:
        module: In eval mode.
        args: Its inputs, which stay alive: whoever runs the stages holds them.
    """
    weights = chain(module.parameters(), module.buffers())
    live = _Live({tensor.untyped_storage().data_ptr() for tensor in weights if tensor.numel()})
    live.add(args)
    with torch.no_grad(), live:
        made = module(*args)
        live.add(tree_leaves(made))
    return float(live.peak)


class _Live(TorchDispatchMode):
    """Counts the memory of what operations make, until nothing looks at it any more."""

    def __init__(self, weights: set[int]) -> None:
        super().__init__()
        self.weights = weights
        self.sizes: dict[int, int] = {}
        self.references: dict[int, Any] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        self.add(tree_leaves(made))
        return made

    def add(self, made: Iterable[Any]) -> None:
        """Count the memory of some tensors, unless it is counted already."""
        for tensor in made:
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            place = storage.data_ptr()
            if not storage.nbytes() or place in self.weights or place in self.sizes:
                continue
            self.sizes[place] = storage.nbytes()
            self.references[place] = weakref.ref(storage, lambda _, place=place: self._drop(place))  # type: ignore[misc]
            self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)

    def _drop(self, place: int) -> None:
        self.now -= self.sizes.pop(place)
        del self.references[place]
