"""Exits on tiers: tables, and what the solver makes of them."""

from __future__ import annotations

from itertools import combinations, product
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eesearch.core.costs import DeviceProfile, LatencyProfile, stage_costs
from eesearch.core.design import ASK, NOTHING, OUTPUT, OWN, ExitId
from eesearch.core.errors import PolicyError
from eesearch.core.policy import Fit, Policy, Scoring, Stop
from eesearch.core.systems import Link, SystemProfile, Tier
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import evaluate
from eesearch.exits.routing import path_outputs
from eesearch.exits.tiers import tiered, with_places
from eesearch.solve.exact import solve_front
from eesearch.solve.family import Effort, Family
from eesearch.solve.levels import threshold_levels

EXITS = (
    ExitId(network="n", cut="a", head="x"),
    ExitId(network="n", cut="b", head="x"),
    ExitId(network="n", cut=OUTPUT, head=OWN),
)


def table_of(rng, samples, exits=EXITS):
    logits = rng.integers(-2, 3, (len(exits), samples, 3)).astype(np.float32)
    return ExitTable(logits, rng.integers(0, 3, samples), exits, "cal", "s")


def system_of(rng, tiers):
    def profile():
        return DeviceProfile(
            device="d",
            fingerprint={},
            content="c",
            cuts=("a", "b"),
            macs_prefix=(1.0, 2.0, 4.0),
            macs_head={"a": {"x": 0.0}, "b": {"x": 0.0}},
            latency=LatencyProfile(
                prefix_ms=tuple(np.cumsum(rng.integers(1, 9, 3)).astype(float)),
                head_ms={"a": {"x": float(rng.integers(0, 3))}, "b": {"x": float(rng.integers(0, 3))}},
                decision_ms={"max_prob": 0.0},
                resume_ms=float(rng.integers(0, 2)),
                timings={},
                noise=0.0,
            ),
        )

    return SystemProfile(
        device="chain",
        axis="latency_ms",
        fingerprint={},
        content="c",
        tiers=tuple(Tier(name=f"t{i}", slowdown=float(4 ** (tiers - 1 - i)), profile=profile()) for i in range(tiers)),
        links=tuple(
            Link(bandwidth=0.008, round_trip=float(rng.integers(0, 4)), bits=(32, 8)) for _ in range(tiers - 1)
        ),
        raw_bytes=float(rng.integers(0, 60)),
        carry_bytes={"a": float(rng.integers(0, 40)), "b": float(rng.integers(0, 8))},
        coded_bytes={"a": float(rng.integers(0, 10))},
    )


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_every_exit_stands_once_per_tier(rng):
    table, system = table_of(rng, 4), system_of(rng, 2)
    found = tiered(table, system)
    assert [(e.cut, e.head, e.tier) for e in found.exits] == [
        *((e.cut, e.head, tier) for tier in ("t0", "t1") for e in EXITS),
        *((cut, NOTHING, "t0") for cut in ("a", "b")),
    ]
    for exit_id in EXITS:
        np.testing.assert_array_equal(
            found.logits[found.row(exit_id.model_copy(update={"tier": "t1"}))], table.logits[table.row(exit_id)]
        )
        assert found.row(exit_id) == table.row(exit_id)  # without tier: on the first
    assert not found.correct[-2:].any()
    assert not found.logits[-2:].any()
    np.testing.assert_array_equal(found.correct[:3], table.correct)


def test_devices_with_a_view_each_have_the_exits_at_cuts_of_several_views(rng):
    table, one = table_of(rng, 4), system_of(rng, 2)
    first = one.tiers[0].model_copy(update={"devices": 2})
    several = one.model_copy(update={"tiers": (first, *one.tiers[1:]), "gathered_bytes": {"a": {"x": 8.0}}})
    found = tiered(table, several)
    assert [(e.cut, e.tier) for e in found.exits] == [
        ("a", "t0"),
        *((e.cut, "t1") for e in EXITS),
        ("a", "t0"),
    ]
    assert found.exits[-1].is_none
    np.testing.assert_array_equal(found.logits[found.row(EXITS[2])], table.logits[2])
    costs = stage_costs(several, found.exits, "max_prob", "bytes")
    paid = costs.cumulative((EXITS[0], EXITS[2]))  # who knows of no tiers
    assert paid.tolist() == [8.0, 8.0 + several.carry_bytes["a"]]


def test_rows_behind_a_coded_link_stand_on_later_tiers(rng):
    table, system = table_of(rng, 4), system_of(rng, 3)
    behind = table_of(rng, 4, tuple(e.model_copy(update={"link": "8bit@a"}) for e in EXITS[1:]))
    found = tiered(table, system, [behind], silent=False)
    assert [(e.cut, e.tier) for e in found.exits if e.link] == [
        ("b", "t1"),
        (OUTPUT, "t1"),
        ("b", "t2"),
        (OUTPUT, "t2"),
    ]
    with pytest.raises(PolicyError, match="of other samples"):
        tiered(table, system, [ExitTable(behind.logits, behind.labels, behind.exits, "cal", "other")])


def test_rows_of_policies_on_tiers_can_be_added_to_a_table(rng):
    table = table_of(rng, 4)
    behind = table_of(rng, 4, tuple(e.model_copy(update={"link": "8bit@a"}) for e in EXITS[1:]))
    wanted = (
        EXITS[0],
        EXITS[0].model_copy(update={"tier": "t0"}),
        ExitId(network="n", cut="a", head=NOTHING, tier="t0"),
        EXITS[1].model_copy(update={"tier": "t1", "link": "8bit@a"}),
        ASK,
    )
    found = with_places(table, wanted, {"8bit@a": behind})
    assert found.exits == (*EXITS, *wanted[1:4])
    np.testing.assert_array_equal(found.logits[3], table.logits[0])
    assert not found.correct[4].any()
    np.testing.assert_array_equal(found.logits[5], behind.logits[0])
    assert with_places(table, EXITS, {}).exits == EXITS
    with pytest.raises(PolicyError, match="does not hold exit"):
        with_places(table, [ExitId(network="n", cut="z", head="x", tier="t0")], {})


def test_nobody_leaves_where_nothing_is_said_and_fits_need_not_know_it(rng):
    table = tiered(table_of(rng, 5), system_of(rng, 2))
    fit = Fit("temperature", EXITS, np.ones((1, 3, 1), np.float32), np.empty(0, np.int16))
    silent = ExitId(network="n", cut="a", head=NOTHING, tier="t0")
    end = EXITS[-1].model_copy(update={"tier": "t1"})
    scoring = Scoring(fits=(fit,))
    scores, correct = path_outputs(table, [table.row(silent), table.row(end)], scoring)
    assert (scores[0] < 0).all()
    assert not correct[0].any()
    assert scoring.parameters([silent, end])["temperature"].shape == (2, 1)
    policy = Policy(
        stops=(Stop(exit=silent, threshold=inf), Stop(exit=end, threshold=-inf)), criterion="max_prob", fits=(fit.key,)
    )
    costs = stage_costs(system_of(np.random.default_rng(0), 2), table.exits, "max_prob", "bytes")
    assert evaluate(policy, table, [costs], [fit]).exit_rate == (0.0, 1.0)


def brute_force(table, costs, family):
    """Every placement, tier and threshold, sample by sample; a path ends where something is said."""
    found = set()
    rows = range(len(table.exits))
    depth = {"a": 0, "b": 1, OUTPUT: 2}
    for k in (1, 2, 3):
        for chosen in combinations(rows, k):
            path = sorted(chosen, key=lambda r: depth[table.exits[r].cut])
            legs = [costs.step[i, j] for i, j in zip([0, *(e + 1 for e in path)], path, strict=False)]
            on_cuts = sum(not table.exits[e].is_output for e in path)
            if table.exits[path[-1]].is_none or not np.isfinite(legs).all() or on_cuts > family.max_exits:
                continue
            scores, correct = path_outputs(table, path, Scoring())
            scores, paid = scores.astype(np.float64), np.cumsum(legs)
            for thresholds in product(*([*threshold_levels(row, family.levels), inf] for row in scores[:-1])):
                stop = [next((i for i, t in enumerate(thresholds) if s[i] >= t), k - 1) for s in scores.T]
                right = correct[stop, np.arange(len(stop))]
                found.add((int((~right).sum()), round(float(paid[stop].sum()), 6)))
    return sorted(p for p in found if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in found))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 3), st.integers(1, 3))
def test_the_solver_finds_what_trying_everything_finds(seed, tiers, max_exits):
    rng = np.random.default_rng(seed)
    bare, system = table_of(rng, 6), system_of(rng, tiers)
    behind = table_of(rng, 6, tuple(e.model_copy(update={"link": "8bit@a"}) for e in EXITS[1:]))
    behind = ExitTable(behind.logits, bare.labels, behind.exits, "cal", "s")
    table = tiered(bare, system, [behind])
    family = Family(max_exits=max_exits, levels=2)
    costs = stage_costs(system, table.exits, "max_prob", "latency_ms")
    front = solve_front(table, costs, family=family, effort=Effort(method="exact", refine=False, threads=1))
    found = [(round(e.error * 6), round(e.costs["latency_ms"].mean * 6, 6)) for e in front.points]
    assert sorted(found) == brute_force(table, costs, family)
    assert front.certificate.exact
    refined = solve_front(table, costs, family=family, effort=Effort(threads=1))
    assert all(not point.policy.exits[-1].is_none for point in refined.points)
