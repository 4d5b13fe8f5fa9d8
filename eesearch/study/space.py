"""What may vary: cuts, heads, strategies, alphas, criteria; and the flat static list of parameters that it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from eesearch.core.costs import Axis
from eesearch.core.design import HeadSpec, Value
from eesearch.core.errors import InputError
from eesearch.core.policy import decision_name
from eesearch.core.registry import ANSWERS, CRITERIA, HEADS, STRATEGIES

NO_EXIT = "none"
"""The choice of a cut that carries no head."""


class CutSpace(Value):
    """Where an exit may hang.

    Attributes:
        candidates: `auto` (wherever a single tensor is alive), or names of modules of the model.
        max_cuts: Thin the candidates to this many, at even shares of the backbone's MACs.
    """

    candidates: Literal["auto"] | Annotated[tuple[str, ...], Field(min_length=1)] = "auto"
    max_cuts: int | None = Field(default=None, ge=1)


class AlphaRange(Value):
    """The range of a companion loss's weight alpha_i (eq. 6), searched on a log scale."""

    low: float = Field(default=0.1, gt=0.0)
    high: float = Field(default=3.0, gt=0.0)

    @model_validator(mode="after")
    def _ordered(self) -> AlphaRange:
        if self.low >= self.high:
            raise ValueError(f"alpha: low {self.low} must be below high {self.high}")
        return self

    @property
    def start(self) -> float:
        """The weight that seeds start with: 1, or the nearest that the range allows."""
        return min(max(1.0, self.low), self.high)


@dataclass(frozen=True)
class Choice:
    """A categorical parameter."""

    name: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class LogFloat:
    """A positive real parameter, searched on a log scale."""

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class UnitFloat:
    """A real parameter in [0, 1], such as the threshold of a score."""

    name: str


Parameter = Choice | LogFloat | UnitFloat


class SearchSpace(Value):
    """A search-space file.

    Attributes:
        heads: The head designs that every cut may carry.
        strategies: How a design may be trained; `separate` is the bank and is always there as trial 0.
        criteria: Scores that may decide whether a sample leaves.
        answers: Whose answer a sample leaves with: `own` that of its exit, `mean` of all active exits so far (fitted
            weights), `most_confident` of the surest of them.
        gates: Whether gates are learnt on the bank too (Bolukbasi et al. 2017): policies for its front, and placements
            for joint designs.
        max_exits: Most exits on cuts of a policy; the network's own classifier behind them is not counted.
        levels: Thresholds tried per exit, at quantiles of its own scores, and then moved to the best midpoints; `all`:
            every midpoint is tried.
        last_resort: What it costs, by axis, to hand a sample on to somebody who is always right; none: nobody is asked.
    """

    cuts: CutSpace = CutSpace()
    heads: tuple[HeadSpec, ...] = (
        HeadSpec(),
        HeadSpec(pool="mixed", size=2),
        HeadSpec(kind="mlp", pool="mixed", size=2, hidden=(32,)),
    )
    strategies: tuple[str, ...] = ("separate", "joint")
    alpha: AlphaRange = AlphaRange()
    criteria: tuple[str, ...] = ("max_prob",)
    answers: tuple[str, ...] = ("own",)
    gates: bool = True
    max_exits: int = Field(default=3, ge=0, le=8)
    levels: Annotated[int, Field(ge=1, le=1000)] | Literal["all"] = 24
    last_resort: dict[Axis, Annotated[float, Field(ge=0.0)]] = Field(default_factory=dict)

    @field_validator("heads")
    @classmethod
    def _heads_known(cls, heads: tuple[HeadSpec, ...]) -> tuple[HeadSpec, ...]:
        _check_names("head", [h.kind for h in heads], HEADS)
        names = [h.name for h in heads]
        if not heads or len(set(names)) < len(names):
            raise ValueError(f"heads must be distinct and at least one; got {names}")
        return heads

    @field_validator("criteria")
    @classmethod
    def _criteria_known(cls, criteria: tuple[str, ...]) -> tuple[str, ...]:
        _check_names("criterion", criteria, CRITERIA)
        return criteria

    @field_validator("answers")
    @classmethod
    def _answers_known(cls, answers: tuple[str, ...]) -> tuple[str, ...]:
        _check_names("answer", answers, ANSWERS)
        return answers

    @model_validator(mode="after")
    def _scored(self) -> SearchSpace:
        unfitted = [c for c in self.criteria if CRITERIA[c].needs]
        if unfitted:
            raise ValueError(f"criterion '{unfitted[0]}' is learnt, not listed: write `gates: true`")
        if not self.scorings:
            raise ValueError(f"none of the criteria {list(self.criteria)} goes with the answers {list(self.answers)}")
        return self

    @field_validator("strategies")
    @classmethod
    def _strategies_known(cls, strategies: tuple[str, ...]) -> tuple[str, ...]:
        _check_names("strategy", strategies, STRATEGIES)
        return strategies

    @property
    def scorings(self) -> tuple[tuple[str, str], ...]:
        """Criteria with answers; a criterion that looks at several exits gives its own answer only."""
        pairs = product(self.criteria, self.answers)
        return tuple((c, a) for c, a in pairs if a == "own" or CRITERIA[c].memory == "last")

    @property
    def decisions(self) -> tuple[str, ...]:
        """Names of all decisions that policies may take, as devices measure them."""
        listed = [decision_name(c, a) for c, a in self.scorings]
        return tuple(dict.fromkeys([*listed, self.rule_criterion, *(["gate"] if self.gates else [])]))

    @property
    def rule_criterion(self) -> str:
        """The criterion under which the placement rules and gates see exits, each for itself."""
        return next((c for c in self.criteria if CRITERIA[c].memory == "last"), "max_prob")

    @property
    def trained(self) -> tuple[str, ...]:
        """The strategies whose designs need a training run each, in alphabetical order."""
        return tuple(sorted(set(self.strategies) - {"separate"}))

    def head(self, name: str) -> HeadSpec:
        """The head design of this name."""
        return next(h for h in self.heads if h.name == name)


def _check_names(kind: str, names: Sequence[str], registry: object) -> None:
    if not names:
        raise ValueError(f"at least one {kind} is needed")
    for name in names:
        if name not in registry:  # type: ignore[operator]
            known = ", ".join(sorted(registry))  # type: ignore[call-overload]
            raise ValueError(f"there is no {kind} '{name}'; expected one of {known}")


def parameters(
    space: SearchSpace, heads: Mapping[str, Sequence[HeadSpec]], *, thresholds: bool = False
) -> tuple[Parameter, ...]:
    """The flat static list of parameters of a trained design: every trial sets all of them.

    Args:
        space: What may vary.
        heads: The head designs that fit each of the backbone's cuts, by its name.
        thresholds: Whether criterion and thresholds are parameters too (`mode: joint-trials`) rather than solved for.

    Raises:
        InputError: the space trains nothing beyond the bank.
    """
    if not space.trained:
        raise InputError("the search space has no strategy that trains designs", got=space.strategies)
    flat: list[Parameter] = [Choice("strategy", space.trained)]
    for cut, designs in heads.items():
        names = (NO_EXIT, *(h.name for h in designs))
        flat += [Choice(f"exit:{cut}", names), LogFloat(f"alpha:{cut}", space.alpha.low, space.alpha.high)]
        if thresholds:
            flat.append(UnitFloat(f"threshold:{cut}"))
    if thresholds:
        flat.append(Choice("criterion", space.criteria))
    return tuple(flat)
