import json

import pytest

from eesearch.core.front import CostSummary
from eesearch.reporting.figures import ORACLE, STATIC, strategy_styles
from eesearch.reporting.frontdata import front_data
from eesearch.reporting.plots import front_plot, point_hover


def traces(answers, number=0):
    device = answers.devices[number]
    return {trace["name"]: trace for trace in front_plot(device, front_data(device), strategy_styles(answers))["data"]}


def test_points_keep_their_numbers_in_the_plot(answers):
    found = traces(answers)
    assert found["separate, on test"]["customdata"] == [0, 1]
    assert found["joint, on test"]["customdata"] == [2, 3, 4]
    assert found["joint, on test"]["x"] == pytest.approx([125.49 * r for r in (0.548, 0.697, 0.845)])
    assert found["joint, on test"]["y"] == pytest.approx([91.68, 93.40, 93.52])
    assert found["backbone, no exits"]["x"] == [125.49]
    assert found["seeding rules"]["text"] == ["A", "B", "C,D"]
    assert found["front on calibration"]["line"]["shape"] == "hv"
    assert found["knee"]["x"] == pytest.approx([125.49 * 0.548])


def test_it_is_json_without_infinities(answers):
    json.dumps(
        front_plot(answers.devices[1], front_data(answers.devices[1]), strategy_styles(answers)), allow_nan=False
    )


def test_hover_shows_the_whole_configuration(answers):
    device = answers.devices[1]
    lines = point_hover(device, device.points[2], "Point 2").split("<br>")
    assert lines == [
        "<b>Point 2</b>",
        "joint, criterion max_prob, design 9d1e5a7b03c2f418",
        "32.0% leave at layer1.4, linear-avg1 (max_prob ≥ 0.9514)",
        "41.0% leave at layer2.3, linear-avg1 (max_prob ≥ 0.9122)",
        "27.0% leave at output, own classifier (always)",
        "accuracy 91.68% on test (drop +1.78 points)",
        "accuracy 91.96% on calibration",
        "68.77 M MACs on average, 0.55 x backbone (p95 110.0, worst 128.0)",
        "3.68 ms on average, 0.55 x backbone (p95 5.88, worst 6.84)",
    ]


def test_foreign_names_are_escaped(hostile):
    device = hostile.devices[0]
    hover = point_hover(device, device.points[1], device.device)
    assert "<script" not in hover
    assert "<img" not in hover
    assert "&lt;img src=x" in hover
    odd = device.points[0].test.model_copy(update={"strategy": "<a href='x'>"})
    renamed = device.model_copy(update={"points": (device.points[0].model_copy(update={"test": odd}),)})
    names = [
        trace["name"]
        for trace in front_plot(
            renamed, front_data(renamed), {"<a href='x'>": next(iter(strategy_styles(hostile).values()))}
        )["data"]
    ]
    assert names[0] == "&lt;a href=&#x27;x&#x27;&gt;, on test"


def test_a_device_without_points_still_has_its_backbone(answers):
    empty = answers.devices[0].model_copy(update={"points": (), "seeds": (), "oracle": (), "static": ()})
    assert [trace["name"] for trace in front_plot(empty, front_data(empty), {})["data"]] == ["backbone, no exits"]


def test_what_there_is_to_compare_with_is_a_line_that_the_legend_can_hide(answers):
    found = traces(answers, 1)
    oracle, static = found[ORACLE.name], found[STATIC.name]
    assert oracle["x"] == pytest.approx([6.71 * 0.30, 6.71 * 0.45])
    assert oracle["y"] == pytest.approx([81.0, 93.46])
    assert static["y"] == pytest.approx([69.54, 93.46])
    assert oracle["line"]["dash"] != static["line"]["dash"]
    assert not any("customdata" in trace or trace.get("showlegend") is False for trace in (oracle, static))
    assert oracle["hovertext"][1].split("<br>") == [
        "<b>Stable oracle: an ideal, computed on test</b>",
        "70.0% leave at layer1.4, linear-avg1",
        "30.0% leave at output, own classifier",
        "accuracy 93.46% on test",
        "3.02 ms on average, 0.45 x backbone",
    ]
    assert static["hovertext"][0].startswith("<b>Static sub-network</b>")


def test_an_oracle_s_exits_are_escaped(hostile):
    device = hostile.devices[0]
    figure = front_plot(device, front_data(device), strategy_styles(hostile))
    (oracle,) = [trace for trace in figure["data"] if trace["name"] == ORACLE.name]
    assert "&lt;img src=x" in oracle["hovertext"][0]
    assert "<img" not in oracle["hovertext"][0]


def test_hover_tells_parameters_as_what_is_deployed_and_the_answer_if_it_is_not_the_exit_s_own(answers):
    device = answers.devices[0]
    deployed = {"params": CostSummary(mean=1e6, p95=2e6, worst=3.25e6)}
    point, backbone = (
        p.model_copy(update={"test": p.test.model_copy(update={"costs": p.test.costs | deployed})})
        for p in (device.points[2], device.backbone)
    )
    policy = point.test.policy.model_copy(update={"answer": "mean"})
    point = point.model_copy(update={"test": point.test.model_copy(update={"policy": policy})})
    lines = point_hover(device.model_copy(update={"backbone": backbone}), point, "Point 2").split("<br>")
    assert lines[-1] == "3.250 M parameters deployed"
    assert lines[1] == "joint, criterion max_prob/mean, design 9d1e5a7b03c2f418"
