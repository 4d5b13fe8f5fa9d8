"""Pools: samples that had no part in a search, to certify on; labelled where that matters."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eesearch.core.arrays import read_npz
from eesearch.core.design import content_key
from eesearch.core.errors import DataError
from eesearch.training.checks import read_samples, read_split
from eesearch.training.data import Split

UNLABELLED = -2
"""The label of a sample that nobody has labelled; no network answers this."""

LISTED = 8
"""So many samples are named in a message."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Samples that had no part in the search.

    Attributes:
        x: Raw samples, as the study's data have them. [N, ...]
        y: Labels 0 .. C - 1, or `UNLABELLED`. [N]
    """

    x: NDArray[Any]
    y: NDArray[np.int64]

    @property
    def split(self) -> Split:
        """As a split."""
        return Split("pool", self.x, self.y)

    @property
    def source(self) -> str:
        """Content hash of the samples, whatever their labels."""
        return Split("pool", self.x, np.zeros_like(self.y)).key


@dataclass(frozen=True)
class ToLabel:
    """The samples of a pool on which any policy that may be tested differs from the backbone.

    Attributes:
        rows: Their indices, rising.
        samples: Number of samples in the pool.
    """

    rows: tuple[int, ...]
    samples: int

    def to_csv(self) -> str:
        """The list to fill in: `index,label`."""
        return "index,label\n" + "".join(f"{row},\n" for row in self.rows)

    def __str__(self) -> str:
        share = len(self.rows) / self.samples
        return f"{len(self.rows):,} of {self.samples:,} samples need a label ({share:.1%}): fill in the column `label`"


def _samples(given: Any) -> NDArray[Any]:
    return read_samples("x", given)


def read_pool(
    path: Path, labels: Path | None, class_names: Sequence[str], samples: Callable[[Any], NDArray[Any]] = _samples
) -> Pool:
    """Read a pool: an `.npz` file with raw samples `x`, and labels `y` or a filled-in list.

    Args:
        path: The file.
        labels: CSV `index,label`; a label is a class 0 .. C - 1, or its name; None: the labels are `y`, if there
            are any.
        class_names: Of the run. [C]
        samples: Makes samples of `x`, such as `Run.samples`.

    Raises:
        DataError: a file cannot be read; labels that are no class, or twice and different, or of no sample.
    """
    arrays = read_npz(path, "x, and maybe y", known=("x", "y"))
    if "x" not in arrays or not len(arrays["x"]):
        raise DataError(f"{path} holds no samples", got=f"arrays {', '.join(sorted(arrays))}", expected="x [N, ...]")
    x = samples(arrays["x"])
    if labels is not None:
        return Pool(x, _read_labels(labels, len(x), class_names))
    if "y" not in arrays:
        return Pool(x, np.full(len(x), UNLABELLED, np.int64))
    x, y = read_split("pool", x, arrays["y"])
    wrong = np.flatnonzero((y < 0) | (y >= len(class_names)))
    if len(wrong):
        got = f"y[{wrong[0]}] = {y[wrong[0]]}"
        raise DataError(f"labels in {path} are no class", got=got, expected=f"0..{len(class_names) - 1}")
    return Pool(x, y)


def known_rows(pool: Pool, splits: Iterable[Split]) -> dict[str, list[int]]:
    """Which samples of a pool are samples of a split, too.

    Args:
        pool: Of the same kind of samples as the splits.
        splits: Of a run.

    Returns:
        Rising indices into the pool by the name of the split, where there are any.
    """
    rows = _row_hashes(pool.x)
    found = {}
    for split in splits:
        own = set(_row_hashes(split.x))
        found[split.name] = [i for i, row in enumerate(rows) if row in own]
    return {name: known for name, known in found.items() if known}


def repeated(pool: Pool) -> int:
    """How many samples of a pool are equal to an earlier one."""
    rows = _row_hashes(pool.x)
    return len(rows) - len(set(rows))


def _row_hashes(x: NDArray[Any]) -> list[bytes]:
    """Content hash of each sample. [N]"""
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in x]


def labels_key(pool: Pool, needed: NDArray[np.intp]) -> str:
    """Content hash of the labels that decide.

    Args:
        pool: With labels.
        needed: Indices of the samples that must have one.

    Raises:
        DataError: one is missing.
    """
    missing = needed[pool.y[needed] == UNLABELLED]
    if len(missing):
        named = ", ".join(map(str, missing[:LISTED])) + (", ..." if len(missing) > LISTED else "")
        raise DataError(
            f"{len(missing):,} of the {len(needed):,} samples that need a label have none",
            got=f"no label of index {named}",
            do="Label them too; the list is another one for another --max-drop, --device or front: write it again.",
        )
    return content_key(needed.tolist(), pool.y[needed].tolist())


def _read_labels(path: Path, samples: int, class_names: Sequence[str]) -> NDArray[np.int64]:
    """A filled-in list; `UNLABELLED` where it says nothing. [N]"""
    known = {name: i for i, name in enumerate(class_names) if not name.isdigit()}
    known |= {str(i): i for i in range(len(class_names))}
    labels = np.full(samples, UNLABELLED, np.int64)
    for line, (index, label) in _label_rows(path):
        where = f"line {line} of {path}"
        if not index.isdecimal() or int(index) >= samples:
            raise DataError(f"{where} is about no sample", got=index, expected=f"an index 0..{samples - 1}")
        if not label:
            continue
        if label not in known:
            expected = f"0..{len(class_names) - 1}, or the name of a class"
            raise DataError(f"{where} holds no label", got=label, expected=expected)
        if labels[int(index)] not in (UNLABELLED, known[label]):
            raise DataError(f"{path} labels sample {index} twice, differently", do="Keep one of the lines.")
        labels[int(index)] = known[label]
    return labels


def _label_rows(path: Path) -> Iterator[tuple[int, tuple[str, str]]]:
    """`line, (index, label)` of every row, as text."""
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")), strict=True)
        if not {"index", "label"} <= set(reader.fieldnames or ()):
            raise DataError(f"{path} is no list of labels", got=reader.fieldnames, expected="columns index,label")
        for row in reader:
            yield reader.line_num, ((row["index"] or "").strip(), (row["label"] or "").strip())
    except FileNotFoundError:
        raise DataError(f"cannot read {path}: there is no such file", do="Check its path.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}", got=error, expected="CSV with columns index,label") from None
