"""Answers for a file of samples, by a point of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eesearch.core.errors import DataError
from eesearch.core.front import exit_name
from eesearch.study.run import Run


def predict_file(run: Path, selection: str, inputs: Path) -> tuple[str, str]:
    """Run the chosen network over a file with real early stopping.

    Args:
        run: A run directory.
        selection: Such as `max-drop=0.5%`.
        inputs: An `.npz` file with raw samples `x` [N, ...], and maybe labels `y` [N].

    Returns:
        A CSV table `index,answer,exit,score`, and a sentence on what left where.

    Raises:
        DataError: the file cannot be read, or its samples do not fit.
        PickError: the selection names no point.
    """
    found = Run.load(run)
    _, point = found.pick(selection)
    x, y = _read(inputs)
    prediction = found.predict(point, x)
    names = np.array([exit_name(e) for e in point.cal.policy.exits])
    table = pd.DataFrame(
        {
            "index": np.arange(len(x)),
            "answer": prediction.answer,
            "exit": names[prediction.exit],
            "score": prediction.score,
        }
    )
    shares = np.bincount(prediction.exit, minlength=len(names)) / max(len(x), 1)
    summary = "; ".join(f"{share:.1%} left at {name}" for name, share in zip(names, shares, strict=True))
    if y is not None:
        summary += f"; accuracy {np.mean(prediction.answer == y):.2%} of {len(y)}"
    return table.to_csv(index=False), summary


def _read(path: Path) -> tuple[NDArray[np.generic], NDArray[np.generic] | None]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name in ("x", "y")}
    except (OSError, ValueError, EOFError, AttributeError) as error:
        raise DataError(f"cannot read {path}", got=error, expected="an .npz file with x, and maybe y") from None
    if "x" not in arrays or arrays["x"].ndim < 2 or not len(arrays["x"]):
        raise DataError(f"{path} holds no samples", expected="an array x [N, ...] with N at least 1")
    x, y = arrays["x"], arrays.get("y")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise DataError(f"x in {path} holds values that are not finite")
    if y is not None and y.shape != (len(x),):
        raise DataError(f"x and y in {path} differ in length", got=f"{len(x)} and {list(y.shape)}")
    return x.astype(np.float32) if x.dtype.kind == "f" else x, y
