import logging
import os
import subprocess
import sys
import threading

import pytest

from eesearch.core.errors import RunError
from eesearch.core.locks import locked, tried

HOLD = """
import sys
from pathlib import Path
from eesearch.core.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock `held`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "held")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_what_another_process_holds_is_not_free_until_it_is_killed(holder, tmp_path):
    with tried(tmp_path / "held") as free:
        assert not free
    holder.kill()
    holder.wait()
    with tried(tmp_path / "held") as free:
        assert free


def test_waiting_is_told_once_and_ends_with_the_lock(holder, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="eesearch")  # which the command line made quiet in another test
    threading.Timer(1.5, holder.stdin.close).start()
    with locked(tmp_path / "held", waiting="somebody works here"):
        assert [r.message for r in caplog.records] == ["somebody works here"]


def test_a_lock_is_free_again_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "a" / "lock"):
        raise ZeroDivisionError
    with tried(tmp_path / "a" / "lock") as free:
        assert free


def test_a_place_that_cannot_be_written_is_an_error_and_no_wait(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"), locked(tmp_path / "file" / "lock"):
        pass
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(RunError, match="Permission denied"), locked(tmp_path / "lock"):
        pass
