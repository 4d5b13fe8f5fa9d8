"""Cascades: several networks in a row. Whoever no exit of one is sure about starts again in the next, from the input.

What it costs to go on from exit i of a network to exit j of another one is still one number, so policies, routing and
solver need not know of networks:

    step[i of a, j of b] = what b takes from the input to exit j, and what going on after a decision adds

All that was paid in a stays paid. The reference of drops and relative costs is one of the networks, unmodified. They
run on one device, or each on the same tiers of a system (`core.systems`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Discriminator, Field, Tag, model_validator

from eesearch.core.costs import DeviceProfile, LatencyProfile, Profile
from eesearch.core.design import OUTPUT, OWN, ExitId, Value, content_key
from eesearch.core.errors import CostError
from eesearch.core.steps import Axis, StageCosts, call_steps, costs_of_calls
from eesearch.core.systems import SystemProfile

Floats = NDArray[np.float64]


def member_of(exit_id: ExitId) -> str:
    """Name of the network, among several, that an exit hangs on."""
    return exit_id.cut.rpartition("/")[0]


def joined_content(contents: Mapping[str, str]) -> str:
    """Key of what was measured of several networks, from each one's own by its name."""
    return content_key("cascade", dict(contents))


def _kind(profile: object) -> str:
    has_tiers = isinstance(profile, Mapping) and "tiers" in profile
    return "system" if has_tiers or isinstance(profile, SystemProfile) else "device"


Member = Annotated[
    Annotated[DeviceProfile, Tag("device")] | Annotated[SystemProfile, Tag("system")], Discriminator(_kind)
]
"""What one of several networks costs; mistakes in a file are told of the kind that it is."""


class CascadeProfile(Value):
    """What several networks and all their heads cost on one device, or on one system of tiers.

    Attributes:
        device: The device's or system's name in the study.
        fingerprint: Circumstances that all members were measured under.
        content: Key of what was measured.
        members: Name of each network -> its profile, in the order of the study; cuts bear the network's name. All of
            devices, or all of systems with the same tiers and links.
        reference: Name of the network that all is compared with.
    """

    device: str
    fingerprint: dict[str, str]
    content: str
    members: dict[str, Member] = Field(min_length=1)
    reference: str

    @model_validator(mode="after")
    def _fits_together(self) -> CascadeProfile:
        if self.reference not in self.members:
            raise ValueError(f"there is no network '{self.reference}'; known are {', '.join(self.members)}")
        for name, profile in self.members.items():
            foreign = [cut for cut in profile.cuts if not cut.startswith(f"{name}/")]
            if foreign:
                raise ValueError(f"cut '{foreign[0]}' does not bear the name of its network '{name}'")
        systems = self.systems
        if systems and len(systems) < len(self.members):
            raise ValueError("some networks were measured on a device, others on a system")
        if len({_row(system) for system in systems.values()}) > 1:
            raise ValueError("the networks were measured on systems with different tiers, links or axes")
        batches = {name: _batches(profile) for name, profile in self._devices.items()}
        if len(set(batches.values())) > 1:
            told = "; ".join(f"{name}: {', '.join(map(str, sizes)) or 'none'}" for name, sizes in batches.items())
            raise ValueError(f"the networks were measured in batches of different sizes ({told})")
        return self

    @property
    def whole(self) -> DeviceProfile | SystemProfile:
        """The profile of the reference."""
        return self.members[self.reference]

    @property
    def systems(self) -> dict[str, SystemProfile]:
        """The members' profiles on a system of tiers; empty on a device."""
        return {name: each for name, each in self.members.items() if isinstance(each, SystemProfile)}

    @property
    def _devices(self) -> dict[str, DeviceProfile]:
        return {name: each for name, each in self.members.items() if isinstance(each, DeviceProfile)}

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
        """Samples per call; on a system, one."""
        return self.whole.batch if isinstance(self.whole, DeviceProfile) else 1

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
        found = {name: each.latency for name, each in self.members.items()}
        known = {name: latency for name, latency in found.items() if latency is not None}
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

        On a system, the next network may run on the same tier or a later one, and its raw sample is sent there from the
        first tier. That is so even where the sample lies on a later tier already, or was sent a part of the way before:
        such paths, too, are told dearer than they may be, never cheaper.

        Raises:
            CostError: the profile lacks the axis, a network, a tier, a cut, a head or the decision.
        """
        if axis not in self.axes:
            raise CostError(f"the profile of {self.device} has no {axis}", expected=f"one of {', '.join(self.axes)}")
        try:
            if not isinstance(self.whole, DeviceProfile):
                return self._on_tiers(exits, decision, axis)
            known = self.whole.parts(axis)
            calls = [self._call(number, exits, decision, axis) for number in range(len(known))]
        except KeyError as missing:
            raise CostError(f"the profile of {self.device} does not know {missing}", do="Measure it again.") from None
        return costs_of_calls(calls, known, exits, axis)

    def _call(self, number: int, exits: Sequence[ExitId], decision: str, axis: Axis) -> Floats:
        """Of one call of the size that each member's parts have at this place; see `StageCosts.calls`. [E + 1, E]"""
        step = np.full((len(exits) + 1, len(exits)), np.inf)
        output = np.array([e.is_output for e in exits], np.float64)
        networks = _by_network(exits)
        parts = {}
        for network, rows in networks.items():
            member = self._devices[member_of(exits[rows[0]])]
            parts[network] = member.parts(axis)[number]
            within = call_steps(member.cuts, parts[network], [exits[row] for row in rows], decision, axis)
            step[np.ix_([0, *(row + 1 for row in rows)], rows)] = within
        for left, entered in permutations(networks, 2):
            before, rows = networks[left], networks[entered]
            scored = parts[entered].decided(decision) * (output[before][:, None] + output[rows])
            changed = step[0, rows] + parts[entered].resume + scored
            step[np.ix_([row + 1 for row in before], rows)] = changed
        return step

    def _on_tiers(self, exits: Sequence[ExitId], decision: str, axis: Axis) -> StageCosts:
        """On a system: what a network adds that is left is paid on the tier where it is left."""
        step = np.full((len(exits) + 1, len(exits)), np.inf)
        output = np.array([e.is_output for e in exits], np.float64)
        silent = np.array([e.is_none for e in exits], np.bool_)
        networks = _by_network(exits)
        for rows in networks.values():
            system = self.systems[member_of(exits[rows[0]])]
            within = system.steps([exits[row] for row in rows], decision, axis).step
            step[np.ix_([0, *(row + 1 for row in rows)], rows)] = within
        for before, rows in permutations(networks.values(), 2):
            system = self.systems[member_of(exits[rows[0]])]
            resume, decided = system.going_on(decision, axis)
            since, to = (np.array([system.tier(exits[row]) for row in side], np.intp) for side in (before, rows))
            after = resume[since] + decided[since] * output[before]
            changed = step[0, rows] + after[:, None] + decided[to] * output[rows]
            may = (since[:, None] <= to) & ~silent[before][:, None]  # who has heard nothing has no reason to change
            step[np.ix_([row + 1 for row in before], rows)] = np.where(may, changed, np.inf)
        own = ExitId(network="", cut=f"{self.reference}/{OUTPUT}", head=OWN)
        return StageCosts(step, tuple(exits), axis, self.whole.steps([own], decision, axis).backbone)


def systems_of(profile: Profile) -> dict[str, SystemProfile]:
    """What each network costs on the tiers of a system, by its name ("" if there is one only); empty of a device."""
    if isinstance(profile, CascadeProfile):
        return profile.systems
    return {"": profile} if isinstance(profile, SystemProfile) else {}


def _by_network(exits: Sequence[ExitId]) -> dict[str, list[int]]:
    """Rows of each network's exits, networks in the order met."""
    networks: dict[str, list[int]] = {}
    for row, exit_id in enumerate(exits):
        networks.setdefault(exit_id.network, []).append(row)
    return networks


def _row(system: SystemProfile) -> str:
    """What networks share that run on the same system."""
    tiers = [(tier.name, tier.slowdown, tier.energy) for tier in system.tiers]
    return repr((tiers, system.links, system.axis))


def _batches(profile: DeviceProfile) -> tuple[int, ...]:
    """Samples per call, of all calls that were timed, by rising size."""
    return tuple(each.batch for each in (*profile.smaller, profile.latency) if each is not None)
