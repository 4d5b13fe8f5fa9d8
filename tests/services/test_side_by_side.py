"""Several processes that search in one run directory: each design is trained once, each trial is run once."""

import pytest

from tests.chaos.harness import STUDY, check_store, check_trainings, check_trials, placed, snapshot

TRIALS = 9


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    storage = request.getfixturevalue("database") if request.param == "postgresql" else None
    with placed(tmp_path / "place", storage=storage, fields=STUDY | {"budget": {"trials": TRIALS}}) as made:
        yield made


def test_three_processes_train_every_design_once_and_agree(place):
    place.busy_s = 1.0  # so that all of them get something to do, and would train the bank at once if they could
    searchers = [place.start() for _ in range(3)]
    place.finish_all()
    found = snapshot(place)
    check_trials(place, found, trials=TRIALS)
    assert sorted(number for _, number in found.trials) == list(range(TRIALS)), "none was begun twice"
    designs = {line["key"] for line in place.events() if line["what"] == "training"}
    assert check_trainings(place) == len(designs)
    check_store(place)
    told = [searcher.told for searcher in searchers]
    assert set.union(*told) == set(range(TRIALS))
    assert sum(map(len, told)) == TRIALS, "each trial is told by the process that ran it"
    assert sum(bool(numbers) for numbers in told) > 1, "they shared the work"
    assert len({searcher.verdict for searcher in searchers}) == 1
    assert searchers[0].verdict.startswith("macs: ")


def test_a_process_that_comes_later_joins_and_one_that_comes_after_the_end_only_answers(place):
    place.busy_s = 0.3
    first = place.start()
    first.wait_for(2)
    second = place.start()
    place.finish_all()
    third = place.finish()
    assert not third.told
    assert first.verdict == second.verdict == third.verdict
    check_trials(place, snapshot(place), trials=TRIALS)
    check_trainings(place)
