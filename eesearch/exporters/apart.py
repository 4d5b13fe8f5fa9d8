"""What was exported, loaded again: modules of a folder, apart from all others, and what they answer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import invalidate_caches
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
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


def answering(predict: Callable[[Tensor], Any]) -> Reloaded:
    """A network's `predict` on arrays, in batches.

    Args:
        predict: Raw samples to something with `answer` [N] and `exit` [N].
    """

    def reloaded(x: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        said = [predict(as_tensor(x[i : i + BATCH])) for i in range(0, len(x), BATCH)]
        answers, exits = (torch.cat([getattr(s, name) for s in said]).cpu().numpy() for name in ("answer", "exit"))
        return answers, exits

    return reloaded
