"""From the rounds of several processes to figures; the standard library only, for it travels with the device kit."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from statistics import fmean, median
from typing import Any

from eesearch.costs.timer import Protocol, Rounds


def figures(processes: Sequence[Rounds]) -> dict[str, Any]:
    """The fields of a `Timing` from a figure's rounds in all processes; a negative difference becomes 0, and noisy."""
    estimate = median(median(rounds.ms) for rounds in processes)
    ordered = sorted(ms for rounds in processes for ms in rounds.ms)
    return {
        "ms": max(0.0, estimate),
        "min": ordered[0],
        **{f"p{level}": percentile(ordered, level) for level in (10, 50, 90, 95, 99)},
        "rounds": len(ordered),
        "contention": max(rounds.contention for rounds in processes),
        "noisy": estimate < 0 or not all(rounds.settled for rounds in processes),
    }


def percentile(ordered: Sequence[float], level: float) -> float:
    """Of rising values, in proportion between two of them."""
    place = (len(ordered) - 1) * level / 100.0
    low = floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def noise_between(figures: Sequence[Sequence[Rounds]], protocol: Protocol) -> float:
    """Relative spread between processes, the median over figures; at least the protocol's floor.

    Args:
        figures: The rounds in all processes of each figure that is no difference.
        protocol: Under which they were measured.
    """
    medians = [[median(rounds.ms) for rounds in processes] for processes in figures]
    spreads = [(max(each) - min(each)) / median(each) for each in medians]
    return max(protocol.floor, median(spreads)) if spreads else protocol.floor


def never_decreasing(values: Sequence[float]) -> list[float]:
    """The non-decreasing sequence next to what was measured: a longer prefix cannot be faster, noise can.

    Isotonic regression: neighbours in the wrong order share their mean.
    """
    blocks: list[list[float]] = []
    for value in values:
        blocks.append([value])
        while len(blocks) > 1 and fmean(blocks[-2]) > fmean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    return [fmean(block) for block in blocks for _ in block]
