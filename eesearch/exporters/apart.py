"""What was exported, loaded again: modules of a folder, apart from all others, and what they answer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import invalidate_caches
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eesearch.nets.inputs import as_tensor

Reloaded = Callable[[NDArray[Any]], tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Raw samples [N, ...] to answers [N] and exits [N], with real early stopping."""

BATCH = 256
"""Samples that are computed at once."""


@contextmanager
def modules_apart(folder: Path) -> Iterator[None]:
    """Within it, `import model` means the folder's; afterwards it means again what it meant before."""
    own = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    sys.path.insert(0, str(folder))
    try:
        with _names_apart(own):
            yield
    finally:
        sys.path.remove(str(folder))


@contextmanager
def package_apart(folder: Path) -> Iterator[str]:
    """Within it, the folder is a package of this name; afterwards there is none."""
    name = "exported_package"
    with _names_apart({name}):
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        sys.modules[name] = module_from_spec(spec)
        yield name


@contextmanager
def _names_apart(names: set[str]) -> Iterator[None]:
    """Modules of these names, and all below them, are forgotten before and after; no bytecode is written."""
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in names}
    for name in before:
        del sys.modules[name]
    writes_none, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_none
        for name in [name for name in sys.modules if name.partition(".")[0] in names]:
            del sys.modules[name]
        sys.modules.update(before)


def batches(x: NDArray[Any]) -> list[NDArray[Any]]:
    """Samples [N, ...] in parts of at most `BATCH`, in order; at least one part."""
    return [x[i : i + BATCH] for i in range(0, max(len(x), 1), BATCH)]


def in_batches(predict: Callable[[NDArray[Any]], Sequence[NDArray[Any]]]) -> Reloaded:
    """A runner's `predict`, batch by batch.

    Args:
        predict: Raw samples to answers [N], exits [N], and more that nobody asks for.
    """

    def reloaded(x: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        answers, exits = zip(*(predict(part)[:2] for part in batches(x)), strict=True)
        return np.concatenate(answers), np.concatenate(exits)

    return reloaded


def answering(predict: Callable[[Tensor], Any]) -> Reloaded:
    """A network's `predict` on arrays, batch by batch.

    Args:
        predict: Raw samples to something with `answer` [N] and `exit` [N].
    """

    def said(x: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        prediction = predict(as_tensor(x))
        return prediction.answer.cpu().numpy(), prediction.exit.cpu().numpy()

    return in_batches(said)
