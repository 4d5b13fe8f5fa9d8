from io import BytesIO

import numpy as np
import pytest
from matplotlib.image import imread

from eesearch.core.paired import wilson
from eesearch.reporting.figures import (
    ORACLE,
    STATIC,
    WIDTH,
    draw_front,
    figure_bytes,
    strategy_styles,
)
from eesearch.reporting.frontdata import front_data


def drawn(axes):
    """Every (x, y) that a marker or a line of the panel stands at."""
    return {(round(x, 6), round(y, 6)) for line in axes.lines for x, y in np.broadcast(*line.get_data())}


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


def test_the_png_has_ink(answers):
    one = answers.model_copy(update={"devices": answers.devices[:1]})
    pixels = imread(BytesIO(figure_bytes(draw_front(one), "png")))[..., :3]
    assert pixels.shape[0] > 600
    assert pixels.shape[1] > 900
    assert 0.01 < (pixels.min(-1) < 0.9).mean() < 0.5


def test_foreign_dollars_are_not_formulas(hostile):
    assert len(figure_bytes(draw_front(hostile), "png")) > 10_000  # `$x^$` as a formula would raise


def test_the_oracle_and_the_static_networks_are_lines_of_steps(answers):
    axes = draw_front(answers).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    oracle, static = lines[ORACLE.name], lines[STATIC.name]
    assert oracle.get_drawstyle() == static.get_drawstyle() == "steps-post"
    assert oracle.get_ydata() == pytest.approx([81.0, 93.46])
    assert oracle.get_xdata() == pytest.approx([125.49 * r for r in (0.30, 0.45)])
    assert static.get_ydata() == pytest.approx([69.54, 93.46])
    assert len({oracle.get_linestyle(), static.get_linestyle(), "-"}) == 3
    assert len({oracle.get_marker(), static.get_marker(), "o"}) == 3
    assert "ideal" in ORACLE.name


def test_what_is_not_there_is_not_in_the_legend(answers):
    device = answers.devices[0].model_copy(update={"oracle": (), "static": ()})
    (axes,) = draw_front(answers.model_copy(update={"devices": (device,)})).axes
    assert not {ORACLE.name, STATIC.name} & set(axes.get_legend_handles_labels()[1])


def test_the_panel_says_how_many_points_lie_below_it(answers):
    (axes, _) = draw_front(answers).axes
    assert axes.get_ylim()[0] == pytest.approx(81.46)
    assert [text.get_text() for text in axes.texts if "not shown" in text.get_text()] == [
        "not shown: 1 point below 81 %"
    ]


def test_methods_of_others_are_thin_hollow_lines_that_look_the_same_on_all_devices(rich):
    looks = []
    for axes, device in zip(draw_front(rich).axes, rich.devices, strict=True):
        lines = {line.get_label(): line for line in axes.lines}
        branchy, sdn = lines["BranchyNet"], lines["SDN"]
        assert branchy.get_ydata() == pytest.approx([100 * p.test.accuracy for p in device.layers[0].points])
        assert branchy.get_markerfacecolor() == sdn.get_markerfacecolor() == "none"
        assert branchy.get_linewidth() < 1.0
        assert branchy.get_color() != sdn.get_color()
        assert branchy.get_marker() != sdn.get_marker()
        looks.append([(line.get_color(), line.get_marker()) for line in (branchy, sdn)])
    assert looks[0] == looks[1]


def test_the_legend_stands_beside_the_panel_within_the_page(rich):
    figure = draw_front(rich)
    figure.draw_without_rendering()
    assert figure.get_figwidth() == WIDTH
    for axes in figure.axes:
        legend, panel = axes.get_legend().get_window_extent(), axes.get_window_extent()
        assert legend.x0 >= panel.x1, "it covers no point"
        assert legend.x1 <= figure.bbox.x1 + 1
        assert legend.y0 >= figure.bbox.y0 - 1
        assert panel.width > 0.5 * figure.bbox.width
        assert all(text.get_fontsize() >= 7 for text in axes.get_legend().get_texts())


def test_long_names_fold_in_the_legend(answers):
    device = answers.devices[0]
    seed = device.seeds[0].model_copy(update={"rule": "percentile " * 9})
    (axes,) = draw_front(answers.model_copy(update={"devices": (device.model_copy(update={"seeds": (seed,)}),)})).axes
    (label,) = [x for x in axes.get_legend_handles_labels()[1] if x.startswith("A ")]
    assert max(map(len, label.splitlines())) <= 34


@pytest.mark.parametrize(("form", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_text_stays_text_in_vector_formats(rich, form, start):
    one = rich.model_copy(update={"devices": rich.devices[:1]})
    content = figure_bytes(draw_front(one), form)
    assert content.startswith(start)
    if form == "svg":
        assert b"cifar10_resnet56" in content
        assert b"BranchyNet" in content
        assert b"dc:date" not in content
    else:
        assert b"/Type42" in content or b"/CIDFontType2" in content, "TrueType, which editors keep as text"
        assert b"/Type3" not in content
        assert b"CreationDate" not in content


def test_the_same_answers_give_the_same_bytes(answers):
    one = answers.model_copy(update={"devices": answers.devices[:1]})
    for form in ("png", "svg", "pdf"):
        assert figure_bytes(draw_front(one), form) == figure_bytes(draw_front(one), form)


def test_styles_tell_dozens_of_strategies_apart(compared):
    device = compared.devices[0]
    own = device.strategies[0]
    many = tuple(own.model_copy(update={"strategy": f"s{n:02}"}) for n in range(40))
    crowd = compared.model_copy(update={"devices": (device.model_copy(update={"strategies": many}),)})
    styles = strategy_styles(crowd)
    assert len(styles) == 42
    for looks in ("marker", "symbol"):
        assert len({(style.colour, getattr(style, looks)) for style in styles.values()}) == 42
    assert {style.plotly_dash for style in list(styles.values())[6:12]} == {"dash"}


def test_several_strategies_have_a_panel_with_a_line_each_that_has_points(compared):
    fronts, strategies, *_ = draw_front(compared).axes
    assert len(draw_front(compared).axes) == 2 * len(compared.devices)
    device = compared.devices[0]
    assert fronts.get_title() == "cifar10_resnet56 · macs"
    assert strategies.get_title() == "cifar10_resnet56 · macs · training strategies"
    lines = {line.get_label(): line for line in strategies.lines if not line.get_label().startswith("_")}
    with_points = [own.strategy for own in device.strategies if own.points]
    assert list(lines) == [*with_points, "backbone, no exits"]
    assert "mixed" not in lines
    assert lines["joint"].get_xdata() == pytest.approx([device.ratio(p) for p in device.strategies[1].points])
    assert lines["joint"].get_ydata() == pytest.approx([100 * p.test.accuracy for p in device.strategies[1].points])
    assert (lines["backbone, no exits"].get_xdata()[0], strategies.get_xlabel()) == (
        1,
        "Mean cost on test (x backbone)",
    )
