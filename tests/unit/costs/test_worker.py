import io
import json

import torch
from torch import nn

from eesearch.costs import meters
from eesearch.costs.devices import parse_device
from eesearch.costs.latency import Job
from eesearch.costs.pieces import Prepared
from eesearch.costs.timer import Clock, Protocol
from eesearch.costs.worker import serve

CPU = parse_device("cpu:eager:t1:b1")
PROTOCOL = Protocol(warmup=0.0, warmup_max=0.0, rounds_min=2, rounds_max=2, round=0.0)


class Ticking(nn.Module):
    """Moves the clock by `seconds`."""

    def __init__(self, now, seconds):
        super().__init__()
        self.now, self.seconds = now, seconds

    def forward(self, x):
        self.now[0] += self.seconds
        return x


def job(name, module, args, minus=None):
    """A job of the eager back end."""
    return Job(name, *((Prepared(each.eval(), args),) if each else () for each in (module, minus)))


def answers(jobs, now):
    channel = io.StringIO()
    serve(tuple(jobs), CPU, PROTOCOL, Clock(lambda: now[0], lambda: now[0]), channel)
    return [json.loads(line) for line in channel.getvalue().splitlines()]


def test_each_job_is_answered_with_the_rounds_of_its_modules():
    now = [0.0]
    x = (torch.ones(1),)
    jobs = [job("a", Ticking(now, 1.0), x), job("b - a", Ticking(now, 3.0), x, Ticking(now, 1.0))]
    *told, end = answers(jobs, now)
    assert told == [
        {"job": "a", "ms": [1000.0, 1000.0], "contention": 1.0, "settled": True, "mj": None},
        {"job": "b - a", "ms": [2000.0, 2000.0], "contention": 1.0, "settled": True, "mj": None},
    ]
    assert end == "done"


def test_energy_is_told_where_the_machine_counts(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(meters, "open_meter", lambda kind: lambda: 5.0 * now[0])  # 5 W
    told, _ = answers([job("a", Ticking(now, 2.0), (torch.ones(1),))], now)
    assert told["mj"] == 10_000.0


def test_failing_job_is_told_and_ends_the_work():
    now = [0.0]
    jobs = [job("bad", nn.Linear(2, 2), (torch.ones(3),)), job("a", Ticking(now, 1.0), (torch.ones(1),))]
    (told,) = answers(jobs, now)
    assert told["job"] == "bad"
    assert told["error"].startswith("RuntimeError: ")


def test_parts_run_without_gradients():
    seen = []

    class Seen(nn.Module):
        def forward(self, x):
            seen.append(torch.is_inference_mode_enabled())
            return x

    now = [0.0]
    answers([job("a", nn.Sequential(Seen(), Ticking(now, 1.0)), (torch.ones(1),))], now)
    assert set(seen) == {True}
