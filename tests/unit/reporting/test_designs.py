import json

import pytest

from eesearch.reporting.designs import MOST_CUTS, designs_plot
from eesearch.reporting.figures import strategy_styles


def plot_of(answers):
    return designs_plot(answers, strategy_styles(answers))


def test_every_complete_trial_has_a_line(rich):
    plot = plot_of(rich)
    assert [trial["number"] for trial in plot["trials"]] == [0, 1]
    assert plot["best"] == 1
    axes = len(plot["layout"]["shapes"])
    assert axes == 1 + MOST_CUTS + 3
    assert all(len(trial["y"]) == axes for trial in plot["trials"])
    assert [trial["y"][0] for trial in plot["trials"]] == [1.0, 0.0]  # exits: 12 and 2
    assert [trial["y"][-2] for trial in plot["trials"]] == [0.0, 1.0]  # value
    assert plot["trials"][1]["hover"].split("<br>")[:2] == [
        "<b>Trial 1, joint, from percentile 2 exits</b>", "exits: 2",
    ]  # fmt: skip
    json.dumps(plot, allow_nan=False)


def test_strategies_are_told_apart_and_a_gap_ends_each_line(rich):
    separate, joint, chosen = plot_of(rich)["data"]
    assert separate["marker"]["symbol"] != joint["marker"]["symbol"]
    assert separate["y"][-1] is None
    assert set(separate["customdata"]) == {0}
    assert chosen["x"] == []


def test_what_was_stopped_early_is_dotted_and_has_no_value(stopped):
    plot = plot_of(stopped)
    assert [trial["number"] for trial in plot["trials"]] == [0, 1, 3]
    assert "Trial 3, joint, from sampler, stopped early, after 2 epochs" in plot["trials"][2]["hover"]
    assert plot["trials"][2]["y"][-2] is None
    _, joint, early, _ = plot["data"]
    assert early["meta"]["label"] == "joint, stopped early"
    assert (joint["line"]["dash"], early["line"]["dash"]) == ("solid", "dot")
    assert joint["line"]["color"] == early["line"]["color"]
    assert set(early["customdata"]) == {2}


def test_an_axis_tells_its_ends(rich):
    notes = [note["text"] for note in plot_of(rich)["layout"]["annotations"]]
    assert notes[:3] == ["<b>exits</b>", "12", "2"]
    assert notes[-3:] == ["<b>time</b>", "6 min 52 s", "48.2 s"]


def test_what_is_missing_leaves_a_gap_and_what_nobody_has_no_axis(rich):
    first, second, _ = rich.trials
    plot = plot_of(rich.model_copy(update={"trials": (first, second.model_copy(update={"value": None}))}))
    assert plot["trials"][1]["y"][-2] is None
    assert plot["best"] == 0
    bare = [t.model_copy(update={"value": None, "last_accuracy": None, "alphas": ()}) for t in (first, second)]
    plot = plot_of(rich.model_copy(update={"trials": tuple(bare)}))
    assert len(plot["layout"]["shapes"]) == 2  # exits and time


def test_with_one_complete_trial_there_is_nothing_to_see(rich):
    assert plot_of(rich.model_copy(update={"trials": (rich.trials[0], rich.trials[2])})) is None


def test_a_strategy_that_no_front_knows_is_drawn_too(rich):
    first, second, _ = rich.trials
    plot = plot_of(rich.model_copy(update={"trials": (first, second.model_copy(update={"strategy": "<b>new"}))}))
    assert plot["data"][1]["name"] == "&lt;b&gt;new"


def test_long_names_are_shortened_and_foreign_ones_escaped(rich):
    evil = "<img src=x>.and.a.very.long.name.of.a.cut"
    trials = [t.model_copy(update={"exits": (f"{evil}:linear-avg1",), "alphas": (1.0,)}) for t in rich.trials[:2]]
    plot = plot_of(rich.model_copy(update={"trials": tuple(trials)}))
    title = plot["layout"]["annotations"][3]["text"]
    assert "…" in title
    assert "<img" not in title + plot["trials"][0]["hover"]
    assert plot["trials"][0]["y"][1] == pytest.approx(0.5)  # all the same


def test_the_last_exit_is_told_against_the_backbone(compared):
    line = plot_of(compared)["trials"][1]["hover"].split("<br>")
    assert "last exit: -0.90 points" in line
    assert line[-1].startswith("soft-hard gap: -0.30 points")
    nowhere = compared.model_copy(update={"devices": ()})
    assert "last exit" not in designs_plot(nowhere, {})["trials"][1]["hover"]
