"""What a search answers: per device the front, selected on calibration and reported on test, in one JSON-able value."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field

from eesearch.core.costs import Axis
from eesearch.core.design import AnyDesign, Value, content_key
from eesearch.core.front import Certificate, Evaluation, Front
from eesearch.core.timings import CONTENDED, NOISY
from eesearch.study.cautions import cautions, times
from eesearch.study.points import DesignFacts, ExitFacts, Layer, OracleAnswer, PickElsewhere, Point, Tried
from eesearch.study.verified import Verified, policy_key, verified_words

TIE = 0.03
"""Relative cost differences below this are ties: the noise floor of the timer between processes."""

UNKEPT = 1.0
"""Percentage points lost on test beyond which a point "at no loss on calibration" did not keep its promise."""

LAST_LOST = 0.005
"""A last classifier that is more than half a point below the backbone on calibration has paid for the early exits."""

SPENT: dict[Axis, str] = {
    "macs": "multiply-adds",
    "latency_ms": "mean latency",
    "energy_mj": "mean energy",
    "bytes": "mean traffic",
    "params": "mean parameters",
    "peak_bytes": "mean peak memory",
}
"""What a verdict calls the costs of an axis."""


class SeedAnswer(Value):
    """Where a placement rule of the literature landed, replayed on the bank.

    Attributes:
        rule: The rule with its parameters, such as `th_rule 2 exits`.
        value: Share of the reference rectangle that the best thresholds for this placement dominate (calibration).
        enqueued: Whether this placement was trained jointly: a trial began with it.
    """

    rule: str
    point: Point
    value: float
    enqueued: bool


class TrainingCost(Value):
    """What training took.

    Attributes:
        samples: That went through the backbone.
        forward: Sample-segments that were run forward: a segment is the part of the backbone between two cuts.
        backward: The same, backward.
    """

    samples: int = 0
    forward: int = 0
    backward: int = 0


class StrategyAnswer(Value):
    """What the designs of one strategy reach on a device, without those of the others.

    Attributes:
        trials: Number of trials that proposed it, however they ended.
        designs: Number of designs that were trained to the end.
        points: Of their front on calibration, by rising cost there; spread evenly where there are many.
        free: The cheapest point that loses nothing on calibration.
        half: The most accurate point on calibration that costs at most half the backbone.
        hypervolume: Of the calibration front, as trials are valued; None if it is empty, or keeps no constraint.
        hypervolume_test: Of the same points in the same order, on test.
        last_accuracy: The worst calibration accuracy of an own last classifier, of the designs on the front.
        cost: Of all its trials; a design that several trials proposed was trained once.
        best: Number of the trial with the highest value.
        best_cost: What that one took.
    """

    strategy: str
    trials: int
    designs: int
    points: tuple[Point, ...] = ()
    free: Point | None = None
    half: Point | None = None
    hypervolume: float | None = None
    hypervolume_test: float | None = None
    last_accuracy: float | None = None
    cost: TrainingCost = TrainingCost()
    best: int | None = None
    best_cost: TrainingCost | None = None


class DeviceAnswer(Value):
    """The front of one device.

    Attributes:
        axis: What `points` minimise beside the calibration error.
        points: By rising cost; their index is the point's number.
        oracle: Front of the stable oracle on test, by rising cost.
        oracle_all_heads: Whether it may choose among all heads of a cut, or has the most accurate one only.
        static: Front of the sub-networks where everybody leaves at the same exit, by rising cost on calibration.
        overthinking: A row per exit.
        certificates: By decision (`max_prob`): how far from the best of all policies on the bank its front can be.
        broken: Constraints that no policy was found to keep; the front is then the one point that breaks them least.
        skipped: Limits on what was not measured on this device.
        optimism: By rising drop on calibration (a share): how much more is lost, on samples that had no part in it, by
            the cheapest policy within that drop (`eesearch.solve.optimism`). Empty: not estimated.
        layers: Points of others, to compare with.
        dominated: Points of the trials' own fronts that the merged front leaves out, by rising cost.
        left_out: Number of further such points; those that are there are spread evenly.
        strategies: In the order of their first trials.
        designs: What is known of each that was trained, by key.
        noise: Relative noise of the measured costs between processes; 0 for counted ones.
        noisy: Names of the measured figures that never settled.
        contention: Wall over processor time of the figure where that was largest: above 1.05 other work ran beside it.
        cautions: Why the measured costs are to be taken with caution, in words.
        system: Of a system: its tiers and links in words, with what of it is declared.
        verified: Points of the front that ran end to end here; they are kept in a file of their own.
    """

    device: str
    axis: Axis
    backbone: Point
    points: tuple[Point, ...]
    seeds: tuple[SeedAnswer, ...] = ()
    oracle: tuple[OracleAnswer, ...] = ()
    oracle_all_heads: bool = True
    static: tuple[Point, ...] = ()
    overthinking: tuple[ExitFacts, ...] = ()
    certificates: dict[str, Certificate] = Field(default_factory=dict)
    broken: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    optimism: tuple[tuple[float, float], ...] = ()
    layers: tuple[Layer, ...] = ()
    dominated: tuple[Tried, ...] = ()
    left_out: int = 0
    strategies: tuple[StrategyAnswer, ...] = ()
    designs: dict[str, DesignFacts] = Field(default_factory=dict)
    noise: float = 0.0
    noisy: tuple[str, ...] = ()
    contention: float = 1.0
    cautions: tuple[str, ...] = ()
    system: dict[str, str] = Field(default_factory=dict)
    verified: tuple[Verified, ...] = ()

    def front(self) -> Front:
        """The calibration front, on which picks are made."""
        points = [point.cal for point in self.points]
        return Front(points, backbone=self.backbone.cal, axis=self.axis, device=self.device)

    def is_backbone(self, point: Point) -> bool:
        """Whether a point answers as the unmodified backbone: nothing about it was chosen, so nothing is optimistic."""
        exits, (own,) = point.cal.policy.exits, self.backbone.cal.policy.exits
        return [exit_id.bare for exit_id in exits] == [own.bare]

    def ratio(self, point: Point) -> float:
        """The point's mean cost over the backbone's, on test."""
        return point.test.costs[self.axis].mean / self.backbone.test.costs[self.axis].mean

    def drop(self, point: Point) -> float:
        """Accuracy that a point loses to the backbone on calibration, as a share: what others would promise."""
        return self.backbone.cal.accuracy - point.cal.accuracy

    def corrected(self, point: Point) -> float:
        """The drop to expect on new samples: that on calibration, and the optimism of having been chosen there."""
        drop = self.drop(point)
        return drop if self.is_backbone(point) else drop + self.optimism_at(drop)

    def expected(self, point: Point, *, naive: bool = False) -> float:
        """The drop that limits are compared with: no point counts as better than on calibration (`naive`: that)."""
        return self.drop(point) if naive else max(self.drop(point), self.corrected(point))

    def within(self, drop: float, *, naive: bool = False) -> Point | None:
        """The cheapest point that is expected to lose no more than this share.

        None: there is none, or it costs more than the backbone, which loses nothing.
        """
        found = self.qualifying(drop, naive=naive)
        return None if found is None or self._costlier(found) else found

    def qualifying(self, drop: float, *, naive: bool = False) -> Point | None:
        """The cheapest point that is expected to lose no more than this share, whatever it costs."""
        return next((p for p in self.points if self.expected(p, naive=naive) <= drop + 1e-12), None)

    def _costlier(self, point: Point) -> bool:
        """Whether a point costs more than the backbone, on calibration."""
        return point.cal.costs[self.axis].mean > (1.0 + 1e-9) * self.backbone.cal.costs[self.axis].mean

    def optimism_at(self, drop: float) -> float:
        """How much more than a drop on calibration is lost on new samples; between the estimates in proportion."""
        if not self.optimism:
            return 0.0
        drops, gaps = zip(*self.optimism, strict=True)
        return float(np.interp(drop, drops, gaps))

    def at_no_loss(self) -> Point | None:
        """The cheapest point that is expected to lose nothing on new samples."""
        return self.within(0.0)

    def verdict(self) -> str:
        """Do exits pay on this device, how much, at what drop, by prediction and by the clock: plain sentences."""
        return self._predicted() + self._measured()

    def numbers(self) -> dict[int, Verified]:
        """What ran end to end, by its number on the front."""
        known = {entry.policy: entry for entry in self.verified}
        keys = [policy_key(point.cal) for point in self.points] if known else []
        return {number: known[key] for number, key in enumerate(keys) if key in known}

    def _measured(self) -> str:
        """What became of the point at no loss; of the most accurate one that was verified, if that one was not."""
        found, free = self.numbers(), self.at_no_loss()
        if not found:
            return ""
        number = max(found) if free is None or self.points.index(free) not in found else self.points.index(free)
        return f" {verified_words(found[number], f'Point {number}')}"

    def _predicted(self) -> str:
        if self.broken:
            wanted = ", ".join(self.broken)
            return f"{self.device}: no policy was found that keeps {wanted}; this one breaks it least.{self._caution()}"
        point, unit = self.at_no_loss(), SPENT[self.axis]
        if point is not None and not self._saves(point) and self.ratio(point) <= 1.0 - TIE:
            drowned = (
                f"at no loss they need {times(self.ratio(point))} the backbone's {unit}, which is within the noise"
            )
            return f"{self.device}: exits may pay, but {drowned}{self._alternative(unit)}.{self._caution()}"
        if point is None or not self._saves(point):
            return f"{self.device}: {self._no_promise(unit)}{self._caution()}"
        kept = self.backbone.test.accuracy - point.test.accuracy <= 0.01 * UNKEPT
        pays = "exits pay" if kept else "exits save, but do not keep their promise on test"
        expected = "At no loss expected on new samples" if self.optimism else "At no loss on calibration"
        return (
            f"{self.device}: {pays}. {expected} {times(self.ratio(point))} the backbone's {unit}; "
            f"accuracy on test {point.test.accuracy:.2%}, {self._change(point)}.{self._caution()}"
        )

    def _saves(self, point: Point) -> bool:
        return self.ratio(point) <= 1.0 - max(TIE, self.noise)

    def _change(self, point: Point) -> str:
        """A point's accuracy on test against the backbone's."""
        drop = self.backbone.test.accuracy - point.test.accuracy
        words = f"{_side(drop, ' points')} the backbone's {self.backbone.test.accuracy:.2%}"
        if point.paired is None:
            return words
        low, high = point.paired.interval()
        return f"{words} (95 %: {_side(high)} to {_side(low)})"

    def _no_promise(self, unit: str) -> str:
        """That nothing is expected to come for free, and what calibration says."""
        naive = self.within(0.0, naive=True)
        if not self.optimism or naive is None or not self._saves(naive):
            return f"exits do not pay at no loss{'' if self.optimism else ' on calibration'}{self._alternative(unit)}."
        return (
            f"no saving can be promised at no loss{self._alternative(unit)}. What loses nothing on the "
            f"{naive.cal.samples:,} calibration samples needs {times(self.ratio(naive))} and is expected to lose "
            f"{100.0 * self.corrected(naive):.2f} points on new ones; on test it is {self._change(naive)}."
        )

    def _caution(self) -> str:
        """What to think of costs measured on a restless machine, and of a front whose search was cut short."""
        words = self._handed_on() + self._paid_for()
        words += f" Not measured here, so not limited: {', '.join(self.skipped)}." if self.skipped else ""
        if self.noise > NOISY:
            words += f" Measured with {self.noise:.0%} noise between processes: measure again on a quiet machine."
        elif self.contention > CONTENDED:
            words += (
                f" Measured beside other work (contention {self.contention:.2f}): measure again on a quiet machine."
            )
        for decision, certificate in self.certificates.items():
            words += "" if certificate.exact else f" The bank's front by {decision} is {certificate}."
        return words

    def _handed_on(self) -> str:
        """How much of the answer at no loss is somebody else's."""
        point = self.at_no_loss()
        stops = point.test.policy.exits if point else ()
        if point is None or not stops[-1].is_last_resort:
            return ""
        return f" {point.test.exit_rate[-1]:.1%} of the samples are handed on to the last resort, and count as right."

    def _paid_for(self) -> str:
        """Whether the last classifier of a design on the front lost what its early exits won."""
        whole, own = self.backbone.cal, {point.cal.design for point in self.points}
        found = {key: facts.last_accuracy for key, facts in self.designs.items() if key in own}
        low = {key: last for key, last in found.items() if last is not None and pays_for_exits(last, whole)}
        if not low:
            return ""
        worst = min(low, key=lambda key: low[key])
        cause = "early exits were paid for by the last one"
        if low[worst] >= whole.interval[0]:
            cause = f"with {whole.samples:,} samples that may be chance"
        others = f"; {len(low)} designs on the front lost more than {100.0 * LAST_LOST:g}" if len(low) > 1 else ""
        return (
            f" The own classifier of design {worst} (trial {self.designs[worst].trial}) is "
            f"{100.0 * (whole.accuracy - low[worst]):.2f} points below the backbone on calibration: {cause}{others}."
        )

    def _alternative(self, unit: str) -> str:
        """What a drop of one point would buy, or of two."""
        for drop, words in ((0.01, "one point"), (0.02, "two points")):
            point = self.within(drop)
            if point is not None and self._saves(point):
                return f"; at {words} lost they need {times(self.ratio(point))} the backbone's {unit}"
        return ", nor at two points lost"


def _side(drop: float, unit: str = "") -> str:
    """A drop in percentage points, in words."""
    rounded = round(100.0 * drop, 2)
    return f"{abs(rounded):.2f}{unit} {'below' if rounded > 0 else 'above'}" if rounded else "equal to"


class TrialAnswer(Value):
    """One trained design, or one that failed or was stopped early.

    Attributes:
        state: `pruned`: stopped early, because it did not look promising beside others.
        value: Share of the reference rectangle that its calibration front dominates, mean over devices.
        exits: `cut:head`, in order.
        alphas: Weight of the loss of each of them.
        elapsed: Seconds of all trials up to the end of this one.
        hypervolumes: Of the merged calibration front after this trial, per device, see `Front.hypervolume`; None as
            long as it is empty, or its one point breaks the constraints.
        last_accuracy: Calibration accuracy of its own last classifier; the backbone's is in `DeviceAnswer.backbone`.
        origin: `draft`, `bank`, a seeding rule, or the sampler.
        samples: Training samples that went through the backbone.
        forward: Sample-segments that training ran forward, see `TrainingCost`; 0: nobody counted.
        backward: The same, backward.
        notes: Figures that its strategy tells about it.
        epochs: That a stopped one was trained for.
    """

    number: int
    state: Literal["complete", "failed", "pruned"]
    strategy: str
    origin: str
    value: float | None = None
    design: str = ""
    exits: tuple[str, ...] = ()
    alphas: tuple[float, ...] = ()
    elapsed: float = 0.0
    hypervolumes: tuple[float | None, ...] = ()
    last_accuracy: float | None = None
    seconds: float = 0.0
    error: str = ""
    samples: int = 0
    forward: int = 0
    backward: int = 0
    notes: dict[str, float] = Field(default_factory=dict)
    epochs: int | None = None


class Answers(Value):
    """Everything that `front`, `report` and `predict` read; written as `front.json`.

    Attributes:
        study: The study's name.
        data: Sizes, seed and content hashes of the splits.
        phases: Wall seconds by phase of the search.
        designs: What was trained, by key.
        elsewhere: What the picks of each device cost on the others; empty where there is one device.
    """

    version: Literal[1] = 1
    study: str
    mode: str
    data: dict[str, Any]
    devices: tuple[DeviceAnswer, ...]
    trials: tuple[TrialAnswer, ...] = ()
    phases: dict[str, float] = Field(default_factory=dict)
    designs: dict[str, AnyDesign] = Field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    elsewhere: tuple[PickElsewhere, ...] = ()

    @property
    def key(self) -> str:
        """Content key of the points of all fronts."""
        chosen = [[(p.cal.design, p.cal.policy.model_dump(mode="json")) for p in d.points] for d in self.devices]
        return content_key([d.device for d in self.devices], chosen)

    def verdicts(self) -> list[str]:
        """One sentence per device, and what to think of the figures."""
        told = [device.verdict() for device in self.devices]
        return told + cautions(self.data, self.class_names, self.devices[0].backbone.cal.accuracy)

    def verdict(self) -> str:
        """All of them."""
        return " ".join(self.verdicts())


def pays_for_exits(last_accuracy: float, backbone: Evaluation) -> bool:
    """Whether a design's own last classifier lost more than `LAST_LOST` to the backbone, both on calibration."""
    return backbone.accuracy - last_accuracy > LAST_LOST + 1e-12
