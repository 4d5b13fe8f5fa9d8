"""A search in a process of its own, forked from one that has everything loaded: seconds are for searching.

What it does to the disk and to the database is written to an audit file, a line per event, which outlives a SIGKILL.
If it is told to `strike`, it kills itself at that operation of storage: just before or just after a file is renamed or
a transaction is committed.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass, field

# Loaded once, by the server that the searching processes are forked from.
import matplotlib.pyplot  # noqa: F401
import numpy as np
import optuna
import sklearn.datasets  # noqa: F401
import torch
from sqlalchemy import event
from sqlalchemy.engine import Engine

import eesearch.api
import eesearch.seeding.bolukbasi
import eesearch.solve.exact
import eesearch.study.policies  # noqa: F401
from eesearch.core.store import Store
from eesearch.drivers import storage
from eesearch.study import workers, workshop

torch.set_num_threads(1)
torch.optim.Adam([torch.zeros(1, requires_grad=True)])
optuna.storages.RDBStorage("sqlite://").engine.dispose()


@dataclass(frozen=True)
class Orders:
    """What a searching process is to be.

    Attributes:
        arguments: Of the command `eesearch`.
        out: Where standard output goes.
        err: Where standard error goes.
        audit: Where it writes down what it does.
        strike: At which operation of storage something happens, from 0; None: at none.
        full: What happens: the disk is full from then on, instead of SIGKILL.
        busy_s: Every training takes at least so long: so short ones are met by a kill too.
        machine: It says that it runs on this one.
        pulse: Seconds between heartbeats, and those after which one without is dead.
        environment: Variables of it.
    """

    arguments: list[str]
    out: str
    err: str
    audit: str
    strike: int | None = None
    full: bool = False
    busy_s: float = 0.0
    machine: str = ""
    pulse: tuple[int, int] | None = None
    environment: dict[str, str] = field(default_factory=dict)


def search(orders: Orders) -> None:
    """What the process does: the command line, with standard output and error in files. Never returns."""
    for stream, name in ((1, orders.out), (2, orders.err)):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, stream)
        os.close(file)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)
    sys.argv = ["eesearch", *orders.arguments]
    os.environ.update(orders.environment)
    tempfile.tempdir = None  # what is there was found before TMPDIR might be set
    Audit(orders).install()
    if orders.machine:
        workers.machine = lambda: orders.machine
    if orders.pulse:
        storage.open_database.__kwdefaults__["pulse"] = storage.Pulse(*orders.pulse)
    code = 1
    try:
        from eesearch.cli import main

        main()
        code = 0
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else int(done.code is not None)
    except BaseException:  # a test looks for tracebacks
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Audit:
    """Writes down what is trained and stored, and may kill its process at an operation of storage.

    Args:
        orders: Of the process; several may append to one audit file.
    """

    def __init__(self, orders: Orders) -> None:
        self._file = os.open(orders.audit, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._orders = orders
        self._count, self._lock = 0, threading.Lock()

    def install(self) -> None:
        """Wrap what trains and what stores, in this process."""
        self.say("start", "")
        os.replace = self._struck(os.replace)
        os.fsync = self._struck(os.fsync)
        event.listen(Engine, "commit", lambda connection: self.operation())
        event.listen(Engine, "begin", lambda connection: self.operation())  # after the commit before it
        for name in ("train_design", "train_bank"):
            setattr(workshop, name, self._trained(getattr(workshop, name)))
        Store.put = self._put(Store.put)

    def say(self, what: str, key: str) -> None:
        """One line, written at once."""
        line = json.dumps({"pid": os.getpid(), "what": what, "key": key})
        os.write(self._file, f"{line}\n".encode())

    def operation(self, *, can_fail: bool = False) -> None:
        """One more operation of storage; maybe the last."""
        with self._lock:
            now, strike = self._count, self._orders.strike
            self._count += 1
        if strike is None or now < strike:
            return
        if self._orders.full:
            if can_fail:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        elif now == strike:
            self.say("struck", str(now))
            os.kill(os.getpid(), signal.SIGKILL)

    def _struck(self, work):
        @functools.wraps(work)
        def call(*args, **kwargs):
            self.operation(can_fail=True)
            work(*args, **kwargs)
            self.operation()

        return call

    def _trained(self, train):
        @functools.wraps(train)
        def call(backbone, design, *args, **kwargs):
            self.say("training", design.key)
            time.sleep(self._orders.busy_s)
            return train(backbone, design, *args, **kwargs)

        return call

    def _put(self, put):
        @functools.wraps(put)
        def call(store, kind, key, arrays, meta):
            self.say("storing", f"{kind}/{key}")
            put(store, kind, key, {name: np.asarray(array) for name, array in arrays.items()}, meta)
            self.say("stored", f"{kind}/{key}")

        return call
