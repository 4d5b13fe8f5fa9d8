"""Selections: which point of a front a person means. Picks read calibration only, never test.

Drops are those to expect on new samples: the one on calibration, corrected for having been chosen there. A naive pick
believes calibration.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, NamedTuple, cast, get_args

from eesearch.core.errors import PickError
from eesearch.study.answers import SPENT, DeviceAnswer
from eesearch.study.points import Point
from eesearch.study.units import LARGEST_BARE_SHARE

SYNTAX = "knee | point=N | max-drop=0.5% | certified=1% | budget-ms=X, each with an optional @device"

At = Literal["mean", "p95", "worst"]


class Picked(NamedTuple):
    """A point with the device on whose front it lies; unpacks as `device, point`."""

    device: DeviceAnswer
    point: Point

    @property
    def number(self) -> int:
        """The point's number on the front."""
        return self.device.points.index(self.point)

    def __repr__(self) -> str:
        lost = 100.0 * (self.device.backbone.test.accuracy - self.point.test.accuracy)
        return (
            f"Picked(point {self.number} on {self.device.device}: {self.device.ratio(self.point):.3f} x the backbone's "
            f"{SPENT[self.device.axis]}, accuracy on test {self.point.test.accuracy:.2%}, {lost:+.2f} points lost)"
        )


@dataclass(frozen=True)
class Pick:
    """A parsed selection.

    Attributes:
        rule: `knee`, `point`, `max-drop`, `certified`, `budget-ms`.
        amount: The number behind the rule; a drop as a fraction.
        device: None: the study's first device.
    """

    rule: str
    amount: float
    device: str | None

    @classmethod
    def parse(cls, text: str) -> Pick:
        """Read `knee`, `point=3`, `max-drop=0.5%`, `budget-ms=2.5@cpu:eager:t1:b1`.

        Raises:
            PickError: it is written otherwise.
        """
        rule, _, device = text.partition("@")
        match = re.fullmatch(
            r"(knee)|(point)=(\d+)|(max-drop|certified)=([\d.eE-]+%?)|(budget-ms)=([\d.eE-]+)", rule.strip()
        )
        if match is None:
            raise PickError(f"'{text}' is no selection", expected=SYNTAX)
        name, number = [*(part for part in match.groups() if part is not None), "0"][:2]
        try:
            amount = float(number.rstrip("%")) * (0.01 if number.endswith("%") else 1.0)
        except ValueError:
            raise PickError(f"'{number}' in '{text}' is no number", expected=SYNTAX) from None
        if amount < 0.0:
            raise PickError(f"'{text}' is below zero", expected=SYNTAX)
        if name in ("max-drop", "certified") and not number.endswith("%") and amount > LARGEST_BARE_SHARE:
            raise PickError(
                f"a drop of {number} would be {amount:.0%}", expected=f"{number}%, or a fraction such as 0.005"
            )
        return cls(name, amount, device or None)

    @classmethod
    def by_rule(
        cls,
        *,
        max_drop: float | str | None = None,
        budget_ms: float | None = None,
        knee: bool = False,
        point: int | None = None,
        device: str | None = None,
    ) -> Pick:
        """The same by keywords: exactly one rule.

        Raises:
            PickError: none or several are given, or one is out of range.
        """
        given = {"max-drop": max_drop, "budget-ms": budget_ms, "knee": knee or None, "point": point}
        rules = {rule: amount for rule, amount in given.items() if amount is not None}
        if len(rules) != 1:
            raise PickError(
                "a pick needs one rule", got=", ".join(rules) or "none", expected="max_drop, budget_ms, knee or point"
            )
        ((rule, amount),) = rules.items()
        parsed = cls.parse(rule if rule == "knee" else f"{rule}={amount}")
        return cls(parsed.rule, parsed.amount, device)

    def choose(self, devices: Sequence[DeviceAnswer], *, naive: bool = False) -> Picked:
        """The device and the point that are meant.

        Args:
            devices: Of a run; what is certified is known to the run alone, see `Run.pick`.
            naive: Believe the drops on calibration.

        Raises:
            PickError: there is no such device or point, or nothing on the front satisfies the rule.
        """
        device = find_device(devices, self.device)
        return Picked(device, self._point(device, naive=naive))

    def _point(self, device: DeviceAnswer, *, naive: bool) -> Point:
        if not device.points:
            raise PickError(f"the front of {device.device} has no points yet", do="Search until a trial is done.")
        if self.rule == "point":
            if self.amount >= len(device.points):
                raise PickError(
                    f"the front of {device.device} has no point {self.amount:.0f}",
                    expected=f"0 to {len(device.points) - 1}",
                )
            return device.points[int(self.amount)]
        if self.rule == "knee":
            knee = device.front().knee()
            return next(p for p in device.points if p.cal == knee)
        if self.rule == "certified":
            raise PickError("certificates are in the run directory", do="Use Run.pick, or --pick on the command line.")
        if self.rule == "max-drop":
            return _within_drop(device, self.amount, naive=naive)
        fitting = [p for p in device.points if _latency(device, p, "mean") <= self.amount]
        if not fitting:
            raise PickError(
                f"no point of {device.device} needs at most {self.amount} ms",
                got=f"the cheapest needs {_latency(device, device.points[0], 'mean'):.4g} ms",
            )
        return min(fitting, key=lambda p: device.expected(p, naive=naive))


def find_device(devices: Sequence[DeviceAnswer], name: str | None) -> DeviceAnswer:
    """The device of that name; the study's first if none is named.

    Raises:
        PickError: there is none.
    """
    found = [d for d in devices if name in (None, d.device)]
    if not found:
        raise PickError(f"the run has no device {name}", expected=f"one of {', '.join(d.device for d in devices)}")
    return found[0]


def _within_drop(device: DeviceAnswer, drop: float, *, naive: bool) -> Point:
    """The cheapest point within a drop from the backbone's accuracy."""
    found = device.within(drop, naive=naive)
    if found is not None:
        return found
    costly = device.qualifying(drop, naive=naive)
    if costly is not None:
        raise PickError(
            f"no point of {device.device} that is expected to lose at most {drop:.2%} is cheaper than the backbone",
            got=f"the cheapest one needs {device.ratio(costly):.2f} x the backbone's {SPENT[device.axis]}",
            do="Keep the backbone as it is, allow a larger drop, or search longer.",
        )
    best = min(device.points, key=lambda p: device.expected(p, naive=naive))
    on_calibration = f"{device.drop(best):.2%} on calibration"
    if naive:
        raise PickError(
            f"no point of {device.device} loses at most {drop:.2%} on calibration",
            got=f"the best one loses {on_calibration}",
            do="Search longer, or allow a larger drop.",
        )
    samples, known = best.cal.samples, device.within(drop, naive=True) is not None
    raise PickError(
        f"no point of {device.device} is expected to lose at most {drop:.2%} on new samples",
        got=f"the best one loses {on_calibration} and is expected to lose {device.corrected(best):.2%}: it was chosen "
        f"on only {samples:,} samples",
        do="Allow a larger drop, calibrate on more samples"
        + (", or believe calibration with --naive (naive=True)." if known else ", or search longer."),
    )


def _latency(device: DeviceAnswer, point: Point, at: At) -> float:
    if "latency_ms" not in point.cal.costs:
        raise PickError(
            f"{device.device} has no latencies", got="a budget in ms", do="Name a measured device: budget-ms=X@DEVICE."
        )
    return float(getattr(point.cal.costs["latency_ms"], at))


@dataclass(frozen=True)
class Wanted:
    """Constraints on the points of a front.

    Attributes:
        max_drop: Largest loss of accuracy against the backbone, as a fraction; None: any.
        budget_ms: Largest calibration latency; None: any.
        at: Which latency.
        naive: Believe the drops on calibration.
    """

    max_drop: float | None
    budget_ms: float | None
    at: At
    naive: bool = False

    @classmethod
    def parse(cls, *, max_drop: str | None, budget_ms: float | None, at: str, naive: bool = False) -> Wanted:
        """Read a drop such as `0.5%`.

        Raises:
            PickError: it is written otherwise.
        """
        drop = Pick.parse(f"max-drop={max_drop}").amount if max_drop is not None else None
        if at not in get_args(At):
            raise PickError(f"there is no latency '{at}'", expected=" | ".join(get_args(At)))
        return cls(drop, budget_ms, cast(At, at), naive)


def chosen_points(device: DeviceAnswer, wanted: Wanted) -> list[int]:
    """Numbers of the points that keep the constraints.

    Raises:
        PickError: none does.
    """
    most = inf if wanted.max_drop is None else wanted.max_drop + 1e-12
    fitting = [p for p in device.points if device.expected(p, naive=wanted.naive) <= most]
    if wanted.budget_ms is not None:
        fitting = [p for p in fitting if _latency(device, p, wanted.at) <= wanted.budget_ms]
    if not fitting:
        raise PickError(f"no point of {device.device} keeps these constraints", do="Allow more, or search longer.")
    return [number for number, point in enumerate(device.points) if point in fitting]
