"""The designs that were tried, side by side: parallel coordinates, a line per trial that was not a failure.

Drawn as a scatter plot: plotly's own parallel coordinates need WebGL and compile code, which the page's
Content-Security-Policy forbids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from eesearch.reporting.figures import INK, Style
from eesearch.reporting.formats import duration, note_words, points_words, significant, state_words
from eesearch.reporting.layers import Trace, named
from eesearch.reporting.plots import page_layout
from eesearch.reporting.progress import FEWEST, Figure
from eesearch.study.answers import Answers, TrialAnswer

MOST_CUTS = 8
"""Axes for the weights of exits: of the cuts that most trials place an exit at."""

LONGEST_TITLE = 18
"""Characters of an axis' title; the middle of a longer one is left out."""

_PLAIN = Style(INK, "o", "circle")


@dataclass(frozen=True)
class Dimension:
    """An upright axis.

    Attributes:
        title: What it measures.
        values: Of each trial; None where it has none: its line is broken there. [T]
        words: How a value is told.
    """

    title: str
    values: list[float | None]
    words: Callable[[float], str]

    @property
    def known(self) -> list[float]:
        """The values that there are."""
        return [value for value in self.values if value is not None]

    def height(self, value: float | None) -> float | None:
        """Where a value is on the axis, 0..1; in the middle if all are the same."""
        low, high = min(self.known), max(self.known)
        return None if value is None else 0.5 if low == high else (value - low) / (high - low)


def designs_plot(answers: Answers, styles: dict[str, Style]) -> Figure | None:
    """The figure; `trials` has the line of each. None if there are fewer than two complete trials."""
    trials = [trial for trial in answers.trials if trial.state != "failed" and trial.exits]
    if sum(trial.state == "complete" for trial in trials) < FEWEST:
        return None
    backbone = answers.devices[0].backbone.cal.accuracy if answers.devices else None
    dimensions = [dimension for dimension in _dimensions(trials, backbone) if dimension.known]
    lines = [
        _line(trial, dimensions, t) | {"colour": styles.get(trial.strategy, _PLAIN).colour}
        for t, trial in enumerate(trials)
    ]
    kinds = [(strategy, stopped) for strategy in _strategies(trials, styles) for stopped in (False, True)]
    traces = [_trace(trials, lines, kind, styles) for kind in kinds if kind in map(_kind, trials)]
    return {
        "data": [*traces, _chosen_trace()],
        "layout": _layout(dimensions),
        "trials": lines,
        "best": max(range(len(trials)), key=lambda t: -9.0 if (value := trials[t].value) is None else value),
    }


def _strategies(trials: Sequence[TrialAnswer], styles: dict[str, Style]) -> list[str]:
    order = list(styles)
    found = {trial.strategy for trial in trials}
    return sorted(found, key=lambda name: (order.index(name) if name in order else len(order), name))


def _dimensions(trials: Sequence[TrialAnswer], backbone: float | None) -> list[Dimension]:
    weights = [_weights(trial) for trial in trials]
    common = {cut for cut, _ in Counter(cut for weight in weights for cut in weight).most_common(MOST_CUTS)}
    longest_first = sorted(weights, key=len, reverse=True)
    cuts = [cut for cut in dict.fromkeys(cut for weight in longest_first for cut in weight) if cut in common]
    return [
        Dimension("exits", [float(len(trial.exits)) for trial in trials], lambda v: f"{v:g}"),
        *(Dimension(f"alpha {cut}", [w.get(cut, 0.0) for w in weights], lambda v: f"{v:.3g}") for cut in cuts),
        Dimension("last exit", [_change(trial, backbone) for trial in trials], lambda v: f"{points_words(v)} points"),
        Dimension("value", [trial.value for trial in trials], lambda v: significant(v, 3)),
        Dimension("time", [trial.seconds for trial in trials], duration),
    ]


def _change(trial: TrialAnswer, backbone: float | None) -> float | None:
    """Of its own last classifier, against the backbone; as a share."""
    return None if trial.last_accuracy is None or backbone is None else trial.last_accuracy - backbone


def _weights(trial: TrialAnswer) -> dict[str, float]:
    """The weight of the loss at each cut, the largest where a cut has several heads; {} in answers of older runs."""
    weights: dict[str, float] = {}
    for name, alpha in zip(trial.exits, trial.alphas, strict=False):
        cut = name.rpartition(":")[0]
        weights[cut] = max(alpha, weights.get(cut, 0.0))
    return weights


def _line(trial: TrialAnswer, dimensions: Sequence[Dimension], row: int) -> dict[str, Any]:
    told = [(d.title, d.words(value)) for d in dimensions if (value := d.values[row]) is not None]
    told += note_words(trial.notes)
    ending = "" if trial.state == "complete" else f", {state_words(trial)}"
    title = f"<b>Trial {trial.number}, {escape(trial.strategy)}, from {escape(trial.origin)}{ending}</b>"
    return {
        "number": trial.number,
        "y": [dimension.height(dimension.values[row]) for dimension in dimensions],
        "hover": "<br>".join([title, *(escape(f"{name}: {words}") for name, words in told)]),
    }


def _kind(trial: TrialAnswer) -> tuple[str, bool]:
    """Its strategy, and whether it was stopped early."""
    return trial.strategy, trial.state == "pruned"


def _trace(
    trials: Sequence[TrialAnswer], lines: Sequence[dict[str, Any]], kind: tuple[str, bool], styles: dict[str, Style]
) -> Trace:
    """One trace for all trials of a kind; a gap after each."""
    strategy, stopped = kind
    own = [t for t, trial in enumerate(trials) if _kind(trial) == kind]
    style = styles.get(strategy, _PLAIN)
    return named(f"{strategy}, stopped early" if stopped else strategy, "designs") | {
        "x": [x for t in own for x in (*range(len(lines[t]["y"])), None)],
        "y": [y for t in own for y in (*lines[t]["y"], None)],
        "customdata": [t for t in own for _ in (*lines[t]["y"], None)],
        "mode": "lines+markers",
        "line": {"color": style.colour, "width": 1.2, "dash": "dot" if stopped else style.plotly_dash},
        "marker": {"symbol": style.symbol, "size": 6},
        "opacity": 0.8,
        "hovertext": [lines[t]["hover"] for t in own for _ in (*lines[t]["y"], None)],
        "hoverinfo": "text",
    }


def _chosen_trace() -> Trace:
    """The trial that is pointed at or chosen; the page fills it."""
    return named("chosen trial", "chosen") | {
        "x": [], "y": [], "mode": "lines", "line": {"color": INK, "width": 4}, "hoverinfo": "skip",
    }  # fmt: skip


def _layout(dimensions: Sequence[Dimension]) -> Figure:
    upright = {"type": "line", "y0": 0, "y1": 1, "layer": "below", "line": {"color": INK, "width": 1}}
    none = {"visible": False, "fixedrange": True}
    return page_layout(
        340,
        {"t": 8, "r": 8, "b": 8, "l": 8},
        xaxis=none | {"range": [-0.5, len(dimensions) - 0.5]},
        yaxis=none | {"range": [-0.16, 1.28]},
        shapes=[upright | {"x0": x, "x1": x} for x in range(len(dimensions))],
        annotations=[note for x, dimension in enumerate(dimensions) for note in _notes(x, dimension)],
    )


def _notes(x: int, dimension: Dimension) -> list[dict[str, Any]]:
    """What stands above and below an axis."""
    title = dimension.title
    half = LONGEST_TITLE // 2
    short = title if len(title) <= LONGEST_TITLE else f"{title[:half]}…{title[-half:]}"
    low, high = dimension.words(min(dimension.known)), dimension.words(max(dimension.known))
    places = ((1.2, f"<b>{escape(short)}</b>"), (1.09, high), (-0.09, low))
    return [{"x": x, "y": y, "text": text, "showarrow": False} for y, text in places]
