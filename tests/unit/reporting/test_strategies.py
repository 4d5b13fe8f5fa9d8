import io

from rich.console import Console

from eesearch.reporting.strategies import strategies_table, strategy_rows


def printed(table):
    console = Console(file=io.StringIO(), width=100)
    console.print(table)
    return console.file.getvalue().splitlines()


def test_there_is_a_row_per_strategy_in_words(compared):
    separate, joint, mixed, combined, gated, *_ = strategy_rows(compared.devices[0])
    assert (separate.ratio, separate.accuracy, separate.drop) == ("0.697", "93.40%", "+0.06")
    assert (joint.volume_cal, joint.volume_test, joint.designs) == ("0.4600", "0.4500", "1 of 2")
    assert (separate.half, mixed.half) == ("83.88%", "-")
    assert (joint.change, joint.paid) == ("-0.20", False)
    assert (mixed.volume_cal, mixed.ratio, mixed.best) == ("-", "-", "")
    assert (combined.change, combined.paid) == ("-0.60", True)
    assert gated.costs == [("750 k", "150 k"), ("7.20 M", "1.80 M"), ("3.60 M", "900 k")]


def test_passes_that_nobody_counted_are_missing(compared):
    separate, *_ = strategy_rows(compared.devices[0])
    assert [cost[0] for cost in separate.costs] == ["150 k", "-", "-"]


def test_one_strategy_is_no_comparison(compared, answers):
    device = compared.devices[0]
    assert strategy_rows(device.model_copy(update={"strategies": device.strategies[:1]})) == []
    assert strategy_rows(answers.devices[0]) == []


def test_the_table_fits_100_columns_with_a_line_per_strategy(compared):
    device = compared.devices[0]
    lines = printed(strategies_table(device))
    assert max(map(len, lines)) <= 100
    above, below = (next(n for n, line in enumerate(lines) if words in line) for words in (" no loss ", " on cal "))
    assert (below - above, lines[above].index("no loss") + 1) == (1, lines[below].index("on cal")), "naive, and said so"
    (row,) = [line.split() for line in lines if line.startswith(" joint")]
    assert " ".join(row) == "joint 1 of 2 0.4600 0.4500 0.714 (+0.26) 83.68 -0.20 1.80 M 900 k"
    assert {line.split()[0] for line in lines if " of " in line and "0." in line} >= {"gated", "<b>own"}
    assert any("-0.60!" in line for line in lines)
