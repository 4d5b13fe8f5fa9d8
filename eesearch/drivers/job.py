"""What a driver is given: a problem, where its trials are kept, when to stop, who listens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eesearch.drivers.loggers import Logger
from eesearch.drivers.storage import Database
from eesearch.study.materials import Given
from eesearch.study.question import Study
from eesearch.study.rundir import RunDir
from eesearch.study.trial import Finished, SearchProblem

Listener = Callable[[Finished], None]


@dataclass(frozen=True, eq=False)
class Job:
    """A search to be driven.

    Attributes:
        problem: What is searched.
        study: The question: budget, sampler, pruning, resources, seed.
        run: Its directory, which all workers see.
        database: Where its trials are kept.
        worker: Name of this process among those that work on the run; see `study.workers`.
        listener: Called after every trial that this process finished.
        loggers: Called before it, with Optuna's own values; see `drivers.loggers.make_loggers`.
        title: What people call the study, for the dashboard.
        address: Of a Ray cluster; None: a local one is started.
        given: A live model and its data, instead of those that the study names.
    """

    problem: SearchProblem
    study: Study
    run: RunDir
    database: Database
    worker: str
    listener: Listener = lambda trial: None
    loggers: Sequence[Logger] = ()
    title: str = ""
    address: str | None = None
    given: Given | None = None


Driver = Callable[[Job], None]
"""What the registry DRIVERS holds: runs trials until a limit of the study is reached.

Raises:
    RunError: the database or the run directory cannot be written.
    KeyboardInterrupt: the user stopped the search; the running trials are queued again.
"""
