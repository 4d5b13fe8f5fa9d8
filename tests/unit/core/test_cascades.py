"""Costs of several networks in a row, written down by hand."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from eesearch.core.cascades import CascadeProfile, member_of, systems_of
from eesearch.core.costs import DeviceProfile, LatencyProfile, stage_costs
from eesearch.core.design import NOTHING, OWN, ExitId
from eesearch.core.errors import CostError
from eesearch.core.systems import Energy, Link, SystemProfile, Tier


def latency(cut, scale, batch=1):
    return LatencyProfile(
        prefix_ms=(1.0 * scale, 3.0 * scale), head_ms={cut: {"h": 0.5}}, decision_ms={"max_prob": 0.25},
        resume_ms=0.125 * scale, timings={}, noise=0.01 * scale, batch=batch,
    )  # fmt: skip


def profile(name, scale, *, batches=(1,)):
    cut = f"{name}/1"
    *smaller, timed = [latency(cut, scale * (1 + batch) / 2, batch) for batch in batches]
    return DeviceProfile(
        device="cpu:eager:t1:b1", fingerprint={}, content=name, cuts=(cut,), macs_prefix=(10.0 * scale, 30.0 * scale),
        macs_head={cut: {"h": 5.0}}, params_prefix=(1.0 * scale, 2.0 * scale), params_head={cut: {"h": 7.0}},
        peak_segment=(100.0 * scale, 50.0 * scale), peak_head={cut: {"h": 60.0}}, latency=timed, smaller=tuple(smaller),
    )  # fmt: skip


def pair(**fields):
    members = {"a": profile("a", 1.0), "b": profile("b", 2.0)}
    made = {"device": "d", "fingerprint": {}, "content": "", "members": members, "reference": "b"}
    return CascadeProfile(**made | fields)


def exit_of(name, cut, head="h"):
    return ExitId(network=f"key of {name}", cut=f"{name}/{cut}", head=head)


A1, A, B1, B = exit_of("a", "1"), exit_of("a", "output", OWN), exit_of("b", "1"), exit_of("b", "output", OWN)


def test_what_was_paid_stays_paid():
    costs = stage_costs(pair(), [A1, A, B1, B], "max_prob", "macs")
    assert costs.backbone == 60.0
    assert costs.cumulative([A1, B1, B]).tolist() == [15.0, 15.0 + 25.0, 15.0 + 25.0 + 40.0]
    assert costs.cumulative([A, B]).tolist() == [30.0, 90.0]
    assert costs.cumulative([B1, A]).tolist() == [25.0, 55.0], "networks may stand in any order"
    for wrong in ([B, B1], [A, A1]):
        with pytest.raises(CostError, match="in this order"):
            costs.cumulative(wrong)


def test_changing_networks_pays_resumption_and_decisions():
    costs = stage_costs(pair(), [A1, A, B1, B], "max_prob", "latency_ms")
    assert costs.cumulative([B]).tolist() == [6.0], "alone it decides nothing"
    assert costs.cumulative([A, B]).tolist() == [3.0, 3.0 + 0.25 + 6.0 + 0.25 + 0.25]
    assert costs.cumulative([A1, B1]).tolist() == [1.0 + 0.5 + 0.25, 1.75 + 2.0 + 0.25 + 0.5 + 0.25]


def test_parameters_add_up_and_memory_does_not():
    params = stage_costs(pair(), [A1, A, B1, B], "max_prob", "params")
    assert params.cumulative([A1, B]).tolist() == [8.0, 12.0]
    peak = stage_costs(pair(), [A1, A, B1, B], "max_prob", "peak_bytes")
    assert peak.cumulative([A1, B1, B]).tolist() == [100.0, 200.0, 200.0]


def test_batches_share_calls():
    members = {"a": profile("a", 1.0, batches=(1, 2, 4)), "b": profile("b", 2.0, batches=(1, 2, 4))}
    costs = stage_costs(pair(members=members), [A, B], "max_prob", "latency_ms")
    assert costs.sizes == (1, 2, 4)
    scale = np.array([1.0, 1.5, 2.5])
    np.testing.assert_allclose(costs.calls[:, 0, 0], 3.0 * scale)
    np.testing.assert_allclose(costs.calls[:, 1, 1], 6.0 * scale + 0.25 * scale + 0.5)
    np.testing.assert_allclose(costs.step, costs.calls[-1] / 4)


def test_profiles_that_do_not_go_together_are_refused():
    with pytest.raises(ValidationError, match="no network 'c'"):
        pair(reference="c")
    with pytest.raises(ValidationError, match="does not bear the name of its network 'b'"):
        pair(members={"b": profile("a", 1.0)})
    with pytest.raises(ValidationError, match="batches of different sizes"):
        pair(members={"a": profile("a", 1.0, batches=(1, 2)), "b": profile("b", 2.0)})
    with pytest.raises(ValidationError, match="a: 1, 2, 4; b: 1, 4"):
        pair(members={"a": profile("a", 1.0, batches=(1, 2, 4)), "b": profile("b", 2.0, batches=(1, 4))})
    with pytest.raises(ValidationError, match="a: none; b: 1"):
        pair(members={"a": profile("a", 1.0).model_copy(update={"latency": None}), "b": profile("b", 2.0)})
    with pytest.raises(CostError, match="has no bytes"):
        pair().steps([A], "max_prob", "bytes")
    with pytest.raises(CostError, match="does not know"):
        pair().steps([exit_of("c", "1")], "max_prob", "macs")


def test_it_speaks_for_its_reference_and_of_all():
    found = pair()
    assert (found.axis, found.cuts, found.macs_prefix) == ("latency_ms", ("b/1",), (20.0, 60.0))
    assert set(found.macs_head) == {"a/1", "b/1"}
    assert found.latency.noise == 0.02
    assert member_of(A1) == "a"
    assert CascadeProfile.model_validate_json(found.model_dump_json()) == found


def system(name, scale, **changes):
    """A phone that is ten times as slow as a cloud; a byte takes a microsecond between them."""
    own, fields = profile(name, scale), {"device": "chain", "axis": "latency_ms", "fingerprint": {}, "content": name}
    fields["tiers"] = (
        Tier(name="phone", slowdown=10.0, energy=Energy(mj_per_ms=2.0, mj_per_byte=0.01), profile=own),
        Tier(name="cloud", profile=own),
    )
    fields |= {
        "links": (Link(bandwidth=8.0, round_trip=3.0),),
        "raw_bytes": 1000.0,
        "carry_bytes": {f"{name}/1": 400.0},
    }
    return SystemProfile(**fields | changes)


def chained(**changes):
    return pair(members={"a": system("a", 1.0, **changes), "b": system("b", 2.0, **changes)})


def on(exit_id, tier):
    return exit_id.model_copy(update={"tier": tier})


LOCAL, REMOTE = [on(e, "phone") for e in (A1, A, B1, B)], [on(e, "cloud") for e in (A1, A, B1, B)]


def step_between(axis, before, after):
    costs = stage_costs(chained(), [*LOCAL, *REMOTE], "max_prob", axis)
    return costs.step[costs.exits.index(before) + 1, costs.exits.index(after)]


def test_local_or_remote():
    a, b = on(A, "phone"), on(B, "cloud")
    ms = step_between("latency_ms", a, b)
    assert ms == pytest.approx((3.0 + 1.0) + 6.0 + 10 * (0.25 + 0.25) + 0.25), (
        "link, b, resumption and score, b's score"
    )
    assert step_between("bytes", a, b) == 1000.0
    assert step_between("bytes", a, on(B, "phone")) == 0.0
    assert step_between("energy_mj", a, b) == pytest.approx(1000 * 0.01 + 2.0 * 10 * (0.25 + 0.25))
    assert step_between("energy_mj", on(A, "cloud"), b) == pytest.approx(10.0), "the sample is sent again"
    assert step_between("peak_bytes", a, b) == 0.0, "memory is short on the first tier"
    assert step_between("macs", a, b) == 60.0
    assert step_between("params", a, b) == 4.0


def test_never_back_to_an_earlier_tier():
    for axis in chained().axes:
        assert step_between(axis, on(A, "cloud"), on(B, "phone")) == np.inf
        assert step_between(axis, on(A, "cloud"), on(B, "cloud")) < np.inf


def test_where_the_sample_lies_already_it_is_sent_again():
    found = step_between("latency_ms", on(A1, "cloud"), on(B1, "cloud"))
    assert found == pytest.approx((3.0 + 1.0) + 2.0 + 0.25 + 0.5 + 0.25)


@pytest.mark.parametrize("axis", ["latency_ms", "energy_mj", "macs", "params", "peak_bytes"])
def test_on_the_first_tier_it_is_the_cascade_of_a_device(axis):
    measured = "latency_ms" if axis == "energy_mj" else axis
    scale = {"latency_ms": 10.0, "energy_mj": 20.0}.get(axis, 1.0)
    alone = stage_costs(pair(), [A1, A, B1, B], "max_prob", measured)
    found = stage_costs(chained(), LOCAL, "max_prob", axis)
    np.testing.assert_allclose(found.step, scale * alone.step)
    assert found.backbone == pytest.approx(scale * alone.backbone)
    assert stage_costs(chained(), [on(A, "cloud")], "max_prob", axis).backbone == found.backbone


def test_within_a_network_it_is_the_system_of_that_network():
    exits = [on(B1, "phone"), on(B, "phone"), on(B, "cloud")]
    for axis in chained().axes:
        alone, found = (stage_costs(each, exits, "max_prob", axis).step for each in (system("b", 2.0), chained()))
        np.testing.assert_array_equal(found, alone)


def test_whoever_was_asked_nothing_does_not_change_networks():
    silent = ExitId(network="key of a", cut="a/1", head=NOTHING, tier="phone")
    costs = stage_costs(chained(), [silent, *LOCAL, *REMOTE], "max_prob", "bytes")
    reached = {costs.exits[j] for j in np.flatnonzero(np.isfinite(costs.step[1]))}
    assert reached == {on(A, "phone"), on(A, "cloud")}


def test_a_cascade_on_tiers_is_read_again_and_mistakes_in_it_are_told():
    found = chained()
    assert (found.axis, found.batch, found.latency.noise) == ("latency_ms", 1, 0.02)
    assert found.axes == ("latency_ms", "bytes", "energy_mj", "macs", "params", "peak_bytes")
    assert systems_of(found) == found.systems
    assert systems_of(system("b", 2.0)).keys() == {""}
    assert systems_of(pair()) == systems_of(profile("a", 1.0)) == {}
    assert CascadeProfile.model_validate_json(found.model_dump_json()) == found
    broken = found.model_dump(mode="json")
    del broken["members"]["b"]["tiers"][1]["profile"]["macs_prefix"]
    with pytest.raises(
        ValidationError, match=r"(?s)^1 validation error.*members\.b\.system\.tiers\.1\.profile\.macs_prefix"
    ):
        CascadeProfile.model_validate(broken)
    with pytest.raises(ValidationError, match="some networks were measured on a device, others on a system"):
        pair(members={"a": profile("a", 1.0), "b": system("b", 2.0)})
    other = system("b", 2.0, links=(Link(bandwidth=9.0, round_trip=3.0),))
    with pytest.raises(ValidationError, match="on systems with different tiers, links or axes"):
        pair(members={"a": system("a", 1.0), "b": other})
    with pytest.raises(CostError, match="has no tier 'moon'"):
        stage_costs(found, [on(A, "moon")], "max_prob", "bytes")
    with pytest.raises(CostError, match="does not know 'c'"):
        stage_costs(found, [exit_of("c", "1")], "max_prob", "bytes")
