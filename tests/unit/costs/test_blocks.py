"""The measuring process's side: blocks on a clock that the calls themselves move."""

import io
import json
from math import inf
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from eesearch.costs import blocks
from eesearch.costs.blocks import Course, Piece, Subject, load_piece, serve
from eesearch.costs.devices import parse_device
from eesearch.costs.timer import Clock, Protocol

CPU = parse_device("cpu:eager:t1:b1")
PROTOCOL = Protocol(warmup=0.0, warmup_max=0.0, round=0.0)
SAMPLES = np.arange(6.0, dtype=np.float32)[:, None]  # even ones leave at the first stage


class Fake:
    """A back end whose modules are functions of the clock."""

    batches = True

    def __init__(self, now):
        self.now, self.log = now, []

    def load(self, prepared, args, threads):
        name, seconds = prepared

        def call(x, *earlier):
            self.now[0] += seconds * len(x)
            self.log.append((name, x[:, 0].tolist()))
            if name == "whole":
                return (x,)
            if name == "broken":
                raise RuntimeError("out of paper")
            sure = 1.0 - x[:, 0] % 2
            carry = (x,) if name == "first" else ()
            return (*carry, x, x[:, 0].long(), sure)

        return call

    def native(self, tensor):
        return tensor


@pytest.fixture
def served(monkeypatch):
    """Serves a course; returns the messages and what was called."""

    def run(order, names=("first", "last"), at_once=4):
        now = [0.0]
        fake = Fake(now)
        monkeypatch.setattr(blocks, "find_backend", lambda kind, name: fake)
        x = (torch.zeros(1, 1),)
        stages = tuple(Piece((name, seconds), x) for name, seconds in zip(names, (1.0, 2.0), strict=True))
        subject = Subject(stages, (0.5, -inf), False, np.array(order))
        course = Course((subject,), Piece(("whole", 4.0), x), SAMPLES, at_once)
        channel = io.StringIO()
        serve(course, CPU, PROTOCOL, Clock(lambda: now[0], lambda: now[0] / 2), channel)
        return [json.loads(line) for line in channel.getvalue().splitlines()], fake.log

    return run


def test_blocks_alternate_and_every_call_is_timed(served):
    (first, second, said, end), log = served([[[0], [1]], [[2], [3]]])
    assert first == {"subject": 0, "exits": [1000, 3000], "backbone": [4000, 4000], "wall": 12.0, "cpu": 6.0}
    assert second["exits"] == [1000, 3000]
    one, two = [("first", [0]), ("first", [1]), ("last", [1])], [("whole", [0]), ("whole", [1])]
    warming = len(one) + len(two)  # both of them, once through the first block
    later = [("whole", [2]), ("whole", [3]), ("first", [2]), ("first", [3]), ("last", [3])]
    assert log[:-2] == [*one, *two] * ((len(log) - 2 - 2 * warming) // warming) + [*one, *two, *later]
    assert said == {"subject": 0, "answer": [0, 1, 2, 3, 4, 5], "stop": [0, 1, 0, 1, 0, 1]}
    assert end == "done"
    assert log[-2:] == [("first", [4.0, 5.0]), ("last", [5.0])]  # what was not timed is answered together


def test_what_is_not_timed_is_answered_as_many_at_once_as_allowed(served):
    messages, log = served([[[0]]], at_once=1)
    assert messages[1]["stop"] == [0, 1, 0, 1, 0, 1]
    assert max(len(x) for _, x in log) == 1


def test_batches_are_timed_as_wholes(served):
    (block, said, _), _ = served([[[0, 1], [2, 4]]])
    assert block["exits"] == [1000 * (2 + 2), 2000]
    assert block["backbone"] == [8000, 8000]
    assert said["stop"] == [0, 1, 0, 1, 0, 1]


def test_a_failure_is_told(served):
    (message,), _ = served([[[1]]], names=("first", "broken"))
    assert message == {"job": "network 1", "error": "RuntimeError: out of paper"}


def test_calls_of_one_size_are_filled_up():
    """A compiled call that takes one number of samples only: one per power of two."""
    sizes = []

    def load(prepared, args, threads):
        def call(x):
            assert len(x) == len(args[0])
            sizes.append(len(x))
            return (x + 1,)

        return call

    backend = SimpleNamespace(batches=False, load=load, native=lambda tensor: tensor)
    call = load_piece(backend, Piece(None, (torch.zeros(6, 1),)), 1)
    for count in (6, 5, 4, 3, 2, 1):
        x = torch.arange(float(count))[:, None]
        assert torch.equal(call(x)[0], x + 1)
    assert sizes == [6, 6, 4, 4, 2, 1]
