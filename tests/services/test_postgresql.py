"""Trials in a real PostgreSQL: a run moves there, stays there, and its password stays out of everything."""

import json
import subprocess
import sys
from urllib.parse import quote

import pytest

from tests.chaos.harness import STUDY, check_refused, check_trainings, check_trials, placed, snapshot
from tests.services.postgres import PASSWORD, free_port


@pytest.fixture
def place(tmp_path):
    with placed(tmp_path / "place", fields=STUDY | {"budget": {"trials": 3}}) as made:
        yield made


def check_no_password(place, *passwords):
    """Neither in what was printed nor in any file; the address itself is given on the command line only."""
    for file in place.folder.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            for password in passwords:
                for spelling in (password, quote(password, safe=""), json.dumps(password).strip('"')):
                    assert spelling.encode() not in data, f"{file} holds the password"


def test_a_run_moves_from_sqlite_to_postgresql_and_stays_there(place, postgres, database):
    place.finish()
    before = snapshot(place)
    place.storage = database
    moved = place.finish("--trials", "5")
    after = snapshot(place)
    check_trials(place, after, trials=5)
    assert moved.told == {3, 4}, "trials that were done are not run again"
    carried = {number: (row[0], row[1], row[2], row[4:]) for (_, number), row in after.trials.items()}
    for (_, number), row in before.trials.items():
        assert carried[number] == (row[0], row[1], row[2], row[4:])
    check_trainings(place)
    where = json.loads((place.run / "run.json").read_text())["storage"]
    assert f"127.0.0.1:{postgres.port}" in where

    place.storage = None
    check_refused(place.start(), "the trials of", where, "--storage")
    place.storage = postgres.new_database("another")
    check_refused(place.start(), "the trials of", where)
    # The password may come from libpq's own places, too.
    place.storage = database.replace(quote(PASSWORD, safe=""), "").replace(":@", "@")
    assert not place.finish("--trials", "5", environment={"PGPASSWORD": PASSWORD}).told
    check_no_password(place, PASSWORD)


def test_a_run_begun_in_postgresql_has_no_file_of_trials_and_no_password(place, postgres, database):
    place.storage = database
    found = place.finish()
    assert found.told == {0, 1, 2}
    assert not (place.run / "study.db").exists()
    check_no_password(place, PASSWORD)


def test_two_runs_in_one_database_do_not_meet(place, tmp_path, database):
    place.storage = database
    place.finish()
    with placed(tmp_path / "other", storage=database, fields=STUDY | {"budget": {"trials": 2}}) as other:
        assert other.finish().told == {0, 1}
        assert other.finish().told == set()
    assert place.finish().told == set()


def test_a_wrong_password_ends_with_one_clear_error(place, postgres, database):
    place.storage = postgres.url(database.rpartition("/")[2], password="not it, 12")
    check_refused(place.start(), "password authentication failed", "***", "run the same command again")
    check_no_password(place, "not it, 12")


def test_a_server_that_is_not_there_ends_with_one_clear_error(place, postgres):
    port = free_port()
    place.storage = postgres.url("nowhere", port=port)
    check_refused(place.start(), "refused", f"127.0.0.1:{port}")
    check_no_password(place, PASSWORD)


def test_a_database_that_is_not_there_ends_with_one_clear_error(place, postgres):
    place.storage = postgres.url("nowhere")
    check_refused(place.start(), 'database "nowhere" does not exist')
    check_no_password(place, PASSWORD)


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        (f"postgresql://searcher:{PASSWORD}@:what:/x", "--storage names no database"),
        (f"nonsense://searcher:{quote(PASSWORD, safe='')}@host/x", "--storage names no database"),
        (f"{PASSWORD}", "--storage names no database"),
    ],
)
def test_an_address_that_is_none_is_refused_without_repeating_it(place, storage, words):
    place.storage = storage
    check_refused(place.start(), words)
    check_no_password(place, PASSWORD)


def test_without_its_driver_the_extra_is_named(place):
    code = """
import sys
sys.modules["psycopg"] = None  # as if it were not installed
from eesearch.cli import main
main()
"""
    study, run = place.folder / "study.yaml", place.run
    address = f"postgresql://searcher:{quote(PASSWORD, safe='')}@127.0.0.1/x"
    command = [sys.executable, "-c", code, "search", str(study), "--run", str(run), "--storage", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert "pip install 'eesearch[postgresql]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stderr
    check_no_password(place, PASSWORD)
