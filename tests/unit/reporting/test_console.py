import io
import re

import pytest
from rich.console import Console

from eesearch.core.front import CostSummary
from eesearch.reporting.console import ProgressBars, front_table, highlights, pace_words, verdict_text


def printed(renderable, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_the_verdict_is_a_line_per_device(answers):
    assert printed(verdict_text(answers), width=300).splitlines() == [device.verdict() for device in answers.devices]


def test_the_table_has_every_point_and_fits_100_columns(answers):
    lines = printed(front_table(answers.devices[1])).splitlines()
    assert max(map(len, lines)) <= 100
    names = [line.split()[0] for line in lines if re.match(r"\s+(\d|backbone)\S*\s", line) and line[2] != " "]
    assert names == ["0", "1", "2*", "3=", "4", "backbone"]
    (row,) = [line.split() for line in lines if line.startswith("  3=")]
    assert row == ["3=", "55.0%", "layer2.3", "(linear-avg1)", "93.74", "93.40", "+0.06", "4.68", "0.697"]
    assert "45.0% output (own classifier)" in lines[[line.startswith("  3=") for line in lines].index(True) + 1]


def test_drops_have_their_interval_where_policy_and_backbone_were_compared(promised):
    lines = printed(front_table(promised.devices[0])).splitlines()
    assert max(map(len, lines)) <= 100
    (row,) = [line.split() for line in lines if line.startswith("  4=")]
    assert row[3:] == ["(linear-avg1)", "93.92", "93.52", "-0.06", "-0.6..+0.5", "106.0", "0.845"]
    (backbone,) = [line.split() for line in lines if line.startswith("  backbone")]
    assert backbone[-5:] == ["93.72", "93.46", "0.00", "125.5", "1.000"]
    assert "the cheapest that is expected to lose nothing on new samples" in lines[-2]


def test_the_mark_of_no_loss_is_where_calibration_has_it_for_those_who_believe_it(promised, answers):
    text = printed(front_table(promised.devices[0], naive=True))
    assert "3=" in text
    assert "the cheapest that loses nothing on calibration" in text
    assert printed(front_table(answers.devices[0])) == printed(front_table(answers.devices[0], naive=True))


def test_a_subset_keeps_its_numbers(answers):
    text = printed(front_table(answers.devices[0], [3, 1]))
    assert re.findall(r"^  (\d)", text, flags=re.M) == ["3", "1"]
    assert "M MACs" in text


def test_long_names_fold_and_nothing_is_lost(answers):
    long = "encoder.layers.encoder_layer_3.mlp.projection_of_the_second_branch"
    device = answers.devices[0]
    renamed = device.model_validate_json(device.model_dump_json().replace("layer1.4", long))
    lines = printed(front_table(renamed, [0])).splitlines()
    assert max(map(len, lines)) <= 100
    header = next(line for line in lines if "leave at" in line)
    start, end = header.index("leave at"), header.index("cal %") - 2
    assert long in "".join(line[start:end].strip() for line in lines)


def test_foreign_names_are_not_markup(hostile):
    assert "[red]" in printed(front_table(hostile.devices[0]))
    assert "[red]" in printed(verdict_text(hostile))


def test_bars_are_silent_where_nobody_looks():
    for stream, quiet in ((io.StringIO(), False), (Terminal(), True)):
        clock = Clock()
        with ProgressBars(quiet=quiet, stream=stream, clock=clock) as progress:
            progress("train bank", 0, 10)
            clock.now = 60.0
            progress("train bank", 5, 10)
        assert stream.getvalue() == ""


@pytest.fixture
def bars():
    """Bars on a made-up terminal and clock, and what they would draw now."""
    clock = Clock()
    with ProgressBars(stream=Terminal(), clock=clock) as progress:
        yield progress, clock, lambda: printed(progress._bars.get_renderable())


def test_a_bar_shows_after_two_seconds_with_rate_and_remaining_time(bars):
    progress, clock, look = bars
    progress("train bank", 0, 100)
    clock.now = 1.9
    progress("train bank", 10, 100)
    assert "train bank" not in look()
    clock.now = 4.0
    progress("train bank", 20, 100)
    assert re.search(r"train bank .*20/100 5\.0/s, 16\.0 s left", look())


def test_a_long_first_step_gets_its_bar_before_it_ends(bars):
    progress, clock, look = bars
    progress("trials", 0, 5)
    clock.now = 30.0
    assert re.search(r"trials .*0/5 30\.0 s so far", look())


def test_a_quick_phase_never_shows(bars):
    progress, clock, look = bars
    progress("collect", 0, 2)
    clock.now = 0.5
    progress("collect", 2, 2)
    clock.now = 100.0
    progress("trials", 0, 5)
    clock.now = 103.0
    text = look()
    assert "trials" in text
    assert "collect" not in text


def test_what_a_resumed_phase_found_done_does_not_count_as_speed(bars):
    progress, clock, look = bars
    progress("trials", 40, 50)
    clock.now = 10.0
    progress("trials", 42, 50)
    assert "42/50 5.0 s each, 40.0 s left" in look()


def test_a_phase_that_starts_over_starts_its_clock_over(bars):
    progress, clock, look = bars
    progress("joint", 0, 10)
    clock.now = 50.0
    progress("joint", 10, 10)
    progress("joint", 0, 10)
    clock.now = 60.0
    progress("joint", 5, 10)
    assert re.findall(r"joint .*?(\d+/10 .* left)", look()) == ["5/10 2.0 s each, 10.0 s left"]


@pytest.mark.parametrize(
    ("done", "left", "seconds", "words"),
    [
        (0, 5, None, ""),
        (0, 5, 3.0, "3.0 s so far"),
        (120, 30, 10.0, "12.0/s, 2.5 s left"),
        (2, 3, 240.0, "2 min 00 s each, 6 min 00 s left"),
        (4, 0, 8.0, "2.0 s each, 8.0 s"),
    ],
)
def test_pace(done, left, seconds, words):
    assert pace_words(done, left, seconds) == words


def test_highlights_are_the_marked_points_and_a_spread_near_the_backbone(answers):
    device = answers.devices[0]
    everything = highlights(device, count=100)
    floor = device.backbone.cal.accuracy - 0.05
    near = [n for n, p in enumerate(device.points) if p.cal.accuracy >= floor]
    assert set(near) <= set(everything)
    few = highlights(device, count=4)
    knee = [p.cal for p in device.points].index(device.front().knee())
    assert {knee, device.points.index(device.at_no_loss()), near[0], near[-1]} <= set(few)
    assert len(few) <= 4
    assert highlights(device.model_copy(update={"points": ()})) == []


def test_of_a_system_the_other_costs_and_what_is_declared_are_told(answers):
    device = next(d for d in answers.devices if d.axis == "latency_ms")
    assert "kB" not in [column.header for column in front_table(device).columns]
    system = {"phone": "cpu:eager:t1:b1, times x 20 (declared, not measured)"}

    def sending(point):
        costs = {**point.test.costs, "bytes": CostSummary(mean=64.0, p95=64.0, worst=64.0)}
        return point.model_copy(update={"test": point.test.model_copy(update={"costs": costs})})

    changed = {"system": system, "backbone": sending(device.backbone), "points": tuple(map(sending, device.points))}
    table = front_table(device.model_copy(update=changed))
    assert table.columns[-1].header == "kB"
    assert "0.06400" in next(iter(table.columns[-1].cells))
    assert "phone: cpu:eager:t1:b1, times x 20 (declared, not measured)" in str(table.caption)
