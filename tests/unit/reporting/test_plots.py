import json

import pytest

from eesearch.reporting.designs import designs_plot
from eesearch.reporting.figures import strategy_styles
from eesearch.reporting.frontdata import front_data
from eesearch.reporting.hovers import point_hover
from eesearch.reporting.plots import front_plot, page_layout, strategies_plot
from eesearch.reporting.progress import volume_plot


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


def test_all_plots_of_the_page_share_a_layout(rich):
    styles = strategy_styles(rich)
    device = rich.devices[0]
    figures = front_plot(device, front_data(device), styles), volume_plot(rich), designs_plot(rich, styles)
    for figure in figures:
        layout = figure["layout"]
        assert page_layout(layout["height"], layout["margin"]).items() <= layout.items()


def test_it_is_json_without_infinities(answers):
    json.dumps(
        front_plot(answers.devices[1], front_data(answers.devices[1]), strategy_styles(answers)), allow_nan=False
    )


def test_foreign_names_are_escaped(hostile):
    device = hostile.devices[0]
    hover = point_hover(device, device.points[1], device.device)
    assert "<script" not in hover
    assert "<img" not in hover
    assert "&lt;img src=x" in hover
    odd = device.points[0].test.model_copy(update={"strategy": "<a href='x'>"})
    renamed = device.model_copy(update={"points": (device.points[0].model_copy(update={"test": odd}),)})
    styles = {"<a href='x'>": next(iter(strategy_styles(hostile).values()))}
    (own,) = [t for t in front_plot(renamed, front_data(renamed), styles)["data"] if "customdata" in t]
    assert own["name"] == "&lt;a href=&#x27;x&#x27;&gt;, on test"
    assert own["meta"]["label"] == "<a href='x'>, on test"  # the page makes it a text node


def test_a_device_without_points_still_has_its_backbone(answers):
    empty = answers.devices[0].model_copy(update={"points": (), "seeds": (), "oracle": (), "static": ()})
    assert [trace["name"] for trace in front_plot(empty, front_data(empty), {})["data"]] == ["backbone, no exits"]


def test_a_crowd_has_small_markers_and_faint_intervals(answers):
    device = answers.devices[0]
    looks = []
    for copies in (1, 20, 200):
        crowd = device.model_copy(update={"points": device.points * copies})
        (trace, *_) = [
            t for t in front_plot(crowd, front_data(crowd), strategy_styles(answers))["data"] if "error_y" in t
        ]
        looks.append((trace["marker"]["size"], trace["error_y"]["color"][-2:]))
    assert looks == [(8, "99"), (6, "99"), (4, "33")]


def test_the_points_of_the_front_lie_above_everything_to_compare_with(rich):
    names = list(traces(rich))
    assert names.index("BranchyNet") < names.index("joint, on test")


def test_each_strategy_has_a_line_in_the_same_axes_and_the_backbone_is_marked(compared):
    device = compared.devices[1]
    data, styles = front_data(device), strategy_styles(compared)
    plot = strategies_plot(device, data, styles)
    *lines, backbone = plot["data"]
    assert [line["meta"]["label"] for line in lines] == [own.strategy for own in device.strategies if own.points]
    assert lines[-1]["name"] == "&lt;b&gt;own"
    for line, own in zip(lines, [own for own in device.strategies if own.points], strict=True):
        assert line["x"] == pytest.approx([device.ratio(point) for point in own.points])
        assert line["y"] == pytest.approx([100.0 * point.test.accuracy for point in own.points])
        assert line["line"]["color"] == styles[own.strategy].colour
    assert (backbone["x"], backbone["y"]) == ([1.0], pytest.approx([93.46]))
    low, high = plot["layout"]["yaxis"]["range"]
    assert low < 93.46 < high
    assert plot["layout"]["xaxis"]["rangemode"] == "tozero"
    json.dumps(plot, allow_nan=False)


def test_crowded_strategies_get_a_logarithmic_axis_too(compared):
    device = compared.devices[0]

    def cheaper(point):
        costs = {axis: cost.model_copy(update={"mean": cost.mean / 20}) for axis, cost in point.test.costs.items()}
        return point.model_copy(update={"test": point.test.model_copy(update={"costs": costs})})

    crowded = tuple(o.model_copy(update={"points": tuple(map(cheaper, o.points))}) for o in device.strategies)
    device = device.model_copy(update={"strategies": crowded})
    axis = strategies_plot(device, front_data(device), strategy_styles(compared))["layout"]["xaxis"]
    assert axis["type"] == "log"
    assert 10.0 ** axis["range"][1] == pytest.approx(1.2)
    assert "1" in axis["ticktext"]


def test_one_strategy_has_nothing_to_be_compared_with(compared):
    device = compared.devices[0]
    alone = device.model_copy(update={"strategies": device.strategies[:1]})
    assert strategies_plot(alone, front_data(alone), strategy_styles(compared)) is None


def test_strategies_without_any_point_leave_the_backbone(compared):
    device = compared.devices[0]
    bare = tuple(own.model_copy(update={"points": ()}) for own in device.strategies)
    device = device.model_copy(update={"strategies": bare})
    plot = strategies_plot(device, front_data(device), strategy_styles(compared))
    assert [trace["meta"]["label"] for trace in plot["data"]] == ["backbone, no exits"]
    low, high = plot["layout"]["yaxis"]["range"]
    assert low < 93.46 < high
