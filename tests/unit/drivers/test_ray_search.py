"""Our searcher for Ray Tune, with Tune's part played by the tests."""

import logging
import pickle
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from eesearch.core.errors import EesearchError, RunError
from eesearch.drivers import ray_search
from eesearch.drivers.ray_search import Asking, Broken, Kept, Median, keeping_workers, make_scheduler
from eesearch.drivers.trials import Claim
from eesearch.study.question import Study
from eesearch.study.trial import Outcome

OUTCOME = Outcome(design=None, values=(0.5,)).model_dump_json()


class Notes:
    """`Trials` that only notes what is asked and told."""

    def __init__(self, claims=10):
        self.left, self.told, self.is_over = list(range(1, claims + 1)), [], True

    def claim(self):
        if not self.left:
            return None
        number = self.left.pop(0)
        return Claim(number, {"exit:a": "head", "alpha:a": 0.1 * number}, "sampler", None)

    def over(self):
        return self.is_over

    def report(self, claim, step, value):
        self.told.append(("report", claim.number, step, value))

    def tell(self, claim, outcome):
        self.told.append(("tell", claim.number, outcome.values))

    def fail(self, claim, error):
        self.told.append(("fail", claim.number, error))

    def prune(self, claim, samples):
        self.told.append(("prune", claim.number, samples))

    def give_back(self, claim, *, stopped):
        self.told.append(("give back", claim.number))


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(ray_search, "PAUSE_S", 0.0)


def asking(trials, slots=2):
    return Asking(trials, lambda: slots)


def test_trials_are_claimed_in_order_and_only_where_there_is_a_place():
    searcher = asking(Notes())
    first, second = searcher.suggest("a"), searcher.suggest("b")
    assert (first["number"], first["slot"]) == (1, 0)
    assert (second["number"], second["slot"]) == (2, 1)
    assert first["params"] == {"exit:a": "head", "alpha:a": 0.1}
    assert searcher.suggest("c") is None, "both places are taken"
    searcher.on_trial_complete("a", {"outcome": OUTCOME, "done": True})
    third = searcher.suggest("c")
    assert (third["number"], third["slot"]) == (3, 0), "the place that is free"


def test_places_may_come_and_go():
    slots = 1
    searcher = Asking(Notes(), lambda: slots)
    assert searcher.suggest("a")["slot"] == 0
    assert searcher.suggest("b") is None
    slots = 2
    assert searcher.suggest("b")["slot"] == 1
    slots = 1
    searcher.on_trial_complete("b", {"outcome": OUTCOME})
    assert searcher.suggest("c") is None


def test_states_are_honest():
    trials = Notes()
    searcher = asking(trials, slots=4)
    for trial in "abcd":
        searcher.suggest(trial)
    searcher.on_trial_result("a", {"epoch": 1, "value": 0.1, "samples": 10})
    searcher.on_trial_result("b", {"epoch": 1, "value": 0.2, "samples": 10})
    searcher.on_trial_complete("a", {"outcome": OUTCOME, "done": True})
    searcher.on_trial_complete("b", {"epoch": 2, "value": 0.3, "samples": 20, "done": True})
    searcher.on_trial_complete("c", {"failure": "ValueError: no", "done": True})
    searcher.on_trial_complete("d", None, error=True)
    *told, (kind, number, error) = trials.told
    assert told == [
        ("report", 1, 1, 0.1),
        ("report", 2, 1, 0.2),
        ("tell", 1, (0.5,)),
        ("report", 2, 2, 0.3),
        ("prune", 2, 20),
        ("fail", 3, "ValueError: no"),
    ]
    assert (kind, number) == ("fail", 4)
    assert "worker died 3 times" in error


def test_a_worker_that_died_after_a_report_failed_and_was_not_pruned():
    trials = Notes()
    searcher = asking(trials)
    searcher.suggest("a")
    searcher.on_trial_complete("a", {"epoch": 2, "value": 0.3, "samples": 20}, error=True)
    assert [told[0] for told in trials.told] == ["fail"]


def test_what_ended_without_any_result_is_given_back():
    trials = Notes()
    searcher = asking(trials)
    searcher.suggest("a")
    searcher.on_trial_complete("a")
    assert trials.told == [("give back", 1)]


def test_the_search_is_over_when_nothing_runs_and_nothing_can_be_claimed():
    trials = Notes(claims=1)
    searcher = asking(trials)
    searcher.suggest("a")
    assert searcher.suggest("b") is None, "what runs may die, and is claimed again then"
    trials.is_over = False
    searcher.on_trial_complete("a", {"outcome": OUTCOME})
    assert searcher.suggest("b") is None, "another process runs the last one"
    trials.is_over = True
    assert searcher.suggest("b") == "FINISHED"


class Clock:
    """Stands still until it is moved."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(ray_search, "time", SimpleNamespace(monotonic=made.monotonic))
    return made


def test_a_finished_search_ends_though_every_machine_is_lost(clock):
    trials = Notes(claims=0)
    trials.is_over = False
    searcher = asking(trials, slots=0)
    assert searcher.suggest("a") is None, "another process runs the last one"
    trials.is_over = True
    assert searcher.suggest("a") == "FINISHED"
    assert searcher.error is None


def test_without_any_machine_the_search_waits_and_gives_up_in_the_end(clock, caplog):
    trials, slots = Notes(), 0
    trials.is_over = False
    searcher = Asking(trials, lambda: slots)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert searcher.suggest("a") is None
            clock.now += ray_search.PATIENCE_S / 4
    assert [record.message for record in caplog.records] == ["no machine can run a trial; waiting"]
    assert len(trials.left) == 10, "nothing is claimed that nobody can run"
    slots = 1
    assert searcher.suggest("a")["number"] == 1
    searcher.on_trial_complete("a", {"outcome": OUTCOME})
    slots = 0
    clock.now += ray_search.PATIENCE_S
    assert searcher.suggest("b") is None, "a machine was there: its patience begins anew"
    clock.now += ray_search.PATIENCE_S
    assert searcher.suggest("b") == "FINISHED"
    assert isinstance(searcher.error, RunError)
    assert "run the same command again" in str(searcher.error)


def test_trials_that_wait_for_a_machine_in_vain_are_given_back(clock):
    trials, slots = Notes(), 1
    searcher = Asking(trials, lambda: slots)
    stopper = Broken(searcher)
    searcher.suggest("a")
    slots = 0
    assert not stopper.stop_all()
    assert searcher.suggest("b") is None, "a trial is not told: the search is not over"
    clock.now += ray_search.PATIENCE_S
    assert stopper.stop_all()
    searcher.give_back()
    assert isinstance(searcher.error, RunError)
    assert trials.told == [("give back", 1)]


def test_the_database_is_left_in_peace_while_there_is_nothing_to_do(monkeypatch):
    monkeypatch.setattr(ray_search, "PAUSE_S", 60.0)
    trials = Notes(claims=2)
    searcher = asking(trials, slots=3)
    for trial in "abc":
        searcher.suggest(trial)
    trials.left = [3]
    assert searcher.suggest("c") is None
    searcher.on_trial_complete("a", {"outcome": OUTCOME})
    assert searcher.suggest("c")["number"] == 3, "a trial ended: something may be free"


@pytest.mark.parametrize("kind", [RunError, EesearchError, OSError])
def test_an_error_of_ours_ends_the_search_and_everything_is_given_back(kind):
    trials = Notes()
    trials.tell = lambda claim, outcome: (_ for _ in ()).throw(kind("disk full"))
    searcher = asking(trials)
    stopper = Broken(searcher)
    searcher.suggest("a")
    searcher.suggest("b")
    assert not stopper.stop_all()
    searcher.on_trial_complete("a", {"outcome": OUTCOME})
    assert isinstance(searcher.error, kind)
    assert stopper.stop_all()
    assert searcher.suggest("c") == "FINISHED"
    searcher.on_trial_complete("b", {"outcome": OUTCOME})  # Tune stops what runs, and tells so
    searcher.give_back()
    assert trials.told == [("give back", 1), ("give back", 2)]
    searcher.give_back()
    assert len(trials.told) == 2


def test_a_worker_without_disk_ends_the_search():
    searcher = asking(Notes())
    searcher.suggest("a")
    searcher.on_trial_complete("a", {"broken": "cannot write /run", "done": True})
    assert isinstance(searcher.error, RunError)
    assert "cannot write /run" in str(searcher.error)


def test_an_error_while_asking_ends_the_search():
    searcher = Asking(Notes(), lambda: 1 / 0)
    assert searcher.suggest("a") == "FINISHED"
    assert isinstance(searcher.error, ZeroDivisionError)


def test_tune_may_write_it_down():
    searcher = asking(Notes())
    searcher.suggest("a")
    pickle.dumps(searcher)
    pickle.dumps(Broken(searcher))


def study(pruning, epochs):
    fields = {
        "name": "s", "backbone": {"model": "a:b"}, "data": {"source": "a:b"}, "pruning": pruning,
        "training": {"joint": {"epochs": epochs}},
    }  # fmt: skip
    return Study.model_validate(fields)


@pytest.mark.parametrize(
    ("pruning", "kind", "brackets"),
    [("none", FIFOScheduler, 0), ("asha", ASHAScheduler, 1), ("hyperband", ASHAScheduler, 3),
     ("median", Median, 0)],
)  # fmt: skip
def test_schedulers_by_the_study_s_word(pruning, kind, brackets):
    scheduler = make_scheduler(study(pruning, epochs=9))
    assert type(scheduler) is kind
    assert len(getattr(scheduler, "_brackets", ())) == brackets


def test_one_epoch_leaves_nothing_to_prune():
    assert type(make_scheduler(study("asha", epochs=1))) is FIFOScheduler


class TuneTrial:
    """What a scheduler looks at."""

    def __init__(self, trial_id):
        self.trial_id = trial_id


def test_successive_halving_stops_what_is_worse_and_never_the_last_epoch():
    scheduler = make_scheduler(study("asha", epochs=10))
    decisions = {}
    for trial, value in [("good", 0.9), ("better", 0.95), ("bad", 0.1)]:
        scheduler.on_trial_add(None, TuneTrial(trial))
        result = {"epoch": 1, "value": value}
        decisions[trial] = scheduler.on_trial_result(None, TuneTrial(trial), result)
    assert decisions == {"good": "CONTINUE", "better": "CONTINUE", "bad": "STOP"}
    for epoch in range(2, 10):
        assert scheduler.on_trial_result(None, TuneTrial("better"), {"epoch": epoch, "value": 1.0}) == "CONTINUE"


def test_the_median_is_of_epochs_and_stops_what_is_worse():
    scheduler = make_scheduler(study("median", epochs=10))
    tune = SimpleNamespace(get_live_trials=lambda: [SimpleNamespace(status="PENDING")])

    def begun(name):
        trial = TuneTrial(name)
        scheduler.on_trial_add(tune, trial)
        return trial

    def decided(trial, epoch, value):
        return scheduler.on_trial_result(tune, trial, {"epoch": epoch, "value": value})

    for name in ("first", "second", "third"):
        trial = begun(name)
        decisions = [decided(trial, epoch, 0.9) for epoch in (1, 2, 3)]
        assert decisions == ["CONTINUE"] * 3, "too few to compare with, and none is paused though some wait"
        scheduler.on_trial_complete(tune, trial, {"outcome": OUTCOME, "done": True})
    better, bad = begun("better"), begun("bad")
    assert [decided(better, epoch, 0.95) for epoch in (1, 2, 3)] == ["CONTINUE"] * 3
    assert decided(bad, 1, 0.1) == "STOP"


def test_idle_workers_are_kept_while_there_is_a_place_for_them():
    places = 3
    cache = Kept(lambda: places)
    for key in ("slot 0", "slot 0", "slot 1"):
        assert cache.cache_object(key, f"worker of {key}")
    assert list(cache.flush_cached_objects()) == []
    assert cache.num_cached_objects == 3
    assert cache.pop_cached_object("slot 1") == "worker of slot 1"
    places = 1
    assert list(cache.flush_cached_objects()) == ["worker of slot 0"], "a machine is lost: a trial needs its place"
    assert list(cache.flush_cached_objects(force_all=True)) == ["worker of slot 0"]
    assert cache.num_cached_objects == 0


def test_tune_makes_its_cache_by_the_name_that_is_replaced():
    import inspect

    from ray.tune.execution import tune_controller

    before = tune_controller._ObjectCache
    with keeping_workers(asking(Notes(), slots=5)):
        cache = tune_controller._ObjectCache(may_keep_one=True)  # as Tune calls it
    assert isinstance(cache, Kept)
    assert cache._spare() == 5
    assert tune_controller._ObjectCache is before
    assert "_ObjectCache(may_keep_one=True)" in inspect.getsource(tune_controller.TuneController.__init__)
