"""A policy on three tiers, in processes of their own: bytes, answers, and who waits longer."""

from __future__ import annotations

from math import inf

import numpy as np
import psutil
import pytest
import torch

from eesearch.core.cascades import CascadeProfile
from eesearch.core.costs import LatencyProfile, stage_costs
from eesearch.core.design import NOTHING, ExitId, HeadSpec
from eesearch.core.errors import PolicyError
from eesearch.core.policy import Policy, Stop
from eesearch.core.systems import Link, SystemProfile, Tier
from eesearch.costs.profile import profile
from eesearch.exits.evaluate import replay
from eesearch.exits.tiers import tiered, tiered_networks
from eesearch.nets.cascade import CascadeNet
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.heads import build_head
from eesearch.nets.links import carry_at, carry_bytes
from eesearch.nets.split import split
from eesearch.nets.zoo import residual_cnn
from eesearch.study import loopback
from eesearch.study.loopback import Loopback, parts_of
from eesearch.study.tier_server import connect
from eesearch.study.wire import HEADER
from eesearch.training.collect import collect
from eesearch.training.data import Split

BOUNDARY = "stages.0.0"


def net_of(seed, channels=(4, 8, 8), name=""):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        cuts = ["stem.2", BOUNDARY, "stages.1.0"]
        backbone = split(residual_cnn(channels=channels, classes=3), torch.randn(2, 1, 8, 8)).keep(cuts)
        backbone = backbone.named(name) if name else backbone
        stem, _, late = backbone.cuts
        heads = {(cut.name, "linear-avg1"): build_head(HeadSpec(), cut.shape, 3) for cut in (stem, late)}
    return ExitNet(backbone, heads).eval()


@pytest.fixture(scope="module")
def net():
    return net_of(0)


@pytest.fixture(scope="module")
def system(net):
    return system_of(net)


def system_of(net):
    """Links that are slow enough to be felt; what the tiers take beside them is made up, and next to nothing."""
    backbone = net.backbone
    stem, coding, late = (cut.name for cut in backbone.cuts)
    counted = profile(backbone, {cut: [HeadSpec()] for cut in (stem, late)}, "macs", decisions=["max_prob"])
    made_up = LatencyProfile(
        prefix_ms=(0.1, 0.2, 0.3, 0.4), head_ms={cut: {"linear-avg1": 0.01} for cut in (stem, late)},
        decision_ms={"max_prob": 0.01}, resume_ms=0.01, timings={}, noise=0.02,
    )  # fmt: skip
    counted = counted.model_copy(update={"latency": made_up})
    carries = {cut.name: carry_at(backbone, cut.name) for cut in backbone.cuts}
    return SystemProfile(
        device="chain",
        axis="bytes",
        fingerprint={},
        content="",
        tiers=tuple(Tier(name=name, profile=counted) for name in ("phone", "edge", "cloud")),
        links=(Link(bandwidth=10, round_trip=30, bits=(32, 8)), Link(bandwidth=10, round_trip=60)),
        raw_bytes=carry_bytes((backbone.example,)),
        carry_bytes={cut: carry_bytes(carry) for cut, carry in carries.items()},
        coded_bytes={coding: carry_bytes(carries[coding], coded=True)},
    )


@pytest.fixture(scope="module")
def data():
    x = torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(2)).numpy()
    return Split("test", x, np.zeros(60, np.int64))


@pytest.fixture(scope="module")
def table(net, system, data):
    return tiered(collect(net, data), system, [collect(net.behind(BOUNDARY), data)])


def policy_of(table, net, *stops):
    """Stops `(cut, head, tier, link, share of the samples that leaves there)`."""
    made = []
    for cut, head, tier, link, leaving in stops:
        member = net if isinstance(net, ExitNet) else net.member(cut.partition("/")[0])
        exit_id = ExitId(network=member.network, cut=cut, head=head, tier=tier, link=link)
        threshold = {0.0: inf, 1.0: -inf}.get(leaving)
        if threshold is None:
            logits = table.logits[table.row(exit_id)].astype(np.float64)
            scores = np.sort((np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).max(-1))
            place = round((1.0 - leaving) * len(scores))
            threshold = float(scores[place - 1 : place + 1].mean())
        made.append(Stop(exit=exit_id, threshold=threshold))
    return Policy(stops=tuple(made), criterion="max_prob")


LINK = f"8bit@{BOUNDARY}"
PLAIN = (
    ("stem.2", "linear-avg1", "phone", "", 0.4),
    ("stages.1.0", "linear-avg1", "edge", "", 0.6),
    ("output", "own", "cloud", "", 1.0),
)
CODED = (
    ("stem.2", "linear-avg1", "phone", "", 0.4),
    (BOUNDARY, NOTHING, "phone", "", 0.0),
    ("stages.1.0", "linear-avg1", "edge", LINK, 0.6),
    ("output", "own", "cloud", LINK, 1.0),
)
PASSING = (("stem.2", "linear-avg1", "phone", "", 0.5), ("output", "own", "cloud", "", 1.0))


@pytest.mark.parametrize("stops", [PLAIN, CODED, PASSING], ids=["plain", "coded", "passing the edge by"])
def test_what_the_profile_says_is_what_happens(net, system, data, table, stops):
    policy = policy_of(table, net, *stops)
    with Loopback(net, policy, (), system) as running:
        running.predict(data.x[:2])  # the first calls start threads and caches
        walks = running.predict(data.x)
    alone = [net.predict(data.x[i : i + 1], policy) for i in range(len(data.x))]
    np.testing.assert_array_equal(walks.answer, [found.answer[0] for found in alone])
    np.testing.assert_array_equal(walks.exit, [found.exit[0] for found in alone])
    np.testing.assert_array_equal(walks.score, [found.score[0] for found in alone])
    stop, answer = replay(policy, table)
    np.testing.assert_array_equal(walks.exit, stop)
    np.testing.assert_array_equal(walks.answer, answer)
    paid = stage_costs(system, table.exits, "max_prob", "bytes").cumulative(policy.exits)
    np.testing.assert_array_equal(walks.payload, paid[walks.exit])
    crossed = np.array([system.tier(e) for e in policy.exits])[walks.exit]
    np.testing.assert_array_equal(walks.framing, HEADER.size * crossed)
    predicted = stage_costs(system, table.exits, "max_prob", "latency_ms").cumulative(policy.exits)[walks.exit]
    met = sorted(set(crossed.tolist()))
    means, medians = ([float(stat(ms[crossed == tier])) for tier in met]
                      for stat, ms in ((np.mean, predicted), (np.median, walks.ms)))  # fmt: skip
    assert len(met) > 1
    assert np.argsort(medians).tolist() == np.argsort(means).tolist(), (means, medians)


SEVERAL = {
    "local, then remote": (
        ("small/stem.2", "linear-avg1", "phone", "", 0.3),
        ("small/output", "own", "phone", "", 0.5),
        ("large/output", "own", "cloud", "", 1.0),
    ),
    "both cross": (
        ("small/stem.2", "linear-avg1", "phone", "", 0.3),
        ("small/stages.1.0", "linear-avg1", "edge", "", 0.5),
        (f"large/{BOUNDARY}", NOTHING, "edge", "", 0.0),
        ("large/stages.1.0", "linear-avg1", "cloud", "", 0.5),
        ("large/output", "own", "cloud", "", 1.0),
    ),
    "coded": (
        ("small/stem.2", "linear-avg1", "phone", "", 0.4),
        (f"large/{BOUNDARY}", NOTHING, "phone", "", 0.0),
        ("large/stages.1.0", "linear-avg1", "edge", f"8bit@large/{BOUNDARY}", 0.5),
        ("large/output", "own", "edge", f"8bit@large/{BOUNDARY}", 1.0),
    ),
}


@pytest.mark.parametrize("stops", SEVERAL.values(), ids=SEVERAL)
def test_several_networks_run_on_tiers_and_send_what_is_told(data, stops):
    """Whoever a network is not sure about is sent again, from the first tier: as the profile tells it."""
    nets = {"small": net_of(1, name="small"), "large": net_of(2, (8, 8, 16), name="large")}
    systems = {name: system_of(net) for name, net in nets.items()}
    both = CascadeNet(nets, "large")
    chained = CascadeProfile(device="chain", fingerprint={}, content="", members=systems, reference="large")
    table = tiered_networks(collect(both, data), systems, [collect(both.behind(f"large/{BOUNDARY}"), data)])
    policy = policy_of(table, both, *stops)
    with Loopback(both, policy, (), systems["large"]) as running:
        walks = running.predict(data.x)
    alone = [both.predict(data.x[i : i + 1], policy) for i in range(len(data.x))]
    np.testing.assert_array_equal(walks.answer, [found.answer[0] for found in alone])
    np.testing.assert_array_equal(walks.score, [found.score[0] for found in alone])
    stop, answer = replay(policy, table)
    np.testing.assert_array_equal(walks.exit, stop)
    np.testing.assert_array_equal(walks.answer, answer)
    assert set(stop) == {k for k, each in enumerate(stops) if each[1] != NOTHING}
    paid = stage_costs(chained, table.exits, "max_prob", "bytes").cumulative(policy.exits)
    np.testing.assert_array_equal(walks.payload, paid[walks.exit])


def test_a_policy_on_one_tier_needs_no_process(net, system, data, table):
    policy = policy_of(table, net, PLAIN[0], ("output", "own", "phone", "", 1.0))
    with Loopback(net, policy, (), system) as running:
        walks = running.predict(data.x[:5])
    assert not walks.payload.any()
    np.testing.assert_array_equal(walks.answer, net.predict(data.x[:5], policy).answer)


def test_tiers_listen_on_this_machine_alone_and_let_in_who_knows_the_token(net, system, data, table):
    policy = policy_of(table, net, *PLAIN)
    with Loopback(net, policy, (), system):
        tiers = psutil.Process().children(recursive=True)
        places = [each.laddr for tier in tiers for each in tier.net_connections(kind="inet")]
    assert places
    assert {place.ip for place in places} == {"127.0.0.1"}
    last = parts_of(net, policy, (), system)[-1]
    with loopback._tier(last, None, b"t" * 16) as port:
        line = connect(port, b"x" * 16)
        assert line.recv(1) == b"", "hung up"
        line.close()


def test_who_decides_by_several_exits_stays_at_home(net, system, table):
    policy = policy_of(table, net, *PLAIN).model_copy(update={"criterion": "patience"})
    with pytest.raises(PolicyError, match="only a carry crosses a link"):
        parts_of(net, policy, (), system)


def test_several_devices_are_no_one_process(net, system, table):
    first = system.tiers[0].model_copy(update={"devices": 3})
    several = system.model_copy(update={"tiers": (first, *system.tiers[1:])})
    with pytest.raises(PolicyError, match="a tier is one process; got 3 devices on 'phone'"):
        parts_of(net, policy_of(table, net, *PLAIN), (), several)
