import pytest
from optuna.trial import TrialState

from eesearch.core.errors import EesearchError, RunError
from eesearch.drivers.studies import open_study
from eesearch.drivers.trials import Trials
from eesearch.study.space import Choice, LogFloat
from eesearch.study.trial import Outcome, StoppedEarlyError
from eesearch.study.workers import machine


class Quadratic:
    """A question that needs no training: the value is a function of the parameters."""

    key = "quadratic"
    origin = "bank"
    directions = ("maximize",)
    parameters = (Choice("exit:a", ("none", "head")), LogFloat("alpha:a", 0.1, 10.0))

    def __init__(self, *, fail=(), stop_at=None):
        self.ran = []
        self.fail = fail
        self.stop_at = stop_at

    def draft(self):
        return None

    def first(self):
        return Outcome(design=None, values=(0.25,))

    def seeds(self):
        return [
            ("seed one", {"exit:a": "head", "alpha:a": 1.0}),
            ("seed two", {"exit:a": "none", "alpha:a": 2.0}),
        ]

    def run(self, params, report=None):
        number = len(self.ran)
        self.ran.append(dict(params))
        if number == self.stop_at:
            raise KeyboardInterrupt
        if number in self.fail:
            raise EesearchError("this design diverged")
        return Outcome(design=None, values=(-abs(params["alpha:a"] - 3.0) - (params["exit:a"] == "none"),))

    def revalue(self, outcome):
        return outcome.model_copy(update={"values": (outcome.values[0] * 2,)})


def search(question, place, trials=8, timeout=None):
    return place.search(question, fields={"budget": {"trials": trials, "timeout": timeout}})


def records(question, place):
    return place.records(question)


def test_bank_first_then_seeds_then_sampler_until_the_total(place):
    question = Quadratic()
    seen = search(question, place())
    assert [t.origin for t in seen] == ["bank", "seed one", "seed two", *["sampler"] * 5]
    assert [t.number for t in seen] == list(range(8))
    assert question.ran[0] == {"exit:a": "head", "alpha:a": 1.0}
    search(question, place())
    assert len(question.ran) == 7, "the total is reached: nothing more is run"


def test_continuing_equals_an_uninterrupted_search(place):
    whole = Quadratic()
    search(whole, place("whole"), trials=12)
    for trials in (1, 2, 5, 9, 12):
        search(Quadratic(), place("parts"), trials=trials)
    assert records(whole, place("whole")) == records(whole, place("parts"))


@pytest.mark.parametrize("stop_at", [0, 9])
def test_an_interrupted_trial_is_tried_again_with_its_parameters(place, stop_at):
    whole, broken, resumed = Quadratic(), Quadratic(stop_at=stop_at), Quadratic()
    search(whole, place("whole"), trials=12)
    with pytest.raises(KeyboardInterrupt):
        search(broken, place("broken"), trials=12)
    search(resumed, place("broken"), trials=12)
    assert resumed.ran[0] == broken.ran[-1]
    assert records(whole, place("whole")) == records(whole, place("broken"))


def asked_by_a_dead_process(question, place, claimed):
    """What a process leaves that was killed as it asked for a trial, or as it ran it."""
    trials = Trials(place.job(question, worker=f"{machine()}.1.gone"))
    if claimed:
        return trials.claim().params
    trials._seeds = question.seeds()
    return trials._study.add_trial(trials._proposed(trials._all(), len(trials._all())))


def test_a_killed_trial_is_failed_and_tried_again(place):
    question = Quadratic()
    search(question, place("killed"), trials=5)
    params = asked_by_a_dead_process(question, place("killed"), claimed=True)
    resumed = Quadratic()
    search(resumed, place("killed"), trials=6)
    assert resumed.ran == [params]
    states = [t.state for t in open_study(question, place("killed").database()).get_trials()]
    assert TrialState.RUNNING not in states
    assert TrialState.WAITING not in states


def test_a_trial_killed_before_it_was_claimed_is_run(place):
    whole, question = Quadratic(), Quadratic()
    search(whole, place("whole"), trials=6)
    search(question, place("killed"), trials=5)
    asked_by_a_dead_process(question, place("killed"), claimed=False)
    search(question, place("killed"), trials=6)
    assert records(whole, place("whole")) == records(whole, place("killed"))


def test_a_failing_design_is_a_failed_trial_and_the_search_goes_on(place):
    question = Quadratic(fail=(2,))
    seen = search(question, place())
    assert [t.state for t in seen].count("failed") == 1
    failed = seen[3]
    assert failed.outcome is None
    assert "this design diverged" in failed.error
    search(question, place())
    assert len(question.ran) == 7, "a failing design is not tried again"


def test_timeout_is_a_total_over_all_continuations(place):
    assert len(search(Quadratic(), place(), trials=3)) == 3
    assert search(Quadratic(), place(), trials=100, timeout="0.000001s") == []
    assert len(search(Quadratic(), place("new"), trials=100, timeout="0.000001s")) == 1


def test_new_devices_or_objectives_revalue_the_old_trials(place):
    question = Quadratic()
    search(question, place(), trials=6)
    before = records(question, place())
    question.key = "other devices"
    after = records(question, place())
    assert [v[0] * 2 for _, _, v in before] == [v[0] for _, _, v in after]
    ran = len(question.ran)
    search(question, place(), trials=7)
    assert len(question.ran) == ran + 1, "what was trained is not trained again"


def test_going_back_to_earlier_devices_keeps_the_trials_made_since(place):
    question = Quadratic()
    search(question, place(), trials=4)
    question.key = "B"
    search(question, place(), trials=6)
    question.key = "quadratic"
    assert len(records(question, place())) == 6
    question.key = "B"
    assert len(records(question, place())) == 6
    assert len(question.ran) == 5


def test_an_interrupted_take_over_is_begun_again(place):
    class Interrupted(Quadratic):
        key = "B"

        def revalue(self, outcome):
            raise KeyboardInterrupt

    search(Quadratic(), place(), trials=5)
    with pytest.raises(KeyboardInterrupt):
        search(Interrupted(), place(), trials=5)
    after = Quadratic()
    after.key = "B"
    assert len(records(after, place())) == 5


def test_seeds_of_one_rule_on_two_devices_are_both_tried(place):
    class Twice(Quadratic):
        def seeds(self):
            return [("rule", params) for _, params in super().seeds()]

    question = Twice()
    search(question, place(), trials=4)
    assert [p["alpha:a"] for p in question.ran[:2]] == [1.0, 2.0]


def test_a_disk_that_fills_up_below_the_database(place, monkeypatch):
    from sqlalchemy.exc import OperationalError
    from sqlalchemy.orm import Session

    def full(session):
        raise OperationalError("COMMIT", {}, Exception("database or disk is full"))

    search(Quadratic(), place(), trials=2)
    with monkeypatch.context() as patch:
        patch.setattr(Session, "commit", full)
        with pytest.raises(RunError, match="cannot use the database"):
            search(Quadratic(), place(), trials=4)
    assert len(search(Quadratic(), place(), trials=4)) == 2


def test_a_full_disk_stops_the_search_and_loses_no_trial(place):
    class Full(Quadratic):
        def run(self, params, report=None):
            if len(self.ran) == 3:
                raise RunError("cannot write table", got="No space left on device")
            return super().run(params)

    with pytest.raises(RunError, match="No space left"):
        search(Full(), place())
    whole, resumed = Quadratic(), Quadratic()
    search(resumed, place())
    search(whole, place("whole"))
    assert records(whole, place("whole")) == records(whole, place())


def test_a_database_that_cannot_be_opened(place):
    file = place().run.database
    file.parent.mkdir()
    file.write_text("this is no database, it is a text of more than a hundred bytes " * 4)
    with pytest.raises(RunError, match="cannot use the database"):
        search(Quadratic(), place())


def test_where_nothing_can_be_proposed_the_first_trial_is_the_only_one(place):
    class Single(Quadratic):
        parameters = ()

    problem = Single()
    search(problem, place())
    assert [t.state for t in place().finished(problem)] == ["complete"]
    assert problem.ran == []


class Slow(Quadratic):
    """Tells its value after each of nine epochs: rising to its end, or hopeless from the start."""

    def run(self, params, report=None):
        outcome = super().run(params)
        for epoch in range(1, 10):
            if report is not None and report(epoch, outcome.values[0] * 9 / epoch):
                raise StoppedEarlyError(samples=epoch * 100)
        return outcome


def test_what_does_not_look_promising_is_stopped_early_and_counts(place):
    fields = {"budget": {"trials": 12}, "pruning": "asha", "training": {"joint": {"epochs": 9}}}
    question = Slow()
    seen = place().search(question, fields=fields)
    stopped = [t for t in seen if t.state == "pruned"]
    assert stopped
    assert len(seen) == 12
    assert all(t.outcome is None and t.samples % 100 == 0 and 0 < t.samples < 900 for t in stopped)
    best = max((t.outcome.values[0] for t in seen[1:] if t.outcome), default=None)
    assert best == max(-abs(p["alpha:a"] - 3.0) - (p["exit:a"] == "none") for p in question.ran)
    assert place().search(question, fields=fields) == [], "a stopped trial is not tried again"


def test_without_pruning_nobody_asks_for_values_on_the_way(place):
    class Asked(Quadratic):
        def run(self, params, report=None):
            assert report is None
            return super().run(params)

    assert {t.state for t in search(Asked(), place(), trials=3)} == {"complete"}


def test_training_samples_are_a_budget(place):
    class Counted(Quadratic):
        def run(self, params, report=None):
            return super().run(params).model_copy(update={"samples": 1000})

    fields = {"budget": {"trials": 100, "samples": 2500}}
    assert len(place().search(Counted(), fields=fields)) == 1 + 3, "the one that reaches it is finished"
    assert place().search(Counted(), fields=fields) == []
