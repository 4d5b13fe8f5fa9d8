"""Costs as steps: device profiles, and the one matrix that policies, routing and solver read.

cost(leave at e_k | active e_1 < ... < e_k) = step[input, e_1] + step[e_1, e_2] + ... + step[e_{k-1}, e_k]

Peak memory is not added up along a path: the largest step counts. With batches a step costs what a call for the
samples that are left costs (`core.batches`), and is shared by all samples of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from eesearch.core.amounts import Amount, ByHead, require_growing, require_known, require_rising, require_sizes
from eesearch.core.batches import calls_expected
from eesearch.core.design import ExitId, Value, place_of, rows_of
from eesearch.core.errors import CostError
from eesearch.core.timings import EnergyProfile as EnergyProfile
from eesearch.core.timings import LatencyProfile as LatencyProfile
from eesearch.core.timings import Timing as Timing

Axis = Literal["macs", "latency_ms", "energy_mj", "bytes", "params", "peak_bytes"]
"""What is counted or measured."""

FOLDS: dict[Axis, Literal["mean", "sum", "max"]] = {
    "macs": "mean",
    "latency_ms": "mean",
    "energy_mj": "mean",
    "bytes": "mean",
    "params": "sum",
    "peak_bytes": "max",
}
"""How the steps of a path make one figure: as a mean over the samples; or, whatever the samples do, as their sum or
their largest. Of `sum` and `max` axes the figure is the `worst` of a policy's costs."""


class Profile(Protocol):
    """What everybody reads of a profile, be it of a device or of a system of several (`core.systems`)."""

    @property
    def device(self) -> str:
        """Its name in the study."""

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


@dataclass(frozen=True)
class Parts:
    """What the parts of a network cost on one axis, in calls of one size.

    Attributes:
        prefix: From the input to each cut, then to the output; of a `max` axis, each segment alone. [K + 1]
        head: cut -> head name -> what the head adds.
        decision: decision -> what it adds; None: deciding costs nothing.
        resume: What going on after a decision adds.
        size: Samples per call.
    """

    prefix: tuple[float, ...]
    head: dict[str, dict[str, float]]
    decision: dict[str, float] | None = None
    resume: float = 0.0
    size: int = 1


@dataclass(frozen=True, eq=False)
class StageCosts:
    """What it costs to go on from one stop to the next, on one axis.

    Attributes:
        step: Per sample, if all samples of a batch go on together. Row 0 is the input, row i + 1 is exit i; inf where
            the step is forbidden (same or earlier cut). [E + 1, E]
        exits: Columns of `step`. [E]
        axis: What they are costs of.
        backbone: Cost of the unmodified backbone: no head, no decision.
        batch: Samples that start together.
        sizes: Numbers of samples for which calls were measured, rising; the last is `batch`. Empty where the cost of a
            sample does not depend on how many go on with it. [M]
        calls: What a step costs as one call with so many samples. [M, E + 1, E]
    """

    step: NDArray[np.float64]
    exits: tuple[ExitId, ...]
    axis: Axis
    backbone: float
    batch: int = 1
    sizes: tuple[int, ...] = ()
    calls: NDArray[np.float64] | None = None

    @cached_property
    def _rows(self) -> dict[tuple[str, ...], int]:
        return rows_of(self.exits)

    def _row(self, exit_id: ExitId) -> int:
        row = self._rows.get(place_of(exit_id))
        if row is None:
            raise CostError(f"nothing is known of the cost of exit {exit_id}", got=[str(e) for e in self.exits])
        return row

    def select(self, exits: Sequence[ExitId]) -> StageCosts:
        """The costs of these exits only, in this order.

        Raises:
            CostError: an exit whose cost is not known.
        """
        rows = np.array([self._row(e) for e in exits], dtype=np.intp)
        chosen = np.ix_(np.concatenate([[0], rows + 1]), rows)
        calls = None if self.calls is None else self.calls[:, chosen[0], chosen[1]]
        return replace(self, step=self.step[chosen], exits=tuple(exits), calls=calls)

    def cumulative(self, exits: Sequence[ExitId]) -> NDArray[np.float64]:
        """Cost of leaving at each of these stops, when all of them are active (gamma_i). [k]

        With batches: per sample, if the whole batch comes that far together.

        Raises:
            CostError: the order is forbidden, or the cost of an exit is not known.
        """
        path = self._path(exits)
        steps = np.array([self.step[i, j - 1] for i, j in pairwise(path)])
        return np.asarray(np.maximum.accumulate(steps) if FOLDS[self.axis] == "max" else steps.cumsum())

    def _path(self, exits: Sequence[ExitId]) -> list[int]:
        path = [0, *(self._row(e) + 1 for e in exits)]
        if not all(np.isfinite(self.step[i, j - 1]) for i, j in pairwise(path)):
            raise CostError("a sample cannot meet these exits in this order", got=[str(e) for e in exits])
        return path

    def arriving(self, exits: Sequence[ExitId], reach: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean cost, over all samples, of the step into each stop, if these shares of them take it. [k, ...]

        Args:
            exits: Active stops, in order. [k]
            reach: Share of the samples that arrives at each. [k, ...]

        Raises:
            CostError: the order is forbidden, or the cost of an exit is not known.
        """
        pairs = list(pairwise(self._path(exits)))
        if self.calls is None:
            steps = np.array([self.step[i, j - 1] for i, j in pairs])
            return np.asarray(reach * steps.reshape(-1, *[1] * (reach.ndim - 1)))
        expected = calls_expected(reach, self.batch, self.sizes)  # [k, ..., M]
        per_call = [expected[k] @ self.calls[:, i, j - 1] for k, (i, j) in enumerate(pairs)]
        return np.asarray(per_call) / self.batch

    def mean(self, exits: Sequence[ExitId], exit_rate: NDArray[np.float64]) -> float:
        """Mean cost per sample (eq. 12), rejected heads included.

        Where steps add up and no batch is shared, the same as `exit_rate @ cumulative(exits)`.

        Args:
            exits: Active stops, in order. [k]
            exit_rate: Share of the samples that leaves at each; sums to 1. [k]

        Raises:
            CostError: the order is forbidden, or the cost of an exit is not known.
        """
        if self.calls is None:
            return float(exit_rate @ self.cumulative(exits))
        reach = np.concatenate([[1.0], np.clip(1.0 - exit_rate.cumsum()[:-1], 0.0, 1.0)])
        return float(self.arriving(exits, reach).sum())


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
        calls = [_steps(profile.cuts, each, exits, decision, axis) for each in known]
    except KeyError as missing:
        raise CostError(
            f"the profile of {profile.device} does not know {missing}", do="Measure it again: `eesearch profile`."
        ) from None
    whole, size = known[-1], known[-1].size
    backbone = max(whole.prefix) if FOLDS[axis] == "max" else whole.prefix[-1]
    if len(known) == 1:
        return StageCosts(calls[0] / size, tuple(exits), axis, backbone / size)
    sizes = tuple(each.size for each in known)
    return StageCosts(calls[-1] / size, tuple(exits), axis, backbone / size, size, sizes, np.array(calls))


def _steps(
    cuts: Sequence[str], parts: Parts, exits: Sequence[ExitId], decision: str, axis: Axis
) -> NDArray[np.float64]:
    """Of one call, see `StageCosts.calls`. [E + 1, E]"""
    depth = {cut: k for k, cut in enumerate(cuts)}
    decided = 0.0 if parts.decision is None else parts.decision[decision]
    depths = [len(cuts) if e.is_output else depth[e.cut] for e in exits]
    own = [0.0 if e.is_output or e.is_none else parts.head[e.cut][e.head] + decided for e in exits]
    step = np.full((len(exits) + 1, len(exits)), np.inf)
    for j, depth_j in enumerate(depths):
        for i, depth_i in enumerate([-1, *depths]):
            if depth_i >= depth_j:
                continue
            if FOLDS[axis] == "max":
                step[i, j] = max(*parts.prefix[depth_i + 1 : depth_j + 1], own[j])
            elif i == 0:
                step[i, j] = parts.prefix[depth_j] + own[j]
            else:
                scored = decided if exits[j].is_output else 0.0  # a head's decision is in `own` already
                step[i, j] = parts.prefix[depth_j] - parts.prefix[depth_i] + parts.resume + own[j] + scored
    return step
