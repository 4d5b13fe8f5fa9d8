"""Which processes work on a run: each holds the lock of a file of its own while it lives."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eesearch.core.locks import tried
from eesearch.core.store import disk_errors


def machine() -> str:
    """Names this machine since it was started; two containers on one kernel share it, and their locks."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()[:13]
    except OSError:  # not Linux
        return socket.gethostname()


@contextmanager
def working(run: Path) -> Iterator[str]:
    """Be one of the workers of a run directory; the value names this one.

    Raises:
        RunError: the directory cannot be written.
    """
    while True:
        name = f"{machine()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        file = _file(run, name)
        with tried(file) as mine:
            if not (mine and file.exists()):
                continue  # somebody looked between its making and its locking, and took it for a dead one's
            try:
                yield name
            finally:
                file.unlink(missing_ok=True)
            return


def lives(run: Path, worker: str) -> bool:
    """Whether a worker still holds its lock; all machines see it, as they see the run directory's other locks."""
    file = _file(run, worker)
    if not file.exists():
        return False
    with tried(file) as dead:
        if dead:
            file.unlink(missing_ok=True)
        return not dead


def is_here(worker: str) -> bool:
    """Whether a worker is, or was, on this machine since it was started."""
    return worker.startswith(f"{machine()}.")


def living(run: Path) -> list[str]:
    """The workers that live."""
    with disk_errors(run):
        names = sorted(file.name.removesuffix(".lock") for file in (run / "workers").glob("*.lock"))
    return [name for name in names if lives(run, name)]


def others(run: Path) -> list[str]:
    """The workers that live in other processes."""
    return [name for name in living(run) if not name.startswith(f"{machine()}.{os.getpid()}.")]


def _file(run: Path, worker: str) -> Path:
    return run / "workers" / f"{worker}.lock"
