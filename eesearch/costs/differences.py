"""Where two devices disagree about one network: how far each cut is, what an exit there costs, and when it pays.

An exit at a cut costs everybody who goes on its head, its decision and the resumption, and saves those who leave the
rest of the network. So it pays from a share of leavers on that can be told from costs alone, and that is where devices
differ: the order of the prefixes is the same everywhere, what heads and the parts between them cost is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf
from typing import Literal

import numpy as np
from scipy.stats import rankdata, spearmanr

from eesearch.core.costs import DeviceProfile, Parts
from eesearch.core.design import OUTPUT
from eesearch.core.errors import CostError

Quantity = Literal["pays", "leaving", "exit"]
"""What cuts are ranked by, the smallest first; see `CutOnDevice`."""

QUANTITIES: tuple[Quantity, ...] = ("pays", "leaving", "exit")

_MEASURED: dict[Quantity, int] = {"pays": 2, "leaving": 1, "exit": 2}
"""How many figures a quantity is the difference or the ratio of: each brings its noise."""


_SAME = 0.01
"""Shares of the cost that are closer than this are told as the same."""


@dataclass(frozen=True)
class CutOnDevice:
    """A cut on one device, with the cheapest head that both devices know there; shares of the whole network's cost.

    Attributes:
        prefix: From the input to here.
        exit: Head in place and decision: what everybody pays who gets here.
        leaving: What a sample has paid that leaves here, at the only exit: `prefix` and `exit`.
        pays: Share of the samples that must leave here for the exit to pay; inf where it never does.
    """

    prefix: float
    exit: float
    leaving: float
    pays: float


@dataclass(frozen=True)
class CutDifference:
    """A cut on both devices.

    Attributes:
        ranks: By each quantity, on either device; 1 is the smallest, equal ones share the better rank.
    """

    cut: str
    here: CutOnDevice
    there: CutOnDevice
    ranks: dict[Quantity, tuple[int, int]]


@dataclass(frozen=True)
class Swap:
    """Two cuts that change places: `first` is before `second` on the one device, and behind it on the other.

    Attributes:
        gap: By how much, relative to the larger one, on the device where that is less.
    """

    by: Quantity
    first: str
    second: str
    gap: float


@dataclass(frozen=True)
class Difference:
    """Two devices beside each other.

    Attributes:
        names: Of the devices.
        noise: Of either: relative differences below it are ties.
        cuts: Those that both know, in their order.
        swaps: The clearest first.
        correlations: Spearman's, of the shares of `prefixes`, of the `parts` between neighbouring cuts, of all `heads`
            in place that both know, of `pays`; None where there are fewer than three to rank, or all are alike.
        left_out: Cuts that only one of them knows, or where they have no head in common.
    """

    names: tuple[str, str]
    noise: tuple[float, float]
    cuts: tuple[CutDifference, ...]
    swaps: tuple[Swap, ...]
    correlations: dict[str, float | None]
    left_out: tuple[str, ...]

    @property
    def moved(self) -> tuple[str, ...]:
        """Cuts that change places with another one in when an exit pays there, the clearest first."""
        swaps = [swap for swap in self.swaps if swap.by == "pays"]
        return tuple(dict.fromkeys(name for swap in swaps for name in (swap.first, swap.second)))

    def verdict(self) -> str:
        """Whether cuts change places, and where the devices are furthest apart: plain sentences."""
        here, there = self.names
        first = next((swap for swap in self.swaps if swap.by == "pays"), None)
        if first is None:
            return (
                f"No two of {len(self.cuts)} cuts change places beyond the noise: where an exit pays sooner on {here}, "
                f"it does on {there}. {self._apart()}"
            )
        return (
            f"{len(self.moved)} of {len(self.cuts)} cuts change places: an exit at '{first.first}' pays sooner than "
            f"one at '{first.second}' on {here}, and later on {there}. {self._apart()}"
        )

    def _apart(self) -> str:
        here, there = self.names
        most = max(self.cuts, key=lambda cut: abs(cut.here.prefix - cut.there.prefix))
        if abs(most.here.prefix - most.there.prefix) < _SAME:
            return "Both reach every cut after the same share of the cost."
        return (
            f"They are furthest apart at '{most.cut}', which is reached after {most.here.prefix:.0%} of the cost on "
            f"{here} and {most.there.prefix:.0%} on {there}."
        )


def compare_networks(
    here: Mapping[str, DeviceProfile], there: Mapping[str, DeviceProfile]
) -> tuple[dict[str, Difference], tuple[str, ...]]:
    """Compare what two devices know of each network, by its name ("" if it is alone); see `compare_profiles`.

    Returns:
        A difference for each network that both know, and the names of those that only one does.

    Raises:
        CostError: they have no network in common; or as `compare_profiles`.
    """
    shared = [name for name in here if name in there]
    if not shared:
        known = [_some(list(names)) if "" not in names else "a network alone" for names in (here, there)]
        raise CostError(
            "the two profiles have no network in common", got=" and ".join(known),
            do="Measure both with the same study.",
        )  # fmt: skip
    return {name: compare_profiles(here[name], there[name]) for name in shared}, tuple(sorted(here.keys() ^ there))


def compare_profiles(here: DeviceProfile, there: DeviceProfile) -> Difference:
    """Compare what two devices know of one network; each on the axis of its own front.

    Args:
        here: The one.
        there: The other; it may know other cuts and heads.

    Raises:
        CostError: they have no cut in common, or are of different networks.
    """
    shared = [cut for cut in here.cuts if cut in there.cuts]
    if not shared:
        raise CostError(
            "the two profiles have no cut in common", got=f"{_some(here.cuts)} and {_some(there.cuts)}",
            do="Measure both with the same study.",
        )  # fmt: skip
    _require_same_network(here, there, shared)
    parts = here.parts(here.axis)[-1], there.parts(there.axis)[-1]  # at the device's own batch size
    heads = {cut: [name for name in parts[0].head.get(cut, {}) if name in parts[1].head.get(cut, {})] for cut in shared}
    compared = [cut for cut in shared if heads[cut] or not any(heads.values())]
    known = [part.decision for part in parts if part.decision is not None]  # where deciding costs something
    decisions = [name for name in known[0] if all(name in each for each in known)] if known else []
    facts = tuple(
        [
            _cut(part, profile.cuts.index(cut), [part.head[cut][head] for head in heads[cut]], decisions)
            for cut in compared
        ]
        for part, profile in zip(parts, (here, there), strict=True)
    )
    noise = tuple(profile.latency.noise if profile.latency else 0.0 for profile in (here, there))
    ranks = {by: [_ranks(cuts, by) for cuts in facts] for by in QUANTITIES}
    return Difference(
        names=(here.device, there.device),
        noise=(noise[0], noise[1]),
        cuts=tuple(
            CutDifference(cut, facts[0][n], facts[1][n], {by: (ranks[by][0][n], ranks[by][1][n]) for by in QUANTITIES})
            for n, cut in enumerate(compared)
        ),
        swaps=_swaps(compared, facts, noise),
        correlations=_correlations(
            facts, [[part.head[cut][h] for cut in shared for h in heads[cut]] for part in parts]
        ),
        left_out=tuple(cut for cut in dict.fromkeys((*here.cuts, *there.cuts)) if cut not in compared),
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "none"


def _require_same_network(here: DeviceProfile, there: DeviceProfile, shared: Sequence[str]) -> None:
    """Multiply-adds do not depend on the device."""
    for cut in (*shared, OUTPUT):
        ours, theirs = (p.macs_prefix[-1 if cut == OUTPUT else p.cuts.index(cut)] for p in (here, there))
        if ours != theirs:
            raise CostError(
                f"the two profiles are of different networks: the multiply-adds up to '{cut}' differ",
                got=f"{ours:.0f} and {theirs:.0f}",
                do="Measure both with the same study.",
            )


def _cut(parts: Parts, k: int, heads: Sequence[float], decisions: Sequence[str]) -> CutOnDevice:
    """Facts about the cut with index `k`; `heads`: costs of those to choose from there."""
    cut, whole = parts.prefix[k], parts.prefix[-1]
    decided = min((parts.decision[name] for name in decisions), default=0.0) if parts.decision else 0.0
    own = min(heads) + decided if heads else 0.0
    onward = parts.resume + decided  # behind an exit the own classifier's score is computed, too
    rest = whole - cut + onward
    pays = (own + onward) / rest if own + onward < rest else inf
    return CutOnDevice(cut / whole, own / whole, (cut + own) / whole, pays)


def _ranks(cuts: Sequence[CutOnDevice], by: Quantity) -> list[int]:
    """1 is the smallest, equal ones share the better rank. [K]"""
    return [int(rank) for rank in rankdata([getattr(cut, by) for cut in cuts], method="min")]


def _swaps(names: Sequence[str], facts: Sequence[Sequence[CutOnDevice]], noise: Sequence[float]) -> tuple[Swap, ...]:
    found = []
    for by in QUANTITIES:
        values = [[getattr(cut, by) for cut in cuts] for cuts in facts]
        for i, j in combinations(range(len(names)), 2):
            here, there = (_gap(own[i], own[j]) for own in values)
            clear = all(abs(gap) > _MEASURED[by] * rel for gap, rel in zip((here, there), noise, strict=True))
            if here * there < 0.0 and clear:
                first, second = (i, j) if here > 0.0 else (j, i)
                found.append(Swap(by, names[first], names[second], min(abs(here), abs(there))))
    return tuple(sorted(found, key=lambda swap: -swap.gap))


def _gap(first: float, second: float) -> float:
    """By how much the second is larger, relative to the larger one; infinite ones are alike."""
    larger = max(first, second)
    if first == second:
        return 0.0
    return (second - first) / larger if larger < inf else (1.0 if second == inf else -1.0)


def _correlations(facts: Sequence[Sequence[CutOnDevice]], heads: Sequence[Sequence[float]]) -> dict[str, float | None]:
    prefixes = [[cut.prefix for cut in cuts] for cuts in facts]
    ranked = {
        "prefixes": prefixes,
        "parts": [np.diff([0.0, *own, 1.0]).tolist() for own in prefixes],
        "heads": heads,
        "pays": [_ranks(cuts, "pays") for cuts in facts],
    }
    return {name: _spearman(*both) for name, both in ranked.items()}


def _spearman(here: Sequence[float], there: Sequence[float]) -> float | None:
    if len(here) < 3 or min(len(set(here)), len(set(there))) < 2:
        return None
    return float(spearmanr(here, there).statistic)
