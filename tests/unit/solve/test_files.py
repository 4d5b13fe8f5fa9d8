"""The front of a table from files: both forms agree, rows say what policies do, a test table changes no point."""

from __future__ import annotations

import csv
import io
import json
from math import inf

import numpy as np
import pytest

from eesearch.core.errors import CostError, DataError, PolicyError
from eesearch.core.policy import Scoring
from eesearch.exits.routing import route, score_table
from eesearch.solve.family import Effort, Family
from eesearch.solve.files import solve_files
from eesearch.solve.table_file import read_table

CUTS = np.array(["a", "a", "b", "c", "output"])
COSTS = {"axis": "macs", "prefix": [10, 20, 40, 80], "head": [1, 3, 2, 2, 0]}


def made(seed, samples=130):
    """Logits and labels: deeper rows are better."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, samples)
    logits = rng.normal(size=(5, samples, 3))
    logits[:, np.arange(samples), labels] += rng.exponential(1.0, samples) * np.linspace(0.5, 2.5, 5)[:, None]
    return {"logits": logits.astype(np.float32), "labels": labels, "cuts": CUTS}


@pytest.fixture
def files(tmp_path):
    """Paths of a table, of costs and of a test table."""
    table, costs, test = tmp_path / "table.npz", tmp_path / "costs.json", tmp_path / "test.npz"
    np.savez(table, **made(0))
    np.savez(test, **made(1, samples=60))
    costs.write_text(json.dumps(COSTS))
    return table, costs, test


def solve(table, costs, test=None, *, scoring=None, levels=None, **effort):
    family = Family(max_exits=2, levels=levels)
    return solve_files(table, costs, scoring=scoring or Scoring(), family=family, effort=Effort(**effort), test=test)


def test_rows_say_what_their_policies_do(files):
    table = read_table(files[0])
    rows = solve(*files[:2]).rows()
    assert len(rows) > 10
    assert [row["point"] for row in rows] == [*range(len(rows) - 1), "backbone"]
    prefix, own = dict(zip(["a", "b", "c", "output"], COSTS["prefix"], strict=True)), COSTS["head"]
    names = [(e.cut, e.head) for e in table.exits]
    for row in rows[:-1]:
        stops = [
            names.index(stop) for stop in zip(str(row["exits"]).split("|"), str(row["heads"]).split("|"), strict=True)
        ]
        thresholds = [float(t) for t in str(row["thresholds"]).split("|")]
        stop = route(score_table(table, Scoring())[stops], thresholds)
        right = table.correct[stops][stop, np.arange(130)]
        cost = np.array([prefix[CUTS[s]] + sum(own[e] for e in stops[: k + 1]) for k, s in enumerate(stops)])
        assert (row["errors"], row["accuracy"]) == (130 - right.sum(), right.mean())
        assert row["macs"] == pytest.approx(cost[stop].mean(), rel=1e-12)
        assert row["macs_worst"] == cost[-1]
        rates = np.bincount(stop, minlength=len(stops)) / 130
        assert [float(r) for r in str(row["exit_rate"]).split("|")] == rates.tolist()
    assert (rows[-1]["macs"], rows[-1]["errors"]) == (80.0, 130 - table.correct[-1].sum())


def test_csv_and_json_hold_the_rows(files):
    found = solve(*files[:2])
    read = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [{name: str(value) for name, value in row.items()} for row in found.rows()] == read
    told = json.loads(found.to_json())
    assert told["points"] == found.rows()
    assert told["certificate"]["exact"] is True


def test_scores_give_the_front_that_logits_give(files, tmp_path):
    table = read_table(files[0])
    scores = score_table(table, Scoring())
    ranks = np.stack([np.unique(row, return_inverse=True)[1] for row in scores]).astype(np.uint16)
    expected = [(row["errors"], row["macs"], row["exit_rate"]) for row in solve(*files[:2], levels=5).rows()]
    for given in (scores, ranks):
        np.savez(tmp_path / "scores.npz", scores=given, correct=table.correct, cuts=CUTS)
        rows = solve(tmp_path / "scores.npz", files[1], levels=5).rows()
        assert [(row["errors"], row["macs"], row["exit_rate"]) for row in rows] == expected


@pytest.mark.parametrize("answer", ["own", "most_confident"])
def test_points_are_reported_on_the_test_table_and_chosen_without_it(files, answer):
    scoring = Scoring("margin", answer)
    alone, tested = solve(*files[:2], scoring=scoring, levels=4), solve(*files, scoring=scoring, levels=4)
    assert tested.front.points == alone.front.points
    assert len(tested.tested) == len(tested.front) + 1
    assert {e.samples for e in tested.tested} == {60}
    same = solve(files[0], files[1], files[0], scoring=scoring, levels=4)
    assert same.tested == (*same.front.points, same.front.backbone)
    own = read_table(files[2]).correct[-1].mean()
    assert (tested.rows()[-1]["accuracy_test"], tested.rows()[-1]["macs_test"]) == (own, 80.0)


def test_a_table_of_scores_is_tested_too(files, tmp_path):
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for path, source in zip(paths, (files[0], files[2]), strict=True):
        table = read_table(source, split="test")
        np.savez(path, scores=score_table(table, Scoring()), correct=table.correct, cuts=CUTS)
    found = solve(paths[0], files[1], paths[1])
    expected = solve(*files)
    assert [(e.accuracy, e.costs) for e in found.tested] == [(e.accuracy, e.costs) for e in expected.tested]


def test_points_are_told_on_every_axis(files):
    latency = {"axis": "latency_ms", "prefix": [1, 2, 3, 5], "head": [0.25] * 4 + [0], "decision": 0.125}
    files[1].write_text(json.dumps([latency, COSTS]))
    rows = solve(*files).rows()
    assert [row["latency_ms"] for row in rows[:-1]] == sorted(row["latency_ms"] for row in rows[:-1])
    assert {"macs", "macs_p95", "macs_worst", "latency_ms_p95", "macs_test", "latency_ms_test"} < set(rows[0])


def test_refuses_files_that_do_not_belong_together(files, tmp_path):
    other, scored = tmp_path / "other.npz", tmp_path / "scored.npz"
    np.savez(other, **made(2) | {"cuts": np.array(["a", "b", "c", "d", "output"])})
    table = read_table(files[0])
    np.savez(scored, scores=score_table(table, Scoring()), correct=table.correct, cuts=CUTS)
    for test in (other, scored):
        with pytest.raises(DataError, match="is about other exits than"):
            solve(*files[:2], test)
    with pytest.raises(CostError, match="do not fit the table"):
        solve(other, files[1])
    with pytest.raises(PolicyError, match="needs a fit"):
        solve(*files[:2], scoring=Scoring(answer="mean"))
    for scoring in (Scoring("entropy"), Scoring(answer="most_confident")):
        with pytest.raises(PolicyError, match=r"are given; got criterion '.*' and answer '.*' to make others"):
            solve(scored, files[1], scoring=scoring)


def test_every_point_ends(files):
    assert all(point.policy.thresholds[-1] == -inf for point in solve(*files[:2]).front.points)
