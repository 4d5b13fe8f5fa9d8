"""What drivers and problems exchange: a trial's parameters go in, an outcome comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pydantic import Field

from eesearch.core.design import AnyDesign, Value
from eesearch.core.errors import EesearchError
from eesearch.core.policy import Policy
from eesearch.study.space import Parameter

Params = Mapping[str, str | float]

Report = Callable[[int, float], bool]
"""Called as `report(epochs done, value so far)` while a design is trained; says whether to stop now."""

BANK = "bank"
"""Origin of trial 0, or 1 behind a draft: every head at every cut, trained once on the frozen backbone."""

DRAFT = "draft"
"""Origin of trial 0 if a bank of a share of the training samples comes first; the bank is trial 1 then."""

SAMPLER = "sampler"
"""Origin of the trials that the sampler proposed."""


class Outcome(Value):
    """What one trial found; kept with the trial as JSON.

    Attributes:
        design: What was trained; None: no exit was proposed, so this is the backbone itself.
        policy: Only where thresholds were parameters of the trial (`mode: joint-trials`).
        values: What the study's directions apply to.
        last_accuracy: Calibration accuracy of the network's own classifier.
        samples: That went through the backbone to train the design, or through as many segments of it or of a teacher.
        forward: Segments of the backbone that samples went through for it.
        backward: Segments that gradients of samples went through.
        notes: What the strategy tells of its design, such as what hard gates lose.
    """

    design: AnyDesign | None
    policy: Policy | None = None
    values: tuple[float, ...]
    last_accuracy: float | None = None
    samples: int = 0
    forward: int = 0
    backward: int = 0
    notes: dict[str, float] = Field(default_factory=dict)


class StoppedEarlyError(EesearchError):
    """A training was stopped because it did not look promising.

    Args:
        samples: That it had processed.
    """

    def __init__(self, samples: int) -> None:
        super().__init__(f"stopped after {samples} samples")
        self.samples = samples


@dataclass(frozen=True)
class Finished:
    """A trial that ended: with an outcome, with the error of its design, or stopped early.

    Attributes:
        params: What it proposed; empty of the bank.
        samples: That went through the backbone to train its design.
        ended: Trials that had ended by then, this one included, whoever ran them; 0: nobody counted.
    """

    number: int
    origin: str
    outcome: Outcome | None
    error: str
    seconds: float
    state: Literal["complete", "failed", "pruned"]
    samples: int = 0
    params: Params = field(default_factory=dict)
    ended: int = 0


class SearchProblem(Protocol):
    """What a driver needs to know of a problem.

    Attributes:
        key: Changes when values of trials are no longer comparable (devices, objectives).
        directions: `minimize` or `maximize`, one per value.
        parameters: The flat static list that every proposed trial sets.
        origin: Of the trial that has no parameters: trial 0, or 1 behind a draft.
        reference: Per device: the backbone's error on calibration, and the largest that counts.
    """

    origin: str

    @property
    def key(self) -> str:
        """See the class."""
        ...

    @property
    def directions(self) -> tuple[Literal["minimize", "maximize"], ...]:
        """See the class."""
        ...

    @property
    def reference(self) -> tuple[tuple[float, float], ...]:
        """See the class."""
        ...

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """See the class."""
        ...

    def draft(self) -> Outcome | None:
        """What comes before all else, also without parameters; None if nothing does."""
        ...

    def first(self) -> Outcome | None:
        """The outcome of the trial that has no parameters; None if this mode has none."""
        ...

    def seeds(self) -> Sequence[tuple[str, Params]]:
        """(origin, parameters) of the trials that come before the sampler's."""
        ...

    def run(self, params: Params, report: Report | None = None) -> Outcome:
        """Train and evaluate what the parameters propose.

        Raises:
            StoppedEarlyError: `report` said so.
        """
        ...

    def revalue(self, outcome: Outcome) -> Outcome:
        """The same outcome under the present devices and objectives, without training."""
        ...

    def fronts(self, outcome: Outcome) -> tuple[tuple[tuple[float, float], ...], ...]:
        """Per device: (error, cost / the backbone's cost) of the trial's points on calibration."""
        ...
