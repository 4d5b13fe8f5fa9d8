"""`eesearch solve` on files, the published tables with their known optima, and samplers that never beat it."""

import csv
import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eesearch.core.policy import Scoring
from eesearch.exits.routing import route
from eesearch.solve.costs_file import read_costs
from eesearch.solve.family import Effort, Family
from eesearch.solve.files import solve_files
from eesearch.solve.table_file import read_table

ROOT = Path(__file__).parents[2]
REPLAY = ROOT / "docs" / "results" / "replay"
TABLES = sorted(path.stem for path in REPLAY.glob("*.npz"))


def published(name, max_exits):
    """The rows of a published front."""
    return list(csv.DictReader(io.StringIO((REPLAY / f"{name}.k{max_exits}.csv").read_text())))


def files(name):
    return REPLAY / f"{name}.npz", REPLAY / f"{name}.json"


class TestReplay:
    @pytest.mark.parametrize(
        ("name", "max_exits"),
        [
            ("digits_cnn", 2),
            ("digits_cnn", 3),
            pytest.param("cifar10_resnet56", 3, marks=pytest.mark.slow),
            pytest.param("fashion_mnist_cnn", 3, marks=pytest.mark.slow),
        ],
    )
    def test_the_published_optimum_is_found(self, name, max_exits):
        family, effort = Family(max_exits=max_exits, levels=None), Effort(method="exact")
        found = solve_files(*files(name), scoring=Scoring(), family=family, effort=effort)
        assert found.front.certificate.exact
        rows, expected = list(csv.DictReader(io.StringIO(found.to_csv()))), published(name, max_exits)
        assert [(row["point"], row["errors"]) for row in rows] == [(row["point"], row["errors"]) for row in expected]
        macs = [float(row["macs"]) for row in expected]
        assert [float(row["macs"]) for row in rows] == pytest.approx(macs, rel=1e-12)  # sums of floats

    @pytest.mark.parametrize(("name", "max_exits"), [*((name, 3) for name in TABLES), ("digits_cnn", 2)])
    def test_published_policies_do_what_is_said_of_them(self, name, max_exits):
        table = read_table(files(name)[0])
        (costs,) = read_costs(files(name)[1], table)
        place = {(e.cut, e.head): row for row, e in enumerate(table.exits)}
        for row in published(name, max_exits)[:-1]:
            stops = [place[stop] for stop in zip(row["exits"].split("|"), row["heads"].split("|"), strict=True)]
            assert sum(not table.exits[s].is_output for s in stops) <= max_exits
            stop = route(table.scores[stops], [float(t) for t in row["thresholds"].split("|")])
            right = table.correct[stops][stop, np.arange(len(stop))]
            cost = costs.cumulative([table.exits[s] for s in stops])[stop].mean()
            assert int(row["errors"]) == (~right).sum()
            assert float(row["macs"]) == pytest.approx(cost, rel=1e-12)

    def test_more_exits_are_never_worse(self):
        fronts = [[(int(r["errors"]), float(r["macs"])) for r in published("digits_cnn", k)[:-1]] for k in (2, 3)]
        for errors, macs in fronts[0]:
            assert any(e <= errors and m <= macs * (1 + 1e-12) for e, m in fronts[1])

    def test_every_published_file_is_small_and_explained(self):
        text = (REPLAY / "README.md").read_text()
        assert len(TABLES) >= 2
        assert all(f"`{name}`" in text for name in TABLES)
        assert all(path.stat().st_size < 300_000 for path in REPLAY.iterdir())


def test_neither_solving_nor_its_imports_load_torch(tmp_path):
    code = f"""
import sys
from pathlib import Path
from eesearch.core.policy import Scoring
from eesearch.solve.family import Effort, Family
from eesearch.solve.files import solve_files
table, costs = Path({str(files("digits_cnn")[0])!r}), Path({str(files("digits_cnn")[1])!r})
found = solve_files(table, costs, scoring=Scoring(), family=Family(max_exits=1), effort=Effort(), test=table)
print(len(found.rows()), sorted({{"torch", "torchvision", "optuna", "sklearn"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    rows, loaded = done.stdout.split(maxsplit=1)
    assert int(rows) > 5
    assert loaded.strip() == "[]"


@pytest.fixture(scope="module")
def benchmark():
    """The script that compares samplers with the solver."""
    spec = importlib.util.spec_from_file_location("solver_benchmark", ROOT / "benchmarks" / "solver.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["solver_benchmark"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["solver_benchmark"]


@pytest.fixture(scope="module")
def game(benchmark):
    table = read_table(files("digits_cnn")[0])
    return benchmark.Game.of(table, read_costs(files("digits_cnn")[1], table)[0], Family(max_exits=2, levels=8))


class TestSamplers:
    def test_their_policies_are_evaluated_as_routing_does(self, benchmark, game):
        table, rng = game.table, np.random.default_rng(0)
        for _ in range(50):
            early = sorted(rng.choice(6, size=rng.integers(1, 3), replace=False).tolist())
            picked = [3 * cut + int(rng.integers(3)) for cut in early]
            stops = [(row, int(rng.integers(len(game.leaves[row])))) for row in picked]
            for last in (None, 18):
                rows = [row for row, _ in stops] + ([] if last is None else [last])
                levels = [benchmark.threshold_levels(table.scores[row], 8)[level] for row, level in stops]
                stop = route(table.scores[rows], [*levels[: len(rows) - 1], -np.inf])
                right = table.correct[rows][stop, np.arange(game.samples)]
                cost = game.costs.cumulative([table.exits[row] for row in rows])[stop].sum()
                assert game.evaluate(stops, last) == ((~right).sum(), pytest.approx(cost, rel=1e-12))

    @pytest.mark.parametrize(("method", "trials"), [("NSGA-II", 300), ("random", 300), ("TPE", 40)])
    def test_none_beats_the_exact_front_on_the_same_levels(self, benchmark, game, method, trials):
        exact, _, complete = benchmark.solved(game, "exact")
        played = benchmark.sample(game, benchmark.SAMPLERS[method](0), trials=trials)
        assert complete
        assert len(set(played.points)) > trials / 8
        assert not any(benchmark.beats(point, exact) for point in played.points)
        assert benchmark.over_time(game, played)["hypervolume"].iloc[-1] <= game.value(exact)

    def test_a_better_point_would_be_noticed(self, benchmark, game):
        exact, _, _ = benchmark.solved(game, "exact")
        errors, cost = exact[len(exact) // 2]
        assert not benchmark.beats((errors, cost), exact)
        assert benchmark.beats((errors, cost * 0.999), exact)
        assert benchmark.beats((errors - 1, cost * 0.999), exact)


def command(*arguments):
    from typer.testing import CliRunner

    from eesearch.cli import app

    return CliRunner().invoke(app, ["solve", *map(str, arguments)])


class TestCommand:
    def test_prints_and_writes_the_front_in_every_form(self, tmp_path):
        paths = files("digits_cnn")
        family = Family(max_exits=1, levels=4)
        found = solve_files(*paths, scoring=Scoring(), family=family, effort=Effort(), test=paths[0])
        asked = (*paths, "--max-exits", 1, "--levels", 4, "--test", paths[0])
        assert command(*asked, "--format", "csv").stdout == found.to_csv()
        told = json.loads(command(*asked, "--format", "json").stdout)
        assert told["points"] == found.rows()
        table = command(*asked)
        assert table.exit_code == 0, table.output
        assert "backbone" in table.stdout
        assert "exact" in table.stdout
        written = command(*asked, "--format", "csv", "--out", tmp_path / "front.csv")
        assert written.exit_code == 0, written.output
        assert (tmp_path / "front.csv").read_text() == found.to_csv()

    def test_all_thresholds_of_one_exit(self):
        result = command(
            *files("digits_cnn"), "--max-exits", 1, "--levels", "all", "--method", "exact", "--format", "csv"
        )
        assert result.exit_code == 0, result.output
        rows = list(csv.DictReader(io.StringIO(result.stdout)))
        assert 5 < len(rows) <= len(published("digits_cnn", 2))

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--levels", "some"], "levels"),
            (["--levels", "0"], "threshold levels"),
            (["--max-exits", "-1"], "fewer than no early exits"),
            (["--seconds", "soon"], "--seconds"),
            (["--criterion", "entropy"], "are given"),
            (["--test", "none.npz"], "there is no such file"),
        ],
    )
    def test_bad_input_is_one_error_and_exit_code_2(self, options, words):
        result = command(*files("digits_cnn"), *options)
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
        assert words in result.output

    def test_files_that_cannot_be_read_are_one_error_too(self, tmp_path):
        table, costs = files("digits_cnn")
        for paths in ((tmp_path / "none.npz", costs), (table, tmp_path / "none.json"), (costs, costs), (table, table)):
            result = command(*paths)
            assert result.exit_code == 2, result.output
            assert result.output.count("error: ") == 1
            assert "cannot read" in result.output
