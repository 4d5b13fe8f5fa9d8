import json

import pytest

from eesearch.core.design import ASK
from eesearch.core.policy import Stop
from eesearch.reporting.frontdata import front_data
from eesearch.reporting.pins import cuts_in_order, pins, point_key


def facts_of(answers, number=0):
    return pins(answers, answers.devices[number], front_data(answers.devices[number]))


def test_limits_are_on_calibration_and_the_marker_on_test(rich):
    device = rich.devices[1]
    point = facts_of(rich, 1)["points"][2]
    assert point["lost"] == device.drop(device.points[2]) == pytest.approx(0.0176)
    assert point["cost"] == pytest.approx(6.71 * 0.544)
    assert point["drawn"] == pytest.approx([6.71 * 0.548, 91.68])
    assert facts_of(rich, 1)["promised"] is False


def test_where_optimism_is_known_limits_are_on_what_is_to_be_expected(promised):
    device, facts = promised.devices[0], facts_of(promised)
    assert facts["promised"] is True
    assert facts["start"] == 4  # point 3 is expected to lose something
    expected = [max(device.drop(point), device.corrected(point)) for point in device.points]
    assert [point["lost"] for point in facts["points"]] == expected
    assert facts["points"][3]["facts"][1:4] == [
        ["Lost on test", "+0.06 points, 95 % interval -0.50 to +0.62"],
        ["Lost on new samples", "+0.31 points promised, -0.02 on calibration"],
        ["Accuracy on calibration", "93.74%"],
    ]


def test_a_point_tells_what_happens_at_its_stops(rich):
    first, second, last = facts_of(rich)["points"][4]["stops"]
    assert first == {
        "cut": "layer2.3", "name": "layer2.3", "head": "linear-avg1", "kind": "exit", "network": "3fa1c0ffee3fa1c0",
        "share": "41.0%", "rule": "max_prob ≥ 0.9902", "accuracy": "99.00%", "costs": ["41.83", "2.24"],
        "paid": pytest.approx(41.83),
    }  # fmt: skip
    assert (second["rule"], second["accuracy"]) == ("never", None)
    assert (last["kind"], last["head"]) == ("output", "own classifier")
    assert facts_of(rich)["units"] == ["M MACs", "ms"]
    assert facts_of(rich, 1)["units"] == ["ms", "M MACs"]


def test_a_point_is_told_in_words(rich):
    assert facts_of(rich)["points"][3]["facts"] == [
        ["Accuracy on test", "93.40%, 95 % interval 92.68 to 94.06"],
        ["Lost on test", "+0.06 points"],
        ["Accuracy on calibration", "93.74%"],
        ["Multiply-adds", "87.47 M MACs on average, 0.697 x backbone (p95 128.0, worst 128.0)"],
        ["Latency", "4.68 ms on average, 0.697 x backbone (p95 6.84, worst 6.84)"],
    ]


def test_older_answers_have_stops_without_facts(answers):
    (stop,) = facts_of(answers)["points"][0]["stops"]
    assert "paid" not in stop
    assert stop["share"] == "100.0%"


def test_it_begins_at_no_loss_else_with_little_else_at_the_knee_else_nowhere(answers):
    device = answers.devices[0]

    def start(points, *, optimism=()):
        changed = device.model_copy(update={"points": points, "optimism": optimism})
        facts = facts_of(answers.model_copy(update={"devices": (changed,)}))
        return facts["start"], facts["limit"]

    assert start(device.points) == (3, 0.0)
    assert start(device.points, optimism=((0.0, 0.007),)) == (4, 0.5)
    assert start(device.points[:2]) in ((0, None), (1, None))  # both lose more than a point
    assert start(()) == (None, None)


def test_the_chain_of_cuts_is_the_longest_known_one(answers):
    device = answers.devices[0]
    bank = [f"layer{i}.{j}" for i in (1, 2, 3) for j in range(4)]
    assert cuts_in_order(answers, device) == bank
    assert cuts_in_order(answers.model_copy(update={"trials": ()}), device) == ["layer1.4", "layer2.3"]
    nothing = device.model_copy(update={"overthinking": ()})
    assert cuts_in_order(answers.model_copy(update={"trials": ()}), nothing) == []


def test_a_last_resort_is_no_exit(rich):
    device = rich.devices[0]
    test = device.points[3].test
    first, last = test.policy.stops
    stops = first, last.model_copy(update={"threshold": 0.5}), Stop(exit=ASK, threshold=last.threshold)
    asked = test.policy.model_copy(update={"stops": stops})
    test = test.model_copy(update={"policy": asked, "exit_rate": (0.5, 0.4, 0.1)})
    point = device.points[3].model_copy(update={"test": test, "stops": ()})
    found = facts_of(rich.model_copy(update={"devices": (device.model_copy(update={"points": (point,)}),)}))
    assert [stop["kind"] for stop in found["points"][0]["stops"]] == ["exit", "output", "ask"]


def test_a_key_stays_with_its_point_when_the_front_grows(rich):
    first, *others = rich.devices
    before = [point["key"] for point in facts_of(rich)["points"]]
    grown = first.model_copy(update={"points": (first.points[4], *first.points[:4])})
    after = [point["key"] for point in facts_of(rich.model_copy(update={"devices": (grown, *others)}))["points"]]
    assert len(set(before)) == len(before)
    assert after == [before[4], *before[:4]]


def test_a_key_is_of_the_design_and_the_policy_and_of_nothing_else(answers):
    point = answers.devices[0].points[2]
    first, *others = point.cal.policy.stops
    moved = point.cal.policy.model_copy(update={"stops": (first.model_copy(update={"threshold": 0.5}), *others)})

    def key(**changes):
        return point_key(point.model_copy(update={"cal": point.cal.model_copy(update=changes)}))

    assert key(policy=moved) != point_key(point)
    assert key(design="another") != point_key(point)
    assert key(accuracy=0.1) == point_key(point)


def test_it_is_json_without_infinities(rich):
    json.dumps(facts_of(rich), allow_nan=False)


def test_a_point_tells_its_last_exit_and_the_soft_hard_gap(compared):
    facts = dict(facts_of(compared)["points"][3]["facts"])
    assert facts["Own classifier"] == "92.82% on calibration, 0.90 points below the backbone"
    assert facts["Soft-hard gap"].startswith("-0.30 points, +0.031 x backbone")
