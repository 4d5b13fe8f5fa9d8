"""How figures are worded for people, the same in the terminal, the plots and the page.

Everything here is plain text: who writes a page or markup escapes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, inf, log10

from eesearch.core.costs import Axis
from eesearch.core.front import Evaluation, exit_name

AXIS_TITLES: dict[Axis, str] = {"macs": "Mean cost (M MACs)", "latency_ms": "Mean latency (ms)"}
"""Axis titles of plots, with units."""

ACCURACY_TITLE = "Accuracy (%, with 95 % interval)"

UNITS: dict[Axis, str] = {"macs": "M MACs", "latency_ms": "ms"}
"""Units of what `in_unit` returns."""


@dataclass(frozen=True)
class StopWords:
    """One stop of a policy in words.

    Attributes:
        exit: Its cut.
        head: Its head; `own classifier` for the network's own.
        share: Share of the samples that leaves here.
        rule: When a sample leaves.
    """

    exit: str
    head: str
    share: str
    rule: str


def in_unit(cost: float, axis: Axis) -> float:
    """A cost in the unit of its axis: millions of multiply-adds, or milliseconds."""
    return cost / 1e6 if axis == "macs" else cost


def cost_words(cost: float, axis: Axis, *, unit: bool = True) -> str:
    """A cost with its unit: counted ones to four digits, measured ones to three, which is what timers are good for."""
    words = significant(in_unit(cost, axis), 4 if axis == "macs" else 3)
    return f"{words} {UNITS[axis]}" if unit else words


def significant(value: float, digits: int) -> str:
    """Rounded to so many significant digits, without an exponent; whole digits are never dropped."""
    decimals = digits if value == 0.0 else max(0, digits - 1 - floor(log10(abs(value))))
    return f"{value:,.{decimals}f}"


def percent(share: float) -> str:
    """A share of 0..1 as a percentage, such as `93.12%`."""
    return f"{share:.2%}"


def points_words(difference: float) -> str:
    """A difference of two accuracies in percentage points, signed, such as `+0.31`."""
    rounded = round(100.0 * difference, 2)
    return f"{rounded:+.2f}" if rounded else "0.00"


def duration(seconds: float) -> str:
    """Wall time, such as `0.4 s`, `3 min 05 s`, `1 h 02 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def stop_words(evaluation: Evaluation) -> list[StopWords]:
    """The stops of the policy, in order, with what they do on the evaluation's split."""
    criterion = evaluation.policy.criterion
    return [
        StopWords(
            exit=exit_name(stop.exit),
            head="own classifier" if stop.exit.is_output else stop.exit.head,
            share=f"{rate:.1%}",
            rule={inf: "never", -inf: "always"}.get(stop.threshold, f"{criterion} ≥ {stop.threshold:.4g}"),
        )
        for stop, rate in zip(evaluation.policy.stops, evaluation.exit_rate, strict=True)
    ]
