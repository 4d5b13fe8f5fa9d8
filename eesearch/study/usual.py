"""Which points are measured again: those that people look at first, or so many that are spread over a front."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from eesearch.core.errors import PickError
from eesearch.study.answers import DeviceAnswer
from eesearch.study.picks import Picked
from eesearch.study.points import Point
from eesearch.study.run import Run
from eesearch.study.strategies import spread

USUAL = 3
"""Points that are verified where nobody says which."""


def wanted_picks(
    run: Run, selections: Sequence[str], *, every: int | None = None, device: str | None = None, naive: bool = False
) -> list[Picked]:
    """The points that selections mean, then so many that are spread over a front; else the `usual_points`.

    Args:
        run: A finished search.
        selections: Such as `knee`.
        every: Number of points that are spread.
        device: Whose front, if the run has one; else its first.
        naive: Whether selections believe the losses on calibration.

    Raises:
        PickError: a selection means no point, or the front has none but the unmodified network.
    """
    known = device if device in {each.device for each in run.answers.devices} else None
    picks = [run.pick(text if "@" in text or known is None else f"{text}@{known}", naive=naive) for text in selections]
    if picks and every is None:
        return picks
    front = run.device(known)
    own = _runnable(front)
    if not own:
        raise PickError(f"the front of {front.device} has no point with early exits", do="Search longer.")
    points = usual_points(front, USUAL) if every is None else spread(own, every)
    return [*picks, *(Picked(front, point) for point in points)]


def usual_points(device: DeviceAnswer, count: int) -> list[Point]:
    """The points that people look at first: the one at no loss, or next to it; the knee; then those far from both."""
    own = _runnable(device)
    if not own:
        return []
    free, knee = device.at_no_loss(), device.front().knee()
    chosen = [free if free in own else min(own, key=device.expected)]
    chosen += [point for point in own if point.cal == knee and point not in chosen]
    while len(chosen) < min(count, len(own)):
        costs = [_scale(device, point) for point in chosen]
        rest = [point for point in own if point not in chosen]
        chosen.append(max(rest, key=lambda p: min(abs(_scale(device, p) - cost) for cost in costs)))
    return chosen[:count]


def _runnable(device: DeviceAnswer) -> list[Point]:
    """Those that run something of their own: neither the backbone nor one that asks the last resort at once."""
    return [p for p in device.points if not device.is_backbone(p) and not p.cal.policy.asks_at_once]


def _scale(device: DeviceAnswer, point: Point) -> float:
    """Where a point lies on a logarithmic axis of costs; what costs nothing lies far to the left."""
    return log(max(device.ratio(point), 1e-9))
