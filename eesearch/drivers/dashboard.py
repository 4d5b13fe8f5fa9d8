"""optuna-dashboard on the database of a run, to look at: nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, make_server

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study._frozen import FrozenStudy
from sqlalchemy import event

from eesearch.core.errors import InputError, RunError
from eesearch.drivers.storage import DATABASE_ERRORS, database_url, parse_url
from eesearch.drivers.studies import TITLE
from eesearch.study.rundir import Identity, RunDir

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


def serve_dashboard(
    run: RunDir,
    host: str = "localhost",
    port: int = 8080,
    *,
    storage: str | None = None,
    usual: str | None = None,
    ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Show a run's trials in a browser until Ctrl-C; a search may go on meanwhile.

    Args:
        run: With at least one trial begun.
        host: Name or address to listen at.
        port: 0: any that is free.
        storage: Database that the search was given; None: the run's own.
        usual: Taken for it where it is not given, and the run has none of its own.
        ready: Told the address once it answers.

    Raises:
        InputError: optuna-dashboard is not installed, or the address is taken.
        RunError: the run has no database, or another one.
    """
    app = dashboard_app(run, storage, usual)
    try:
        server = make_server(host, port, app, handler_class=_Quiet)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"cannot listen at {host}:{port}", got=error, do="Name another with --port or --host; --port 0 takes any."
        ) from None
    with server, suppress(KeyboardInterrupt):  # which is how one leaves it
        ready(f"http://{host}:{server.server_port}/")
        server.serve_forever()


def dashboard_app(run: RunDir, storage: str | None = None, usual: str | None = None) -> WSGIApplication:
    """The dashboard as a WSGI application, for a server of one's own; see `serve_dashboard`.

    The database is opened for reading only: trials that were deleted or renamed in a browser would be lost to the
    search. Studies bear the titles that people know them by.

    Raises:
        InputError: optuna-dashboard is not installed.
        RunError: the run has no database, or another one.
    """
    try:
        from optuna_dashboard import wsgi
    except ImportError:
        raise InputError(
            "the dashboard needs the package optuna-dashboard", do="pip install 'eesearch[dashboard]'."
        ) from None
    known = run.identity() if (run.path / "run.json").is_file() else None
    if known is not None and known.storage:
        return wsgi(_shared(run, known, storage or usual))
    if not run.database.is_file():
        raise RunError(f"{run.path} holds no trials", expected="a directory that `eesearch search` wrote")
    if storage is not None:
        raise RunError(f"the trials of {run.path} lie in its own {run.database.name}", do="Leave --storage out.")
    return wsgi(_Titled(database_url(run.database, "ro"), {"timeout": 60}))


def _shared(run: RunDir, known: Identity, storage: str | None) -> _Titled:
    """Raises RunError: the trials lie elsewhere, or the database does not answer."""
    if storage is None:
        raise RunError(f"the trials of {run.path} lie in {known.storage}", do="Name it: --storage, with your password.")
    address = parse_url(storage)
    where = address.render_as_string(hide_password=True)
    postgres = address.get_backend_name() == "postgresql"
    options = {"connect_timeout": 10, "options": "-c default_transaction_read_only=on"} if postgres else {}
    try:
        found = _Titled(address.render_as_string(hide_password=False), options, f"{known.id}-")
        held = found.get_all_studies()
    except DATABASE_ERRORS as error:
        raise RunError(f"cannot read {where}", got=str(getattr(error, "orig", error)).splitlines()[0]) from None
    if not held:
        raise RunError(f"the trials of {run.path} lie in {known.storage}", got=where)
    return found


class _Titled(RDBStorage):
    """A database that is read only, where studies are called by their titles.

    Args:
        address: As SQLAlchemy reads it.
        options: Of its connections.
        prefix: Of the studies that are shown, where others lie beside them.
    """

    def __init__(self, address: str, options: Mapping[str, object], prefix: str = "") -> None:
        super().__init__(address, engine_kwargs={"connect_args": dict(options)})
        self._prefix = prefix
        event.listen(self.engine, "before_cursor_execute", _only_read)

    def get_study_name_from_id(self, study_id: int) -> str:
        name = super().get_study_name_from_id(study_id)
        return self._titled(name, study_id)

    def get_all_studies(self) -> list[FrozenStudy]:
        studies = [s for s in super().get_all_studies() if s.study_name.startswith(self._prefix)]
        for study in studies:
            study.study_name = self._titled(study.study_name, study._study_id)
        return studies

    def _titled(self, name: str, study_id: int) -> str:
        title = self.get_study_user_attrs(study_id).get(TITLE)
        return f"{title} ({name.removeprefix(self._prefix)})" if title else name


def _only_read(connection: object, cursor: object, statement: str, *others: object) -> None:
    """Databases of every kind; those that know how refuse by themselves, too."""
    if statement.split(maxsplit=1)[0].upper() not in ("SELECT", "PRAGMA", "SHOW"):
        raise StorageInternalError("the dashboard only reads")


class _Quiet(WSGIRequestHandler):
    """Says nothing about every request."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""
