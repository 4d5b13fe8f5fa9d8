import json

import pytest

from eesearch.reporting.progress import time_unit, volume_plot


def test_every_device_has_a_line_by_trial_and_over_time(rich):
    plot = volume_plot(rich)
    assert [trace["meta"]["label"] for trace in plot["data"]] == ["macs", "cpu:eager:t1:b1"]
    assert plot["data"][1]["y"] == pytest.approx([0.43, 0.46, 0.49])
    assert plot["data"][0]["x"] == plot["by"]["trial"]["x"] == [0, 1, 2]
    assert plot["by"]["time"] == {
        "x": pytest.approx([48.2 / 60, 460.2 / 60, 872.2 / 60]), "title": "Time of all trials (min)", "step": None,
    }  # fmt: skip
    first, second = plot["data"]
    assert first["line"]["dash"] != second["line"]["dash"]
    assert first["hovertext"][1].split("<br>")[1:] == ["hypervolume 0.4400", "after trial 1, 7 min 40 s"]
    json.dumps(plot, allow_nan=False)


def test_how_a_trial_ended_is_told_where_it_brought_nothing(stopped):
    hover = volume_plot(stopped)["data"][0]["hovertext"]
    assert hover[2].endswith("after trial 2 (failed), 14 min 32 s")
    assert hover[3].endswith("after trial 3 (stopped early, after 2 epochs), 14 min 35 s")


def test_with_one_complete_trial_there_is_nothing_to_see(rich, answers):
    assert volume_plot(rich.model_copy(update={"trials": (rich.trials[0], rich.trials[2])})) is None
    assert volume_plot(answers) is None  # of an older run
    assert volume_plot(rich.model_copy(update={"trials": ()})) is None


def test_a_front_that_is_empty_or_keeps_no_constraint_is_a_gap(rich):
    reached = ((None, 0.2), (None, None), (0.3, -1e-17))
    trials = [trial.model_copy(update={"hypervolumes": v}) for trial, v in zip(rich.trials, reached, strict=True)]
    first, second = volume_plot(rich.model_copy(update={"trials": tuple(trials)}))["data"]
    assert first["y"] == [None, None, 0.3]
    assert second["y"] == [0.2, None, 0.0]
    assert first["hovertext"][:2] == ["", ""]
    assert "hypervolume 0" in second["hovertext"][2]
    assert "-" not in second["hovertext"][2]


def test_where_nothing_was_ever_reached_there_is_nothing_to_see(rich):
    trials = tuple(trial.model_copy(update={"hypervolumes": (None, None)}) for trial in rich.trials)
    assert volume_plot(rich.model_copy(update={"trials": trials})) is None


def test_device_names_are_escaped(rich):
    device = rich.devices[0].model_copy(update={"device": "<img src=x>"})
    plot = volume_plot(rich.model_copy(update={"devices": (device, rich.devices[1])}))
    assert "<img" not in plot["data"][0]["name"] + plot["data"][0]["hovertext"][0]


@pytest.mark.parametrize(
    ("seconds", "unit"), [(0.0, (1.0, "s")), (119.0, (1.0, "s")), (120.0, (60.0, "min")), (7200.0, (3600.0, "h"))]
)
def test_time_has_the_unit_that_reads_best(seconds, unit):
    assert time_unit(seconds) == unit
