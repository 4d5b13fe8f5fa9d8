"""How a search went: the hypervolume of its fronts as trials finished."""

from __future__ import annotations

from html import escape
from typing import Any

from eesearch.reporting.figures import SERIES
from eesearch.reporting.formats import duration, significant
from eesearch.reporting.layers import named
from eesearch.study.answers import Answers

Figure = dict[str, Any]

FEWEST = 2
"""Complete trials from which on there is something to see."""

FEW = 20
"""Up to so many trials, each has a tick."""

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def volume_plot(answers: Answers) -> Figure | None:
    """A line per device, by trial; `by` has what to put along the x axis; None if there is too little to see."""
    done = [trial for trial in answers.trials if len(trial.hypervolumes) == len(answers.devices)]
    if sum(trial.state == "complete" for trial in done) < FEWEST:
        return None
    scale, unit = time_unit(done[-1].elapsed)
    traces = []
    for k, device in enumerate(answers.devices):
        style, dash = SERIES[k % len(SERIES)], _DASHES[k % len(_DASHES)]
        hover = [
            f"<b>{escape(device.device)}</b><br>hypervolume {significant(trial.hypervolumes[k], 4)}<br>"
            f"after trial {trial.number}, {duration(trial.elapsed)}"
            for trial in done
        ]
        traces.append(
            named(device.device, "devices")
            | {
                "x": [trial.number for trial in done],
                "y": [trial.hypervolumes[k] for trial in done],
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


def time_unit(seconds: float) -> tuple[float, str]:
    """The seconds in the unit that reads best for so much time, and its name."""
    return next((s, u) for s, u in ((3600.0, "h"), (60.0, "min"), (1.0, "s")) if seconds >= 2 * s or s == 1.0)


def _volume_layout(step: int | None) -> Figure:
    return {
        "xaxis": {"title": {"text": "Trial"}, "rangemode": "tozero", "zeroline": False, "dtick": step},
        "yaxis": {"title": {"text": "Hypervolume (share of the rectangle)"}, "zeroline": False},
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "showlegend": False,
        "margin": {"t": 16, "r": 16, "b": 48, "l": 64},
        "height": 320,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }
