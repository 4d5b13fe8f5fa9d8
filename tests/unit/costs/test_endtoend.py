"""The parent's side: which samples are timed, and what becomes of replies."""

from math import inf

import numpy as np
import pytest
import torch
from torch import nn

from eesearch.core.errors import CostError
from eesearch.costs import endtoend
from eesearch.costs.blocks import Block, Said
from eesearch.costs.devices import parse_device
from eesearch.costs.endtoend import Ran, Ride, run_rides, timing_order
from eesearch.costs.timer import Protocol
from eesearch.nets.lower import Lowered

STOP = np.array([0] * 600 + [1] * 300 + [2] * 100)


def test_every_block_has_the_share_of_each_stop():
    order = timing_order(STOP, pair_ms=10.0, seconds=5.0, seed=1)
    assert order.shape == (10, 50, 1)
    counts = np.array([np.bincount(STOP[block[:, 0]], minlength=3) for block in order])
    assert np.abs(counts - [30, 15, 5]).max() <= 1
    assert len(np.unique(order)) == 500
    assert np.array_equal(order, timing_order(STOP, pair_ms=10.0, seconds=5.0, seed=1))
    assert not np.array_equal(order, timing_order(STOP, pair_ms=10.0, seconds=5.0, seed=2))


@pytest.mark.parametrize(
    ("pair_ms", "seconds", "shape"),
    [
        (100.0, 10.0, (5, 20, 1)),  # few calls: few blocks, but never one
        (1.0, 60.0, (30, 333, 1)),  # at most ten times each sample
        (0.1, 3600.0, (30, 333, 1)),
        (1000.0, 0.0, (1, 1, 1)),
    ],
)
def test_time_decides_how_many_are_timed(pair_ms, seconds, shape):
    assert timing_order(STOP, pair_ms, seconds).shape == shape


def test_batches_are_full_and_random():
    order = timing_order(STOP, pair_ms=1.0, seconds=3.2, batch=32)
    assert order.shape == (5, 20, 32)
    passes = order.reshape(-1)[:1000]
    assert len(np.unique(passes)) == 1000


class Sum(nn.Module):
    def forward(self, x):
        return x, x.argmax(-1), x.sum(-1)


def ride(order):
    stage = Lowered(Sum(), (torch.zeros(1, 2),), ("x",), ("logits_0", "answer", "score"), -inf)
    return Ride((stage,), np.array(order))


def test_results_are_told_when_the_last_process_is_done(monkeypatch):
    sent, told, seen = [], [], []
    monkeypatch.setattr(endtoend, "packed", lambda task, *arguments: sent.append((task, *arguments)))

    class Alone:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(endtoend, "alone", Alone)

    def messages(payload, device):
        for subject, order in enumerate(rides):
            for block in range(len(order.order)):
                yield {"subject": subject, "exits": [1.0], "backbone": [2.0 + block], "wall": 1.0, "cpu": 1.0}
            yield {"subject": subject, "answer": [0, 1], "stop": [0, 0]}

    monkeypatch.setattr(endtoend, "messages", messages)
    rides = [ride([[[0]], [[1]]]), ride([[[1]]])]
    run_rides(
        rides, nn.Identity(), np.zeros((2, 2), np.float32), device=parse_device("cpu:eager:t1:b1"),
        protocol=Protocol(processes=2), finished=lambda number, ran: told.append((number, ran)),
        progress=lambda *step: seen.append(step),
    )  # fmt: skip
    (task, course, *_), (_, later, *_) = sent
    assert task == "eesearch.costs.blocks:serve"
    assert (course.complete, later.complete) == (True, False), "what is not timed is answered once"
    assert [s.thresholds for s in course.subjects] == [(-inf,), (-inf,)]
    assert not course.subjects[0].remembers
    assert [number for number, _ in told] == [0, 1]
    for number, ran in told:
        assert len(ran) == 2
        assert [block.backbone for block in ran[1].blocks] == [[2.0], [3.0]][: len(rides[number].order)]
    assert seen == [("measure end to end", done, 6) for done in range(1, 7)]


def test_calls_are_told_per_sample_with_the_stop_of_each():
    blocks = tuple(Block(0, [1.0, 3.0], [4.0, 6.0], wall, 0.5) for wall in (1.0, 2.0))
    ran = Ran(blocks, Said(0, answer=[7, 8, 9], stop=[0, 1, 2]))
    single = ran.timed(np.array([[[2], [0]], [[1], [2]]]))
    assert single.stop is not None
    assert single.stop.tolist() == [[2, 0], [1, 2]]
    assert single.exits.tolist() == [[1.0, 3.0]] * 2
    assert (single.wall, single.cpu) == (3.0, 1.0)
    pairs = ran.timed(np.array([[[0, 1], [1, 2]], [[2, 0], [0, 1]]]))
    assert pairs.stop is None, "samples of a batch leave at different stops"
    assert pairs.backbone.tolist() == [[2.0, 3.0]] * 2


def test_nothing_runs_on_what_is_not_timed():
    with pytest.raises(CostError, match="nothing runs on the device 'macs' here"):
        run_rides([], nn.Identity(), np.zeros((1, 2)), device=parse_device("macs"), protocol=Protocol(),
                  finished=print)  # fmt: skip
