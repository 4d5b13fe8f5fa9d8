"""What is refused in a data set, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eesearch.core.errors import DataError

ROWS = 1024
"""Samples that are looked at together: of all, the answers alone would take a quarter of their memory."""
FORMAT = "x_train y_train x_test y_test [x_cal y_cal] [class_names] [text_test]"
"""The arrays of a data set, by name: samples `x` [N, ...] and labels `y` [N]; `text_test` [N]: what a person reads
where samples are not images."""


def read_split(name: str, x: Any, y: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Samples [N, ...] as uint8, int64 or float32, and labels [N] as int64.

    Raises:
        DataError: no samples; another number of labels; NaN; labels that are not integers.
    """
    samples, labels = read_samples(f"x_{name}", x), _labels(f"y_{name}", y)
    if len(samples) != len(labels):
        raise DataError(
            f"the {name} split does not fit together", got=f"{len(samples)} samples and {len(labels)} labels"
        )
    if not len(labels):
        raise DataError(f"the {name} split is empty", expected="at least one sample of each class")
    return samples, labels


def read_samples(key: str, given: Any) -> NDArray[Any]:
    """Samples [N, ...] as uint8, int64 or float32.

    Raises:
        DataError: no numbers, or values that are not finite.
    """
    array = _array(key, given)
    if array.ndim < 2 or array.dtype.kind not in "biuf":
        raise DataError(f"{key} holds no samples", got=f"{array.dtype} {array.shape}", expected="numbers [N, ...]")
    if array.dtype.kind in "iu" and array.dtype != np.uint8:
        return array.astype(np.int64, copy=False)
    if array.dtype.kind in "bu":
        return array.astype(np.uint8, copy=False)
    with np.errstate(over="ignore"):  # what overflows becomes inf, and is refused as such
        array = array.astype(np.float32, copy=False)
    bad = sum(int(np.count_nonzero(~np.isfinite(array[i : i + ROWS]))) for i in range(0, len(array), ROWS))
    if bad:
        raise DataError(
            f"{key} holds values that are not finite",
            got=f"{bad} NaN or infinite of {array.size}",
            expected="finite float32 values",
            do="Replace or drop them before the study.",
        )
    return array


def read_text(key: str, given: Any, samples: int) -> NDArray[np.str_]:
    """A text per sample.

    Raises:
        DataError: another number of texts, or anything but texts.
    """
    array = np.asarray(given)
    if not is_text(array) or len(array) != samples:
        raise DataError(f"{key} holds no texts", got=f"{array.dtype} {array.shape}", expected=f"strings [{samples}]")
    return array


def is_text(array: Any) -> bool:
    """Whether it holds one string per sample. [N]"""
    return isinstance(array, np.ndarray) and array.ndim == 1 and array.dtype.kind in "UT"


def refuse_kind(where: str, got: str, *, many: bool) -> DataError:
    """The error for labels of another task than telling classes apart.

    Args:
        where: What holds them.
        got: What they are.
        many: Whether there are several per sample; otherwise they are no whole numbers.
    """
    kind = "several per sample (multi-label)" if many else "no whole numbers (regression)"
    turn = "Of one-hot rows give argmax(1)" if many else "If they are numbers of classes, give them as integers"
    return DataError(
        f"{where} holds labels that are {kind}",
        got=got,
        expected="the class of each sample, an integer 0 .. C - 1",
        do=f"{turn}; other tasks than one class per sample cannot be searched.",
    )


def _labels(key: str, given: Any) -> NDArray[np.int64]:
    array = _array(key, given)
    if array.dtype.kind == "f" and array.ndim == 1:
        raise refuse_kind(key, f"{array.dtype} {array.shape}", many=False)
    if array.dtype.kind in "biuf" and array.ndim == 2:
        raise refuse_kind(key, f"{array.dtype} {array.shape}", many=True)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(
            f"{key} holds no labels",
            got=f"{array.dtype} {array.shape}",
            expected="integers [N]",
            do="Give the class of each sample as an integer 0 .. C - 1.",
        )
    return array.astype(np.int64, copy=False)


def _array(key: str, given: Any) -> NDArray[Any]:
    try:
        return np.asarray(given)
    except ValueError as error:  # ragged lists
        raise DataError(f"{key} is not an array", got=error) from error


def check_splits(samples: Mapping[str, NDArray[Any]]) -> None:
    """Refuse splits whose samples differ in shape or type: they would be preprocessed alike.

    Raises:
        DataError: so.
    """
    first, *others = samples
    expected = (samples[first].dtype, samples[first].shape[1:])
    for name in others:
        got = (samples[name].dtype, samples[name].shape[1:])
        if got != expected:
            raise DataError(
                f"the samples of {name} differ from those of {first}",
                got=f"{got[0]} {list(got[1])}",
                expected=f"{expected[0]} {list(expected[1])}",
            )


def read_classes(given: Any, labels: NDArray[np.int64]) -> tuple[str, ...]:
    """Names of the classes: as given, else the numbers up to the largest training label.

    Raises:
        DataError: fewer than two classes; names that are not a list, or not distinct.
    """
    if given is None:
        names = tuple(map(str, range(int(labels.max()) + 1)))
    else:
        array = np.asarray(given)
        if array.ndim != 1 or len(set(array.tolist())) < len(array):
            raise DataError("class_names are not a list of distinct names", got=array.tolist())
        names = tuple(map(str, array.tolist()))
    if len(names) < 2:
        raise DataError("there is nothing to classify", got=f"{len(names)} classes", expected="at least 2")
    return names


def check_classes(labels: Mapping[str, NDArray[np.int64]], names: tuple[str, ...]) -> None:
    """Refuse labels that name no class, and splits that lack one.

    Raises:
        DataError: so.
    """
    for split, y in labels.items():
        if y.min() < 0 or y.max() >= len(names):
            wrong = np.unique(y[(y < 0) | (y >= len(names))])
            raise DataError(
                f"labels of the {split} split are out of range",
                got=_listed(wrong.tolist()),
                expected=f"0..{len(names) - 1}",
                do="Number the classes from 0; class_names, if given, must name all of them.",
            )
        counts = np.bincount(y, minlength=len(names))
        if not counts.all():
            missing = [names[c] for c in np.flatnonzero(counts == 0)]
            raise DataError(
                f"the {split} split has no sample of class {_listed(missing)}",
                expected="samples of every class in every split",
                do="Add samples, or drop the class everywhere and number the others anew.",
            )


def _listed(items: list[Any]) -> str:
    """The first few, and how many there are."""
    shown = ", ".join(map(str, items[:8]))
    return shown if len(items) <= 8 else f"{shown}, ... ({len(items)} in all)"
