"""Whole configurations as texts to hover over.

Plotly shows such texts as a dialect of HTML, so they are escaped here, where they are made.
"""

from __future__ import annotations

from html import escape

from eesearch.core.costs import FOLDS
from eesearch.core.front import Evaluation, exit_name
from eesearch.reporting.formats import (
    cost_words,
    head_words,
    interval_words,
    last_words,
    note_words,
    percent,
    points_words,
    stop_words,
)
from eesearch.study.answers import DeviceAnswer
from eesearch.study.front_table import drop_interval
from eesearch.study.points import OracleAnswer, Point


def point_hover(device: DeviceAnswer, point: Point, title: str, *, chosen: bool = False) -> str:
    """The whole configuration of a point: where samples leave and when, what it answers and costs. Escaped.

    Args:
        device: Whose point.
        point: On its front, or beside it.
        title: The first line.
        chosen: It is on the front: only for those is known what to expect on new samples.
    """
    lines = [f"<b>{escape(title)}</b>", escape(made_words(point.test))]
    lines += [escape(f"{s.share} leave at {s.exit}, {s.head} ({s.rule})") for s in stop_words(point.test)]
    drop = points_words(device.backbone.test.accuracy - point.test.accuracy)
    interval = interval_words(drop_interval(device, point))
    drop += f" points, 95 % {interval}" if interval else " points"
    lines.append(f"accuracy {percent(point.test.accuracy)} on test (drop {drop})")
    told = f"accuracy {percent(point.cal.accuracy)} on calibration"
    if chosen and device.optimism:
        told += f" (drop {points_words(device.drop(point))} points, {points_words(device.corrected(point))} promised)"
    lines.append(told)
    for axis, cost in point.test.costs.items():
        if FOLDS[axis] != "mean":
            lines.append(f"{cost_words(cost.worst, axis)} deployed")
            continue
        ratio = cost.mean / device.backbone.test.costs[axis].mean
        spread = f"p95 {cost_words(cost.p95, axis, unit=False)}, worst {cost_words(cost.worst, axis, unit=False)}"
        lines.append(f"{cost_words(cost.mean, axis)} on average, {ratio:.2f} x backbone ({spread})")
    lines += [escape(f"{name}: {words}") for name, words in design_facts(device, point.test.design)]
    return "<br>".join(lines)


def design_facts(device: DeviceAnswer, design: str) -> list[tuple[str, str]]:
    """What is known of a design beside its points: its last exit against the backbone, what its strategy tells."""
    facts = device.designs.get(design)
    if facts is None:
        return []
    last = facts.last_accuracy
    own = [] if last is None else [("own classifier", last_words(last, device.backbone.cal.accuracy))]
    return [*own, *note_words(facts.notes)]


def oracle_hover(device: DeviceAnswer, point: OracleAnswer) -> str:
    """Where the samples of an oracle leave. Escaped."""
    lines = ["<b>Stable oracle: an ideal, computed on test</b>"]
    for exit_, rate in zip(point.exits, point.exit_rate, strict=True):
        lines.append(escape(f"{rate:.1%} leave at {exit_name(exit_)}, {head_words(exit_)}"))
    ratio = point.cost / device.backbone.test.costs[device.axis].mean
    lines.append(f"accuracy {percent(1.0 - point.error)} on test")
    lines.append(f"{cost_words(point.cost, device.axis)} on average, {ratio:.2f} x backbone")
    return "<br>".join(lines)


def made_words(evaluation: Evaluation) -> str:
    """How a point's network was made, and what decides in it."""
    design = f", design {evaluation.design}" if evaluation.design else ""
    return f"{evaluation.strategy}, criterion {evaluation.policy.decision}{design}"
