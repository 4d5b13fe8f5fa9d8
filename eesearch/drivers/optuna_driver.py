"""The local driver: this process trains what it proposes, beside any others that search in the same run directory."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from eesearch.core.errors import RunError
from eesearch.core.registry import DRIVERS
from eesearch.drivers.job import Job
from eesearch.drivers.trials import Claim, Trials
from eesearch.study.trial import SearchProblem, StoppedEarlyError

IDLE_S = 0.5
"""Pause before asking again, where other processes run the last trials; they may die."""


@DRIVERS.register("optuna")
def drive(job: Job) -> None:
    """Run trials until a limit is reached; see `drivers.job.Driver`."""
    pruned = job.study.pruning != "none"
    with Trials(job) as trials:
        trials.first()
        while not trials.over():
            claim = trials.claim()
            if claim is None:
                time.sleep(IDLE_S)
                continue
            try:
                run_claim(job.problem, trials, claim, pruned=pruned)
            except BaseException as error:  # stopped, or the disk is full: whoever goes on repeats the trial
                trials.give_back(claim, stopped=not isinstance(error, Exception))
                raise


def run_claim(problem: SearchProblem, trials: Trials, claim: Claim, *, pruned: bool) -> None:
    """Train and evaluate what a trial proposes, and tell how that went.

    Raises:
        RunError: the run directory or the database cannot be written.
    """
    report: Callable[[int, float], bool] | None = partial(trials.report, claim) if pruned else None
    try:
        outcome = problem.run(claim.params, report)
    except StoppedEarlyError as stopped:
        trials.prune(claim, stopped.samples)
    except RunError:  # the disk, not the design
        raise
    except OSError as error:
        raise RunError(f"trial {claim.number} was stopped by the operating system", got=error) from error
    except Exception as error:  # whatever a design runs into is its trial's failure, recorded; the search goes on
        trials.fail(claim, f"{type(error).__name__}: {error}")
    else:
        trials.tell(claim, outcome)
