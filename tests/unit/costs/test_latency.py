"""The parent's side: figures from rounds exactly; and one real worker, of which no time is asserted."""

import os
import sys
import tempfile
import threading
from pathlib import Path

import cloudpickle
import pytest
import torch
from filelock import FileLock, Timeout
from torch import nn

from eesearch.core.errors import CostError
from eesearch.costs import latency
from eesearch.costs.devices import parse_device
from eesearch.costs.latency import Job, environment, measure, summarize
from eesearch.costs.machine import ALLOCATOR
from eesearch.costs.pieces import Prepared
from eesearch.costs.timer import Protocol, Rounds

CPU = parse_device("cpu:eager:t1:b1")
QUICK = Protocol(processes=1, warmup=0.0, warmup_max=0.001, round=0.001, rounds_min=3, rounds_max=3)


@pytest.fixture(autouse=True)
def _like_a_notebook():
    """Classes of this file reach the worker by value, as those of a notebook do."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(autouse=True)
def _own_lock(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


class Witness(nn.Module):
    """Prints, and writes down in what surroundings it runs."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def forward(self, x):
        sys.stdout.write("user code prints\n")
        facts = [os.environ["OMP_NUM_THREADS"], torch.get_num_threads(), torch.is_inference_mode_enabled()]
        facts += [self.training, os.getpid(), len(getattr(os, "sched_getaffinity", lambda _: [0])(0))]
        self.path.with_suffix(".new").write_text(" ".join(map(str, facts)))
        self.path.with_suffix(".new").replace(self.path)  # whole, even if the worker is killed here
        return x


def job(name, module=None, args=(), minus=None):
    """A job of the eager back end."""
    parts = [(Prepared(each, args),) if each else () for each in (module or nn.Identity(), minus)]
    return Job(name, *parts)


def rounds(*ms, contention=1.0, settled=True):
    return Rounds(list(ms), contention, settled)


def answer_with(monkeypatch, *processes):
    answers = iter(processes)
    monkeypatch.setattr(latency, "_replies", lambda payload, device: iter(next(answers)))


def test_estimate_is_the_median_over_processes_of_round_medians():
    timing = summarize([rounds(1, 2, 9), rounds(4, 3, 5, contention=1.2), rounds(8, 8, 8, 8)])
    assert timing.ms == 4
    assert (timing.min, timing.p50, timing.rounds) == (1, 6.5, 10)
    assert timing.contention == 1.2
    assert not timing.noisy
    assert timing.p10 <= timing.p50 <= timing.p90 <= timing.p95 <= timing.p99 <= 9


def test_negative_difference_is_zero_and_flagged():
    timing = summarize([rounds(-0.1, -0.1, 0.2)])
    assert timing.ms == 0
    assert timing.p50 == -0.1
    assert timing.noisy


def test_unsettled_process_makes_a_figure_noisy():
    assert summarize([rounds(1), rounds(1, settled=False)]).noisy


def test_noise_is_the_spread_between_processes(monkeypatch):
    jobs = [job("a"), job("b", minus=nn.Identity())]
    answer_with(monkeypatch, [("a", rounds(1.0)), ("b", rounds(8.0))], [("a", rounds(1.5)), ("b", rounds(1.0))])
    seen = []
    measured = measure(jobs, CPU, Protocol(processes=2), lambda *step: seen.append(step))
    assert measured.noise == pytest.approx(0.5 / 1.25)  # differences do not count
    assert {name: t.ms for name, t in measured.timings.items()} == {"a": 1.25, "b": 4.5}
    assert seen == [("measure latency", done, 4) for done in range(5)]


def test_noise_is_never_below_the_floor(monkeypatch):
    answer_with(monkeypatch, [("a", rounds(1.0))])
    assert measure([job("a")], CPU, Protocol(processes=1)).noise == Protocol().floor


def test_energy_is_the_median_over_processes_where_all_of_them_tell(monkeypatch):
    told = [[("a", 3.0), ("b", -1.0), ("c", 2.0)], [("a", 5.0), ("b", -3.0), ("c", None)]]
    answer_with(monkeypatch, *([(name, Rounds([1.0], 1.0, True, mj)) for name, mj in each] for each in told))
    measured = measure([job("a"), job("b"), job("c")], CPU, Protocol(processes=2))
    assert measured.mj == {"a": 4.0, "b": 0.0}


def test_one_measurement_at_a_time(monkeypatch, tmp_path):
    locked = []

    def replies(payload, device):
        (path,) = tmp_path.glob("eesearch-measure-*.lock")
        with pytest.raises(Timeout):
            FileLock(path).acquire(timeout=0)
        locked.append(path)
        return iter([("a", rounds(1.0))])

    monkeypatch.setattr(latency, "_replies", replies)
    measure([job("a")], CPU, Protocol(processes=2))
    assert len(locked) == 2
    FileLock(locked[0]).acquire(timeout=0).lock.release()


def test_waiting_for_another_measurement_is_told(monkeypatch):
    answer_with(monkeypatch, [("a", rounds(1.0))])
    path = Path(tempfile.gettempdir()) / f"eesearch-measure-{os.getuid()}.lock"
    other = FileLock(path)
    other.acquire()
    seen = []

    def listen(phase, done, total):
        seen.append((phase, done, total))
        other.release()

    measure([job("a")], CPU, Protocol(processes=1), listen)
    assert seen[:2] == [("wait for another measurement", 0, 1), ("measure latency", 0, 1)]


def test_environment_of_the_worker(monkeypatch):
    monkeypatch.setattr(sys, "path", ["", "/somewhere"])
    env = environment(CPU)
    assert env["OMP_NUM_THREADS"] == "1"
    assert env["PYTHONPATH"] == os.pathsep.join([os.getcwd(), "/somewhere"])
    assert ALLOCATOR.items() <= env.items() or sys.platform != "linux"


def test_what_cannot_be_measured_is_refused_before_anything_starts():
    one = job("a")
    with pytest.raises(CostError, match="nothing is timed on the device 'macs'"):
        measure([one], parse_device("macs"))
    with pytest.raises(CostError, match="same name"):
        measure([one, one], CPU)
    locked = nn.Identity()
    locked.lock = threading.Lock()
    with pytest.raises(CostError, match=r"cannot be sent.*pickle"):
        measure([job("a", locked)], CPU)


def test_real_worker_measures_in_its_own_process_and_surroundings(tmp_path):
    jobs = [job("seen", Witness(tmp_path / "facts"), (torch.ones(1),)), job("bad", nn.Linear(2, 2), (torch.ones(3),))]
    seen = []
    with pytest.raises(CostError, match=r"measuring bad failed; got RuntimeError: .*shapes cannot be multiplied"):
        measure(jobs, CPU, QUICK, lambda *step: seen.append(step))
    assert seen[-1] == ("measure latency", 1, 2)  # the first job's answer came through the prints
    threads, torch_threads, inference, training, pid, cores = (tmp_path / "facts").read_text().split()
    assert (threads, torch_threads, inference, training, cores) == ("1", "1", "True", "False", "1")
    assert int(pid) != os.getpid()


def test_interrupt_ends_the_worker(tmp_path):
    jobs = [job(str(i), Witness(tmp_path / "facts"), (torch.ones(1),)) for i in range(2)]

    def interrupt(phase, done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(jobs, CPU, QUICK, interrupt)
    pid = int((tmp_path / "facts").read_text().split()[4])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_dead_worker_is_told_with_its_last_words(monkeypatch):
    monkeypatch.setattr(latency.sys, "executable", "/bin/false")
    with pytest.raises(CostError, match="the measuring process died; got no message"):
        measure([job("a", nn.Linear(400, 400))], CPU, QUICK)
