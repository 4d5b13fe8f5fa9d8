"""The driver for many machines: Ray Tune runs the trials, this process asks and tells.

All state is in Optuna's storage, as with the local driver, and the answers are the same; a search goes on under either
driver. The run directory must lie where all workers see it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from eesearch.core.errors import EesearchError, InputError, RunError
from eesearch.core.registry import DRIVERS
from eesearch.drivers.job import Job
from eesearch.drivers.ray_cluster import Cluster, connected
from eesearch.drivers.trials import Trials
from eesearch.study.problem import Problem
from eesearch.study.question import Resources
from eesearch.study.spread import SpreadJob
from eesearch.study.trial import SearchProblem

if TYPE_CHECKING:
    from ray import tune


@DRIVERS.register("ray")
def drive_on_ray(job: Job) -> None:
    """Run trials on a Ray cluster until a limit of the study is reached.

    Raises:
        InputError: Ray is not installed; there is no cluster, or none that can run a trial; a worker cannot import
            what the study names.
        RunError: the database or the run directory cannot be written.
        KeyboardInterrupt: the user stopped the search; the running trials are queued again.
    """
    with Trials(job) as trials:
        if trials.begun and trials.over():
            return  # Ray needs seconds to start
        with connected(job.address) as cluster:
            cluster.check(job.study.resources)
            if job.address is not None:
                _try_out(job.problem)
            with _spreading(job.problem, RaySpread(job.problem, cluster, job.study.resources)):
                trials.first()
            if not trials.over():
                _search(job, trials, cluster)


def _try_out(problem: SearchProblem) -> None:
    """Refuse a cluster whose workers cannot import what the study names; each trial would die of it."""
    import ray

    from eesearch.drivers.ray_worker import Portable, look

    try:
        ray.get(look.remote(Portable.of(problem)))
    except ray.exceptions.RayError as error:
        raise InputError(
            "a worker of the Ray cluster cannot use the study",
            got=str(error).strip().splitlines()[-1],
            do="Install eesearch, and what the study names, on all its machines.",
        ) from error


def _search(job: Job, trials: Trials, cluster: Cluster) -> None:
    from ray import tune

    from eesearch.drivers.ray_search import RETRIES, Asking, Broken, keeping_workers, make_scheduler
    from eesearch.drivers.ray_worker import Portable, TrialWorker

    each = job.study.resources
    asking = Asking(trials, lambda: cluster.slots(each))
    worker = tune.with_parameters(
        TrialWorker, portable=Portable.of(job.problem), threads=each.cpus, pruned=job.study.pruning != "none"
    )
    folder = tempfile.mkdtemp(prefix="ray-")  # Tune's own notes; nobody reads them
    tuner = tune.Tuner(
        tune.with_resources(worker, partial(request, each)),
        tune_config=tune.TuneConfig(
            search_alg=asking,
            scheduler=make_scheduler(job.study),
            num_samples=2**31,  # the searcher says when it is over
            reuse_actors=True,
            trial_name_creator=str,
            trial_dirname_creator=str,
        ),
        run_config=tune.RunConfig(
            storage_path=folder,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # trainings write their own
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            stop=Broken(asking),
            verbose=0,
        ),
    )
    try:
        with keeping_workers(asking):
            tuner.fit()
    finally:
        asking.give_back()
        shutil.rmtree(folder, ignore_errors=True)
    if asking.error:
        raise asking.error


def request(each: Resources, config: dict[str, Any]) -> tune.PlacementGroupFactory:
    """What a trial needs of a machine.

    A few bytes tell the slots apart: Tune gives a trial any worker that has become free and kills the one that was
    about to start for it, so that short trials would never get a second worker.
    """
    from ray import tune

    return tune.PlacementGroupFactory([{"CPU": each.cpus, "GPU": each.gpus, "memory": 1 + config["slot"]}])


@contextmanager
def _spreading(problem: SearchProblem, spread: RaySpread) -> Iterator[None]:
    """Let the workers share the work on the bank. Later they are busy with trials, and this process may not wait."""
    if not isinstance(problem, Problem):
        yield
        return
    problem.workshop.spread = spread
    try:
        yield
    finally:
        problem.workshop.spread = None


@dataclass(frozen=True, eq=False)
class RaySpread:
    """Pieces of work as tasks of Ray; see `study.spread.Spread`."""

    problem: SearchProblem
    cluster: Cluster
    each: Resources

    @property
    def workers(self) -> int:
        """How many pieces are done at once."""
        return self.cluster.slots(self.each)

    def __call__(self, jobs: Sequence[SpreadJob]) -> None:
        """Do them all.

        Raises:
            EesearchError: what a job raised.
            RunError: a worker was lost, again and again.
        """
        import ray

        from eesearch.drivers.ray_worker import Portable, do_job

        task = do_job.options(num_cpus=self.each.cpus, num_gpus=self.each.gpus)
        shared = ray.put(Portable.of(self.problem))
        try:
            ray.get([task.remote(shared, job, self.each.cpus) for job in jobs])
        except ray.exceptions.RayError as error:
            cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
            if isinstance(cause, EesearchError):
                raise cause from error
            if isinstance(cause, ray.exceptions.RayError):
                raise RunError(
                    "a worker of the Ray cluster died in the work on the bank",
                    got=type(cause).__name__,
                    do="Run the same command again: finished pieces are kept.",
                ) from error
            raise
