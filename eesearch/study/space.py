"""What may vary: cuts, heads, strategies, alphas, criteria; and the flat static list of parameters that it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from eesearch.core.design import HeadSpec, Value
from eesearch.core.errors import InputError
from eesearch.core.registry import CRITERIA, HEADS, STRATEGIES

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
        max_exits: Most early exits of a policy, the last stop not counted.
        levels: Thresholds tried per exit, at quantiles of its own scores.
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
    max_exits: int = Field(default=3, ge=0, le=8)
    levels: int = Field(default=24, ge=1, le=1000)

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

    @field_validator("strategies")
    @classmethod
    def _strategies_known(cls, strategies: tuple[str, ...]) -> tuple[str, ...]:
        _check_names("strategy", strategies, STRATEGIES)
        return strategies

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
