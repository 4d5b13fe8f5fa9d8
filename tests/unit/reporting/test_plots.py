import json

import pytest

from eesearch.reporting.figures import front_data, strategy_styles
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
    empty = answers.devices[0].model_copy(update={"points": (), "seeds": ()})
    assert [trace["name"] for trace in front_plot(empty, front_data(empty), {})["data"]] == ["backbone, no exits"]
