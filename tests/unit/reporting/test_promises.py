import io

import pytest
from rich.console import Console

from eesearch.core.paired import Paired
from eesearch.reporting.promises import (
    PromiseRow,
    free_words,
    promise_rows,
    promise_sentences,
    promises,
    promises_table,
)

HALF = "-0.50 to +0.62"  # of 100 lost and 97 gained, of 5,000


@pytest.fixture
def device(promised):
    """Drops on calibration: +23.60, +9.62, +1.76, -0.02, -0.20; promised: 0.45 more, 0.33 and 0.10 at the end."""
    return promised.devices[0]


def test_naive_and_corrected_picks_stand_beside_each_other(device):
    assert promise_rows(device) == [
        PromiseRow("0", "naive", "3", "-0.02", "+0.31", "+0.06", HALF, "0.697"),
        PromiseRow("0", "corrected", "4", "-0.20", "-0.10", "-0.06", "-0.62 to +0.50", "0.845"),
        PromiseRow("0.5", "both", "3", "-0.02", "+0.31", "+0.06", HALF, "0.697"),
        PromiseRow("1", "both", "3", "-0.02", "+0.31", "+0.06", HALF, "0.697"),
    ]


def test_in_words_limits_that_change_nothing_are_told_together(device):
    first, second = promise_sentences(device)
    assert first == (
        "Chosen on 5,000 samples as the cheapest that loses nothing there, point 3 is expected to lose 0.31 points on "
        f"new ones; on test it lost 0.06 points (95 %: {HALF} lost), at 0.697 x the backbone's multiply-adds. The "
        "cheapest that is expected to lose nothing on new ones is point 4, promised to gain 0.10 points; on test it "
        "gained 0.06 points (95 %: -0.62 to +0.50 lost), at 0.845 x the backbone's multiply-adds."
    )
    assert second.startswith(
        "Chosen on 5,000 samples as the cheapest that loses at most 0.5 points (or at most 1 point) there, point 3 is "
        "expected to lose 0.31 points on new ones, which is within the limit, too; on test it lost"
    )


def test_in_words_a_promise_may_be_a_loss_or_nothing(device):
    def told(gap):
        return " ".join(promise_sentences(device.model_copy(update={"optimism": ((-0.01, gap), (0.05, gap))})))

    assert "expected to lose at most 0.5 points on new ones is point 4, promised to lose 0.40 points; on" in told(0.006)
    assert "expected to lose nothing on new ones is point 4, promised to lose nothing; on test it" in told(0.002)


def test_where_nothing_keeps_a_limit_it_is_said(device):
    none = device.model_copy(update={"points": device.points[:2]})
    assert [(row.rule, row.point, row.ratio) for row in promise_rows(none)] == [
        (rule, "none", "-") for _ in range(3) for rule in ("naive", "corrected")
    ]
    assert promise_sentences(none) == ["No point loses as little as 1 point on calibration."]
    naive_only = device.model_copy(update={"points": device.points[:4]})
    assert [row.point for row in promise_rows(naive_only)] == ["3", "none", "3", "3"]
    assert promise_sentences(naive_only)[0].endswith("No point is expected to lose nothing on new ones.")


def test_the_backbone_itself_promises_nothing_and_has_no_interval(device):
    whole = device.backbone.model_copy(update={"paired": Paired(lost=0, gained=0, samples=5000)})
    last = device.model_copy(update={"points": (device.points[2], whole)})
    row = promise_rows(last)[0]
    assert row == PromiseRow("0", "both", "1", "0.00", "0.00", "0.00", "", "1.000")
    assert promise_sentences(last)[0] == (
        "Chosen on 5,000 samples as the cheapest that loses nothing (or at most 0.5 points, or at most 1 point) there, "
        "point 1 (the backbone itself) is expected to lose nothing on new ones, which is within the limit, too; on "
        "test it lost nothing, at 1.000 x the backbone's multiply-adds."
    )


def test_points_that_nobody_compared_have_no_interval(device):
    alone = tuple(point.model_copy(update={"paired": None}) for point in device.points)
    bare = device.model_copy(update={"points": alone})
    assert {row.interval for row in promise_rows(bare)} == {""}
    assert "95 %" not in " ".join(promise_sentences(bare))


@pytest.mark.parametrize("changes", [{"optimism": ()}, {"points": ()}, {"broken": ("params at most 1",)}])
def test_nothing_is_promised_where_nothing_is_known(device, changes):
    changed = device.model_copy(update=changes)
    assert promises(changed) == ()
    assert promise_rows(changed) == promise_sentences(changed) == []


def test_what_no_loss_means_depends_on_what_is_known(device):
    assert free_words(device) == "is expected to lose nothing on new samples"
    assert free_words(device, naive=True) == "loses nothing on calibration"
    assert free_words(device.model_copy(update={"optimism": ()})) == "loses nothing on calibration"


def test_the_table_fits_100_columns(device):
    console = Console(file=io.StringIO(), width=100)
    console.print(promises_table(device))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    (row,) = [line.split() for line in lines if "corrected " in line and line.strip()[0] == "0"]
    assert row == ["0", "corrected", "4", "-0.20", "-0.10", "-0.06", "-0.62", "to", "+0.50", "0.845"]
