"""Predicted and measured: points that ran end to end, in words, for terminal, page and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from eesearch.reporting.formats import percent, significant
from eesearch.study.answers import DeviceAnswer
from eesearch.study.verified import Verified, summed_up

TITLE = "Predicted, and measured end to end"

HEAD = ("point", "mean ms", "error", "p50 ms", "p95 ms", "speed-up (95 %)", "pred.", "test %", "differ")
"""Titles of the cells of `VerifiedRow`."""

NOTE = (
    "Milliseconds per sample: predicted from measured parts / by the clock, with real early stopping, in blocks that "
    "alternate with the unmodified network; error: of the predicted mean. Speed-up: over that network. Accuracy: of "
    "the network as it ran, on all test samples. Differ: samples answered or stopped otherwise than the front's table "
    "says (in brackets, those next to a threshold)."
)
"""What the columns are."""

RESTLESS = 1.05
"""Contention above which something else ran on the core."""


@dataclass(frozen=True)
class VerifiedRow:
    """A line of the table, in words; `HEAD` has the titles.

    Attributes:
        agrees: Whether the prediction holds within noise.
    """

    point: str
    mean: str
    error: str
    p50: str
    p95: str
    speedup: str
    predicted: str
    accuracy: str
    differing: str
    agrees: bool

    @property
    def cells(self) -> tuple[str, ...]:
        """One per title."""
        measured = (self.point, self.mean, self.error, self.p50, self.p95, self.speedup)
        return (*measured, self.predicted, self.accuracy, self.differing)


def verified_rows(device: DeviceAnswer) -> list[VerifiedRow]:
    """Of the points of a front that ran, by their numbers."""
    return [_row(f"{number}", entry) for number, entry in device.numbers().items()]


def _row(name: str, entry: Verified) -> VerifiedRow:
    low, high = entry.speedup_interval
    pairs = [(getattr(entry.predicted, q), getattr(entry.measured, q)) for q in ("mean", "p50", "p95")]
    mean, p50, p95 = (" / ".join(significant(value, 3) for value in pair) for pair in pairs)
    return VerifiedRow(
        point=name,
        mean=mean,
        error=f"{entry.error:+.1%}",
        p50=p50,
        p95=p95,
        speedup=f"{significant(entry.speedup, 3)} ({significant(low, 3)}..{significant(high, 3)})",
        predicted=significant(1.0 / entry.predicted_ratio, 3),
        accuracy=percent(entry.accuracy).rstrip("%"),
        differing=f"{entry.differing} ({entry.near})",
        agrees=entry.agrees,
    )


def verified_table(entries: Sequence[Verified], names: Sequence[str] | None = None) -> Table:
    """For a terminal, readable at 100 columns.

    Args:
        entries: Of one device, at least one.
        names: Of the points; by default their numbers.
    """
    device, fronts = entries[0].device, {entry.front for entry in entries}
    others = f"; points of {entries[0].front}" if len(fronts) == 1 and device not in fronts else ""
    if others:
        names = [f"{entry.point}" for entry in entries]
    table = Table(title=Text(f"{device}: {TITLE.lower()}{others}"), box=box.SIMPLE_HEAD)
    table.title_justify = table.caption_justify = "left"
    table.collapse_padding = True
    table.caption = Text(f"{summary_words(entries)}\n{NOTE}")
    for title in HEAD:
        table.add_column(title, justify="right", no_wrap=title != "point", overflow="fold")
    for name, entry in zip(names or [_name(entry) for entry in entries], entries, strict=True):
        table.add_row(*map(Text, _row(name, entry).cells))
    return table


def front_verified_table(device: DeviceAnswer) -> Table | None:
    """Of what ran of a front; None: nothing did."""
    found = device.numbers()
    return verified_table(list(found.values()), [f"{number}" for number in found]) if found else None


def _name(entry: Verified) -> str:
    return f"{entry.point}" if entry.front == entry.device else f"{entry.point}@{entry.front}"


def summary_words(entries: Sequence[Verified]) -> str:
    """How well predictions were met, against which noise, and what to think of it."""
    found = summed_up(entries)
    words = (
        f"Predicted mean latency: {found.error:.1%} off in the median of {found.networks}, at most {found.worst:.1%}"
    )
    words += f"; rank correlation {found.spearman:.3f}" if found.spearman is not None else ""
    words += f"; noise floor {found.noise:.1%}."
    timed = sum(entry.samples for entry in entries) / sum(entry.total for entry in entries)
    words += "" if timed == 1.0 else f" {timed:.0%} of the test samples were timed, all were answered."
    if any(entry.contention > RESTLESS for entry in entries):
        words += " Something else ran on the core meanwhile: measure again on a quiet machine."
    far = [entry for entry in entries if not entry.agrees]
    words += f" {len(far)} of {len(entries)} are further off than noise explains." if far else ""
    slower = [_name(entry) for entry in entries if entry.pays == "no"]
    words += f" Slower than the unmodified network by the clock: point {', '.join(slower)}." if slower else ""
    return words


def verified_frame(entries: Sequence[Verified]) -> pd.DataFrame:
    """A row per entry; times in milliseconds per sample, shares as fractions."""
    return pd.DataFrame([_record(entry) for entry in entries])


def _record(entry: Verified) -> dict[str, Any]:
    quantiles = ("mean", "raw_mean", "p50", "p95")
    low, high = entry.speedup_interval
    return {
        "device": entry.device,
        "front": entry.front,
        "point": entry.point,
        **{f"predicted_{q}_ms": getattr(entry.predicted, q) for q in ("mean", "p50", "p95")},
        **{f"measured_{q}_ms": getattr(entry.measured, q) for q in quantiles},
        "error": entry.error,
        "predicted_backbone_ms": entry.predicted_backbone,
        **{f"backbone_{q}_ms": getattr(entry.backbone, q) for q in quantiles},
        "speedup": entry.speedup,
        "speedup_low": low,
        "speedup_high": high,
        "predicted_speedup": 1.0 / entry.predicted_ratio,
        "agrees": entry.agrees,
        "noise": entry.noise,
        "spread": entry.spread,
        "contention": entry.contention,
        "accuracy": entry.accuracy,
        "table_accuracy": entry.table_accuracy,
        "differing": entry.differing,
        "near": entry.near,
        "batch": entry.batch,
        "samples": entry.samples,
        "total": entry.total,
        "calls": entry.calls,
        "blocks": entry.blocks,
        "processes": entry.processes,
    }
