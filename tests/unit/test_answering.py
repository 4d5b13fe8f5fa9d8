"""When answers are written, and what becomes of a search that is interrupted."""

import logging
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from eesearch import answering
from eesearch.answering import Answering, Watchers
from eesearch.core.errors import RunError
from eesearch.core.locks import locked
from eesearch.study.rundir import RunDir
from eesearch.study.trial import Finished


@dataclass
class Noted:
    """An `Answering` whose writing is only noted."""

    answering: Answering
    written: list
    run: RunDir


@pytest.fixture
def noted(tmp_path, monkeypatch):
    written = []
    problem = SimpleNamespace(study=SimpleNamespace(trials=10))
    monkeypatch.setattr(answering, "Composer", lambda problem: None)
    monkeypatch.setattr(answering, "finished", lambda problem, database: ["a trial"])
    monkeypatch.setattr(answering, "others", lambda path: [])
    monkeypatch.setattr(Answering, "_write", lambda self, **options: written.append(options))
    run = RunDir(tmp_path / "run")
    return Noted(Answering(run, problem, None, Watchers()), written, run)


def trial(number, ended):
    return Finished(number, "sampler", None, "", 1.0, "complete", ended=ended)


def test_killed_trials_use_up_numbers_and_not_the_budget(noted):
    noted.answering.trial(trial(number=14, ended=9))
    assert noted.written == [{"live": True}]


def test_after_the_last_trial_the_end_writes_everything(noted):
    noted.answering.trial(trial(number=9, ended=10))
    assert noted.written == []


def test_an_interrupted_search_writes_what_is_known(noted):
    noted.answering.interrupt()
    assert noted.written == [{"live": False}]


def test_the_page_stays_live_where_others_go_on(noted, monkeypatch):
    monkeypatch.setattr(answering, "others", lambda path: ["another"])
    noted.answering.interrupt()
    assert noted.written == [{"live": True}]


def test_nothing_is_written_before_the_first_trial(noted, monkeypatch):
    monkeypatch.setattr(answering, "finished", lambda problem, database: [])
    noted.answering.interrupt()
    assert noted.written == []


def test_an_interrupted_search_does_not_wait_for_one_that_writes(noted):
    with locked(noted.run.lock("answers")):
        noted.answering.interrupt()
    assert noted.written == []


def test_an_interrupt_stays_one_when_the_disk_is_full(noted, monkeypatch, caplog):
    def full(self, **options):
        raise RunError("disk full")

    monkeypatch.setattr(Answering, "_write", full)
    with caplog.at_level(logging.WARNING):
        noted.answering.interrupt()
    assert "disk full" in caplog.text
