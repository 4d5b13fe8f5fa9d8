"""Data sets that are read row by row, torch's and Hugging Face's, as arrays."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from eesearch.core.errors import DataError
from eesearch.training.checks import refuse_kind
from eesearch.training.images import SPLITS, Asked, Frame
from eesearch.training.shares import check_share, split_test

SAMPLES, LABELS = ("image", "img", "text", "sentence"), ("label", "labels")
"""Columns that are found without being named."""

IN_TRANSFORM = Asked(advice="Bring them to one in the data set's transform.")


class Columns(NamedTuple):
    """Names of the columns of samples and labels, as the user gave them; None: found among `SAMPLES` and `LABELS`."""

    sample: str | None = None
    label: str | None = None


def require_distinct(source: str, named: Mapping[str, Hashable]) -> None:
    """Refuse that test samples train or calibrate, too.

    Args:
        source: The data, in words.
        named: What each split is called there.

    Raises:
        DataError: two are the same.
    """
    for split in sorted(named.keys() - {"test"}):
        if "test" in named and named[split] == named["test"]:
            raise DataError(
                f"{source}: {split} and test are the same samples",
                got=named["test"],
                expected="test samples that play no other part",
                do="Name other samples for one of them.",
            )


class Wanted(NamedTuple):
    """How data sets are read.

    Attributes:
        source: What the user calls them, for messages.
        columns: Of rows that are mappings.
        asked: What images are to be.
        by_args: Whether the user can name columns and a test share under `data: args`; otherwise a function can.
        test_share: Of data without a test split.
    """

    source: str
    columns: Columns = Columns()
    asked: Asked = IN_TRANSFORM
    by_args: bool = False
    test_share: Any = None


def are_datasets(given: object) -> bool:
    """Whether this is data sets by split: a mapping with `train`, or a pair of train and test."""
    return (isinstance(given, Mapping) and "train" in given) or isinstance(given, tuple | list)


def dataset_arrays(given: Mapping[str, Any] | Sequence[Any], wanted: Wanted) -> dict[str, Any]:
    """The arrays of data sets that are read row by row.

    Args:
        given: `train`, `test` and maybe `cal` (or `val`, `validation`); or a pair of train and test.
        wanted: How.

    Raises:
        DataError: a split is missing, or cannot be read by rows; rows without a label, or with one that is no class;
            samples unlike each other.
    """
    splits = _by_name(given, wanted.source)
    check_test("test" in splits, wanted)
    columns = {name: _columns(name, split, wanted) for name, split in splits.items()}
    parts: dict[str, tuple[Any, list[Any]]] = {}
    frame: Frame | None = None
    for name, split in splits.items():
        where = f"the {name} split of {wanted.source}"
        x, labels, frame = _stacked(_pairs(split, columns[name], where), len(split), (frame, wanted.asked), where)
        parts[name] = x, labels
    names = _class_names(splits["train"], columns["train"])
    return _arranged(parts, names, wanted)


def _by_name(given: Mapping[str, Any] | Sequence[Any], source: str) -> dict[str, Any]:
    expected = "map-style data sets by split: train, test and maybe cal"
    if not isinstance(given, Mapping):
        if len(given) != 2:
            raise DataError(f"{source} gives {len(given)} data sets", expected=expected, do="Return a mapping.")
        given = {"train": given[0], "test": given[1]}
    splits: dict[str, Any] = {}
    for name, here in SPLITS.items():
        if name in given:
            splits.setdefault(here, given[name])
    if "train" not in splits:
        raise DataError(f"{source} has no train split", got=", ".join(map(str, given)) or "none", expected=expected)
    for name, split in splits.items():
        streams = isinstance(split, torch.utils.data.IterableDataset)
        if streams or not (hasattr(split, "__len__") and hasattr(split, "__getitem__")):
            raise DataError(
                f"the {name} split of {source} cannot be read by row",
                got=type(split).__name__,
                expected="a data set with a length (map-style), not one that streams (iterable)",
                do="Give it as arrays, or as a data set of rows.",
            )
    return splits


def _is_table(split: Any) -> bool:
    """Whether it is a data set of the Hugging Face kind."""
    return hasattr(split, "column_names") and hasattr(split, "select_columns")


def _row(rows: Any, number: int, where: str) -> Any:
    try:
        return rows[number]
    except Exception as error:  # the user's code, or a decoder, may fail in any way: say where, keep the cause
        raise DataError(f"cannot read row {number} of {where}", got=f"{type(error).__name__}: {error}") from error


def _columns(name: str, split: Any, wanted: Wanted) -> tuple[str, str] | None:
    """Columns of samples and labels; None: rows are pairs."""
    if _is_table(split):
        first = split.column_names
    else:
        first = _row(split, 0, f"the {name} split of {wanted.source}") if len(split) else None
        if not isinstance(first, Mapping):
            return None
    there = list(first or ())
    return (
        find_column(there, wanted.columns.sample, SAMPLES, f"the samples of {wanted.source}"),
        find_column(there, wanted.columns.label, LABELS, f"the labels of {wanted.source}"),
    )


def find_column(there: Sequence[str], asked: str | None, known: Sequence[str], what: str) -> str:
    """The column that the user named, else the first known one that is there.

    Raises:
        DataError: there is none.
    """
    found = [name for name in ([asked] if asked else known) if name in there]
    if not found:
        raise DataError(
            f"{what} are in no column that is there",
            got=", ".join(map(str, there)) or "no columns",
            expected=f"a column '{asked}'" if asked else f"a column {' or '.join(known)}",
            do="Name them under `data`: args: {text: COLUMN (or image: COLUMN), label: COLUMN}; in a function, rename.",
        )
    return found[0]


def _pairs(split: Any, columns: tuple[str, str] | None, where: str) -> Iterator[tuple[Any, Any]]:
    """Sample and label of every row."""
    rows = split.select_columns(list(columns)) if _is_table(split) and columns else split
    for number in range(len(split)):
        row = _row(rows, number, where)
        if columns is not None and isinstance(row, Mapping) and set(columns) <= row.keys():
            yield row[columns[0]], row[columns[1]]
        elif columns is None and isinstance(row, tuple | list) and len(row) == 2:
            yield row[0], row[1]
        else:
            got = f"{type(row).__name__} of {len(row)}" if isinstance(row, tuple | list) else type(row).__name__
            raise DataError(
                f"row {number} of {where} is no sample with a label",
                got=got,
                expected="(sample, label), or a mapping with both",
                do="There is nothing to learn from samples without labels.",
            )


def _stacked(
    pairs: Iterator[tuple[Any, Any]], count: int, images: tuple[Frame | None, Asked], where: str
) -> tuple[Any, list[Any], Frame | None]:
    """Samples in one array, labels in a list, and what images were brought to."""
    from PIL import Image

    frame, asked = images
    first = next(pairs, None)
    if first is None:
        raise DataError(f"{where} is empty", expected="at least one sample of each class")
    labels: list[Any] = []
    texts: list[str] = []
    x: NDArray[Any] | None = None
    for row, (sample, label) in enumerate(chain([first], pairs)):
        labels.append(_label(label, f"row {row} of {where}"))
        if isinstance(first[0], str):
            texts.append(_text(sample, f"row {row} of {where}"))
            continue
        if isinstance(sample, Image.Image):
            frame = frame or Frame.of(sample, f"row {row} of {where}", asked)
            sample = frame.pixels(sample, f"row {row} of {where}")
        sample = _array(sample, f"row {row} of {where}")
        x = np.empty((count, *sample.shape), sample.dtype) if x is None else x
        _require_like(sample, x, f"row {row} of {where}")
        x[row] = sample
    return np.array(texts, np.dtypes.StringDType()) if x is None else x, labels, frame


def _text(sample: Any, where: str) -> str:
    if not isinstance(sample, str):
        raise DataError(f"{where} holds no text as the rows before", got=type(sample).__name__, expected="a string")
    return sample


def _array(sample: Any, where: str) -> NDArray[Any]:
    try:
        array = sample.detach().cpu().numpy() if isinstance(sample, torch.Tensor) else np.asarray(sample)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{where} is no array", got=error) from error
    if array.dtype.kind not in "biuf":
        got = f"{type(sample).__name__} ({array.dtype})"
        raise DataError(f"{where} is no sample", got=got, expected="a tensor, an array, an image or a text")
    return array


def _require_like(sample: NDArray[Any], x: NDArray[Any], where: str) -> None:
    if (sample.shape, sample.dtype) != (x.shape[1:], x.dtype):
        raise DataError(
            f"{where} is unlike the rows before",
            got=f"{sample.dtype} {list(sample.shape)}",
            expected=f"{x.dtype} {list(x.shape[1:])}",
            do="Bring the samples to one shape and type in the data set's transform.",
        )


def _label(label: Any, where: str) -> int | str:
    """A class: its number, or its name.

    Raises:
        DataError: it is none.
    """
    value = label.item() if getattr(label, "ndim", None) == 0 else label
    if isinstance(value, bool | np.bool_):
        return int(value)
    if isinstance(value, int) or (isinstance(value, str) and value.strip()):
        return value
    if isinstance(value, float):
        raise refuse_kind(where, f"{value:.6g}", many=False)
    if isinstance(value, list | tuple | np.ndarray | torch.Tensor):
        raise refuse_kind(where, f"{len(value)} values", many=True)
    got = "an empty text" if isinstance(value, str) else type(value).__name__
    raise DataError(f"{where} has no label", got=got, expected="the class of the sample")


def _class_names(split: Any, columns: tuple[str, str] | None) -> list[str] | None:
    """Names of the classes, where the data set knows them."""
    if columns is not None and _is_table(split):
        names = getattr(split.features[columns[1]], "names", None)
    else:
        names = getattr(split, "classes", None)
    listed = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return list(names) if names and listed and len(set(names)) == len(names) else None


def _arranged(parts: Mapping[str, tuple[Any, list[Any]]], names: list[str] | None, wanted: Wanted) -> dict[str, Any]:
    """Arrays by name, with a test split taken out where there is none."""
    numbers, names = number_labels({name: labels for name, (_, labels) in parts.items()}, names, wanted.source)
    arrays: dict[str, Any] = {} if names is None else {"class_names": names}
    for name, (x, _) in parts.items():
        arrays |= {f"x_{name}": x, f"y_{name}": numbers[name]}
    return with_test(arrays, wanted)


def check_test(there: bool, wanted: Wanted) -> None:
    """Refuse data without a test split and without a share that becomes it, or with both.

    Raises:
        DataError: so.
    """
    if there and wanted.test_share is not None:
        got, do = "test_share", "Leave test_share out."
        raise DataError(f"{wanted.source} has a test split", got=got, expected="none", do=do)
    if not there and wanted.by_args:
        check_share(wanted.test_share)
    elif not there:
        raise DataError(f"{wanted.source} has no test split", expected="train, test and maybe cal", do="Add it.")


def with_test(arrays: dict[str, Any], wanted: Wanted) -> dict[str, Any]:
    """The same arrays, with the test split taken out of the training split where there is none.

    Raises:
        DataError: nothing says how much; or there is one, and a share as well.
    """
    check_test("x_test" in arrays, wanted)
    if "x_test" in arrays:
        return arrays
    x, y = arrays["x_train"], arrays["y_train"]
    rest, taken = split_test(y, wanted.test_share)
    return arrays | {"x_train": x[rest], "y_train": y[rest], "x_test": x[taken], "y_test": y[taken]}


def number_labels(
    labels: Mapping[str, Sequence[Any]], names: list[str] | None, source: str
) -> tuple[dict[str, NDArray[np.int64]], list[str] | None]:
    """Labels as numbers; names of classes are numbered in alphabetical order of the training split.

    Args:
        labels: Of each split.
        names: Of the classes, where they are known.
        source: For the message.

    Raises:
        DataError: a class of another split that the training split does not know, or labels of both kinds.
    """
    if not any(isinstance(label, str) for label in chain(*labels.values())):
        return {name: np.array(each, np.int64) for name, each in labels.items()}, names
    if not all(isinstance(label, str) for label in chain(*labels.values())):
        raise DataError(f"{source} has labels of two kinds", got="numbers and names", expected="one of them")
    known = names or sorted(set(labels["train"]))
    place = {name: number for number, name in enumerate(known)}
    strange = sorted({label for each in labels.values() for label in each} - place.keys())
    if strange:
        got = strange[0]
        raise DataError(f"{source} has a class that train lacks", got=got, expected=f"among {', '.join(known[:20])}")
    return {name: np.array([place[label] for label in each], np.int64) for name, each in labels.items()}, known
