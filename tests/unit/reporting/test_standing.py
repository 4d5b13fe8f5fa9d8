import pytest

from eesearch.reporting.standing import Standing
from eesearch.study.answers import TrialAnswer
from eesearch.study.question import Budget, Study
from eesearch.study.trial import Finished, Outcome
from tests.unit.study.conftest import FIELDS


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def told(number, value=0.4, *, state="complete", seconds=10.0, samples=1000):
    return TrialAnswer(
        number=number, state=state, strategy="joint", origin="sampler", value=value, seconds=seconds, samples=samples
    )


@pytest.fixture
def clock():
    return Clock()


def later(standing, clock, trials, *, after):
    """Answers that come so much later."""
    clock.now += after
    standing.answers(trials)
    return standing.words()


def test_before_anything_happened(clock):
    assert Standing(Budget(trials=5), clock=clock).words() == "0 of 5 trials"


def test_own_trials_and_those_of_others_are_counted_once(clock):
    standing = Standing(Budget(trials=20), [told(0)], clock=clock)
    assert standing.words() == "1 of 20 trials, best 0.4000"
    standing.trial(Finished(3, "sampler", Outcome(design=None, values=(0.5,)), "", 2.0, "complete"))
    standing.trial(Finished(4, "sampler", None, "HeadError", 2.0, "failed"))
    assert standing.words() == "3 of 20 trials (1 failed), best 0.5000"
    everything = [told(0), told(1, state="pruned", value=None), told(2), told(3, 0.5), told(4, None, state="failed")]
    standing.answers(everything)
    assert standing.words() == "5 of 20 trials (1 failed, 1 stopped early), best 0.5000"


def test_trials_of_others_count_before_their_answers_come(clock):
    standing = Standing(Budget(trials=20), clock=clock)
    standing.answers([told(0)])
    clock.now += 60.0
    standing.trial(Finished(5, "sampler", Outcome(design=None, values=(0.3,)), "", 10.0, "complete", 1000, {}, ended=5))
    assert standing.words() == "5 of 20 trials, best 0.4000, 4.0/min, about 3 min 45 s left"
    standing.answers(map(told, range(6)))
    assert standing.words().startswith("6 of 20 trials, best 0.4000, 5.0/min")


def test_pace_and_remaining_time_are_those_since_the_first_news(clock):
    standing = Standing(Budget(trials=10), clock=clock)
    standing.answers([told(0, seconds=500.0)])
    assert "left" not in standing.words(), "the bank is not like the others"
    assert later(standing, clock, map(told, range(3)), after=40.0) == (
        "3 of 10 trials, best 0.4000, 3.0/min, about 2 min 20 s left"
    )
    clock.now += 60.0
    assert "3.0/min, about 1 min 20 s left" in standing.words(), "time goes on between trials, the pace does not"
    clock.now += 1000.0
    assert "about 0.0 s left" in standing.words()
    assert later(standing, clock, map(told, range(10)), after=0.0).endswith("/h"), "there is nothing left to do"


def test_slow_searches_are_told_by_the_hour(clock):
    standing = Standing(Budget(trials=100), clock=clock)
    standing.answers([told(0)])
    assert "41.1/h" in later(standing, clock, map(told, range(5)), after=350.0)


@pytest.mark.parametrize(
    ("budget", "left"),
    [
        (Budget(trials=5), "about 20.0 s left"),
        (Budget(trials=100, samples=4500), "about 15.0 s left"),
        (Budget(trials=100, timeout=42), "about 12.0 s left"),
        (Budget(trials=5, timeout=42, samples=4500), "about 12.0 s left"),
        (Budget(trials=100, samples=2500), "about 0.0 s left"),
    ],
)
def test_the_budget_that_ends_first_counts(clock, budget, left):
    standing = Standing(budget, clock=clock)
    standing.answers([told(0)])
    assert later(standing, clock, map(told, range(3)), after=20.0).endswith(left)


def test_trials_that_run_at_once_spend_time_together(clock):
    standing = Standing(Budget(trials=100, timeout=42), clock=clock)
    standing.answers([told(0)])
    words = later(standing, clock, map(told, range(5)), after=20.0)  # 40 seconds of trials in 20: two at once
    assert words.endswith("about 17.0 s left")


def test_what_has_one_trial_says_so(clock):
    standing = Standing(Budget(trials=20), clock=clock, trials=1)
    standing.trial(Finished(0, "bank", Outcome(design=None, values=(0.5,)), "", 2.0, "complete"))
    assert standing.words() == "1 of 1 trial, best 0.5000"


@pytest.mark.parametrize("more", [{"space": {"strategies": ["separate"]}}, {"budget": {"trials": 1}}])
def test_a_draft_is_a_trial(more):
    study = Study.model_validate(FIELDS | {"training": {"draft": 0.1}} | more)
    standing = Standing.of(study)
    standing.trial(Finished(0, "draft", Outcome(design=None, values=(0.5,)), "", 2.0, "complete"))
    assert standing.words().startswith("1 of 2 trials, best 0.5000")


def test_the_pace_is_that_of_what_comes_behind_the_bank(clock):
    standing = Standing(Budget(trials=10), clock=clock)
    draft = told(0).model_copy(update={"origin": "draft"})
    standing.answers([draft])
    assert "left" not in later(standing, clock, [draft, told(1)], after=300.0)
    assert later(standing, clock, [draft, told(1), told(2)], after=10.0).endswith("about 1 min 10 s left")


def test_trials_of_two_values_have_no_best_one(clock):
    standing = Standing(Budget(trials=20), clock=clock)
    standing.trial(Finished(0, "sampler", Outcome(design=None, values=(0.5, 0.1)), "", 2.0, "complete"))
    assert standing.words() == "1 of 20 trials"
