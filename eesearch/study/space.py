"""What may vary: cuts, heads, strategies, alphas, criteria; and the flat static list of parameters that it makes."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, product
from math import sqrt
from operator import eq
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from eesearch.core.costs import Axis
from eesearch.core.design import NOTHING, HeadSpec, LossSpec, Value
from eesearch.core.errors import InputError
from eesearch.core.policy import decision_name, decision_named
from eesearch.core.registry import ANSWERS, CRITERIA, HEADS, STRATEGIES
from eesearch.exits.answers import goes_with
from eesearch.exits.learned import FITTED

NO_EXIT = "none"
"""The choice of a cut that carries no head."""

MOST_EXITS = 8
"""Most exits that policies may be allowed to have, but those with one threshold for all."""


class CutSpace(Value):
    """Where an exit may hang.

    Attributes:
        candidates: `auto` (wherever a single tensor is alive), or names of modules of the model.
        max_cuts: Thin the candidates to this many, at even shares of the backbone's MACs.
    """

    candidates: Literal["auto"] | Annotated[tuple[str, ...], Field(min_length=1)] = "auto"
    max_cuts: int | None = Field(default=None, ge=1)


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


class Range(Value):
    """The range of a positive number, searched on a log scale."""

    low: float = Field(gt=0.0)
    high: float = Field(gt=0.0)

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        return self

    def nearest(self, value: float) -> float:
        """The value, or the nearest one that the range allows."""
        return min(max(value, self.low), self.high)


class AlphaRange(Range):
    """The range of a companion loss's weight alpha_i (eq. 6)."""

    low: float = Field(default=0.1, gt=0.0)
    high: float = Field(default=3.0, gt=0.0)

    @property
    def start(self) -> float:
        """The weight that seeds start with: 1, or the nearest that the range allows."""
        return self.nearest(1.0)


class LossSpace(Value):
    """What may vary in how losses are weighed and combined: a range, a list of options, or a number that is fixed.

    The fields are those of `LossSpec` that a person chooses; each is searched if a strategy of the space uses it.
    """

    ramp: Annotated[tuple[Literal["constant", "linear", "cosine", "sdn"], ...], Field(min_length=1)] = ("constant",)
    combine: Annotated[tuple[Literal["softmax", "free", "average", "max"], ...], Field(min_length=1)] = ("softmax",)
    cost_weight: Range | Annotated[float, Field(ge=0.0)] = Range(low=0.02, high=1.0)
    distill: Range | Annotated[float, Field(ge=0.0, le=1.0)] = Range(low=0.2, high=0.9)
    temperature: Range | Annotated[float, Field(gt=0.0)] = Range(low=1.0, high=8.0)
    teacher: Annotated[tuple[Literal["backbone", "final"], ...], Field(min_length=1)] = ("backbone",)
    freeze: Annotated[tuple[Literal["linear", "cubic"], ...], Field(min_length=1)] = ("cubic",)

    @model_validator(mode="after")
    def _shares(self) -> LossSpace:
        if isinstance(self.distill, Range) and self.distill.high > 1.0:
            raise ValueError(f"distill is a share, at most 1; got high {self.distill.high}")
        return self

    def parameters(self, used: Container[str]) -> list[Parameter]:
        """What is searched, of the fields that somebody uses."""
        found: list[Parameter] = []
        for name in LossSpace.model_fields:
            offered = getattr(self, name)
            if name in used and isinstance(offered, Range):
                found.append(LogFloat(f"loss:{name}", offered.low, offered.high))
            elif name in used and isinstance(offered, tuple) and len(offered) > 1:
                found.append(Choice(f"loss:{name}", offered))
        return found

    def spec(self, params: Mapping[str, str | float]) -> LossSpec:
        """What parameters say; where they say nothing, what is fixed, the first option or the middle of the range."""
        fields = {n: params.get(f"loss:{n}", _middle(getattr(self, n))) for n in LossSpace.model_fields}
        return LossSpec.model_validate(fields)

    def start(self, used: Container[str], near: LossSpec | None = None) -> dict[str, str | float]:
        """Parameters that a search may start with: those next to a given loss, or first options and middles."""
        found: dict[str, str | float] = {}
        for parameter in self.parameters(used):
            offered = getattr(self, parameter.name.removeprefix("loss:"))
            value = _middle(offered) if near is None else getattr(near, parameter.name.removeprefix("loss:"))
            if isinstance(offered, Range):
                found[parameter.name] = offered.nearest(float(value))
            else:
                found[parameter.name] = value if value in offered else offered[0]
        return found

    def options(self) -> Iterator[LossSpec]:
        """One loss for every combination of options; what is a number is as it may be."""
        listed = {n: getattr(self, n) for n in LossSpace.model_fields if isinstance(getattr(self, n), tuple)}
        for chosen in product(*listed.values()):
            yield LossSpec.model_validate(dict(zip(listed, chosen, strict=True)))


def _middle(offered: Range | float | tuple[str, ...]) -> str | float:
    if isinstance(offered, Range):
        return sqrt(offered.low * offered.high)
    return offered[0] if isinstance(offered, tuple) else offered


_POOLED = HeadSpec(pool="mixed", size=2)
_HIDDEN = HeadSpec(kind="mlp", pool="mixed", size=2, hidden=(32,))
FITTING: dict[str, tuple[HeadSpec, ...]] = {
    **dict.fromkeys(("map", "views", "vector"), (HeadSpec(), _POOLED, _HIDDEN)),
    "tokens": (HeadSpec(pool="first"), HeadSpec(), HeadSpec(kind="mlp", pool="first", hidden=(32,))),
    "sequence": (HeadSpec(pool="last"), HeadSpec(), _POOLED),
}
"""Kind of a cut -> the head designs that are offered there if the space lists none."""


class SearchSpace(Value):
    """A search-space file.

    Attributes:
        heads: The head designs that every cut may carry; `auto`: those that fit its kind (`FITTING`): pooled maps, the
            first or the mean token, the last or the pooled time step.
        strategies: How a design may be trained; `separate` is the bank and is always there. The first other
            one trains the placements that rules propose.
        alpha: Weights of companion losses.
        loss: How losses are weighed and combined beyond that.
        criteria: Scores that may decide whether a sample leaves.
        answers: Whose answer a sample leaves with: `own` that of its exit, `most_confident` of the surest active exit
            so far; of all of them `mean` of log-probabilities (fitted weights), `average` or `max` of probabilities.
        gates: Whether gates are learnt on the bank too (Bolukbasi et al. 2017): policies for its front, and placements
            for joint designs.
        max_exits: Most exits on cuts of a policy; the network's own classifier behind them is not counted.
        shared_threshold: Whether policies with one threshold for all of their exits are tried, too: `max_exits` does
            not bind them. One number promises little that it does not keep, where cuts are many and heads are cheap.
        levels: Thresholds tried per exit, at quantiles of its own scores, and then moved to the best midpoints; `all`:
            every midpoint is tried.
        last_resort: What it costs, by axis, to hand a sample on to somebody who is always right; none: nobody is asked.
    """

    cuts: CutSpace = CutSpace()
    heads: Literal["auto"] | tuple[HeadSpec, ...] = "auto"
    strategies: tuple[str, ...] = ("separate", "mixed")
    alpha: AlphaRange = AlphaRange()
    loss: LossSpace = LossSpace()
    criteria: tuple[str, ...] = ("max_prob",)
    answers: tuple[str, ...] = ("own",)
    gates: bool = True
    max_exits: int = Field(default=3, ge=0, le=MOST_EXITS)
    shared_threshold: bool = Field(default=False, exclude_if=partial(eq, False))
    levels: Annotated[int, Field(ge=1, le=1000)] | Literal["all"] = 24
    last_resort: dict[Axis, Annotated[float, Field(ge=0.0)]] = Field(default_factory=dict)

    @field_validator("heads")
    @classmethod
    def _heads_known(cls, heads: Literal["auto"] | tuple[HeadSpec, ...]) -> Literal["auto"] | tuple[HeadSpec, ...]:
        if heads == "auto":
            return heads
        if any(h.kind == NOTHING for h in heads):
            raise ValueError("head 'none' says nothing and is not trained: a system has it at every cut")
        _check_names("head", [h.kind for h in heads], [kind for kind in HEADS if kind != NOTHING])
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
        _check_listed(self)
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
        """Criteria with answers that they can score; one that looks at several exits gives its own answer only."""
        return tuple((c, a) for c, a in product(self.criteria, self.answers) if goes_with(c, a))

    @property
    def decisions(self) -> tuple[str, ...]:
        """Names of all decisions that policies may take, as devices measure them."""
        trained = [self.scorings_of(strategy, loss) for strategy in self.trained for loss in self.loss.options()]
        listed = [decision_name(c, a) for c, a in dict.fromkeys(chain(self.scorings, *trained))]
        return tuple(dict.fromkeys([*listed, self.rule_criterion, *(["gate"] if self.gates else [])]))

    @property
    def rule_criterion(self) -> str:
        """The criterion under which the placement rules and gates see exits: each for itself, by its probabilities."""
        plain = (c for c in self.criteria if CRITERIA[c].memory == "last" and CRITERIA[c].answers is None)
        return next(plain, "max_prob")

    @property
    def trained(self) -> tuple[str, ...]:
        """The strategies whose designs need a training run each, in alphabetical order."""
        return tuple(sorted(set(self.strategies) - {"separate"}))

    @property
    def preferred(self) -> str:
        """The first of the strategies whose designs need a training run each."""
        return next(s for s in self.strategies if s in self.trained)

    @property
    def used(self) -> frozenset[str]:
        """The fields of designs and losses that some strategy uses."""
        return frozenset(name for strategy in self.trained for name in STRATEGIES[strategy].uses)

    @property
    def weighs(self) -> bool:
        """Whether weights alpha are searched: some strategy uses them, and they do not follow from costs."""
        by_cost = self.loss.ramp == ("sdn",)
        uses = (STRATEGIES[strategy].uses for strategy in self.trained)
        return any("alpha" in used and not (by_cost and "ramp" in used) for used in uses)

    def scorings_of(self, strategy: str, loss: LossSpec) -> tuple[tuple[str, str], ...]:
        """Criteria with answers of designs trained so: those of the space, then the strategy's own."""
        return tuple(dict.fromkeys([*self.scorings, *STRATEGIES[strategy].scorings(loss)]))

    def heads_at(self, kind: str) -> tuple[HeadSpec, ...]:
        """The head designs that are offered at cuts of a kind, such as `map`."""
        return FITTING[kind] if self.heads == "auto" else self.heads

    @property
    def offered(self) -> tuple[HeadSpec, ...]:
        """All head designs that some cut may carry."""
        return tuple(dict.fromkeys(chain(*map(self.heads_at, FITTING))))

    def head(self, name: str) -> HeadSpec:
        """The head design of this name."""
        return next(h for h in self.offered if h.name == name)


def _check_names(kind: str, names: Sequence[str], registry: object) -> None:
    if not names:
        raise ValueError(f"at least one {kind} is needed")
    for name in names:
        if name not in registry:  # type: ignore[operator]
            known = ", ".join(sorted(registry))  # type: ignore[call-overload]
            raise ValueError(f"there is no {kind} '{name}'; expected one of {known}")


def _check_listed(space: SearchSpace) -> None:
    """Refuse criteria and answers that a space cannot ask for by name, or whose gates or fits nothing makes."""
    if "gate" in space.criteria:
        raise ValueError("criterion 'gate' is learnt, not listed: write `gates: true`")
    if "combined" in space.answers:
        raise ValueError("answer 'combined' comes with the strategy `combined`, whose designs learn its weights")
    without = [head.name for head in space.offered if head.gate == "none"]
    asking = ["criterion 'own_gate'"] if "own_gate" in space.criteria else []
    asking += ["strategy 'gated'"] if "gated" in space.strategies else []
    if asking and without:
        raise ValueError(f"{asking[0]} needs a gate in every head; {without[0]} has none: write `gate: linear`")
    for criterion, answer in product(space.criteria, space.answers):
        needs = decision_named(decision_name(criterion, answer)).needs if goes_with(criterion, answer) else ()
        unknown = sorted(set(needs) - {*FITTED})
        if unknown:
            raise ValueError(f"criterion '{criterion}' needs a fit of kind '{unknown[0]}', which nothing makes")


def parameters(space: SearchSpace, heads: Mapping[str, Sequence[HeadSpec]]) -> tuple[Parameter, ...]:
    """The flat static list of parameters of a trained design: every trial sets all of them.

    Args:
        space: What may vary.
        heads: The head designs that fit each of the backbone's cuts, by its name.

    Raises:
        InputError: the space trains nothing beyond the bank.
    """
    flat = _training(space)
    for cut, designs in heads.items():
        names = (NO_EXIT, *(h.name for h in designs))
        flat.append(Choice(f"exit:{cut}", names))
        if space.weighs:
            flat.append(LogFloat(f"alpha:{cut}", space.alpha.low, space.alpha.high))
    return tuple(flat)


def slots(space: SearchSpace, heads: Mapping[str, Sequence[HeadSpec]]) -> tuple[Parameter, ...]:
    """The same of a whole policy (`mode: joint-trials`): `max_exits` exits, their thresholds, and how is decided.

    Each slot may lie at any cut, so that a draw is as likely to place exits late as early.

    Args:
        space: As for `parameters`.
        heads: As for `parameters`.

    Raises:
        InputError: the space trains nothing beyond the bank.
    """
    flat = _training(space)
    everywhere = (NO_EXIT, *(f"{cut}:{head.name}" for cut, designs in heads.items() for head in designs))
    for slot in range(1, space.max_exits + 1):
        flat.append(Choice(f"exit:{slot}", everywhere))
        if space.weighs:
            flat.append(LogFloat(f"alpha:{slot}", space.alpha.low, space.alpha.high))
        flat.append(UnitFloat(f"threshold:{slot}"))
    return (*flat, Choice("criterion", space.criteria))


def _training(space: SearchSpace) -> list[Parameter]:
    if not space.trained:
        raise InputError("the search space has no strategy that trains designs", got=space.strategies)
    return [Choice("strategy", space.trained), *space.loss.parameters(space.used)]
