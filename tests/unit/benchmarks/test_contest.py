"""What the contests of `benchmarks/` tell of searches: hypervolumes over time, times to a rival's, rows that stay."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """Benchmarks import each other as scripts do; their modules are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    names = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    before = {name: sys.modules.pop(name) for name in names & sys.modules.keys()}
    yield
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(before)


def found(seconds, cal, test):
    from arena import Found

    return Found(seconds, int(10 * seconds), np.array(cal).reshape(-1, 2), np.array(test).reshape(-1, 2))


class TestCurve:
    def test_the_front_is_selected_on_calibration_and_valued_on_test(self):
        from arena import curve

        lucky = found(2.0, [(0.2, 0.5)], [(0.0, 0.5)])  # worse than the first on calibration: may not help on test
        first, second = curve([found(1.0, [(0.1, 0.5)], [(0.1, 0.5)]), lucky], (0.05, 0.15))
        assert first["cal"] == 0.0  # nothing is within five points of the backbone there
        assert first["test"] == second["test"] == pytest.approx(0.5 * 0.5)
        assert (first["seconds"], second["seconds"]) == (1.0, 2.0)

    def test_what_calibration_prefers_costs_area_if_test_disagrees(self):
        from arena import curve

        good, flattered = found(1.0, [(0.10, 0.5)], [(0.10, 0.5)]), found(2.0, [(0.05, 0.6)], [(0.18, 0.6)])
        rows = curve([good, flattered], (0.15, 0.15))
        assert rows[1]["cal"] > rows[0]["cal"]
        assert rows[1]["test"] < rows[0]["test"]

    def test_what_was_found_after_the_clock_does_not_count(self):
        from arena import within

        late = [found(t, [(0.1, 0.5)], [(0.1, 0.5)]) for t in (1.0, 9.0, 10.1)]
        assert [each.seconds for each in within(late, 10.0)] == [1.0, 9.0]

    def test_the_last_row_holds_the_front(self):
        from arena import curve

        dominated, best = found(1.0, [(0.2, 0.9)], [(0.3, 0.9)]), found(2.0, [(0.1, 0.5)], [(0.2, 0.5)])
        first, last = curve([dominated, best], (0.1, 0.1))
        assert "front" not in first
        assert json.loads(last["front"]) == [[0.1, 0.5, 0.2, 0.5]]
        assert json.loads(curve([], (0.1, 0.1))[0]["front"]) == []

    def test_time_in_which_nothing_is_found_is_one_row(self):
        from arena import curve

        rows = curve([found(t, [(0.1, 0.5)], [(0.1, 0.5)]) for t in (1.0, 2.0, 3.0, 4.0)], (0.1, 0.1))
        assert [row["seconds"] for row in rows] == [1.0, 4.0]


class TestCompared:
    rows = pd.DataFrame(
        [
            {"question": "q", "clock": 15, "seed": 0, "trials": 1, "method": method}
            | {"seconds": seconds, "samples": samples, "test": test}
            for method, seconds, samples, test in (
                ("ours", 10, 1, 0.30),
                ("ours", 30, 3, 0.46),  # in passing
                ("ours", 50, 5, 0.40),
                ("slow", 100, 20, 0.10),
                ("slow", 400, 80, 0.25),
                ("slow", 900, 99, 0.25),
                ("better", 500, 50, 0.45),
                ("far", 100, 10, 0.0),
            )
        ]
    )

    def table(self):
        from contest import compared

        return compared(self.rows, "ours").set_index("method")

    def test_time_to_the_rivals_own_final_hypervolume_is_that_when_it_first_had_it(self):
        slow = self.table().loc["slow"]
        assert (slow["seconds"], slow["first's seconds"], slow["seconds ratio"]) == (400, 10, 10 / 400)
        assert slow["samples ratio"] == 1 / 80
        assert slow["first at its time"] == 0.40

    def test_what_ours_had_only_in_passing_was_never_reached(self):
        better = self.table().loc["better"]
        assert np.isinf(better["first's seconds"])
        assert np.isinf(better["seconds ratio"])
        assert better["final - first's"] == pytest.approx(0.05)

    def test_a_reference_that_has_not_run_has_not_failed(self):
        from contest import compared

        alone = compared(self.rows[self.rows["method"] != "ours"], "ours")
        assert alone["seconds ratio"].isna().all()

    def test_who_never_came_near_has_no_ratio(self):
        far = self.table().loc["far"]
        assert np.isnan(far["seconds ratio"])
        assert np.isnan(far["first's seconds"])

    def test_a_failure_of_some_seeds_is_seen_in_the_spread(self):
        from sheet import spread

        assert spread(pd.Series([0.1, 0.2, np.inf]), 1) == "0.2 (0.1 to never)"
        assert spread(pd.Series([0.1, np.nan, 0.3]), 1) == "0.2 (0.1 to 0.3) [2 of 3]"
        assert spread(pd.Series([np.nan])) == "-"


class TestSheet:
    def test_a_second_call_finds_what_the_first_measured(self, tmp_path):
        from sheet import Sheet

        file = tmp_path / "deep" / "rows.csv"
        Sheet(file, ("seed", "method"), where="here").add((0, "ours"), [{"x": 1.5}, {"x": 2.5}], wall_s=3600.0)
        again = Sheet(file, ("seed", "method"), where="elsewhere")
        assert again.has(0, "ours")
        assert not again.has(1, "ours")
        again.add((1, "ours"), [{"x": 3.5}], wall_s=1800.0)
        read = pd.read_csv(file)
        assert read["x"].tolist() == [1.5, 2.5, 3.5]
        assert read["wall_s"].fillna(0).tolist() == [3600.0, 0.0, 1800.0]
        assert again.compute() == "1.50 hours in all; here | elsewhere"


class TestRivals:
    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # of surrogates of a few points
    def test_nachos_proposes_placements_that_are_new_and_allowed(self):
        from rivals import NACHOS_FIRST, _proposed

        rng, known = np.random.default_rng(0), {}
        while True:
            codes = _proposed(known, 4, 2, rng)
            if not codes:
                break
            for code in codes:
                assert code not in known
                assert 1 <= sum(code) <= 2
                known[code] = (0.1 * sum(code), 0.5 + 0.1 * code[0])
            assert len(known) <= 10
        assert len(known) == 10 > NACHOS_FIRST  # 4 with one exit, 6 with two

    def test_exits_lie_nearest_to_the_shares_each_once(self):
        from types import SimpleNamespace

        from rivals import near

        profile = SimpleNamespace(macs_prefix=(10, 30, 60, 100))
        problem = SimpleNamespace(materials=SimpleNamespace(profiles=[profile]), cuts=("a", "b", "c"))
        assert near(problem, (0.12, 0.28, 0.31, 0.9)) == ["a", "b", "c"]

    def test_everybody_that_plays_is_known_and_has_a_question(self):
        import search_cost
        from contest import STATIC

        assert search_cost.CONTEST.methods[0] == "eesearch"
        assert search_cost.CONTEST.methods[-1] == STATIC
        assert set(search_cost.CONTEST.shares) <= set(search_cost.CONTEST.methods)
        for file, _ in search_cost.CONTEST.questions.values():
            assert (ROOT / "benchmarks" / "studies" / file).is_file()


class TestGame:
    def test_policies_found_on_calibration_are_counted_on_test_at_the_same_thresholds(self):
        from solver import Game

        from eesearch.core.policy import Policy, Stop
        from eesearch.exits.evaluate import evaluate
        from eesearch.solve.family import Family
        from tests.unit.solve.test_baselines import chain_costs, random_table

        cal, test = random_table(1, cuts=3, samples=80, ties=False), random_table(2, cuts=3, samples=50, ties=False)
        costs = chain_costs(cal.exits)
        game = Game.of(cal, costs, Family(2, 8))
        reported = game.on(test)
        stops = [(0, 3), (2, 5)]
        thresholds = [*(game.levels[row][level] for row, level in stops), -np.inf]
        rows = [0, 2, len(cal.exits) - 1]
        policy = Policy(
            stops=tuple(Stop(exit=cal.exits[r], threshold=float(t)) for r, t in zip(rows, thresholds, strict=True)),
            criterion="max_prob",
        )
        for each, table in ((game, cal), (reported, test)):
            errors, cost = each.evaluate(stops, rows[-1])
            told = evaluate(policy, table, [costs])
            assert errors == round(told.error * len(table.labels))
            assert cost == pytest.approx(told.costs["macs"].mean * len(table.labels))
