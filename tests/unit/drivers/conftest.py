"""Searches that need no training, kept in a directory."""

import pytest

from eesearch.drivers.job import Job
from eesearch.drivers.optuna_driver import drive
from eesearch.drivers.storage import Pulse, open_database
from eesearch.drivers.trials import Trials
from eesearch.study.question import Study
from eesearch.study.rundir import RunDir
from eesearch.study.workers import working

FIELDS = {"name": "fake", "backbone": {"model": "pkg:fn"}, "data": {"source": "pkg:data"}, "sampler": "tpe", "seed": 3}


class Place:
    """A run directory, and the searches in it."""

    def __init__(self, path):
        self.run = RunDir(path)

    def database(self, url=None, pulse=Pulse()):
        with self.run.preparing():
            return open_database(self.run, url, pulse=pulse)

    def job(self, problem, *, worker="a", database=None, fields=(), **others):
        study = Study.model_validate(FIELDS | dict(fields))
        return Job(problem, study, self.run, database or self.database(), worker, **others)

    def search(self, problem, *, fields=(), **others):
        """Run to the end of the budget; returns the trials that were told."""
        seen = []
        with working(self.run.path) as worker:
            drive(self.job(problem, worker=worker, fields=fields, listener=seen.append, **others))
        return seen

    def finished(self, problem):
        return Trials(self.job(problem)).finished()

    def records(self, problem):
        return [(t.origin, t.state, t.outcome and t.outcome.values) for t in self.finished(problem)]


@pytest.fixture
def place(tmp_path):
    """Makes places by name."""
    return lambda name="run": Place(tmp_path / name)
