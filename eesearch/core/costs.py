"""Device profiles: what the parts of a network cost, and the steps between exits that this makes (`core.steps`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from pydantic import Field, model_validator

from eesearch.core.amounts import Amount, ByHead, require_growing, require_known, require_rising, require_sizes
from eesearch.core.design import ExitId, Value
from eesearch.core.errors import CostError
from eesearch.core.steps import FOLDS as FOLDS
from eesearch.core.steps import Axis as Axis
from eesearch.core.steps import Parts as Parts
from eesearch.core.steps import StageCosts as StageCosts
from eesearch.core.steps import call_steps, costs_of_calls
from eesearch.core.timings import EnergyProfile as EnergyProfile
from eesearch.core.timings import LatencyProfile as LatencyProfile
from eesearch.core.timings import Timing as Timing


class Profile(Protocol):
    """What everybody reads of a profile, be it of a device or of a system of several (`core.systems`)."""

    @property
    def device(self) -> str:
        """Its name in the study."""

    @property
    def fingerprint(self) -> dict[str, str]:
        """Under what its figures were taken."""

    @property
    def axis(self) -> Axis:
        """The cost axis of its front."""

    @property
    def axes(self) -> tuple[Axis, ...]:
        """All cost axes that it knows, the one of its front first."""

    @property
    def cuts(self) -> tuple[str, ...]:
        """Names of the cuts, in order. [K]"""

    @property
    def macs_prefix(self) -> tuple[float, ...]:
        """Multiply-adds from the input to each cut, then to the output. [K + 1]"""

    @property
    def macs_head(self) -> dict[str, dict[str, float]]:
        """Cut -> head name -> multiply-adds of the head."""

    @property
    def latency(self) -> LatencyProfile | None:
        """What was measured; None where nothing was."""

    @property
    def cautions(self) -> tuple[str, ...]:
        """Why its figures are to be taken with caution, in words."""

    def steps(self, exits: Sequence[ExitId], decision: str, axis: Axis) -> StageCosts:
        """See `stage_costs`."""

    def model_dump(self, *, mode: Literal["json"]) -> dict[str, Any]:
        """As JSON has it: part of keys."""


class DeviceProfile(Value):
    """What one backbone and all heads of a search space cost on one device.

    Attributes:
        device: The device's name in the study: `macs`, `cpu:eager:t1:b1`.
        fingerprint: Processor, threads, versions and settings under which it was measured.
        content: Key of what was measured (backbone structure, cuts, heads, criteria); a profile is reused when
            device, fingerprint and content match.
        cuts: Names of the cuts, in order. [K]
        macs_prefix: Multiply-adds from the input to each cut, then to the output. [K + 1]
        macs_head: cut -> head name -> multiply-adds of the head.
        params_prefix: Parameters from the input to each cut, then to the output; empty if they were not counted.
            [K + 1]
        params_head: cut -> head name -> parameters of the head.
        peak_segment: Most bytes of activations that are alive while each segment runs, for one sample; empty if nobody
            looked. [K + 1]
        peak_head: cut -> head name -> the same while the head runs, the carry included.
        carry_bytes: Bytes of the raw sample, then of the carry at each cut, for one sample; empty if nobody looked.
            [K + 1]
        latency: At the device's batch size; None on the device `macs`.
        smaller: With fewer samples per call, by rising batch size; empty at batch size 1.
        energy: None where the machine cannot tell.
    """

    device: str
    fingerprint: dict[str, str]
    content: str
    cuts: tuple[str, ...]
    macs_prefix: tuple[Amount, ...]
    macs_head: ByHead
    params_prefix: tuple[Amount, ...] = ()
    params_head: ByHead = Field(default_factory=dict)
    peak_segment: tuple[Amount, ...] = ()
    peak_head: ByHead = Field(default_factory=dict)
    carry_bytes: tuple[Amount, ...] = ()
    latency: LatencyProfile | None = None
    smaller: tuple[LatencyProfile, ...] = ()
    energy: EnergyProfile | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> DeviceProfile:
        """It may come from another machine, or from anybody."""
        calls = (*self.smaller, *([self.latency] if self.latency else []))
        rising = {"macs_prefix": self.macs_prefix, "params_prefix": self.params_prefix}
        rising |= {f"prefix_ms at batch size {each.batch}": each.prefix_ms for each in calls}
        rising |= {"prefix_mj": self.energy.prefix_mj} if self.energy else {}
        sized = {**rising, "peak_segment": self.peak_segment, "carry_bytes": self.carry_bytes}
        require_sizes(sized, len(self.cuts) + 1)
        require_rising(rising)
        needed = [self.macs_prefix, *(each.prefix_ms for each in calls)]
        needed += [self.energy.prefix_mj] if self.energy else []
        if not all(prefix and prefix[-1] > 0.0 for prefix in needed):
            raise ValueError("there are no prefixes, or the whole network costs nothing")
        require_known(self.cuts, (*self.macs_head, *(cut for each in calls for cut in each.head_ms)))
        require_growing([each.batch for each in calls])
        return self

    def steps(self, exits: Sequence[ExitId], decision: str, axis: Axis) -> StageCosts:
        """See `stage_costs`."""
        return _device_steps(self, exits, decision, axis)

    @property
    def axis(self) -> Axis:
        """The cost axis of this device's front."""
        return "macs" if self.latency is None else "latency_ms"

    @property
    def axes(self) -> tuple[Axis, ...]:
        """All cost axes that this profile knows, the one of its front first."""
        knows: dict[Axis, bool] = {
            "latency_ms": self.latency is not None,
            "macs": True,
            "params": bool(self.params_prefix),
            "peak_bytes": bool(self.peak_segment),
            "energy_mj": self.energy is not None,
        }
        return tuple(axis for axis, known in knows.items() if known)

    @property
    def cautions(self) -> tuple[str, ...]:
        """Why its figures are to be taken with caution, in words; empty on a quiet machine where all could be set."""
        if self.latency is None:
            return ()
        found = [
            f"{caution} (b{timed.batch})" if self.smaller else caution
            for timed in (*self.smaller, self.latency)
            for caution in timed.cautions
        ]
        if self.fingerprint.get("pinned") == "no":
            found.append("this system cannot keep a process on its cores")
        if self.fingerprint.get("allocator") == "default":
            found.append("its memory allocator cannot be steadied")
        return tuple(found)

    @property
    def batch(self) -> int:
        """Samples per call."""
        return self.latency.batch if self.latency else 1

    def parts(self, axis: Axis) -> tuple[Parts, ...]:
        """What the parts of the network cost on an axis: per sample; or per call, by rising size, where it is measured.

        Raises:
            CostError: the profile lacks the axis.
        """
        if axis not in self.axes:
            raise CostError(f"the profile of {self.device} has no {axis}", expected=f"one of {', '.join(self.axes)}")
        if axis == "latency_ms" and self.latency is not None:
            return tuple(
                Parts(each.prefix_ms, each.head_ms, each.decision_ms, each.resume_ms, each.batch)
                for each in (*self.smaller, self.latency)
            )
        if axis == "energy_mj" and self.energy is not None:
            energy = self.energy
            return (Parts(energy.prefix_mj, energy.head_mj, energy.decision_mj, energy.resume_mj, self.batch),)
        if axis == "params":
            return (Parts(self.params_prefix, self.params_head),)
        if axis == "peak_bytes":
            return (Parts(self.peak_segment, self.peak_head),)
        return (Parts(self.macs_prefix, self.macs_head),)


def stage_costs(profile: Profile, exits: Sequence[ExitId], decision: str, axis: Axis) -> StageCosts:
    """Turn a profile into steps between the exits of one network.

    A head pays for itself and for its decision, whether anyone leaves or not; one that says nothing pays for neither.
    Going on after a decision pays the resumption. The network's own classifier is part of the backbone, and alone it
    decides nothing; but behind an early exit its score is computed as at every stop, and paid.

    Args:
        profile: Must know every cut and head of `exits`.
        exits: In the order of the cuts. [E]
        decision: What is decided by at each stop, and paid: `max_prob`, `max_prob/mean` (see `decision_name`).
        axis: One that the profile knows.

    Raises:
        CostError: the profile lacks the axis, a cut, a head or the decision.
    """
    return profile.steps(exits, decision, axis)


def _device_steps(profile: DeviceProfile, exits: Sequence[ExitId], decision: str, axis: Axis) -> StageCosts:
    known = profile.parts(axis)
    try:
        calls = [call_steps(profile.cuts, each, exits, decision, axis) for each in known]
    except KeyError as missing:
        raise CostError(
            f"the profile of {profile.device} does not know {missing}", do="Measure it again: `eesearch profile`."
        ) from None
    return costs_of_calls(calls, known, exits, axis)
