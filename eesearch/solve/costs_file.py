"""`COSTS.json`: what the exits of a table cost, from anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from eesearch.core.costs import FOLDS, Axis, StageCosts
from eesearch.core.design import ExitId, Value
from eesearch.core.errors import CostError
from eesearch.solve.table_file import Table

Cost = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class CostsFile(Value):
    """One cost axis as `COSTS.json` gives it: prefixes and heads, or every step.

    Attributes:
        axis: What is counted or measured; units are in the name.
        prefix: From the input to each cut in the order of the table, then to the output; without heads. [K + 1]
        head: Of each row of the table, on top of the prefix; 0 for the network's own classifier. [E]
        decision: Of deciding at one exit whether to leave.
        resume: Of going on after a decision.
        backbone: Of the network without exits; by default that of the whole prefix, or of the step from the input to
            the network's own classifier.
        step: Instead of prefixes and heads: from the input (first row) and from each exit to each exit, head and
            decision included; null where it cannot follow. [E + 1, E]
    """

    axis: Axis
    prefix: tuple[Cost, ...] | None = None
    head: tuple[Cost, ...] | None = None
    decision: Cost = 0.0
    resume: Cost = 0.0
    backbone: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    step: tuple[tuple[Cost | None, ...], ...] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> CostsFile:
        if (self.prefix is None) != (self.head is None) or (self.prefix is None) == (self.step is None):
            raise ValueError("give either prefix and head, or step")
        if self.step is not None and (self.decision or self.resume):
            raise ValueError("a step holds its decision and resumption already")
        if self.prefix is not None and FOLDS[self.axis] == "max":
            raise ValueError(f"{self.axis} does not add up along a path: give step")
        if self.prefix is not None and (np.diff(self.prefix) < 0.0).any():
            raise ValueError(f"a longer prefix cannot cost less; got {list(self.prefix)}")
        return self


def read_costs(path: Path, table: Table) -> tuple[StageCosts, ...]:
    """Read what the exits of a table cost, on one axis or several.

    Args:
        path: A JSON file with one `CostsFile`, or a list of them.
        table: Whose rows `head` and `step` are about.

    Raises:
        CostError: it cannot be read, has mistakes (all are told), or is about other exits.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CostError(f"cannot read {path}: there is no such file", do="Check its path.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CostError(f"cannot read {path}", got=error, expected="a JSON file with costs") from None
    entries = content if isinstance(content, list) else [content]
    costs = tuple(_stage_costs(path, _validated(path, entry), table.exits) for entry in entries)
    axes = [cost.axis for cost in costs]
    if not axes or len(set(axes)) < len(axes):
        raise CostError(f"{path} must give each axis once", got=axes, expected="one axis, or several")
    return costs


def _validated(path: Path, entry: object) -> CostsFile:
    try:
        return CostsFile.model_validate(entry)
    except ValidationError as error:
        told = {"extra_forbidden": "unknown field", "missing": "is needed"}
        mistakes = [
            f"{'.'.join(map(str, e['loc'])) or '(top)'}: {told.get(e['type'], e['msg'].removeprefix('Value error, '))}"
            for e in error.errors()
        ]
        raise CostError(
            f"{path} has mistakes",
            got="; ".join(mistakes),
            expected="axis, prefix and head (and maybe decision, resume, backbone), or axis and step",
        ) from None


def _stage_costs(path: Path, given: CostsFile, exits: tuple[ExitId, ...]) -> StageCosts:
    step = _given_steps(path, given, exits) if given.step is not None else _made_steps(path, given, exits)
    if not (np.isfinite(step[0, -1]) and step[0, -1] > 0.0):
        raise CostError(f"the network's own classifier in {path} must cost something", got=step[0, -1])
    whole = step[0, -1] if given.prefix is None else given.prefix[-1]
    return StageCosts(step, exits, given.axis, float(whole if given.backbone is None else given.backbone))


def _given_steps(path: Path, given: CostsFile, exits: tuple[ExitId, ...]) -> NDArray[np.float64]:
    """The explicit matrix. [E + 1, E]"""
    rows, wanted = given.step or (), len(exits)
    if len(rows) != wanted + 1 or any(len(row) != wanted for row in rows):
        got = f"{len(rows)} rows of {sorted({len(row) for row in rows})}"
        raise CostError(f"step in {path} does not fit the table", got=got, expected=f"{wanted + 1} rows of {wanted}")
    step = np.array([[np.inf if cost is None else cost for cost in row] for row in rows])
    back = np.isfinite(np.tril(step[1:]) + np.triu(np.full((wanted, wanted), np.inf), 1))  # to itself or an earlier one
    if back.any():
        names = [f"{exits[i].cut} to {exits[j].cut}" for i, j in np.argwhere(back)]
        raise CostError(f"step in {path} goes back", got=names[0], expected="null for an exit and all before it")
    return step


def _made_steps(path: Path, given: CostsFile, exits: tuple[ExitId, ...]) -> NDArray[np.float64]:
    """Steps from prefixes, heads, decisions and resumptions, as `stage_costs` makes them of a profile. [E + 1, E]"""
    prefix, head = given.prefix or (), given.head or ()
    cuts = list(dict.fromkeys(e.cut for e in exits))
    if len(prefix) != len(cuts) or len(head) != len(exits) or head[-1] != 0.0:
        raise CostError(
            f"the costs in {path} do not fit the table",
            got=f"{len(prefix)} prefixes, {len(head)} heads, the last {head[-1] if head else 'missing'}",
            expected=f"{len(cuts)} prefixes (of {', '.join(cuts)}), {len(exits)} heads, the last 0",
        )
    depth = np.array([cuts.index(e.cut) for e in exits])
    reached = np.array(prefix)[depth]
    own = np.array(head) + np.where(depth < depth[-1], given.decision, 0.0)
    # Behind an early exit the own classifier's score is computed as at every stop, and paid.
    onward = reached - reached[:, None] + given.resume + own + np.where(depth == depth[-1], given.decision, 0.0)
    later = depth[:, None] < depth
    return np.concatenate([(reached + own)[None], np.where(later, onward, np.inf)])
