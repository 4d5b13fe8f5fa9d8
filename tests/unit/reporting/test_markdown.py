import re

import pytest

from eesearch.reporting.markdown import cheapest_within, escaped, markdown_report, within_words


def tables(text):
    """Rows of cells below each heading, as GitHub takes them apart."""
    found, heading = {}, ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|"):
            found.setdefault(heading, []).append([c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]])
    return found


def test_verdicts_come_first_then_a_table_per_device(rich):
    text = markdown_report(rich)
    assert text.splitlines()[2:4] == [f"- {escaped(device.verdict())}" for device in rich.devices]
    assert re.findall(r"^#+ (.*)$", text, flags=re.M)[1:] == [
        "macs", "Methods of others", "Seeding rules", "cpu:eager:t1:b1", "Methods of others", "Seeding rules", "Trials",
    ]  # fmt: skip


def test_every_point_and_the_backbone_have_a_row(answers):
    head, rule, *rows = tables(markdown_report(answers))["cpu:eager:t1:b1"]
    assert head == ["point", "leave at", "accuracy cal", "accuracy test", "drop", "ms", "ratio"]
    assert rule == ["---"] * 2 + ["--:"] * 5
    assert [row[0] for row in rows] == ["0", "1", "2 knee", "3 no loss", "4", "**backbone**"]
    assert rows[3] == [
        "3 no loss",
        r"layer2.3 (linear-avg1) 55.0%, max\_prob ≥ 0.9731<br>output (own classifier) 45.0%, always",
        "93.74%", "93.40%", "+0.06", "4.68", "0.697",
    ]  # fmt: skip


def test_promises_stand_beside_what_came(promised, answers):
    text = markdown_report(promised)
    found = tables(text)
    assert found["cpu:eager:t1:b1"][0][2:6] == ["accuracy cal", "promised", "accuracy test", "drop"]
    assert found["cpu:eager:t1:b1"][6][:1] == ["4 no loss"]
    assert found["cpu:eager:t1:b1"][5][2:6] == ["93.74%", "+0.31", "93.40%", "+0.06 (-0.50 to +0.62)"]
    assert found["cpu:eager:t1:b1"][7][2:6] == ["93.72%", "0.00", "93.46%", "0.00"]
    head, _, naive, corrected, *_ = found["What is promised, and what came"]
    assert len(head) == len(naive) == len(corrected)
    assert corrected == ["0", "corrected", "4", "-0.20", "-0.10", "-0.06", "-0.62 to +0.50", "0.845"]
    assert "- Chosen on 5,000 samples as the cheapest that loses nothing there, point 3" in text
    assert "What is promised" not in markdown_report(answers)


def test_methods_of_others_are_told_within_losses(rich):
    rows = tables(markdown_report(rich.model_copy(update={"devices": rich.devices[:1]})))["Methods of others"]
    assert rows[0] == ["method", "points", "within 0", "within 0.5", "within 1", "within 2"]
    assert [row[:2] for row in rows[2:]] == [["**this run**", "5"], ["BranchyNet", "3"], ["SDN", "3"]]
    assert rows[2][2] == "0.697 (+0.06)"
    assert rows[3][2:] == ["-", "0.732 (+0.46)", "0.732 (+0.46)", "0.732 (+0.46)"]


def test_the_cheapest_within_a_drop_is_chosen_on_calibration(answers):
    device = answers.devices[0]
    assert cheapest_within(device, device.points, 0.02) == device.points[2]
    assert cheapest_within(device, device.points[::-1], 0.0) == device.points[3]
    assert cheapest_within(device, device.points[:2], 0.01) is None
    assert within_words(device, device.points[:2], 0.01) == "-"


def test_trials_that_were_stopped_early_are_told_as_such(stopped):
    assert "| stopped early, after 2 epochs |" in markdown_report(stopped)


def test_seeds_and_trials_have_rows(answers):
    found = tables(markdown_report(answers))
    assert found["Seeding rules"][2][:4] == ["A", "percentile 2 exits", "yes", "0.310"]
    assert len(found["Trials"]) == 2 + 3
    assert "HeadError: conv32-map does not fit" in found["Trials"][4][4]


def test_what_was_not_found_has_no_table(answers):
    bare = answers.devices[0].model_copy(update={"points": (), "seeds": ()})
    text = markdown_report(answers.model_copy(update={"devices": (bare,), "trials": ()}))
    assert set(tables(text)) == {"macs"}
    assert len(tables(text)["macs"]) == 3


def test_foreign_text_stays_text(hostile):
    text = markdown_report(hostile)
    assert "<script" not in text.replace(r"\<", "")
    assert r"\<img" in text
    assert {len(row) for row in tables(text)["Trials"]} == {8}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        ("a\n| b", r"a \| b"),
        ("`x`*_", r"\`x\`\*\_"),
        ("a\\", "a\\\\"),
        ("$x$ <b>&", r"\$x\$ \<b\>\&"),
    ],
)
def test_escapes(text, shown):
    assert escaped(text) == shown


def test_strategies_are_compared_where_there_are_several(compared, rich):
    rows = tables(markdown_report(compared))["Strategies"]
    assert rows[0][4] == "cost at no loss on calibration"
    assert [row[0] for row in rows[2:11]] == [escaped(own.strategy) for own in compared.devices[0].strategies]
    assert rows[3] == [
        "joint", "1 of 2", "0.4600", "0.4500", "0.714", "+0.26", "83.68%", "-0.20", "300 k<br>150 k",
        "1.80 M<br>1.80 M", "900 k<br>900 k",
    ]  # fmt: skip
    assert "Strategies" not in tables(markdown_report(rich))


def test_a_last_exit_that_lost_much_is_bold(answers):
    rows = tables(markdown_report(answers))["Trials"][2:]
    assert [row[6] for row in rows] == ["0.00", "**-0.71**", "-"]
