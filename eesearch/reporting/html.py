"""The report: one self-contained page that works offline.

`report.html` is the template; it escapes whatever it is given (jinja2's autoescape). What the page's scripts read, and
plotly itself, travel compressed: hover texts of thousands of points repeat themselves, and base64 has no character that
could end a script element.
"""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from eesearch.core.costs import Axis
from eesearch.reporting import elsewhere
from eesearch.reporting.designs import designs_plot
from eesearch.reporting.figures import strategy_styles
from eesearch.reporting.formats import percent
from eesearch.reporting.frontdata import FrontData, front_data
from eesearch.reporting.layers import GROUPS
from eesearch.reporting.pins import pins
from eesearch.reporting.plots import front_plot, strategies_plot
from eesearch.reporting.progress import volume_plot
from eesearch.reporting.promises import NOTE, TITLE, PromiseRow, free_words, promise_rows, promise_sentences
from eesearch.reporting.rows import (
    ExitRow,
    PointRow,
    SeedRow,
    cost_titles,
    exit_row,
    phase_rows,
    point_rows,
    seed_rows,
    trial_rows,
)
from eesearch.reporting.strategies import StrategyRow, strategy_rows
from eesearch.reporting.verified import HEAD, VerifiedRow, summary_words, verified_rows
from eesearch.reporting.verified import NOTE as VERIFIED_NOTE
from eesearch.reporting.verified import TITLE as VERIFIED_TITLE
from eesearch.study.answers import LAST_LOST, TIE, Answers, DeviceAnswer
from eesearch.study.examples import COLUMNS, Examples

SCRIPTS = ("dom.js", "plot.js", "network.js", "panel.js", "pick.js", "trials.js", "page.js")
"""The page's own code, in order; the last one starts it."""


@dataclass(frozen=True)
class DeviceView:
    """What the page shows of one device.

    Attributes:
        costs: Titles of the columns of costs, those of the own axis first.
        free: What is true of the point that is marked as one without loss.
        promised: Whether the optimism of picks is known; `promises`: what picks promised and what came, `told`: the
            same in sentences.
        verified: What ran end to end; `checked`: how well predictions were met.
    """

    name: str
    axis: Axis
    costs: list[str]
    points: list[PointRow]
    left_out: int
    seeds: list[SeedRow]
    exits: list[ExitRow]
    has_oracle: bool
    has_static: bool
    one_head_per_cut: bool
    dominated: int
    dominated_left_out: int
    has_baselines: bool
    strategies: list[StrategyRow]
    free: str
    promised: bool
    promises: list[PromiseRow]
    told: list[str]
    verified: list[VerifiedRow]
    checked: str


def render_html(answers: Answers, examples: Examples | None = None, *, run: str = "", live: bool = False) -> str:
    """The whole page; under 6 MB, and it asks the network for nothing.

    Args:
        answers: What to show.
        examples: Samples that leave early and late; those of other fronts than these are left out.
        run: The run's directory, for the command that exports a point.
        live: The search is still running: the page tells when it was written, and reloads itself from time to time
            until that is long ago.
    """
    styles = strategy_styles(answers)
    fronts = [(device, front_data(device)) for device in answers.devices]
    shown = {
        "devices": [
            pins(answers, d, data)
            | {"figure": front_plot(d, data, styles), "strategies": strategies_plot(d, data, styles)}
            for d, data in fronts
        ],
        "groups": GROUPS,
        "volumes": volume_plot(answers),
        "designs": designs_plot(answers, styles),
        "examples": _examples(answers, examples),
        "classes": answers.class_names,
        "run": run or "RUN",
        "live": live,
    }
    return _page().render(
        answers=answers,
        shown=shown,
        packed=_packed(json.dumps(shown, allow_nan=False)),
        verdicts=answers.verdicts(),
        devices=[_device_view(device, data) for device, data in fronts],
        trials=trial_rows(answers),
        failed=sum(trial.state == "failed" for trial in answers.trials),
        stopped=sum(trial.state == "pruned" for trial in answers.trials),
        phases=phase_rows(answers.phases),
        written=datetime.now(UTC) if live else None,
        tie=TIE,
        last_lost=100.0 * LAST_LOST,
        elsewhere={
            "title": elsewhere.TITLE,
            "note": elsewhere.NOTE,
            "rows": elsewhere.elsewhere_rows(answers),
            "told": elsewhere.elsewhere_sentences(answers),
        },
        promises_title=TITLE,
        promises_note=NOTE,
        verified_title=VERIFIED_TITLE,
        verified_note=VERIFIED_NOTE,
        verified_head=HEAD,
        percent=percent,
        style=Markup(_part("report.css")),
        scripts=Markup("\n".join(map(_part, SCRIPTS))),
        plotly=_plotly(),
    )


def _part(name: str) -> str:
    """A file of the page, as it is in the package."""
    return files("eesearch.reporting").joinpath(name).read_text(encoding="utf-8")


@cache
def _page() -> Template:
    made = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return made.from_string(_part("report.html"))


@cache
def _plotly() -> str:
    return _packed(get_plotlyjs())


def _packed(text: str) -> str:
    """Gzipped, in base64; the same for the same text."""
    return b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _examples(answers: Answers, examples: Examples | None) -> dict[str, Any] | None:
    if examples is None or examples.made_for != answers.key:
        return None
    return examples.model_dump(mode="json", exclude={"made_for", "index"}) | {"columns": COLUMNS}


def _device_view(device: DeviceAnswer, data: FrontData) -> DeviceView:
    rows = point_rows(device, data)
    return DeviceView(
        name=device.device,
        axis=device.axis,
        costs=cost_titles(device),
        points=rows,
        left_out=len(device.points) + 1 - len(rows),
        seeds=seed_rows(device, data),
        exits=[exit_row(facts) for facts in device.overthinking],
        has_oracle=bool(device.oracle),
        has_static=bool(device.static),
        one_head_per_cut=not device.oracle_all_heads,
        dominated=len(device.dominated),
        dominated_left_out=device.left_out,
        has_baselines=any(layer.kind == "baseline" and layer.points for layer in device.layers),
        strategies=strategy_rows(device),
        free=free_words(device),
        promised=bool(device.optimism),
        promises=promise_rows(device),
        told=promise_sentences(device),
        verified=verified_rows(device),
        checked=summary_words(list(found.values())) if (found := device.numbers()) else "",
    )
