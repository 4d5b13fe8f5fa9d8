import re
from math import inf
from pathlib import Path

import pytest

from eesearch.core.design import ExitId
from eesearch.core.errors import PickError, RunError
from eesearch.core.front import CostSummary, Evaluation
from eesearch.core.policy import Policy, Stop
from eesearch.notebook import Run, load_run
from eesearch.study.answers import Answers, DeviceAnswer
from eesearch.study.points import Point
from eesearch.study.rundir import RunDir


def evaluation(accuracy, cost, cut):
    policy = Policy(stops=(Stop(exit=ExitId(network="n", cut=cut, head="h"), threshold=-inf),), criterion="max_prob")
    costs = {axis: CostSummary(mean=cost, p95=cost, worst=cost) for axis in ("macs", "latency_ms")}
    return Evaluation(policy=policy, accuracy=accuracy, samples=100, exit_rate=(1.0,), costs=costs)


def device(name, axis):
    made = [evaluation(a, c, f"cut {c}") for a, c in ((0.80, 1e6), (0.88, 2e6), (0.90, 4e6))]
    backbone = evaluation(0.90, 1e7, "output")
    points = tuple(Point(cal=e, test=e) for e in made)
    return DeviceAnswer(device=name, axis=axis, backbone=Point(cal=backbone, test=backbone), points=points)


def made(study="made up"):
    devices = (device("cpu:eager:t1:b1", "latency_ms"), device("macs", "macs"))
    return Answers(study=study, mode="bank", data={}, devices=devices)


@pytest.fixture
def run():
    return Run(RunDir(Path("runs/none")), made())


def test_a_plot_has_a_panel_per_device_or_one(run):
    assert len(run.plot().axes) == 2
    (axes,) = run.plot("macs").axes
    assert "macs" in axes.get_title()
    with pytest.raises(PickError, match="no device tpu"):
        run.plot("tpu")


def test_a_notebook_shows_verdicts_and_fronts(run):
    html = run._repr_html_()
    assert html.count("<table>") == 2
    assert len(re.findall("<li>", html)) == 2
    assert "made up: 0 trials in runs/none" in html


def test_foreign_names_are_no_html():
    evil = made(study="<script>alert(1)</script>")
    assert "<script" not in Run(RunDir(Path("<b>")), evil)._repr_html_()
    assert "<b>&lt;script" in Run(RunDir(Path("x")), evil)._repr_html_()


def test_a_run_is_loaded_by_its_path(tmp_path, run):
    with pytest.raises(RunError, match="holds no run"):
        load_run(tmp_path)
    (tmp_path / "study.yaml").write_text("name: made up\n")
    (tmp_path / "front.json").write_text(run.answers.model_dump_json())
    loaded = load_run(str(tmp_path))
    assert type(loaded) is Run
    assert loaded.answers == run.answers
    frame = loaded.front("macs").to_pandas()
    assert list(frame["point"]) == [0, 1, 2]
