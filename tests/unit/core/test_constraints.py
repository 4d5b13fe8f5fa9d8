"""What constraints say of an evaluation."""

from __future__ import annotations

from math import inf

import pytest

from eesearch.core.constraints import Constraints, Limit
from eesearch.core.costs import Axis
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.errors import CostError, PolicyError
from eesearch.core.front import CostSummary, Evaluation
from eesearch.core.policy import Policy, Stop

STOPS = (Stop(exit=ExitId(network="n", cut=OUTPUT, head=OWN), threshold=-inf),)


def evaluation(accuracy=0.9, mean=2.0, p95=4.0, worst=8.0, recall: float | None = 0.8, axis: Axis = "latency_ms"):
    return Evaluation(
        policy=Policy(stops=STOPS, criterion="max_prob"),
        accuracy=accuracy,
        samples=100,
        exit_rate=(1.0,),
        costs={axis: CostSummary(mean=mean, p95=p95, worst=worst)},
        worst_recall=recall,
    )


def limits(*given):
    return Constraints(limits=tuple(Limit(axis=a, at=at, at_most=most) for a, at, most in given))


@pytest.mark.parametrize(("at", "value"), [("mean", 2.0), ("p95", 4.0), ("worst", 8.0)])
def test_limits_are_kept_up_to_the_bound(at, value):
    assert not limits(("latency_ms", at, value)).broken(evaluation(), evaluation())
    broken = limits(("latency_ms", at, value / 2)).broken(evaluation(), evaluation())
    assert broken == {f"{at} latency_ms at most {value / 2:g}": 1.0}


def test_recall_and_drop():
    backbone = evaluation(accuracy=0.95)
    both = Constraints(min_recall=0.9, max_drop=0.01)
    assert both.broken(evaluation(), backbone).keys() == {
        "recall of every class at least 0.9",
        "accuracy drop at most 0.01",
    }
    assert not Constraints(min_recall=0.8, max_drop=0.05).broken(evaluation(), backbone)


def test_those_that_keep_all_are_kept_else_the_least_violating():
    good, bad, worse = evaluation(mean=1.0), evaluation(mean=3.0), evaluation(mean=5.0)
    asked = limits(("latency_ms", "mean", 2.0))
    assert asked.kept((worse, good, bad), good) == (good,)
    assert asked.kept((worse, bad), good) == (bad,)
    assert asked.kept((), good) == ()


def test_no_constraint_is_false():
    assert not Constraints()
    assert limits(("macs", "mean", 1.0))
    assert Constraints(max_drop=0.0)
    assert Constraints(min_recall=0.0)


def test_refuses_what_it_cannot_know():
    with pytest.raises(CostError, match="nothing is known of energy_mj"):
        limits(("energy_mj", "mean", 1.0)).broken(evaluation(), evaluation())
    with pytest.raises(PolicyError, match="recall needs labels"):
        Constraints(min_recall=0.5).broken(evaluation(recall=None), evaluation())


def test_parameters_are_limited_as_a_whole():
    assert Limit(axis="params", at_most=5.0).at == "worst"
    assert Limit.model_validate({"axis": "params", "at_most": 5.0}) == Limit(axis="params", at="worst", at_most=5.0)
    with pytest.raises(ValueError, match="limited as a whole; got at: mean"):
        Limit(axis="params", at="mean", at_most=5.0)


def test_relaxed_bounds_are_looser_by_a_share_and_the_worst_break_counts():
    backbone = evaluation(accuracy=0.8)
    asked = Constraints(limits=(Limit(axis="latency_ms", at_most=1.0),), min_recall=0.9, max_drop=0.0)
    loose = asked.relaxed(0.5, backbone)
    assert (loose.limits[0].at_most, loose.min_recall, loose.max_drop) == pytest.approx((1.5, 0.45, 0.4))
    assert asked.violation(evaluation(mean=2.0), backbone) == pytest.approx(1.0)
    assert Constraints().violation(evaluation(), backbone) == 0.0


def test_limits_may_be_written_short():
    short = Constraints.model_validate({"max_params": "1e3", "max_memory_mb": 2})
    assert [str(limit) for limit in short.limits] == ["worst params at most 1000", "worst peak_bytes at most 2e+06"]
    assert Constraints.model_validate(short.model_dump()) == short
    with pytest.raises(ValueError, match=r"could not convert"):
        Constraints.model_validate({"max_params": "few"})
    for wrong in ({"max_params": None}, {"max_params": [1]}, {"limits": None}, {"max_params": 1, "limits": 5}):
        with pytest.raises(ValueError, match=r"max_params must be a number|limits"):
            Constraints.model_validate(wrong)
