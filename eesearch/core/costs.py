"""Costs as steps: device profiles, and the one matrix that policies, routing and solver read.

cost(leave at e_k | active e_1 < ... < e_k) = step[input, e_1] + step[e_1, e_2] + ... + step[e_{k-1}, e_k]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from eesearch.core.design import ExitId, Value, place_of, rows_of
from eesearch.core.errors import CostError

Axis = Literal["macs", "latency_ms", "energy_mj", "bytes", "params"]
"""What is counted or measured. `params` adds up over a path and not over samples: a policy's number of parameters is
the `worst` of its costs."""


class Timing(Value):
    """One measured figure. All times in milliseconds per call, raw quantiles over the rounds of all processes.

    Attributes:
        ms: The estimate: the median over processes of the median of round medians.
        contention: Wall time over processor time; above 1.05 something else ran on the core.
        noisy: Whether the rounds never settled.
    """

    ms: float
    min: float
    p10: float
    p50: float
    p90: float
    p95: float
    p99: float
    rounds: int
    contention: float
    noisy: bool


class LatencyProfile(Value):
    """Measured milliseconds at the device's batch size.

    Attributes:
        prefix_ms: From the input to each cut, then to the output, each merged into one segment as it is deployed; the
            last is the unmodified backbone. Non-decreasing. [K + 1]
        head_ms: cut -> head name -> head in place (prefix + head, minus prefix).
        decision_ms: decision (`max_prob`, `max_prob/mean`) -> deciding at one exit whether to leave.
        resume_ms: What going on after a decision costs: two merged segments in a row, minus one.
        timings: Every raw figure, by its name.
        noise: Relative spread between processes: smaller differences are ties.
    """

    prefix_ms: tuple[float, ...]
    head_ms: dict[str, dict[str, float]]
    decision_ms: dict[str, float]
    resume_ms: float
    timings: dict[str, Timing]
    noise: float


class Profile(Protocol):
    """What everybody reads of a profile, be it of a device or of a system of several (`core.systems`)."""

    @property
    def device(self) -> str:
        """Its name in the study."""
        ...

    @property
    def axis(self) -> Axis:
        """The cost axis of its front."""
        ...

    @property
    def axes(self) -> tuple[Axis, ...]:
        """All cost axes that it knows, the one of its front first."""
        ...

    @property
    def cuts(self) -> tuple[str, ...]:
        """Names of the cuts, in order. [K]"""
        ...

    @property
    def macs_prefix(self) -> tuple[float, ...]:
        """Multiply-adds from the input to each cut, then to the output. [K + 1]"""
        ...

    @property
    def macs_head(self) -> dict[str, dict[str, float]]:
        """Cut -> head name -> multiply-adds of the head."""
        ...

    @property
    def latency(self) -> LatencyProfile | None:
        """What was measured; None where nothing was."""
        ...

    def steps(self, exits: Sequence[ExitId], decision: str, axis: Axis) -> StageCosts:
        """See `stage_costs`."""
        ...

    def model_dump(self, *, mode: Literal["json"]) -> dict[str, Any]:
        """As JSON has it: part of keys."""
        ...


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
        latency: None on the device `macs`.
    """

    device: str
    fingerprint: dict[str, str]
    content: str
    cuts: tuple[str, ...]
    macs_prefix: tuple[float, ...]
    macs_head: dict[str, dict[str, float]]
    params_prefix: tuple[float, ...] = ()
    params_head: dict[str, dict[str, float]] = Field(default_factory=dict)
    latency: LatencyProfile | None = None

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
        counted: tuple[Axis, ...] = ("macs", "params") if self.params_prefix else ("macs",)
        return counted if self.latency is None else ("latency_ms", *counted)

    def known(self, axis: Axis) -> tuple[tuple[float, ...], dict[str, dict[str, float]]]:
        """Cost of every prefix, and of every head by cut and name.

        Raises:
            CostError: the profile lacks the axis.
        """
        if axis == "latency_ms" and self.latency is not None:
            return self.latency.prefix_ms, self.latency.head_ms
        if axis == "params" and self.params_prefix:
            return self.params_prefix, self.params_head
        if axis == "macs":
            return self.macs_prefix, self.macs_head
        raise CostError(f"the profile of {self.device} has no {axis}", expected=f"one of {', '.join(self.axes)}")


@dataclass(frozen=True, eq=False)
class StageCosts:
    """What it costs to go on from one stop to the next, on one axis.

    Attributes:
        step: [E + 1, E]; row 0 is the input, row i + 1 is exit i; inf where the step is forbidden (same or
            earlier cut).
        exits: Columns of `step`. [E]
        axis: What they are costs of.
        backbone: Cost of the unmodified backbone: no head, no decision.
    """

    step: NDArray[np.float64]
    exits: tuple[ExitId, ...]
    axis: Axis
    backbone: float

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
        step = self.step[np.ix_(np.concatenate([[0], rows + 1]), rows)]
        return StageCosts(step, tuple(exits), self.axis, self.backbone)

    def cumulative(self, exits: Sequence[ExitId]) -> NDArray[np.float64]:
        """Cost of leaving at each of these stops, when all of them are active (gamma_i). [k]

        Raises:
            CostError: the order is forbidden, or the cost of an exit is not known.
        """
        path = [0, *(self._row(e) + 1 for e in exits)]
        steps = np.array([self.step[i, j - 1] for i, j in pairwise(path)])
        if not np.isfinite(steps).all():
            raise CostError("a sample cannot meet these exits in this order", got=[str(e) for e in exits])
        return np.asarray(steps.cumsum())


def stage_costs(profile: Profile, exits: Sequence[ExitId], decision: str, axis: Axis) -> StageCosts:
    """Turn a profile into steps between the exits of one network.

    A head pays for itself and for its decision, whether anyone leaves or not; one that says nothing pays for neither.
    Going on after a decision pays the resumption. The network's own classifier is part of the backbone, and alone it decides nothing; but behind an early
    exit its score is computed as at every stop, and paid.

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
    prefix, heads = profile.known(axis)
    timed = profile.latency if axis == "latency_ms" else None
    depth = {cut: k for k, cut in enumerate(profile.cuts)}
    try:
        decided = timed.decision_ms[decision] if timed else 0.0
        depths = [len(profile.cuts) if e.is_output else depth[e.cut] for e in exits]
        own = [0.0 if e.is_output or e.is_none else heads[e.cut][e.head] + decided for e in exits]
    except KeyError as missing:
        raise CostError(
            f"the profile of {profile.device} does not know {missing}", do="Measure it again: `eesearch profile`."
        ) from None
    resume = timed.resume_ms if timed else 0.0
    step = np.full((len(exits) + 1, len(exits)), np.inf)
    for j, depth_j in enumerate(depths):
        step[0, j] = prefix[depth_j] + own[j]
        for i, depth_i in enumerate(depths):
            if depth_i < depth_j:
                scored = decided if exits[j].is_output else 0.0  # a head's decision is in `own` already
                step[i + 1, j] = prefix[depth_j] - prefix[depth_i] + resume + own[j] + scored
    return StageCosts(step, tuple(exits), axis, float(prefix[-1]))
