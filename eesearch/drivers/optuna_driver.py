"""The local driver: Optuna asks and tells, SQLite remembers, the same command continues.

An interrupted search with one worker equals an undisturbed one: a proposal's randomness derives from the seed and the
number of finished trials, a killed trial is tried again with its parameters before anything else, and seeds enter
the queue one at a time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from eesearch.core.design import content_key
from eesearch.core.errors import EesearchError, RunError
from eesearch.core.registry import DRIVERS
from eesearch.drivers.loggers import Logger
from eesearch.study.space import Choice, LogFloat, Parameter
from eesearch.study.trial import SAMPLER, Finished, Outcome, SearchProblem

HEARTBEAT_S = 30
GRACE_S = 120
DATABASE_ERRORS = (SQLAlchemyError, StorageInternalError)
READY = "ready"
"""Attribute of a study that holds all trials it was to take over."""

TITLE = "title"
"""Attribute of a study: what people call it. Its name is the key of its question."""

METRICS = {1: ["hypervolume"], 2: ["calibration error", "relative cost"]}
"""What the values of a trial are called, by their number: a trial has a front, or it is a point."""


@dataclass(frozen=True)
class Limits:
    """Totals over all continuations of a study.

    Attributes:
        trials: Finished trials, trial 0 included.
        timeout: Seconds of trials; None: no limit.
        seed: The study's seed.
    """

    trials: int
    timeout: float | None
    seed: int


class DesignFailedError(EesearchError):
    """A proposed design could not be trained or evaluated; its trial is marked failed and the search goes on."""


Listener = Callable[[Finished], None]


@DRIVERS.register("optuna")
def drive(
    problem: SearchProblem,
    database: Path,
    limits: Limits,
    listener: Listener,
    *,
    loggers: Sequence[Logger] = (),
    title: str = "",
) -> None:
    """Run trials until a limit is reached.

    Args:
        problem: What is searched.
        database: SQLite file; made if it does not exist.
        limits: When to stop.
        listener: Called after every finished trial.
        loggers: Called before it, with Optuna's own values; see `drivers.loggers.make_loggers`.
        title: What people call the study, for the dashboard.

    Raises:
        RunError: the database cannot be written.
        KeyboardInterrupt: the user stopped the search; the running trial is queued again.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = _open(problem, database)
        _name(study, title)
        _requeue_killed(study, len(problem.parameters))

        def tell(number: int) -> None:
            trial = study.get_trials(deepcopy=False)[number]
            for logger in loggers:
                logger(study, trial)
            listener(_finished(trial))

        try:
            _search(study, problem, limits, tell)
        except KeyboardInterrupt:
            _requeue_killed(study, len(problem.parameters))
            raise
    except DATABASE_ERRORS as error:
        raise _database_error(database, error) from error


def finished(problem: SearchProblem, database: Path) -> list[Finished]:
    """The trials that ended, by number; killed ones that were tried again are left out."""
    try:
        trials = _open(problem, database).get_trials(deepcopy=False)
    except DATABASE_ERRORS as error:
        raise _database_error(database, error) from error
    return [_finished(t) for t in trials if _counts(t)]


def _database_error(database: Path, error: Exception) -> RunError:
    return RunError(
        f"cannot use the database {database}",
        got=str(error).splitlines()[0],
        do="Free some space or mend the file's permissions, then run the same command again.",
    )


def _search(study: optuna.Study, problem: SearchProblem, limits: Limits, tell: Callable[[int], None]) -> None:
    if _first_trial(study, problem):
        tell(0)
    while problem.parameters:  # without any, nothing can be proposed: trial 0 was all
        done = [t for t in study.get_trials(deepcopy=False) if _counts(t)]
        spent = sum(_finished(t).seconds for t in done)
        if len(done) >= limits.trials or (limits.timeout is not None and spent >= limits.timeout):
            return
        _enqueue_next_seed(study, problem)
        study.sampler = _sampler(limits.seed, len(done))
        study.optimize(lambda trial: _objective(trial, problem), n_trials=1, catch=(DesignFailedError,))
        tell(-1)


def _objective(trial: optuna.Trial, problem: SearchProblem) -> tuple[float, ...]:
    params = {p.name: _suggest(trial, p) for p in problem.parameters}
    try:
        outcome = problem.run(params)
    except RunError:  # the disk, not the design
        raise
    except Exception as error:  # whatever a design runs into is its trial's failure, recorded; the search goes on
        trial.set_user_attr("error", f"{type(error).__name__}: {error}")
        raise DesignFailedError(f"trial {trial.number} failed", got=error) from error
    trial.set_user_attr("outcome", outcome.model_dump_json())
    return outcome.values


def _first_trial(study: optuna.Study, problem: SearchProblem) -> bool:
    """Trial 0: the bank. It has no parameters; whatever goes wrong here is not a failing design but ends the search.

    Returns:
        Whether it was run now.
    """
    if study.get_trials(deepcopy=False):
        return False
    start = datetime.now()
    outcome = problem.first()
    if outcome is None:
        return False
    attributes = {"origin": problem.origin, "outcome": outcome.model_dump_json()}
    trial = create_trial(values=list(outcome.values), user_attrs=attributes)
    trial.datetime_start = start
    study.add_trial(trial)
    return True


def _open(problem: SearchProblem, database: Path) -> optuna.Study:
    """The Optuna study of this problem.

    Each question (devices, objectives) has a study of its own in the database. It takes over the trials of the study
    that knows the most, valued anew; a take-over that was interrupted is begun again.
    """
    storage = _storage(database)
    known = {name: optuna.load_study(study_name=name, storage=storage) for name in _ready_studies(storage)}
    own = known.get(problem.key)
    richest = max(known.values(), key=_ended, default=None)
    if own is not None and _ended(own) == _ended(richest):
        return own
    trials = richest.get_trials(deepcopy=False) if richest is not None else []
    revalued = [_revalued(t, problem) for t in trials if _counts(t)]  # may take minutes: before anything is written
    if own is not None:
        optuna.delete_study(study_name=problem.key, storage=storage)
    study = optuna.create_study(study_name=problem.key, storage=storage, directions=list(problem.directions))
    study.add_trials(revalued)
    study.set_user_attr(READY, True)
    return study


def _name(study: optuna.Study, title: str) -> None:
    """For people: they see these names in the dashboard and in the loggers' pages."""
    if title:
        study.set_user_attr(TITLE, title)
    names = METRICS.get(len(study.directions))
    if names and study.metric_names is None:
        with warnings.catch_warnings():  # names of metrics are marked experimental
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(names)


def _storage(database: Path) -> optuna.storages.RDBStorage:
    database.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():  # heartbeats are marked experimental; the version is pinned to one major release
        warnings.simplefilter("ignore", ExperimentalWarning)
        return optuna.storages.RDBStorage(
            database_url(database, "rwc"),
            engine_kwargs={"connect_args": {"timeout": 60}},
            heartbeat_interval=HEARTBEAT_S,
            grace_period=GRACE_S,
        )


def database_url(database: Path, mode: Literal["ro", "rwc"]) -> str:
    """SQLAlchemy's address of a file: to read only, or to read, write and create. Any path will do, `a? 100%` too."""
    uri = quote(quote(str(database.absolute())))  # SQLAlchemy unquotes it, and then SQLite does
    return f"sqlite:///file:{uri}?mode={mode}&uri=true"


def _ready_studies(storage: optuna.storages.RDBStorage) -> list[str]:
    """Names of the complete studies; one whose take-over was interrupted is removed."""
    ready = []
    for name in optuna.get_all_study_names(storage):
        if READY in optuna.load_study(study_name=name, storage=storage).user_attrs:
            ready.append(name)
        else:
            optuna.delete_study(study_name=name, storage=storage)
    return ready


def _ended(study: optuna.Study | None) -> int:
    return sum(_counts(t) for t in study.get_trials(deepcopy=False)) if study is not None else 0


def _revalued(trial: FrozenTrial, problem: SearchProblem) -> FrozenTrial:
    if trial.state != TrialState.COMPLETE:
        return trial
    outcome = problem.revalue(Outcome.model_validate_json(trial.user_attrs["outcome"]))
    revalued = create_trial(
        values=list(outcome.values),
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs | {"outcome": outcome.model_dump_json()},
    )
    revalued.datetime_start, revalued.datetime_complete = trial.datetime_start, trial.datetime_complete
    return revalued


def _requeue_killed(study: optuna.Study, parameters: int) -> None:
    """Fail what still runs (its process is gone: the run directory is locked) and queue it again with its parameters.

    A trial killed before all its parameters were drawn is dropped: the same proposal is drawn again.
    """
    trials = study.get_trials(deepcopy=False)
    retried = {t.user_attrs.get("retry_of") for t in trials}
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        lost = trial.state in (TrialState.RUNNING, TrialState.FAIL) and "error" not in trial.user_attrs
        if lost and trial.number not in retried and len(trial.params) == parameters:
            study.enqueue_trial(trial.params, user_attrs={"retry_of": trial.number, "origin": _origin(trial)})


def _enqueue_next_seed(study: optuna.Study, problem: SearchProblem) -> None:
    """Queue the first seed that has not been tried, unless something waits already."""
    trials = study.get_trials(deepcopy=False)
    if any(t.state == TrialState.WAITING for t in trials):
        return
    tried = [t.params for t in trials if _counts(t)]  # not by origin: two devices may propose by the same rule
    for origin, params in problem.seeds():
        if params not in tried:
            study.enqueue_trial(dict(params), user_attrs={"origin": origin})
            return


def _sampler(seed: int, done: int) -> optuna.samplers.TPESampler:
    return optuna.samplers.TPESampler(seed=int(content_key(seed, done), 16) % 2**32, multivariate=False)


def _suggest(trial: optuna.Trial, parameter: Parameter) -> str | float:
    if isinstance(parameter, Choice):
        return str(trial.suggest_categorical(parameter.name, parameter.options))
    if isinstance(parameter, LogFloat):
        return trial.suggest_float(parameter.name, parameter.low, parameter.high, log=True)
    return trial.suggest_float(parameter.name, 0.0, 1.0)


def _origin(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get("origin", SAMPLER))


def _counts(trial: FrozenTrial) -> bool:
    """Whether a trial ended by itself, well or badly; a killed one did not."""
    return trial.state == TrialState.COMPLETE or (trial.state == TrialState.FAIL and "error" in trial.user_attrs)


def _finished(trial: FrozenTrial) -> Finished:
    text = trial.user_attrs.get("outcome")
    complete = trial.state == TrialState.COMPLETE
    return Finished(
        number=trial.number,
        origin=_origin(trial),
        outcome=Outcome.model_validate_json(text) if text and complete else None,
        error=trial.user_attrs.get("error", ""),
        seconds=trial.duration.total_seconds() if trial.duration else 0.0,
        state="complete" if complete else "failed",
    )
