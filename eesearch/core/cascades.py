"""Cascades: several networks in a row. Whoever no exit of one is sure about starts again in the next, from the input.

What it costs to go on from exit i of a network to exit j of another one is still one number, so policies, routing and
solver need not know of networks:

    step[i of a, j of b] = what b takes from the input to exit j, and what going on after a decision adds

All that was paid in a stays paid. The reference of drops and relative costs is one of the networks, unmodified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from eesearch.core.costs import DeviceProfile, LatencyProfile
from eesearch.core.design import ExitId, Value, content_key
from eesearch.core.errors import CostError
from eesearch.core.steps import Axis, StageCosts, call_steps, costs_of_calls

Floats = NDArray[np.float64]


def member_of(exit_id: ExitId) -> str:
    """Name of the network, among several, that an exit hangs on."""
    return exit_id.cut.rpartition("/")[0]


def joined_content(contents: Mapping[str, str]) -> str:
    """Key of what was measured of several networks, from each one's own by its name."""
    return content_key("cascade", dict(contents))


class CascadeProfile(Value):
    """What several networks and all their heads cost on one device.

    Attributes:
        device: The device's name in the study.
        fingerprint: Circumstances that all members were measured under.
        content: Key of what was measured.
        members: Name of each network -> its profile, in the order of the study; cuts bear the network's name.
        reference: Name of the network that all is compared with.
    """

    device: str
    fingerprint: dict[str, str]
    content: str
    members: dict[str, DeviceProfile] = Field(min_length=1)
    reference: str

    @model_validator(mode="after")
    def _fits_together(self) -> CascadeProfile:
        if self.reference not in self.members:
            raise ValueError(f"there is no network '{self.reference}'; known are {', '.join(self.members)}")
        for name, profile in self.members.items():
            foreign = [cut for cut in profile.cuts if not cut.startswith(f"{name}/")]
            if foreign:
                raise ValueError(f"cut '{foreign[0]}' does not bear the name of its network '{name}'")
        batches = {name: _batches(profile) for name, profile in self.members.items()}
        if len(set(batches.values())) > 1:
            told = "; ".join(f"{name}: {', '.join(map(str, sizes)) or 'none'}" for name, sizes in batches.items())
            raise ValueError(f"the networks were measured in batches of different sizes ({told})")
        return self

    @property
    def whole(self) -> DeviceProfile:
        """The profile of the reference."""
        return self.members[self.reference]

    @property
    def axis(self) -> Axis:
        """The cost axis of this device's front."""
        return self.whole.axis

    @property
    def axes(self) -> tuple[Axis, ...]:
        """All cost axes that every member knows, the one of its front first."""
        return tuple(axis for axis in self.whole.axes if all(axis in each.axes for each in self.members.values()))

    @property
    def batch(self) -> int:
        """Samples per call."""
        return self.whole.batch

    @property
    def cuts(self) -> tuple[str, ...]:
        """Names of the reference's cuts, in order. [K]"""
        return self.whole.cuts

    @property
    def macs_prefix(self) -> tuple[float, ...]:
        """Multiply-adds of the reference from the input to each cut, then to the output. [K + 1]"""
        return self.whole.macs_prefix

    @property
    def macs_head(self) -> dict[str, dict[str, float]]:
        """Cut -> head name -> multiply-adds of the head, of all members."""
        return {cut: heads for each in self.members.values() for cut, heads in each.macs_head.items()}

    @property
    def latency(self) -> LatencyProfile | None:
        """The figures of the reference; noise and raw figures of all. None if a member is untimed."""
        known = {name: each.latency for name, each in self.members.items() if each.latency is not None}
        if len(known) < len(self.members):
            return None
        timings = {f"{name}: {figure}": t for name, latency in known.items() for figure, t in latency.timings.items()}
        noise = max(latency.noise for latency in known.values())
        return known[self.reference].model_copy(update={"timings": timings, "noise": noise})

    @property
    def cautions(self) -> tuple[str, ...]:
        """Why its figures are to be taken with caution, by network; see `DeviceProfile.cautions`."""
        return tuple(f"{name}: {caution}" for name, each in self.members.items() for caution in each.cautions)

    def steps(self, exits: Sequence[ExitId], decision: str, axis: Axis) -> StageCosts:
        """The steps between exits of all networks; see `stage_costs`.

        A network's own classifier decides nothing as long as it is the last stop. Where another network follows, its
        score is computed, and paid in the step to that one. Behind an exit of its own network it was paid already: of
        such paths one decision is paid twice, so they are told a little dearer than they are, never cheaper.

        Raises:
            CostError: the profile lacks the axis, a network, a cut, a head or the decision.
        """
        if axis not in self.axes:
            raise CostError(f"the profile of {self.device} has no {axis}", expected=f"one of {', '.join(self.axes)}")
        known = self.whole.parts(axis)
        try:
            calls = [self._call(number, exits, decision, axis) for number in range(len(known))]
        except KeyError as missing:
            raise CostError(f"the profile of {self.device} does not know {missing}", do="Measure it again.") from None
        return costs_of_calls(calls, known, exits, axis)

    def _call(self, number: int, exits: Sequence[ExitId], decision: str, axis: Axis) -> Floats:
        """Of one call of the size that each member's parts have at this place; see `StageCosts.calls`. [E + 1, E]"""
        step = np.full((len(exits) + 1, len(exits)), np.inf)
        output = np.array([e.is_output for e in exits], np.float64)
        networks: dict[str, list[int]] = {}
        for row, exit_id in enumerate(exits):
            networks.setdefault(exit_id.network, []).append(row)
        parts = {}
        for network, rows in networks.items():
            member = self.members[member_of(exits[rows[0]])]
            parts[network] = member.parts(axis)[number]
            within = call_steps(member.cuts, parts[network], [exits[row] for row in rows], decision, axis)
            step[np.ix_([0, *(row + 1 for row in rows)], rows)] = within
        for left, before in networks.items():
            for entered, rows in networks.items():
                if left != entered:
                    scored = parts[entered].decided(decision) * (output[before][:, None] + output[rows])
                    changed = step[0, rows] + parts[entered].resume + scored
                    step[np.ix_([row + 1 for row in before], rows)] = changed
        return step


def _batches(profile: DeviceProfile) -> tuple[int, ...]:
    """Samples per call, of all calls that were timed, by rising size."""
    return tuple(each.batch for each in (*profile.smaller, profile.latency) if each is not None)
