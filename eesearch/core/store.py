"""The content-addressed store: arrays under a key, written at once or not at all, checked when read."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from eesearch.core.errors import RunError, StoreError

log = logging.getLogger(__name__)

Arrays = Mapping[str, NDArray[np.generic]]

Entry = tuple[dict[str, NDArray[np.generic]], dict[str, str]]
"""Arrays and text metadata."""

SUFFIX, DAMAGED = ".safetensors", ".damaged"
"""Of entries, and of those that were set aside."""

TEXT = "text"
"""Where an entry that is a text holds it."""

ADOPTED = ("weights", "table")
"""Kinds that are copied from other stores. Weights depend on what their key tells alone, and a table tells its samples;
all else depends on the calibration samples of the run that made it, whatever its key."""

_UNFINISHED = re.compile(r"\..+\.[a-z0-9_]{8}")
"""Names of the files that `write_atomic` writes before they get their own."""


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


def is_leftover(path: Path) -> bool:
    """Whether this is what `write_atomic` left of a file when its process was killed, or is writing right now."""
    return _UNFINISHED.fullmatch(path.name) is not None


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
    """Arrays or text by kind and key below one directory, as safetensors with a checksum.

    Any number of processes may read and write the same entries: what is written appears at once and whole, and equal
    keys mean equal contents.

    Kinds in use: `table` (an ExitTable), `weights` (a network), `fit`, `folds` (what is found without each fold of
    calibration); `part` (of the bank) and `shard` (of a table) while a cluster makes them; and as text `front`,
    `literature`.

    Args:
        root: The directory; made on the first write.
        others: Directories of further stores; what is missing here and whole there is copied, if it is of a kind
            in `ADOPTED`. Whoever reads a table checks its samples.
    """

    def __init__(self, root: Path, others: Sequence[Path] = ()) -> None:
        self.root = root
        self.others = tuple(others)

    def path(self, kind: str, key: str) -> Path:
        """Where an entry lies or would lie."""
        return self.root / kind / f"{key}{SUFFIX}"

    def put(self, kind: str, key: str, arrays: Arrays, meta: Mapping[str, str]) -> None:
        """Write an entry atomically.

        Raises:
            RunError: the disk is full, or the directory cannot be written.
        """
        contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        sealed = {**meta, "checksum": _checksum(contiguous, meta)}
        write_atomic(self.path(kind, key), save(contiguous, metadata=sealed))

    def get(self, kind: str, key: str) -> Entry | None:
        """Read an entry; None if there is none.

        Raises:
            StoreError: the entry is damaged. It has been set aside (`.damaged`), so that it can be made again.
            RunError: it cannot be read, or it is damaged and cannot be set aside.
        """
        found = self._own(self.path(kind, key))
        return self._adopted(kind, key) if found is None else found

    def put_text(self, kind: str, key: str, text: str, facts: Mapping[str, str]) -> None:
        """Write a text atomically, with short facts about it.

        Raises:
            RunError: the disk is full, or the directory cannot be written.
        """
        self.put(kind, key, {}, {**facts, TEXT: text})

    def _own(self, path: Path) -> Entry | None:
        seen = _identity(path)
        if seen is None:
            return None
        try:
            return _read(path)
        except FileNotFoundError:  # another process has just set it aside, or pruned it
            return None
        except StoreError as error:
            if not _set_aside(path, seen):
                return self._own(path)
            raise StoreError(f"{error}. It was moved to {_aside(path).name}; a search makes it again.") from error

    def _adopted(self, kind: str, key: str) -> Entry | None:
        for root in self.others if kind in ADOPTED else ():
            try:
                arrays, meta = _read(Store(root).path(kind, key))
            except FileNotFoundError:
                continue
            except StoreError as error:  # another run's: it is left as it is
                log.warning("%s. It is not used.", error)
                continue
            self.put(kind, key, arrays, meta)
            return arrays, meta
        return None


def _read(path: Path) -> Entry:
    """Read and check a file.

    Raises:
        FileNotFoundError: there is none.
        RunError: it cannot be read.
        StoreError: it is damaged.
    """
    try:
        with safe_open(path, framework="np") as file:
            meta = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError:
        raise
    except OSError as error:  # no rights, too many open files, a file server away: the entry may be whole
        raise RunError(f"cannot read {path}", got=error, do="Mend that, then run the same command again.") from error
    except (SafetensorError, ValueError) as error:
        raise StoreError(f"the store's entry {path} is damaged", got=error) from error
    expected = meta.pop("checksum", None)
    if expected != _checksum(arrays, meta):
        raise StoreError(f"the store's entry {path} is damaged", got="a wrong checksum")
    return arrays, meta


def _identity(path: Path) -> tuple[int, int] | None:
    """Tells a file from another that took its place; None if there is none."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_ino, facts.st_mtime_ns


def _aside(path: Path) -> Path:
    return path.with_suffix(DAMAGED)


def _set_aside(path: Path, seen: tuple[int, int]) -> bool:
    """Move the damaged file out of the way; False if it is not there any more, or already another one."""
    aside = _aside(path)
    with disk_errors(path):
        try:
            if _identity(path) != seen:
                return False
            os.replace(path, aside)
        except FileNotFoundError:  # another process was quicker
            return False
        if _identity(aside) == seen:
            return True
        os.replace(aside, path)  # another process had just made the entry again
        return False


def _checksum(arrays: Arrays, meta: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}:{array.dtype}:{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).data)
    for name in sorted(meta):
        digest.update(f"{name}={meta[name]};".encode())
    return digest.hexdigest()
