"""The table of methods as the terminal shows it."""

from __future__ import annotations

import io
import re
from math import inf

import pytest
from rich.console import Console

from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.front import CostSummary, Evaluation
from eesearch.core.policy import Policy, Stop
from eesearch.reporting.policies import NAMES, policies_table
from eesearch.solve.baselines import BASELINES
from eesearch.solve.learned_schedules import LEARNED_BASELINES
from eesearch.study.points import Point
from eesearch.study.policies import DROPS, OURS, Comparison, MethodAnswer


def point(accuracy, cost):
    stop = Stop(exit=ExitId(network="n", cut=OUTPUT, head=OWN), threshold=-inf)
    evaluation = Evaluation(
        policy=Policy(stops=(stop,), criterion="max_prob"), accuracy=accuracy, samples=50_000, exit_rate=(1.0,),
        costs={"latency_ms": CostSummary(mean=cost, p95=cost, worst=cost)},
    )  # fmt: skip
    return Point(cal=evaluation, test=evaluation)


def method(name, *picks):
    return MethodAnswer(
        method=name, picks=picks, hypervolume_cal=0.15432, hypervolume=0.12345, hypervolume_best=0.2,
        candidates=99_999, points=12_345, seconds=754.0,
    )  # fmt: skip


@pytest.fixture
def comparison():
    widest = [point(0.80, 14.0), point(0.79, 8.0), None, point(0.91, 7.0)]
    names = [OURS, *NAMES, "[red]somebody"]
    return Comparison(
        device="cpu:onnxruntime:t16:b128", axis="latency_ms", decision="max_prob", backbone=point(0.90, 10.0),
        drops=DROPS, methods=tuple(method(name, *widest) for name in names),
    )  # fmt: skip


def printed(table, width=110):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue().splitlines()


def test_a_row_per_method_fits_110_columns(comparison):
    lines = printed(policies_table(comparison))
    assert max(map(len, lines)) <= 110
    (row,) = [line.split() for line in lines if line.startswith(" SDN")]
    assert row == ["SDN", "1.400", "(+10.00)", "0.800", "(+11.00)", "-", "0.700", "(-1.00)", "0.1543", "0.1235",
                   "754.0"]  # fmt: skip
    assert {"Baccarelli", "(reconstruction)"} <= {line.split("  ")[0].strip() for line in lines}
    assert any(line.startswith(" [red]somebody") for line in lines)
    assert not any("…" in line for line in lines)


def test_ours_stands_out_and_every_baseline_has_a_name(comparison):
    table = policies_table(comparison)
    assert [str(row.style) for row in table.rows][:2] == ["bold", ""]
    assert set(NAMES) >= {*BASELINES, *LEARNED_BASELINES}


def test_the_caption_says_what_the_figures_are(comparison):
    text = " ".join(printed(policies_table(comparison)))
    assert "90.00% on 50,000 test samples" in text
    assert re.search(r"decision by max_prob\s+is paid", text)
    without = comparison.model_copy(update={"decision": ""})
    text = " ".join(printed(policies_table(without)))
    assert "decision" not in text
