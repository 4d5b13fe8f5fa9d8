import pytest

from eesearch.core.front import CostSummary
from eesearch.core.paired import wilson
from eesearch.reporting.frontdata import front_data, log_range, seed_spots, shown_range


def test_points_are_those_of_the_front_on_test(answers):
    macs, latency = answers.devices
    data = front_data(macs)
    assert data.points["point"].tolist() == [0, 1, 2, 3, 4]
    assert data.points["strategy"].tolist() == ["separate"] * 2 + ["joint"] * 3
    assert data.points["accuracy"].tolist() == [0.6954, 0.8388, 0.9168, 0.9340, 0.9352]
    assert data.points["accuracy_cal"].tolist() == [0.7012, 0.8410, 0.9196, 0.9374, 0.9392]
    assert data.points["cost"].tolist() == pytest.approx([125.49e6 * r for r in (0.201, 0.342, 0.548, 0.697, 0.845)])
    assert data.points["cost_cal"].tolist() == pytest.approx(
        [125.49e6 * r for r in (0.197, 0.338, 0.544, 0.693, 0.841)]
    )
    assert data.points["ratio"].tolist() == pytest.approx([0.201, 0.342, 0.548, 0.697, 0.845])
    assert data.points["drop"].tolist() == pytest.approx([0.2392, 0.0958, 0.0178, 0.0006, -0.0006])
    assert (data.points["low"][3], data.points["high"][3]) == wilson(0.9340, 5000)
    assert front_data(latency).points["cost"].tolist() == pytest.approx(
        [6.71 * r for r in (0.201, 0.342, 0.548, 0.697, 0.845)]
    )
    assert front_data(latency).backbone["cost"].tolist() == [6.71]


def test_the_knee_is_the_front_s(answers):
    device = answers.devices[0]
    knees = front_data(device).points.query("knee")["point"].tolist()
    assert [device.points[k].cal for k in knees] == [device.front().knee()]


def test_a_seed_s_distance_is_to_the_cheapest_point_at_least_as_accurate_on_calibration(answers):
    seeds = front_data(answers.devices[0]).seeds
    # 93.02 % and 93.66 % need point 3 (0.693 on calibration), so does 92.10 %: point 2 has 91.96 %
    assert seeds["distance"].tolist() == pytest.approx([0.742 / 0.693, 0.790 / 0.693, 0.715 / 0.693, 0.715 / 0.693])
    assert seeds["label"].tolist() == ["A", "B", "C", "D"]
    assert seeds["enqueued"].tolist() == [True, True, True, False]


def test_a_seed_more_accurate_than_the_front_has_no_distance(answers):
    device = answers.devices[0]
    poor = device.model_copy(update={"points": device.points[:2]})
    assert front_data(poor).seeds["distance"].isna().all()


def test_seeds_on_one_spot_share_a_marker_and_labels_go_on_after_z(answers):
    device = answers.devices[0]
    assert [spot["label"].tolist() for spot in seed_spots(front_data(device))] == [["A"], ["B"], ["C", "D"]]
    many = device.model_copy(update={"seeds": device.seeds * 7})
    assert front_data(many).seeds["label"].tolist()[24:] == ["Y", "Z", "A2", "B2"]


def test_plots_show_the_best_seed_of_each_rule(answers):
    device = answers.devices[0]
    worse = device.seeds[0].model_copy(update={"value": -1.0, "rule": f"{device.seeds[0].rule} 0.5"})
    data = front_data(device.model_copy(update={"seeds": (*device.seeds, worse)}))
    assert list(data.seeds["best"])[-1] is False
    assert sum(len(spot) for spot in seed_spots(data)) == data.seeds["best"].sum()


def test_the_oracle_has_its_cost_over_the_backbone_s(answers):
    for device, full in zip(answers.devices, (125.49e6, 6.71), strict=True):
        oracle = front_data(device).oracle
        assert oracle["accuracy"].tolist() == pytest.approx([0.81, 0.9346])
        assert oracle["ratio"].tolist() == pytest.approx([0.30, 0.45])
        assert oracle["cost"].tolist() == pytest.approx([0.30 * full, 0.45 * full])


def test_static_networks_are_shown_on_test(answers):
    static = front_data(answers.devices[0]).static
    assert static["accuracy"].tolist() == [0.6954, 0.9346]
    assert static["ratio"].tolist() == pytest.approx([0.201, 1.0])
    assert static["accuracy_cal"].tolist() == [0.7012, 0.9372]


def test_the_first_view_begins_near_the_backbone_whatever_is_there_to_compare_with(answers):
    device = answers.devices[0]
    highest = 100.0 * wilson(0.9352, 5000)[1] + 1.0
    assert shown_range(front_data(device)) == pytest.approx((100.0 * (0.9346 - 0.12), highest))  # point 0 is far below
    near = device.model_copy(update={"points": device.points[2:]})  # the static network at 69.54 % stays
    assert shown_range(front_data(near)) == pytest.approx((100.0 * wilson(0.9168, 5000)[0] - 1.0, highest))
    bare = device.model_copy(update={"points": (), "seeds": ()})
    assert shown_range(front_data(bare)) == pytest.approx((92.46, 94.46))


def test_an_older_answer_has_nothing_to_compare_with(answers):
    older = answers.devices[0].model_copy(update={"oracle": (), "static": (), "overthinking": ()})
    data = front_data(older)
    assert list(data.oracle.columns) == ["cost", "ratio", "accuracy"]
    assert len(data.oracle) == len(data.static) == 0


def test_others_points_are_on_test_and_a_dominated_one_knows_its_trial(rich):
    data = front_data(rich.devices[0])
    assert [len(frame) for frame in data.layers] == [3, 3]
    assert data.layers[1]["accuracy"].tolist() == pytest.approx([0.9128, 0.9300, 0.9312])
    assert data.layers[1]["ratio"].tolist() == pytest.approx([1.05 * r for r in (0.548, 0.697, 0.845)])
    assert data.dominated["cost"].tolist() == pytest.approx([1.05 * 125.49e6 * r for r in (0.548, 0.697, 0.845)])


def test_without_others_the_columns_are_there(answers):
    data = front_data(answers.devices[0])
    assert data.layers == ()
    assert {"cost", "accuracy"} <= set(data.dominated.columns)


def test_a_front_that_crowds_far_from_the_backbone_gets_a_logarithmic_axis(answers):
    device = answers.devices[0]
    assert log_range(front_data(device)) is None  # its points lie between 0.2 and 0.85 of the backbone
    cheap = [
        p.model_copy(update={"test": p.test.model_copy(update={"accuracy": 0.93, "costs": costs_of(p, 0.1)})})
        for p in device.points
    ]
    low, high = log_range(front_data(device.model_copy(update={"points": tuple(cheap)})))
    assert low == pytest.approx(0.8 * 0.1 * 0.201 * 125.49)
    assert high == pytest.approx(1.2 * 125.49)


def costs_of(point, factor):
    return {a: CostSummary(mean=c.mean * factor, p95=c.p95, worst=c.worst) for a, c in point.test.costs.items()}
