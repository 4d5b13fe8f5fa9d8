"""The exact solver against brute force that shares no code with it but the threshold levels."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations, groupby, permutations, product
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eesearch.core.cascades import CascadeProfile, systems_of
from eesearch.core.constraints import Constraints, Limit
from eesearch.core.costs import DeviceProfile, LatencyProfile, StageCosts, stage_costs
from eesearch.core.design import ASK, OUTPUT, OWN, ExitId
from eesearch.core.errors import CostError, InputError, PolicyError
from eesearch.core.front import hypervolume
from eesearch.core.policy import Fit, Scoring
from eesearch.core.systems import Link, SystemProfile, Tier
from eesearch.core.tables import ExitTable, reference_row
from eesearch.exits.evaluate import evaluate
from eesearch.exits.last_resort import with_last_resort
from eesearch.exits.routing import path_outputs, score_table
from eesearch.exits.tiers import tiered_networks
from eesearch.solve import exact
from eesearch.solve.exact import solve_front
from eesearch.solve.family import Effort, Family
from eesearch.solve.levels import threshold_levels
from eesearch.solve.stream import ScoreTable, stream_scores

MAX_PROB = Scoring()


def exit_ids(depths):
    """One exit per entry; the last is the network's own classifier."""
    heads = [ExitId(network="n", cut=f"cut{d}", head=f"head{row}") for row, d in enumerate(depths[:-1])]
    return (*heads, ExitId(network="n", cut=OUTPUT, head=OWN))


def steps_of(depths, prefix, own):
    """Steps as a profile makes them: the prefix up to each depth once, and every active head."""
    step = np.full((len(depths) + 1, len(depths)), np.inf)
    for j, depth in enumerate(depths):
        step[0, j] = prefix[depth] + own[j]
        for i, earlier in enumerate(depths):
            if earlier < depth:
                step[i + 1, j] = prefix[depth] - prefix[earlier] + own[j]
    return step


@st.composite
def problems(draw, odd_costs=False):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    exits, samples, classes = draw(st.integers(2, 5)), draw(st.integers(1, 12)), draw(st.integers(2, 3))
    depths = [*sorted(rng.integers(0, 4, exits - 1).tolist()), 4]
    logits = rng.integers(-2, 3, (exits, samples, classes)).astype(np.float32)  # few values: many equal scores
    labels = rng.integers(0, classes, samples)
    step = steps_of(depths, np.cumsum(rng.integers(0, 9, 5)), [*rng.integers(0, 4, exits - 1), 0]).astype(float)
    if odd_costs:  # no triangle inequality: a way through an exit that nobody leaves at may be the cheaper one
        step = np.where(np.isfinite(step), rng.integers(0, 20, step.shape), step)
    ids = exit_ids(depths)
    weights = rng.integers(1, draw(st.sampled_from([2, 4, 30])), samples) if draw(st.booleans()) else None
    table = ExitTable(logits, labels, ids, "cal", "s", weights)
    return table, StageCosts(step, ids, "macs", float(step[0, -1]) + 1.0)


def paths_of(table, costs, max_exits):
    """All sequences of rows that a sample can meet, with at most so many exits, entering no network twice."""
    rows = range(len(table.exits))
    several = len({e.network for e in table.exits if not e.is_last_resort}) > 1
    for k in range(1, min(len(rows), max_exits + 2) + 1):
        for path in (permutations if several else combinations)(rows, k):
            legs = [costs.step[i, j] for i, j in zip([0, *(e + 1 for e in path)], path, strict=False)]
            chain = [table.exits[e] for e in path if not table.exits[e].is_last_resort]
            networks = [network for network, _ in groupby(e.network for e in chain)]
            exits = len(chain) - bool(chain and chain[-1].is_output)  # a whole network that another follows is one
            if table.exits[path[-1]].is_none:  # where nothing is said nothing can end
                continue
            if np.isfinite(legs).all() and exits <= max_exits and len(set(networks)) == len(networks):
                yield path, legs


def all_policies(table, costs, family, scoring=MAX_PROB):
    """Every policy of a family: (where each sample leaves, its cumulative costs, who is right, path), one by one."""
    for path, legs in paths_of(table, costs, family.max_exits):
        scores, correct = path_outputs(table, path, scoring)
        scores = scores.astype(np.float64)
        levels = scores.shape[1] if family.levels is None else family.levels
        choices = [[*threshold_levels(row, levels), inf] for row in scores[:-1]]
        for thresholds in product(*choices):
            stop = [next((k for k, t in enumerate(thresholds) if s[k] >= t), len(path) - 1) for s in scores.T]
            yield np.array(stop), np.cumsum(legs), correct[stop, np.arange(len(stop))], path


def brute_force(table, costs, family, scoring=MAX_PROB, accept=lambda *_: True):
    """Non-dominated (errors by weight, total cost) by trying everything, sample by sample."""
    found = {
        (int(~right @ table.weight), float(paid[stop].sum()))
        for stop, paid, right, path in all_policies(table, costs, family, scoring)
        if accept(stop, paid, right, path)
    }
    return sorted(p for p in found if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in found))


def solved(front, table):
    total, samples = table.weight.sum(), len(table.labels)
    return sorted((round(e.error * total), e.costs["macs"].mean * samples) for e in front.points)


def solve(table, costs, family, scoring=MAX_PROB, **effort):
    return solve_front(table, costs, scoring=scoring, family=family, effort=Effort(refine=False, threads=1, **effort))


def agrees(front, table, expected):
    return np.allclose(solved(front, table), expected, rtol=0.0, atol=1e-9)


families = st.builds(Family, max_exits=st.integers(0, 4), levels=st.sampled_from([1, 2, 3, None]))


@settings(max_examples=200, deadline=None)
@given(problems(), families)
def test_finds_what_brute_force_finds(problem, family):
    table, costs = problem
    for method in ("exact", "anytime"):  # what is tried first does not matter in the end
        front = solve(table, costs, family, method=method)
        assert agrees(front, table, brute_force(table, costs, family))
        assert front.certificate.exact
        assert front.certificate.gain == 0.0


@st.composite
def cascades(draw):
    """Two or three networks, each with an exit or none, that may follow each other in any order."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    samples, classes = draw(st.integers(1, 10)), draw(st.integers(2, 3))
    ids, whole, cost = [], [], []
    for name in ("a", "b", "c")[: draw(st.integers(2, 3))]:
        own = [(f"{name}/1", "head")] * draw(st.integers(0, 1)) + [(f"{name}/{OUTPUT}", OWN)]
        ids += [ExitId(network=name, cut=cut, head=head) for cut, head in own]
        cost += np.cumsum(rng.integers(1, 9, len(own))).tolist()
        whole.append(cost[-1])
    step = np.full((len(ids) + 1, len(ids)), np.inf)
    for j, e in enumerate(ids):
        step[0, j] = cost[j]
        for i, before in enumerate(ids):
            if before.network != e.network:
                step[i + 1, j] = cost[j]
            elif i < j:
                step[i + 1, j] = cost[j] - cost[i]
    logits = rng.integers(-2, 3, (len(ids), samples, classes)).astype(np.float32)
    labels = rng.integers(0, classes, samples)
    return ExitTable(logits, labels, tuple(ids), "cal", "s"), StageCosts(step, tuple(ids), "macs", float(whole[-1]))


@settings(max_examples=100, deadline=None)
@given(cascades(), st.integers(0, 3), st.sampled_from([2, None]), st.sampled_from(["max_prob", "patience"]))
def test_is_exact_over_networks_in_any_order(problem, max_exits, levels, criterion):
    table, costs = problem
    family, scoring = Family(max_exits, levels=levels), Scoring(criterion)
    expected = brute_force(table, costs, family, scoring)
    for method in ("exact", "anytime"):
        front = solve(table, costs, family, scoring, method=method)
        assert agrees(front, table, expected)
        assert front.backbone.policy.exits == table.exits[-1:], "the last network is the reference"


def on_two_tiers(rng, name):
    """What a network with one cut costs on two tiers; bytes and milliseconds are the same."""
    cut = f"{name}/1"
    first, last = (
        DeviceProfile(
            device="d", fingerprint={}, content="c", cuts=(cut,), macs_prefix=(1.0, 2.0),
            macs_head={cut: {"head": 0.0}},
            latency=LatencyProfile(
                prefix_ms=tuple(np.cumsum(rng.integers(1, 9, 2)).tolist()),
                head_ms={cut: {"head": float(rng.integers(0, 3))}}, decision_ms={"max_prob": float(rng.integers(0, 2))},
                resume_ms=float(rng.integers(0, 2)), timings={}, noise=0.0,
            ),
        )
        for _ in range(2)
    )  # fmt: skip
    link = Link(bandwidth=0.008, round_trip=2.0, bits=(32, 8))
    tiers = (Tier(name="near", slowdown=3.0, profile=first), Tier(name="far", profile=last))
    return SystemProfile(
        device="chain", axis="latency_ms", fingerprint={}, content="c", tiers=tiers, links=(link,), raw_bytes=6.0,
        carry_bytes={cut: float(rng.integers(0, 12))}, coded_bytes={cut: 1.0} if name == "a" else {},
    )  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2))
def test_is_exact_over_networks_on_tiers(seed, max_exits):
    rng, samples = np.random.default_rng(seed), 6
    labels = rng.integers(0, 3, samples)

    def said(*exits):
        logits = rng.integers(-2, 3, (len(exits), samples, 3)).astype(np.float32)
        return ExitTable(logits, labels, exits, "cal", "s")

    ids = [ExitId(network=n, cut=f"{n}/{cut}", head=h) for n in "ab" for cut, h in (("1", "head"), (OUTPUT, OWN))]
    profiles = {name: on_two_tiers(rng, name) for name in "ab"}
    chain = CascadeProfile(device="chain", fingerprint={}, content="c", members=profiles, reference="b")
    behind = said(ids[1].model_copy(update={"link": "8bit@a/1"}))
    table = tiered_networks(said(*ids), systems_of(chain), [behind])
    assert table.exits[reference_row(table.exits)] == ids[3].model_copy(update={"tier": "near"})
    costs = replace(stage_costs(chain, table.exits, "max_prob", "latency_ms"), axis="macs")
    family = Family(max_exits, levels=1)
    expected = brute_force(table, costs, family)
    for method in ("exact", "anytime"):
        front = solve(table, costs, family, method=method)
        assert agrees(front, table, expected)
        assert front.certificate.exact


@settings(max_examples=100, deadline=None)
@given(problems(odd_costs=True), st.integers(1, 3))
def test_is_exact_for_costs_without_triangle_inequality(problem, max_exits):
    table, costs = problem
    family = Family(max_exits, levels=2)
    front = solve(table, costs, family, Scoring("margin"))
    assert agrees(front, table, brute_force(table, costs, family, Scoring("margin")))


@settings(max_examples=100, deadline=None)
@given(problems(), families, st.sampled_from(["patience", "max_prob/most_confident", "margin/mean"]))
def test_is_exact_where_scores_and_answers_belong_to_paths(problem, family, decision):
    table, costs = problem
    criterion, _, answer = decision.partition("/")
    weights = np.linspace(0.5, 2.0, len(table.exits), dtype=np.float32)[None, :, None]
    fits = (Fit("ensemble", table.exits, weights, np.empty(0, np.int16)),) if answer == "mean" else ()
    scoring = Scoring(criterion, answer or "own", fits)
    expected = brute_force(table, costs, family, scoring)
    for method in ("exact", "anytime"):
        assert agrees(solve(table, costs, family, scoring, method=method), table, expected)


@settings(max_examples=100, deadline=None)
@given(problems(), families, st.integers(0, 20))
def test_is_exact_with_a_last_resort(problem, family, price):
    table, (costs,) = with_last_resort(problem[0], [problem[1]], {"macs": float(price)})
    front = solve(table, costs, family)
    assert agrees(front, table, brute_force(table, costs, family))
    assert any(e.policy.exits[-1] == ASK for e in front.points) or front[-1].error == 0.0 or price > 0


@settings(max_examples=150, deadline=None)
@given(problems(), families, st.data())
def test_constraints_are_kept_exactly(problem, family, data):
    table, costs = problem
    other = StageCosts(costs.step**1.5 + 1.0, costs.exits, "latency_ms", 1.0)
    by_axis = {"macs": costs, "latency_ms": other}
    samples = len(table.labels)
    unit = costs.step[0, -1]
    limits = data.draw(st.lists(st.builds(
        Limit,
        axis=st.sampled_from(["macs", "latency_ms"]),
        at=st.sampled_from(["mean", "p95", "worst"]),
        at_most=st.floats(0.2, 2.0).map(lambda share: share * unit),
    ), max_size=2))  # fmt: skip
    constraints = Constraints(
        limits=tuple(limits),
        min_recall=data.draw(st.sampled_from([None, 0.3, 0.6])),
        max_drop=data.draw(st.sampled_from([None, 0.1, 0.3])),
    )
    backbone = table.accuracy[-1]

    def broken(stop, right, path):
        """By how much each constraint is broken, relative to its bound."""
        legs = list(zip([0, *(e + 1 for e in path)], path, strict=False))
        for limit in limits:
            total = np.cumsum([by_axis[limit.axis].step[i, j] for i, j in legs])
            each = np.sort(total[stop])
            p95 = each[int(np.ceil(0.95 * samples - 1e-9)) - 1]
            value = {"mean": each.mean(), "p95": p95, "worst": total[-1]}[limit.at]
            yield value / limit.at_most - 1.0 if limit.at_most else (inf if value else 0.0)
        if constraints.min_recall is not None:
            yield 1.0 - min(right[table.labels == c].mean() for c in np.unique(table.labels)) / constraints.min_recall
        if constraints.max_drop is not None:
            accuracy = np.average(right, weights=table.weight)
            yield (backbone - accuracy - constraints.max_drop) / max(backbone, 1e-12)

    def violation(stop, right, path):
        return max(broken(stop, right, path), default=0.0)

    def accept(stop, paid, right, path):
        return violation(stop, right, path) <= 1e-9

    constrained = replace(family, constraints=constraints)
    expected = brute_force(table, costs, family, accept=accept)
    front = solve(table, [costs, other], constrained)
    if expected:
        assert agrees(front, table, expected)
        assert not any(constraints.broken(point, front.backbone) for point in front.points)
    else:  # nothing keeps them: nobody breaks them less, to a hundredth
        (point,) = front.points
        found = constraints.violation(point, front.backbone)
        values = [violation(stop, right, path) for stop, _, right, path in all_policies(table, costs, family)]
        assert 0.0 < found <= 1.02 * min(values) + 1e-3


@contextmanager
def stopping_after(asked):
    """Let searches stop once they have asked so many times whether their time is up."""
    calls = iter(range(asked))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "clock", lambda _: lambda: next(calls, None) is None)
        yield


@settings(max_examples=60, deadline=None)
@given(problems(), families, st.integers(0, 30))
def test_a_certificate_holds_wherever_the_search_was_stopped(problem, family, asked):
    table, costs = problem
    expected = brute_force(table, costs, family)
    with stopping_after(asked):
        front = solve(table, costs, family, method="anytime")
    total, samples, unit = table.weight.sum(), len(table.labels), costs.backbone
    floor = np.array(front.certificate.floor).reshape(-1, 2)
    for errors, cost in expected:  # nothing lies below the floor
        below = floor[floor[:, 0] <= errors / total + 1e-12]
        assert len(below)
        assert below[-1, 1] <= cost / samples / unit + 1e-9
    values = np.array([(e / total, c / samples / unit) for e, c in expected])
    best = hypervolume(values, front.backbone.error + 0.05)
    assert front.hypervolume() + front.certificate.gain >= min(best, 1.0) - 1e-9 or best < 0.0


@pytest.mark.parametrize("asked", [2, 5, 10, 20, 40])
@pytest.mark.parametrize("seed", range(3))
def test_a_certificate_does_not_count_what_breaks_the_bounds(seed, asked):
    """What is searched among levels may break them by a little; it is no part of the answer."""
    table, costs = made_table(seed)
    for over in solve(table, costs, Family(2, 6)).points:
        limit = Limit(axis="macs", at="mean", at_most=cost_of(over) / 1.02)
        with stopping_after(asked):
            family, effort = Family(2, 6, Constraints(limits=(limit,))), Effort(method="anytime", threads=1)
            front = solve_front(table, costs, family=family, effort=effort)
        floor = np.array(front.certificate.floor).reshape(-1, 2)
        if not front.certificate.exact and front.hypervolume() >= 0.0:
            could = hypervolume(floor, front.backbone.error + 0.05)
            assert could <= front.hypervolume() + front.certificate.gain + 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_what_nearly_keeps_the_bounds_is_not_lost_when_time_runs_out(seed):
    table, costs = made_table(seed)
    cheapest = solve_front(table, costs, family=Family(2, 12, Constraints(max_drop=0.0)))[0]
    bounds = Constraints(max_drop=0.0, limits=(Limit(axis="macs", at="mean", at_most=0.99 * cost_of(cheapest)),))
    near = exact._loosened(bounds, "macs")
    compared = 0
    for asked in (5, 20, 80, 320, 1280):
        fronts = []
        for refine, family in ((False, Family(2, 12, near)), (True, Family(2, 12, bounds))):
            with stopping_after(asked):
                effort = Effort(method="anytime", threads=1, refine=refine, least=refine)
                fronts.append(solve_front(table, costs, family=family, effort=effort))
        held, (point,) = fronts[0].points, fronts[1].points
        violations = [bounds.violation(p, fronts[0].backbone) for p in held]
        compared += bool(violations)
        assert bounds.violation(point, fronts[1].backbone) <= min(violations, default=inf) + 1e-12
    assert compared


def made_table(seed):
    """Three words of samples, five cuts with two heads each; deeper heads are better, sure ones too."""
    rng = np.random.default_rng(seed)
    depths = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    labels = rng.integers(0, 4, 150)
    clarity = rng.exponential(1.0, 150) * (1.0 + np.arange(11)[:, None] / 4.0)
    logits = rng.normal(size=(11, 150, 4))
    logits[:, np.arange(150), labels] += clarity
    own = np.tile([0.03, 0.11], 6)[:11] * (np.arange(11) < 10)
    ids = exit_ids(depths)
    costs = StageCosts(steps_of(depths, np.linspace(0.2, 1.2, 6), own), ids, "macs", 1.2)
    return ExitTable(logits.astype(np.float32), labels, ids, "cal", "s"), costs


@pytest.fixture
def larger():
    return made_table(3)


def cost_of(point):
    return point.costs["macs"].mean


def test_every_point_is_what_evaluate_says_of_its_policy(larger):
    table, costs = larger
    front = solve_front(table, costs, scoring=Scoring("entropy"), family=Family(3, 6))
    assert len(front) > 10
    for point in front.points:
        assert point == evaluate(point.policy, table, [costs])
    assert front.backbone.accuracy == table.accuracy[-1]
    assert front.backbone.costs["macs"].mean == 1.2


def test_more_exits_never_make_the_front_worse(larger):
    table, costs = larger
    volumes = [solve(table, costs, Family(k, 5)).hypervolume() for k in range(4)]
    assert volumes == sorted(volumes)
    assert volumes[0] < volumes[1] < volumes[2]


def test_two_exits_on_a_larger_table_are_brute_force(larger):
    table, costs = larger
    front = solve(table, costs, Family(2, 3))
    expected = np.array(brute_force(table, costs, Family(2, 3)))
    got = np.array(solved(front, table))
    covered = (got[:, None, :] <= expected[None] + 1e-9).all(-1).any(0)  # costs are sums of floats here
    assert covered.all()
    assert len(got) <= len(expected)


@pytest.mark.parametrize("weights", [[1, 1, 1, 1], [1, 5, 1, 2], [70, 1, 23, 4]])
def test_classes_of_any_weights_over_several_words(larger, weights):
    """150 samples: each weight begins a word of its own."""
    table, costs = larger
    weighed = replace(table, weights=np.array(weights)[table.labels])
    front = solve(weighed, costs, Family(2, 3))
    expected, got = np.array(brute_force(weighed, costs, Family(2, 3))), np.array(solved(front, weighed))
    assert (got[:, None, :] <= expected[None] + 1e-9).all(-1).any(0).all()
    assert len(got) <= len(expected)
    refined = solve_front(weighed, costs, family=Family(2, 3))
    assert refined.hypervolume() >= front.hypervolume()
    for point in refined.points:
        assert point == evaluate(point.policy, weighed, [costs])
    plain = solve(table, costs, Family(2, 3))
    assert (solved(plain, table) == solved(front, weighed)) == (len(set(weights)) == 1)


def test_exits_on_cuts_are_counted_wherever_everybody_leaves(larger):
    table, costs = larger
    (point,) = solve_front(table, costs, family=Family(0)).points
    assert point.policy.exits == table.exits[-1:]
    front = solve(table, costs, Family(1, 1))
    assert {len(p.policy.stops) for p in front.points} == {1, 2}


def test_solves_again_the_same_way(larger):
    table, costs = larger
    first, second = (solve_front(table, costs, family=Family(2, 5), effort=Effort(threads=n)).points for n in (1, 2))
    assert first == second


def test_of_equal_policies_the_one_with_fewer_stops_stays():
    logits = np.array([[[0, 0.1], [0, 0.2], [0, 0.3]]] * 3, np.float32)  # all exits right, none needs another
    ids = exit_ids([0, 1, 2])
    costs = StageCosts(np.full((4, 3), np.inf), ids, "macs", 1.0)
    costs.step[0], costs.step[1, 1:], costs.step[2, 2] = 1.0, 0.0, 0.0
    front = solve_front(ExitTable(logits, np.array([1, 1, 1]), ids, "cal", "s"), costs)
    assert [p.policy.exits for p in front.points] == [ids[:1]]


def test_uses_the_fit_and_names_it(larger):
    table, costs = larger
    heat = np.linspace(0.5, 3.0, 11).astype(np.float32)
    fit = Fit("temperature", table.exits, heat[None, :, None], np.empty(0, np.int16))
    front = solve_front(table, costs, scoring=Scoring(fits=(fit,)), family=Family(2, 4))
    assert {p.policy.fits for p in front.points} == {(fit.key,)}
    assert front[1] == evaluate(front[1].policy, table, [costs], [fit])


def test_tells_its_progress(larger):
    table, costs = larger
    calls = []
    solve_front(table, costs, family=Family(2, 2), progress=lambda *call: calls.append(call))
    solving = [call[1:] for call in calls if call[0] == "solve"]
    assert solving == sorted(solving)
    assert {total for _, total in solving} == {sum(1 for _ in paths_of(table, costs, 2))}


def test_refuses_a_table_without_the_backbone(larger):
    table, costs = larger
    with pytest.raises(PolicyError, match="needs its backbone"):
        solve_front(table.select(table.exits[:-1]), costs)


def test_refuses_negative_steps_and_options_out_of_range(larger):
    table, costs = larger
    with pytest.raises(CostError, match="less than nothing"):
        solve_front(table, StageCosts(costs.step - 1.0, costs.exits, "macs", 1.2))
    with pytest.raises(PolicyError, match="fewer than no early exits"):
        solve_front(table, costs, family=Family(-1))
    with pytest.raises(PolicyError, match="levels"):
        solve_front(table, costs, family=Family(levels=0))
    with pytest.raises(CostError, match="nothing is known of the axis of 'mean energy_mj at most 3'"):
        solve_front(table, costs, family=Family(constraints=Constraints(limits=(Limit(axis="energy_mj", at_most=3),))))


def test_refuses_recall_without_labels_and_times_that_are_none(larger):
    table, costs = larger
    scored = ScoreTable(score_table(table, MAX_PROB), table.correct, table.exits)
    with pytest.raises(PolicyError, match="recall needs labels"):
        solve_front(scored, costs, family=Family(1, None, Constraints(min_recall=0.5)))
    for seconds in (0.0, -5.0, float("nan"), inf):
        with pytest.raises(PolicyError, match="a time limit is a number of seconds"):
            Effort(seconds=seconds)


@pytest.mark.parametrize("method", ["exact", "anytime"])
def test_the_backbone_is_answered_with_however_little_time_there_is(larger, monkeypatch, method):
    table, costs = larger
    monkeypatch.setattr(exact, "clock", lambda _: lambda: True)
    front = solve_front(table, costs, effort=Effort(method, seconds=1e-9))
    assert max(point.accuracy for point in front.points) >= front.backbone.accuracy
    assert not front.certificate.exact


def test_refuses_levels_that_do_not_fit_into_the_memory(larger):
    table, costs = larger
    with pytest.raises(InputError, match=r"24 threshold levels for 150 samples do not fit .* at least .* GiB"):
        solve_front(table, costs, effort=Effort(memory_gb=1e-6))


def test_small_memory_changes_nothing_but_the_number_of_keys_at_a_time(larger):
    table, costs = larger
    scoring = Scoring("max_prob", "most_confident")
    small = Effort(memory_gb=0.9e-5, refine=False)  # two dozen keys at a time
    assert (
        solve_front(table, costs, scoring=scoring, family=Family(2, 4), effort=small).points
        == solve(table, costs, Family(2, 4), scoring).points
    )


def test_refinement_never_worsens_and_finds_better(larger):
    table, costs = larger
    rough = solve(table, costs, Family(2, 3))
    fine = solve_front(table, costs, family=Family(2, 3))
    best = solve(table, costs, Family(2, None))
    for point in rough.points:
        better = [p for p in fine.points if p.error <= point.error + 1e-12]
        assert min(p.costs["macs"].mean for p in better) <= point.costs["macs"].mean + 1e-12
    assert rough.hypervolume() < fine.hypervolume() <= best.hypervolume() + 1e-12


def test_a_time_limit_is_honoured_and_the_answer_is_what_was_found(larger, monkeypatch):
    table, costs = larger
    monkeypatch.setattr(exact, "clock", lambda seconds: lambda: seconds is not None)
    front = solve_front(table, costs, effort=Effort("exact", seconds=1e-9))
    assert not front.certificate.exact
    assert front.certificate.gain > 0.0
    assert "could still grow" in str(front.certificate)


@pytest.mark.parametrize("method", ["exact", "anytime"])
@pytest.mark.parametrize("asked", [0, 3, 30])
def test_one_clock_for_all_where_nothing_keeps_the_constraints(larger, monkeypatch, method, asked):
    table, costs = larger
    calls, clocks = iter(range(asked)), []
    monkeypatch.setattr(exact, "clock", lambda s: clocks.append(s) or (lambda: next(calls, None) is None))
    impossible = Constraints(min_recall=1.0, limits=(Limit(axis="macs", at="worst", at_most=0.5),))
    front = solve_front(table, costs, family=Family(2, 4, impossible), effort=Effort(method, seconds=9.0))
    assert clocks == [9.0]
    assert len(front) == 1
    assert impossible.broken(front[0], front.backbone)


def test_the_least_violation_is_looked_for_only_if_asked(larger):
    table, costs = larger
    impossible = Family(2, 4, Constraints(limits=(Limit(axis="macs", at="worst", at_most=0.1),)))
    assert len(solve_front(table, costs, family=impossible)) == 1
    assert not solve_front(table, costs, family=impossible, effort=Effort(least=False)).points


def test_takes_what_was_streamed(larger):
    table, costs = larger
    blocks = ((table.logits[:, i : i + 40], table.labels[i : i + 40]) for i in range(0, 150, 40))
    streamed = stream_scores(blocks, table.exits, Scoring())
    family = Family(2, 4, Constraints(min_recall=0.3))
    assert solve_front(streamed, costs, family=family).points == solve_front(table, costs, family=family).points


@pytest.mark.parametrize("slack", [1.001, 1.02, 1.05])
@pytest.mark.parametrize("seed", range(4))
def test_bounds_that_only_refinement_brings_a_policy_within_are_kept(seed, slack):
    """A refined policy keeps them, so it must be found, though no policy on the levels does."""
    table, costs = made_table(seed)
    free = solve_front(table, costs, family=Family(2, 12))
    rough = solve(table, costs, Family(2, 12))
    only_refined = 0
    for drop in (0.0, 0.02, 0.05):
        within = [p for p in free.points if p.accuracy >= free.backbone.accuracy - drop - 1e-12]
        if not within:
            continue
        most = slack * min(map(cost_of, within))
        both = Constraints(max_drop=drop, limits=(Limit(axis="macs", at="mean", at_most=most),))
        only_refined += not any(not both.broken(point, rough.backbone) for point in rough.points)
        front = solve_front(table, costs, family=Family(2, 12, both))
        assert not any(both.broken(point, front.backbone) for point in front.points)
        assert len(front)
    assert slack > 1.02 or only_refined


def test_only_what_is_paid_per_sample_is_minimised(larger):
    table, costs = larger
    peak = replace(costs, axis="peak_bytes")
    with pytest.raises(CostError, match="peak_bytes is no mean over samples, and cannot be minimised over them"):
        solve_front(table, [peak, costs])


@pytest.mark.parametrize("drop", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_a_limit_on_the_drop_alone_is_kept_by_every_refined_point(seed, drop):
    table, costs = made_table(seed)
    alone = Constraints(max_drop=drop)
    each = Constraints(max_drop=drop, limits=(Limit(axis="macs", at="worst", at_most=1e9),))  # which nothing breaks
    free, limited, checked = (solve_front(table, costs, family=Family(2, 4, c)) for c in (Constraints(), alone, each))
    assert limited.points == checked.points, "candidates of the other are checked one by one"
    assert not any(alone.broken(point, limited.backbone) for point in limited.points)
    deepest = limited.backbone.error + drop
    filtered = [point for point in free.points if point.error <= deepest + 1e-12]
    for point in limited.points:  # what is refined from further below may be better still
        assert any(p.error <= point.error + 1e-12 and cost_of(p) <= cost_of(point) + 1e-12 for p in filtered)
    rough = [solve(table, costs, Family(2, 4, constraints)).points for constraints in (Constraints(), alone)]
    assert rough[1] == tuple(point for point in rough[0] if point.error <= deepest + 1e-12)
    volumes = [
        hypervolume(np.array([(p.error, cost_of(p)) for p in points]), deepest + 0.01)
        for points in (rough[1], limited.points)
    ]
    assert volumes[0] < volumes[1]
