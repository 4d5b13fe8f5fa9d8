import pytest

from eesearch.reporting.figures import ORACLE, STATIC
from eesearch.reporting.frontdata import front_data
from eesearch.reporting.layers import GROUPS, layer_traces, named


def layers(answers, number=0):
    device = answers.devices[number]
    return {trace["meta"]["label"]: trace for trace in layer_traces(device, front_data(device))}


def test_what_there_is_to_compare_with_is_a_line_that_can_be_hidden(answers):
    found = layers(answers, 1)
    oracle, static = found[ORACLE.name], found[STATIC.name]
    assert oracle["x"] == pytest.approx([6.71 * 0.30, 6.71 * 0.45])
    assert oracle["y"] == pytest.approx([81.0, 93.46])
    assert static["y"] == pytest.approx([69.54, 93.46])
    assert oracle["line"]["dash"] != static["line"]["dash"]
    assert not any("customdata" in trace for trace in (oracle, static))  # a click does not pin them
    assert oracle["hovertext"][0].startswith("<b>Stable oracle")
    assert static["hovertext"][0].startswith("<b>Static sub-network</b>")


def test_an_oracle_s_exits_are_escaped(hostile):
    oracle = layers(hostile)[ORACLE.name]
    assert "&lt;img src=x" in oracle["hovertext"][0]
    assert "<img" not in oracle["hovertext"][0]


def test_older_answers_have_no_further_layers(answers):
    assert list(layers(answers)) == [ORACLE.name, STATIC.name]


def test_methods_and_dominated_points_wait_for_their_switch(rich):
    found = layers(rich)
    assert list(found) == [ORACLE.name, STATIC.name, "dominated points of trials", "BranchyNet", "SDN"]
    assert [found[name]["visible"] for name in list(found)[2:]] == [False] * 3
    assert found["SDN"]["meta"]["group"] == "baseline"
    assert found["SDN"]["x"] == pytest.approx([1.05 * 125.49 * ratio for ratio in (0.548, 0.697, 0.845)])
    assert found["SDN"]["y"] == pytest.approx([91.28, 93.0, 93.12])
    looks = {(found[name]["line"]["color"], found[name]["marker"]["symbol"]) for name in ("SDN", "BranchyNet")}
    assert len(looks) == 2


def test_a_dominated_point_tells_its_trial(rich):
    hover = layers(rich)["dominated points of trials"]["hovertext"]
    assert hover[0].startswith("<b>Trial 1, dominated</b><br>joint, criterion max_prob")


@pytest.mark.parametrize("kind", ["cascade", "verified"])
def test_what_comes_later_has_its_place_and_is_shown(rich, kind):
    device = rich.devices[0]
    layer = device.layers[0].model_copy(update={"kind": kind, "name": "two networks"})
    late = rich.model_copy(update={"devices": (device.model_copy(update={"layers": (layer,)}),)})
    trace = layers(late)["two networks"]
    assert trace["visible"]
    assert trace["meta"]["group"] == kind
    assert kind in GROUPS


def test_many_methods_are_told_apart(rich):
    device = rich.devices[0]
    many = tuple(device.layers[0].model_copy(update={"name": f"m{n:02d}"}) for n in range(24))
    found = layers(rich.model_copy(update={"devices": (device.model_copy(update={"layers": many}),)}))
    looks = {
        (t["line"]["color"], t["line"]["dash"], t["marker"]["symbol"])
        for t in found.values() if t["meta"]["group"] == "baseline"
    }  # fmt: skip
    assert len(looks) == 24


def test_names_are_escaped_for_plotly_and_plain_for_the_page():
    assert named("<b>", "front") == {"name": "&lt;b&gt;", "meta": {"label": "<b>", "group": "front"}}
