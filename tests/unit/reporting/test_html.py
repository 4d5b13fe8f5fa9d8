import gzip
import json
import re
from base64 import b64decode
from datetime import UTC, datetime
from functools import reduce
from html import unescape
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from plotly.offline import get_plotlyjs

from eesearch.core.front import CostSummary
from eesearch.reporting.html import render_html
from eesearch.study.points import Point


class Page(HTMLParser):
    """The page as a browser takes it apart: elements with attributes, visible text, rows of each table."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.text, self.tables, self.scripts, self.styles = [], [], {}, [], []
        self._open, self._rows, self._in_cell = "", [], False
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        if tag == "table":
            self._rows = self.tables.setdefault(dict(attrs)["class"], [])
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        self._open = ""
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self._open == "script":
            self.scripts.append(data)
        elif self._open == "style":
            self.styles.append(data)
        elif self._open not in ("style", "title") and data.strip():
            self.text.append(data.strip())
            if self._in_cell:
                self._rows[-1][-1] = f"{self._rows[-1][-1]} {data.strip()}".strip()


@pytest.fixture
def page(answers):
    return Page(render_html(answers))


def unpacked(packed):
    return gzip.decompress(b64decode(packed)).decode()


def shown_on(page):
    """What the page's scripts unpack."""
    return json.loads(unpacked(page.scripts[1]))


def own_part(source):
    """The page without what travels packed."""
    return re.sub(r'(<script type="application/octet-stream"[^>]*>)[^<]*', r"\1", source)


def test_the_verdicts_come_first(page, answers):
    assert page.text[:2] == [device.verdict() for device in answers.devices]


def test_every_point_and_the_backbone_have_a_row(page):
    head, *rows = page.tables["front"]
    first, second = rows[:6], rows[7:]
    assert [row[0] for row in first] == ["0", "1", "2 knee", "3 no loss", "4", "backbone"]
    assert [row[0] for row in second] == [row[0] for row in first]
    assert all(len(row) == len(head) for row in rows)
    assert first[3][:9] == [
        "3 no loss", "layer2.3 output", "linear-avg1 own classifier", "55.0% 45.0%", "max_prob ≥ 0.9731 always",
        "93.74%", "93.40%", "92.68 to 94.06", "+0.06",
    ]  # fmt: skip


def test_promises_stand_beside_what_came(promised, page):
    drawn = Page(render_html(promised))
    head, *rows = drawn.tables["front"][:7]
    assert head[7:10] == ["95 % interval, test", "Promised", "Drop"]
    assert [row[0] for row in rows] == ["0", "1", "2 knee", "3", "4 no loss", "backbone"]
    assert rows[3][8:10] == ["+0.31", "+0.06 -0.50 to +0.62"]
    assert rows[5][8:10] == ["0.00", "0.00"]
    assert {len(row) for row in rows} == {len(head)}
    assert drawn.tables["promises"][1:3] == [
        ["0", "naive", "3", "-0.02", "+0.31", "+0.06 -0.50 to +0.62", "0.697"],
        ["0", "corrected", "4", "-0.20", "-0.10", "-0.06 -0.62 to +0.50", "0.845"],
    ]
    text = " ".join(" ".join(drawn.text).split())
    assert "the cheapest point that is expected to lose nothing on new samples" in text
    assert "Chosen on 5,000 samples as the cheapest that loses nothing there, point 3" in text
    assert ("a", {"href": "#promises"}) in drawn.elements


def test_older_answers_promise_nothing(page):
    assert "promises" not in page.tables
    assert ("a", {"href": "#promises"}) not in page.elements
    text = " ".join(" ".join(page.text).split())
    assert "the cheapest point that loses nothing on calibration" in text
    assert "Promised" not in text


def test_the_own_axis_comes_first(page):
    heads = [row for row in page.tables["front"] if row[0] == "Point"]
    assert [head[9].replace("\u00a0", " ") for head in heads] == ["Mean M MACs", "Mean ms"]
    assert page.tables["front"][4][9:17] == ["87.47", "0.697", "128.0", "128.0", "4.68", "0.697", "6.84", "6.84"]


def test_seeds_have_their_distance(page):
    row = page.tables["seeds"][1]
    assert row[:2] == ["A", "percentile 2 exits"]
    assert row[6:] == ["0.310", "93.02%", "92.70%", "0.742", "1.071", "yes"]


def test_overthinking_has_a_row_per_exit_in_counts_and_shares(page):
    head, first, second, *others = page.tables["exits"]
    assert head[2:] == ["Accuracy test", "Right here, wrong at the end", "Wrong here, right at the end"]
    assert first == ["layer1.4", "linear-avg1", "69.54%", "61 (1.22%)", "1257 (25.14%)"]
    assert second == ["layer2.3", "linear-avg1", "83.88%", "40 (0.80%)", "519 (10.38%)"]
    assert others == page.tables["exits"][:3]  # the second device's


def test_the_page_says_what_an_oracle_is_and_which_heads_it_had(answers):
    text = " ".join(Page(render_html(answers)).text)
    assert "an ideal to measure the distance to, and no policy." in text
    assert "Static sub-networks : everybody leaves at the same exit" in text
    assert "only the most accurate head" not in text
    device = answers.devices[0].model_copy(update={"oracle_all_heads": False})
    text = " ".join(Page(render_html(answers.model_copy(update={"devices": (device,)}))).text)
    assert "Of every cut only the most accurate head took part." in text


def test_an_older_run_has_a_page_without_oracle_and_overthinking(answers):
    older = [d.model_copy(update={"oracle": (), "static": (), "overthinking": ()}) for d in answers.devices]
    page = Page(render_html(answers.model_copy(update={"devices": tuple(older)})))
    assert "exits" not in page.tables
    assert "oracle" not in " ".join(page.text)
    assert len(page.tables["front"]) == 14


def test_parameters_have_one_column_of_what_is_deployed(answers):
    def counted(point):
        costs = point.test.costs | {"params": CostSummary(mean=0.5e6, p95=0.6e6, worst=0.857e6)}
        return point.model_copy(update={"test": point.test.model_copy(update={"costs": costs})})

    device = answers.devices[1]
    device = device.model_copy(
        update={"points": tuple(map(counted, device.points)), "backbone": counted(device.backbone)}
    )
    head, first, *_ = Page(render_html(answers.model_copy(update={"devices": (device,)}))).tables["front"]
    assert [title.replace("\u00a0", " ") for title in head[9:18]] == [
        "Mean ms", "Ratio", "p95", "Worst", "Mean M MACs", "Ratio", "p95", "Worst", "M parameters",
    ]  # fmt: skip
    assert first[17] == "0.8570"
    assert len(first) == len(head)


def test_trials_show_failures_and_the_last_exit_against_the_backbone(page, answers):
    _, bank, joint, failed = page.tables["trials"]
    assert bank[:3] == ["0", "bank", "separate"]
    assert bank[3].startswith("12 exits layer1.0:linear-avg1")
    assert joint[4:] == ["0.470", "93.01%", "lost -0.71", "6 min 52 s", "complete"]
    assert failed[4:8] == ["-", "-", "-", "3.1 s"]
    assert failed[8] == f"failed: {answers.trials[2].error}"
    assert ("tr", {"class": "failed"}) in page.elements
    assert "3 trials, 1 failed" in " ".join(page.text)


def test_trials_that_were_stopped_early_are_told_as_such(stopped, page):
    drawn = Page(render_html(stopped))
    row = drawn.tables["trials"][-1]
    assert (row[0], row[4], row[8]) == ("3", "-", "stopped early, after 2 epochs")
    text = " ".join(drawn.text)
    assert "4 trials, 1 failed, 1 stopped early" in text
    assert "dotted where it was stopped early" in text
    assert "stopped early" not in " ".join(page.text)


def test_data_and_measurement_are_there(page):
    text = " ".join(page.text)
    for wanted in (
        "50000",
        "f00dfeed12345678",
        "airplane, automobile, bird, cat",
        "1.80%",
        "head layer3.2 mlp64-mixed2",
    ):
        assert wanted in text
    assert page.tables["phases"][1] == ["train bank", "48.2 s", "8%"]
    assert page.tables["phases"][-1][:2] == ["together", "9 min 33 s"]


def test_it_is_one_file_that_asks_the_network_for_nothing(answers, page):
    source = render_html(answers)
    assert len(source.encode()) < 6_000_000
    names = "http-equiv", "http://www.w3.org/2000/svg"  # of an attribute, and of a kind of elements
    assert "http" not in reduce(lambda text, name: text.replace(name, ""), names, own_part(source))
    for tag, attributes in page.elements:
        assert "src" not in attributes, tag
        assert attributes.get("href", "#").startswith(("#", "data:,"))
    policy = [a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy[0].startswith("default-src 'none';")
    assert "connect-src" not in policy[0]


def test_plotly_travels_along_and_its_cloud_button_is_off(page, answers):
    assert unpacked(page.scripts[0]) == get_plotlyjs()
    assert "showSendToCloud: false" in own_part(render_html(answers))


def test_the_plots_are_json_that_a_script_can_read(page, answers):
    plots = [device["figure"] for device in shown_on(page)["devices"]]
    drawn = [n for trace in plots[1]["data"] for n in trace.get("customdata", ())]
    assert sorted(drawn) == list(range(len(answers.devices[1].points)))
    assert len(plots) == len([a for tag, a in page.elements if a.get("class") == "plot front"]) == 2


def test_scripts_and_styles_hold_nothing_that_ends_them_and_make_no_markup_of_text(page):
    (code,) = page.scripts[2:]
    assert code.lstrip().startswith('"use strict"')
    assert "innerHTML" not in code
    assert "insertAdjacentHTML" not in code
    for element in ("dom.js", "page.js"):
        assert files("eesearch.reporting").joinpath(element).read_text(encoding="utf-8").strip() in code
    assert "--flow" in "".join(page.styles)


def test_devices_are_tabs_and_only_the_first_is_shown(page):
    tabs = [a for _, a in page.elements if a.get("role") == "tab"]
    panels = [a for _, a in page.elements if a.get("role") == "tabpanel"]
    assert [tab["aria-controls"] for tab in tabs] == [panel["id"] for panel in panels] == ["device-1", "device-2"]
    assert [tab["aria-selected"] for tab in tabs] == ["true", "false"]
    assert ["hidden" in panel for panel in panels] == [False, True]


def test_one_device_needs_no_tabs(answers):
    page = Page(render_html(answers.model_copy(update={"devices": answers.devices[:1]})))
    assert not [a for _, a in page.elements if a.get("role") in ("tab", "tabpanel")]


def test_a_page_of_a_running_search_says_so(answers):
    assert "The search is running." in " ".join(Page(render_html(answers, live=True)).text)
    done = Page(render_html(answers))
    assert "The search is running." not in " ".join(done.text)
    assert not [a for _, a in done.elements if "data-live" in a]


def test_a_page_of_a_running_search_says_when_it_was_written(answers):
    before = datetime.now(UTC).replace(microsecond=0)
    page = Page(render_html(answers, live=True))
    (body,) = [attributes for tag, attributes in page.elements if tag == "body"]
    written = datetime.fromisoformat(body["data-written"])
    assert before <= written <= datetime.now(UTC)
    assert written.strftime("%Y-%m-%d %H:%M UTC") in page.text
    assert shown_on(page)["live"] is True
    assert "data-written" not in own_part(render_html(answers)).partition("<script")[0]


def test_what_there_is_to_see_of_the_search_waits_for_two_complete_trials(rich, answers):
    assert "plot-volumes" in {a.get("id") for _, a in Page(render_html(rich)).elements}
    one = Page(render_html(rich.model_copy(update={"trials": rich.trials[:1]})))
    assert not {"plot-volumes", "plot-designs", "search"} & {a.get("id") for _, a in one.elements}
    older = Page(render_html(answers))
    assert "plot-volumes" not in {a.get("id") for _, a in older.elements}
    assert shown_on(older)["volumes"] is None


def test_examples_are_those_of_these_fronts(rich, examples, answers):
    shown = shown_on(Page(render_html(rich, examples)))["examples"]
    assert shown["columns"] == 12
    assert len(shown["stops"]["macs"]) == len(rich.devices[0].points)
    assert shown["sprite"] == examples.sprite
    others = examples.model_copy(update={"made_for": "another"})
    assert shown_on(Page(render_html(rich, others)))["examples"] is None
    assert shown_on(Page(render_html(answers)))["examples"] is None


def test_the_page_knows_its_run(answers):
    assert shown_on(Page(render_html(answers, run="runs/a b")))["run"] == "runs/a b"
    assert shown_on(Page(render_html(answers)))["run"] == "RUN"


def test_rendering_twice_gives_the_same_page(rich, examples):
    assert render_html(rich, examples) == render_html(rich, examples)


def test_it_tells_how_many_dominated_points_there_are(rich):
    assert "3 of 10 are drawn, spread evenly" in " ".join(" ".join(Page(render_html(rich)).text).split())


def test_foreign_strings_stay_text(hostile):
    source = render_html(hostile)
    page = Page(source)
    evil = hostile.study
    assert own_part(source).lower().count("<script") == 3
    assert own_part(source).lower().count("</script") == 3
    assert "<img" not in own_part(source)
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    text = " ".join(page.text)
    assert text.count(evil) >= 9  # verdict, study, nav, heading, exits, trial, error, data, class, noise, phase
    hover = shown_on(page)["devices"][0]["figure"]["data"][0]["hovertext"][0]
    assert "<img" not in hover
    assert evil in unescape(hover)


def test_light_and_dark_follow_the_system(answers):
    source = own_part(render_html(answers))
    assert re.search(r"@media \(prefers-color-scheme: dark\)", source)
    assert 'name="viewport" content="width=device-width' in source


def test_a_front_of_thousands_stays_under_6_mb_and_says_what_the_table_leaves_out(answers, monkeypatch):
    monkeypatch.setattr("eesearch.core.front.wilson", lambda accuracy, n: (accuracy - 0.01, accuracy + 0.01))
    device = answers.devices[0]
    points = []
    for number in range(2000):
        cal = device.points[number % 5].cal.model_copy(update={"accuracy": 0.5 + number / 5000})
        costs = {"macs": cal.costs["macs"].model_copy(update={"mean": 1e6 * (1 + number / 20)})}
        cal = cal.model_copy(update={"costs": costs})
        points.append(Point(cal=cal, test=cal))
    long = device.model_copy(update={"points": tuple(points)})
    source = render_html(answers.model_copy(update={"devices": (long,)}))
    assert len(source.encode()) < 6_000_000
    page = Page(source)
    shown = [row[0] for row in page.tables["front"][1:]]
    assert 200 <= len(shown) <= 203
    assert any("knee" in name for name in shown)
    assert f"leaves out {2001 - len(shown)} points" in " ".join(page.text)
    (shown,) = shown_on(page)["devices"]
    drawn = [n for trace in shown["figure"]["data"] for n in trace.get("customdata", ())]
    assert sorted(drawn) == list(range(2000))
    assert len(shown["points"]) == 2000


def test_an_empty_search_has_a_page(answers):
    bare = answers.devices[0].model_copy(update={"points": (), "seeds": ()})
    page = Page(
        render_html(answers.model_copy(update={"devices": (bare,), "trials": (), "phases": {}, "class_names": ()}))
    )
    assert [row[0] for row in page.tables["front"]] == ["Point", "backbone"]
    assert "seeds" not in page.tables
    assert "phases" not in page.tables


def test_strategies_are_compared_where_there_are_several(compared, page):
    drawn = Page(render_html(compared))
    head, first, second, third, *_ = drawn.tables["strategies"]
    assert len(drawn.tables["strategies"]) == 2 * (1 + len(compared.devices[0].strategies))
    assert "Cost at no loss on cal." in drawn.tables["strategies"][0]
    assert len(first) == len(second) == len(third) == len(head)
    assert first[:2] == ["separate", "1 of 1 best: trial 0"]
    assert second == [
        "joint", "1 of 2 best: trial 1", "0.4600", "0.4500", "0.714", "93.20%", "+0.26", "83.68%", "93.52%", "-0.20",
        "300 k 150 k", "1.80 M 1.80 M", "900 k 900 k",
    ]  # fmt: skip
    assert third[1:7] == ["0 of 3", "-", "-", "-", "-", "-"]
    assert ("a", {"href": "#strategies"}) in drawn.elements
    figures = [device["strategies"] for device in shown_on(drawn)["devices"]]
    assert [len(figure["data"]) for figure in figures] == [9, 9]  # all but the one without points, and the backbone
    assert "strategies" not in page.tables
    assert ("a", {"href": "#strategies"}) not in page.elements
    assert [device["strategies"] for device in shown_on(page)["devices"]] == [None, None]


def test_a_strategy_of_any_name_stays_text(compared):
    source = own_part(render_html(compared))
    assert "&lt;b&gt;own" in source
    assert "<b>own" not in source


def test_what_a_strategy_notes_stands_with_its_trial(compared):
    rows = Page(render_html(compared)).tables["trials"]
    assert rows[2][8].startswith("complete soft-hard gap: -0.30 points, +0.031 x backbone")
    assert rows[2][6] == "lost -0.90"
