"""Locks between processes: files that the operating system frees when their holder dies, kill -9 included.

The directory must lie on a file system with locks; where several machines share it, on one whose locks all of them
see, as NFS 4 does.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES
from pathlib import Path

from filelock import FileLock, Timeout

from eesearch.core.store import disk_errors

log = logging.getLogger(__name__)

UNREMARKABLE_S = 1.0
"""Waiting for less is not worth a word."""


@contextmanager
def locked(path: Path, *, waiting: str = "") -> Iterator[None]:
    """Hold a lock, however long it takes to get it.

    Args:
        path: The lock's file; made where it is missing, and left there.
        waiting: Said once if another process has it for more than a second.

    Raises:
        RunError: the file cannot be written.
    """
    held = _lock(path)
    with disk_errors(path):
        try:
            held.acquire(timeout=UNREMARKABLE_S if waiting else -1)
        except Timeout:
            log.info("%s", waiting)
            held.acquire()
    try:
        yield
    finally:
        held.release()


@contextmanager
def tried(path: Path) -> Iterator[bool]:
    """Hold a lock if it is free; the value says whether it was.

    Raises:
        RunError: the file cannot be written.
    """
    held, free = _lock(path), True
    with disk_errors(path):
        try:
            held.acquire(timeout=0)
        except Timeout:
            free = False
    try:
        yield free
    finally:
        held.release()


def _lock(path: Path) -> FileLock:
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path if path.exists() else path.parent, os.W_OK):  # filelock would wait for ever
            raise PermissionError(EACCES, os.strerror(EACCES), str(path))
    # without the fallback: the locks it makes where there are none outlive their holders
    return FileLock(path, thread_local=False, fallback_to_soft=False)
