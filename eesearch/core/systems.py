"""Systems: devices in a row, joined by links. A sample starts on the first tier and may cross to later ones.

Every exit stands once for each tier that it may run on. What it costs to go on from exit i on tier a to exit j on tier
b >= a is still one number, so policies, routing and solver need not know of tiers:

    step[i on a, j on b] = the links a, ..., b - 1, if b > a, with the carry at exit i (or the raw sample)
                           + what tier b takes from there to exit j

The first tier may be several devices, each with one view of the sample (DDNN, Teerapittayanon et al. 2017), and what
joins their class scores, which is reached without a link: what they send it for an exit at a cut of several views
counts as bytes too. What lies behind such cuts runs on later tiers; whoever knows of no tiers and has it on the first
one is told the bytes of the carry at the last cut of several views as well.

The reference of relative costs is the whole network on the first tier, without any link; of bytes, every raw sample
sent to the last tier.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import eq
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from eesearch.core.amounts import Amount, ByHead, require_known
from eesearch.core.costs import Axis, DeviceProfile, LatencyProfile, StageCosts, stage_costs
from eesearch.core.design import ExitId, Value
from eesearch.core.errors import CostError

Floats = NDArray[np.float64]

MOST_BOUNDARIES = 4
"""Most cuts at which a link may code: each takes a table of its own."""

PLAIN, CODED = 32, 8
"""Bits per value of a carry on a link: as it is, or coded."""


class Link(Value):
    """What joins a tier to the next.

    Attributes:
        bandwidth: Mbit/s.
        round_trip: What a message up and an answer back take beside the time of their bytes, in ms. The bytes of an
            answer do not count: it is one number.
        bits: How values of a carry may be sent: 32 as they are, 8 coded.
    """

    bandwidth: float = Field(gt=0.0)
    round_trip: float = Field(ge=0.0)
    bits: tuple[Literal[32, 8], ...] = Field(default=(32,), min_length=1)

    def ms(self, size: Floats) -> Floats:
        """Milliseconds until samples whose carries have so many bytes are over there, and their answers back."""
        return self.round_trip + 8.0 * size / (1000.0 * self.bandwidth)


class Energy(Value):
    """What the first tier's battery pays.

    Attributes:
        mj_per_ms: While it computes, declared: its power in W. None: as its profile has measured.
        mj_per_byte: For sending, declared.
    """

    mj_per_ms: float | None = Field(default=None, gt=0.0)
    mj_per_byte: float = Field(default=0.0, ge=0.0)


class Tier(Value):
    """A device of a system.

    Attributes:
        slowdown: Declared, not measured: by what the times of its profile are multiplied, for what-if studies.
        energy: Of the first tier, if known.
        devices: Of the first tier: how many devices of this kind share the views of a sample.
    """

    name: str
    slowdown: float = Field(default=1.0, gt=0.0)
    energy: Energy | None = None
    devices: int = Field(default=1, ge=1, exclude_if=partial(eq, 1))
    profile: DeviceProfile


class SystemProfile(Value):
    """What one backbone and all heads of a search space cost on a system of tiers.

    Attributes:
        device: The system's name in the study.
        axis: The cost axis of its front.
        fingerprint: What its figures depend on: tiers with their devices and slowdowns, links.
        content: Key of what was measured, as that of its tiers' profiles.
        tiers: At least two, the one where samples start first.
        links: From each tier to the next.
        raw_bytes: Payload of a raw sample.
        carry_bytes: cut -> payload of a sample's carry there.
        coded_bytes: The same in 8-bit codes, at cuts where a link may code.
        gathered_bytes: If the first tier is several devices: cut of several views -> head name -> what they all send
            for an exit there.
    """

    device: str
    axis: Axis
    fingerprint: dict[str, str]
    content: str
    tiers: tuple[Tier, ...]
    links: tuple[Link, ...]
    raw_bytes: Amount
    carry_bytes: dict[str, Amount]
    coded_bytes: dict[str, Amount] = Field(default_factory=dict)
    gathered_bytes: ByHead = Field(default_factory=dict, exclude_if=partial(eq, {}))

    @model_validator(mode="after")
    def _whole(self) -> SystemProfile:
        if len(self.tiers) < 2 or len(self.links) != len(self.tiers) - 1:
            raise ValueError(f"{len(self.tiers)} tiers and {len(self.links)} links do not make a row")
        if any(tier.profile.cuts != self.first.cuts for tier in self.tiers):
            raise ValueError("the tiers' profiles have different cuts")
        require_known(self.cuts, tuple(self.gathered_bytes))
        if self.axis not in self._known:
            raise ValueError(f"axis {self.axis} is not known here; known are {', '.join(self._known)}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Of its tiers."""
        return tuple(tier.name for tier in self.tiers)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """All cost axes that this profile knows, the one of its front first."""
        return tuple(dict.fromkeys((self.axis, *self._known)))

    @property
    def _known(self) -> tuple[Axis, ...]:
        timed: tuple[Axis, ...] = () if self.latency is None else ("latency_ms",)
        paid: tuple[Axis, ...] = () if self._energy is None else ("energy_mj",)
        counted = tuple(axis for axis in self.first.axes if axis in ("macs", "params", "peak_bytes"))
        return (*timed, "bytes", *paid, *counted)

    @property
    def first(self) -> DeviceProfile:
        """The profile of the first tier."""
        return self.tiers[0].profile

    @property
    def cuts(self) -> tuple[str, ...]:
        """Names of the cuts, in order. [K]"""
        return self.first.cuts

    @property
    def macs_prefix(self) -> tuple[float, ...]:
        """Multiply-adds from the input to each cut, then to the output; the same on every tier. [K + 1]"""
        return self.first.macs_prefix

    @property
    def macs_head(self) -> dict[str, dict[str, float]]:
        """Cut -> head name -> multiply-adds of the head; the same on every tier."""
        return self.first.macs_head

    @property
    def latency(self) -> LatencyProfile | None:
        """The figures of the first tier as they were measured; noise and raw figures of all. None if a tier is untimed.

        A declared slowdown is no part of it.
        """
        found = {tier.name: tier.profile.latency for tier in self.tiers}
        known = {name: latency for name, latency in found.items() if latency is not None}
        if len(known) < len(self.tiers):
            return None
        timings = {f"{name}: {figure}": t for name, latency in known.items() for figure, t in latency.timings.items()}
        noise = max(latency.noise for latency in known.values())
        return known[self.names[0]].model_copy(update={"timings": timings, "noise": noise})

    @property
    def cautions(self) -> tuple[str, ...]:
        """Why its figures are to be taken with caution, by tier; see `DeviceProfile.cautions`."""
        return tuple(f"{tier.name}: {caution}" for tier in self.tiers for caution in tier.profile.cautions)

    @property
    def _energy(self) -> Energy | None:
        energy = self.tiers[0].energy
        measured = self.first.latency if energy and energy.mj_per_ms else self.first.energy
        return energy if measured is not None else None

    def tier(self, exit_id: ExitId) -> int:
        """Number of the tier that an exit runs on; of one that names none, the first.

        Raises:
            CostError: the system has no such tier.
        """
        if not exit_id.tier:
            return 0
        if exit_id.tier not in self.names:
            raise CostError(f"the system '{self.device}' has no tier '{exit_id.tier}'", got=str(exit_id))
        return self.names.index(exit_id.tier)

    def steps(self, exits: Sequence[ExitId], decision: str, axis: Axis) -> StageCosts:
        """The steps between exits on tiers; see `stage_costs`.

        Raises:
            CostError: the system lacks the axis, a tier, or a tier's profile a cut, a head or the decision.
        """
        if axis not in self.axes:
            raise CostError(f"the profile of {self.device} has no {axis}", expected=f"one of {', '.join(self.axes)}")
        crossing = _Crossing(self, exits)
        if axis in ("macs", "params", "peak_bytes"):
            step, backbone = self._on_tier(0, exits, decision, axis)
            step = np.where((axis != "peak_bytes") | (crossing.to == 0), step, 0.0)  # memory is short on the first tier
            return StageCosts(np.where(crossing.allowed, step, np.inf), tuple(exits), axis, backbone)
        return {"latency_ms": self._latency, "bytes": self._bytes, "energy_mj": self._spent}[axis](
            crossing, tuple(exits), decision
        )

    def going_on(self, decision: str, axis: Axis) -> tuple[Floats, Floats]:
        """What each tier pays beside the parts of a network: for going on after a decision, and for deciding. [T], [T]

        Zero where the axis counts neither; of energy, the first tier's alone.

        Raises:
            CostError: the system lacks the axis, or a tier's profile the decision.
        """
        if axis not in self.axes:
            raise CostError(f"the profile of {self.device} has no {axis}", expected=f"one of {', '.join(self.axes)}")
        paying: dict[int, tuple[Axis, float]] = {}
        if axis == "latency_ms":
            paying = {number: (axis, tier.slowdown) for number, tier in enumerate(self.tiers)}
        elif axis == "energy_mj" and self._energy is not None:
            declared = self._energy.mj_per_ms
            paying = {0: ("latency_ms", declared * self.tiers[0].slowdown) if declared else (axis, 1.0)}
        found = np.zeros((2, len(self.tiers)))
        for number, (measured, scale) in paying.items():
            (parts,) = self.tiers[number].profile.parts(measured)
            found[:, number] = scale * parts.resume, scale * parts.decided(decision)
        return found[0], found[1]

    def _on_tier(
        self, tier: int, exits: Sequence[ExitId], decision: str, axis: Axis, *, at_once: bool = False
    ) -> tuple[Floats, float]:
        """Steps [E + 1, E] as if everything ran on one tier, with its slowdown; and the unmodified backbone there.

        Of several devices, those of all together; `at_once`: as they work side by side.
        """
        bare = list(dict.fromkeys(e.bare for e in exits))
        place = {e: row for row, e in enumerate(bare)}
        rows = np.array([place[e.bare] for e in exits], np.intp)
        costs = stage_costs(
            self._side_by_side if at_once and tier == 0 else self.tiers[tier].profile, bare, decision, axis
        )
        scale = self.tiers[tier].slowdown if axis == "latency_ms" else 1.0
        step = costs.step[np.ix_(np.append(0, rows + 1), rows)]
        return scale * step, scale * costs.backbone

    @property
    def _views_end(self) -> int:
        """Number of the first cut behind the last one of several views that devices of the first tier share."""
        return max((k + 1 for k, cut in enumerate(self.cuts) if cut in self.gathered_bytes), default=0)

    def on_first(self, exit_id: ExitId) -> bool:
        """Whether a policy may have an exit on the first tier: on several devices only at a cut of several views."""
        return self.tiers[0].devices == 1 or exit_id.cut in self.cuts[: self._views_end]

    @property
    def _side_by_side(self) -> DeviceProfile:
        """The first tier's profile, its devices sharing what comes before views are joined.

        Each takes its share of what one was measured to take for all views. Heads and decisions are not shared.
        """
        devices, latency, end = self.tiers[0].devices, self.first.latency, self._views_end
        if devices == 1 or latency is None or not end:
            return self.first
        shared = [ms / devices for ms in latency.prefix_ms[:end]]
        saved = latency.prefix_ms[end - 1] - shared[-1]
        prefix = (*shared, *(ms - saved for ms in latency.prefix_ms[end:]))
        return self.first.model_copy(update={"latency": latency.model_copy(update={"prefix_ms": prefix})})

    def _gathered(self, crossing: _Crossing, exits: Sequence[ExitId]) -> Floats:
        """Bytes that the devices of the first tier send to what joins their views. [E + 1, E]

        Raises:
            CostError: nobody has told what they send for an exit.
        """
        if self.tiers[0].devices == 1:
            return np.zeros(crossing.allowed.shape)
        end = self._views_end
        carry = self.carry_bytes[self.cuts[end - 1]] if end else self.raw_bytes
        joined = (np.append(-1, crossing.cut)[:, None] < end) & (crossing.cut >= end)
        said = np.array([self._scores(e) for e in exits])
        return np.where(crossing.to == 0, np.where(joined, carry, 0.0) + said, 0.0)

    def _scores(self, exit_id: ExitId) -> float:
        heads = self.gathered_bytes.get(exit_id.cut)
        if heads is None or exit_id.is_none:
            return 0.0
        if exit_id.head not in heads:
            raise CostError(f"the profile of {self.device} does not know '{exit_id.head}' at '{exit_id.cut}'")
        return heads[exit_id.head]

    def _latency(self, crossing: _Crossing, exits: tuple[ExitId, ...], decision: str) -> StageCosts:
        step = np.full(crossing.allowed.shape, np.inf)
        backbone = 0.0
        for tier in range(len(self.tiers)):
            on_tier, whole = self._on_tier(tier, exits, decision, "latency_ms", at_once=True)
            step[:, crossing.to == tier] = on_tier[:, crossing.to == tier]
            backbone = whole if tier == 0 else backbone
        links = np.zeros_like(step)
        for number, link in enumerate(self.links):
            crossed = crossing.crosses(number)
            links[crossed] += link.ms(crossing.size[crossed])
        return StageCosts(np.where(crossing.allowed, step + links, np.inf), exits, "latency_ms", backbone)

    def _bytes(self, crossing: _Crossing, exits: tuple[ExitId, ...], _: str) -> StageCosts:
        sent = sum(np.where(crossing.crosses(number), crossing.size, 0.0) for number in range(len(self.links)))
        sent = sent + self._gathered(crossing, exits)
        everything = self.raw_bytes * len(self.links)
        return StageCosts(np.where(crossing.allowed, sent, np.inf), exits, "bytes", everything)

    def _spent(self, crossing: _Crossing, exits: tuple[ExitId, ...], decision: str) -> StageCosts:
        energy = self._energy
        assert energy is not None
        axis: Axis = "latency_ms" if energy.mj_per_ms else "energy_mj"
        scale = energy.mj_per_ms or 1.0
        step, backbone = self._on_tier(0, exits, decision, axis)
        sent = np.where(crossing.crosses(0), crossing.size, 0.0) + self._gathered(crossing, exits)
        step = np.where(crossing.allowed, np.where(crossing.to == 0, scale * step, 0.0), np.inf)
        step = step + sent * energy.mj_per_byte
        return StageCosts(step, exits, "energy_mj", scale * backbone)


class _Crossing:
    """Which steps between exits on tiers are allowed, and what they send.

    A coded carry may be sent from the cut at which its link codes only; who came over such a link stays among the exits
    that were looked at behind it, and whatever is sent from there is sent as it is.

    Args:
        system: Knows tiers, links and sizes.
        exits: Columns. [E]

    Attributes:
        since: Tier from which a step starts: row 0 is the input. [E + 1, 1]
        to: Tier on which it ends. [E]
        cut: Number of the cut where it ends, of the output K. [E]
        allowed: [E + 1, E]
        size: Bytes that cross each link in between. [E + 1, E]
    """

    def __init__(self, system: SystemProfile, exits: Sequence[ExitId]) -> None:
        depth = {cut: k for k, cut in enumerate(system.cuts)}
        unknown = [e.cut for e in exits if not e.is_output and e.cut not in depth]
        if unknown:
            raise CostError(f"the profile of {system.device} does not know '{unknown[0]}'", do="Measure it again.")
        self.to = np.array([system.tier(e) for e in exits], np.intp)
        self.since = np.append(0, self.to)[:, None]
        self.cut = cut = np.array([len(depth) if e.is_output else depth[e.cut] for e in exits])
        link, came = np.array([e.link for e in exits]), np.array(["", *(e.link for e in exits)])[:, None]
        coded = (came != link) & (came == "") & (self.since < self.to)
        at = np.array(["", *(f"8bit@{e.cut}" for e in exits)])[:, None]
        coded &= link == at
        raw, codes = self._sizes(system, exits)
        self.size = np.where(coded, codes, raw)
        later = np.append(-1, cut)[:, None] < cut
        self.allowed = later & (self.since <= self.to) & (coded | (came == link))
        for number, between in enumerate(system.links):
            sent = self.crosses(number)
            self.allowed &= ~sent | np.where(coded, CODED in between.bits, PLAIN in between.bits)

    @staticmethod
    def _sizes(system: SystemProfile, exits: Sequence[ExitId]) -> tuple[Floats, Floats]:
        """Bytes of the raw sample and of each exit's carry, as it is and coded; 0 where not known. [E + 1, 1]"""
        raw = [system.raw_bytes, *(system.carry_bytes.get(e.cut, 0.0) for e in exits)]
        codes = [0.0, *(system.coded_bytes.get(e.cut, 0.0) for e in exits)]
        return np.array(raw)[:, None], np.array(codes)[:, None]

    def crosses(self, link: int) -> NDArray[np.bool_]:
        """Which steps cross a link. [E + 1, E]"""
        return (self.since <= link) & (link < self.to)
