"""What becomes of errors on the workers; the driver itself is tested in tests/integration/test_ray.py."""

import pytest
import ray
from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, RayTaskError, WorkerCrashedError

from eesearch.core.errors import EesearchError, RunError
from eesearch.drivers import ray_worker
from eesearch.drivers.ray_cluster import Cluster
from eesearch.drivers.ray_driver import RaySpread
from eesearch.study.question import Resources


class Task:
    """A task of Ray that is only noted."""

    def __init__(self):
        self.asked, self.jobs = {}, []

    def options(self, **asked):
        self.asked = asked
        return self

    def remote(self, shared, job, threads):
        self.jobs.append((job, threads))
        return job


@pytest.fixture
def spread(monkeypatch):
    """Does jobs on a Ray that answers as the test says."""

    def do(get):
        task = Task()
        monkeypatch.setattr(ray_worker, "do_job", task)
        monkeypatch.setattr(ray, "put", lambda value: value)
        monkeypatch.setattr(ray, "get", get)
        RaySpread("problem", Cluster(), Resources(cpus=2))(["one", "two"])
        return task

    return do


def failing(error):
    def get(references):
        raise error

    return get


def of_task(cause):
    """As `ray.get` raises what a task raised."""
    return RayTaskError("do_job", "Traceback ...", cause, "ray::do_job", 1, "127.0.0.1").as_instanceof_cause()


def test_every_job_is_a_task(spread):
    task = spread(lambda references: None)
    assert task.asked == {"num_cpus": 2, "num_gpus": 0}
    assert task.jobs == [("one", 2), ("two", 2)]


@pytest.mark.parametrize(
    "error",
    [
        WorkerCrashedError(),
        OutOfMemoryError("too much"),
        NodeDiedError("gone"),
        ObjectLostError("00", "owner", "here"),
        of_task(OutOfMemoryError("too much")),
    ],
    ids=["crashed", "memory", "node", "object", "wrapped"],
)
def test_a_lost_worker_is_told_without_a_traceback(spread, error):
    with pytest.raises(RunError, match=r"a worker of the Ray cluster died .* got [A-Z]\w+Error\. Run the same command"):
        spread(failing(error))


@pytest.mark.parametrize("error", [EesearchError("the training diverged"), RunError("disk full")])
def test_errors_of_ours_are_as_without_ray(spread, error):
    with pytest.raises(type(error)) as raised:
        spread(failing(of_task(error)))
    assert raised.value is error


def test_a_mistake_in_the_program_is_shown_as_it_is(spread):
    with pytest.raises(ZeroDivisionError) as raised:
        spread(failing(of_task(ZeroDivisionError("1 / 0"))))
    assert isinstance(raised.value, RayTaskError)
