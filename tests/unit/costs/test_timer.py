"""The timer against a clock that only moves when a call says so: exact results, no waiting."""

from dataclasses import fields, replace
from itertools import cycle

import pytest

from eesearch.costs import timer
from eesearch.costs.timer import Clock, Protocol, _spread, time_call


class FakeTime:
    """Wall time moves by each call's duration; processor time by duration / contention."""

    def __init__(self, contention=1.0):
        self.wall = self.cpu = 0.0
        self.contention = contention
        self.log = []

    def clock(self):
        return Clock(lambda: self.wall, lambda: self.cpu)

    def call(self, name, *durations_ms):
        durations = cycle(durations_ms)

        def run():
            seconds = next(durations) / 1000
            self.wall += seconds
            self.cpu += seconds / self.contention
            self.log.append(name)

        return run


def test_steady_call_stops_after_the_fewest_rounds():
    fake = FakeTime()
    rounds = time_call(fake.call("a", 2.0), Protocol(), fake.clock())
    assert rounds.settled
    assert rounds.ms == pytest.approx([2.0] * 5)
    assert len(fake.log) >= 125 + 5 * 25  # 0.25 s of warm-up, five rounds of 50 ms
    assert fake.log.count("a") * 0.002 == pytest.approx(fake.wall)


def test_call_longer_than_a_round_runs_once_per_round():
    fake = FakeTime()
    rounds = time_call(fake.call("a", 400.0), Protocol(), fake.clock())
    assert rounds.ms == pytest.approx([400.0] * 5)
    assert len(fake.log) == 3 + 5  # three windows that agree, five rounds


def test_rare_slow_calls_do_not_move_a_round():
    fake = FakeTime()
    rounds = time_call(fake.call("a", 1.0, 1.0, 1.0, 30.0), Protocol(), fake.clock())
    assert rounds.settled
    assert rounds.ms == pytest.approx([1.0] * 5)


def test_never_settling_call_is_told_after_the_most_rounds():
    fake = FakeTime()
    protocol = Protocol(rounds_max=7)
    rounds = time_call(fake.call("a", *range(60, 160, 7)), protocol, fake.clock())
    assert not rounds.settled
    assert len(rounds.ms) == 7


def test_warm_up_takes_what_is_slow_at_first():
    fake = FakeTime()
    durations = iter([100.0, 80.0, 60.0, 40.0, 20.0] + [10.0] * 1000)

    def run():
        seconds = next(durations) / 1000
        fake.wall += seconds
        fake.cpu += seconds

    rounds = time_call(run, Protocol(), fake.clock())
    assert rounds.settled
    assert rounds.ms == pytest.approx([10.0] * 5)


def test_warm_up_that_never_agrees_ends():
    fake = FakeTime()
    protocol = Protocol(rounds_min=1, rounds_max=1)
    time_call(fake.call("a", 100.0, 50.0), protocol, fake.clock())
    assert 2.0 <= fake.wall <= 2.0 + 2 * 0.15


def test_differences_are_between_neighbours_so_that_a_drift_cancels():
    fake = FakeTime()
    protocol = Protocol(rounds_min=4, rounds_max=4, warmup=0.0, warmup_max=0.0)
    drift = [fake.call(name, *(ms + 2 * i for i in range(100))) for name, ms in (("a", 60.0), ("b", 80.0))]
    rounds = time_call(drift[1], protocol, fake.clock(), minus=drift[0])
    assert "".join(fake.log) == "ab" + "abba" * 2
    assert rounds.ms == pytest.approx([20.0] * 4)
    assert not rounds.settled  # the machine drifts, and it is told


def test_difference_may_be_negative():
    fake = FakeTime()
    rounds = time_call(fake.call("a", 2.0), Protocol(), fake.clock(), minus=fake.call("b", 3.0))
    assert rounds.ms == pytest.approx([-1.0] * 5)
    assert rounds.settled


def test_contention_is_wall_over_processor_time():
    fake = FakeTime(contention=1.25)
    rounds = time_call(fake.call("a", 2.0), Protocol(), fake.clock())
    assert rounds.contention == pytest.approx(1.25)


def test_contention_of_several_threads_is_the_time_that_they_waited_for_a_core():
    fake = FakeTime(contention=0.5)  # two threads run all the time
    clock = replace(fake.clock(), waited=lambda: 0.25 * fake.cpu)
    assert time_call(fake.call("a", 2.0), Protocol(), clock).contention == pytest.approx(1.25)
    quiet = replace(fake.clock(), waited=lambda: 0.0)
    assert time_call(fake.call("a", 2.0), Protocol(), quiet).contention == 1.0


def test_clock_of_several_threads_reads_the_scheduler(monkeypatch, tmp_path):
    assert Clock.of(1) == Clock()
    for thread, text in (("1", "10 2000000000 3"), ("2", "10 500000000 3"), ("3", "")):
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(text)
    (tmp_path / "4").mkdir()  # it has just ended
    monkeypatch.setattr(timer, "_THREADS", tmp_path)
    assert Clock.of(2).waited() == 2.5
    monkeypatch.setattr(timer, "_THREADS", tmp_path / "none")
    assert Clock.of(2).waited() == 0.0


def test_energy_is_per_call_and_of_a_difference():
    fake = FakeTime()
    protocol = Protocol(rounds_min=3, rounds_max=3)
    joules = {"a": 0.5, "b": 0.2}  # each

    def meter():
        return 7.0 + sum(joules[name] for name in fake.log)

    alone = time_call(fake.call("a", 2.0), protocol, fake.clock(), meter=meter)
    assert alone.mj == pytest.approx(500.0)
    less = time_call(fake.call("a", 2.0), protocol, fake.clock(), fake.call("b", 1.0), meter)
    assert less.mj == pytest.approx(300.0)
    assert time_call(fake.call("a", 2.0), protocol, fake.clock()).mj is None


def test_spread_looks_at_the_lower_half_only():
    assert _spread([1.0, 1.0, 1.005, 9.0, 7.0]) == pytest.approx(0.005)
    assert _spread([2.0, 1.0, 9.0]) == pytest.approx(1.0)


def test_defaults_are_the_documented_protocol():
    full = Protocol()
    assert (full.processes, full.warmup, full.warmup_agree, full.round) == (3, 0.25, 0.02, 0.05)
    assert (full.rounds_min, full.rounds_max, full.settled) == (5, 30, 0.01)


def test_any_field_makes_it_another_protocol():
    full = Protocol()
    others = {replace(full, **{part.name: getattr(full, part.name) * 2}).name for part in fields(full)}
    assert len(others | {full.name}) == 10
    assert Protocol(processes=3).name == full.name
