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
