import pytest

from eesearch.reporting.compare import compare_runs
from eesearch.reporting.comparison import draw_comparison, save_comparison
from eesearch.study.rundir import RunDir


@pytest.fixture
def compared(answers, tmp_path):
    runs = []
    for name in ("a", "$b$"):
        runs.append(RunDir(tmp_path / name))
        runs[-1].path.mkdir()
        runs[-1].study_file.write_text("name: made up\n")
        (runs[-1].path / "front.json").write_text(answers.model_dump_json())
    return compare_runs(runs)


def test_every_run_is_a_line_on_every_device(compared, answers):
    figure = draw_comparison(compared)
    assert [axes.get_title() for axes in figure.axes] == ["macs", "cpu:eager:t1:b1"]
    for axes, device, unit in zip(figure.axes, answers.devices, (1e6, 1.0), strict=True):
        one, backbone, two, _ = axes.lines[:4]
        assert one.get_ydata() == pytest.approx([100 * p.test.accuracy for p in device.points])
        assert one.get_xdata() == pytest.approx([p.test.costs[device.axis].mean / unit for p in device.points])
        assert backbone.get_ydata() == [pytest.approx(93.46)]
        looks = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in (one, two)]
        assert all(a != b for a, b in zip(*looks, strict=True)), "told apart by colour, shape and dash"
        labels = axes.get_legend_handles_labels()[1]
        assert labels[0].startswith("a, area 0.")
        assert labels[-1] == "areas count from here up"


def test_axes_have_units_and_begin_near_the_backbone(compared):
    macs, latency = draw_comparison(compared).axes
    assert (macs.get_xlabel(), latency.get_xlabel()) == ("Mean cost (M MACs)", "Mean latency (ms)")
    assert macs.get_ylim()[0] == pytest.approx(93.46 - 12.0)


@pytest.mark.parametrize(("form", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_it_is_saved_in_every_form(compared, form, start, tmp_path):
    save_comparison(compared, tmp_path / "out", form)
    assert (tmp_path / "out").read_bytes().startswith(start)
