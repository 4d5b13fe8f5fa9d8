"""What can be chosen after training: stops, thresholds, criterion; and what is fitted on tables in between."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import inf
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from eesearch.core.design import ExitId, Value
from eesearch.core.errors import PolicyError


class Stop(Value):
    """An active exit: a sample leaves here iff its score >= threshold (eq. 11 turned so that larger = surer)."""

    exit: ExitId
    threshold: float
    tier: str = ""


class Policy(Value):
    """Which trained exits are active, in order, and when a sample leaves at each.

    The last stop has threshold -inf: whoever gets there leaves. It need not be the network's own classifier. Threshold
    +inf: nobody leaves, the head is still paid. Removing an exit is leaving it out of the stops.

    Attributes:
        stops: At least one, in the order in which a sample meets them.
        criterion: A name in the CRITERIA registry.
        answer: `own`: the answer of the exit where the sample leaves.
        fits: Keys of the fits that scores and answers use (see `Fit`).
    """

    stops: tuple[Stop, ...]
    criterion: str
    answer: Literal["own"] = "own"
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
    def exits(self) -> tuple[ExitId, ...]:
        """The active exits, the last stop included."""
        return tuple(stop.exit for stop in self.stops)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """One per stop; the last is -inf."""
        return tuple(stop.threshold for stop in self.stops)

    def require(self, fit: Fit | None) -> None:
        """Refuse any other fit than the one that the thresholds were chosen with; none, if there was none.

        Raises:
            PolicyError: policy and fit do not belong together.
        """
        given = () if fit is None else (fit.key,)
        if given != self.fits:
            raise PolicyError(
                "policy and fit do not belong together",
                got=f"fit {given[0]}" if given else "no fit",
                expected=f"fit {', '.join(self.fits)}" if self.fits else "no fit",
                do="Pass the fit that the policy's thresholds were chosen with.",
            )


@dataclass(frozen=True, eq=False)
class Fit:
    """Numbers computed from a calibration table for its exits; a temperature per exit, to begin with.

    Attributes:
        kind: What was fitted: `temperature`.
        exits: The exits that it is for. [E]
        deployed: Fitted on all of calibration, used everywhere but there. [E]
        calibration: Out-of-fold values, used on the calibration table itself. [E, N]
    """

    kind: str
    exits: tuple[ExitId, ...]
    deployed: NDArray[np.float32]
    calibration: NDArray[np.float32]

    @cached_property
    def key(self) -> str:
        """Content key of the fitted values and of what they are for."""
        digest = hashlib.sha256(json.dumps([self.kind, *(e.model_dump() for e in self.exits)]).encode())
        for values in (self.deployed, self.calibration):
            digest.update(f"{values.shape}".encode() + values.astype("<f4").tobytes())
        return digest.hexdigest()[:16]

    def rows(self, exits: tuple[ExitId, ...]) -> NDArray[np.intp]:
        """Row of each of `exits`.

        Raises:
            PolicyError: an exit that this fit is not for.
        """
        place = {e: i for i, e in enumerate(self.exits)}
        missing = [str(e) for e in exits if e not in place]
        if missing:
            raise PolicyError(f"the {self.kind} fit knows nothing of exit {missing[0]}")
        return np.array([place[e] for e in exits], dtype=np.intp)

    def arrays(self) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
        """Arrays and text metadata, as the store keeps them."""
        meta = {"kind": self.kind, "exits": json.dumps([e.model_dump() for e in self.exits])}
        return {"deployed": self.deployed, "calibration": self.calibration}, meta

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], meta: Mapping[str, str]) -> Fit:
        """Inverse of `arrays`."""
        exits = tuple(ExitId(**e) for e in json.loads(meta["exits"]))
        deployed, calibration = (arrays[name].astype(np.float32) for name in ("deployed", "calibration"))
        return cls(meta["kind"], exits, deployed, calibration)


@dataclass(frozen=True)
class Criterion:
    """When is an answer sure enough: one pure function, the same in routing (numpy) and in the network (torch).

    Attributes:
        function: `(logits [k, N, C] of the k active exits so far, temperature [k, N] or [k, 1]) -> (answer [N, C] as
            probabilities, score [N])`, written against the array API; larger scores are surer.
        memory: `last` if the function looks at the last exit only, `all` if at every active exit so far.
    """

    function: Callable[[Any, Any], tuple[Any, Any]]
    memory: Literal["last", "all"] = "last"
