"""How figures are worded for people, the same in the terminal, the plots and the page.

Everything here is plain text: who writes a page or markup escapes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, inf, log10

from eesearch.core.costs import Axis
from eesearch.core.design import ExitId
from eesearch.core.front import Evaluation, exit_name
from eesearch.study.answers import DeviceAnswer, TrialAnswer

AXIS_TITLES: dict[Axis, str] = {
    "macs": "Mean cost (M MACs)",
    "latency_ms": "Mean latency (ms)",
    "energy_mj": "Mean energy (mJ)",
    "bytes": "Mean traffic (kB)",
    "params": "Mean parameters (M)",
    "peak_bytes": "Mean peak memory (kB)",
}
"""Axis titles of plots, with units."""

ACCURACY_TITLE = "Accuracy (%, with 95 % interval)"

RATIO_TITLE = "Mean cost on test (x backbone)"
"""Of an axis of costs over the backbone's."""

TEST_TITLE = "Accuracy on test (%)"

UNITS: dict[Axis, str] = {
    "macs": "M MACs",
    "latency_ms": "ms",
    "energy_mj": "mJ",
    "bytes": "kB",
    "params": "M parameters",
    "peak_bytes": "kB at the peak",
}
"""Units of what `in_unit` returns."""

_SCALES: dict[Axis, float] = {"macs": 1e6, "bytes": 1e3, "params": 1e6, "peak_bytes": 1e3}

_GAP = {"soft accuracy", "hard accuracy", "soft cost", "hard cost"}
"""What `gated` tells about its designs: gates that mix while they are trained, and decide afterwards (eq. 9)."""

_COUNTED: tuple[Axis, ...] = ("macs", "bytes", "params", "peak_bytes")


@dataclass(frozen=True)
class StopWords:
    """One stop of a policy in words.

    Attributes:
        exit: Its cut.
        head: Its head; `own classifier` for the network's own, `asked` for a last resort.
        share: Share of the samples that leaves here.
        rule: When a sample leaves.
    """

    exit: str
    head: str
    share: str
    rule: str


def in_unit(cost: float, axis: Axis) -> float:
    """A cost in the unit of its axis, see `UNITS`."""
    return cost / _SCALES.get(axis, 1.0)


def cost_words(cost: float, axis: Axis, *, unit: bool = True) -> str:
    """A cost with its unit: counted ones to four digits, measured ones to three, which is what timers are good for."""
    words = significant(in_unit(cost, axis), 4 if axis in _COUNTED else 3)
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


def interval_words(interval: tuple[float, float] | None) -> str:
    """An interval of such a difference, such as `-0.10 to +0.54`; nothing where there is none."""
    return "" if interval is None else " to ".join(points_words(end) for end in interval)


def short_interval(interval: tuple[float, float] | None) -> str:
    """The same where there is little room, to a tenth of a point: `-0.1..+0.5`."""
    return "" if interval is None else "..".join(f"{round(100.0 * end, 1) + 0.0:+.1f}" for end in interval)


def duration(seconds: float) -> str:
    """Wall time, such as `0.4 s`, `3 min 05 s`, `1 h 02 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def count_words(count: int) -> str:
    """A number of anything to three digits, such as `940`, `12.5 k`, `1.80 M`."""
    scale, unit = next(((s, u) for s, u in ((1e9, " G"), (1e6, " M"), (1e3, " k")) if count >= s), (1.0, ""))
    return f"{significant(count / scale, 3)}{unit}" if unit else f"{count}"


def last_words(accuracy: float, backbone: float) -> str:
    """A design's own last classifier on calibration, and how far it is from the backbone's accuracy there."""
    change = round(100.0 * (accuracy - backbone), 2)
    words = f"{abs(change):.2f} points {'below' if change < 0 else 'above'}" if change else "equal to"
    return f"{percent(accuracy)} on calibration, {words} the backbone"


def note_words(notes: Mapping[str, float]) -> list[tuple[str, str]]:
    """Figures that a strategy tells about a design; the soft-hard gap in one line, others as they are."""
    if not notes.keys() >= _GAP:
        return [(name, significant(value, 4)) for name, value in notes.items()]
    soft, hard = ((notes[f"{kind} accuracy"], notes[f"{kind} cost"]) for kind in ("soft", "hard"))
    words = (
        f"{points_words(hard[0] - soft[0])} points, {hard[1] - soft[1]:+.3f} x backbone: as trained, with soft gates, "
        f"{percent(soft[0])} at {soft[1]:.3f} x; with hard ones {percent(hard[0])} at {hard[1]:.3f} x"
    )
    others = {name: value for name, value in notes.items() if name not in _GAP}
    return [("soft-hard gap", words), *note_words(others)]


def further_axes(device: DeviceAnswer) -> tuple[Axis, ...]:
    """Axes to tell of beside a system's own: what a sample takes, sends, and costs the first tier's battery."""
    told: tuple[Axis, ...] = ("latency_ms", "bytes", "energy_mj") if device.system else ()
    return tuple(axis for axis in told if axis != device.axis and axis in device.backbone.test.costs)


def system_words(device: DeviceAnswer) -> str:
    """The tiers and links of a system; nothing for a device."""
    return "; ".join(f"{name}: {words}" for name, words in device.system.items())


def state_words(trial: TrialAnswer) -> str:
    """How a trial ended: `complete`, `failed`, or `stopped early, after 2 epochs`."""
    if trial.state != "pruned":
        return trial.state
    after = "" if trial.epochs is None else f", after {trial.epochs} epoch{'' if trial.epochs == 1 else 's'}"
    return f"stopped early{after}"


def head_words(exit_id: ExitId) -> str:
    """What answers at an exit: its head, the network's own classifier, or whoever is asked as a last resort."""
    if exit_id.is_last_resort:
        return "asked"
    if exit_id.is_none:
        return "nothing said"
    return "own classifier" if exit_id.is_output else exit_id.head


def stop_words(evaluation: Evaluation) -> list[StopWords]:
    """The stops of the policy, in order, with what they do on the evaluation's split."""
    decision = evaluation.policy.decision
    return [
        StopWords(
            exit=exit_name(stop.exit),
            head=head_words(stop.exit),
            share=f"{rate:.1%}",
            rule={inf: "never", -inf: "always"}.get(stop.threshold, f"{decision} ≥ {stop.threshold:.4g}"),
        )
        for stop, rate in zip(evaluation.policy.stops, evaluation.exit_rate, strict=True)
    ]
