"""One process, killed again and again: nothing finished is lost, and the end is that of an undisturbed search."""

import pytest

from tests.chaos.harness import blows, check_store, check_trainings, check_trials, snapshot, survive

KILLS = 8


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_moments_loses_nothing_and_ends_as_undisturbed(seed, place, undisturbed):
    moments, kills = blows(seed), 0
    while kills < KILLS and survive(place, next(moments)):
        kills += 1
    assert kills, "at least one kill before the end"
    place.finish()
    found = snapshot(place)
    check_trials(place, found, trials=6)
    assert check_trainings(place) >= 2, "the bank and a design"
    assert check_store(place) > 10
    assert (place.run / "front.csv").read_bytes() == undisturbed
