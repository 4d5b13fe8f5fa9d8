"""What was measured again: chosen networks that ran end to end, with real early stopping, beside what was predicted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log
from typing import Literal

from pydantic import Field

from eesearch.core.amounts import Positive
from eesearch.core.design import Value, content_key
from eesearch.core.front import Evaluation
from eesearch.costs.pairing import Agreement, Spent, agreement


def policy_key(evaluation: Evaluation) -> str:
    """Which network with which policy it is, wherever it lies on a front."""
    return content_key("policy", evaluation.design, evaluation.policy.model_dump(mode="json"))


class Verified(Value):
    """One point, measured end to end on a device in blocks that alternated with the backbone.

    Attributes:
        device: Where it ran.
        front: The device whose front it was taken from; `point`: its number there, then.
        policy: Key of design and policy, see `policy_key`.
        fingerprint: Processor, versions and settings.
        when: UTC.
        batch: Samples of a call.
        samples: That were timed, of `total` ones on test; every one was answered.
        calls: That were timed, in all processes.
        predicted: Milliseconds per sample from the profile, for exactly the calls that were timed; `measured`: by the
            clock.
        predicted_backbone: Milliseconds per sample; `backbone`: by the clock.
        ratio: Measured mean over the backbone's; `interval`: 95 %, see `costs.pairing`.
        noise: Relative noise: that of the profile, between blocks, or between processes, whichever is most.
        spread: Relative spread between blocks.
        contention: Wall over processor time; above 1.05 something else ran on the core.
        accuracy: Of the deployed network on all test samples; `table_accuracy`: what the front says.
        differing: Samples whose answer or stop differs from the table; `near`: those of which a score lies within
            0.0001 of a threshold, which are not counted among them.
    """

    device: str
    front: str
    point: int
    policy: str
    fingerprint: dict[str, str]
    when: str
    batch: int
    samples: int
    total: int
    calls: int
    blocks: int
    processes: int
    predicted: Spent
    measured: Spent
    predicted_backbone: Positive
    backbone: Spent
    ratio: Positive
    interval: tuple[Positive, Positive]
    noise: float
    spread: float
    contention: float
    accuracy: float
    table_accuracy: float
    differing: int
    near: int

    @property
    def predicted_ratio(self) -> float:
        """Predicted mean over the backbone's."""
        return self.predicted.mean / self.predicted_backbone

    @property
    def speedup(self) -> float:
        """How many times faster than the backbone, measured."""
        return 1.0 / self.ratio

    @property
    def speedup_interval(self) -> tuple[float, float]:
        """Its 95 % interval."""
        low, high = self.interval
        return 1.0 / high, 1.0 / low

    @property
    def error(self) -> float:
        """Relative error of the predicted mean; above 0: it took less than predicted."""
        return self.predicted.mean / self.measured.mean - 1.0

    @property
    def agrees(self) -> bool:
        """Whether predicted and measured ratio differ by no more than the noise."""
        low, high = self.interval
        inside = low <= self.predicted_ratio <= high
        return inside or abs(log(self.predicted_ratio / self.ratio)) <= self.noise

    @property
    def pays(self) -> Literal["yes", "no", "unclear"]:
        """Whether it is faster than the backbone by the clock."""
        low, high = self.interval
        return "yes" if high < 1.0 else "no" if low > 1.0 else "unclear"


class VerifiedFile(Value):
    """The file `verified.json`.

    Attributes:
        entries: One per device and policy; the newest.
    """

    version: Literal[1] = 1
    entries: tuple[Verified, ...] = Field(default=())

    def with_newer(self, newer: Iterable[Verified]) -> VerifiedFile:
        """The same with entries that replace older ones of the same device and policy."""
        known = {(entry.device, entry.policy): entry for entry in self.entries}
        known |= {(entry.device, entry.policy): entry for entry in newer}
        return self.model_copy(update={"entries": tuple(known.values())})


def summed_up(entries: Sequence[Verified]) -> Agreement:
    """How well the predictions of several points were met."""
    return agreement(
        [entry.predicted.mean for entry in entries],
        [entry.measured.mean for entry in entries],
        [entry.noise for entry in entries],
    )


def verified_words(entry: Verified, name: str) -> str:
    """What became of a point's ratio, in a sentence or three."""
    ratio, predicted, low, high = map(_ratio, (entry.ratio, entry.predicted_ratio, *entry.interval))
    words = f"{name} measured end to end: {ratio} x (predicted {predicted} x), 95 % {low} to {high}."
    if not entry.agrees:
        words += f" That is further from the prediction than noise ({entry.noise:.0%}) explains: go by the clock."
    if entry.pays == "no":
        words += " By the clock it is slower than the unmodified network: exits do not pay here."
    elif entry.pays == "unclear":
        words += " By the clock no saving is shown."
    if entry.differing:
        words += f" {entry.differing} of {entry.total:,} samples were answered or stopped otherwise than in the table."
    return words


def _ratio(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.3f}"
