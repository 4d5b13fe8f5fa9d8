"""Costs of several networks in a row, written down by hand."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from eesearch.core.cascades import CascadeProfile, member_of
from eesearch.core.costs import DeviceProfile, LatencyProfile, stage_costs
from eesearch.core.design import OWN, ExitId
from eesearch.core.errors import CostError


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
