"""How far a search is, in one line: trials, best value, pace, remaining time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic

from eesearch.reporting.formats import duration
from eesearch.study.answers import TrialAnswer
from eesearch.study.question import Budget, Study
from eesearch.study.trial import DRAFT, Finished

PER_MINUTE = 120
"""Faster searches than so many trials per hour are told by the minute."""


@dataclass(frozen=True)
class _Ended:
    """What matters here of a trial that ended."""

    state: str
    value: float | None
    seconds: float
    samples: int

    @classmethod
    def of(cls, trial: TrialAnswer | Finished) -> _Ended:
        if isinstance(trial, TrialAnswer):
            value = trial.value
        else:
            values = trial.outcome.values if trial.outcome else ()
            value = values[0] if len(values) == 1 else None
        return cls(trial.state, value, trial.seconds, trial.samples)


class Standing:
    """Learns of trials, and words where the search stands; whoever ran them, on this machine or another.

    Args:
        budget: Of the study.
        known: Trials of earlier searches in the same run directory.
        trials: How many there are at most; None: as many as the budget allows.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        budget: Budget,
        known: Iterable[TrialAnswer] = (),
        *,
        trials: int | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._budget, self._clock = budget, clock
        self._most = budget.trials if trials is None else trials
        self._ended = {trial.number: _Ended.of(trial) for trial in known}
        self._count = len(self._ended)
        self._last = clock()
        self._since: tuple[float, int, float, float] | None = None

    @classmethod
    def of(cls, study: Study, known: Iterable[TrialAnswer] = ()) -> Standing:
        """Of a study that is searched now."""
        return cls(study.budget, known, trials=study.trials)

    def trial(self, trial: Finished) -> None:
        """A trial of this process ended."""
        self._ended[trial.number] = _Ended.of(trial)
        self._count = max(len(self._ended), trial.ended)  # what others found comes with the next answers
        self._last = self._clock()

    def answers(self, trials: Iterable[TrialAnswer]) -> None:
        """These are all trials that ended so far, those of other processes included."""
        told = list(trials)
        self._ended = {trial.number: _Ended.of(trial) for trial in told}
        self._count = len(self._ended)
        self._last = self._clock()
        drafted = all(trial.origin == DRAFT for trial in told)
        if (
            self._since is None and not drafted
        ):  # the pace is that of what comes behind the bank, which is like no other
            self._since = (self._last, *self._sums())

    def _sums(self) -> tuple[int, float, float]:
        """Trials, their seconds, their samples; those of which only the number is known are like the others."""
        ended, share = self._ended.values(), self._count / max(1, len(self._ended))
        seconds, samples = sum(t.seconds for t in ended), sum(t.samples for t in ended)
        return self._count, seconds * share, samples * share

    def words(self) -> str:
        """`12 of 20 trials (1 failed, 2 stopped early), best 0.4213, 41/h, about 12 min 05 s left`."""
        states = [trial.state for trial in self._ended.values()]
        named = (("failed", "failed"), ("pruned", "stopped early"))
        ill = ", ".join(f"{states.count(state)} {name}" for state, name in named if state in states)
        parts = [f"{self._count} of {self._most} trial{'' if self._most == 1 else 's'}" + (f" ({ill})" if ill else "")]
        values = [trial.value for trial in self._ended.values() if trial.value is not None]
        if values:
            parts.append(f"best {max(values):.4f}")
        pace = self._pace()
        if pace is not None:
            parts.append(_rate_words(3600.0 * pace[0]))
            if self._count < self._most:
                parts.append(f"about {duration(self._left(*pace))} left")
        return ", ".join(parts)

    def _pace(self) -> tuple[float, float, float] | None:
        """Trials, their seconds and samples, per second since the first news; None if too little happened since."""
        if self._since is None:
            return None
        begun, *before = self._since
        gone = self._last - begun
        trials, seconds, samples = (now - then for now, then in zip(self._sums(), before, strict=True))
        return (trials / gone, seconds / gone, samples / gone) if trials > 0 and gone > 0.0 else None

    def _left(self, by_trials: float, at_once: float, by_samples: float) -> float:
        """Seconds until the first budget is spent, at this pace."""
        trials, seconds, samples = self._sums()
        budget, found = self._budget, [(self._most - trials) / by_trials]
        if budget.samples is not None and by_samples > 0.0:
            found.append((budget.samples - samples) / by_samples)
        if budget.timeout is not None:  # time during which trials ran: so many at once
            found.append(budget.timeout - seconds / max(1.0, at_once))
        return max(0.0, min(found) - (self._clock() - self._last))


def _rate_words(per_hour: float) -> str:
    return f"{per_hour / 60.0:.1f}/min" if per_hour > PER_MINUTE else f"{per_hour:.3g}/h"
