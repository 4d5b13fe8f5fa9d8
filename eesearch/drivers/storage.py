"""Where the trials of a run are kept: SQLite in the run directory, or a database that several machines share."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import quote

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.engine import make_url
from sqlalchemy.engine.url import URL
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from eesearch.core.errors import InputError, RunError
from eesearch.core.store import disk_errors
from eesearch.drivers.records import carried, counts
from eesearch.study.rundir import Identity, RunDir
from eesearch.study.workers import is_here, living

DATABASE_ERRORS = (SQLAlchemyError, StorageInternalError)

READY = "ready"
"""Attribute of a study that holds all trials it was to take over."""

PATIENCE_S = 60.0
"""So long after its first error a server may be away, to be started again, before a search gives up."""

VANISHED = {"keepalives_idle": 20, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 30_000}
"""How soon PostgreSQL's driver notices that the server's machine is gone: half a minute, not a quarter of an hour."""

T = TypeVar("T")


@dataclass(frozen=True)
class Pulse:
    """Heartbeats of running trials.

    Attributes:
        interval: Seconds between two.
        grace: Seconds after which a trial without any counts as dead.
    """

    interval: int = 30
    grace: int = 120


@dataclass(frozen=True, eq=False)
class Database:
    """The Optuna studies of one run.

    Attributes:
        storage: Where they lie.
        prefix: Of their names, where others' studies lie there too.
        where: What to call it in messages; never has a password.
        server: Whether it may be away for a while.
        pulse: Heartbeats.
    """

    storage: RDBStorage
    prefix: str
    where: str
    server: bool
    pulse: Pulse

    def studies(self, *, tidy: bool = False) -> dict[str, optuna.Study]:
        """The complete studies by name.

        Args:
            tidy: Remove those whose take-over was interrupted; hold a lock.
        """
        ready = {}
        for name in optuna.get_all_study_names(self.storage):
            if not name.startswith(self.prefix):
                continue
            study = optuna.load_study(study_name=name, storage=self.storage)
            if READY in study.user_attrs:
                ready[name.removeprefix(self.prefix)] = study
            elif tidy:
                optuna.delete_study(study_name=name, storage=self.storage)
        return ready

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what a database says into a `RunError` with advice."""
        try:
            yield
        except DATABASE_ERRORS as error:
            raise RunError(
                f"cannot use the database {self.where}",
                got=str(error.__cause__ or error).splitlines()[0],
                do=_advice(self.server),
            ) from error

    def patiently(self, work: Callable[[], T]) -> T:
        """Do what may be done twice; a server that is away is asked again, for a minute.

        Raises:
            RunError: it stays away, or the file cannot be used.
        """
        until: float | None = None
        while True:
            try:
                with self.errors():
                    return work()
            except RunError as error:
                until = until or time.monotonic() + PATIENCE_S
                away = self.server and isinstance(error.__cause__, DATABASE_ERRORS)
                if not away or time.monotonic() > until:
                    raise
            time.sleep(1.0)


def open_database(run: RunDir, url: str | None = None, *, pulse: Pulse = Pulse()) -> Database:
    """Connect to where the trials of a run are kept, or are to be kept; call it while preparing.

    A run that was begun in its own directory moves to a database when it is first given one: its trials are copied.

    Args:
        run: The run directory.
        url: As SQLAlchemy reads it, such as `postgresql://user@host/name`; None: a file in the run directory.
        pulse: Heartbeats.

    Raises:
        InputError: no such kind of database, or its driver is not installed.
        RunError: it does not answer, or the trials of the run lie elsewhere.
    """
    identity = run.identity()
    if url is None:
        if identity.storage:
            raise RunError(
                f"the trials of {run.path} lie in {identity.storage}",
                do=f"Add --storage {identity.storage}, with your password if it has one.",
            )
        return _own(run, pulse)
    database = _shared(url, identity, pulse)
    with database.errors():
        if identity.storage and not _same(identity.storage, database.where) and not database.studies():
            raise RunError(
                f"the trials of {run.path} lie in {identity.storage}", got=f"--storage {database.where}", do="Name it."
            )
        moves = not identity.storage and run.database.is_file()
        if moves:
            _copy(run, _own(run, pulse), database)
    run.identify(identity.model_copy(update={"storage": database.where}))
    if moves:  # now that everybody knows where the trials are
        _retire(run)
    return database


def _same(one: str, other: str) -> bool:
    """Whether two addresses differ in the user alone."""
    return make_url(one).set(username=None, password=None) == make_url(other).set(username=None, password=None)


def _own(run: RunDir, pulse: Pulse) -> Database:
    if any(not is_here(worker) for worker in living(run.path)):
        raise RunError(
            f"a search on another machine is running in {run.path}",
            got="no --storage",
            do="SQLite does not bear writers on several machines: stop it, then give all of them a --storage.",
        )
    run.database.parent.mkdir(parents=True, exist_ok=True)
    address = database_url(run.database, "rwc")
    with _told(str(run.database), server=False):
        storage = _storage(address, {"connect_args": {"timeout": 60}}, pulse)
    return Database(storage, "", str(run.database), False, pulse)


def _shared(url: str, identity: Identity, pulse: Pulse) -> Database:
    address = parse_url(url)
    where = shown(address)
    is_file = address.get_backend_name() == "sqlite"
    options: dict[str, object] = {"connect_args": {"timeout": 60}} if is_file else {"pool_pre_ping": True}
    if address.get_backend_name() == "postgresql":
        options["connect_args"] = {"connect_timeout": 10, **VANISHED}
    with _told(where, server=not is_file):
        storage = _storage(address.render_as_string(hide_password=False), options, pulse)
    return Database(storage, f"{identity.id}-", where, not is_file, pulse)


def parse_url(url: str) -> URL:
    """A database's address; `postgresql://` means psycopg, which the extra installs.

    Raises:
        InputError: it is none, or what it takes is not installed.
    """
    try:
        address = make_url(url)
        if address.drivername in ("postgresql", "postgres"):
            address = address.set(drivername="postgresql+psycopg")
        address.get_dialect().import_dbapi()
        if address.get_backend_name() == "sqlite":
            address = address.set(database=_absolute(address.database))
        elif {"@", ";", "="} & {*(address.host or ""), *(address.database or "")}:
            raise ValueError  # of a password that was not escaped, most likely
    except (ArgumentError, ValueError, NoSuchModuleError):  # none of them repeats the address: it has a password
        raise InputError(
            "--storage names no database",
            expected="such as postgresql://user:password@host/name",
            do="Write %40 for an @ in the password, %2F for a slash.",
        ) from None
    except ImportError as error:
        extra = "pip install 'eesearch[postgresql]'." if "psycopg" in address.drivername else None
        raise InputError(f"{address.drivername} needs a package", got=error, do=extra) from None
    return address


def _absolute(file: str | None) -> str:
    """Of an SQLite file; one in memory would be lost."""
    if not file or file == ":memory:":
        raise ValueError
    return file if file.startswith("file:") else str(Path(file).absolute())


def shown(address: URL) -> str:
    """What an address is called in messages and files: without its password, and its options, which may have one."""
    return address.set(query={}).render_as_string(hide_password=True)


@contextmanager
def _told(where: str, *, server: bool) -> Iterator[None]:
    try:
        yield
    except (*DATABASE_ERRORS, OSError) as error:
        cause = getattr(error, "orig", None) or error.__cause__ or error
        raise RunError(
            f"cannot use the database {where}", got=str(cause).strip().splitlines()[0], do=_advice(server)
        ) from None


def _advice(server: bool) -> str:
    if server:
        return "Check that it runs, and the address with its password; then run the same command again."
    return "Free some space or mend the file's permissions, then run the same command again."


@contextmanager
def experimental() -> Iterator[None]:
    """Use what Optuna marks experimental, or meant for its own loop; the version is pinned to one major release."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.filterwarnings("ignore", "Heartbeat of storage", UserWarning)  # trials have one of ours
        yield


def _storage(address: str, options: dict[str, object], pulse: Pulse) -> RDBStorage:
    with experimental():
        return RDBStorage(address, engine_kwargs=options, heartbeat_interval=pulse.interval, grace_period=pulse.grace)


def _copy(run: RunDir, own: Database, database: Database) -> None:
    """Copy the ended trials of a run; what was running or queued is proposed again."""
    if living(run.path):
        raise RunError(f"a search is running in {run.path}", got="another --storage", do="Stop it first.")
    copied = database.studies(tidy=True)  # without what an interrupted copy left
    for name, old in own.studies().items():
        if name in copied:
            continue
        new = optuna.create_study(
            study_name=f"{database.prefix}{name}", storage=database.storage, directions=old.directions
        )
        new.add_trials([carried(t) for t in old.get_trials(deepcopy=False) if counts(t)])
        if old.metric_names:
            with experimental():
                new.set_metric_names(old.metric_names)
        for key, value in sorted(old.user_attrs.items(), key=lambda item: item[0] == READY):  # that it is ready: last
            new.set_user_attr(key, value)
    own.storage.engine.dispose()


def _retire(run: RunDir) -> None:
    """Give the old file another name, so that nobody goes on with it."""
    numbered = (run.database.with_name(f"{run.database.name}.moved-{n}") for n in range(1, 10_000))
    with disk_errors(run.database):
        run.database.rename(next(file for file in numbered if not file.exists()))


def database_url(database: Path, mode: Literal["ro", "rwc"]) -> str:
    """SQLAlchemy's address of a file: to read only, or to read, write and create. Any path will do, `a? 100%` too."""
    uri = quote(quote(str(database.absolute())))  # SQLAlchemy unquotes it, and then SQLite does
    return f"sqlite:///file:{uri}?mode={mode}&uri=true"
