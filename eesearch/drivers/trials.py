"""The trials of a search, which any number of processes ask for and tell: nothing is lost, nothing is done twice.

A search with one worker that was interrupted equals an undisturbed one: a proposal's randomness derives from the seed
and the number of trials before it, a killed trial is tried again with its parameters before anything else, and seeds
enter the queue one at a time. With several workers, asking is one at a time, too, under a lock of the run directory.
A trial is dead when its worker's lock is free (on this machine: at once) or when its heartbeat has stopped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType
from typing import Self

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from eesearch.core.locks import locked
from eesearch.drivers.guides import Asked, Proposer
from eesearch.drivers.job import Job
from eesearch.drivers.records import (
    ERROR,
    ORIGIN,
    OUTCOME,
    RETRY_OF,
    SAMPLES,
    WORKER,
    as_finished,
    busy_seconds,
    carried,
    counts,
    origin_of,
)
from eesearch.drivers.samplers import make_pruner
from eesearch.drivers.storage import DATABASE_ERRORS, READY, Database, experimental
from eesearch.study.space import Choice, LogFloat, Parameter
from eesearch.study.trial import Finished, Outcome, Params, SearchProblem
from eesearch.study.workers import lives

log = logging.getLogger(__name__)

TITLE = "title"
"""Attribute of a study: what people call it. Its name is the key of its question."""

METRICS = {1: ["hypervolume"], 2: ["calibration error", "relative cost"]}
"""What the values of a trial are called, by their number: a trial has a front, or it is a point."""


@dataclass(frozen=True, eq=False)
class Claim:
    """A trial that this process is to run.

    Attributes:
        number: Of the trial.
        params: What it proposes.
        origin: Who proposed it.
        trial: Optuna's own, still running.
    """

    number: int
    params: Params
    origin: str
    trial: optuna.Trial


class Trials:
    """All state of a search; both drivers go through it. A context manager: claimed trials have a heartbeat inside.

    Args:
        job: What is searched, where it is kept, who listens.

    Raises:
        RunError: the database cannot be used. So do all methods.
    """

    def __init__(self, job: Job) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._job, self._problem, self._database = job, job.problem, job.database
        self._study = self._database.patiently(self._open)
        study = job.study
        self._proposer = Proposer(self._problem, Asked(study.sampler, study.guide, study.seed, study.budget.trials))
        self._claims: dict[int, Claim] = {}
        self._seeds: list[tuple[str, Params]] | None = None
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._heart.join()

    def _open(self) -> optuna.Study:
        with locked(self._job.run.lock("open"), waiting="another search values its trials anew; this one waits for it"):
            study = open_study(self._problem, self._database)
            _name(study, self._job.title, self._job.study.sampler)
        epochs = self._job.study.training.joint.epochs
        study.pruner = make_pruner(self._job.study.pruning, epochs) or optuna.pruners.NopPruner()
        return study

    # -- asking

    def first(self) -> bool:
        """Make sure of trial 0, the bank; wait while another process trains it.

        It is not searched for and has no parameters; whatever goes wrong here is not a failing design but ends the
        search.

        Returns:
            Whether it was run now.
        """
        with locked(self._job.run.lock("first"), waiting="another search trains trial 0; this one waits for it"):
            if self._all():
                return False
            start = datetime.now()
            outcome = self._problem.first()
            if outcome is None:
                return False
            attributes = {ORIGIN: self._problem.origin, OUTCOME: outcome.model_dump_json()}
            trial = create_trial(values=list(outcome.values), user_attrs=attributes)
            trial.datetime_start = start
            self._database.patiently(lambda: None if self._all() else self._study.add_trial(trial))
        self._listen(0)
        return True

    def claim(self) -> Claim | None:
        """The next trial for this process: a dead one again, else a seed, else what the sampler proposes.

        Returns:
            None: there is nothing to do, at the moment or any more; see `over`.
        """
        if not self._problem.parameters:
            return None
        if self._seeds is None:  # may take minutes, on the bank: not under the lock
            self._seeds = list(self._problem.seeds())
        claim = self._database.patiently(self._claim)
        if claim is not None:
            self._claims[claim.number] = claim
        return claim

    def _claim(self) -> Claim | None:
        with locked(self._job.run.lock("ask")):
            self._requeue_dead()
            trials = self._all()
            asked = sum(counts(t) or t.state == TrialState.RUNNING for t in trials)
            if self._spent(trials) or asked >= self._job.study.budget.trials:
                return None
            self._enqueue_next(trials, asked)
            with experimental():
                trial = self._study.ask()
            self._database.storage.record_heartbeat(trial._trial_id)  # first: without any, it would never be stale
            trial.set_user_attr(WORKER, self._job.worker)
            params = {p.name: _suggest(trial, p) for p in self._problem.parameters}
            if RETRY_OF in trial.user_attrs:
                for step, value in trials[trial.user_attrs[RETRY_OF]].intermediate_values.items():
                    trial.report(value, step)
            return Claim(trial.number, params, origin_of(self._frozen(trial.number)), trial)

    def over(self) -> bool:
        """Whether all is done: the budget is spent, and nobody's trial is running or waits to be run again."""
        if not self._problem.parameters:  # without any, nothing can be proposed: trial 0 was all
            return True
        return self._database.patiently(self._over)

    def _over(self) -> bool:
        with locked(self._job.run.lock("ask")):
            self._requeue_dead()
            trials = self._all()
            done = sum(counts(t) for t in trials)
            running = any(t.state == TrialState.RUNNING for t in trials)
            return not running and (self._spent(trials) or done >= self._job.study.budget.trials)

    def _spent(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether time or training samples are."""
        budget, done = self._job.study.budget, [t for t in trials if counts(t)]
        late = budget.timeout is not None and busy_seconds(done) >= budget.timeout
        return late or (budget.samples is not None and sum(as_finished(t).samples for t in done) >= budget.samples)

    def _requeue_dead(self) -> None:
        """Fail the trials of workers that are gone, and queue them again with their parameters.

        One killed before they were written into it is dropped: the same seed or proposal comes again.
        """
        with experimental():
            optuna.storages.fail_stale_trials(self._study)
        for trial in self._all():
            if trial.state == TrialState.RUNNING and self._dead(trial):
                self._study.tell(trial.number, state=TrialState.FAIL)
        trials = self._all()
        retried = {t.user_attrs.get(RETRY_OF) for t in trials}
        for trial in trials:
            lost = trial.state == TrialState.FAIL and ERROR not in trial.user_attrs and trial.number not in retried
            if lost and len(trial.params) == len(self._problem.parameters):
                attributes = {RETRY_OF: trial.number, ORIGIN: origin_of(trial)}
                self._study.enqueue_trial(trial.params, user_attrs=attributes)

    def _dead(self, trial: FrozenTrial) -> bool:
        worker = trial.user_attrs.get(WORKER)
        if worker is None:
            return True  # it is set under the lock that is held now
        if worker == self._job.worker:
            return trial.number not in self._claims  # asked for as the database went away
        return lives(self._job.run.path, worker) is False

    def _enqueue_next(self, trials: Sequence[FrozenTrial], asked: int) -> None:
        """Unless something waits already: the first seed that nobody has tried or tries, else a proposal."""
        if any(t.state == TrialState.WAITING for t in trials):
            return
        known = [t.params for t in trials if counts(t) or t.state == TrialState.RUNNING]
        for origin, params in self._seeds or ():  # not by origin: two devices may propose by the same rule
            if params not in known:
                self._study.enqueue_trial(dict(params), user_attrs={ORIGIN: origin})
                return
        self._study.enqueue_trial(self._proposer.propose(self._study, asked))

    # -- telling

    def report(self, claim: Claim, step: int, value: float) -> bool:
        """Remember the value of a trial after `step` epochs; whether the study's pruner would stop it."""

        def note() -> bool:
            if step not in self._frozen(claim.number).intermediate_values:
                claim.trial.report(value, step)
            return claim.trial.should_prune()

        return self._database.patiently(note)

    def tell(self, claim: Claim, outcome: Outcome) -> None:
        """The trial is complete."""
        self._end(claim, TrialState.COMPLETE, {OUTCOME: outcome.model_dump_json()}, outcome.values)

    def fail(self, claim: Claim, error: str) -> None:
        """The trial's design could not be trained or evaluated; it counts, and the search goes on."""
        self._end(claim, TrialState.FAIL, {ERROR: error})

    def prune(self, claim: Claim, samples: int) -> None:
        """The trial was stopped early, after so many training samples; it counts."""
        self._end(claim, TrialState.PRUNED, {SAMPLES: samples})

    def give_back(self, claim: Claim) -> None:
        """This process is stopped; whoever goes on repeats the trial, at once if the database can still be told."""
        self._claims.pop(claim.number, None)
        try:
            self._settle(claim, TrialState.FAIL, {}, None)
        except DATABASE_ERRORS as error:
            log.debug("trial %d could not be given back: %s", claim.number, error)

    def _end(
        self,
        claim: Claim,
        state: TrialState,
        attributes: dict[str, str | int],
        values: Sequence[float] | None = None,
    ) -> None:
        counted = self._database.patiently(lambda: self._settle(claim, state, attributes, values))
        self._claims.pop(claim.number, None)
        if counted:
            self._listen(claim.number)
        else:
            log.warning("trial %d had been given up for dead, and is repeated elsewhere", claim.number)

    def _settle(
        self, claim: Claim, state: TrialState, attributes: dict[str, str | int], values: Sequence[float] | None
    ) -> bool:
        """Returns whether the trial ended so; otherwise another process has taken it for dead."""
        trial = self._frozen(claim.number)
        if trial.state.is_finished():  # by a call whose answer was lost, too
            return counts(trial)
        try:
            for name, value in attributes.items():
                claim.trial.set_user_attr(name, value)
            self._study.tell(claim.trial, list(values) if values is not None else None, state=state)
        except UpdateFinishedTrialError:
            return counts(self._frozen(claim.number))
        return True

    def _listen(self, number: int) -> None:
        trials = self._all()
        for logger in self._job.loggers:
            logger(self._study, trials[number])
        self._job.listener(replace(as_finished(trials[number]), ended=sum(map(counts, trials))))

    # -- looking

    def finished(self) -> list[Finished]:
        """The trials that ended, by number; killed ones that were tried again are left out."""
        return self._database.patiently(lambda: [as_finished(t) for t in self._all() if counts(t)])

    def _all(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _frozen(self, number: int) -> FrozenTrial:
        return self._all()[number]

    def _beat(self) -> None:
        pulse, storage = self._database.pulse, self._database.storage
        while not self._stop.wait(pulse.interval):
            for claim in list(self._claims.values()):
                try:
                    storage.record_heartbeat(claim.trial._trial_id)
                except DATABASE_ERRORS as error:  # the trial itself will notice, if it lasts
                    log.debug("no heartbeat: %s", error)


def finished(problem: SearchProblem, database: Database) -> list[Finished]:
    """The trials of a problem that ended, by number, whoever ran them.

    Raises:
        RunError: the database cannot be used.
    """

    def look() -> list[Finished]:
        study = database.studies().get(problem.key)
        return [as_finished(t) for t in study.get_trials(deepcopy=False) if counts(t)] if study else []

    return database.patiently(look)


def open_study(problem: SearchProblem, database: Database) -> optuna.Study:
    """The Optuna study of a problem.

    Each question (devices, objectives) has a study of its own in the database. It takes over the trials of the study
    that knows the most, valued anew; a take-over that was interrupted is begun again. Hold a lock.
    """
    known = database.studies(tidy=True)
    own = known.get(problem.key)
    richest = max(known.values(), key=_ended, default=None)
    if own is not None and _ended(own) == _ended(richest):
        return own
    trials = richest.get_trials(deepcopy=False) if richest is not None else []
    revalued = [carried(t, problem) for t in trials if counts(t)]  # may take minutes: before anything is written
    name = f"{database.prefix}{problem.key}"
    if own is not None:
        optuna.delete_study(study_name=name, storage=database.storage)
    study = optuna.create_study(study_name=name, storage=database.storage, directions=list(problem.directions))
    study.add_trials(revalued)
    study.set_user_attr(READY, True)
    return study


def _ended(study: optuna.Study | None) -> int:
    return sum(counts(t) for t in study.get_trials(deepcopy=False)) if study is not None else 0


def _name(study: optuna.Study, title: str, sampler: str) -> None:
    """For people: they see these in the dashboard and in the loggers' pages."""
    if title:
        study.set_user_attr(TITLE, title)
    study.set_user_attr("sampler", sampler)
    names = METRICS.get(len(study.directions))
    if names and study.metric_names is None:
        with experimental():
            study.set_metric_names(names)


def _suggest(trial: optuna.Trial, parameter: Parameter) -> str | float:
    if isinstance(parameter, Choice):
        return str(trial.suggest_categorical(parameter.name, parameter.options))
    if isinstance(parameter, LogFloat):
        return trial.suggest_float(parameter.name, parameter.low, parameter.high, log=True)
    return trial.suggest_float(parameter.name, 0.0, 1.0)
