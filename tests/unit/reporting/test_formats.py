from math import inf
from typing import get_args

import pytest

from eesearch.core.costs import Axis
from eesearch.core.design import ASK
from eesearch.core.policy import Stop
from eesearch.reporting.formats import (
    AXIS_TITLES,
    UNITS,
    cost_words,
    count_words,
    duration,
    in_unit,
    interval_words,
    last_words,
    note_words,
    percent,
    points_words,
    short_interval,
    significant,
    stop_words,
)


@pytest.mark.parametrize(
    ("value", "digits", "words"),
    [(1234.5, 3, "1,234"), (0.012345, 3, "0.0123"), (87.468, 4, "87.47"), (0.0, 3, "0.000"), (-0.5, 2, "-0.50")],
)
def test_significant_digits_without_exponents(value, digits, words):
    assert significant(value, digits) == words


def test_costs_carry_their_unit():
    assert in_unit(87.465e6, "macs") == pytest.approx(87.465)
    assert in_unit(4.677, "latency_ms") == 4.677
    assert cost_words(125.49e6, "macs") == "125.5 M MACs"
    assert cost_words(4.677, "latency_ms") == "4.68 ms"
    assert cost_words(4.677, "latency_ms", unit=False) == "4.68"
    assert cost_words(857_706.0, "params") == "0.8577 M parameters"
    assert cost_words(12_345.0, "bytes") == "12.35 kB"
    assert cost_words(1.2345, "energy_mj") == "1.23 mJ"


def test_every_axis_has_a_title_with_its_unit():
    assert set(AXIS_TITLES) == set(UNITS) == set(get_args(Axis))
    assert all("(" in title for title in AXIS_TITLES.values())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.42, "0.4 s"), (59.97, "1 min 00 s"), (185.0, "3 min 05 s"), (3599.8, "1 h 00 min"), (3725.0, "1 h 02 min")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_differences_are_signed_points_and_zero_has_no_sign():
    assert points_words(0.0031) == "+0.31"
    assert points_words(-0.0006) == "-0.06"
    assert points_words(-1e-9) == "0.00"


def test_intervals_have_two_signed_ends_or_nothing():
    assert interval_words((-0.0010, 0.0054)) == "-0.10 to +0.54"
    assert short_interval((-0.0012, 0.0054)) == "-0.1..+0.5"
    assert short_interval((-0.0002, 0.1234)) == "+0.0..+12.3"
    assert interval_words(None) == short_interval(None) == ""
    assert percent(0.93119) == "93.12%"


def test_a_stop_says_where_how_many_and_when(answers):
    first, never, last = stop_words(answers.devices[0].points[4].test)
    assert (first.exit, first.head, first.share, first.rule) == (
        "layer2.3",
        "linear-avg1",
        "41.0%",
        "max_prob ≥ 0.9902",
    )
    assert (never.share, never.rule) == ("0.0%", "never")
    assert (last.exit, last.head, last.rule) == ("output", "own classifier", "always")


def test_a_last_resort_is_asked(answers):
    point = answers.devices[0].points[3].test
    stops = (point.policy.stops[0], Stop(exit=ASK, threshold=-inf))
    policy = point.policy.model_copy(update={"stops": stops, "answer": "most_confident"})
    first, last = stop_words(point.model_copy(update={"policy": policy}))
    assert (last.exit, last.head, last.rule) == ("last resort", "asked", "always")
    assert first.rule == "max_prob/most_confident ≥ 0.9731"


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0"), (940, "940"), (1000, "1.00 k"), (12_450, "12.4 k"), (1_800_000, "1.80 M"), (2_345_000_000, "2.35 G")],
)  # fmt: skip
def test_counts_have_three_digits(count, words):
    assert count_words(count) == words


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [
        (0.8910, "89.10% on calibration, 0.90 points below the backbone"),
        (0.9, "90.00% on calibration, equal to the backbone"),
        (0.9031, "90.31% on calibration, 0.31 points above the backbone"),
    ],
)
def test_a_last_classifier_is_told_against_the_backbone(accuracy, words):
    assert last_words(accuracy, 0.9) == words


def test_notes_of_gated_are_a_gap_and_others_stay_as_they_are():
    gap = {"soft accuracy": 0.931, "hard accuracy": 0.928, "soft cost": 0.52, "hard cost": 0.5}
    (first, words), other = note_words({"depth": 2.5} | gap)
    assert first == "soft-hard gap"
    assert words.startswith("-0.30 points, -0.020 x backbone")
    assert other == ("depth", "2.500")
    assert note_words({"soft cost": 0.5}) == [("soft cost", "0.5000")]
    assert note_words({}) == []
