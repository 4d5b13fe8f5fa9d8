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
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:13]
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


def lives(run: Path, worker: str) -> bool | None:
    """Whether a worker still works; None: it belongs to another machine, so that only its heartbeat can tell."""
    if not worker.startswith(f"{machine()}."):
        return None
    file = _file(run, worker)
    if not file.exists():
        return False
    with tried(file) as dead:
        if dead:
            file.unlink(missing_ok=True)
        return not dead


def living(run: Path) -> list[str]:
    """The workers that live, or may live: those of other machines are not asked."""
    with disk_errors(run):
        names = sorted(file.name.removesuffix(".lock") for file in (run / "workers").glob("*.lock"))
    return [name for name in names if lives(run, name) is not False]


def _file(run: Path, worker: str) -> Path:
    return run / "workers" / f"{worker}.lock"
