"""How a search went: the hypervolume of its fronts as trials finished."""

from __future__ import annotations

from html import escape
from typing import Any

from eesearch.reporting.figures import SERIES
from eesearch.reporting.formats import duration, significant, state_words
from eesearch.reporting.layers import named
from eesearch.reporting.plots import page_layout
from eesearch.study.answers import Answers, TrialAnswer

Figure = dict[str, Any]

FEWEST = 2
"""Complete trials from which on there is something to see."""

FEW = 20
"""Up to so many trials, each has a tick."""

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def volume_plot(answers: Answers) -> Figure | None:
    """A line per device, by trial; `by` has what to put along the x axis; None if there is too little to see.

    A line has a gap where the front was empty, or kept no constraint.
    """
    done = [trial for trial in answers.trials if len(trial.hypervolumes) == len(answers.devices)]
    if sum(trial.state == "complete" for trial in done) < FEWEST:
        return None
    volumes = [[_reached(trial, k) for trial in done] for k in range(len(answers.devices))]
    if all(volume is None for line in volumes for volume in line):
        return None
    scale, unit = time_unit(done[-1].elapsed)
    traces = []
    for k, device in enumerate(answers.devices):
        style, dash = SERIES[k % len(SERIES)], _DASHES[k % len(_DASHES)]
        hover = [
            ""
            if volume is None
            else f"<b>{escape(device.device)}</b><br>hypervolume {significant(volume, 4)}<br>"
            f"after trial {trial.number}{_ending(trial)}, {duration(trial.elapsed)}"
            for trial, volume in zip(done, volumes[k], strict=True)
        ]
        traces.append(
            named(device.device, "devices")
            | {
                "x": [trial.number for trial in done],
                "y": volumes[k],
                "mode": "lines+markers" if len(done) <= 60 else "lines",
                "line": {"shape": "hv", "color": style.colour, "dash": dash, "width": 2},
                "marker": {"symbol": style.symbol, "size": 7},
                "cliponaxis": False,
                "hovertext": hover,
                "hoverinfo": "text",
            }
        )
    by: dict[str, Figure] = {
        "trial": {"x": [trial.number for trial in done], "title": "Trial", "step": 1 if len(done) <= FEW else None},
        "time": {"x": [trial.elapsed / scale for trial in done], "title": f"Time of all trials ({unit})", "step": None},
    }
    return {"data": traces, "layout": _volume_layout(by["trial"]["step"]), "by": by}


def _ending(trial: TrialAnswer) -> str:
    return "" if trial.state == "complete" else f" ({state_words(trial)})"


def _reached(trial: TrialAnswer, device: int) -> float | None:
    """Never below nothing: sums of rectangles may end a rounding error under it."""
    volume = trial.hypervolumes[device]
    return None if volume is None else max(0.0, volume)


def time_unit(seconds: float) -> tuple[float, str]:
    """The seconds in the unit that reads best for so much time, and its name."""
    return next((s, u) for s, u in ((3600.0, "h"), (60.0, "min"), (1.0, "s")) if seconds >= 2 * s or s == 1.0)


def _volume_layout(step: int | None) -> Figure:
    return page_layout(
        320,
        {"t": 16, "r": 16, "b": 48, "l": 64},
        xaxis={"title": {"text": "Trial"}, "rangemode": "tozero", "zeroline": False, "dtick": step},
        yaxis={"title": {"text": "Hypervolume (share of the rectangle)"}, "zeroline": False},
    )
