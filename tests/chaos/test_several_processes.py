"""Several processes on one study, one or all of them killed at random moments."""

import random

import pytest

from tests.chaos.harness import (
    STUDY,
    blows,
    check_store,
    check_trainings,
    check_trials,
    placed,
    snapshot,
    survive_together,
)

TRIALS, WORKERS, ROUNDS = 8, 3, 4


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    storage = request.getfixturevalue("database") if request.param == "postgresql" else None
    fields = STUDY | {"budget": {"trials": TRIALS}}
    with placed(tmp_path / "place", storage=storage, fields=fields, busy_s=0.2) as made:
        yield made


@pytest.mark.parametrize("seed", range(2))
def test_killed_workers_lose_nothing_and_nothing_is_done_twice(seed, place):
    dice, moments = random.Random(seed), blows(seed, operations=60)
    fates = [True, False] + [dice.random() < 0.5 for _ in range(ROUNDS - 2)]
    kills = [survive_together(place, next(moments), workers=WORKERS, all_die=fate) for fate in fates]
    assert sum(kills)
    ends = [place.start() for _ in range(WORKERS)]
    place.finish_all()
    check_trials(place, snapshot(place), trials=TRIALS)
    check_trainings(place)
    check_store(place)
    assert len({end.verdict for end in ends}) == 1
