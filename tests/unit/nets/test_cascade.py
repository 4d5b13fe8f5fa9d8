"""Several networks in a row: what is deployed stops where routing says, and answers what the joined table says."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
import torch

from eesearch.core.design import NOTHING, ExitId, HeadSpec
from eesearch.core.errors import ModelError, PolicyError
from eesearch.core.policy import Policy, Scoring, Stop
from eesearch.core.tables import ExitTable, reference_row
from eesearch.costs.deployed import StageRunner, lower_policy
from eesearch.exits.evaluate import replay
from eesearch.exits.routing import path_outputs
from eesearch.exits.tiers import with_places
from eesearch.nets.cascade import CascadeNet
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.heads import build_head
from eesearch.nets.split import split
from eesearch.nets.zoo import residual_cnn
from eesearch.training.collect import collect
from eesearch.training.data import Split

CUTS = ("stem.2", "stages.1.0")


def member(name, seed, *, cuts=CUTS, classes=3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = (
            split(residual_cnn(channels=(4, 8, 8), classes=classes), torch.randn(2, 1, 8, 8)).keep(cuts).named(name)
        )
        heads = {(cut.name, "linear-avg1"): build_head(HeadSpec(), cut.shape, classes) for cut in backbone.cuts}
    return ExitNet(backbone, heads).eval()


@pytest.fixture(scope="module")
def net():
    return CascadeNet({"large": member("large", 1), "small": member("small", 2), "tiny": member("tiny", 3)}, "large")


@pytest.fixture(scope="module")
def data():
    x = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(2)).numpy()
    return Split("test", x, np.arange(40) % 3)


@pytest.fixture(scope="module")
def table(net, data):
    members = [collect(net.member(name), data) for name in ("small", "tiny", "large")]
    return ExitTable.join(members)


def policy_of(net, table, *cuts, criterion="max_prob"):
    """Half of the samples leave at each stop, of those that would."""
    exits = tuple(next(e for e in net.exits if e.cut == cut) for cut in cuts)
    scores, _ = path_outputs(table, [table.row(e) for e in exits], Scoring(criterion))
    ordered = np.sort(scores.astype(np.float64))
    thresholds = [*((row[19] + row[20]) / 2 for row in ordered[:-1]), -inf]
    stops = tuple(Stop(exit=e, threshold=float(t)) for e, t in zip(exits, thresholds, strict=True))
    return Policy(stops=stops, criterion=criterion)


PATHS = [
    ("large/output",),
    ("tiny/output", "large/output"),
    ("tiny/output", "small/output", "large/output"),
    ("large/stem.2", "tiny/stages.1.0"),
    ("small/stem.2", "small/stages.1.0", "large/stem.2", "large/output"),
    ("tiny/stem.2", "tiny/output", "small/stem.2", "small/stages.1.0", "large/stages.1.0"),
]


@pytest.mark.parametrize("criterion", ["max_prob", "patience"])
@pytest.mark.parametrize("cuts", PATHS)
def test_the_table_is_the_network(net, data, table, cuts, criterion):
    policy = policy_of(net, table, *cuts, criterion=criterion)
    stop, answer = replay(policy, table)
    found = net.predict(data.x, policy)
    np.testing.assert_array_equal(found.exit, stop)
    np.testing.assert_array_equal(found.answer, answer)
    alone = [net.predict(data.x[i : i + 1], policy) for i in range(5)]
    assert [each.answer[0] for each in alone] == answer[:5].tolist()


@pytest.mark.parametrize("cuts", PATHS[1:])
def test_lowered_stages_do_the_same(net, data, table, cuts):
    policy = policy_of(net, table, *cuts)
    x = torch.from_numpy(data.x)
    lowered = lower_policy(net.stages(policy), policy, (), x[:2])
    runner = StageRunner(tuple(each.module for each in lowered), policy.thresholds, remembers=False, native=lambda t: t)
    with torch.no_grad():
        found = runner.batch(x)
        alone = [runner.one(x[i : i + 1])[:2] for i in range(5)]
    stop, answer = replay(policy, table)
    np.testing.assert_array_equal(found.exit, stop)
    np.testing.assert_array_equal(found.answer, answer)
    assert alone == list(zip(answer[:5].tolist(), stop[:5].tolist(), strict=True))


LINK = "8bit@large/stem.2"


def place(net, cut, tier, link="", head=None):
    network, own = net.member(cut.partition("/")[0]).network, next(e.head for e in net.exits if e.cut == cut)
    return ExitId(network=network, cut=cut, head=head or own, tier=tier, link=link)


@pytest.mark.parametrize(
    "stops",
    [
        [("small/output", "phone"), ("large/output", "cloud")],
        [("tiny/stem.2", "phone"), ("tiny/stages.1.0", "edge"), ("large/stem.2", "edge"), ("large/output", "cloud")],
        [("small/stem.2", "phone"), ("large/stem.2", "phone"), ("large/output", "cloud", LINK)],
        [("large/stem.2", "phone", "", NOTHING), ("large/stages.1.0", "cloud", LINK), ("small/output", "cloud")],
    ],
)
def test_tiers_and_coded_links_change_nothing_but_what_links_code(net, data, table, stops):
    exits = tuple(place(net, *stop) for stop in stops)
    placed = with_places(table, exits, {LINK: collect(net.behind("large/stem.2"), data)})
    scores, _ = path_outputs(placed, [placed.row(e) for e in exits], Scoring())
    middle = np.sort(scores.astype(np.float64))[:, 19:21].mean(1)
    early = [inf if e.is_none else float(t) for e, t in zip(exits, middle, strict=True)]
    policy = Policy(
        stops=tuple(Stop(exit=e, threshold=t) for e, t in zip(exits, [*early[:-1], -inf], strict=True)),
        criterion="max_prob",
    )
    stop, answer = replay(policy, placed)
    assert set(stop) == {k for k, e in enumerate(exits) if not e.is_none}
    found = net.predict(data.x, policy)
    np.testing.assert_array_equal(found.exit, stop)
    np.testing.assert_array_equal(found.answer, answer)
    alone = [net.predict(data.x[i : i + 1], policy) for i in range(len(data.x))]
    np.testing.assert_array_equal([each.answer[0] for each in alone], answer)


def test_all_exits_are_heard_the_reference_s_last(net, data, table):
    assert net.exits == table.exits
    assert table.exits[reference_row(table.exits)].cut == net.backbone.output_cut == "large/output"
    np.testing.assert_allclose(collect(net, data).logits, table.logits, rtol=1e-5, atol=1e-6)


def test_what_is_wrong_is_told(net, data, table):
    with pytest.raises(ModelError, match="different classes"):
        CascadeNet({"a": member("a", 1), "b": member("b", 2, classes=4)}, "a")
    with pytest.raises(ModelError, match="holds the same network twice; got a, b"):
        CascadeNet({"a": member("a", 1), "b": member("b", 1)}, "a")
    stranger = Stop(exit=ExitId(network="n", cut="other/output", head="own"), threshold=-inf)
    with pytest.raises(PolicyError, match="there is no network 'other'; expected one of large, small, tiny"):
        net.stages(Policy(stops=(stranger,), criterion="max_prob"))
    with pytest.raises(PolicyError, match="different samples"):
        ExitTable.join([table, collect(member("more", 5), Split("test", data.x[:9], data.y[:9]))])
    with pytest.raises(PolicyError, match="different classes"):
        ExitTable.join([table, collect(member("more", 5, classes=5), data)])
    with pytest.raises(PolicyError, match="joined with itself"):
        ExitTable.join([table, table])
