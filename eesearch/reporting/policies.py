"""The terminal table of methods of the literature beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from eesearch.core.front import MAX_DROP
from eesearch.reporting.formats import percent, points_words
from eesearch.study.points import Point

if TYPE_CHECKING:
    from eesearch.study.policies import Comparison

NAMES = {
    "branchynet": "BranchyNet",
    "sdn": "SDN",
    "ztw": "ZTW ensembles",
    "eenet": "EENet schedule",
    "deebert": "DeeBERT",
    "msdnet": "MSDNet",
    "idk": "IDK cascades",
    "streeter": "Streeter",
    "patience": "PABEE patience",
    "baccarelli reconstruction": "Baccarelli (reconstruction)",
    "bolukbasi": "Bolukbasi",
}
"""How methods are called in print; a name that is not here stands as it is."""


def policies_table(comparison: Comparison) -> Table:
    """What every method's choice does on test, readable at 110 columns.

    A cell is the cheapest policy that loses at most so many points on calibration: its cost on test over the
    backbone's, and in parentheses how many points it loses there.
    """
    from eesearch.study.policies import OURS  # loads torch, which the names above do not need

    title = Text(
        f"{comparison.device}: the cheapest policy within a loss on calibration, and what it does on test:\n"
        "cost over the backbone's (points of accuracy lost)"
    )
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", caption_justify="left")
    table.add_column("\nmethod", overflow="fold")
    for drop in comparison.drops:
        points = f"{100.0 * drop:g} point{'' if drop == 0.01 else 's'}"
        table.add_column(f"within\n{points}", justify="right", no_wrap=True)
    for name in ("area\ncal", "area\ntest", "\nseconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for method in comparison.methods:
        cells = [NAMES.get(method.method, method.method), *(_cell(comparison, pick) for pick in method.picks)]
        cells += [f"{method.hypervolume_cal:.4f}", f"{method.hypervolume:.4f}", f"{method.seconds:,.1f}"]
        table.add_row(*map(Text, cells), style="bold" if method.method == OURS else "")
    table.caption = Text(_caption(comparison))
    return table


def _cell(comparison: Comparison, pick: Point | None) -> str:
    return "-" if pick is None else f"{comparison.ratio(pick):.3f} ({points_words(comparison.drop(pick))})"


def _caption(comparison: Comparison) -> str:
    test = comparison.backbone.test
    paid = f"; at every stop the decision by {comparison.decision} is paid" if comparison.decision else ""
    lines = [
        f"backbone: {percent(test.accuracy)} on {test.samples:,} test samples. All on the bank's table, rejected heads "
        f"paid{paid}; no last resort, no constraints.",
        "area: what the steps through the calibration front dominate of the rectangle up to the backbone's cost and "
        f"{100.0 * MAX_DROP:g} points above its error; test: the same steps in the same order, as they are on test.",
        "-: no policy of the method loses so little on calibration; no optimism is taken off, the same rule for all.",
    ]
    return "\n".join(lines)
