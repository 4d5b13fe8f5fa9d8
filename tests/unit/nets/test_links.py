"""Carries in 8-bit codes."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
import torch

from eesearch.core.design import NOTHING, ExitId, HeadSpec
from eesearch.core.errors import HeadError, PolicyError
from eesearch.core.policy import Policy, Stop
from eesearch.exits.evaluate import replay
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.heads import build_head
from eesearch.nets.links import carry_at, carry_bytes, code_segment, quantize, restore
from eesearch.nets.split import split
from eesearch.nets.zoo import residual_cnn
from eesearch.training.collect import collect
from eesearch.training.data import Split


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = split(residual_cnn(channels=(4, 8, 8), classes=3), torch.randn(2, 1, 8, 8))
        cut = next(c for c in backbone.cuts if c.name == "stages.0.0")
        heads = {(cut.name, "linear-avg1"): build_head(HeadSpec(), cut.shape, 3)}
    return ExitNet(backbone, heads).eval()


@pytest.fixture
def x():
    return torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(2))


def policy(net, *stops):
    made = []
    for cut, head, link, threshold in stops:
        exit_id = ExitId(network=net.network, cut=cut, head=head, link=link)
        made.append(Stop(exit=exit_id, threshold=threshold))
    return Policy(stops=tuple(made), criterion="max_prob")


def test_codes_are_whole_numbers_and_lie_within_half_a_step(x):
    codes, low, step = quantize(x)
    assert codes.shape == (40, 64)
    assert torch.equal(codes.to(torch.uint8).float(), codes)
    assert ((restore(codes, low, step) - x.flatten(1)).abs() <= 0.5001 * step).all()


def test_a_constant_is_restored_exactly():
    constant = torch.full((3, 4, 2), 0.7)
    assert torch.equal(restore(*quantize(constant)).view_as(constant), constant)


def test_each_sample_is_coded_alone(x):
    alone = torch.cat([restore(*quantize(x[i : i + 1])) for i in range(len(x))])
    assert torch.equal(alone, restore(*quantize(x)))


def test_a_carry_of_several_tensors_is_coded_where_it_is_of_floats(x):
    carry = (x, torch.arange(40), torch.zeros(40, 5, dtype=torch.int64))
    coded = code_segment(carry)(*carry)
    assert torch.equal(coded[0], restore(*quantize(x)).view_as(x))
    assert all(torch.equal(*pair) for pair in zip(coded[1:], carry[1:], strict=True))
    assert carry_bytes(carry) == 256 + 8 + 40
    assert carry_bytes(carry, coded=True) == 64 + 8 + 8 + 40


def test_stages_behind_a_coded_link_answer_as_the_table_says(net, x):
    table = collect(net.behind("stem.2"), Split("test", x.numpy(), np.zeros(40, np.int64)))
    assert [(e.cut, e.link) for e in table.exits] == [("stages.0.0", "8bit@stem.2"), ("output", "8bit@stem.2")]
    plain = collect(net, Split("test", x.numpy(), np.zeros(40, np.int64)))
    differences = np.abs(table.logits - plain.logits).max()
    assert 0.0 < differences < 0.1
    score = np.exp(table.logits[0] - table.logits[0].max(-1, keepdims=True))
    threshold = float(np.median(1.0 / score.sum(-1)))
    chosen = policy(
        net,
        ("stem.2", NOTHING, "", inf),
        ("stages.0.0", "linear-avg1", "8bit@stem.2", threshold),
        ("output", "own", "8bit@stem.2", -inf),
    )
    found = net.predict(x, chosen)
    behind = policy(net, *[(s.exit.cut, s.exit.head, s.exit.link, s.threshold) for s in chosen.stops[1:]])
    stop, answer = replay(behind, table)
    np.testing.assert_array_equal(found.exit, stop + 1)
    np.testing.assert_array_equal(found.answer, answer)
    one = [net.predict(x[i : i + 1], chosen) for i in range(40)]
    np.testing.assert_array_equal([p.answer[0] for p in one], found.answer)


def test_stages_can_leave_coding_to_who_sends(net, x):
    chosen = policy(net, ("stem.2", NOTHING, "", inf), ("output", "own", "8bit@stem.2", -inf))
    sender, receiver = net.stages(chosen, coding=False)
    carry, _ = sender.run((x,))
    codes, low, step = quantize(carry[0])
    received = restore(codes.to(torch.uint8).float(), low, step).view_as(carry[0])
    _, logits = receiver.run((received,))
    coding = net.stages(chosen)[1]
    assert torch.equal(logits, coding.run(carry)[1])


def test_a_link_codes_right_behind_its_cut_only(net):
    for stops in (
        [("output", "own", "8bit@stem.2", -inf)],
        [("stages.0.0", "linear-avg1", "", inf), ("output", "own", "8bit@stem.2", -inf)],
    ):
        with pytest.raises(PolicyError, match="cannot have crossed the link"):
            net.stages(policy(net, *stops))


def test_saying_nothing_needs_a_cut(net):
    with pytest.raises(PolicyError, match="has no exit"):
        net.stages(policy(net, ("nowhere", NOTHING, "", inf), ("output", "own", "", -inf)))
    with pytest.raises(HeadError, match="has no gate"):
        build_head(HeadSpec(kind=NOTHING, gate="linear"), (4,), 3)


def test_a_silent_stop_changes_no_answer(net, x):
    bare = policy(net, ("stages.0.0", "linear-avg1", "", 0.4), ("output", "own", "", -inf))
    silent = policy(
        net, ("stem.2", NOTHING, "", inf), ("stages.0.0", "linear-avg1", "", 0.4), ("output", "own", "", -inf)
    )
    for each in (x, x[:1]):
        plain, crossed = net.predict(each, bare), net.predict(each, silent)
        np.testing.assert_array_equal(plain.answer, crossed.answer)
        np.testing.assert_array_equal(plain.exit + 1, crossed.exit)


def test_the_mode_of_the_network_is_kept(net):
    net.train()
    carry_at(net.backbone, "stem.2")
    assert net.backbone.training
