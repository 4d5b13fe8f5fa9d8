"""Methods side by side: chosen on calibration, told on test, on the tables of a run."""

from __future__ import annotations

from itertools import count
from math import inf

import numpy as np
import pytest

from eesearch.core.costs import DeviceProfile, StageCosts
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.errors import PickError, RunError
from eesearch.core.front import CostSummary, Evaluation
from eesearch.core.policy import Fit, Policy, Scoring, Stop
from eesearch.core.store import write_atomic
from eesearch.core.tables import ExitTable
from eesearch.solve.baselines import BASELINES
from eesearch.solve.family import Family
from eesearch.solve.learned_schedules import LEARNED_BASELINES
from eesearch.study.answers import Answers, DeviceAnswer, TrialAnswer
from eesearch.study.points import Point
from eesearch.study.policies import (
    DROPS,
    OURS,
    compare,
    compare_policies,
    learnt,
    ordered_hypervolume,
    published,
    solved,
)
from eesearch.study.question import Study
from eesearch.study.rundir import open_run

A, OUT = ExitId(network="n", cut="a", head="h"), ExitId(network="n", cut=OUTPUT, head=OWN)
COSTS = StageCosts(np.array([[3.0, 10.0], [inf, 8.0], [inf, inf]]), (A, OUT), "macs", 10.0)


def table_of(early, own, split):
    """Signed surety of two exits about each sample: right if positive."""
    sure = np.array([early, own], np.float32)
    return ExitTable(np.stack([sure, -sure], -1), np.zeros(len(early), np.int64), (A, OUT), split, split)


# The own classifier is right about all of calibration and about three in four of test.
CAL = table_of([4, 3, 2, -1], [5, 5, 5, 5], "cal")
TEST = table_of([4, 3, -2, 1], [5, 5, 5, -5], "test")


def policy(threshold=None):
    stops = (Stop(exit=OUT, threshold=-inf),)
    if threshold is not None:
        stops = (Stop(exit=A, threshold=threshold), *(stops if threshold > -inf else ()))
    return Policy(stops=stops, criterion="max_prob")


def fixed(*policies):
    return lambda table, costs: [(p, ()) for p in policies]


def test_picks_are_made_on_calibration_and_told_on_test():
    early = policy(0.97)  # of samples that are surer than e^4 to 1: on calibration the first three leave, all right
    found = compare((CAL, TEST), COSTS, {"few": fixed(early, policy()), "all": fixed(policy(-inf))}, device="d")
    everybody, few = found.methods  # by falling area: on test, "few" loses more than 5 points
    assert (few.method, everybody.method) == ("few", "all")
    assert everybody.hypervolume == pytest.approx(0.05 * (1.0 - 0.3) / 0.30) == everybody.hypervolume_best
    assert few.hypervolume == 0.0 > few.hypervolume_best
    assert [pick.cal.policy for pick in few.picks] == [early] * len(DROPS)
    point = few.picks[0]
    # Calibration: 3 x 3 + 11, all right. Test: the same three leave, one of them wrong, and so is the last.
    assert (point.cal.accuracy, point.cal.costs["macs"].mean) == (1.0, 5.0)
    assert (point.test.accuracy, point.test.costs["macs"].mean) == (0.5, 5.0)
    assert (found.drop(point), found.ratio(point), found.drop(point, "cal")) == (0.25, 0.5, 0.0)
    assert everybody.picks == (None,) * len(DROPS)  # loses a quarter of calibration
    assert (few.candidates, few.points, everybody.points) == (2, 1, 1)
    assert found.backbone.test.accuracy == 0.75


def test_methods_see_nothing_but_calibration():
    seen = []

    def method(table, costs):
        seen.append((table, costs))
        return [(policy(), ())]

    compare((CAL, TEST), COSTS, {"one": method})
    assert seen == [(CAL, COSTS)]


def test_seconds_last_from_the_table_to_the_calibration_front():
    ticks = count()
    found = compare((CAL, TEST), COSTS, {"one": fixed(policy())}, clock=lambda: float(next(ticks)))
    assert found.methods[0].seconds == 1.0
    assert next(ticks) == 2


def test_a_point_that_test_shows_to_be_dominated_costs_area():
    values = np.array([(0.10, 0.2), (0.20, 0.5)])
    assert ordered_hypervolume(values, 0.25) == pytest.approx((0.15 * 0.3 + 0.05 * 0.5) / 0.25)
    assert ordered_hypervolume(np.array([(0.1, 0.2), (0.0, 0.4)]), 0.0) == pytest.approx(0.6)
    assert ordered_hypervolume(values[:1], 0.25) == pytest.approx(0.15 * 0.8 / 0.25)
    # Cheaper on test than the one that calibration found cheaper: what was counted in between is taken back.
    assert ordered_hypervolume(np.array([(0.2, 0.5), (0.1, 0.4)]), 0.25) == pytest.approx(0.15 * 0.6 / 0.25 - 0.02)
    assert ordered_hypervolume(np.array([(0.3, 0.1), (0.1, 1.4)]), 0.25) == 0.0
    assert ordered_hypervolume(np.empty((0, 2)), 0.25) == 0.0


def random_tables(cuts=4, samples=120, seed=0):
    rng = np.random.default_rng(seed)
    exits = (*(ExitId(network="n", cut=f"cut{k}", head="h") for k in range(cuts)), OUT)
    tables = []
    for split in ("cal", "test"):
        labels = rng.integers(0, 4, samples)
        logits = rng.normal(size=(cuts + 1, samples, 4))
        ease = rng.exponential(1.0, samples) * np.linspace(0.8, 3.0, cuts + 1)[:, None]
        logits[:, np.arange(samples), labels] += ease
        tables.append(ExitTable(logits.astype(np.float32), labels, exits, split, split))
    return tables


def profile_of(cuts=4):
    return DeviceProfile(
        device="macs",
        fingerprint={},
        content="c",
        cuts=tuple(f"cut{k}" for k in range(cuts)),
        macs_prefix=tuple(float(k + 1) for k in range(cuts + 1)),
        macs_head={f"cut{k}": {"h": 0.05} for k in range(cuts)},
    )


def random_costs(exits):
    step = np.full((len(exits) + 1, len(exits)), np.inf)
    for i in range(-1, len(exits)):
        for j in range(i + 1, len(exits)):
            step[i + 1, j] = j - i + (0.05 if j < len(exits) - 1 else 0.0)
    return StageCosts(step, tuple(exits), "macs", float(len(exits)))


def test_where_test_is_calibration_the_area_is_the_hypervolume():
    cal, _ = random_tables()
    costs = random_costs(cal.exits)
    for method in compare((cal, cal), costs, published(())).methods:
        assert method.hypervolume == method.hypervolume_cal == pytest.approx(max(method.hypervolume_best, 0.0))


def test_no_baseline_of_our_scoring_beats_us_on_calibration():
    cal, _ = random_tables(cuts=3, samples=40)
    costs = random_costs(cal.exits)
    ours = solved([Scoring(), Scoring("entropy")], Family(max_exits=3, levels=None))
    names = ("branchynet", "sdn", "deebert", "msdnet", "streeter", "baccarelli reconstruction")
    found = compare((cal, cal), costs, {**{n: published(())[n] for n in names}, OURS: ours})
    areas = {method.method: method.hypervolume for method in found.methods}
    assert all(areas[OURS] >= areas[name] - 1e-12 for name in names)
    assert found.methods[0].hypervolume > 0.1


def test_baselines_are_tried_with_and_without_temperatures():
    cal, _ = random_tables()
    heat = np.linspace(0.4, 3.0, 5, dtype=np.float32)[None, :, None]
    fit = Fit("temperature", cal.exits, heat, np.empty(0, np.int16))
    methods = published((fit,))
    assert list(methods) == list(BASELINES)
    for name, method in methods.items():
        pairs = method(cal, random_costs(cal.exits))
        assert all(policy.fits == tuple(f.key for f in fits) for policy, fits in pairs)
        assert {policy.fits for policy, _ in pairs} == ({()} if name == "patience" else {(), (fit.key,)})


def test_what_baselines_learn_is_learnt_from_the_table_that_they_see():
    cal, test = random_tables()
    costs = random_costs(cal.exits)
    for name, method in learnt(seed=3).items():
        found = compare((cal, test), costs, {name: method}).methods[0]
        assert found.points > 1
        pairs = method(cal, costs)
        (fits,) = {fits for _, fits in pairs}
        assert next(fit.kind for fit in fits) == "temperature"
        assert all(policy.fits == tuple(fit.key for fit in fits) for policy, _ in pairs)
        assert all(len(fit.fold) == len(cal.labels) for fit in fits), "calibration is scored out of fold"


def test_rows_say_what_was_allowed_and_what_came_of_it():
    found = compare((CAL, TEST), COSTS, {"few": fixed(policy(0.97)), "all": fixed(policy(-inf))}, device="d")
    rows = found.to_pandas()
    assert rows["method"].tolist() == ["all"] * 4 + ["few"] * 4
    assert rows["max_drop"].tolist() == [*DROPS, *DROPS]
    assert rows.loc[4, ["accuracy_cal", "accuracy", "drop", "ratio", "macs"]].tolist() == [1.0, 0.5, 0.25, 0.5, 5.0]
    assert rows.loc[4, "exits"] == f"a|{OUTPUT}"
    assert rows.loc[:3, "ratio"].isna().all()


def backbone_point():
    evaluation = Evaluation(
        policy=policy(), strategy="backbone", accuracy=0.9, samples=9, exit_rate=(1.0,),
        costs={"macs": CostSummary(mean=5.0, p95=5.0, worst=5.0)},
    )  # fmt: skip
    return Point(cal=evaluation, test=evaluation)


@pytest.fixture
def run(tmp_path):
    fields = {"name": "mine", "backbone": {"model": "pkg:fn"}, "data": {"source": "pkg:data"}, "devices": ["macs"]}
    made = open_run(tmp_path / "run", Study.model_validate(fields))
    for table in random_tables():
        made.store.put("table", f"bank-{table.split}", *table.arrays())
    write_atomic(made.profile_file("macs"), profile_of().model_dump_json())
    device = DeviceAnswer(device="macs", axis="macs", backbone=backbone_point(), points=())
    trials = (TrialAnswer(number=0, state="complete", strategy="separate", origin="bank", design="bank"),)
    made.write_answers(Answers(study="mine", mode="bank", data={}, devices=(device,), trials=trials))
    return made


def test_a_run_is_compared_on_its_banks_tables(run):
    found = compare_policies(run)
    assert {method.method for method in found.methods} == {OURS, "bolukbasi", *BASELINES, *LEARNED_BASELINES}
    assert (found.device, found.axis, found.decision) == ("macs", "macs", "")
    assert found.backbone.test.accuracy == pytest.approx(random_tables()[1].accuracy[-1])
    assert found.backbone.test.costs["macs"].mean == 5.0
    kept = run.store.path("table", "bank-test")
    kept.unlink()
    with pytest.raises(RunError, match="lacks the test table"):
        compare_policies(run)


def test_a_run_without_bank_or_device_is_refused(run):
    with pytest.raises(PickError, match="no device"):
        compare_policies(run, "cpu:eager:t1:b1")
    run.write_answers(run.answers().model_copy(update={"trials": ()}))
    with pytest.raises(RunError, match="no bank"):
        compare_policies(run)


def test_where_bytes_count_another_device_is_asked_for(run):
    (macs,) = run.answers().devices
    sends = macs.model_copy(update={"device": "chain", "axis": "bytes"})
    run.write_answers(run.answers().model_copy(update={"devices": (sends, macs)}))
    with pytest.raises(RunError, match=r"no bytes on chain\. Name another device with --device"):
        compare_policies(run)
    assert compare_policies(run, "macs").device == "macs"
