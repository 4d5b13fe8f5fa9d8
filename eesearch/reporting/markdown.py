"""The report as GitHub's Markdown, for issues and notes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from eesearch.reporting.elsewhere import NOTE as ELSEWHERE_NOTE
from eesearch.reporting.elsewhere import TITLE as ELSEWHERE
from eesearch.reporting.elsewhere import elsewhere_rows, elsewhere_sentences
from eesearch.reporting.formats import (
    UNITS,
    cost_words,
    duration,
    further_axes,
    in_unit,
    interval_words,
    percent,
    points_words,
    significant,
    state_words,
    stop_words,
    system_words,
)
from eesearch.reporting.frontdata import front_data, records, rivals
from eesearch.reporting.policies import NAMES
from eesearch.reporting.promises import NOTE, TITLE, free_words, promise_rows, promise_sentences
from eesearch.reporting.rows import trial_rows
from eesearch.reporting.strategies import strategy_rows
from eesearch.reporting.verified import HEAD, summary_words, verified_rows
from eesearch.reporting.verified import NOTE as VERIFIED_NOTE
from eesearch.reporting.verified import TITLE as VERIFIED_TITLE
from eesearch.study.answers import LAST_LOST, Answers, DeviceAnswer
from eesearch.study.front_table import drop_interval
from eesearch.study.points import Point

DROPS = (0.0, 0.005, 0.01, 0.02)
"""Losses on calibration within which methods are compared."""

Cells = Sequence[object]


def markdown_report(answers: Answers) -> str:
    """Verdicts, then per device its front, who there is to compare with and the seeds, then the trials."""
    parts = [f"# {escaped(answers.study)}", "\n".join(f"- {escaped(each)}" for each in answers.verdicts())]
    for device in answers.devices:
        parts += [f"## {escaped(device.device)}", _front(device)]
        parts += [f"### {TITLE}", _promises(device)] if promise_rows(device) else []
        parts += [f"### {VERIFIED_TITLE}", _verified(device)] if device.numbers() else []
        parts += ["### Strategies", _strategies(device)] if rivals(device) else []
        parts += ["### Methods of others", _layers(device)] if device.layers else []
        parts += ["### Seeding rules", _seeds(device)] if device.seeds else []
    parts += [f"## {ELSEWHERE}", _elsewhere(answers)] if answers.elsewhere else []
    parts += ["## Trials", _trials(answers)] if answers.trials else []
    sizes = answers.data.get("sizes", {})
    parts.append(escaped("; ".join(f"{name}: {count} samples" for name, count in sizes.items())))
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(text: object) -> str:
    """Text of foreign origin on one line, with nothing in it that Markdown or HTML would take for its own."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]<>#|$~&])", r"\\\1", line)


def _table(head: Cells, rows: Iterable[Cells], *, left: int) -> str:
    """A table; `left`: how many columns are words, the others are figures. Cells are Markdown already."""
    rule = ["---" if i < left else "--:" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in (head, rule, *rows))


def _front(device: DeviceAnswer) -> str:
    knee = device.front().knee() if device.points else None
    free = device.at_no_loss()
    named = [(f"{n}{_marks(point, knee, free)}", point) for n, point in enumerate(device.points)]
    promised = ["promised"] if device.optimism else []
    head = ["point", "leave at", "accuracy cal", *promised, "accuracy test", "drop", UNITS[device.axis], "ratio"]
    head += [UNITS[axis] for axis in further_axes(device)]
    rows = ([name, *_cells(device, point)] for name, point in [*named, ("**backbone**", device.backbone)])
    note = "Drops are percentage points lost on test"
    note += (
        " (95 % interval of the paired difference)"
        if any(drop_interval(device, point) for point in device.points)
        else ""
    )
    note += "; promised: those to expect on new samples" if promised else ""
    note += "; ratios are over the backbone's mean cost on test. No loss: the cheapest point that "
    note += f"{free_words(device)}."
    note += f" Tiers and links: {escaped(system_words(device))}." if device.system else ""
    return _table(head, rows, left=2) + f"\n\n{note}"


def _marks(point: Point, knee: object, free: Point | None) -> str:
    return (" knee" if point.cal == knee else "") + (" no loss" if point == free else "")


def _cells(device: DeviceAnswer, point: Point) -> list[str]:
    stops = [f"{escaped(s.exit)} ({escaped(s.head)}) {s.share}, {escaped(s.rule)}" for s in stop_words(point.test)]
    promised = [points_words(device.corrected(point))] if device.optimism else []
    further = [cost_words(point.test.costs[axis].mean, axis, unit=False) for axis in further_axes(device)]
    return ["<br>".join(stops), percent(point.cal.accuracy), *promised, *_told(device, point), *further]


def _told(device: DeviceAnswer, point: Point) -> list[str]:
    """Accuracy, drop, cost and ratio on test."""
    drop = points_words(device.backbone.test.accuracy - point.test.accuracy)
    interval = interval_words(drop_interval(device, point))
    drop += f" ({interval})" if interval else ""
    cost = cost_words(point.test.costs[device.axis].mean, device.axis, unit=False)
    return [percent(point.test.accuracy), drop, cost, f"{device.ratio(point):.3f}"]


def _promises(device: DeviceAnswer) -> str:
    """Picks by the drop on calibration beside picks by the drop to expect: in sentences, then in figures."""
    head = ["limit", "pick", "point", "drop on calibration", "promised", "drop on test", "95 %", "ratio"]
    rows = (
        [row.limit, row.rule, row.point, row.calibration, row.promised, row.reported, row.interval, row.ratio]
        for row in promise_rows(device)
    )
    told = "\n".join(f"- {escaped(words)}" for words in promise_sentences(device))
    return f"{told}\n\n{_table(head, rows, left=2)}\n\n{NOTE}"


def _elsewhere(answers: Answers) -> str:
    """What each device picks, and what others' picks would cost there."""
    names = [escaped(device.device) for device in answers.devices]
    head = ["within", "device", "leave at", "point", "ratio", *(f"pick of {name}" for name in names)]
    rows = (
        [row.limit, escaped(row.device), "<br>".join(map(escaped, row.exits)), row.point, row.ratio, *row.others]
        for row in elsewhere_rows(answers)
    )
    told = "\n\n".join(map(escaped, elsewhere_sentences(answers)))
    return f"{told}\n\n{_table(head, rows, left=3)}\n\n{ELSEWHERE_NOTE}"


def _verified(device: DeviceAnswer) -> str:
    """What ran end to end beside its prediction."""
    rows = ([f"**{cell}**" if n == 2 and not row.agrees else cell for n, cell in enumerate(row.cells)]
            for row in verified_rows(device))  # fmt: skip
    note = f"{escaped(summary_words(list(device.numbers().values())))} Bold: further off than noise explains."
    return f"{_table(HEAD, rows, left=1)}\n\n{note} {VERIFIED_NOTE}"


def _layers(device: DeviceAnswer) -> str:
    """The cheapest of each within a loss on calibration."""
    head = ["method", "points", *(f"within {100.0 * drop:g}" for drop in DROPS)]
    ours = [("**this run**", device.points)]
    others = [(escaped(NAMES.get(layer.name, layer.name)), layer.points) for layer in device.layers]
    rows = (
        [name, len(points), *(within_words(device, points, drop) for drop in DROPS)] for name, points in ours + others
    )
    note = (
        "The cheapest within so many percentage points on calibration, and what it does on test: cost over the "
        "backbone's (points lost). No optimism is taken off, the same rule for all of them. The methods see the bank's "
        "exits; this run may have trained further designs."
    )
    return _table(head, rows, left=1) + f"\n\n{note}"


def _strategies(device: DeviceAnswer) -> str:
    """The front of each training strategy in figures, and what training took."""
    head = ["strategy", "designs", "hypervolume cal", "hypervolume test", "cost at no loss on calibration"]
    head += ["drop there", "at half", "last exit", "samples", "forward", "backward"]
    rows = [
        [
            escaped(row.strategy), row.designs, row.volume_cal, row.volume_test, row.ratio, row.drop, row.half,
            f"**{row.change}**" if row.paid else row.change, *("<br>".join(cost) for cost in row.costs),
        ]
        for row in strategy_rows(device)
    ]  # fmt: skip
    note = (
        "A front for each way of training, of its own designs alone; designs: trained to the end, of the trials. At no "
        "loss on calibration: the cheapest point that loses nothing there (no optimism is taken off, the same rule for "
        "all), on test, over the backbone's cost. At half: the accuracy on test of the point that is most accurate on "
        "calibration at half the backbone's cost. Last exit: the worst own classifier of the designs on the front "
        f"against the backbone, in points on calibration; bold: more than {100.0 * LAST_LOST:g} lost. Forward and "
        "backward: samples times segments of the backbone that training ran, of all trials; below, of the design with "
        "the highest value alone."
    )
    return _table(head, rows, left=1) + f"\n\n{note}"


def within_words(device: DeviceAnswer, points: Sequence[Point], drop: float) -> str:
    """The cheapest of these within a drop on calibration, told on test: ratio (drop); `-` if there is none."""
    point = cheapest_within(device, points, drop)
    if point is None:
        return "-"
    return f"{device.ratio(point):.3f} ({points_words(device.backbone.test.accuracy - point.test.accuracy)})"


def cheapest_within(device: DeviceAnswer, points: Sequence[Point], drop: float) -> Point | None:
    """The cheapest on calibration of those that lose at most `drop` there; None if there is none."""
    floor = device.backbone.cal.accuracy - drop - 1e-12
    kept = [point for point in points if point.cal.accuracy >= floor]
    return min(kept, key=lambda point: point.cal.costs[device.axis].mean, default=None)


def _seeds(device: DeviceAnswer) -> str:
    head = ["", "rule", "trained jointly", "value", "accuracy test", UNITS[device.axis], "ratio"]
    rows = [
        [
            row["label"], escaped(row["rule"]), "yes" if row["enqueued"] else "no", f"{row['value']:.3f}",
            percent(row["accuracy"]), significant(in_unit(row["cost"], device.axis), 4), f"{row['ratio']:.3f}",
        ]
        for row in records(front_data(device).seeds)
    ]  # fmt: skip
    return _table(head, rows, left=3)


def _trials(answers: Answers) -> str:
    head = ["trial", "origin", "strategy", "exits", "state", "value", "last exit", "time"]
    rows = [
        [
            trial.number, escaped(trial.origin), escaped(trial.strategy), escaped(", ".join(trial.exits)),
            escaped(trial.error) if trial.error else state_words(trial),
            "" if trial.value is None else f"{trial.value:.4f}", f"**{row.change}**" if row.paid else row.change,
            duration(trial.seconds),
        ]
        for trial, row in zip(answers.trials, trial_rows(answers), strict=True)
    ]  # fmt: skip
    note = (
        "Last exit: calibration accuracy of the design's own classifier against the backbone's, in percentage points; "
        f"bold: more than {100.0 * LAST_LOST:g} lost."
    )
    return _table(head, rows, left=5) + f"\n\n{note}"
