"""The content-addressed store: arrays under a key, written at once or not at all, checked when read."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from eesearch.core.errors import RunError, StoreError

Arrays = Mapping[str, NDArray[np.generic]]


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file completely or leave what was there; survives kill -9 and a full disk.

    Raises:
        RunError: the disk is full, or the directory cannot be written.
    """
    payload = data.encode() if isinstance(data, str) else data
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says about writing `path` into a `RunError` with advice."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write {path}",
            got=error.strerror or str(error),
            expected="a writable directory with free space",
            do="Free some space, or name another place (--run, --out), then run the same command again: "
            "finished trials are kept.",
        ) from error


class Store:
    """Arrays by kind and key below one directory, as safetensors with a checksum.

    Kinds in use: `table` (an ExitTable), `weights` (a network), `fit`, `checkpoint`.

    Args:
        root: The directory; made on the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, kind: str, key: str) -> Path:
        """Where an entry lies or would lie."""
        return self.root / kind / f"{key}.safetensors"

    def put(self, kind: str, key: str, arrays: Arrays, meta: Mapping[str, str]) -> None:
        """Write an entry atomically.

        Raises:
            RunError: the disk is full, or the directory cannot be written.
        """
        contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        sealed = {**meta, "checksum": _checksum(contiguous, meta)}
        write_atomic(self.path(kind, key), save(contiguous, metadata=sealed))

    def get(self, kind: str, key: str) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]] | None:
        """Read an entry; None if there is none.

        Raises:
            StoreError: the entry is damaged. It has been set aside (`.damaged`), so that it can be made again.
        """
        path = self.path(kind, key)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="np") as file:
                meta = dict(file.metadata() or {})
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except (SafetensorError, OSError, ValueError) as error:
            raise self._set_aside(path, str(error)) from error
        expected = meta.pop("checksum", None)
        if expected != _checksum(arrays, meta):
            raise self._set_aside(path, "a wrong checksum")
        return arrays, meta

    def _set_aside(self, path: Path, why: str) -> StoreError:
        aside = path.with_suffix(".damaged")
        os.replace(path, aside)
        return StoreError(f"the store's entry {path} is damaged", got=why, do=f"It was moved to {aside.name}.")


def _checksum(arrays: Arrays, meta: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}:{array.dtype}:{array.shape};".encode())
        digest.update(array.tobytes())
    for name in sorted(meta):
        digest.update(f"{name}={meta[name]};".encode())
    return digest.hexdigest()
