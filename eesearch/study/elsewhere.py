"""What the picks of one device cost on the others: whether the best exits change with the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eesearch.study.answers import DeviceAnswer
from eesearch.study.points import PickElsewhere, Point

LIMITS = (0.0, 0.005, 0.01, 0.02)
"""Largest drops within which picks are made."""

Price = Callable[[Point, str], float | None]
"""`(point, device)` -> its mean cost on test there, over the backbone's; None if that cannot be told."""


def picks_elsewhere(devices: Sequence[DeviceAnswer], price: Price) -> tuple[PickElsewhere, ...]:
    """The picks of every device, priced on all of them; () where there is one device only.

    Devices whose front keeps no constraint, or has nothing within a limit, pick nothing.

    Args:
        devices: Of one run.
        price: On a device that did not pick the point.
    """
    if len(devices) < 2:
        return ()
    found: list[PickElsewhere] = []
    known: dict[tuple[str, int], dict[str, float]] = {}  # one point is often the pick within several limits
    for limit in LIMITS:
        for device in devices:
            point = None if device.broken else device.within(limit)
            if point is None:
                continue
            number = device.points.index(point)
            if (device.device, number) not in known:
                known[device.device, number] = _ratios(device, point, devices, price)
            ratios = known[device.device, number]
            found.append(PickElsewhere(limit=limit, device=device.device, point=number, ratios=ratios))
    return tuple(found)


def _ratios(own: DeviceAnswer, point: Point, devices: Sequence[DeviceAnswer], price: Price) -> dict[str, float]:
    ratios = {d.device: own.ratio(point) if d is own else price(point, d.device) for d in devices}
    return {device: ratio for device, ratio in ratios.items() if ratio is not None}
