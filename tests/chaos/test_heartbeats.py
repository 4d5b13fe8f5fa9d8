"""A worker of another machine: where its lock outlives it, its heartbeat says whether it lives."""

from eesearch.core.locks import tried
from tests.chaos.harness import STUDY, check_trainings, check_trials, placed, snapshot

FIELDS = STUDY | {"budget": {"trials": 4}}
PULSE = (1, 4)
SLOW_S = 8.0
"""Longer than a trial without a heartbeat is left alone."""


def test_a_dead_worker_s_trial_is_queued_again_when_its_heartbeat_stops(tmp_path):
    with placed(tmp_path / "place", storage=f"sqlite:///{tmp_path / 'shared.db'}", fields=FIELDS) as place:
        place.finish("--trials", "1")
        away = place.start(machine="elsewhere", pulse=PULSE, busy_s=60.0)
        while not [line for line in place.events() if line["what"] == "training" and line["pid"] == away.pid]:
            assert away.running, away.said
        assert place.kill(away)
        lost = snapshot(place).unfinished
        assert [state.split()[1] for state in lost] == ["RUNNING"]
        (lock,) = (place.run / "workers").glob("elsewhere.*.lock")
        with tried(lock) as free:  # as a file server that has not noticed
            assert free
            place.finish(pulse=PULSE)
        found = snapshot(place)
        check_trials(place, found, trials=4)
        check_trainings(place)
        retried = [row[3]["retry_of"] for row in found.trials.values() if "retry_of" in row[3]]
        assert retried == [int(lost[0].split(":")[0])]


def test_a_slow_worker_that_lives_keeps_its_trial(tmp_path):
    with placed(tmp_path / "place", storage=f"sqlite:///{tmp_path / 'shared.db'}", fields=FIELDS) as place:
        place.finish("--trials", "1")
        slow = place.start(machine="elsewhere", pulse=PULSE, busy_s=SLOW_S)
        while not [line for line in place.events() if line["what"] == "training" and line["pid"] == slow.pid]:
            assert slow.running, slow.said
        place.start(pulse=PULSE)
        place.finish_all()
        found = snapshot(place)
        check_trials(place, found, trials=4)
        check_trainings(place)
        assert slow.told, "it ended its trial itself"
        assert not [row for row in found.trials.values() if "retry_of" in row[3]]
