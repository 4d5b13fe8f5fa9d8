"""A database that is killed and started again, or that is away for a while, in the middle of a search."""

import time

from tests.chaos.harness import STUDY, check_store, check_trainings, check_trials, placed, snapshot

TRIALS = 8


def test_a_database_that_crashes_and_comes_back_loses_nothing(tmp_path, postgres, database):
    with placed(
        tmp_path / "place", storage=database, fields=STUDY | {"budget": {"trials": TRIALS}}, busy_s=0.3
    ) as place:
        searchers = [place.start(), place.start()]
        for trials in (1, 3, 5):
            while len(set().union(*(s.told for s in searchers))) < trials and any(s.running for s in searchers):
                time.sleep(0.01)
            postgres.restart("immediate")
        for searcher in searchers:
            # Going on is what is hoped for; a clear error and the same command again is what is promised.
            if searcher.wait() != 0:
                assert searcher.wait() == 2, searcher.said
                assert "cannot use the database" in searcher.said
                assert "Traceback" not in searcher.said, searcher.said
        told = set().union(*(searcher.told for searcher in searchers))
        assert told <= {number for _, number in snapshot(place).trials}
        place.finish()
        check_trials(place, snapshot(place), trials=TRIALS)
        check_trainings(place)
        check_store(place)


def test_a_database_that_is_away_for_a_while_is_waited_for(tmp_path, postgres, database):
    with placed(tmp_path / "place", storage=database, fields=STUDY | {"budget": {"trials": 4}}, busy_s=0.5) as place:
        searcher = place.start()
        searcher.wait_for(2)
        postgres.stop("immediate")
        try:
            time.sleep(3)
            assert searcher.running, searcher.said
        finally:
            postgres.start()
        assert searcher.wait() == 0, searcher.said
        assert searcher.told == set(range(4))
        check_trials(place, snapshot(place), trials=4)
        check_trainings(place)
