"""Predicted beside measured, wherever it is shown."""

import io

import pytest
from rich.console import Console

from eesearch.costs.pairing import Spent
from eesearch.reporting.frontdata import front_data
from eesearch.reporting.html import render_html
from eesearch.reporting.layers import layer_traces
from eesearch.reporting.markdown import markdown_report
from eesearch.reporting.verified import (
    HEAD,
    front_verified_table,
    summary_words,
    verified_frame,
    verified_rows,
    verified_table,
)
from eesearch.study.verified import Verified, policy_key


def spent(mean):
    return Spent(mean=mean, raw_mean=1.1 * mean, p50=0.9 * mean, p95=2.0 * mean)


def entry(device, number, *, off=1.02, **others):
    """A point that takes `off` times what is predicted."""
    point = device.points[number]
    predicted, whole = (each.test.costs["latency_ms"].mean for each in (point, device.backbone))
    ratio = off * predicted / whole
    fields = {
        "device": device.device, "front": device.device, "point": number, "policy": policy_key(point.cal),
        "fingerprint": {}, "when": "2026-01-01T00:00:00+00:00", "batch": 1, "samples": 2500, "total": 5000,
        "calls": 2500, "blocks": 10, "processes": 1, "predicted": spent(predicted), "measured": spent(off * predicted),
        "predicted_backbone": whole, "backbone": spent(whole), "ratio": ratio, "interval": (0.99 * ratio, 1.01 * ratio),
        "noise": 0.02, "spread": 0.01, "contention": 1.0, "accuracy": point.test.accuracy,
        "table_accuracy": point.test.accuracy, "differing": 0, "near": 1,
    }  # fmt: skip
    return Verified(**fields | others)


@pytest.fixture
def ran(promised):
    """The answers of which three points ran; the last one took much longer than predicted."""
    counted, timed = promised.devices
    entries = (entry(timed, 1), entry(timed, 3), entry(timed, 4, off=1.3))
    other = entry(timed, 2).model_copy(update={"policy": "of an older front"})
    timed = timed.model_copy(update={"verified": (*entries, other)})
    return promised.model_copy(update={"devices": (counted, timed)})


def printed(table):
    console = Console(file=io.StringIO(), width=110)
    console.print(table)
    return console.file.getvalue()


def test_points_are_found_by_their_policy(ran):
    assert list(ran.devices[1].numbers()) == [1, 3, 4]
    assert ran.devices[0].numbers() == {}


def test_the_verdict_tells_what_came_of_the_point_at_no_loss(ran):
    timed = ran.devices[1]
    free = timed.points.index(timed.at_no_loss())
    assert free == 4
    words = timed.verdict()
    assert "Point 4 measured end to end: 1.10 x (predicted 0.84 x)" in words or "Point 4 measured end to end" in words
    assert "go by the clock" in words
    assert "exits do not pay here" in words
    assert "measured end to end" not in ran.devices[0].verdict()


def test_rows_and_titles_belong_together(ran):
    rows = verified_rows(ran.devices[1])
    assert [row.point for row in rows] == ["1", "3", "4"]
    assert all(len(row.cells) == len(HEAD) for row in rows)
    assert [row.agrees for row in rows] == [True, True, False]
    assert rows[0].error == "-2.0%"
    assert rows[0].differing == "0 (1)"


def test_the_table_fits_a_terminal(ran):
    text = printed(front_verified_table(ran.devices[1]))
    assert "…" not in text
    assert "cpu:eager:t1:b1: predicted, and measured end to end" in text
    assert front_verified_table(ran.devices[0]) is None


def test_points_of_other_fronts_are_named_so(ran):
    elsewhere = [entry(ran.devices[1], 1, front=front) for front in ("macs", "cpu:onnxruntime:t2:b16")]
    text = printed(verified_table(elsewhere))
    assert " 1@macs " in text
    assert "…" not in text
    assert "measured end to end; points of macs" in printed(verified_table(elsewhere[:1]))


def test_the_summary_tells_error_order_noise_and_trouble(ran):
    timed = ran.devices[1]
    words = summary_words(list(timed.numbers().values()))
    assert words.startswith("Predicted mean latency: 2.0% off in the median of 3, at most 23.1%; noise floor 2.0%.")
    assert "50% of the test samples were timed, all were answered." in words
    assert "1 of 3 are further off than noise explains." in words
    assert words.endswith("Slower than the unmodified network by the clock: point 4.")
    busy = [entry(timed, n, samples=5000, contention=1.2) for n in range(4)]
    words = summary_words(busy)
    assert "rank correlation 1.000" in words
    assert "Something else ran on the core meanwhile" in words
    assert "were timed" not in words


def test_the_frame_has_figures_only(ran):
    frame = verified_frame(ran.devices[1].verified)
    assert len(frame) == 4
    assert frame["predicted_mean_ms"].tolist()[0] * 1.02 == pytest.approx(frame["measured_mean_ms"].tolist()[0])
    assert frame["speedup_low"].le(frame["speedup"]).all()
    assert frame["measured_raw_mean_ms"].gt(frame["measured_mean_ms"]).all()


def test_markers_lie_where_the_clock_says(ran):
    counted, timed = ran.devices
    (trace,) = (t for t in layer_traces(timed, front_data(timed)) if t["meta"]["group"] == "verified")
    assert trace["x"] == [e.measured.mean for e in timed.numbers().values()]
    assert "Point 4, measured end to end" in trace["hovertext"][2]
    assert not [t for t in layer_traces(counted, front_data(counted)) if t["meta"]["group"] == "verified"]


def test_page_and_markdown_show_it_where_there_is_any(ran, promised):
    page, text = render_html(ran), markdown_report(ran)
    assert page.count('<table class="verified">') == 1
    assert page.count('id="verified"') == 1
    assert "beyond noise" in page
    assert text.count("### Predicted, and measured end to end") == 1
    assert "**-23.1%**" in text
    assert '<table class="verified">' not in render_html(promised)
    assert "measured end to end" not in markdown_report(promised)
