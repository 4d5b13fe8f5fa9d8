import pytest
from optuna.trial import TrialState

from eesearch.core.errors import EesearchError, RunError
from eesearch.drivers.optuna_driver import Limits, _open, drive, finished
from eesearch.study.space import Choice, LogFloat
from eesearch.study.trial import Outcome


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

    def first(self):
        return Outcome(design=None, values=(0.25,))

    def seeds(self):
        return [
            ("seed one", {"exit:a": "head", "alpha:a": 1.0}),
            ("seed two", {"exit:a": "none", "alpha:a": 2.0}),
        ]

    def run(self, params):
        number = len(self.ran)
        self.ran.append(dict(params))
        if number == self.stop_at:
            raise KeyboardInterrupt
        if number in self.fail:
            raise EesearchError("this design diverged")
        return Outcome(design=None, values=(-abs(params["alpha:a"] - 3.0) - (params["exit:a"] == "none"),))

    def revalue(self, outcome):
        return outcome.model_copy(update={"values": (outcome.values[0] * 2,)})


def search(question, path, trials=8, timeout=None):
    seen = []
    drive(question, path / "study.db", Limits(trials, timeout, seed=3), seen.append)
    return seen


def records(question, path):
    return [(t.origin, t.state, t.outcome and t.outcome.values) for t in finished(question, path / "study.db")]


def test_bank_first_then_seeds_then_sampler_until_the_total(tmp_path):
    question = Quadratic()
    seen = search(question, tmp_path)
    assert [t.origin for t in seen] == ["bank", "seed one", "seed two", *["sampler"] * 5]
    assert [t.number for t in seen] == list(range(8))
    assert question.ran[0] == {"exit:a": "head", "alpha:a": 1.0}
    search(question, tmp_path)
    assert len(question.ran) == 7, "the total is reached: nothing more is run"


def test_continuing_equals_an_uninterrupted_search(tmp_path):
    whole = Quadratic()
    search(whole, tmp_path / "whole", trials=12)
    for trials in (1, 2, 5, 9, 12):
        search(Quadratic(), tmp_path / "parts", trials=trials)
    assert records(whole, tmp_path / "whole") == records(whole, tmp_path / "parts")


@pytest.mark.parametrize("stop_at", [0, 9])
def test_an_interrupted_trial_is_tried_again_with_its_parameters(tmp_path, stop_at):
    whole, broken, resumed = Quadratic(), Quadratic(stop_at=stop_at), Quadratic()
    search(whole, tmp_path / "whole", trials=12)
    with pytest.raises(KeyboardInterrupt):
        search(broken, tmp_path / "broken", trials=12)
    search(resumed, tmp_path / "broken", trials=12)
    assert resumed.ran[0] == broken.ran[-1]
    assert records(whole, tmp_path / "whole") == records(whole, tmp_path / "broken")


def test_a_killed_trial_is_failed_and_tried_again(tmp_path):
    whole, question = Quadratic(), Quadratic()
    search(whole, tmp_path / "whole", trials=6)
    search(question, tmp_path / "killed", trials=5)
    study = _open(question, tmp_path / "killed" / "study.db")
    with pytest.warns(UserWarning, match="Heartbeat"):
        killed = study.ask()  # a process that dies now leaves this trial running
    killed.suggest_categorical("exit:a", ("none", "head"))
    killed.suggest_float("alpha:a", 0.1, 10.0, log=True)
    resumed = Quadratic()
    search(resumed, tmp_path / "killed", trials=6)
    assert resumed.ran == [killed.params]
    states = [t.state for t in _open(question, tmp_path / "killed" / "study.db").get_trials()]
    assert TrialState.RUNNING not in states
    assert TrialState.WAITING not in states


def test_a_trial_killed_before_its_parameters_were_drawn_is_proposed_again(tmp_path):
    whole, question = Quadratic(), Quadratic()
    search(whole, tmp_path / "whole", trials=6)
    search(question, tmp_path / "killed", trials=5)
    with pytest.warns(UserWarning, match="Heartbeat"):
        _open(question, tmp_path / "killed" / "study.db").ask()
    search(question, tmp_path / "killed", trials=6)
    assert records(whole, tmp_path / "whole") == records(whole, tmp_path / "killed")


def test_a_failing_design_is_a_failed_trial_and_the_search_goes_on(tmp_path):
    question = Quadratic(fail=(2,))
    seen = search(question, tmp_path)
    assert [t.state for t in seen].count("failed") == 1
    failed = seen[3]
    assert failed.outcome is None
    assert "this design diverged" in failed.error
    search(question, tmp_path)
    assert len(question.ran) == 7, "a failing design is not tried again"


def test_timeout_is_a_total_over_all_continuations(tmp_path):
    assert len(search(Quadratic(), tmp_path, trials=3)) == 3
    assert search(Quadratic(), tmp_path, trials=100, timeout=1e-9) == []
    assert len(search(Quadratic(), tmp_path / "new", trials=100, timeout=1e-9)) == 1


def test_new_devices_or_objectives_revalue_the_old_trials(tmp_path):
    question = Quadratic()
    search(question, tmp_path, trials=6)
    before = records(question, tmp_path)
    question.key = "other devices"
    after = records(question, tmp_path)
    assert [v[0] * 2 for _, _, v in before] == [v[0] for _, _, v in after]
    ran = len(question.ran)
    search(question, tmp_path, trials=7)
    assert len(question.ran) == ran + 1, "what was trained is not trained again"


def test_going_back_to_earlier_devices_keeps_the_trials_made_since(tmp_path):
    question = Quadratic()
    search(question, tmp_path, trials=4)
    question.key = "B"
    search(question, tmp_path, trials=6)
    question.key = "quadratic"
    assert len(records(question, tmp_path)) == 6
    question.key = "B"
    assert len(records(question, tmp_path)) == 6
    assert len(question.ran) == 5


def test_an_interrupted_take_over_is_begun_again(tmp_path):
    class Interrupted(Quadratic):
        key = "B"

        def revalue(self, outcome):
            raise KeyboardInterrupt

    search(Quadratic(), tmp_path, trials=5)
    with pytest.raises(KeyboardInterrupt):
        search(Interrupted(), tmp_path, trials=5)
    after = Quadratic()
    after.key = "B"
    assert len(records(after, tmp_path)) == 5


def test_seeds_of_one_rule_on_two_devices_are_both_tried(tmp_path):
    class Twice(Quadratic):
        def seeds(self):
            return [("rule", params) for _, params in super().seeds()]

    question = Twice()
    search(question, tmp_path, trials=4)
    assert [p["alpha:a"] for p in question.ran[:2]] == [1.0, 2.0]


def test_a_disk_that_fills_up_below_the_database(tmp_path, monkeypatch):
    from sqlalchemy.exc import OperationalError
    from sqlalchemy.orm import Session

    def full(session):
        raise OperationalError("COMMIT", {}, Exception("database or disk is full"))

    search(Quadratic(), tmp_path, trials=2)
    with monkeypatch.context() as patch:
        patch.setattr(Session, "commit", full)
        with pytest.raises(RunError, match="cannot use the database"):
            search(Quadratic(), tmp_path, trials=4)
    assert len(search(Quadratic(), tmp_path, trials=4)) == 2


def test_a_full_disk_stops_the_search_and_loses_no_trial(tmp_path):
    class Full(Quadratic):
        def run(self, params):
            if len(self.ran) == 3:
                raise RunError("cannot write table", got="No space left on device")
            return super().run(params)

    with pytest.raises(RunError, match="No space left"):
        search(Full(), tmp_path)
    whole, resumed = Quadratic(), Quadratic()
    search(resumed, tmp_path)
    search(whole, tmp_path / "whole")
    assert records(whole, tmp_path / "whole") == records(whole, tmp_path)


def test_a_database_that_cannot_be_opened(tmp_path):
    (tmp_path / "study.db").write_text("this is no database, it is a text of more than a hundred bytes " * 4)
    with pytest.raises(RunError, match="cannot use the database"):
        search(Quadratic(), tmp_path)


def test_where_nothing_can_be_proposed_the_first_trial_is_the_only_one(tmp_path):
    class Single(Quadratic):
        parameters = ()

    problem = Single()
    drive(problem, tmp_path / "study.db", Limits(5, None, seed=0), lambda trial: None)
    assert [t.state for t in finished(problem, tmp_path / "study.db")] == ["complete"]
    assert problem.ran == []
