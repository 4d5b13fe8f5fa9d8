"""Profiles of two devices beside each other, as `eesearch profile-diff` shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from math import inf, isfinite
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from eesearch.core.cascades import CascadeProfile
from eesearch.core.costs import DeviceProfile
from eesearch.core.errors import CostError
from eesearch.costs.differences import QUANTITIES, CutDifference, Difference, Quantity
from eesearch.costs.profile import AnyProfile, load_any_profile
from eesearch.study.rundir import RunDir

SHOWN = 5
"""Pairs of cuts that change places which a terminal is told, of each kind."""

BY: dict[Quantity, str] = {
    "pays": "the share of leavers from which an exit pays",
    "leaving": "the cost of leaving there",
    "exit": "the cost of head and decision",
}


def find_profiles(text: str) -> dict[str, DeviceProfile]:
    """The profile that a person means, of each network by its name; of one network alone the name is "".

    Args:
        text: The path of a profile (.json), or `RUN@DEVICE`: what a run directory holds.

    Raises:
        CostError: there is none, or it is damaged, or of a system.
    """
    path = Path(text)
    if path.suffix == ".json":
        return _of_devices(load_any_profile(path), path.name)
    run, at, device = text.rpartition("@")
    if not at:
        known = _known(path / "profiles")
        raise CostError(
            f"'{text}' names no profile",
            got=f"a run with {known}" if known else None,
            expected="the path of a profile (.json), or RUN@DEVICE",
        )
    file = RunDir(Path(run)).profile_file(device)
    if file.is_file():
        return _of_devices(load_any_profile(file), device)
    members = [each for each in sorted(file.parent.glob("*@*.json")) if each.stem.startswith(f"{file.stem}@")]
    if not members:
        raise CostError(f"{run} has no profile of {device}", expected=f"one of {_known(file.parent) or 'none at all'}")
    named = {each.stem.removeprefix(f"{file.stem}@"): load_any_profile(each) for each in members}
    return {name: _of_devices(found, device)[""] for name, found in named.items()}


def _known(profiles: Path) -> str:
    """Names of the devices whose profiles a run holds, of several networks each device once."""
    return ", ".join(sorted({file.stem.partition("@")[0] for file in profiles.glob("*.json")}))


def _of_devices(found: AnyProfile, device: str) -> dict[str, DeviceProfile]:
    """A device's profile by network, under the name of the device that a person gave."""
    told: dict[str, DeviceProfile] = {}
    for name, each in (found.members if isinstance(found, CascadeProfile) else {"": found}).items():
        if not isinstance(each, DeviceProfile):
            raise CostError(f"{device} is a system: devices are compared", do="Name the device of one of its tiers.")
        told[name] = each.model_copy(update={"device": device})
    return told


def difference_table(difference: Difference) -> Table:
    """A row per cut, readable at 110 columns: shares of the whole network's cost on either device."""
    here, there = difference.names
    table = Table(title=Text(f"{here} and {there}"), box=box.SIMPLE_HEAD, title_justify="left")
    table.pad_edge = False
    table.add_column("\ncut", overflow="fold")
    for name in ("reached\nafter", "head and\ndecision", "pays\nfrom", "rank"):
        table.add_column(name if "\n" in name else f"\n{name}", justify="right", no_wrap=True)
    for cut in difference.cuts:
        table.add_row(Text(cut.cut), *(Text(cell) for cell in _cells(cut, moved=cut.cut in difference.moved)))
    return table


def _cells(cut: CutDifference, *, moved: bool) -> list[str]:
    facts, ranks = (cut.here, cut.there), cut.ranks["pays"]
    return [
        " / ".join(_percent(fact.prefix) for fact in facts),
        " / ".join(_percent(fact.exit) for fact in facts),
        " / ".join(_percent(fact.pays) for fact in facts),
        f"{ranks[0]} / {ranks[1]}" + (" *" if moved else "  "),
    ]


def _percent(share: float) -> str:
    return f"{share:.1%}" if isfinite(share) else "never"


def difference_notes(difference: Difference) -> list[str]:
    """What the columns are, which cuts change places, how alike the orders are: a line each."""
    here, there = difference.names
    lines = [
        f"Shares of the whole network's cost, {here} / {there}. Pays from: so many samples must leave there for an "
        "exit (the cheapest head that both know) to pay. Rank: by that; * changes places with another cut.",
        f"Ties: differences below the noise ({difference.noise[0]:.1%} / {difference.noise[1]:.1%}), twice that where "
        "two figures are set against each other.",
    ]
    for by in QUANTITIES:
        pairs = [swap for swap in difference.swaps if swap.by == by]
        named = ", ".join(f"{swap.first} and {swap.second} ({swap.gap:.0%})" for swap in pairs[:SHOWN])
        more = f", and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
        lines.append(f"Change places in {BY[by]}: {named or 'none'}{more}.")
    known = [f"{name} {value:.2f}" for name, value in difference.correlations.items() if value is not None]
    lines += [f"Spearman's rank correlation: {', '.join(known)}."] if known else []
    lines += [f"Not compared, one of them does not know it: {', '.join(difference.left_out)}."] * bool(
        difference.left_out
    )
    return lines


def difference_csv(differences: Mapping[str, Difference]) -> str:
    """A row per cut of all networks; columns of the second device end in `_b`, those of the first in `_a`."""
    rows = []
    for difference in differences.values():
        for cut in difference.cuts:
            row: dict[str, object] = {"cut": cut.cut}
            for name in ("prefix", "exit", "leaving", "pays"):
                row |= {f"{name}_a": getattr(cut.here, name), f"{name}_b": getattr(cut.there, name)}
            for by in QUANTITIES:
                row |= {f"rank_{by}_a": cut.ranks[by][0], f"rank_{by}_b": cut.ranks[by][1]}
            rows.append(row)
    return pd.DataFrame(rows).to_csv(index=False)


def difference_json(differences: Mapping[str, Difference]) -> str:
    """Everything; a share that never is reached is null. Of several networks, an object by their names."""
    told = {network: _told(difference) for network, difference in differences.items()}
    return json.dumps(told.get("", {"networks": told}), indent=1, allow_nan=False) + "\n"


def _told(difference: Difference) -> dict[str, Any]:
    told = asdict(difference)
    for cut in told["cuts"]:
        for side in ("here", "there"):
            cut[side]["pays"] = None if cut[side]["pays"] == inf else cut[side]["pays"]
    return {"verdict": difference.verdict(), **told}
