from math import inf, isnan

import pytest

from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.front import CostSummary, Evaluation
from eesearch.core.paired import Paired
from eesearch.core.policy import Policy, Stop
from eesearch.study.answers import DeviceAnswer
from eesearch.study.front_table import COLUMNS, table_rows
from eesearch.study.points import Point


def point(accuracy, **means):
    """Everybody leaves at the end; p95 is twice the mean cost, the worst case three times as much."""
    costs = {axis: CostSummary(mean=mean, p95=2.0 * mean, worst=3.0 * mean) for axis, mean in means.items()}
    policy = Policy(stops=(Stop(exit=ExitId(network="n", cut=OUTPUT, head=OWN), threshold=-inf),), criterion="max_prob")
    own = Evaluation(policy=policy, accuracy=accuracy, samples=100, exit_rate=(1.0,), costs=costs)
    return Point(cal=own, test=own)


@pytest.fixture
def device():
    return DeviceAnswer(
        device="cpu",
        axis="latency_ms",
        backbone=point(0.9, latency_ms=8.0, macs=4e6, params=1e5),
        points=(point(0.8, latency_ms=6.0, macs=2e6, params=2e5),),
    )


def test_a_row_has_the_ratios_of_its_axes_and_the_parameters_deployed(device):
    rows = table_rows([device])
    assert tuple(rows.columns) == COLUMNS
    first = rows.iloc[0]
    assert (first["latency_ratio"], first["macs_ratio"]) == (0.75, 0.5)
    assert (first["latency_ms"], first["macs"], first["params"]) == (6.0, 2e6, 6e5)


def test_drops_are_shares_with_their_paired_interval(device):
    (point,) = device.points
    stops = tuple(
        s.model_copy(update={"exit": s.exit.model_copy(update={"network": "trained"})}) for s in point.cal.policy.stops
    )
    cal = point.cal.model_copy(update={"policy": point.cal.policy.model_copy(update={"stops": stops})})
    counted = point.model_copy(update={"cal": cal, "paired": Paired(lost=12, gained=2, samples=100)})
    whole = device.backbone.model_copy(update={"cal": device.backbone.cal.model_copy(update={"strategy": "backbone"})})
    known = {"backbone": whole, "points": (counted,), "optimism": ((0.0, 0.01), (0.2, 0.03))}
    first, backbone = table_rows([device.model_copy(update=known)]).to_dict("records")
    assert (first["drop_cal"], first["drop_test"]) == (pytest.approx(0.1), pytest.approx(0.1))
    assert first["drop_promised"] == pytest.approx(0.12)
    assert (first["drop_test_low"], first["drop_test_high"]) == counted.paired.interval()
    assert first["drop_test_low"] < 0.1 < first["drop_test_high"]
    assert (backbone["drop_cal"], backbone["drop_promised"], backbone["drop_test"]) == (0.0, 0.0, 0.0)
    assert isnan(backbone["drop_test_low"])


def test_what_nobody_counted_or_estimated_is_empty(device):
    first = table_rows([device]).iloc[0]
    assert first[["drop_promised", "drop_test_low", "drop_test_high"]].isna().all()
    assert first["drop_cal"] == pytest.approx(0.1)


def test_the_backbone_comes_last_of_each_device(device):
    rows = table_rows([device, device.model_copy(update={"device": "macs", "axis": "macs"})])
    assert list(zip(rows["device"], rows["point"], strict=True)) == [
        ("cpu", 0), ("cpu", "backbone"), ("macs", 0), ("macs", "backbone"),
    ]  # fmt: skip
