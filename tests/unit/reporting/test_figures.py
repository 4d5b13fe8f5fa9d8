import numpy as np
import pytest
from matplotlib.image import imread

from eesearch.core.errors import RunError
from eesearch.reporting.figures import draw_front, front_data, save_png, seed_spots, strategy_styles
from eesearch.study.answers import wilson


def drawn(axes):
    """Every (x, y) that a marker or a line of the panel stands at."""
    return {(round(x, 6), round(y, 6)) for line in axes.lines for x, y in np.broadcast(*line.get_data())}


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


def test_styles_tell_strategies_apart_by_colour_and_shape(answers):
    styles = strategy_styles(answers)
    assert list(styles) == ["separate", "joint"]
    assert len({s.colour for s in styles.values()}) == len({s.marker for s in styles.values()}) == 2


def test_every_point_seed_and_backbone_is_drawn_once_per_device(answers):
    figure = draw_front(answers)
    assert [axes.get_title() for axes in figure.axes] == [
        "cifar10_resnet56 · macs",
        "cifar10_resnet56 · cpu:eager:t1:b1",
    ]
    for axes, device, unit in zip(figure.axes, answers.devices, (1e6, 1.0), strict=True):
        data = front_data(device)
        for frame in (data.points, data.seeds, data.backbone):
            wanted = {
                (round(c / unit, 6), round(100 * a, 6)) for c, a in zip(frame["cost"], frame["accuracy"], strict=True)
            }
            assert wanted <= drawn(axes)
        assert sum(len(c.lines[0].get_xdata()) for c in axes.containers) == len(device.points)
        assert axes.get_legend_handles_labels()[1].count("knee") == 1


def test_the_calibration_front_is_a_step_line(answers):
    device = answers.devices[0]
    (line,) = [x for x in draw_front(answers).axes[0].lines if x.get_label() == "front on calibration"]
    assert line.get_drawstyle() == "steps-post"
    assert line.get_ydata() == pytest.approx([100 * p.cal.accuracy for p in device.points])


def test_bars_are_the_intervals(answers):
    axes = draw_front(answers).axes[0]
    (bars,) = axes.containers[0].lines[2]
    assert [s[:, 1].tolist() for s in bars.get_segments()] == [
        pytest.approx([100 * x for x in wilson(accuracy, 5000)]) for accuracy in (0.6954, 0.8388)
    ]


def test_axes_have_units(answers):
    macs, latency = draw_front(answers).axes
    assert (macs.get_xlabel(), latency.get_xlabel()) == ("Mean cost (M MACs)", "Mean latency (ms)")
    assert "(%" in macs.get_ylabel()


def test_a_device_without_points_shows_its_backbone(answers):
    empty = answers.devices[0].model_copy(update={"points": (), "seeds": ()})
    (axes,) = draw_front(answers.model_copy(update={"devices": (empty,)})).axes
    assert (125.49, 93.46) in drawn(axes)


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_all_right_and_all_wrong_can_be_drawn(answers, accuracy):
    device = answers.devices[0]
    point = device.points[0]
    extreme = point.model_copy(update={"test": point.test.model_copy(update={"accuracy": accuracy, "samples": 297})})
    device = device.model_copy(update={"points": (extreme,)})
    row = front_data(device).points.iloc[0]
    assert row["low"] <= accuracy <= row["high"]
    draw_front(answers.model_copy(update={"devices": (device,)}))


def test_the_png_is_written_and_has_ink(answers, tmp_path):
    save_png(answers.model_copy(update={"devices": answers.devices[:1]}), tmp_path / "front.png")
    pixels = imread(tmp_path / "front.png")[..., :3]
    assert pixels.shape[0] > 600
    assert pixels.shape[1] > 900
    assert 0.01 < (pixels.min(-1) < 0.9).mean() < 0.5
    assert [p.name for p in tmp_path.iterdir()] == ["front.png"]


def test_a_disk_that_refuses_is_a_run_error(answers, tmp_path):
    (tmp_path / "file").write_text("in the way")
    bare = answers.devices[0].model_copy(update={"points": (), "seeds": ()})
    with pytest.raises(RunError, match="cannot write"):
        save_png(answers.model_copy(update={"devices": (bare,)}), tmp_path / "file" / "front.png")


def test_foreign_dollars_are_not_formulas(hostile, tmp_path):
    save_png(hostile, tmp_path / "front.png")  # `$x^$` as a formula would raise
    assert (tmp_path / "front.png").stat().st_size > 10_000


def test_plots_show_the_best_seed_of_each_rule(answers):
    device = answers.devices[0]
    worse = device.seeds[0].model_copy(update={"value": -1.0, "rule": f"{device.seeds[0].rule} 0.5"})
    data = front_data(device.model_copy(update={"seeds": (*device.seeds, worse)}))
    assert list(data.seeds["best"])[-1] is False
    assert sum(len(spot) for spot in seed_spots(data)) == data.seeds["best"].sum()
