"""Systems: steps between exits on tiers."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from pydantic import ValidationError

from eesearch.core.costs import DeviceProfile, LatencyProfile, stage_costs
from eesearch.core.design import NOTHING, OUTPUT, OWN, ExitId
from eesearch.core.errors import CostError
from eesearch.core.systems import Energy, Link, SystemProfile, Tier


def profile(device="cpu:eager:t1:b1", scale=1.0, timed=True):
    return DeviceProfile(
        device=device,
        fingerprint={},
        content="c",
        cuts=("a", "b"),
        macs_prefix=(100.0, 200.0, 400.0),
        macs_head={"a": {"x": 10.0}, "b": {"x": 5.0}},
        params_prefix=(1.0, 2.0, 4.0),
        params_head={"a": {"x": 0.5}, "b": {"x": 0.5}},
        latency=LatencyProfile(
            prefix_ms=(1.0 * scale, 2.0 * scale, 4.0 * scale),
            head_ms={"a": {"x": 0.1 * scale}, "b": {"x": 0.05 * scale}},
            decision_ms={"max_prob": 0.01 * scale},
            resume_ms=0.5 * scale,
            timings={},
            noise=0.01 * scale,
        )
        if timed
        else None,
    )


def system(**changes):
    fields = {
        "device": "chain",
        "axis": "latency_ms",
        "fingerprint": {},
        "content": "c",
        "tiers": (
            Tier(name="phone", slowdown=20.0, profile=profile()),
            Tier(name="edge", slowdown=4.0, profile=profile(scale=2.0)),
            Tier(name="cloud", profile=profile()),
        ),
        "links": (
            Link(bandwidth=8.0, round_trip=3.0, bits=(32, 8)),
            Link(bandwidth=80.0, round_trip=7.0),
        ),
        "raw_bytes": 1000.0,
        "carry_bytes": {"a": 400.0, "b": 40.0},
        "coded_bytes": {"a": 108.0},
    }
    return SystemProfile(**{**fields, **changes})


def exit_at(cut, tier="", link="", head="x"):
    return ExitId(network="n", cut=cut, head=OWN if cut == OUTPUT else head, tier=tier, link=link)


def step(costs, start, end):
    return costs.step[0 if start is None else costs.exits.index(start) + 1, costs.exits.index(end)]


A, B, END = exit_at("a"), exit_at("b"), exit_at(OUTPUT)


def test_without_tiers_everything_runs_on_the_first():
    found = stage_costs(system(), (A, B, END), "max_prob", "latency_ms")
    alone = stage_costs(profile(), (A, B, END), "max_prob", "latency_ms")
    np.testing.assert_allclose(found.step, 20.0 * alone.step)
    assert found.backbone == pytest.approx(80.0)


def test_a_step_to_a_later_tier_pays_the_links_and_that_tier():
    exits = (A, exit_at("b", "edge"), exit_at(OUTPUT, "cloud"), exit_at(OUTPUT, "edge"))
    costs = stage_costs(system(), exits, "max_prob", "latency_ms")
    # 400 bytes at 8 Mbit/s are 0.4 ms; edge: slowdown 4 of a profile that is twice as slow
    assert step(costs, A, exits[1]) == pytest.approx(3.0 + 0.4 + 8 * (1.0 + 0.5 + 0.05 + 0.01))
    assert step(costs, A, exits[2]) == pytest.approx(3.0 + 0.4 + 7.0 + 0.04 + (3.0 + 0.5 + 0.01))
    assert step(costs, None, exits[2]) == pytest.approx(3.0 + 1.0 + 7.0 + 0.1 + 4.0)  # the raw sample; alone
    assert step(costs, exits[1], exits[2]) == pytest.approx(7.0 + 0.004 + 2.0 + 0.5 + 0.01)
    assert step(costs, exits[2], exits[3]) == inf


def test_never_back_to_an_earlier_tier_or_cut():
    exits = (exit_at("a", "edge"), exit_at("b", "phone"), exit_at("a", "cloud"))
    for axis in system().axes:
        costs = stage_costs(system(), exits, "max_prob", axis)
        assert step(costs, exits[0], exits[1]) == inf
        assert step(costs, exits[0], exits[2]) == inf


def test_bytes_count_each_link_that_is_crossed():
    exits = (A, exit_at("b", "edge"), exit_at(OUTPUT, "cloud"), exit_at(OUTPUT, "phone"))
    costs = stage_costs(system(), exits, "max_prob", "bytes")
    assert step(costs, A, exits[1]) == 400.0
    assert step(costs, A, exits[2]) == 800.0
    assert step(costs, None, exits[2]) == 2000.0
    assert step(costs, exits[1], exits[2]) == 40.0
    assert step(costs, A, exits[3]) == 0.0
    assert costs.backbone == 2000.0  # every raw sample to the last tier


def test_energy_is_that_of_the_first_tier():
    tiers = system().tiers
    phone = tiers[0].model_copy(update={"energy": Energy(mj_per_ms=2.0, mj_per_byte=0.01)})
    found = system(tiers=(phone, *tiers[1:]))
    exits = (A, exit_at("b", "edge"), exit_at(OUTPUT, "cloud"))
    costs = stage_costs(found, exits, "max_prob", "energy_mj")
    assert step(costs, None, A) == pytest.approx(2.0 * 20 * 1.11)
    assert step(costs, A, exits[1]) == pytest.approx(4.0)
    assert step(costs, exits[1], exits[2]) == 0.0
    assert costs.backbone == pytest.approx(160.0)
    assert "energy_mj" not in system().axes
    with pytest.raises(CostError, match="the profile of chain has no energy_mj"):
        stage_costs(system(), exits, "max_prob", "energy_mj")


def test_who_says_nothing_costs_nothing_beside_the_way():
    silent = exit_at("a", "phone", head=NOTHING)
    costs = stage_costs(system(), (silent, exit_at(OUTPUT, "edge")), "max_prob", "latency_ms")
    assert step(costs, None, silent) == pytest.approx(20.0)


def test_a_coded_carry_comes_from_its_cut_and_stays_behind_it():
    coded = exit_at("b", "edge", "8bit@a")
    later, plain = exit_at(OUTPUT, "cloud", "8bit@a"), exit_at(OUTPUT, "cloud")
    other = exit_at("b", "phone")
    exits = (A, other, coded, later, plain)
    costs = stage_costs(system(), exits, "max_prob", "bytes")
    assert step(costs, A, coded) == 108.0
    assert step(costs, coded, later) == 40.0  # sent on as it is
    assert step(costs, coded, plain) == inf
    assert step(costs, None, coded) == step(costs, other, later) == inf
    assert step(costs, A, later) == inf  # the second link does not code
    ms = stage_costs(system(), exits, "max_prob", "latency_ms")
    assert step(ms, A, coded) == pytest.approx(3.0 + 0.108 + 8 * (1.0 + 0.5 + 0.05 + 0.01))


def test_a_link_that_only_codes_takes_nothing_else():
    links = (Link(bandwidth=8.0, round_trip=3.0, bits=(8,)), system().links[1])
    exits = (A, exit_at("b", "edge"), exit_at("b", "edge", "8bit@a"))
    costs = stage_costs(system(links=links), exits, "max_prob", "bytes")
    assert step(costs, A, exits[1]) == step(costs, None, exits[1]) == inf
    assert step(costs, A, exits[2]) == 108.0


def test_macs_and_parameters_are_the_same_on_every_tier():
    exits = (A, exit_at(OUTPUT, "cloud"))
    for axis, expected in (("macs", 300.0), ("params", 3.0)):
        assert step(stage_costs(system(), exits, "max_prob", axis), A, exits[1]) == expected


def test_what_is_known():
    found = system()
    assert found.axes == ("latency_ms", "bytes", "macs", "params")
    assert found.latency.noise == 0.02
    untimed = Tier(name="cloud", profile=profile("macs", timed=False))
    assert system(tiers=(*found.tiers[:2], untimed), axis="bytes").axes == ("bytes", "macs", "params")
    with pytest.raises(CostError, match="has no tier 'moon'"):
        stage_costs(found, (exit_at("a", "moon"),), "max_prob", "bytes")
    with pytest.raises(CostError, match="does not know 'z'"):
        stage_costs(found, (exit_at("z"),), "max_prob", "bytes")
    with pytest.raises(ValidationError, match="do not make a row"):
        system(links=found.links[:1])
    with pytest.raises(ValidationError, match="axis energy_mj is not known"):
        system(axis="energy_mj")


def test_round_trips_as_json():
    found = system()
    assert SystemProfile.model_validate_json(found.model_dump_json()) == found


def cameras(**changes):
    """Two devices in front, each with a view, which a cut `a` has and a cut `b` has not."""
    phone, edge, cloud = system().tiers
    first = phone.model_copy(update={"devices": 2, "slowdown": 1.0, "energy": Energy(mj_per_ms=1.0, mj_per_byte=0.01)})
    fields = {"tiers": (first, edge, cloud), "gathered_bytes": {"a": {"x": 24.0}}, "coded_bytes": {}}
    return system(**(fields | changes))


NONE_A = exit_at("a", head=NOTHING)


def test_devices_that_share_views_send_what_is_joined():
    behind, cloud = exit_at("b", "edge"), exit_at(OUTPUT, "cloud")
    costs = stage_costs(cameras(), (A, NONE_A, B, END, behind, cloud), "max_prob", "bytes")
    assert step(costs, None, A) == 24.0  # class scores
    assert step(costs, None, NONE_A) == 0.0
    assert step(costs, None, B) == step(costs, None, END) == 400.0  # the views' carry to what joins it
    assert step(costs, A, B) == step(costs, NONE_A, END) == 400.0
    assert step(costs, B, END) == 0.0, "joined already"
    assert step(costs, A, behind) == 400.0, "over the link instead"
    assert step(costs, B, cloud) == 80.0
    assert step(costs, None, cloud) == costs.backbone == 2000.0


def test_devices_leave_what_is_joined_to_later_tiers():
    assert [cameras().on_first(e) for e in (A, NONE_A, B, END)] == [True, True, False, False]
    assert all(system().on_first(e) for e in (A, B, END))


def test_where_no_cut_has_views_they_are_joined_raw():
    found = cameras(gathered_bytes={})
    costs = stage_costs(found, (A, END), "max_prob", "bytes")
    assert step(costs, None, A) == step(costs, None, END) == 1000.0
    assert step(costs, A, END) == 0.0


def test_devices_that_share_views_work_side_by_side():
    ms = stage_costs(cameras(), (A, B, END), "max_prob", "latency_ms")
    assert step(ms, None, A) == pytest.approx(1.0 / 2 + 0.1 + 0.01)
    assert step(ms, None, B) == pytest.approx(2.0 - 1.0 / 2 + 0.05 + 0.01)
    assert ms.backbone == pytest.approx(4.0 - 1.0 / 2)
    mj = stage_costs(cameras(), (A, B), "max_prob", "energy_mj")  # all of them pay, and for what they send
    assert step(mj, None, A) == pytest.approx(1.11 + 0.24)
    assert step(mj, A, B) == pytest.approx(1.0 + 0.5 + 0.05 + 0.01 + 4.0)


def test_an_exit_of_which_nobody_knows_what_is_sent_is_refused():
    with pytest.raises(CostError, match="does not know 'x' at 'a'"):
        stage_costs(cameras(gathered_bytes={"a": {"y": 24.0}}), (A,), "max_prob", "bytes")
    with pytest.raises(ValidationError, match="which is no cut"):
        cameras(gathered_bytes={"c": {"x": 24.0}})
