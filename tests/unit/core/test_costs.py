"""Profiles to steps, steps to costs."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from eesearch.core.costs import DeviceProfile, EnergyProfile, LatencyProfile, stage_costs
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.errors import CostError


def exit_at(cut, head="x"):
    return ExitId(network="n", cut=cut, head=OWN if cut == OUTPUT else head)


EXITS = (exit_at("a"), exit_at("a", "y"), exit_at("b"), exit_at(OUTPUT))


@pytest.fixture
def profile():
    return DeviceProfile(
        device="cpu:eager:t1:b1",
        fingerprint={},
        content="",
        cuts=("a", "b"),
        macs_prefix=(100.0, 200.0, 400.0),
        macs_head={"a": {"x": 10.0, "y": 20.0}, "b": {"x": 5.0}},
        latency=LatencyProfile(
            prefix_ms=(1.0, 2.0, 4.0),
            head_ms={"a": {"x": 0.1, "y": 0.2}, "b": {"x": 0.05}},
            decision_ms={"max_prob": 0.01, "entropy": 0.03},
            resume_ms=0.5,
            timings={},
            noise=0.01,
        ),
    )


def test_steps_in_macs(profile):
    costs = stage_costs(profile, EXITS, "max_prob", "macs")
    np.testing.assert_array_equal(
        costs.step,
        [
            [110, 120, 205, 400],
            [inf, inf, 105, 300],
            [inf, inf, 105, 300],
            [inf, inf, inf, 200],
            [inf, inf, inf, inf],
        ],
    )
    assert (costs.axis, costs.backbone, costs.exits) == ("macs", 400.0, EXITS)


def test_steps_in_milliseconds_pay_the_decision_and_the_resumption(profile):
    costs = stage_costs(profile, EXITS, "entropy", "latency_ms")
    assert costs.step[0, 0] == pytest.approx(1.0 + 0.1 + 0.03)
    assert costs.step[1, 2] == pytest.approx(1.0 + 0.5 + 0.05 + 0.03)
    assert costs.step[3, 3] == pytest.approx(2.0 + 0.5 + 0.03)  # the last stop's score is computed too
    assert costs.step[0, 3] == 4.0  # alone, the own classifier decides nothing
    assert costs.backbone == 4.0


def test_cumulative_adds_up_the_active_exits_only(profile):
    costs = stage_costs(profile, EXITS, "max_prob", "macs")
    np.testing.assert_array_equal(costs.cumulative([EXITS[0], EXITS[2], EXITS[3]]), [110, 215, 415])
    np.testing.assert_array_equal(costs.cumulative([EXITS[2], EXITS[3]]), [205, 405])
    np.testing.assert_array_equal(costs.cumulative([EXITS[3]]), [400])


@pytest.mark.parametrize("order", [(2, 0), (0, 1), (3, 2)])
def test_cumulative_refuses_an_order_that_no_sample_meets(profile, order):
    with pytest.raises(CostError, match="cannot meet these exits in this order"):
        stage_costs(profile, EXITS, "max_prob", "macs").cumulative([EXITS[i] for i in order])


def test_select_keeps_the_steps_between_the_chosen(profile):
    costs = stage_costs(profile, EXITS, "max_prob", "macs").select([EXITS[1], EXITS[3]])
    np.testing.assert_array_equal(costs.step, [[120, 400], [inf, 300], [inf, inf]])
    assert (costs.exits, costs.backbone) == ((EXITS[1], EXITS[3]), 400.0)


def test_a_profile_without_latency_has_no_latency_axis(profile):
    macs = profile.model_copy(update={"latency": None, "device": "macs"})
    assert (macs.axis, macs.axes) == ("macs", ("macs",))
    assert (profile.axis, profile.axes) == ("latency_ms", ("latency_ms", "macs"))
    with pytest.raises(CostError, match="the profile of macs has no latency_ms"):
        stage_costs(macs, EXITS, "max_prob", "latency_ms")


@pytest.mark.parametrize(
    ("exits", "criterion", "missing"),
    [
        ((exit_at("c"),), "max_prob", "'c'"),
        ((exit_at("b", "y"),), "max_prob", "'y'"),
        ((exit_at("b"),), "margin", "'margin'"),
    ],
)
def test_what_was_not_measured_is_told_not_taken_for_0(profile, exits, criterion, missing):
    with pytest.raises(CostError, match=f"does not know {missing}.*eesearch profile"):
        stage_costs(profile, exits, criterion, "latency_ms")


def test_survives_json(profile):
    assert DeviceProfile.model_validate_json(profile.model_dump_json()) == profile


def at_batch(profile, batch, factor):
    latency = profile.latency
    scaled = {name: tuple(factor * ms for ms in getattr(latency, name)) for name in ("prefix_ms",)}
    return latency.model_copy(update={**scaled, "batch": batch})


def test_with_batches_a_step_is_a_call_and_its_cost_shared(profile):
    ones, fours = at_batch(profile, 1, 1.0), at_batch(profile, 4, 2.0)
    batched = profile.model_copy(update={"latency": fours, "smaller": (ones,)})
    costs = stage_costs(batched, EXITS, "max_prob", "latency_ms")
    assert (costs.batch, costs.sizes) == (4, (1, 4))
    assert costs.backbone == pytest.approx(8.0 / 4)
    assert costs.step[0, 0] == pytest.approx((2.0 + 0.1 + 0.01) / 4)
    assert costs.calls[0, 0, 0] == pytest.approx(1.0 + 0.1 + 0.01)
    path = (EXITS[0], EXITS[3])
    # everybody goes on: as if the batch were whole
    assert costs.mean(path, np.array([0.0, 1.0])) == pytest.approx(costs.cumulative(path)[-1])
    # half of them: 0 to 4 of 4 go on with odds 1, 4, 6, 4, 1 of 16; calls of 2 and 3 lie between those of 1 and 4
    one, four = 3.0 + 0.5 + 0.01, 6.0 + 0.5 + 0.01
    call = (4 * one + 6 * (2 * one + four) / 3 + 4 * (one + 2 * four) / 3 + four) / 16
    assert costs.mean(path, np.array([0.5, 0.5])) == pytest.approx((2.0 + 0.1 + 0.01 + call) / 4)
    assert stage_costs(batched, EXITS, "max_prob", "macs").calls is None
    chosen = costs.select(path)
    assert chosen.mean(path, np.array([0.5, 0.5])) == pytest.approx(costs.mean(path, np.array([0.5, 0.5])))


def test_peak_memory_is_the_largest_step_of_a_path(profile):
    peaks = {"peak_segment": (50.0, 20.0, 30.0), "peak_head": {"a": {"x": 10.0, "y": 60.0}, "b": {"x": 40.0}}}
    costs = stage_costs(profile.model_copy(update=peaks), EXITS, "max_prob", "peak_bytes")
    assert costs.step[0].tolist() == [50, 60, 50, 50]
    assert costs.step[1].tolist() == [inf, inf, 40, 30]
    assert costs.cumulative((EXITS[1], EXITS[2], EXITS[3])).tolist() == [60, 60, 60]
    assert costs.cumulative((EXITS[0], EXITS[2])).tolist() == [50, 50]
    assert costs.backbone == 50


def test_axes_are_those_that_are_known(profile):
    assert profile.axes == ("latency_ms", "macs")
    with pytest.raises(CostError, match="has no energy_mj"):
        stage_costs(profile, EXITS, "max_prob", "energy_mj")
    energy = EnergyProfile(prefix_mj=(1.0, 2.0, 3.0), head_mj={"a": {"x": 0.5, "y": 1}, "b": {"x": 1}},
                           decision_mj={"max_prob": 0.25}, resume_mj=0.0)  # fmt: skip
    known = profile.model_copy(update={"energy": energy, "peak_segment": (1.0, 1.0, 1.0)})
    assert known.axes == ("latency_ms", "macs", "peak_bytes", "energy_mj")
    assert stage_costs(known, EXITS[:1], "max_prob", "energy_mj").step[0, 0] == 1.75
