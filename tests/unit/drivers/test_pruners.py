"""Designs that are stopped early, whoever was interrupted meanwhile."""

import optuna
import pytest
from optuna.pruners import HyperbandPruner, MedianPruner, SuccessiveHalvingPruner
from optuna.trial import create_trial

from eesearch.drivers.pruners import make_pruner
from eesearch.study.space import LogFloat
from eesearch.study.trial import Outcome, StoppedEarlyError

EPOCHS = 8


def test_none_where_nothing_can_be_saved():
    assert make_pruner("none", 10) is None
    assert make_pruner("asha", 1) is None


@pytest.mark.parametrize(
    ("name", "kind"), [("asha", SuccessiveHalvingPruner), ("hyperband", HyperbandPruner), ("median", MedianPruner)]
)
@pytest.mark.parametrize("epochs", [5, 30])
def test_bad_trials_are_stopped_and_good_ones_are_not(name, kind, epochs):
    pruner = make_pruner(name, epochs)
    assert isinstance(pruner, kind)
    study = optuna.create_study(direction="maximize", pruner=pruner, study_name="s")
    stopped = {"good": 0, "bad": 0}
    for n in range(24):
        quality = "good" if n % 3 == 0 else "bad"
        trial = study.ask()
        for epoch in range(1, epochs):
            trial.report((1.0 + n * 1e-4 if quality == "good" else -n * 1e-4) + epoch * 0.01, epoch)
            if trial.should_prune():
                stopped[quality] += 1
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, 1.0 if quality == "good" else 0.0)
    assert stopped["good"] == 0, "each good one is a little better than those before, each bad one a little worse"
    assert stopped["bad"] >= 8


def test_trials_that_were_added_by_hand_do_not_disturb():
    study = optuna.create_study(direction="maximize", pruner=make_pruner("hyperband", 5), study_name="s")
    study.add_trial(create_trial(value=0.5))
    trial = study.ask()
    trial.report(0.1, 1)
    assert trial.should_prune() is False


class Curves:
    """Learning curves that cross: what is best after an epoch is not after the next.

    Args:
        stops: (which design, in which epoch) interrupts the search, once.
    """

    key, origin, directions = "curves", "bank", ("maximize",)
    parameters = (LogFloat("alpha:a", 0.1, 10.0),)

    def __init__(self, stops=()):
        self.begun, self.stops = [], set(stops)

    def draft(self):
        return None

    def first(self):
        return Outcome(design=None, values=(0.0,))

    def seeds(self):
        return []

    def run(self, params, report):
        if params not in self.begun:
            self.begun.append(params)
        design, value = self.begun.index(params), 0.0
        for epoch in range(1, EPOCHS):
            if (design, epoch) in self.stops:
                self.stops.remove((design, epoch))
                raise KeyboardInterrupt
            value = (params["alpha:a"] * 7.3 * epoch) % 1.0
            if report(epoch, value):
                raise StoppedEarlyError(100 * epoch)
        return Outcome(design=None, values=(value,))

    def revalue(self, outcome):
        return outcome.model_copy(update={"values": (0.0,)})


@pytest.mark.parametrize("name", ["asha", "hyperband", "median"])
def test_an_interrupted_search_stops_the_designs_that_an_undisturbed_one_stops(place, name):
    fields = {"budget": {"trials": 20}, "pruning": name, "training": {"joint": {"epochs": EPOCHS}}}

    def told(where, question):
        for _ in range(len(question.stops)):
            with pytest.raises(KeyboardInterrupt):
                place(where).search(question, fields=fields)
        place(where).search(question, fields=fields)
        return [(t.params, t.state, t.samples, t.outcome) for t in place(where).finished(question)]

    whole = told("whole", Curves())
    assert {state for _, state, *_ in whole} == {"complete", "pruned"}
    assert told("parts", Curves([(0, 3), (1, 2), (2, 1), (5, 1), (6, 1), (9, 1)])) == whole


def test_values_of_another_question_stop_nobody(place):
    """After each epoch, and on each rung: they were worth something else then."""
    fields = {"budget": {"trials": 12}, "pruning": "asha", "training": {"joint": {"epochs": EPOCHS}}}
    question = Curves()
    place().search(question, fields=fields)
    question.key = "other objectives"
    place().finished(question)
    (study,) = [s for n, s in place().database().studies(tidy=False).items() if n == question.key]
    assert len(study.trials) == 12
    assert not any(trial.intermediate_values or trial.system_attrs for trial in study.trials)
