"""The Optuna studies of a run: one per question, each of which takes the trials of the others over."""

from __future__ import annotations

import optuna

from eesearch.core.errors import RunError
from eesearch.drivers.records import as_finished, carried, counts
from eesearch.drivers.storage import READY, Database, experimental
from eesearch.study.trial import Finished, SearchProblem

TITLE = "title"
"""Attribute of a study: what people call it. Its name is the key of its question."""

METRICS = {1: ["hypervolume"], 2: ["calibration error", "relative cost"]}
"""What the values of a trial are called, by their number: a trial has a front, or it is a point."""


def finished(problem: SearchProblem, database: Database) -> list[Finished]:
    """The trials of a problem that ended, by number, whoever ran them.

    Raises:
        RunError: the database cannot be used.
    """

    def look() -> list[Finished]:
        study = database.studies().get(problem.key)
        return [as_finished(t) for t in study.get_trials(deepcopy=False) if counts(t)] if study else []

    return database.patiently(look)


def open_study(problem: SearchProblem, database: Database, *, alone: bool = True) -> optuna.Study:
    """The Optuna study of a problem.

    Each question (devices, objectives) has a study of its own in the database. It takes over the trials of the study
    that knows the most, valued anew; a take-over that was interrupted is begun again. Hold a lock.

    Args:
        problem: The question.
        database: Of the run.
        alone: Whether no other process works on the run; otherwise its study is not taken away from it.

    Raises:
        RunError: not alone, and the others ask another question.
    """
    known = database.studies(tidy=True)
    ended = {name: _ended(study) for name, study in known.items()}
    most = max(ended.values(), default=0)
    if problem.key in known and ended[problem.key] == most:
        return known[problem.key]
    if known and not alone:
        raise RunError(
            "a search is running here that values its trials otherwise",
            got="another profile, `budget.solve`, or version of eesearch",
            do="Wait for it, or stop it first.",
        )
    trials = known[max(ended, key=ended.__getitem__)].get_trials(deepcopy=False) if known else []
    revalued = [carried(t, problem) for t in trials if counts(t)]  # may take minutes: before anything is written
    name = f"{database.prefix}{problem.key}"
    if problem.key in known:
        optuna.delete_study(study_name=name, storage=database.storage)
    study = optuna.create_study(study_name=name, storage=database.storage, directions=list(problem.directions))
    study.add_trials(revalued)
    study.set_user_attr(READY, True)
    return study


def _ended(study: optuna.Study) -> int:
    return sum(counts(t) for t in study.get_trials(deepcopy=False))


def name_study(study: optuna.Study, title: str, sampler: str) -> None:
    """For people: they see these in the dashboard and in the loggers' pages."""
    if title:
        study.set_user_attr(TITLE, title)
    study.set_user_attr("sampler", sampler)
    names = METRICS.get(len(study.directions))
    if names and study.metric_names is None:
        with experimental():
            study.set_metric_names(names)
