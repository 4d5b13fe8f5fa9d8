"""`TABLE.npz`: what the exits of any network say, from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eesearch.core.arrays import read_npz
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.errors import DataError
from eesearch.core.tables import ExitTable
from eesearch.solve.stream import ScoreTable, content

NETWORK = "table"
"""What the network of a table from a file is called."""

_FORMS = "logits [E, N, C] and labels [N], or scores [E, N] and correct [E, N]; and maybe cuts [E] and heads [E]"
_NAMES = ("logits", "labels", "scores", "correct", "cuts", "heads")

Table = ExitTable | ScoreTable
Arrays = Mapping[str, NDArray[Any]]


def read_table(path: Path, *, split: str = "cal") -> Table:
    """Read what every exit says about every sample.

    The rows are in the order in which a sample passes them; the last is the network's own classifier. Rows whose
    `cuts` agree are several heads at one cut; without `cuts` each row is at a cut of its own, named 1, 2, ...

    Args:
        path: An `.npz` file with `logits` [E, N, C] and `labels` [N], or with `scores` [E, N] (larger = surer) and
            `correct` [E, N]; and maybe the names `cuts` [E] (the last is "output") and `heads` [E].
        split: `cal`, or `test` for a table on which nothing is selected.

    Raises:
        DataError: it cannot be read, or its arrays do not make a table.
    """
    arrays = read_npz(path, _FORMS, known=_NAMES)
    scored = "scores" in arrays
    needed = ("scores", "correct") if scored else ("logits", "labels")
    other = [name for name in ("logits", "labels", "scores", "correct") if name in arrays and name not in needed]
    missing = [name for name in needed if name not in arrays]
    if missing or other:
        raise DataError(f"{path} holds no table", got=f"arrays {', '.join(sorted(arrays))}", expected=_FORMS)
    exits = _exits(path, arrays, len(arrays[needed[0]]) if arrays[needed[0]].ndim else 0)
    return (_score_table if scored else _exit_table)(path, arrays, exits, split)


def _exits(path: Path, arrays: Arrays, rows: int) -> tuple[ExitId, ...]:
    """Names of the rows."""
    if rows < 1:
        raise DataError(f"the table in {path} has no rows", expected=_FORMS)
    cuts = _names(path, arrays, "cuts", rows) or [*map(str, range(1, rows)), OUTPUT]
    heads = _names(path, arrays, "heads", rows) or [f"head{_place(cuts, row)}" for row in range(rows - 1)] + [OWN]
    ends = [cut for row, cut in enumerate(cuts) if row == 0 or cut != cuts[row - 1]]  # where a run of equal ones begins
    if cuts[-1] != OUTPUT or len(set(ends)) < len(ends) or cuts.count(OUTPUT) > 1:
        raise DataError(
            f"the cuts in {path} are out of order",
            got=cuts,
            expected=f"rows of one cut side by side, and last the network's own classifier, alone at '{OUTPUT}'",
        )
    exits = tuple(ExitId(network=NETWORK, cut=c, head=h) for c, h in zip(cuts, [*heads[:-1], OWN], strict=True))
    if len(set(exits)) < rows or any(e.is_last_resort for e in exits):
        raise DataError(
            f"the exits in {path} need names of their own", got=[f"{e.cut}:{e.head}" for e in exits], expected="no two"
        )
    return exits


def _place(cuts: Sequence[str], row: int) -> int:
    """Which of the rows at its cut a row is, from 1."""
    return row - cuts.index(cuts[row]) + 1


def _names(path: Path, arrays: Arrays, name: str, rows: int) -> list[str]:
    """One name per row; none if there is no such array."""
    given = arrays.get(name)
    if given is None:
        return []
    if given.dtype.kind != "U" or given.shape != (rows,):
        raise DataError(
            f"{name} in {path} must be names", got=f"{given.dtype} {list(given.shape)}", expected=f"{rows} strings"
        )
    return [str(entry) for entry in given]


def _exit_table(path: Path, arrays: Arrays, exits: tuple[ExitId, ...], split: str) -> ExitTable:
    logits, labels = arrays["logits"], arrays["labels"]
    if logits.ndim != 3 or labels.shape != logits.shape[1:2] or 0 in logits.shape or logits.shape[2] < 2:
        _misshapen(path, arrays, ("logits", "labels"), "logits [E, N, C] and labels [N], N at least 1, C at least 2")
    single = _numbers(path, "logits", logits, np.float32)
    if labels.dtype.kind not in "iu":
        raise DataError(f"labels in {path} are no integers", got=labels.dtype, expected="the index of each class")
    if labels.min() < 0 or labels.max() >= logits.shape[2]:
        raise DataError(
            f"labels in {path} are out of range",
            got=f"{labels.dtype} from {labels.min()} to {labels.max()}",
            expected=f"integers from 0 to {logits.shape[2] - 1}",
        )
    return ExitTable(single, labels.astype(np.int64), exits, split, content(single, labels))


def _score_table(path: Path, arrays: Arrays, exits: tuple[ExitId, ...], split: str) -> ScoreTable:
    scores, correct = arrays["scores"], arrays["correct"]
    if scores.ndim != 2 or correct.shape != scores.shape or 0 in scores.shape:
        _misshapen(path, arrays, ("scores", "correct"), "scores [E, N] and correct [E, N], N at least 1")
    if correct.dtype.kind not in "biu" or correct.max() > 1 or correct.min() < 0:
        raise DataError(f"correct in {path} must say yes or no", got=correct.dtype, expected="booleans, or 0 and 1")
    double = _numbers(path, "scores", scores, np.float64)
    single = double.astype(np.float32)  # kept where it keeps all scores apart
    exact = bool((single == double).all())
    return ScoreTable(single if exact else double, correct.astype(np.bool_), exits, split, content(double, correct))


def _numbers(path: Path, name: str, given: NDArray[Any], dtype: type[np.floating[Any]]) -> NDArray[Any]:
    if given.dtype.kind not in "fiu":
        raise DataError(f"{name} in {path} must be numbers", got=given.dtype)
    with np.errstate(over="ignore"):  # what overflows is told below
        numbers = given.astype(dtype)
    bad = int(numbers.size - np.isfinite(numbers).sum())
    if bad:
        raise DataError(f"{name} in {path} are not all finite", got=f"{bad} of {numbers.size} are NaN or infinite")
    return numbers


def _misshapen(path: Path, arrays: Arrays, names: Sequence[str], expected: str) -> None:
    got = ", ".join(f"{name} {list(arrays[name].shape)}" for name in names)
    raise DataError(f"the arrays in {path} do not fit together", got=got, expected=expected)
