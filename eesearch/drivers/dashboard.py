"""optuna-dashboard on the database of a run, to look at: nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, make_server

from optuna.storages import RDBStorage
from optuna.study._frozen import FrozenStudy

from eesearch.core.errors import InputError, RunError
from eesearch.drivers.optuna_driver import TITLE, database_url
from eesearch.study.rundir import RunDir

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


def serve_dashboard(
    run: RunDir, host: str = "localhost", port: int = 8080, *, ready: Callable[[str], None] = lambda url: None
) -> None:
    """Show a run's trials in a browser until Ctrl-C; a search may go on meanwhile.

    Args:
        run: With at least one trial begun.
        host: Name or address to listen at.
        port: 0: any that is free.
        ready: Told the address once it answers.

    Raises:
        InputError: optuna-dashboard is not installed, or the address is taken.
        RunError: the run has no database.
    """
    app = dashboard_app(run)
    try:
        server = make_server(host, port, app, handler_class=_Quiet)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"cannot listen at {host}:{port}", got=error, do="Name another with --port or --host; --port 0 takes any."
        ) from None
    with server, suppress(KeyboardInterrupt):  # which is how one leaves it
        ready(f"http://{host}:{server.server_port}/")
        server.serve_forever()


def dashboard_app(run: RunDir) -> WSGIApplication:
    """The dashboard as a WSGI application, for a server of one's own.

    The database is opened for reading only: trials that were deleted or renamed in a browser would be lost to the
    search. Studies bear the titles that people know them by.

    Raises:
        InputError: optuna-dashboard is not installed.
        RunError: the run has no database.
    """
    try:
        from optuna_dashboard import wsgi
    except ImportError:
        raise InputError(
            "the dashboard needs the package optuna-dashboard", do="pip install 'eesearch[dashboard]'."
        ) from None
    if not run.database.is_file():
        raise RunError(f"{run.path} holds no trials", expected="a directory that `eesearch search` wrote")
    return wsgi(_Titled(run.database))


class _Titled(RDBStorage):
    """A database that is read only, where studies are called by their titles."""

    def __init__(self, database: Path) -> None:
        super().__init__(database_url(database, "ro"), engine_kwargs={"connect_args": {"timeout": 60}})

    def get_study_name_from_id(self, study_id: int) -> str:
        name = super().get_study_name_from_id(study_id)
        return self._titled(name, study_id)

    def get_all_studies(self) -> list[FrozenStudy]:
        studies = super().get_all_studies()
        for study in studies:
            study.study_name = self._titled(study.study_name, study._study_id)
        return studies

    def _titled(self, name: str, study_id: int) -> str:
        title = self.get_study_user_attrs(study_id).get(TITLE)
        return f"{title} ({name})" if title else name


class _Quiet(WSGIRequestHandler):
    """Says nothing about every request."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""
