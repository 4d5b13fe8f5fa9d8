"""Certificates of a run: what was asked of samples that nothing had seen, in a ledger that counts the questions.

A question is answered wrongly with probability delta = 1 - confidence at most. Several questions to the same samples
share that (Bonferroni): with m of them, each is decided at delta / m. So a further question makes all others stricter,
and answers that were given before may change; nothing is computed anew for that, as their p-values are recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from pydantic import ValidationError, field_validator

from eesearch.core.costs import Axis
from eesearch.core.design import Value, content_key
from eesearch.core.errors import InputError, PickError, RunError
from eesearch.core.locks import locked
from eesearch.core.paired import Paired
from eesearch.core.policy import Policy
from eesearch.core.store import write_atomic
from eesearch.solve.trust import GAMMA, p_value, passed, smallest_slack
from eesearch.study.answers import SPENT, Answers, DeviceAnswer
from eesearch.study.picks import find_device
from eesearch.study.points import Point
from eesearch.study.rundir import LEDGER, RunDir

log = logging.getLogger(__name__)

DIGITS = 12
"""To which drops and confidences are rounded: 0.7% is the same question as 0.007."""


class Query(Value):
    """One question; equal ones are asked once.

    Attributes:
        source: Content hash of the samples: of the study's certification share, or of a pool.
        device: Whose front.
        front: Key of that front: after a longer search it is another question.
        max_drop: Largest loss of accuracy to the backbone, as a share.
        confidence: That it is kept, between 0 and 1.
        labels: Content hash of the labels that were used of a pool; other labels are another question. Empty: the
            certification share was asked.
    """

    source: str
    device: str
    front: str
    max_drop: float
    confidence: float
    labels: str = ""

    @property
    def asks(self) -> str:
        """What is asked, in words."""
        return "pool" if self.labels else "certification share"

    @field_validator("max_drop", "confidence")
    @classmethod
    def _rounded(cls, number: float) -> float:
        return round(number, DIGITS)


class Candidate(Value):
    """A policy that may be tested.

    Attributes:
        number: Of the point on the front, when it was asked.
        cost: Mean over the backbone's, on calibration.
        selected: Policy and backbone on calibration, where the policy was chosen.
        estimated: The p-value there; it decides on the order only.
        paired: Policy and backbone on the certification samples; None: not tested, as an earlier one failed.
        p: The p-value there.
    """

    number: int
    design: str
    policy: Policy
    cost: float
    selected: Paired
    estimated: float
    paired: Paired | None = None
    p: float | None = None

    def is_of(self, point: Point) -> bool:
        """Whether it is this point of a front."""
        return (point.cal.design, point.cal.policy) == (self.design, self.policy)


class Asked(Value):
    """A question with its tests, which answer it at any level.

    Attributes:
        when: UTC, ISO 8601.
        axis: What the device's front minimises.
        samples: Number of certification samples, n.
        candidates: In the order of testing, from the safest to the cheapest.
    """

    query: Query
    when: str
    axis: Axis
    samples: int
    candidates: tuple[Candidate, ...]

    def tested(self) -> list[Candidate]:
        """The candidates up to the first that failed when it was asked."""
        return [candidate for candidate in self.candidates if candidate.p is not None]

    def passed(self, level: float) -> list[Candidate]:
        """Those that pass at a level, before the first that does not."""
        tested = self.tested()
        return tested[: passed([c.p for c in tested if c.p is not None], level)]

    def chosen(self, level: float) -> Candidate | None:
        """The cheapest that passes; None: none does, which leaves the backbone."""
        return min(self.passed(level), key=lambda candidate: candidate.cost, default=None)


class Ledger(Value):
    """All questions of a run; written as `certificates.json`."""

    version: Literal[1] = 1
    asked: tuple[Asked, ...] = ()

    def find(self, query: Query) -> Asked | None:
        """The question, if it was asked before."""
        return next((asked for asked in self.asked if asked.query == query), None)

    def queries(self, source: str) -> int:
        """How many different questions a source was asked, m."""
        return sum(asked.query.source == source for asked in self.asked)

    def level(self, query: Query, *, further: int = 0) -> float:
        """The level of a question's tests, delta / m.

        Args:
            query: With the confidence 1 - delta.
            further: Number of questions of its source that are not in the ledger yet.
        """
        return (1.0 - query.confidence) / (self.queries(query.source) + further)

    def chosen(self, asked: Asked) -> Candidate | None:
        """What the question is answered now; None: the backbone."""
        return asked.chosen(self.level(asked.query))


@dataclass(frozen=True)
class Certified:
    """The answer to a question, as long as its source is asked no further one.

    Attributes:
        queries: Number of different questions that the source was asked, m.
        level: Of every test, delta / m.
        chosen: The cheapest policy that is certified; None: none is, which leaves the backbone.
        changed: Sentences on earlier answers that are others now.
        recorded: Whether it was asked before.
    """

    asked: Asked
    queries: int
    level: float
    chosen: Candidate | None
    changed: tuple[str, ...] = ()
    recorded: bool = False

    @property
    def smallest(self) -> float:
        """The smallest drop that so many samples can certify, of the safest candidate if it truly loses nothing."""
        safest = self.asked.candidates[0].selected
        return smallest_slack((safest.lost + safest.gained) / safest.samples, self.asked.samples, self.level)

    def __str__(self) -> str:
        known = f"Asked before, on {self.asked.when}: this is what was recorded." if self.recorded else ""
        lines = (self._answer(), self._tests(), self._enough(), self._order(), known, *self.changed)
        return "\n".join(line for line in lines if line)

    def _answer(self) -> str:
        query, chosen = self.asked.query, self.chosen
        promise = f"loses at most {points(query.max_drop)} of accuracy to the backbone on new samples like these"
        sure = f"with {100.0 * query.confidence:.4g} % confidence"
        if chosen is None:
            return (
                f"{query.device}: nothing is certified: of no candidate is it shown {sure} that it {promise}. "
                "What is left is the backbone, at its full cost."
            )
        return (
            f"{query.device}: certified {sure}: point {chosen.number} {promise}. "
            f"It needs {chosen.cost:.3f} x the backbone's {SPENT[self.asked.axis]} (on calibration)."
        )

    def _tests(self) -> str:
        asked, told = self.asked, self.chosen or self.asked.candidates[0]
        delta = 1.0 - asked.query.confidence
        shared = "" if self.queries == 1 else f" = {delta:.3g} / {self.queries} questions to these samples"
        passing = len(asked.passed(self.level))
        failed = " until one failed" if passing < len(asked.tested()) else ""
        words = (
            f"Tested on {asked.samples:,} samples of the {asked.query.asks}: {len(asked.tested())} of "
            f"{len(asked.candidates)} candidates, from the safest to the cheapest{failed}. {passing} passed at level "
            f"{self.level:.3g}{shared}."
        )
        if told.paired is None or told.p is None:
            return words
        lost, gained = told.paired.lost, told.paired.gained
        return f"{words} Point {told.number}: {lost} samples lost, {gained} gained, p = {told.p:.3g}."

    def _enough(self) -> str:
        least = points(self.smallest, digits=3)
        return (
            f"With {self.asked.samples:,} samples at this level, no loss below {least} could be "
            "certified, even of a point that truly loses nothing."
        )

    def _order(self) -> str:
        """That m counts only what was chosen beforehand."""
        return "This holds if the questions were chosen before their answers were seen." if self.queries > 1 else ""


def front_key(device: DeviceAnswer) -> str:
    """Content key of a front: which policies, of which designs, in which order."""
    return content_key(device.device, [(p.cal.design, p.cal.policy.model_dump(mode="json")) for p in device.points])


def read_ledger(run: RunDir) -> Ledger:
    """What the run was asked so far.

    Raises:
        RunError: the file is damaged.
    """
    file = run.path / LEDGER
    try:
        return Ledger.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return Ledger()
    except (ValidationError, OSError) as error:
        raise RunError(
            f"{file} is damaged",
            got=f"{error.error_count()} mistakes in it" if isinstance(error, ValidationError) else error,
            do="Restore it from a copy. Without it nobody knows how often these samples were asked: certify on others.",
        ) from None


def inherit(run: RunDir, others: Iterable[RunDir]) -> None:
    """Write the questions that other runs were asked into a run's ledger: their answers may have led to its designs.

    Raises:
        RunError: a ledger is damaged, or cannot be written.
    """
    found = [asked for other in others for asked in read_ledger(other).asked]
    if not found:
        return
    with locked(run.lock("certificates"), waiting=f"another command certifies in {run.path}; this one waits"):
        own = read_ledger(run).asked
        known = {asked.query: asked for asked in (*found, *own)}
        if len(known) > len(own):
            ledger = Ledger(asked=tuple(sorted(known.values(), key=lambda asked: asked.when)))
            write_atomic(run.path / LEDGER, ledger.model_dump_json(indent=1))


def recorded(run: RunDir, query: Query) -> Certified | None:
    """The answer to a question that was asked before; None: it was not.

    Raises:
        RunError: the ledger is damaged.
    """
    ledger = read_ledger(run)
    asked = ledger.find(query)
    return None if asked is None else _answer(ledger, asked, known=True)


def settle(
    run: RunDir, query: Query, axis: Axis, candidates: Sequence[Candidate], counts: Sequence[Paired]
) -> Certified:
    """Test the candidates in their order, write the question into the ledger, and decide all others again.

    Args:
        run: Whose ledger.
        query: The question; if it was asked before, nothing is tested.
        axis: What the device's front minimises.
        candidates: In the order of testing, at least one. [T]
        counts: Each of them and the backbone on the certification samples. [T]

    Raises:
        InputError: the samples were asked so often that no test can pass any more.
        RunError: the ledger is damaged, or cannot be written.
    """
    with locked(run.lock("certificates"), waiting=f"another command certifies in {run.path}; this one waits"):
        before = read_ledger(run)
        known = before.find(query)
        if known is not None:
            return _answer(before, known, known=True)
        level = before.level(query, further=1)
        _check_level(level, before.queries(query.source))
        tested = _test(candidates, counts, query.max_drop, level)
        asked = Asked(
            query=query,
            when=datetime.now(UTC).isoformat(timespec="seconds"),
            axis=axis,
            samples=counts[0].counts[-1],
            candidates=tuple(tested),
        )
        after = Ledger(asked=(*before.asked, asked))
        write_atomic(run.path / LEDGER, after.model_dump_json(indent=1))
    return _answer(after, asked, changed=_changes(before, after))


def _check_level(level: float, queries: int) -> None:
    if level > GAMMA:
        return
    raise InputError(
        "the confidence leaves no room for a test",
        got=f"level {level:.2g}, shared with {queries} earlier questions to the same samples",
        expected=f"more than {GAMMA}, the smallest p-value",
        do="Ask for less confidence, or certify on other samples: --pool.",
    )


def _test(candidates: Sequence[Candidate], counts: Sequence[Paired], max_drop: float, level: float) -> list[Candidate]:
    """The candidates with their p-values, up to the first that fails; what comes after it is not looked at."""
    tested: list[Candidate] = []
    for candidate, paired in zip(candidates, counts, strict=True):
        p = p_value(paired, max_drop)
        tested.append(candidate.model_copy(update={"paired": paired, "p": p}))
        if p > level:
            break
    return [*tested, *candidates[len(tested) :]]


def _answer(ledger: Ledger, asked: Asked, *, changed: tuple[str, ...] = (), known: bool = False) -> Certified:
    level = ledger.level(asked.query)
    return Certified(asked, ledger.queries(asked.query.source), level, asked.chosen(level), changed, known)


def _changes(before: Ledger, after: Ledger) -> tuple[str, ...]:
    """What a further question changed in earlier answers."""
    sentences = []
    for asked in before.asked:
        old, new = before.chosen(asked), after.chosen(asked)
        if old is None or old == new:
            continue
        now = "the backbone" if new is None else f"point {new.number} at {new.cost:.3f} x the backbone's cost"
        query = asked.query
        sentences.append(
            f"Changed by this question: what is certified for {query.device} to lose at most {points(query.max_drop)} "
            f"(confidence {query.confidence:.4g}, asked on {asked.when}) was point {old.number}; now it is {now}."
        )
    return tuple(sentences)


def certified_point(run: RunDir, answers: Answers, max_drop: float, device: str | None = None) -> Point:
    """The point that is certified to lose at most so much.

    Of several questions that have certified a point which is still there, the one with the highest confidence counts,
    and of equal ones the last, whatever samples it was asked of.

    Args:
        run: With the ledger.
        answers: Of the run.
        max_drop: As it was asked, a share.
        device: On whose front; None: the study's first device.

    Raises:
        PickError: it was not asked; nothing is certified; or the front has lost the point since.
        RunError: the ledger is damaged.
    """
    found = find_device(answers.devices, device)
    ledger = read_ledger(run)
    asked = [a for a in ledger.asked if a.query.device == found.device and a.query.max_drop == round(max_drop, DIGITS)]
    ask = f"eesearch certify {run.path} --max-drop {100.0 * max_drop:g}% --device {found.device}"
    if not asked:
        raise PickError(f"nobody has certified at most {100.0 * max_drop:g}% lost on {found.device}", do=f"Run: {ask}")
    certified = [(a, chosen) for a in asked if (chosen := ledger.chosen(a)) is not None]
    if not certified:
        raise PickError(
            f"no point of {found.device} is certified to lose at most {100.0 * max_drop:g}%",
            got="the backbone itself",
            do="Allow a larger drop, or certify on more samples: --pool.",
        )
    there = [(a, point) for a, chosen in certified for point in found.points if chosen.is_of(point)]
    if not there:
        raise PickError(
            f"the point that was certified on {certified[-1][0].when} is not on the front of {found.device} any more",
            do=f"The search went on since; certify its front: {ask}",
        )
    best, point = max(reversed(there), key=lambda pair: pair[0].query.confidence)
    what = f"point {found.points.index(point)} of {found.device} is certified to lose at most {points(max_drop)}"
    sure = f"{100.0 * best.query.confidence:.4g} % confidence, on {best.samples} samples of the {best.query.asks}"
    log.info("%s with %s (asked on %s)", what, sure, best.when)
    return point


def points(share: float, *, digits: int = 10) -> str:
    """A share of samples in percentage points, in words; by default with all the digits that somebody asked for."""
    number = f"{100.0 * share:.{digits}g}"
    return f"{number} point{'' if number == '1' else 's'}"
