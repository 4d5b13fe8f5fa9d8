"""CSV files: a column of labels, and either a column of texts or columns of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eesearch.core.errors import DataError
from eesearch.training.checks import refuse_kind
from eesearch.training.rows import LABELS, Wanted, find_column, number_labels, require_distinct, with_test

if TYPE_CHECKING:
    from pandas import DataFrame

TEXTS = ("text", "sentence")
"""Columns that are texts without being named."""

ARGUMENTS = ("text", "label", "test", "cal", "test_share")


def read_csv(path: Path, args: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of CSV files, of which each has one line of names.

    Args:
        path: Of the training split.
        args: `text` and `label` name columns, `test` and `cal` further files; `test_share`: of a file without `test`.

    Raises:
        DataError: a file that cannot be read, a column that is missing, or one of neither texts nor numbers.
    """
    unknown = sorted(args.keys() - set(ARGUMENTS))
    if unknown:
        raise DataError(f"{path} is a CSV file", got=f"argument {unknown[0]}", expected=", ".join(ARGUMENTS))
    files = {"train": path, **{name: Path(args[name]).expanduser() for name in ("test", "cal") if name in args}}
    require_distinct(str(path), {name: file.resolve() for name, file in files.items()})
    tables = {name: _read(file) for name, file in files.items()}
    there = list(tables["train"].columns)
    label = find_column(there, args.get("label"), LABELS, f"the labels of {path}")
    text = find_column(there, args["text"], TEXTS, f"the texts of {path}") if "text" in args else None
    text = text or next((name for name in TEXTS if name in there and name != label), None)
    wanted = [text] if text else [name for name in there if name != label]
    if not wanted:
        raise DataError(f"{path} has labels alone", got=label, expected="a column of texts, or columns of numbers")
    arrays: dict[str, Any] = {}
    for name, table in tables.items():
        missing = [column for column in (*wanted, label) if column not in table.columns]
        if missing:
            raise DataError(f"{files[name]} lacks a column that {path} has", got=missing[0])
        arrays[f"x_{name}"] = _texts(table, text) if text else _numbers(table, wanted, files[name])
    labels = {name: _labels(table, label, files[name]) for name, table in tables.items()}
    numbers, names = number_labels(labels, None, str(path))
    arrays |= {f"y_{name}": each for name, each in numbers.items()}
    arrays |= {} if names is None else {"class_names": names}
    return with_test(arrays, Wanted(str(path), by_args=True, test_share=args.get("test_share")))


def _read(file: Path) -> DataFrame:
    import pandas as pd

    if not file.is_file():
        raise DataError(f"cannot read {file}: there is no such file", do="Check its path.")
    try:  # a text may be "NA", and nothing is missing unless it is a column of numbers
        table = pd.read_csv(file, keep_default_na=False, na_values=[])
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {file}", got=error, expected="a CSV file with names in its first line") from error
    if len(table.columns) == 1 and ";" in str(table.columns[0]):
        got, do = f"one column, {table.columns[0]}", "Separate columns by commas: table.to_csv(FILE, index=False)."
        raise DataError(f"cannot read {file}", got=got, expected="columns separated by commas", do=do)
    nameless = [name for name in table.columns if str(name).startswith("Unnamed: ")]
    if nameless:
        raise DataError(
            f"a column of {file} has no name",
            got=f"column {list(table.columns).index(nameless[0])}",
            expected="a name for each; row numbers, as pandas writes them, are no feature",
            do="Write it without: table.to_csv(FILE, index=False).",
        )
    if table.empty:
        raise DataError(f"{file} is empty", expected="at least one sample of each class")
    return table


def _texts(table: DataFrame, column: str) -> Any:
    return np.array([str(value) for value in table[column]], np.dtypes.StringDType())


def _numbers(table: DataFrame, columns: Sequence[str], file: Path) -> Any:
    """Features [N, D]."""
    import pandas as pd

    numbers = table[list(columns)].apply(pd.to_numeric, errors="coerce")
    for column in columns:
        missing = np.flatnonzero(numbers[column].isna())
        if len(missing):
            raise DataError(
                f"column '{column}' of {file} holds no numbers",
                got=repr(table[column].iloc[missing[0]]),
                expected="numbers, or one column of texts",
                do="Drop or encode it; name a column of texts under `data`: args: {text: COLUMN}.",
            )
    return numbers.to_numpy(np.float32)


def _labels(table: DataFrame, column: str, file: Path) -> list[Any]:
    """Numbers or names of classes."""
    if table[column].dtype.kind == "f":
        raise refuse_kind(f"column '{column}' of {file}", f"{table[column].iloc[0]:.6g}", many=False)
    labels = list(table[column].tolist())
    texts = [str(label).strip().lower() for label in labels]
    numbers = any(text.lstrip("+-").isdigit() for text in texts)
    nothing = ("", "nan") if numbers else ("",)  # among names of classes, "nan" is one
    missing = [row for row, text in enumerate(texts) if text in nothing]
    if missing:
        where = f"{len(missing)} of {len(labels)} rows of {file}, row {missing[0]} first"
        raise DataError(f"samples without a label in column '{column}'", got=where, expected="a class for each")
    return labels
