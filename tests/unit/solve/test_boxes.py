"""Branch and bound against brute force over every policy, which shares no code with it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eesearch.solve import boxes
from eesearch.solve.boxes import (
    Incumbents,
    Keys,
    Limits,
    Paths,
    evaluate_all,
    no_incumbents,
    no_limits,
    search_paths,
)
from eesearch.solve.branch import SEARCH, STOP, search_range
from eesearch.solve.kernel import pack

seeds = st.integers(0, 2**32 - 1)


@dataclass(frozen=True)
class Table:
    """A small problem as boolean arrays and lists."""

    leaves: list  # per key [levels, N]
    right: np.ndarray  # [Q, N]
    paths: list  # lists of keys
    paid: list  # lists of costs per sample
    late: np.ndarray  # [P, R]
    late_share: np.ndarray  # [R]
    other: list  # per path [A, stops]
    at_most: np.ndarray  # [A]
    classes: np.ndarray  # [C, N]
    need: np.ndarray  # [C]

    @property
    def samples(self):
        return self.right.shape[1]

    @property
    def longest(self):
        return max(map(len, self.paths)) - 1

    def engine(self):
        """Keys, paths and limits as the engine takes them."""
        levels = np.array([len(sets) for sets in self.leaves])
        words = -(-self.samples // 64)
        leaves = np.full((len(levels), max(1, *levels), words), 0xDEAD, np.uint64)  # what is unused does not matter
        for key, sets in enumerate(self.leaves):
            leaves[key, : len(sets)] = pack(sets)
        width = self.longest + 1

        def pad(row):
            return [*row, *[0] * (width - len(row))]

        paths = Paths(
            keys=np.array([pad(path) for path in self.paths]),
            early=np.array([len(path) - 1 for path in self.paths]),
            paid=np.array([pad(row) for row in self.paid], np.float64),
        )
        axes = len(self.at_most)
        other = np.array([[pad(row) for row in each] for each in self.other], np.float64)
        limits = Limits(
            late=self.late,
            late_share=self.late_share,
            paid=other.reshape(len(self.paths), axes, width),
            at_most=self.at_most,
            classes=pack(self.classes),
            need=self.need,
        )
        keys = Keys(leaves, levels, pack(self.right), np.ones(1, np.int64), np.array([self.samples]))
        return keys, paths, limits

    def outcome(self, number, levels):
        """Errors and cost of a policy, and whether it keeps the limits, from where each sample leaves."""
        path, paid = self.paths[number], self.paid[number]
        leaves = [self.leaves[key][level] for key, level in zip(path, levels, strict=False)]
        stop = np.stack([*leaves, np.ones(self.samples, np.bool_)]).argmax(0)  # the first at which a sample leaves
        right = self.right[np.array(path)[stop], np.arange(self.samples)]
        totals = [np.take(row, stop).sum() for row in self.other[number]]
        kept = [(stop >= late).sum() <= share for late, share in zip(self.late[number], self.late_share, strict=True)]
        kept += [total <= most for total, most in zip(totals, self.at_most, strict=True)]
        kept += [(right & members).sum() >= need for members, need in zip(self.classes, self.need, strict=True)]
        return int((~right).sum()), float(np.take(paid, stop).sum()), all(kept)

    def policies(self):
        """Every policy that keeps the limits: path, levels, errors, cost."""
        for number, path in enumerate(self.paths):
            for levels in product(*(range(len(self.leaves[key])) for key in path[:-1])):
                errors, cost, kept = self.outcome(number, levels)
                if kept:
                    yield number, levels, errors, cost

    def envelope(self):
        """Least cost with at most so many errors. [N + 1]"""
        least = np.full(self.samples + 1, np.inf)
        for _, _, errors, cost in self.policies():
            least[errors] = min(least[errors], cost)
        return np.minimum.accumulate(least)


def table(seed, *, limited=False, paths=8, longest=4, levels=4, whole=True):
    """Few scores and costs, so that many are equal; sizes on either side of a word."""
    rng = np.random.default_rng(seed)
    samples = int(rng.choice([1, 2, 7, 20, 63, 64, 65, 100]))
    count = int(rng.integers(1, 6))
    scores = rng.integers(0, rng.integers(2, 9), (count, samples))
    leaves = []
    for row in scores:
        cuts = np.sort(rng.permutation(np.unique(row))[: rng.integers(0, levels + 1)])
        leaves.append(row > cuts[:, None] - (0 if rng.random() < 0.9 else 99))  # at times everybody leaves
    right = rng.random((count, samples)) < np.sort(rng.random(count))[:, None]
    lengths = rng.integers(1, longest + 2, rng.integers(1, paths + 1))
    chosen = [rng.integers(0, count, length).tolist() for length in lengths]

    def prices(length):
        return np.cumsum(rng.integers(0, 4, length) * (1 if whole else rng.random(length))).tolist()

    many = rng.integers(0, 3, 3) * limited
    classes = rng.integers(0, 3, samples) == np.arange(many[2])[:, None]
    return Table(
        leaves=leaves,
        right=right,
        paths=chosen,
        paid=[prices(length) for length in lengths],
        late=np.array([rng.integers(0, length + 1, many[0]) for length in lengths]).reshape(len(lengths), many[0]),
        late_share=rng.integers(0, samples + 1, many[0]),
        other=[[prices(length) for _ in range(many[1])] for length in lengths],
        at_most=rng.integers(0, 6 * samples + 1, many[1]).astype(float),
        classes=classes,
        need=np.array([rng.integers(0, members.sum() + 1) for members in classes], np.int64).reshape(many[2]),
    )


def hard(seed=0, paths=400, levels=30, samples=150):
    """Later stops are dearer and mostly better, and scores say something: close races, and so a long search."""
    rng = np.random.default_rng(seed)
    keys, hardness = 9, rng.random(samples)
    noise = rng.normal(0.0, 0.25, (2, keys, samples))
    right = hardness + noise[0] < np.linspace(0.4, 0.9, keys)[:, None]
    scores = 1.0 - hardness + noise[1]
    cuts = np.sort(rng.random((keys, levels)), axis=1)
    chosen = [np.sort(rng.permutation(keys)[: rng.integers(2, 5)]).tolist() for _ in range(paths)]
    price = np.cumsum(rng.integers(1, 30, keys))
    return Table(
        leaves=list(scores[:, None] >= cuts[:, :, None]),
        right=right,
        paths=chosen,
        paid=[(price[path] + np.arange(len(path))).tolist() for path in chosen],
        late=np.zeros((paths, 0), np.int64),
        late_share=np.zeros(0, np.int64),
        other=[[] for _ in chosen],
        at_most=np.zeros(0),
        classes=np.zeros((0, samples), np.bool_),
        need=np.zeros(0, np.int64),
    )


def solve(given_table, best=None, **options):
    best = best or no_incumbents(given_table.samples, given_table.longest)
    return best, search_paths(*given_table.engine(), best, **({"threads": 1} | options))


def corners(best):
    """Numbers of errors at which the envelope falls."""
    return np.flatnonzero(best.envelope < np.append(np.inf, best.envelope[:-1]))


def policy(best, errors, given_table):
    number = int(best.path[errors])
    return number, tuple(best.levels[errors, : len(given_table.paths[number]) - 1].tolist())


def assert_exact(given_table, best):
    """The envelope is that of brute force; at its corners the first of the best paths is kept, and it is so good."""
    first, least = {}, np.full(given_table.samples + 1, np.inf)
    for number, _, errors, cost in given_table.policies():
        first.setdefault((errors, cost), number)
        least[errors] = min(least[errors], cost)
    np.testing.assert_array_equal(best.envelope, np.minimum.accumulate(least))
    for errors in corners(best):
        number, levels = policy(best, errors, given_table)
        assert given_table.outcome(number, levels) == (errors, best.cost[errors], True)
        assert best.cost[errors] == best.envelope[errors]
        assert number == first[errors, best.cost[errors]]


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_it_finds_what_brute_force_finds(seed):
    given_table = table(seed)
    best, left = solve(given_table)
    assert_exact(given_table, best)
    assert np.isinf(left.floor).all()


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_it_finds_what_brute_force_finds_under_limits(seed):
    given_table = table(seed, limited=True)
    best, left = solve(given_table)
    assert_exact(given_table, best)
    assert np.isinf(left.floor).all()


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_it_finds_what_brute_force_finds_in_close_races(seed):
    given_table = hard(seed, paths=4, levels=6, samples=90)
    assert_exact(given_table, solve(given_table)[0])


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_what_evaluating_all_policies_finds(seed):
    given_table = hard(seed, paths=60, levels=20, samples=300)
    keys, _, _ = given_table.engine()
    least = np.full(given_table.samples + 1, np.inf)
    for path, paid in zip(given_table.paths, given_table.paid, strict=True):
        leaving, errors = evaluate_all(keys, path, given_table.samples)
        np.minimum.at(least, errors, leaving @ np.array(paid, np.float64))
    np.testing.assert_array_equal(solve(given_table)[0].envelope, np.minimum.accumulate(least))


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_paths_may_have_any_number_of_stops(seed):
    given_table = table(seed, limited=True, paths=3, longest=6, levels=2)
    assert_exact(given_table, solve(given_table)[0])


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_costs_need_not_be_whole_numbers(seed):
    given_table = table(seed, whole=False)
    best, _ = solve(given_table)
    np.testing.assert_allclose(best.envelope, given_table.envelope(), rtol=1e-12)
    for errors in corners(best):
        found = given_table.outcome(*policy(best, errors, given_table))
        assert found == (errors, pytest.approx(best.cost[errors], rel=1e-12), True)


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_a_search_of_few_levels_first_changes_nothing(seed):
    given_table = table(seed, limited=bool(seed % 2), levels=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxes, "FEW", 2)
        patch.setattr(boxes, "MANY", 2)
        best, left = solve(given_table)
    assert_exact(given_table, best)
    assert np.isinf(left.floor).all()


def test_only_what_is_strictly_better_replaces_an_incumbent():
    given_table = table(5, paths=6)
    before, _ = solve(given_table, first=100)
    again = Incumbents(*(a.copy() for a in before))
    solve(given_table, again, first=200)
    for a, b in zip(before, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (before.path[corners(before)] >= 100).all()


def test_paths_in_two_calls_come_to_the_same_as_in_one():
    given_table = hard(paths=60, levels=8)
    keys, paths, limits = given_table.engine()
    whole, _ = solve(given_table)
    best = no_incumbents(given_table.samples, given_table.longest)
    for part in (slice(0, 23), slice(23, None)):
        some = Limits(limits.late[part], limits.late_share, limits.paid[part], *limits[3:])
        search_paths(keys, Paths(*(a[part] for a in paths)), some, best, first=part.start, threads=1)
    np.testing.assert_array_equal(whole.envelope, best.envelope)
    assert len(corners(whole)) > 20
    for errors in corners(whole):
        assert policy(whole, errors, given_table) == policy(best, errors, given_table)


def test_errors_that_are_of_no_use_are_not_searched():
    given_table = table(3)
    wanted, best = given_table.envelope(), no_incumbents(given_table.samples, given_table.longest)
    most = int(corners(solve(given_table)[0])[0])
    best.envelope[most + 1 :] = -np.inf
    solve(given_table, best)
    np.testing.assert_array_equal(best.envelope[: most + 1], wanted[: most + 1])
    assert np.isinf(best.cost[most + 1 :]).all()


def test_the_number_of_threads_changes_nothing():
    results = [solve(hard(), threads=threads)[0] for threads in (1, 2, 3)]
    assert len(corners(results[0])) > 20
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def assert_floor_valid(floor, best, wanted):
    """Nothing undercuts both what was found and what was left open."""
    assert (np.diff(floor[np.isfinite(floor)]) <= 0).all()
    assert (np.minimum(best.envelope, floor) <= wanted * (1 + 1e-12)).all()


@settings(max_examples=80, deadline=None)
@given(seeds)
def test_the_floor_of_paths_not_begun_is_valid(seed):
    given_table = table(seed, limited=bool(seed % 2))
    best, left = solve(given_table, stop=lambda: True)
    assert np.isinf(best.cost).all()
    assert_floor_valid(left.floor, best, given_table.envelope())


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_so_is_the_one_of_many_paths_together(seed):
    given_table = table(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxes, "MOST_WORDS", 0)
        best, left = solve(given_table, stop=lambda: True)
    assert_floor_valid(left.floor, best, given_table.envelope())
    assert np.isfinite(left.floor[-1])


def cut_short(given_table, errors):
    """Search one path, as number 1, until a policy with so many errors is found on it."""

    def searched(job, *span):
        flag = job.best.path[errors : errors + 1].view(np.uint8)[:1]  # where the path's number is noted: 1 means stop
        return search_range(job._replace(flag=flag) if job.flag[0] == SEARCH else job, *span)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxes, "search_range", searched)
        return solve(given_table, first=1)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_so_is_the_one_of_a_path_cut_short_anywhere(seed):
    given_table = table(seed, paths=1)
    wanted = given_table.envelope()
    for errors in range(given_table.samples + 1):
        best, left = cut_short(given_table, errors)
        assert_floor_valid(left.floor, best, wanted)


def test_a_path_that_is_cut_short_leaves_something_open():
    given_table = hard(paths=1)
    full, _ = solve(given_table)
    for errors in corners(full)[1:]:
        best, left = cut_short(given_table, errors)
        assert best.path[errors] == 1
        assert np.isfinite(left.floor).any()
        assert_floor_valid(left.floor, best, full.envelope)


@pytest.mark.parametrize("calls", [1, 2, 3, 5])
@pytest.mark.parametrize("many", [30, 29])
def test_the_floor_is_valid_wherever_it_was_stopped(calls, many, monkeypatch):
    monkeypatch.setattr(boxes, "MANY", many)  # without and with a search of few levels first
    given_table = hard(seed=1, levels=30)
    full, _ = solve(given_table)
    asked = []

    def stop():
        asked.append(1)
        return len(asked) >= calls

    best, left = solve(given_table, stop=stop, threads=2)
    assert len(asked) == calls
    assert_floor_valid(left.floor, best, full.envelope)
    assert calls < 4 or len(corners(best)) > 10
    for errors in corners(best):
        assert given_table.outcome(*policy(best, errors, given_table)) == (errors, best.envelope[errors], True)


@pytest.mark.parametrize("block", [1, 5, 10])
def test_the_floor_is_valid_in_the_middle_of_a_round(block, monkeypatch):
    given_table, asked = hard(paths=16, levels=8), []
    full, _ = solve(given_table)

    def searched(job, *span):
        asked.append(span)
        if len(asked) == block:
            job.flag[0] = STOP
        return search_range(job, *span)

    monkeypatch.setattr(boxes, "search_range", searched)
    best, left = solve(given_table)
    assert np.isfinite(left.floor).any()
    assert_floor_valid(left.floor, best, full.envelope)


def test_no_limits_change_nothing():
    given_table = hard(paths=20, levels=8)
    keys, paths, _ = given_table.engine()
    best = no_incumbents(given_table.samples, given_table.longest)
    search_paths(keys, paths, no_limits(20, given_table.longest, keys.right.shape[1]), best)
    np.testing.assert_array_equal(best.envelope, solve(given_table)[0].envelope)


def test_an_exception_ends_all_threads():
    def stop():
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(1)
        return False

    asked, before = [], threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        solve(hard(), stop=stop, threads=2)
    assert threading.active_count() == before


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_every_policy_of_a_path_can_be_evaluated(seed):
    given_table = table(seed, paths=1, longest=3)
    keys, _, _ = given_table.engine()
    path, early = given_table.paths[0], len(given_table.paths[0]) - 1
    leaving, errors = evaluate_all(keys, path, given_table.samples)
    shape = tuple(len(given_table.leaves[key]) for key in path[:-1])
    assert leaving.shape == (*shape, early + 1)
    assert errors.shape == shape
    for levels in np.ndindex(shape):
        wrong, cost, _ = given_table.outcome(0, levels)
        assert errors[levels] == wrong
        assert leaving[levels] @ given_table.paid[0] == cost
        assert leaving[levels].sum() == given_table.samples
