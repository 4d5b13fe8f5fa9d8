"""What drivers and problems exchange: a trial's parameters go in, an outcome comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from eesearch.core.design import Design, Value
from eesearch.core.policy import Policy
from eesearch.study.space import Parameter

Params = Mapping[str, str | float]

BANK = "bank"
"""Origin of trial 0: every head at every cut, trained once on the frozen backbone."""

SAMPLER = "sampler"
"""Origin of the trials that the sampler proposed."""


class Outcome(Value):
    """What one trial found; kept with the trial as JSON.

    Attributes:
        design: What was trained; None: no exit was proposed, so this is the backbone itself.
        policy: Only where thresholds were parameters of the trial (`mode: joint-trials`).
        values: What the study's directions apply to.
        last_accuracy: Calibration accuracy of the network's own classifier.
    """

    design: Design | None
    policy: Policy | None = None
    values: tuple[float, ...]
    last_accuracy: float | None = None


@dataclass(frozen=True)
class Finished:
    """A trial that ended: with an outcome, or with the error of its design."""

    number: int
    origin: str
    outcome: Outcome | None
    error: str
    seconds: float
    state: Literal["complete", "failed"]


class SearchProblem(Protocol):
    """What a driver needs to know of a problem.

    Attributes:
        key: Changes when values of trials are no longer comparable (devices, objectives).
        directions: `minimize` or `maximize`, one per value.
        parameters: The flat static list that every proposed trial sets.
        origin: Of trial 0.
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
    def parameters(self) -> tuple[Parameter, ...]:
        """See the class."""
        ...

    def first(self) -> Outcome | None:
        """The outcome of trial 0, which has no parameters; None if this mode has none."""
        ...

    def seeds(self) -> Sequence[tuple[str, Params]]:
        """(origin, parameters) of the trials that come before the sampler's."""
        ...

    def run(self, params: Params) -> Outcome:
        """Train and evaluate what the parameters propose."""
        ...

    def revalue(self, outcome: Outcome) -> Outcome:
        """The same outcome under the present devices and objectives, without training."""
        ...
