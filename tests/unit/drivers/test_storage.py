import sys

import pytest
from sqlalchemy.exc import OperationalError

from eesearch.core.errors import InputError, RunError
from eesearch.drivers import storage
from eesearch.drivers.storage import open_database, parse_url, shown
from eesearch.drivers.studies import finished
from eesearch.study.space import LogFloat
from eesearch.study.trial import Outcome
from eesearch.study.workers import working


class Flat:
    """One parameter, and a value that needs no training."""

    key, origin, directions = "flat", "bank", ("maximize",)
    parameters = (LogFloat("alpha:a", 0.1, 10.0),)

    def draft(self):
        return None

    def first(self):
        return Outcome(design=None, values=(0.25,))

    def seeds(self):
        return []

    def run(self, params, report=None):
        return Outcome(design=None, values=(1.0 / params["alpha:a"],))


BUDGET = {"budget": {"trials": 6}}


@pytest.mark.parametrize("url", ["", "nonsense", "postgresql:/x", "nosuch://host/db", "sqlite"])
def test_what_is_no_database_is_refused_without_repeating_it(url):
    with pytest.raises(InputError, match=r"names no database; expected such as postgresql://user:password@host/name"):
        parse_url(url)


def test_a_driver_that_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InputError, match=r"pip install 'eesearch\[postgresql\]'") as caught:
        parse_url("postgresql://me:secret@host/db")
    assert "secret" not in str(caught.value)


def test_postgresql_means_psycopg():
    pytest.importorskip("psycopg")
    assert parse_url("postgresql://me@host/db").drivername == "postgresql+psycopg"


def test_a_server_that_does_not_answer_is_told_without_its_password(place):
    pytest.importorskip("psycopg")
    with pytest.raises(RunError, match=r"cannot use the database postgresql\+psycopg://me:\*\*\*@127.0.0.1:1/db") as e:
        place().database("postgresql://me:secret@127.0.0.1:1/db")
    assert "secret" not in str(e.value)
    assert "Check that it runs" in str(e.value)


def test_a_run_moves_to_a_database_with_its_trials_and_stays_there(place, tmp_path):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    place().search(Flat(), fields=BUDGET)
    before = place().records(Flat())
    with pytest.raises(RunError, match=r"search is running"), working(place().run.path):
        place().database(url)
    moved = place().search(Flat(), fields={"budget": {"trials": 8}}, database=place().database(url))
    assert [t.number for t in moved] == [6, 7], "nothing is run again"
    whole = place("whole")
    whole.search(Flat(), fields={"budget": {"trials": 8}})
    assert [(t.origin, t.outcome.values) for t in moved] == [(o, v) for o, _, v in whole.records(Flat())[6:]]
    assert before == whole.records(Flat())[:6]
    with pytest.raises(RunError, match=r"the trials of .* lie in sqlite:///.*shared.db\. Add --storage sqlite:///"):
        place().database()
    with pytest.raises(RunError, match=r"lie in .*shared.db; got --storage .*other.db"):
        place().database(f"sqlite:///{tmp_path / 'other.db'}")
    assert not place().run.database.exists(), "the old file has another name: nobody goes on with it"


def test_a_move_that_was_killed_goes_on_and_loses_nothing(place, tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    place().search(Flat(), fields=BUDGET)
    before = place().records(Flat())
    for where in ("carried", "_retire"):  # in the middle of the copy, and after it
        with monkeypatch.context() as patch:
            patch.setattr(storage, where, lambda *args: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                place().database(url)
    database = place().database(url)
    assert [t.outcome.values for t in finished(Flat(), database)] == [values for _, _, values in before]


def test_sqlite_is_refused_where_another_machine_writes(place, monkeypatch):
    with working(place().run.path), monkeypatch.context() as patch:
        patch.setattr(storage, "is_here", lambda worker: False)
        with pytest.raises(RunError, match=r"another machine is running .* SQLite does not bear writers"):
            place().database()


@pytest.mark.parametrize(
    "url", ["postgresql://me:sec@ret@host/db", "postgresql://me@host/db;password=secret", "sqlite://"]
)
def test_addresses_that_would_tell_a_password_or_keep_nothing_are_refused(url):
    pytest.importorskip("psycopg")
    with pytest.raises(InputError, match="names no database") as caught:
        parse_url(url)
    assert "sec" not in str(caught.value)


def test_two_runs_in_one_database_know_nothing_of_each_other(place, tmp_path):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    for name in ("one", "two"):
        found = place(name)
        assert len(found.search(Flat(), fields=BUDGET, database=found.database(url))) == 6


@pytest.mark.parametrize("url", ["postgresql://me:secret@host/db", "postgresql://me@host/db?password=secret"])
def test_what_is_written_down_has_no_password(url):
    pytest.importorskip("psycopg")
    text = shown(parse_url(url))
    assert "secret" not in text
    assert "@host/db" in text


class Away:
    """A database that fails so many times."""

    def __init__(self, times):
        self.left = times

    def __call__(self):
        self.left -= 1
        if self.left >= 0:
            raise OperationalError("SELECT", {}, Exception("server closed the connection"))
        return "here"


def test_a_server_that_restarts_is_waited_for_and_a_file_is_not(place, monkeypatch, tmp_path):
    from dataclasses import replace

    own = place().database()
    server = replace(own, server=True)
    monkeypatch.setattr(storage.time, "sleep", lambda seconds: None)
    assert server.patiently(Away(3)) == "here"
    with pytest.raises(RunError, match="Free some space"):
        own.patiently(Away(1))
    monkeypatch.setattr(storage, "PATIENCE_S", 0.0)
    with pytest.raises(RunError, match=r"server closed the connection.*Check that it runs"):
        server.patiently(Away(10))


def test_opening_a_run_that_cannot_be_written(place, tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(RunError, match="cannot write"):
        open_database(place().run)
