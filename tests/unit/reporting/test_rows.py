from eesearch.reporting.frontdata import front_data
from eesearch.reporting.rows import cost_titles, phase_rows, point_rows, shared_axes, trial_rows


def test_only_axes_that_all_points_have_are_told(answers):
    device = answers.devices[1]
    assert shared_axes(device) == ["latency_ms", "macs"]
    test = device.points[2].test
    counted = device.points[2].model_copy(
        update={"test": test.model_copy(update={"costs": {"latency_ms": test.costs["latency_ms"]}})}
    )
    mixed = device.model_copy(update={"points": (*device.points[:2], counted)})
    assert shared_axes(mixed) == ["latency_ms"]
    assert len(cost_titles(mixed)) == 4
    assert [len(row.costs) for row in point_rows(mixed, front_data(mixed))] == [4] * 4


def test_trials_without_a_device_have_nothing_to_be_compared_with(answers):
    rows = trial_rows(answers.model_copy(update={"devices": ()}))
    assert [row.change for row in rows] == ["-", "-", "-"]


def test_phases_add_up():
    assert phase_rows({"a": 1.0, "b": 3.0})[-1] == ("together", "4.0 s", "")
    assert phase_rows({"a": 0.0})[0] == ("a", "0.0 s", "-")
    assert phase_rows({}) == []


def test_a_last_exit_that_lost_more_than_half_a_point_is_marked(answers):
    assert [(row.change, row.paid) for row in trial_rows(answers)] == [("0.00", False), ("-0.71", True), ("-", False)]


def test_what_a_strategy_notes_is_told_with_its_trial(compared):
    _, gated, _ = trial_rows(compared)
    assert [name for name, _ in gated.notes] == ["soft-hard gap"]
