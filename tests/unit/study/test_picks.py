from math import inf

import pytest

from eesearch.core.design import ExitId
from eesearch.core.errors import PickError
from eesearch.core.front import CostSummary, Evaluation
from eesearch.core.paired import wilson
from eesearch.core.policy import Policy, Stop
from eesearch.study.answers import DeviceAnswer
from eesearch.study.picks import Pick, Wanted, chosen_points, find_device
from eesearch.study.points import Point

# (calibration accuracy, test accuracy, cost): test is worse where calibration is better, so that reading it would show.
POINTS = [(0.80, 0.95, 1.0), (0.88, 0.94, 2.0), (0.90, 0.93, 4.0), (0.905, 0.70, 9.0)]


def evaluation(accuracy, cost, cut="a", axis="latency_ms"):
    policy = Policy(stops=(Stop(exit=ExitId(network="n", cut=cut, head="h"), threshold=-inf),), criterion="max_prob")
    return Evaluation(
        policy=policy, design="d", strategy="separate", accuracy=accuracy, samples=1000, exit_rate=(1.0,),
        costs={axis: CostSummary(mean=cost, p95=2 * cost, worst=3 * cost)},
    )  # fmt: skip


def device(name="cpu:eager:t1:b1", axis="latency_ms", points=POINTS):
    made = [
        Point(cal=evaluation(cal, cost, f"c{i}", axis), test=evaluation(test, cost, f"c{i}", axis))
        for i, (cal, test, cost) in enumerate(points)
    ]
    backbone = Point(cal=evaluation(0.90, 10.0, "o", axis), test=evaluation(0.92, 10.0, "o", axis))
    return DeviceAnswer(device=name, axis=axis, backbone=backbone, points=tuple(made))


DEVICES = (device(), device("macs", "macs"))


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("point=3", 3),
        ("max-drop=0%", 2),
        ("max-drop=2%", 1),
        ("max-drop=0.02", 1),
        ("max-drop=50%", 0),
        ("budget-ms=4", 2),
        ("budget-ms=3.9", 1),
        ("knee", 1),
        ("max-drop=2%@macs", 1),
    ],
)
def test_picks_read_calibration_only(text, point):
    found, chosen = Pick.parse(text).choose(DEVICES)
    assert chosen == found.points[point]
    assert found.device == ("macs" if "@" in text else DEVICES[0].device)


@pytest.mark.parametrize(
    "text", ["", "best", "point=-1", "point=4", "knee=2", "max-drop=", "max-drop=1e", "max-drop=0.5%%", "max-drop=0.5",
             "budget-ms=0.5", "budget-ms=9@macs", "knee@nowhere"],
)  # fmt: skip
def test_picks_that_name_nothing(text):
    with pytest.raises(PickError):
        Pick.parse(text).choose(DEVICES)


def test_a_drop_that_no_point_keeps_says_what_the_best_one_loses():
    poor = device(points=[(0.5, 0.5, 1.0), (0.7, 0.7, 2.0)])
    with pytest.raises(PickError, match=r"the best one loses 20\.00%"):
        Pick.parse("max-drop=1%").choose([poor])


def test_a_pick_is_never_slower_than_the_backbone():
    """Whose accuracy is not chosen, so nothing is to be taken off for that: it keeps every drop."""
    chosen = device(points=[(0.90, 0.91, 8.0), (0.92, 0.92, 13.0)]).model_copy(update={"optimism": ((0.0, 0.01),)})
    with pytest.raises(PickError, match=r"cheaper than the backbone; got the cheapest one needs 1\.30 x .* Keep"):
        Pick.parse("max-drop=0%").choose([chosen])
    assert Pick.parse("max-drop=0%").choose([chosen], naive=True).number == 0
    assert Pick.parse("max-drop=1%").choose([chosen]).number == 0
    assert chosen.at_no_loss() is None


@pytest.mark.parametrize(
    ("drop", "budget", "at", "points"),
    [
        (None, None, "mean", [0, 1, 2, 3]),
        ("2%", None, "mean", [1, 2, 3]),
        (None, 4.0, "mean", [0, 1, 2]),
        (None, 4.0, "p95", [0, 1]),
        (None, 4.0, "worst", [0]),
        ("2%", 4.0, "p95", [1]),
    ],
)
def test_constraints(drop, budget, at, points):
    assert chosen_points(DEVICES[0], Wanted.parse(max_drop=drop, budget_ms=budget, at=at)) == points


def test_find_device():
    assert find_device(DEVICES, None) is DEVICES[0]
    assert find_device(DEVICES, "macs") is DEVICES[1]


def test_the_verdict_reads_test_and_says_what_it_costs():
    assert DEVICES[0].verdict() == (
        "cpu:eager:t1:b1: exits pay. At no loss on calibration 0.40 x the backbone's mean latency; "
        "accuracy on test 93.00%, 1.00 points above the backbone's 92.00%."
    )


def test_the_verdict_where_exits_do_not_pay():
    never = device(points=[(0.895, 0.9, 5.0), (0.90, 0.92, 9.9)])
    assert never.verdict().endswith(
        "at no loss on calibration; at one point lost they need 0.50 x the backbone's mean latency."
    )
    assert device(points=[(0.90, 0.92, 10.1)]).verdict().endswith("calibration, nor at two points lost.")


def test_wilson_interval_against_scipy():
    from scipy.stats import binomtest

    for right, samples in [(0, 10), (3, 10), (540, 540), (9312, 10_000)]:
        expected = binomtest(right, samples).proportion_ci(method="wilson")
        assert wilson(right / samples, samples) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"max_drop": 0.02}, "max-drop=0.02"),
        ({"max_drop": "2%"}, "max-drop=2%"),
        ({"max_drop": 0.0}, "max-drop=0%"),
        ({"max_drop": 1e-05}, "max-drop=0.001%"),
        ({"budget_ms": 3.9}, "budget-ms=3.9"),
        ({"knee": True}, "knee"),
        ({"point": 0}, "point=0"),
        ({"knee": True, "device": "macs"}, "knee@macs"),
    ],
)
def test_keywords_mean_what_selections_mean(rule, text):
    assert Pick.by_rule(**rule) == Pick.parse(text)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "needs one rule; got none"),
        ({"knee": True, "point": 1}, "got knee, point"),
        ({"max_drop": 0.6}, "60%"),
        ({"point": -1}, "is no selection"),
        ({"point": 1.5}, "is no selection"),
        ({"max_drop": float("nan")}, "is no selection"),
    ],
)
def test_keywords_that_mean_nothing(rule, message):
    with pytest.raises(PickError, match=message):
        Pick.by_rule(**rule)


def test_what_is_picked_unpacks_and_names_itself():
    picked = Pick.parse("max-drop=2%").choose(DEVICES)
    found, point = picked
    assert (found, point) == (picked.device, picked.point) == (DEVICES[0], DEVICES[0].points[1])
    assert picked.number == 1
    assert repr(picked) == (
        "Picked(point 1 on cpu:eager:t1:b1: 0.200 x the backbone's mean latency, accuracy on test 94.00%, "
        "-2.00 points lost)"
    )


@pytest.mark.parametrize("text", ["knee", "point=0", "max-drop=1%", "budget-ms=3"])
def test_an_empty_front_has_no_points_to_pick(text):
    with pytest.raises(PickError, match="has no points yet"):
        Pick.parse(text).choose((device(points=[]),))
