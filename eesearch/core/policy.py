"""What can be chosen after training: stops, thresholds, criterion; and what is fitted on tables in between."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import inf
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from eesearch.core.design import ExitId, Value, read_exits
from eesearch.core.errors import PolicyError, StoreError
from eesearch.core.registry import ANSWERS, CRITERIA


def decision_name(criterion: str, answer: str) -> str:
    """How a criterion with an answer is called where its cost is told: `max_prob`, `max_prob/mean`."""
    return criterion if answer == "own" else f"{criterion}/{answer}"


def decision_named(name: str) -> Criterion:
    """The inverse of `decision_name`, as one criterion.

    Raises:
        InputError: there is no such criterion or answer.
        PolicyError: they do not go together.
    """
    criterion, _, answer = name.partition("/")
    found: Criterion = ANSWERS[answer or "own"](CRITERIA[criterion])
    return found


class Stop(Value):
    """An active exit: a sample leaves here iff its score >= threshold (eq. 11 turned so that larger = surer).

    Attributes:
        tier: Always empty: the exit knows its tier. Kept, for the keys of files that hold policies.
    """

    exit: ExitId
    threshold: float
    tier: Literal[""] = ""


class Policy(Value):
    """Which trained exits are active, in order, and when a sample leaves at each.

    The last stop has threshold -inf: whoever gets there leaves. It need not be the network's own classifier. Threshold
    +inf: nobody leaves, the head is still paid. Removing an exit is leaving it out of the stops.

    Attributes:
        stops: At least one, in the order in which a sample meets them.
        criterion: A name in the CRITERIA registry.
        answer: Whose answer a sample leaves with, a name in the ANSWERS registry: `own`: that of the exit where it
            leaves; `mean`: the weighted mean of the log-probabilities of all active exits so far; `most_confident`:
            that of the surest of them; `average`, `max`: pooled probabilities; `combined`: eq. 8.
        fits: Keys of the fits that scores and answers use, in the order of its `Scoring`.
    """

    stops: tuple[Stop, ...]
    criterion: str
    answer: str = "own"
    fits: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _ends(self) -> Policy:
        if not self.stops or self.stops[-1].threshold != -inf:
            raise PolicyError("a policy must end", expected="a last stop with threshold -inf")
        if any(np.isnan(stop.threshold) for stop in self.stops):
            raise PolicyError("a threshold is not a number")
        if len({stop.exit for stop in self.stops}) < len(self.stops):
            raise PolicyError("a policy stops at the same exit twice")
        networks = [stop.exit.network for stop in self.stops]
        if sum(a != b for a, b in pairwise(networks)) + 1 != len(set(networks)):
            raise PolicyError("a policy enters the same network twice")
        return self

    @property
    def decision(self) -> str:
        """Criterion and answer in one name, see `decision_name`."""
        return decision_name(self.criterion, self.answer)

    @property
    def exits(self) -> tuple[ExitId, ...]:
        """The active exits, the last stop included."""
        return tuple(stop.exit for stop in self.stops)

    @property
    def asks_at_once(self) -> bool:
        """Whether every sample goes to the last resort, and no network runs."""
        return self.stops[0].exit.is_last_resort

    @property
    def thresholds(self) -> tuple[float, ...]:
        """One per stop; the last is -inf."""
        return tuple(stop.threshold for stop in self.stops)

    def require(self, fits: Sequence[Fit]) -> None:
        """Refuse any other fits than those that the thresholds were chosen with.

        Raises:
            PolicyError: policy and fits do not belong together.
        """
        given = tuple(fit.key for fit in fits)
        if given != self.fits:
            raise PolicyError(
                "policy and fits do not belong together",
                got=f"fit {', '.join(given)}" if given else "no fit",
                expected=f"fit {', '.join(self.fits)}" if self.fits else "no fit",
                do="Pass the fits that the policy's thresholds were chosen with.",
            )


@dataclass(frozen=True, eq=False)
class Fit:
    """Numbers computed from a calibration table for its exits, without the network.

    Attributes:
        kind: What was fitted: `temperature` (D = 1), `ensemble` (D = 1), `gate`, `learned`, `learned_path`; or learnt
            in training: `combination` (D = 1).
        exits: The exits that it is for. [E]
        parameters: float32 [1 + F, E, D]. Row 0 is fitted on all of calibration, for use everywhere but there; row
            1 + f is fitted without fold f, for the samples of that fold.
        fold: The fold of each calibration sample, int16 [N]; empty if there are no folds: row 0 is used everywhere.
    """

    kind: str
    exits: tuple[ExitId, ...]
    parameters: NDArray[np.float32]
    fold: NDArray[np.int16]

    @cached_property
    def key(self) -> str:
        """Content key of the fitted values and of what they are for."""
        digest = hashlib.sha256(json.dumps([self.kind, *(e.model_dump() for e in self.exits)]).encode())
        for values, kind in ((self.parameters, "<f4"), (self.fold, "<i2")):
            digest.update(f"{values.shape}".encode() + values.astype(kind).tobytes())
        return digest.hexdigest()[:16]

    def rows(self, exits: Sequence[ExitId]) -> NDArray[np.intp]:
        """Row of each of `exits`, wherever it runs; any row for one that says nothing: nobody leaves there.

        Raises:
            PolicyError: an exit that this fit is not for.
        """
        place = {e: i for i, e in enumerate(self.exits)}
        asked = [self.exits[0] if e.is_none else e.bare for e in exits]
        missing = [str(e) for e in asked if e not in place]
        if missing:
            raise PolicyError(f"the {self.kind} fit knows nothing of exit {missing[0]}")
        return np.array([place[e] for e in asked], dtype=np.intp)

    def arrays(self) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
        """Arrays and text metadata, as the store keeps them."""
        meta = {"kind": self.kind, "exits": json.dumps([e.model_dump() for e in self.exits])}
        return {"parameters": self.parameters, "fold": self.fold}, meta

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], meta: Mapping[str, str]) -> Fit:
        """Inverse of `arrays`.

        Raises:
            StoreError: the kind is no name (it becomes one in exported code), or exits are none.
        """
        if not meta["kind"].isidentifier():
            raise StoreError("a fit of no kind", got=meta["kind"], expected="temperature, ensemble, gate, ...")
        parameters, fold = arrays["parameters"].astype(np.float32), arrays["fold"].astype(np.int16)
        return cls(meta["kind"], read_exits(meta["exits"]), parameters, fold)


Array = Any
"""A numpy array or a torch tensor."""

Parameters = Mapping[str, Array]
"""Fitted values by kind of fit, a row per active exit. Each [k, D]"""


@dataclass(frozen=True)
class Criterion:
    """When is an answer sure enough: one pure function, the same in routing (numpy) and in the network (torch).

    Attributes:
        function: `(logits [k, N, C] of the k active exits so far, parameters) -> (answer [N, C] as probabilities,
            score [N])`, written against the array API; larger scores are surer. Among the parameters there is always
            a `temperature`.
        memory: `last` if the function looks at the last exit only, `all` if at every active exit so far.
        needs: Kinds of fit that it cannot do without.
        own_answer: Whether it answers what the last exit says: then the class is that of its logits, as probabilities
            may be rounded to a tie.
        answers: The only answers that it can score, for criteria of memory `last` that know more of an exit than the
            probabilities that it gives; None: any answer.
    """

    function: Callable[[Array, Parameters], tuple[Array, Array]]
    memory: Literal["last", "all"] = "last"
    needs: tuple[str, ...] = ()
    own_answer: bool = True
    answers: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Scoring:
    """How all policies of a family score and answer.

    Attributes:
        criterion: A name in the CRITERIA registry.
        answer: A name in the ANSWERS registry.
        fits: Of different kinds; those with folds have the same ones.
    """

    criterion: str = "max_prob"
    answer: str = "own"
    fits: tuple[Fit, ...] = ()

    def __post_init__(self) -> None:
        kinds = [fit.kind for fit in self.fits]
        if len(set(kinds)) < len(kinds):
            raise PolicyError("a policy can use one fit of a kind", got=kinds)
        folds = [fit.fold for fit in self.fits if len(fit.fold)]
        if any(not np.array_equal(fold, folds[0]) for fold in folds):
            raise PolicyError("the fits were made on different folds or samples", got=kinds)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the fits, as a policy names them."""
        return tuple(fit.key for fit in self.fits)

    @property
    def fold(self) -> NDArray[np.int16]:
        """The fold of each calibration sample; empty if no fit has folds. [N]"""
        return next((fit.fold for fit in self.fits if len(fit.fold)), np.empty(0, np.int16))

    @cached_property
    def decision(self) -> Criterion:
        """The criterion, scoring the answer that is given.

        Raises:
            InputError: there is no such criterion or answer.
            PolicyError: they do not go together, or need a fit that is not there.
        """
        made = decision_named(decision_name(self.criterion, self.answer))
        missing = set(made.needs) - {fit.kind for fit in self.fits}
        if missing:
            raise PolicyError(
                f"criterion '{self.criterion}' with answer '{self.answer}' needs a fit",
                got=[fit.kind for fit in self.fits],
                expected=f"a fit of kind {', '.join(sorted(missing))}",
            )
        return made

    @classmethod
    def of(cls, policy: Policy, fits: Sequence[Fit]) -> Scoring:
        """How one policy scores and answers.

        Raises:
            PolicyError: policy and fits do not belong together.
        """
        policy.require(fits)
        return cls(policy.criterion, policy.answer, tuple(fits))

    def parameters(self, exits: Sequence[ExitId], fold: int | None = None) -> dict[str, NDArray[np.float32]]:
        """The fitted values of each exit, by kind; a temperature of 1 without a fit. Each [k, D]

        Args:
            exits: The active exits. [k]
            fold: For samples of this fold of calibration; None: as deployed.

        Raises:
            PolicyError: a fit does not know an exit.
        """
        found = {"temperature": np.ones((len(exits), 1), np.float32)}
        for fit in self.fits:
            row = 0 if fold is None or not len(fit.fold) else 1 + fold
            found[fit.kind] = fit.parameters[row, fit.rows(exits)]
        return found
