"""The ledger: what was asked, at which level it is decided, what a further question changes."""

import logging
from concurrent.futures import ThreadPoolExecutor
from math import inf

import pytest

from eesearch.core.design import ExitId
from eesearch.core.errors import InputError, PickError, RunError
from eesearch.core.front import CostSummary, Evaluation
from eesearch.core.paired import Paired
from eesearch.core.policy import Policy, Stop
from eesearch.solve.trust import GAMMA, p_value, smallest_slack
from eesearch.study.answers import Answers, DeviceAnswer
from eesearch.study.certificates import (
    Candidate,
    Query,
    certified_point,
    front_key,
    inherit,
    points,
    read_ledger,
    recorded,
    settle,
)
from eesearch.study.points import Point
from eesearch.study.rundir import RunDir

SHARE = "5ha2e"
SAMPLES = 1000
CHOSEN = Paired(lost=8, gained=8, samples=2000)
COSTS = (0.8, 0.5, 0.2)
LOST = (1, 12, 40)
"""Samples that each candidate loses on certification, from the safest to the cheapest; none gains any."""

COUNTS = [Paired(lost=lost, gained=0, samples=SAMPLES) for lost in LOST]


def policy(i):
    exit_id = ExitId(network="n", cut=f"cut{i}", head="linear-avg1")
    return Policy(stops=(Stop(exit=exit_id, threshold=-inf),), criterion="max_prob")


def candidates():
    numbers = (2, 1, 0)
    return [
        Candidate(number=n, design="d", policy=policy(n), cost=cost, selected=CHOSEN, estimated=0.01)
        for n, cost in zip(numbers, COSTS, strict=True)
    ]


def query(max_drop=0.02, confidence=0.9, source=SHARE, **others):
    return Query(source=source, device="macs", front="f", max_drop=max_drop, confidence=confidence, **others)


def ask(run, *, counts=COUNTS, **fields):
    return settle(run, query(**fields), "macs", candidates(), counts)


def evaluation(accuracy, cost, made):
    costs = {"macs": CostSummary(mean=cost, p95=cost, worst=cost)}
    return Evaluation(policy=made, design="d", accuracy=accuracy, samples=100, exit_rate=(1.0,), costs=costs)


def answers(order=(0, 1, 2)):
    points = [Point(cal=e, test=e) for e in (evaluation(0.9 + n / 100, 1.0 + n, policy(n)) for n in order)]
    whole = evaluation(0.95, 10.0, policy(9))
    macs = DeviceAnswer(device="macs", axis="macs", backbone=Point(cal=whole, test=whole), points=tuple(points))
    return Answers(study="made up", mode="bank", data={}, devices=(macs,))


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path)


def test_a_promise_has_all_the_digits_that_were_asked_for():
    assert [points(share) for share in (0.01, 0.005, 0.012345)] == ["1 point", "0.5 points", "1.2345 points"]


class TestOneQuestion:
    def test_the_cheapest_that_passes_before_the_first_failure_is_certified(self, run):
        done = ask(run)
        assert p_value(COUNTS[0], 0.02) < p_value(COUNTS[1], 0.02) < 0.1 < p_value(COUNTS[2], 0.02)
        assert (done.queries, done.level, done.chosen.number) == (1, pytest.approx(0.1), 1)
        assert done.chosen.p == p_value(COUNTS[1], 0.02)
        assert [c.paired for c in done.asked.candidates] == COUNTS

    def test_what_comes_after_a_failure_is_not_looked_at(self, run):
        done = ask(run, counts=[COUNTS[2], COUNTS[0], COUNTS[0]])
        assert done.chosen is None
        assert [c.p is None for c in done.asked.candidates] == [False, True, True]
        assert [c.paired for c in done.asked.candidates[1:]] == [None, None]
        assert "nothing is certified" in str(done)
        assert "backbone" in str(done)

    def test_the_answer_tells_point_cost_samples_tests_level_and_smallest_slack(self, run):
        said = str(ask(run))
        slack = smallest_slack(16 / 2000, SAMPLES, 0.1)
        for word in ("90 %", "point 1 ", "2 points", "0.500 x", "1,000 samples", "3 of 3", "2 passed", "level 0.1",
                     "12 samples lost, 0 gained", "until one failed",
                     f"With 1,000 samples at this level, no loss below {100 * slack:.3g} points"):  # fmt: skip
            assert word in said, word
        assert "chosen before" not in said

    def test_a_failure_is_told_only_where_there_is_one(self, run):
        assert "until one failed" not in str(ask(run, counts=[COUNTS[0]] * 3))

    def test_that_questions_come_before_answers_is_told_with_the_second(self, run):
        ask(run)
        assert "if the questions were chosen before their answers were seen" in str(ask(run, max_drop=0.03))

    def test_it_is_written_down(self, run):
        done = ask(run)
        (asked,) = read_ledger(run).asked
        assert asked == done.asked
        assert asked.samples == SAMPLES


class TestSeveralQuestions:
    def test_the_same_again_is_no_new_one(self, run):
        first = ask(run)
        again = ask(run, counts=[COUNTS[2]] * 3)
        assert again.recorded
        assert (again.asked, again.level, again.queries) == (first.asked, first.level, 1)
        assert recorded(run, query()).chosen == first.chosen
        assert first.asked.when in str(again)

    @pytest.mark.parametrize(
        "other", [{"max_drop": 0.03}, {"confidence": 0.8}, {"labels": "other"}, {"front": "longer"}, {"device": "cpu"}]
    )
    def test_any_other_counts(self, run, other):
        ask(run)
        assert recorded(run, query().model_copy(update=other)) is None
        done = settle(run, query().model_copy(update=other), "macs", candidates(), COUNTS)
        assert done.queries == 2
        assert done.level == pytest.approx((1.0 - other.get("confidence", 0.9)) / 2)

    def test_sources_are_counted_apart(self, run):
        ask(run)
        assert ask(run, source="a pool").level == pytest.approx(0.1)
        assert ask(run, source="a pool", max_drop=0.03).level == pytest.approx(0.05)
        assert recorded(run, query()).level == pytest.approx(0.1)

    def test_a_further_one_decides_the_earlier_again_from_their_p_values(self, run):
        p = [p_value(counts, 0.02) for counts in COUNTS]
        further = 1
        assert ask(run).chosen.number == 1
        while recorded(run, query()).chosen.number == 1:
            done = ask(run, max_drop=0.02 + further / 100)
            further += 1
        assert 0.1 / further < p[1] <= 0.1 / (further - 1)
        assert recorded(run, query()).chosen.number == 2
        assert recorded(run, query()).queries == further
        (change,) = [sentence for sentence in done.changed if "at most 2 points" in sentence]
        assert "was point 1; now it is point 2 at 0.800 x" in change
        assert change in str(done)

    def test_an_earlier_answer_may_become_the_backbone(self, run):
        weak = [Paired(lost=12, gained=0, samples=SAMPLES)] * 3
        assert ask(run, counts=weak).chosen is not None
        changed = [ask(run, counts=weak, max_drop=0.02 + n / 100).changed for n in range(1, 9)]
        assert recorded(run, query()).chosen is None
        assert any("now it is the backbone" in sentence for sentences in changed for sentence in sentences)

    def test_questions_at_the_same_time_are_all_counted(self, run):
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda n: ask(run, max_drop=0.02 + n / 100), range(8)))
        assert len(read_ledger(run).asked) == 8
        assert recorded(run, query()).level == pytest.approx(0.1 / 8)

    def test_samples_that_were_asked_too_often_are_refused_and_nothing_is_counted(self, run):
        ask(run, confidence=0.9985)
        with pytest.raises(InputError, match=r"no room for a test.*1 earlier question") as refused:
            ask(run, confidence=0.9985, max_drop=0.03)
        assert str(GAMMA) in str(refused.value)
        assert recorded(run, query(confidence=0.9985)).queries == 1

    def test_a_damaged_ledger_is_not_taken_for_an_empty_one(self, run):
        ask(run)
        (run.path / "certificates.json").write_text('{"asked": 3}')
        with pytest.raises(RunError, match=r"certificates\.json is damaged"):
            ask(run)


class TestInherited:
    def test_questions_to_the_same_samples_count_in_a_run_that_started_from_them(self, run, tmp_path):
        other = RunDir(tmp_path / "other")
        ask(other)
        ask(run, max_drop=0.03)
        inherit(run, [other, RunDir(tmp_path / "nowhere")])
        assert {asked.query.max_drop for asked in read_ledger(run).asked} == {0.02, 0.03}
        assert ask(run, max_drop=0.04).queries == 3
        before = read_ledger(run)
        inherit(run, [other])
        assert read_ledger(run) == before
        assert len(read_ledger(other).asked) == 1

    def test_nothing_is_written_where_nothing_was_asked(self, run, tmp_path):
        inherit(run, [RunDir(tmp_path / "other")])
        assert not (run.path / "certificates.json").exists()


class TestCertifiedPoint:
    def test_it_is_the_point_of_the_recorded_answer(self, run):
        ask(run)
        assert certified_point(run, answers(), 0.02).cal.policy == policy(1)
        assert certified_point(run, answers(order=(2, 1)), 0.02, "macs").cal.policy == policy(1)

    def test_the_last_of_several_questions_counts(self, run):
        ask(run)
        ask(run, counts=[COUNTS[0], COUNTS[2], COUNTS[2]], source="a pool")
        assert certified_point(run, answers(), 0.02).cal.policy == policy(2)

    def test_of_different_confidences_the_highest_counts(self, run, caplog):
        with caplog.at_level(logging.INFO):
            ask(run, confidence=0.95, counts=[COUNTS[0], COUNTS[2], COUNTS[2]])
            ask(run, confidence=0.8, source="a pool", labels="l")
            assert certified_point(run, answers(), 0.02).cal.policy == policy(2)
        assert "at most 2 points with 95 % confidence, on 1000 samples of the certification share" in caplog.text

    def test_a_question_that_certified_nothing_hides_no_other(self, run):
        ask(run)
        ask(run, confidence=0.95, counts=[COUNTS[2]] * 3, source="a pool", labels="l")
        assert certified_point(run, answers(), 0.02).cal.policy == policy(1)

    @pytest.mark.parametrize(
        ("drop", "device", "order", "words"),
        [
            (0.03, None, (0, 1, 2), r"nobody has certified.*--max-drop 3% --device macs"),
            (0.02, "cpu", (0, 1, 2), "no device cpu"),
            (0.02, None, (0, 2), "not on the front of macs any more"),
        ],
    )
    def test_what_is_not_there_is_refused(self, run, drop, device, order, words):
        ask(run)
        with pytest.raises(PickError, match=words):
            certified_point(run, answers(order), drop, device)

    def test_the_backbone_is_no_point(self, run):
        ask(run, counts=[COUNTS[2]] * 3)
        with pytest.raises(PickError, match="the backbone itself"):
            certified_point(run, answers(), 0.02)


def test_fronts_differ_by_their_policies():
    devices = [answers(order).devices[0] for order in ((0, 1, 2), (0, 1), (0, 1, 2))]
    keys = [front_key(device) for device in devices]
    assert keys[0] == keys[2] != keys[1]
