"""Several networks on a system of tiers: a small one on the phone, a large one that only the cloud has room for."""

from __future__ import annotations

import numpy as np
import pytest

from eesearch.api import search_study
from eesearch.core.errors import CostError, StudyError
from eesearch.costs.profile import load_any_profile
from eesearch.exporters.formats import export
from eesearch.reporting.markdown import markdown_report
from eesearch.study.cascade_problem import ONE, WHOLE
from eesearch.study.materials import load_study_data
from eesearch.study.question import Study
from eesearch.study.run import Run
from eesearch.study.verify import verify_picks

CNN = "eesearch.nets.zoo:residual_cnn"
CPU = "cpu:eager:t1:b1"
RAW = 64.0
MOST_BYTES, MOST_DROP = 0.6 * RAW, 0.1


def chain(**changes):
    tiers = [
        {"name": "phone", "device": CPU, "slowdown": 4, "energy": {"mj_per_ms": 2, "mj_per_byte": 0.001}},
        {"name": "cloud", "device": CPU},
    ]
    links = [{"bandwidth": 5, "round_trip": 50, "bits": [32, 8]}]
    return {"tiers": tiers, "links": links, "boundaries": ["small/stem.2"]} | changes


def local_or_remote(fields, **changes):
    own = {key: value for key, value in fields.items() if key != "backbone"}
    networks = [
        {
            "name": "small",
            "model": CNN,
            "args": {"channels": [2, 4], "in_channels": 1},
            "cuts": {"candidates": ["stem.2"]},
        },
        {"name": "large", "model": CNN, "args": {"channels": [8, 16], "in_channels": 1}, "exits": False},
    ]
    space = own["space"] | {"strategies": ["separate"], "max_exits": 2, "criteria": ["max_prob"], "levels": 8}
    chained = {"devices": ["chain"], "systems": {"chain": chain()}, "backbones": networks, "reference": "large"}
    return own | chained | {"name": "tiers", "space": space} | changes


def tiers_of(policy):
    return [(e.cut.partition("/")[0], e.tier) for e in policy.exits]


@pytest.fixture(scope="module")
def free(tiny_fields, tmp_path_factory):
    return search_study(Study.model_validate(local_or_remote(tiny_fields)), tmp_path_factory.mktemp("runs") / "free")


@pytest.fixture(scope="module")
def limited(tiny_fields, free):
    """The same run, asked again under limits: the large network has no room on the phone, and little may be sent."""
    profiles = [load_any_profile(free.directory.profile_file(f"chain@{name}")) for name in ("small", "large")]
    room = sum(max(profile.first.peak_segment) for profile in profiles) / 2
    phone = {axis: cost.mean for axis, cost in free.device().backbone.cal.costs.items()}  # the large network there
    limits = [
        {"axis": "bytes", "at": "mean", "at_most": MOST_BYTES},
        {"axis": "peak_bytes", "at_most": room},
        {"axis": "energy_mj", "at": "p95", "at_most": 10 * phone["energy_mj"]},
        {"axis": "latency_ms", "at": "worst", "at_most": 200 + 10 * phone["latency_ms"]},
        {"axis": "params", "at_most": 2 * phone["params"]},
    ]
    asked = {"objectives": {"constraints": {"limits": limits, "max_drop": MOST_DROP}}}
    return search_study(Study.model_validate(local_or_remote(tiny_fields, **asked)), free.directory.path)


def test_a_cascade_from_the_phone_to_the_cloud_is_found_and_keeps_all_limits(limited):
    (device,) = limited.answers.devices
    assert not device.broken
    assert not device.skipped
    assert device.points
    limits = limited.directory.study().objectives.constraints.limits
    assert {limit.axis for limit in limits} == {"bytes", "peak_bytes", "energy_mj", "latency_ms", "params"}
    for point in device.points:
        assert all(getattr(point.cal.costs[limit.axis], limit.at) <= limit.at_most for limit in limits)
        assert point.cal.costs["bytes"].mean <= MOST_BYTES
        assert device.backbone.cal.accuracy - point.cal.accuracy <= MOST_DROP
        assert ("large", "phone") not in tiers_of(point.cal.policy)
    walks = {tuple(dict.fromkeys(tiers_of(point.cal.policy))) for point in device.points}
    assert (("small", "phone"), ("large", "cloud")) in walks
    assert device.backbone.cal.costs["bytes"].mean == RAW, "the reference of bytes is every raw sample"


def test_without_limits_the_front_is_nowhere_worse(free, limited):
    (wide,), (narrow,) = free.answers.devices, limited.answers.devices
    assert {e.tier for point in wide.points for e in point.cal.policy.exits} <= {"phone", "cloud"}
    assert {layer.name for layer in wide.layers} == {ONE, WHOLE, "IDK cascade of whole networks"}
    for point in narrow.points:
        assert any(
            p.cal.error <= point.cal.error + 1e-12
            and p.cal.costs["latency_ms"].mean <= point.cal.costs["latency_ms"].mean + 1e-9
            for p in wide.points
        )
    assert list(wide.system) == ["phone", "cloud", "phone to cloud"]
    assert "cloud" in markdown_report(free.answers)


def test_profiles_and_coded_tables_are_kept_by_network(free):
    kept = {file.name for file in (free.directory.path / "profiles").glob("*.json")}
    assert kept == {f"{place}@{name}.json" for place in ("chain", CPU.replace(":", "-")) for name in ("small", "large")}
    small, large = (load_any_profile(free.directory.profile_file(f"chain@{name}")) for name in ("small", "large"))
    assert set(small.coded_bytes) == set(small.carry_bytes) == {"small/stem.2"}
    assert not large.coded_bytes
    assert not large.carry_bytes, "a network without exits crosses as a whole"


def test_the_table_is_the_network(limited, tmp_path):
    run = Run.load(limited.directory.path, trust=True)
    test = load_study_data(run.question()).test
    (device,) = run.answers.devices
    for point in device.points[:: max(1, len(device.points) // 4)]:
        told = run.predict(point, test.x)
        shares = np.bincount(told.exit, minlength=len(point.stops)) / len(test.x)
        assert shares == pytest.approx([stop.share for stop in point.stops])
        assert float((told.answer == test.y).mean()) == pytest.approx(point.test.accuracy)
    written = export(run, "point=0", "torch", tmp_path / "torch", check=64)
    assert (written.checked, written.differing) == (64, 0)


def test_what_is_declared_is_not_verified(limited):
    with pytest.raises(CostError, match="'chain' is a system: its links and slowdowns are declared"):
        verify_picks(limited, [limited.pick("point=0")])


def test_where_a_network_has_no_cut_nothing_is_coded(tiny_fields, tmp_path):
    fields = local_or_remote(tiny_fields, systems={"chain": chain(boundaries=["large/stem.2"])})
    with pytest.raises(
        StudyError, match=r"systems\.chain\.boundaries: the network has no cut 'large/stem.2'; expected none"
    ):
        search_study(Study.model_validate(fields), tmp_path / "coded")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boundaries": ["stem.2"]}, r"systems\.chain\.boundaries: 'stem\.2' names no network; expected NETWORK/CUT"),
    ],
)
def test_what_several_networks_cannot_be_is_refused(tiny_fields, changes, message):
    with pytest.raises(ValueError, match=message):
        Study.model_validate(local_or_remote(tiny_fields, systems={"chain": chain(**changes)}))
