"""Which points are measured again."""

from math import inf

import pytest

from eesearch.core.design import ASK, OUTPUT, OWN, ExitId
from eesearch.core.errors import PickError
from eesearch.core.front import CostSummary, Evaluation
from eesearch.core.policy import Policy, Stop
from eesearch.study.answers import Answers, DeviceAnswer
from eesearch.study.picks import Picked
from eesearch.study.points import Point
from eesearch.study.run import Run
from eesearch.study.rundir import RunDir
from eesearch.study.usual import usual_points, wanted_picks
from eesearch.study.verify import verify


def point(accuracy, cost, cut="c0", strategy="separate"):
    ids = [ExitId(network="n", cut=name, head=OWN if name == OUTPUT else "h") for name in dict.fromkeys((cut, OUTPUT))]
    thresholds = [0.5 + 0.001 * cost, -inf][-len(ids) :]
    policy = Policy(stops=tuple(Stop(exit=e, threshold=t) for e, t in zip(ids, thresholds, strict=True)),
                    criterion="max_prob")  # fmt: skip
    evaluation = Evaluation(
        policy=policy, design="" if strategy == "backbone" else "d", strategy=strategy, accuracy=accuracy, samples=1000,
        exit_rate=(1.0,) if len(ids) == 1 else (0.5, 0.5),
        costs={"latency_ms": CostSummary(mean=cost, p95=cost, worst=cost)},
    )  # fmt: skip
    return Point(cal=evaluation, test=evaluation)


BACKBONE = point(0.95, 100.0, OUTPUT, "backbone")
FRONT = [point(0.80, 10.0), point(0.90, 12.0), point(0.93, 40.0), point(0.95, 60.0), point(0.96, 80.0)]


def device(points, name="a"):
    return DeviceAnswer(device=name, axis="latency_ms", backbone=BACKBONE, points=tuple(points))


def run(tmp_path, *devices):
    return Run(RunDir(tmp_path), Answers(study="s", mode="bank", data={}, devices=devices))


def test_no_loss_and_knee_and_what_is_far_from_both():
    found = usual_points(device(FRONT), 3)
    assert [FRONT.index(p) for p in found] == [3, 1, 2]
    assert [FRONT.index(p) for p in usual_points(device(FRONT), 1)] == [3]
    assert len(usual_points(device(FRONT), 9)) == 5
    assert usual_points(device([BACKBONE]), 3) == []


def test_next_to_no_loss_where_nothing_loses_nothing():
    assert usual_points(device(FRONT[:3]), 1) == [FRONT[2]]
    assert usual_points(device([*FRONT[:3], BACKBONE]), 1) == [FRONT[2]]


def test_who_asks_the_last_resort_at_once_runs_nothing(tmp_path):
    asks = FRONT[0].model_copy(update={"cal": asking(FRONT[0].cal)})
    assert asks not in usual_points(device([asks, *FRONT[1:]]), 9)
    assert len(usual_points(device([asks, *FRONT[1:]]), 9)) == 4
    with pytest.raises(PickError, match="asks the last resort at once: nothing of it runs here"):
        verify(run(tmp_path, device([asks])), [Picked(device([asks]), asks)], "cpu:eager:t1:b1")


def asking(evaluation):
    stop = Stop(exit=ASK, threshold=-inf)
    return evaluation.model_copy(update={"policy": Policy(stops=(stop,), criterion="max_prob")})


def test_points_that_cost_nothing_are_points():
    free = point(0.7, 0.0)
    assert free in usual_points(device([free, *FRONT]), 6)


def test_selections_then_points_that_are_spread(tmp_path):
    found = run(tmp_path, device(FRONT), device(FRONT[:2], "b"))
    numbers = lambda *args, **options: [(p.device.device, p.number) for p in wanted_picks(found, *args, **options)]  # noqa: E731
    assert numbers(["point=2", "point=1@b"]) == [("a", 2), ("b", 1)]
    assert numbers(["point=1"], device="b") == [("b", 1)]
    assert numbers(["point=1"], device="cpu:other:t1:b1") == [("a", 1)]
    assert numbers([], every=2) == [("a", 0), ("a", 4)]
    assert numbers(["point=2"], every=2) == [("a", 2), ("a", 0), ("a", 4)]
    assert numbers([]) == [("a", 3), ("a", 1), ("a", 2)]


def test_a_front_without_exits_has_nothing_to_verify(tmp_path):
    with pytest.raises(PickError, match="the front of a has no point with early exits"):
        wanted_picks(run(tmp_path, device([BACKBONE])), [])
