"""Answers for a file of samples, by a point of a run."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eesearch.core.arrays import read_npz
from eesearch.core.design import ABSTAINED
from eesearch.core.errors import DataError
from eesearch.core.front import exit_name
from eesearch.study.run import Run


def predict_file(
    run: Path, selection: str, inputs: Path, *, naive: bool = False, trust: bool = False
) -> tuple[str, str]:
    """Run the chosen network over a file with real early stopping.

    Args:
        run: A run directory.
        selection: Such as `max-drop=0.5%`.
        inputs: An `.npz` file with raw samples `x` [N, ...] or texts [N], and maybe labels `y` [N].
        naive: Whether the selection believes losses on calibration, see `Run.pick`.
        trust: Whether the code that the run's study names may run, though no study of the user's has run it.

    Returns:
        A CSV table `index,answer,exit,score`, and a sentence on what left where.

    Raises:
        DataError: the file cannot be read, or its samples do not fit.
        PickError: the selection names no point.
    """
    found = Run.load(run, trust=trust)
    _, point = found.pick(selection, naive=naive)
    given, y = _read(inputs)
    y = None if y is None else _numbers(y, found.answers.class_names)
    prediction = found.predict(point, given)
    names = np.array([exit_name(e) for e in point.cal.policy.exits])
    table = pd.DataFrame(
        {
            "index": np.arange(len(given)),
            "answer": prediction.answer,
            "exit": names[prediction.exit],
            "score": prediction.score,
        }
    )
    shares = np.bincount(prediction.exit, minlength=len(names)) / max(len(given), 1)
    summary = "; ".join(f"{share:.1%} left at {name}" for name, share in zip(names, shares, strict=True))
    if y is not None:
        answered = prediction.answer != ABSTAINED
        right = (prediction.answer == y)[answered]
        plain = " (each sample counting the same)" if "class_weights" in found.answers.data else ""
        summary += f"; accuracy{plain} {right.mean() if len(right) else nan:.2%} of {len(right)}"
        summary += "" if answered.all() else f" answered, {np.sum(~answered)} handed on"
    return table.to_csv(index=False), summary


def _numbers(y: NDArray[Any], class_names: Sequence[str]) -> NDArray[np.int64]:
    """Labels as numbers of classes, whether they are that or names. [N]"""
    if y.dtype.kind in "iu" and ((y >= 0) & (y < len(class_names))).all():
        return y.astype(np.int64)
    known = {name: number for number, name in enumerate(class_names)}
    unknown = sorted({str(label) for label in y} - known.keys())
    if unknown:
        names = ", ".join(class_names[:8]) + (", ..." if len(class_names) > 8 else "")
        expected = f"0..{len(class_names) - 1}, or {names}"
        raise DataError("labels y are no class of the run", got=", ".join(unknown[:8]), expected=expected)
    return np.array([known[str(label)] for label in y], np.int64)


def _read(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    arrays = read_npz(path, "x, and maybe y")
    if "x" not in arrays or not len(arrays["x"]):
        held = f"arrays {', '.join(sorted(arrays))}"
        raise DataError(f"{path} holds no samples", got=held, expected="an array x [N, ...] with N at least 1")
    x, y = arrays["x"], arrays.get("y")
    if y is not None and y.shape != (len(x),):
        raise DataError(f"x and y in {path} differ in length", got=f"{len(x)} and {list(y.shape)}")
    return x, y
