"""The trials of a search, which any number of processes ask for and tell.

A search with one worker that was interrupted equals an undisturbed one: a proposal's randomness derives from the seed
and the number of trials before it, a killed trial is tried again with its parameters before anything else, and seeds
enter the queue one at a time. With several workers, asking is one at a time, too, under a lock of the run directory.
A trial is dead when its worker's lock is free; or, if a worker of another machine seems to hold it, when its heartbeat
has stopped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Container, Sequence
from contextlib import AbstractContextManager, suppress
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
from eesearch.drivers.pruners import make_pruner
from eesearch.drivers.records import (
    ERROR,
    ORIGIN,
    OUTCOME,
    PLACE,
    RETRY_OF,
    SAMPLES,
    WORKER,
    as_finished,
    busy_seconds,
    counts,
    interrupted,
    origin_of,
    rungs,
    samples_of,
)
from eesearch.drivers.samplers import distributions
from eesearch.drivers.storage import DATABASE_ERRORS
from eesearch.drivers.studies import name_study, open_study
from eesearch.study.trial import DRAFT, Finished, Outcome, Params
from eesearch.study.workers import is_here, lives, living

log = logging.getLogger(__name__)

KILLS, STOPPED = "kills", "stopped"
"""Attributes of a trial: how often its process died before; whether somebody stopped its process."""

MOST_KILLS = 10
"""A trial that is killed more often is taken for the reason of it."""


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
        self._heart.join(timeout=1.0)  # it may wait for a database that is away

    def _open(self) -> optuna.Study:
        others = [worker for worker in living(self._job.run.path) if worker != self._job.worker]
        with locked(self._job.run.lock("open"), waiting="another search opens its trials; this one waits for it"):
            study = open_study(self._problem, self._database, alone=not others)
            name_study(study, self._job.title, self._job.study.sampler)
        epochs = self._job.study.training.joint.epochs
        study.sampler = optuna.samplers.RandomSampler(seed=0)  # never asked: `guides.Proposer` proposes
        study.pruner = make_pruner(self._job.study.pruning, epochs) or optuna.pruners.NopPruner()
        return study

    # -- asking

    def first(self) -> bool:
        """Make sure of the bank, behind its draft if there is one; wait while another process trains it.

        These are not searched for and have no parameters; whatever goes wrong here is not a failing design but ends
        the search.

        Returns:
            Whether the bank was run now.
        """
        self._unproposed(DRAFT, self._problem.draft)
        return self._unproposed(self._problem.origin, self._problem.first)

    @property
    def begun(self) -> bool:
        """Whether the bank is there; or in a mode without one, any trial."""
        return self._database.patiently(lambda: self._next_of(self._problem.origin)) is None

    def _unproposed(self, origin: str, make: Callable[[], Outcome | None]) -> bool:
        """Run a trial that has no parameters, unless it or a later one is there."""
        with locked(self._job.run.lock("first"), waiting="another search trains the bank; this one waits for it"):
            number = self._database.patiently(lambda: self._next_of(origin))
            start = datetime.now()
            outcome = None if number is None else make()
            if number is None or outcome is None:
                return False
            attributes: dict[str, str | int] = {ORIGIN: origin, SAMPLES: outcome.samples}
            attributes[OUTCOME] = outcome.model_dump_json()
            trial = create_trial(values=list(outcome.values), user_attrs=attributes)
            trial.datetime_start = start
            self._database.patiently(lambda: None if self._next_of(origin) is None else self._study.add_trial(trial))
        self._listen(number)
        return True

    def _next_of(self, origin: str) -> int | None:
        """The number of a trial without parameters; None: it, or one that comes after it, is there."""
        trials, before = self._all(), () if origin == DRAFT else (DRAFT,)
        return len(trials) if all(origin_of(trial) in before for trial in trials) else None

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
        with self._asking():
            self._requeue_dead()
            trials = self._all()
            asked = sum(counts(t) or t.state == TrialState.RUNNING for t in trials)
            if self._spent(trials) or asked >= self._job.study.budget.trials:
                return None
            waiting = next((t for t in trials if t.state == TrialState.WAITING), None)
            if waiting is None:
                self._study.add_trial(self._proposed(trials, asked))
                waiting = self._all()[-1]
            number, key, storage = waiting.number, waiting._trial_id, self._database.storage
            storage.record_heartbeat(key)  # first: a trial that runs without any would never be taken for dead
            storage.set_trial_user_attr(key, WORKER, self._job.worker)
            storage.set_trial_state_values(key, TrialState.RUNNING)
            return Claim(number, waiting.params, origin_of(waiting), optuna.Trial(self._study, key))

    def _asking(self) -> AbstractContextManager[None]:
        return locked(self._job.run.lock("ask"), waiting="another search asks for a trial; this one waits for it")

    def over(self) -> bool:
        """Whether all is done: the budget is spent, and nobody's trial is running.

        What was killed as time or samples were spent waits for a search with more of them.
        """
        if not self._problem.parameters:  # without any, nothing can be proposed: the bank was all
            return True
        return self._database.patiently(self._over)

    def _over(self) -> bool:
        with self._asking():
            self._requeue_dead()
            trials = self._all()
            done = sum(counts(t) for t in trials)
            running = any(t.state == TrialState.RUNNING for t in trials)
            return not running and (self._spent(trials) or done >= self._job.study.budget.trials)

    def _spent(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether time or training samples are."""
        budget, done = self._job.study.budget, [t for t in trials if counts(t)]
        late = budget.timeout is not None and busy_seconds(done) >= budget.timeout
        return late or (budget.samples is not None and sum(map(samples_of, done)) >= budget.samples)

    def _requeue_dead(self) -> None:
        """Fail the trials of workers that are gone, and queue them again: with what they had told, too."""
        storage = self._database.storage
        for claim in list(self._claims.values()):  # this process may have slept for longer than they are waited for
            storage.record_heartbeat(claim.trial._trial_id)
        silent = set(storage._get_stale_trial_ids(self._study._study_id))
        for trial in self._all():
            if trial.state == TrialState.RUNNING and self._dead(trial, silent):
                with suppress(UpdateFinishedTrialError):  # it has just ended
                    self._study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        trials = self._all()
        retried = {t.user_attrs.get(RETRY_OF) for t in trials}
        for trial in trials:
            if interrupted(trial) and trial.number not in retried:
                self._study.add_trial(_again(trial))

    def _dead(self, trial: FrozenTrial, silent: Container[int]) -> bool:
        worker = str(trial.user_attrs.get(WORKER, ""))
        if worker == self._job.worker:
            return trial.number not in self._claims  # asked for as the database went away
        if not lives(self._job.run.path, worker):
            return True
        return trial._trial_id in silent and not is_here(worker)  # one here is only suspended: the kernel knows better

    def _proposed(self, trials: Sequence[FrozenTrial], asked: int) -> FrozenTrial:
        """The first seed that nobody has tried or tries, else what the sampler proposes."""
        known = [t.params for t in trials if counts(t) or t.state == TrialState.RUNNING]
        for origin, params in self._seeds or ():  # not by origin: two devices may propose by the same rule
            if params not in known:
                return self._queued(params, {ORIGIN: origin, PLACE: asked})
        return self._queued(self._proposer.propose(self._study, asked), {PLACE: asked})

    def _queued(self, params: Params, attributes: dict[str, str | int]) -> FrozenTrial:
        space = distributions(self._problem.parameters)
        return create_trial(state=TrialState.WAITING, params=dict(params), distributions=space, user_attrs=attributes)

    # -- telling

    def report(self, claim: Claim, step: int, value: float) -> bool:
        """Remember the value of a trial after `step` epochs; whether the study's pruner would stop it."""

        def note() -> bool:
            if step not in self._frozen(claim.number).intermediate_values:
                try:
                    claim.trial.report(value, step)
                except UpdateFinishedTrialError:  # given up for dead: whoever repeats it goes on
                    return True
            return claim.trial.should_prune()

        return self._database.patiently(note)

    def tell(self, claim: Claim, outcome: Outcome) -> None:
        """The trial is complete."""
        found: dict[str, str | int] = {OUTCOME: outcome.model_dump_json(), SAMPLES: outcome.samples}
        self._end(claim, TrialState.COMPLETE, found, outcome.values)

    def fail(self, claim: Claim, error: str) -> None:
        """The trial's design could not be trained or evaluated; it counts, and the search goes on."""
        self._end(claim, TrialState.FAIL, {ERROR: error})

    def prune(self, claim: Claim, samples: int) -> None:
        """The trial was stopped early, after so many training samples; it counts."""
        self._end(claim, TrialState.PRUNED, {SAMPLES: samples})

    def give_back(self, claim: Claim, *, stopped: bool) -> None:
        """This process ends; whoever goes on repeats the trial, at once if the database can still be told.

        Args:
            claim: Of this process.
            stopped: Somebody wants the process to end, so the trial is not suspected of being the reason.
        """
        self._claims.pop(claim.number, None)
        try:
            self._settle(claim, TrialState.FAIL, {STOPPED: 1} if stopped else {}, None)
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
        if not self._frozen(claim.number).state.is_finished():  # it may be, by a call whose answer was lost
            with suppress(UpdateFinishedTrialError):
                for name, value in attributes.items():
                    claim.trial.set_user_attr(name, value)
                told = list(values) if values is not None else None
                self._study.tell(claim.trial, told, state=state, skip_if_finished=True)
        return counts(self._frozen(claim.number))

    def _listen(self, number: int) -> None:
        trials = self._database.patiently(self._all)
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


def _again(trial: FrozenTrial) -> FrozenTrial:
    """A killed trial, queued; or failed, if it seems to kill whoever runs it."""
    kills = int(trial.user_attrs.get(KILLS, 0)) + (STOPPED not in trial.user_attrs)
    attributes = {RETRY_OF: trial.number, ORIGIN: origin_of(trial), KILLS: kills}
    attributes |= {PLACE: trial.user_attrs[PLACE]} if PLACE in trial.user_attrs else {}
    if kills > MOST_KILLS:
        attributes[ERROR] = f"its process was killed {kills} times while it ran (out of memory?)"
    return create_trial(
        state=TrialState.FAIL if ERROR in attributes else TrialState.WAITING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=attributes,
        system_attrs=rungs(trial),
        intermediate_values=trial.intermediate_values,
    )
