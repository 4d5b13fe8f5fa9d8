import pytest

from eesearch.reporting.textplot import MARGIN, TextFront


@pytest.fixture
def front():
    """Three points; the last loses nothing. Costs 20, 50, 80 of the backbone's 100; accuracies 85, 88, 91 of 90 %."""
    points = ((20.0, 0.85), (50.0, 0.88), (80.0, 0.91))
    return TextFront(axis="latency_ms", points=points, pick=2, backbone=(100.0, 0.90))


def field(text, height):
    """The letters right of the axis."""
    return [line[MARGIN:] for line in text.splitlines()[: height - 2]]


def test_every_mark_stands_where_its_figures_say(front):
    lines = field(front.draw(MARGIN + 51, 9), 9)  # 51 columns for 0 to 102 ms, 7 rows for 91 to 85 %
    assert {len(line) for line in lines} == {51}
    found = {(c, r): mark for r, line in enumerate(lines) for c, mark in enumerate(line) if mark in "●◆X"}
    assert found == {(10, 6): "●", (25, 3): "●", (40, 0): "◆", (50, 1): "X"}
    assert lines[6][11:25] == "·" * 14, "a point serves every budget up to that of the next one"
    assert lines[3][26:40] == "·" * 14
    assert lines[1][:10] == "╌" * 10, "the level of the backbone"


def test_the_axes_have_figures_and_units(front):
    lines = front.draw(100, 9).splitlines()
    assert len(lines) == 9
    assert max(map(len, lines)) <= 100
    assert [line[: MARGIN - 1].strip() for line in lines[:7]] == ["91.0%", "", "", "88.0%", "", "", "85.0%"]
    assert lines[-1].split()[0] == "0"
    assert lines[-1].endswith(" 102 ms")
    assert "● front on calibration, ◆ no loss, X backbone" in lines[-1]


def test_ascii_will_do(front):
    text = front.draw(70, 9, ascii_only=True)
    assert text.isascii()
    assert sum(line.count("o") for line in field(text, 9)) == 2
    assert sum(line.count("#") for line in field(text, 9)) == 1


def test_the_view_begins_near_the_backbone(front):
    deep = TextFront(axis="macs", points=((1.0, 0.2), (50.0, 0.88)), pick=None, backbone=(100.0, 0.90))
    lines = field(deep.draw(MARGIN + 51, 9), 9)
    assert sum(line.count("●") for line in lines) == 1, "the point at 20 % lies below"
    assert "◆" not in "".join(lines)


@pytest.mark.parametrize("points", [((100.0, 0.9),), ((0.0, 0.9), (50.0, 0.9 + 1e-12))])
def test_points_on_one_level(points):
    TextFront(axis="macs", points=points, pick=0, backbone=(100.0, 0.9)).draw(30, 5)


def test_a_device_s_front_is_that_on_calibration(answers):
    device = answers.devices[1]
    front = TextFront.of(device)
    assert front.points == tuple((p.cal.costs["latency_ms"].mean, p.cal.accuracy) for p in device.points)
    assert device.points[front.pick] == device.at_no_loss()
    assert front.backbone == (6.71, 0.9372)
