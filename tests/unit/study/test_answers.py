from math import inf
from typing import get_args

import pytest

from eesearch.core.costs import Axis
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.front import CostSummary, Evaluation
from eesearch.core.policy import Policy, Stop
from eesearch.study.answers import SPENT, Answers, DesignFacts, DeviceAnswer, ExitFacts, OracleAnswer
from eesearch.study.points import Point

EARLY = ExitId(network="n", cut="cut1", head="linear-avg1")
END = ExitId(network="n", cut=OUTPUT, head=OWN)

OLD = """{"version": 1, "study": "old", "mode": "bank", "data": {}, "devices": [{"device": "macs", "axis": "macs",
"backbone": {"cal": POINT, "test": POINT}, "points": [{"cal": POINT, "test": POINT}], "seeds": [], "noise": 0.0,
"noisy": []}], "trials": [], "phases": {}, "class_names": []}""".replace(
    "POINT",
    """{"policy": {"stops": [{"exit": {"network": "n", "cut": "output", "head": "own"}, "threshold": "-Infinity",
"tier": ""}], "criterion": "max_prob", "answer": "own", "fits": []}, "design": "", "strategy": "backbone",
"accuracy": 0.9, "samples": 100, "exit_rate": [1.0], "costs": {"macs": {"mean": 5.0, "p95": 5.0, "worst": 5.0}}}""",
)


def point(exits, accuracy, **means):
    """Costs: the mean per axis; p95 is twice, the worst three times as much."""
    costs = {axis: CostSummary(mean=mean, p95=2.0 * mean, worst=3.0 * mean) for axis, mean in means.items()}
    stops = (*(Stop(exit=e, threshold=0.5) for e in exits[:-1]), Stop(exit=exits[-1], threshold=-inf))
    rate = tuple([1.0 / len(exits)] * len(exits))
    evaluation = Evaluation(
        policy=Policy(stops=stops, criterion="max_prob"), accuracy=accuracy, samples=100, exit_rate=rate, costs=costs
    )
    return Point(cal=evaluation, test=evaluation)


@pytest.fixture
def device():
    return DeviceAnswer(
        device="cpu",
        axis="latency_ms",
        backbone=point([END], 0.9, latency_ms=8.0, macs=4e6, params=1e5),
        points=(point([EARLY, END], 0.9, latency_ms=6.0, macs=2e6, params=2e5),),
    )


def test_answers_of_an_older_version_are_read():
    (old,) = Answers.model_validate_json(OLD).devices
    assert (old.oracle, old.static, old.overthinking) == ((), (), ())
    assert old.verdict().startswith("macs: exits do not pay")
    facts = {"exit": EARLY.model_dump(), "right": 60, "lost": 3, "gained": 33, "samples": 80}
    assert ExitFacts.model_validate(facts).accuracy == 0.75


def test_what_there_is_to_compare_with_survives_the_file(device):
    compared = device.model_copy(
        update={
            "oracle": (OracleAnswer(exits=(EARLY, END), error=0.1, cost=3.5, exit_rate=(0.75, 0.25)),),
            "oracle_all_heads": False,
            "static": (device.backbone,),
            "overthinking": (ExitFacts(exit=EARLY, accuracy=0.6, right=60, lost=3, gained=33, samples=100),),
        }
    )
    answers = Answers(study="s", mode="bank", data={}, devices=(compared,))
    assert Answers.model_validate_json(answers.model_dump_json()) == answers


@pytest.mark.parametrize("axis", get_args(Axis))
def test_a_verdict_names_what_is_saved_on_any_axis(axis):
    answer = DeviceAnswer(
        device="here",
        axis=axis,
        backbone=point([END], 0.9, **{axis: 8.0}),
        points=(point([EARLY, END], 0.9, **{axis: 6.0}),),
    )
    assert f"0.75 x the backbone's {SPENT[axis]};" in answer.verdict()


def with_design(device, *last, samples=100):
    """Points of designs whose own classifiers reach these accuracies on calibration."""
    (own,) = device.points
    backbone = device.backbone.cal.model_copy(update={"samples": samples})
    points = [own.model_copy(update={"cal": own.cal.model_copy(update={"design": f"d{n}"})}) for n in range(len(last))]
    designs = {f"d{n}": DesignFacts(trial=n + 1, last_accuracy=accuracy) for n, accuracy in enumerate(last)}
    whole = device.backbone.model_copy(update={"cal": backbone})
    return device.model_copy(update={"backbone": whole, "points": tuple(points), "designs": designs})


def test_a_verdict_tells_that_early_exits_were_paid_for_by_the_last_one(device):
    assert with_design(device, 0.891, samples=10_000).verdict().endswith(
        " The own classifier of design d0 (trial 1) is 0.90 points below the backbone on calibration: early exits were "
        "paid for by the last one."
    )  # fmt: skip


def test_with_several_such_designs_a_verdict_names_the_worst(device):
    words = with_design(device, 0.897, 0.88, 0.87, samples=10_000).verdict()
    assert "design d2 (trial 3) is 3.00 points below" in words
    assert words.endswith("paid for by the last one; 2 designs on the front lost more than 0.5.")


def test_what_few_samples_cannot_tell_is_called_chance(device):
    assert "with 100 samples that may be chance." in with_design(device, 0.88).verdict()


@pytest.mark.parametrize("last", [0.895, 0.91, None])
def test_half_a_point_is_no_loss_to_speak_of(device, last):
    assert "own classifier" not in with_design(device, last, samples=10_000).verdict()


def test_a_design_that_is_not_on_the_front_is_not_blamed(device):
    found = with_design(device, 0.9, samples=10_000)
    others = found.designs | {"elsewhere": DesignFacts(trial=7, last_accuracy=0.5)}
    assert "own classifier" not in found.model_copy(update={"designs": others}).verdict()


def test_a_verdict_says_what_disturbed_the_measurement(device):
    quiet, noisy, beside = (device.model_copy(update=more) for more in ({}, {"noise": 0.2}, {"contention": 1.3}))
    assert "quiet machine" not in quiet.verdict()
    assert "Measured with 20% noise between processes: measure again on a quiet machine." in noisy.verdict()
    assert "Measured beside other work (contention 1.30): measure again on a quiet machine." in beside.verdict()


def test_a_saving_that_is_smaller_than_the_noise_is_told_as_such(device):
    answer = DeviceAnswer(
        device="here",
        axis="latency_ms",
        backbone=point([END], 0.9, latency_ms=8.0),
        points=(point([EARLY, END], 0.9, latency_ms=6.0),),
        noise=0.4,
    )
    told = "exits may pay, but at no loss they need 0.75 x the backbone's mean latency, which is within the noise"
    assert f"here: {told}" in answer.verdict()
    assert "exits pay" in answer.model_copy(update={"noise": 0.2}).verdict()
    assert "exits do not pay" in answer.model_copy(update={"points": (point([END], 0.9, latency_ms=7.9),)}).verdict()
