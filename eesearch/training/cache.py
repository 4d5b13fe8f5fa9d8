"""Where what is computed once and read in every epoch lies: in memory, on disk, or nowhere.

What is large goes to a file without a name in a scratch folder, and is mapped from there: batches read their rows, and
the system keeps of the rest what it has memory for. Nothing is left of such a file when its tensors are gone, or their
process, however it ended. Whether the values come from memory or from disk changes no bit of them.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

log = logging.getLogger(__name__)

Key = TypeVar("Key")

MEMORY_GB = 1.0
"""What takes no more than this altogether is kept in memory."""

MOST_OF_FREE = 0.5
"""A cache takes at most this share of what is free on a disk, so that however many there are, they never fill it."""

ALIGNED = 64
"""Tensors begin at multiples of so many bytes of a file."""

NO_RESERVATION = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
"""What file systems answer that cannot set space aside."""


class Layout(NamedTuple):
    """A tensor that is going to be cached.

    Attributes:
        shape: Samples first. [N, ...]
    """

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    @property
    def nbytes(self) -> int:
        """What it takes."""
        return prod(self.shape) * self.dtype.itemsize


class _NoRoomError(Exception):
    """The disk takes no more; never leaves this module."""


@dataclass(frozen=True)
class CachePlace:
    """Where something is going to be cached.

    Attributes:
        words: The same for people, after "hidden states: 3 GB".
        folder: Of a file.
    """

    kind: Literal["memory", "disk", "nowhere"]
    words: str
    folder: Path | None = None

    def keep(self, layouts: Mapping[Key, Layout], pieces: Iterable[tuple[Key, Tensor]]) -> dict[Key, Tensor] | None:
        """Fill the cache, piece by piece.

        Args:
            layouts: Of the tensors by name.
            pieces: (name, next rows of that tensor), wherever they were made; not asked for where nothing is cached.

        Returns:
            The tensors, on the CPU; None: nothing is cached here, or the disk had no room, which is told.
        """
        if self.kind == "memory":
            return _kept_in_memory(layouts, pieces)
        if self.folder is None:
            return None
        try:
            return _kept_on_disk(self.folder, layouts, pieces)
        except _NoRoomError as error:
            log.warning("cannot cache hidden states in %s: %s, %s", self.folder, error, ANEW)
            return None


ANEW = "so computed anew in every epoch"
IN_MEMORY = CachePlace("memory", "in memory")
OVER_LIMIT = CachePlace("nowhere", f"over the limit, {ANEW}")


@dataclass(frozen=True)
class Caching:
    """How much may be cached, and where.

    Attributes:
        max_gb: Most of it, in memory and on disk together.
        folder: Where what is large lies, made when it is needed; None: all is kept in memory.
    """

    max_gb: float = 4.0
    folder: Path | None = None

    def place(self, size: int, held: int = 0) -> CachePlace:
        """Where so much would be cached now.

        Args:
            size: In bytes.
            held: Bytes that are cached already, and stay.
        """
        if size + held > self.max_gb * 1e9:
            return OVER_LIMIT
        if self.folder is None or not size or size + held <= MEMORY_GB * 1e9:
            return IN_MEMORY
        free = _free(self.folder)
        room = f"{free / 1e9:.1f} GB are free"
        if size > MOST_OF_FREE * free:
            share = f"at most {MOST_OF_FREE:.0%} of that are used"
            return CachePlace("nowhere", f"too little room in {self.folder} ({room}, {share}), {ANEW}")
        return CachePlace("disk", f"on disk in {self.folder}, where {room}", self.folder)

    def told(self, what: str, size: int, where: CachePlace) -> str:
        """What is going to be cached, how large it is, the limit, and where it goes."""
        done = "" if where.kind == "nowhere" else "cached "
        return f"{what}: {size / 1e9:.3f} GB, at most {self.max_gb:.3f} GB: {done}{where.words}"

    def tell(self, what: str, size: int, where: CachePlace) -> None:
        """Say so where that is worth a line: what is small is cached in many trainings."""
        if where.kind != "memory" and self.max_gb:
            log.info("%s", self.told(what, size, where))


CACHING = Caching()
"""In memory."""

NO_CACHING = Caching(0.0)
"""All is computed anew."""


def nbytes(layouts: Mapping[Key, Layout]) -> int:
    """What tensors take together."""
    return sum(layout.nbytes for layout in layouts.values())


def _free(folder: Path) -> int:
    """Bytes that are free where a folder lies or would lie; 0 if nobody can tell."""
    try:
        there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        return shutil.disk_usage(there).free
    except OSError:
        return 0


def _kept_in_memory(layouts: Mapping[Key, Layout], pieces: Iterable[tuple[Key, Tensor]]) -> dict[Key, Tensor]:
    kept = {key: torch.empty(layout.shape, dtype=layout.dtype) for key, layout in layouts.items()}
    done = dict.fromkeys(layouts, 0)
    for key, rows in pieces:
        kept[key][done[key] : done[key] + len(rows)] = rows  # on the CPU, wherever they were made
        done[key] += len(rows)
    return kept


def _kept_on_disk(
    folder: Path, layouts: Mapping[Key, Layout], pieces: Iterable[tuple[Key, Tensor]]
) -> dict[Key, Tensor]:
    """As `CachePlace.keep`.

    Raises:
        _NoRoomError: the folder cannot be made, or the disk is full.
    """
    begins, size = {}, 0
    for key, layout in layouts.items():
        begins[key], size = size, size + -(-layout.nbytes // ALIGNED) * ALIGNED
    with _scratch(folder) as file:  # a mapping outlives its file's handle
        with _disk():
            _reserve(file, size)
        written = dict(begins)
        for key, rows in pieces:
            data = _bytes(rows.detach().to("cpu", layouts[key].dtype))
            with _disk():  # written, not assigned to the mapping: a full disk is an error then, and no signal
                file.seek(written[key])
                _write(file, data)
            written[key] += len(data)
        with _disk():
            file.truncate(size)
            os.fsync(file.fileno())  # what a file server refuses is told now, and not lost later
            mapped = torch.frombuffer(mmap.mmap(file.fileno(), size), dtype=torch.uint8)
    return {
        key: mapped[begins[key] : begins[key] + layout.nbytes].view(layout.dtype).view(layout.shape)
        for key, layout in layouts.items()
    }


@contextmanager
def _scratch(folder: Path) -> Iterator[IO[bytes]]:
    """A file without a name; whoever else opens the folder finds nothing, now or later."""
    with _disk():
        folder.mkdir(parents=True, exist_ok=True)
        file = TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (closed below)
    try:
        yield file
    finally:
        with _disk():
            file.close()


def _bytes(values: Tensor) -> Tensor:
    """The memory of a tensor of any type, as uint8."""
    return values.contiguous().view(-1).view(torch.uint8)


def _write(file: IO[bytes], data: Tensor) -> None:
    left = data.numpy().data
    while len(left):  # the system writes 2 GB at a time
        left = left[file.write(left) :]


def _reserve(file: IO[bytes], size: int) -> None:
    """Set space aside, where the system can: what is full is told before anything has been computed."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in NO_RESERVATION:
            raise


@contextmanager
def _disk() -> Iterator[None]:
    """Tells errors of the disk from those of whoever computes what is written."""
    try:
        yield
    except OSError as error:
        raise _NoRoomError(error.strerror or str(error)) from error
