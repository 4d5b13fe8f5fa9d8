"""Fronts: what stays, picks, knee, hypervolume, merge."""

from __future__ import annotations

import re
from math import inf

import numpy as np
import pytest

from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.errors import PickError
from eesearch.core.front import CostSummary, Evaluation, Front, exit_name, hypervolume
from eesearch.core.policy import Policy, Stop

END = Stop(exit=ExitId(network="n", cut=OUTPUT, head=OWN), threshold=-inf)


def point(accuracy, cost, design="d", threshold=0.5):
    early = Stop(exit=ExitId(network="n", cut="a", head="x"), threshold=threshold)
    return Evaluation(
        policy=Policy(stops=(early, END), criterion="max_prob"),
        design=design,
        strategy="separate",
        accuracy=accuracy,
        samples=100,
        exit_rate=(0.25, 0.75),
        costs={"macs": CostSummary(mean=cost, p95=cost, worst=cost)},
    )


BACKBONE = point(0.90, 100.0)


def front(*points):
    return Front([point(*p) for p in points], backbone=BACKBONE, axis="macs", device="macs")


def pairs(of):
    return [(e.accuracy, e.costs["macs"].mean) for e in of.points]


def test_keeps_the_non_dominated_by_rising_cost():
    got = front((0.9, 90.0), (0.8, 50.0), (0.8, 60.0), (0.7, 50.0), (0.7, 20.0), (0.89, 95.0))
    assert pairs(got) == [(0.7, 20.0), (0.8, 50.0), (0.9, 90.0)]
    assert got[1].costs["macs"].mean == 50.0
    assert len(got) == 3


def test_of_equal_points_one_stays_whatever_the_order():
    several = [point(0.8, 50.0, threshold=t) for t in (0.3, 0.1, 0.2)]
    kept = [Front(order, backbone=BACKBONE, axis="macs", device="m").points for order in (several, several[::-1])]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 1


def test_values_are_error_and_relative_cost():
    assert front((0.75, 50.0), (0.5, 25.0)).values.tolist() == [[0.5, 0.25], [0.25, 0.5]]


def test_merge_is_the_front_of_both():
    merged = front((0.8, 50.0), (0.9, 95.0)).merge(front((0.85, 40.0)), front((0.6, 10.0)))
    assert pairs(merged) == [(0.6, 10.0), (0.85, 40.0), (0.9, 95.0)]
    assert merged.backbone is BACKBONE


def test_hypervolume_of_one_point_is_a_rectangle():
    # reference: error 0.1 + 0.05, cost 1; the point (0.1, 0.4) dominates 0.05 x 0.6 of 0.15 x 1
    assert front((0.90, 40.0)).hypervolume() == pytest.approx(0.05 * 0.6 / 0.15)


def test_hypervolume_of_two_points_counts_the_overlap_once():
    got = front((0.90, 40.0), (0.87, 20.0)).hypervolume()
    assert got == pytest.approx((0.05 * 0.6 + 0.02 * 0.2) / 0.15)


def test_hypervolume_follows_max_drop():
    assert front((0.90, 40.0)).hypervolume(max_drop=0.1) == pytest.approx(0.1 * 0.6 / 0.2)


def test_a_front_that_misses_the_rectangle_is_worth_minus_its_shortfall():
    assert front((0.80, 40.0), (0.60, 10.0)).hypervolume() == pytest.approx(-0.05)
    assert front((0.90, 130.0)).hypervolume() == pytest.approx(-0.3)
    assert front().hypervolume() == -2.0


def test_where_no_error_is_allowed_the_cheapest_point_without_any_counts():
    assert hypervolume(np.array([(0.1, 0.2), (0.0, 0.4), (0.0, 0.7)]), 0.0) == pytest.approx(0.6)
    assert hypervolume(np.array([(0.1, 0.2)]), 0.0) == pytest.approx(-0.1)


def test_within_is_the_cheapest_that_drops_no_more():
    got = front((0.6, 10.0), (0.895, 40.0), (0.9, 70.0), (0.95, 90.0))
    assert got.within(0.0).costs["macs"].mean == 70.0
    assert got.within(0.005).costs["macs"].mean == 40.0  # 0.9 - 0.895 is a hair more than 0.005 in floating point
    assert got.within(-0.06) is None


def test_knee_is_farthest_below_the_chord():
    got = front((0.50, 10.0), (0.88, 30.0), (0.89, 60.0), (0.90, 100.0))
    assert got.knee().costs["macs"].mean == 30.0


def test_knee_of_one_point_is_that_point():
    single = front((0.8, 50.0))
    assert single.knee() is single[0]


def test_knee_of_nothing_is_refused():
    with pytest.raises(PickError, match="the front of macs is empty"):
        front().knee()


def test_to_pandas_has_a_row_per_point():
    frame = front((0.5, 10.0), (0.9, 90.0)).to_pandas()
    assert frame["macs"].tolist() == [10.0, 90.0]
    assert frame["point"].tolist() == [0, 1]
    assert frame.loc[0, ["exits", "thresholds", "exit_rate"]].tolist() == ["a|output", "0.5|-inf", "0.2500|0.7500"]


def test_a_notebook_shows_every_point_and_the_backbone():
    html = front((0.9, 90.0), (0.8, 50.0))._repr_html_()
    rows = [re.findall(r"<t[dh]>(.*?)</t[dh]>", row) for row in re.findall(r"<tr>(.*?)</tr>", html)]
    assert rows[0] == ["point", "leave at", "accuracy", "drop", "mean macs", "ratio"]
    assert [row[0] for row in rows[1:]] == ["0", "1", "backbone"]
    assert rows[1] == ["0", "25.0% a, 75.0% output", "80.00%", "+10.00", "50", "0.500"]
    assert rows[3][2:] == ["90.00%", "+0.00", "100", "1.000"]


def test_foreign_names_are_no_html():
    evil = Front([], backbone=BACKBONE, axis="macs", device="<script>alert(1)</script>")
    assert "<script" not in evil._repr_html_()
    exits = (Stop(exit=ExitId(network="n", cut="<img src=x>", head="x"), threshold=0.5), END)
    named = BACKBONE.model_copy(update={"policy": Policy(stops=exits, criterion="max_prob")})
    assert "<img" not in Front([named], backbone=BACKBONE, axis="macs", device="m")._repr_html_()


def test_exits_are_called_by_cut_and_tier():
    bare = ExitId(network="n", cut="stem.2", head="h")
    edge = bare.model_copy(update={"tier": "edge"})
    coded = edge.model_copy(update={"link": "8bit@stem.1"})
    assert [exit_name(e) for e in (bare, edge, coded)] == ["stem.2", "stem.2 on edge", "stem.2 on edge over 8 bits"]
