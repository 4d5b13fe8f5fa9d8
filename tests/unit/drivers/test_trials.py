"""Several processes that share the trials of a search, as objects in one process."""

import threading
from contextlib import ExitStack

import pytest
from optuna.trial import TrialState

from eesearch.core.errors import RunError
from eesearch.drivers.storage import Pulse
from eesearch.drivers.studies import open_study
from eesearch.drivers.trials import MOST_KILLS, Trials
from eesearch.study import workers as workers_module
from eesearch.study.space import Choice, LogFloat
from eesearch.study.trial import Outcome
from eesearch.study.workers import machine, working


class Question:
    """A bank, two seeds, then the sampler's; the value needs no training."""

    key, origin, directions = "question", "bank", ("maximize",)
    parameters = (Choice("exit:a", ("none", "head")), LogFloat("alpha:a", 0.1, 10.0))

    def __init__(self):
        self.banks = 0

    def draft(self):
        return None

    def first(self):
        self.banks += 1
        return Outcome(design=None, values=(0.25,))

    def seeds(self):
        return [
            ("seed one", {"exit:a": "head", "alpha:a": 1.0}),
            ("seed two", {"exit:a": "none", "alpha:a": 2.0}),
        ]


OUTCOME = Outcome(design=None, values=(0.5,), samples=100)


@pytest.fixture
def workers(place):
    """Two workers on one run, alive until the test ends."""
    found = place()
    with working(found.run.path) as one, working(found.run.path) as two:
        yield [Trials(found.job(Question(), worker=name, fields={"budget": {"trials": 6}})) for name in (one, two)]


def test_a_seed_is_given_to_one_worker_and_proposals_differ(workers):
    one, two = workers
    assert [one.first(), two.first()] == [True, False]
    claims = [one.claim(), two.claim(), one.claim(), two.claim(), one.claim()]
    assert [c.origin for c in claims] == ["seed one", "seed two", "sampler", "sampler", "sampler"]
    assert [c.number for c in claims] == [1, 2, 3, 4, 5]
    assert len({tuple(c.params.items()) for c in claims}) == 5


class Drafted(Question):
    """Has a draft before its bank."""

    def draft(self):
        return Outcome(design=None, values=(0.125,), samples=7)


def test_a_draft_comes_first_and_is_told_before_the_bank_is_trained(place):
    found, told = place(), []
    question = Drafted()
    with working(found.run.path) as one, working(found.run.path) as two:
        trials = Trials(found.job(question, worker=one, listener=lambda trial: told.append((trial, question.banks))))
        assert [trials.first(), Trials(found.job(Drafted(), worker=two)).first()] == [True, False]
        assert trials.claim().origin == "seed one"
        assert [(t.number, t.origin, t.samples) for t in trials.finished()] == [(0, "draft", 7), (1, "bank", 0)]
    assert [(t.origin, t.outcome.values, banks) for t, banks in told] == [
        ("draft", (0.125,), 0),
        ("bank", (0.25,), 1),
    ]


def test_after_a_draft_only_the_bank_is_missing_and_behind_a_bank_no_draft_is(place):
    found = place()

    class Dies(Drafted):
        def first(self):
            raise KeyboardInterrupt

    with working(found.run.path) as name:
        dying = Trials(found.job(Dies(), worker=name))
        with pytest.raises(KeyboardInterrupt):
            dying.first()
        assert dying.finished()
        assert not dying.begun, "Ray must not take the search for over"
        question = Drafted()
        question.draft = None  # is not asked for again
        again = Trials(found.job(question, worker=name))
        assert [again.first(), again.first()] == [True, False]
        assert again.begun
        assert [t.origin for t in again.finished()] == ["draft", "bank"]
    old = place("old")
    with working(old.run.path) as name:
        Trials(old.job(Question(), worker=name)).first()
        trials = Trials(old.job(question, worker=name))
        assert not trials.first()
        assert [t.origin for t in trials.finished()] == ["bank"]


def test_the_budget_counts_what_others_run_and_the_search_is_over_when_they_have_ended(workers):
    one, two = workers
    one.first()
    claims = [one.claim() for _ in range(5)]
    assert two.claim() is None
    assert not two.over(), "they may die"
    for claim in claims:
        one.tell(claim, OUTCOME)
    assert two.over()
    assert two.finished() == one.finished()


def test_the_trial_of_a_worker_that_died_is_given_to_another(place):
    found = place()
    with working(found.run.path) as name:
        dying = Trials(found.job(Question(), worker=name))
        dying.first()
        lost = dying.claim()
        dying.report(lost, 1, 0.125)
    with working(found.run.path) as name:
        survivor = Trials(found.job(Question(), worker=name))
        again = survivor.claim()
        assert (again.params, again.origin, again.number) == (lost.params, lost.origin, lost.number + 1)
        study = open_study(Question(), found.database())
        assert study.trials[again.number].intermediate_values == {1: 0.125}
        survivor.tell(again, OUTCOME)
        assert [t.origin for t in survivor.finished()] == ["bank", "seed one"]
        assert survivor.claim().origin == "seed two"


def test_a_trial_that_kills_whoever_runs_it_is_failed_in_the_end(place):
    found = place()
    for _ in range(MOST_KILLS + 1):
        with working(found.run.path) as name:
            trials = Trials(found.job(Question(), worker=name))
            trials.first()
            lost = trials.claim()
            assert lost.origin == "seed one"
    with working(found.run.path) as name:
        trials = Trials(found.job(Question(), worker=name))
        assert trials.claim().origin == "seed two"
        failed = trials.finished()[1]
    assert (failed.state, failed.origin, failed.outcome) == ("failed", "seed one", None)
    assert failed.error == "its process was killed 11 times while it ran (out of memory?)"
    assert failed.params == lost.params


def test_of_a_machine_whose_locks_outlive_it_the_heartbeat_tells(place, monkeypatch):
    found = place()
    short = found.database(pulse=Pulse(interval=1, grace=2))
    with monkeypatch.context() as patch:
        patch.setattr(workers_module, "machine", lambda: "elsewhere")
        held = working(found.run.path)
        far = Trials(found.job(Question(), worker=held.__enter__(), database=short))
        far.first()
    near = Trials(found.job(Question(), worker=f"{machine()}.1.y", database=short))
    with far:  # it has a heartbeat inside
        lost = far.claim()
        threading.Event().wait(3.5)
        assert near.claim().params != lost.params, "it lives"
    threading.Event().wait(3.5)
    again = near.claim()
    assert again.params == lost.params
    near.tell(again, OUTCOME)
    assert far.report(lost, 1, 0.5), "it was only asleep, and is told to stop"
    far.tell(lost, OUTCOME)
    states = [t.state for t in open_study(Question(), short).trials]
    assert states.count(TrialState.COMPLETE) == 2, "the bank and the repeated trial"
    assert states[lost.number] == TrialState.FAIL
    held.__exit__(None, None, None)


def test_a_worker_here_that_is_suspended_keeps_its_trial_and_so_does_one_that_wakes_up(workers, place, monkeypatch):
    one, two = workers
    one.first()
    claim = one.claim()
    silent = one._all()[claim.number]._trial_id
    monkeypatch.setattr(type(one._database.storage), "_get_stale_trial_ids", lambda self, study: [silent])
    assert two.claim().params != claim.params
    assert one.claim().params != claim.params
    one.tell(claim, OUTCOME)
    assert len(one.finished()) == 2


def test_a_question_that_others_do_not_ask_is_refused_while_they_search(place):
    class Other(Question):
        key = "other"

    found = place()
    with working(found.run.path) as one, working(found.run.path) as two:
        Trials(found.job(Question(), worker=one)).first()
        with pytest.raises(RunError, match="running here that values its trials otherwise"):
            Trials(found.job(Other(), worker=two))


def test_a_trial_told_while_another_worker_joins_takes_nobody_s_study_away(place, monkeypatch):
    from eesearch.drivers import studies

    found = place()
    with working(found.run.path) as one, working(found.run.path) as two:
        trials = Trials(found.job(Question(), worker=one))
        trials.first()
        claim, count = trials.claim(), studies._ended

        def told_meanwhile(study):
            ended = count(study)
            trials.tell(claim, OUTCOME)
            return ended

        with monkeypatch.context() as patch:
            patch.setattr(studies, "_ended", told_meanwhile)
            joined = Trials(found.job(Question(), worker=two))
        assert len(joined.finished()) == len(trials.finished()) == 2


def test_what_was_asked_for_as_the_database_went_away_is_asked_for_again(place, monkeypatch):
    from eesearch.drivers import trials as module

    found = place()
    with working(found.run.path) as name:
        trials = Trials(found.job(Question(), worker=name))
        trials.first()
        with monkeypatch.context() as patch:
            patch.setattr(module, "Claim", lambda *fields: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                trials.claim()
        claim = trials.claim()
        assert claim.origin == "seed one"
        assert trials.claim().origin == "seed two"


def test_a_trial_that_was_given_back_comes_first(workers):
    one, two = workers
    one.first()
    claim, other = one.claim(), two.claim()
    two.give_back(other, stopped=True)
    again = one.claim()
    assert (again.params, again.origin) == (other.params, "seed two")
    for _ in range(MOST_KILLS + 1):  # it was stopped, not killed, however often
        one.give_back(again, stopped=True)
        again = one.claim()
        assert again.origin == "seed two"
    two.tell(other, OUTCOME)  # told too late: it is not counted twice
    one.tell(again, OUTCOME)
    one.tell(claim, OUTCOME)
    assert sorted(t.origin for t in one.finished()) == ["bank", "seed one", "seed two"]


def test_one_worker_trains_the_bank_and_the_others_wait_for_it(place):
    found, question = place(), Question()
    begun, go = threading.Event(), threading.Event()

    class Slow(Question):
        def first(self):
            begun.set()
            assert go.wait(30)
            return super().first()

    with working(found.run.path) as a, working(found.run.path) as b:
        one, two = Trials(found.job(Slow(), worker=a)), Trials(found.job(question, worker=b))
        first = threading.Thread(target=one.first)
        first.start()
        assert begun.wait(30)
        ran = []
        second = threading.Thread(target=lambda: ran.append(two.first()))
        second.start()
        go.set()
        first.join()
        second.join()
    assert ran == [False]
    assert question.banks == 0
    assert len(two.finished()) == 1


def test_four_workers_at_once_run_every_trial_once(place):
    found = place()
    found.search(Question(), fields={"budget": {"trials": 1}})
    ran = []

    def work(name):
        trials = Trials(found.job(Question(), worker=name, fields={"budget": {"trials": 21}, "sampler": "random"}))
        while not trials.over():
            claim = trials.claim()
            if claim is not None:
                trials.tell(claim, OUTCOME)
                ran.append(tuple(claim.params.items()))

    with ExitStack() as alive:
        names = [alive.enter_context(working(found.run.path)) for _ in range(4)]
        threads = [threading.Thread(target=work, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(ran) == len(set(ran)) == 20
