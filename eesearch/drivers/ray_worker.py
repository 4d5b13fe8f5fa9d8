"""What runs on the workers of a Ray cluster. Import it only where Ray is in use.

A worker builds the problem once, from what the driver has prepared: no worker loads data, or measures its own machine
and takes the costs for those of the device that the study names. What goes between driver and workers is Ray's wire
format, pickles among them; nothing of the kind is ever read from a file.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import ray
import torch
from ray import tune

from eesearch.core.errors import RunError
from eesearch.core.store import Store
from eesearch.study.materials import Materials
from eesearch.study.problem import Problem
from eesearch.study.spread import SpreadJob
from eesearch.study.trial import Params, SearchProblem, StoppedEarlyError
from eesearch.study.workshop import Workshop

OUTCOME, FAILURE, BROKEN = "outcome", "failure", "broken"
"""Names in the last result of a trial: what it found; why its design failed; why no trial can be run here."""

EPOCH, VALUE, SAMPLES = "epoch", "value", "samples"
"""Names in the other results: epochs done, the value so far, training samples used."""

Result = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Portable:
    """A problem on its way to the workers.

    Attributes:
        build: Makes it again.
        materials: What it is made of; None: it travels as it is.
    """

    build: Callable[..., SearchProblem]
    materials: Materials | None

    @classmethod
    def of(cls, problem: SearchProblem) -> Portable:
        """Pack a problem; the paths of its stores must be the same everywhere."""
        if not isinstance(problem, Problem):
            return cls(lambda: problem, None)
        kept = problem.materials.store
        store = Store(kept.root.absolute(), [other.absolute() for other in kept.others])
        build = cast(Callable[..., SearchProblem], type(problem))
        return cls(build, replace(problem.materials, store=store))

    def unpack(self) -> SearchProblem:
        """Make the problem."""
        return self.build() if self.materials is None else self.build(self.materials)


class Training:
    """A trial in a thread of its own, which waits after each report until it is told whether to go on.

    Args:
        problem: What is searched.
        params: What the trial proposes.
        threads: How many it computes with.
        pruned: Whether it reports after each epoch, and may be stopped.
    """

    def __init__(self, problem: SearchProblem, params: Params, *, threads: int, pruned: bool) -> None:
        self._problem, self._params, self._threads, self._pruned = problem, params, threads, pruned
        self._results: queue.Queue[Result] = queue.Queue()
        self._stops: queue.Queue[bool] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="trial", daemon=True)

    def next(self) -> Result:
        """Go on until the next result; the last one has `done`."""
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._stops.put(False)
        return self._results.get()

    def stop(self) -> None:
        """Leave the trial as it is; one that waits ends."""
        self._stops.put(True)
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        torch.set_num_threads(self._threads)
        report = self._report if self._pruned else None
        try:
            result = {OUTCOME: self._problem.run(self._params, report).model_dump_json()}
        except StoppedEarlyError:
            result = {}
        except (RunError, OSError) as error:  # the disk, not the design
            result = {BROKEN: str(error)}
        except Exception as error:  # whatever a design runs into is its trial's failure; the search goes on
            result = {FAILURE: f"{type(error).__name__}: {error}"}
        self._results.put({**result, "done": True})

    def _report(self, epochs: int, value: float) -> bool:
        taken = self._problem.taken(self._params, epochs) if isinstance(self._problem, Problem) else 0
        self._results.put({EPOCH: epochs, VALUE: value, SAMPLES: taken})
        return self._stops.get()


class TrialWorker(tune.Trainable):
    """A worker that runs one trial after the other."""

    def setup(self, config: dict[str, Any], *, portable: Portable, threads: int = 1, pruned: bool = False) -> None:  # type: ignore[override]
        """Build the problem."""
        self._begin = partial(Training, portable.unpack(), threads=threads, pruned=pruned)
        self._training = self._begin(config["params"])

    def step(self) -> Result:
        """Train until there is something to tell."""
        return self._training.next()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial."""
        self._training.stop()
        self._training = self._begin(new_config["params"])
        return True

    def cleanup(self) -> None:
        """End what runs, if it waits for an answer."""
        self._training.stop()


@ray.remote(max_retries=2)
def do_job(portable: Portable, job: SpreadJob, threads: int) -> None:
    """Do a piece of the work on the bank."""
    torch.set_num_threads(threads)
    assert portable.materials is not None
    Workshop(portable.materials).do(job)


@ray.remote(num_cpus=0)
def look(portable: Portable) -> None:
    """Whether a worker can build the problem."""
    portable.unpack()
