"""Measured figures of one device: milliseconds, millijoules, and why to doubt them."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from eesearch.core.amounts import Amount, ByHead, Finite
from eesearch.core.design import Value


class Timing(Value):
    """One measured figure. All times in milliseconds per call, raw quantiles over the rounds of all processes.

    Attributes:
        ms: The estimate: the median over processes of the median of round medians.
        contention: Wall time over processor time; above 1.05 something else ran on the core.
        noisy: Whether the rounds never settled.
    """

    ms: Amount
    min: Finite
    p10: Finite
    p50: Finite
    p90: Finite
    p95: Finite
    p99: Finite
    rounds: int
    contention: Amount
    noisy: bool


class LatencyProfile(Value):
    """Measured milliseconds per call.

    Attributes:
        prefix_ms: From the input to each cut, then to the output, each merged into one segment as it is deployed; the
            last is the unmodified backbone. Non-decreasing. [K + 1]
        head_ms: cut -> head name -> head in place (prefix + head, minus prefix).
        decision_ms: decision (`max_prob`, `max_prob/mean`) -> deciding at one exit whether to leave.
        resume_ms: What going on after a decision costs: two merged segments in a row, minus one.
        timings: Every raw figure, by its name.
        noise: Relative spread between processes: smaller differences are ties.
        batch: Samples per call.
    """

    prefix_ms: tuple[Amount, ...]
    head_ms: ByHead
    decision_ms: dict[str, Amount]
    resume_ms: Amount
    timings: dict[str, Timing]
    noise: Amount
    batch: int = Field(default=1, ge=1)

    @property
    def contention(self) -> float:
        """The largest of all figures, see `Timing`."""
        return max((timing.contention for timing in self.timings.values()), default=1.0)

    @property
    def cautions(self) -> tuple[str, ...]:
        """Why these figures are to be taken with caution, in words; empty on a quiet machine."""
        contended = self.contention
        noisy = [name for name, timing in self.timings.items() if timing.noisy]
        found = []
        if contended > CONTENDED:
            found.append(f"other work ran on the same cores: calls took up to {contended:.2f} times what they ran for")
        if self.noise > NOISY:
            found.append(f"processes disagree by {self.noise:.0%}")
        if noisy:
            found.append(f"{len(noisy)} of {len(self.timings)} figures never settled: {_few(noisy)}")
        return tuple(found)


CONTENDED, NOISY = 1.05, 0.10
"""Wall time over processor time, and relative spread between processes, beyond which a measurement is doubtful."""


def _few(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


class EnergyProfile(Value):
    """Measured millijoules per call at the device's batch size; fields as those of `LatencyProfile`."""

    prefix_mj: tuple[Amount, ...]
    head_mj: ByHead
    decision_mj: dict[str, Amount]
    resume_mj: Amount
