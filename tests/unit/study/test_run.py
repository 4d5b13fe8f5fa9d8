from math import inf
from pathlib import Path

import numpy as np
import pytest

from eesearch.core.design import ExitId
from eesearch.core.errors import PickError
from eesearch.core.front import CostSummary, Evaluation
from eesearch.core.policy import Policy, Stop
from eesearch.study.answers import Answers, DeviceAnswer
from eesearch.study.points import Point
from eesearch.study.run import Run
from eesearch.study.rundir import RunDir


def evaluation(accuracy, cost, cut):
    policy = Policy(stops=(Stop(exit=ExitId(network="n", cut=cut, head="h"), threshold=-inf),), criterion="max_prob")
    costs = {axis: CostSummary(mean=cost, p95=cost, worst=cost) for axis in ("macs", "latency_ms")}
    return Evaluation(policy=policy, accuracy=accuracy, samples=100, exit_rate=(1.0,), costs=costs)


def device(name, axis):
    made = [evaluation(a, c, f"cut {c}") for a, c in ((0.80, 1.0), (0.88, 2.0), (0.90, 4.0), (0.905, 9.0))]
    backbone = evaluation(0.90, 10.0, "output")
    points = tuple(Point(cal=e, test=e) for e in made)
    return DeviceAnswer(device=name, axis=axis, backbone=Point(cal=backbone, test=backbone), points=points)


DEVICES = (device("cpu:eager:t1:b1", "latency_ms"), device("macs", "macs"))


@pytest.fixture
def run():
    return Run(RunDir(Path("runs/none")), Answers(study="made up", mode="bank", data={}, devices=DEVICES))


def test_a_pick_is_a_selection_or_a_keyword(run):
    assert run.pick("max-drop=2%") == run.pick(max_drop=0.02) == (DEVICES[0], DEVICES[0].points[1])
    assert run.pick("knee", device="macs") == run.pick("knee@macs") == run.pick(knee=True, device="macs")
    assert run.pick(point=3).number == 3


@pytest.mark.parametrize(
    ("selection", "keywords"),
    [("knee", {"point": 1}), ("knee@macs", {"device": "macs"}), (None, {}), (None, {"device": "macs"})],
)
def test_picks_that_say_too_much_or_nothing(run, selection, keywords):
    with pytest.raises(PickError):
        run.pick(selection, **keywords)


def test_a_model_takes_what_a_pick_returned(run, monkeypatch):
    asked = []
    monkeypatch.setattr(Run, "network", lambda self, point, example: asked.append((point, len(example))) or (None, ()))
    monkeypatch.setattr("eesearch.study.run.Deployed", lambda net, policy, fits: policy)
    example, picked = np.zeros((2, 3)), run.pick(point=2)
    for selection in ("point=2", picked, picked.point):
        assert run.model(selection, example) == picked.point.cal.policy
    assert asked == [(picked.point, 2)] * 3
