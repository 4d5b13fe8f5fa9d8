"""Ray Tune's searcher of ours, and its schedulers. Import it only where Ray is in use."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from itertools import count
from math import inf
from typing import Any, Concatenate, ParamSpec, TypeVar

from ray.tune import Stopper
from ray.tune.execution import tune_controller
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.utils.object_cache import _ObjectCache

from eesearch.core.errors import RunError
from eesearch.drivers.ray_worker import BROKEN, EPOCH, FAILURE, OUTCOME, SAMPLES, VALUE
from eesearch.drivers.trials import Claim, Trials
from eesearch.study.question import Study
from eesearch.study.trial import Outcome

log = logging.getLogger(__name__)

RETRIES = 2
"""A worker that dies is replaced so often for each trial; the training goes on from its checkpoint."""

PAUSE_S = 0.5
"""After nothing could be handed out, the database is left in peace for so long, unless a trial ends."""

PATIENCE_S = 300.0
"""When the cluster has lost every machine that can run a trial, others are waited for so long."""

REDUCTION = 3
"""Of those that reach a rung of successive halving, one in so many goes on."""

BRACKETS = 3
"""Of hyperband: the later ones let trials train for longer before any is stopped."""

P = ParamSpec("P")
R = TypeVar("R")


def guarded(method: Callable[Concatenate[Asking, P], R]) -> Callable[Concatenate[Asking, P], R | None]:
    """An error in here ends the search; Tune would log it and go on with a trial that nobody knows of."""

    @wraps(method)
    def call(self: Asking, *args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:  # kept, and raised when Tune has let go
            self.error = self.error or error
            return None

    return call


class Asking(Searcher):
    """Asks and tells `Trials`: the same states, constraints, attributes and order as the local driver's.

    Args:
        trials: Of the search.
        slots: How many trials run at once; nothing is claimed before there is a place for it.

    Attributes:
        error: What ended the search, if anything did.
    """

    def __init__(self, trials: Trials, slots: Callable[[], int]) -> None:
        super().__init__()
        self.error: Exception | None = None
        self._trials, self._slots = trials, slots
        self._claims: dict[str, Claim] = {}
        self._taken: dict[str, int] = {}
        self._in_vain = -inf
        self._none_since: float | None = None

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """A claim; None: nothing at the moment."""
        found = self._suggest(trial_id)
        return Searcher.FINISHED if self.error else found

    @guarded
    def _suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self.error:
            return None
        some = self._has_machines()
        if (some and self.spare() < 1) or time.monotonic() - self._in_vain < PAUSE_S:
            return None
        claim = self._trials.claim() if some else None
        if claim is None:
            self._in_vain = time.monotonic()
            return Searcher.FINISHED if not self._claims and self._trials.over() else None
        slot = next(k for k in count() if k not in self._taken.values())
        self._claims[trial_id], self._taken[trial_id] = claim, slot
        return {"number": claim.number, "params": dict(claim.params), "slot": slot}

    @guarded
    def look(self) -> None:
        """Give up when there has been no machine for too long, trials that wait for one or not."""
        self._has_machines()

    def _has_machines(self) -> bool:
        """Whether any can run a trial."""
        if self._slots() > 0:
            self._none_since = None
            return True
        now = time.monotonic()
        if self._none_since is None:
            self._none_since = now
            log.warning("no machine can run a trial; waiting")
        if now - self._none_since >= PATIENCE_S:
            raise RunError(
                "no machine of the Ray cluster can run a trial any more",
                got=f"none for {PATIENCE_S:g} seconds",
                do="Mend the cluster, then run the same command again: finished trials are kept.",
            )
        return False

    def spare(self) -> int:
        """How many more trials could run."""
        return self._slots() - len(self._claims)

    @guarded
    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Remember the value after an epoch; Tune's scheduler decides what comes of it."""
        if EPOCH in result:
            self._trials.report(self._claims[trial_id], int(result[EPOCH]), float(result[VALUE]))

    @guarded
    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell how a trial ended."""
        self._in_vain = -inf
        claim, last = self._claims.get(trial_id), result or {}
        if claim is None or self.error:
            return  # `give_back` comes
        if BROKEN in last:
            raise RunError(last[BROKEN])
        if OUTCOME in last:
            self._trials.tell(claim, Outcome.model_validate_json(last[OUTCOME]))
        elif FAILURE in last:
            self._trials.fail(claim, last[FAILURE])
        elif error:
            self._trials.fail(claim, f"its worker died {RETRIES + 1} times (killed, out of memory, or machine lost)")
        elif EPOCH in last:  # the scheduler said so; Tune has not shown us this result
            self._trials.report(claim, int(last[EPOCH]), float(last[VALUE]))
            self._trials.prune(claim, int(last[SAMPLES]))
        else:
            self._trials.give_back(claim, stopped=False)
        del self._claims[trial_id], self._taken[trial_id]

    def give_back(self) -> None:
        """The search ends: whatever is not told yet is for the next one."""
        for trial_id in list(self._claims):
            self._trials.give_back(self._claims.pop(trial_id), stopped=self.error is None)

    def __getstate__(self) -> dict[str, Any]:
        """Tune writes down what it was given; nobody reads that."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """There is nothing to save: all state is in the database."""

    def restore(self, checkpoint_path: str) -> None:
        """There is nothing to restore."""


class Kept(_ObjectCache):
    """Tune's cache of idle workers, which forgets none that has a place.

    Tune's own lets one go as soon as another is about to start; where trials take less time than the start of a
    worker, which imports torch, all would always be starting.

    Args:
        spare: How many places no trial takes or waits for. When a machine is lost, a trial may need that of an idle
            worker.
        may_keep_one: Tune's own setting.
    """

    def __init__(self, spare: Callable[[], int], may_keep_one: bool = True) -> None:
        super().__init__(may_keep_one)
        self._spare = spare

    def cache_object(self, key: Any, obj: Any) -> bool:
        """Keep it."""
        self._cached_objects[key].append(obj)
        self._num_cached_objects += 1
        return True

    def flush_cached_objects(self, force_all: bool = False) -> Generator[Any, None, None]:
        """Let go of those that are in the way; of all at the end."""
        kept = 0 if force_all else self._spare()
        for workers in self._cached_objects.values():
            while workers and self._num_cached_objects > kept:
                self._num_cached_objects -= 1
                yield workers.pop(0)


@contextmanager
def keeping_workers(asking: Asking) -> Iterator[None]:
    """Have Tune keep its workers; it offers no setting for that."""
    before = tune_controller._ObjectCache
    tune_controller._ObjectCache = partial(Kept, asking.spare)  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        tune_controller._ObjectCache = before  # type: ignore[misc]


class Broken(Stopper):
    """Stops all trials when the search cannot go on."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def __getstate__(self) -> dict[str, Any]:
        """As of `Asking`."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No single trial is stopped."""
        return False

    def stop_all(self) -> bool:
        """Whether an error ended the search."""
        self._asking.look()  # nobody asks for more trials while some wait for a machine
        return self._asking.error is not None


class Median(MedianStoppingRule):
    """Tune's rule, for trials whose last result is no epoch's, and which cannot be paused."""

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Remember the result if it is an epoch's."""
        if EPOCH in result:
            super().on_trial_complete(tune_controller, trial, result)

    def _on_insufficient_samples(self, tune_controller: Any, trial: Any, time: float) -> str:
        return self.CONTINUE


def make_scheduler(study: Study) -> TrialScheduler:
    """What stops trials that do not look promising; values come after every epoch but the last.

    It knows the trials of this process only: the rungs of successive halving are empty after each start, and fill anew.
    """
    last = study.training.joint.epochs - 1
    if study.pruning == "none" or last < 1:
        return FIFOScheduler()
    what: dict[str, Any] = {"time_attr": EPOCH, "metric": VALUE, "mode": "max", "grace_period": 1}
    if study.pruning == "median":
        return Median(**what)
    brackets = 1 if study.pruning == "asha" else BRACKETS
    return ASHAScheduler(**what, max_t=last, reduction_factor=REDUCTION, brackets=brackets, stop_last_trials=False)
