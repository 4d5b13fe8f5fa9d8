"""Reading arrays from files of others."""

from __future__ import annotations

import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from eesearch.core.errors import DataError


def read_npz(path: Path, expected: str, *, known: Collection[str] | None = None) -> dict[str, Any]:
    """All arrays of an `.npz` file; arrays of Python objects are refused, never unpickled.

    Args:
        path: The file.
        expected: What it should hold, for the message.
        known: Names that may be in it; None: any.

    Raises:
        DataError: there is no such file, it cannot be read, or it holds an array of another name.
    """
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            unknown = [name for name in archive.files if known is not None and name not in known]
            if unknown:
                got = ", ".join(unknown)
                raise DataError(f"{path} holds unknown arrays", got=got, expected=expected, do="Mend their names.")
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise DataError(f"cannot read {path}: there is no such file", do="Check its path.") from None
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise DataError(
            f"cannot read {path}",
            got="no archive of plain arrays" if "contains pickled" in str(error) else error,
            expected=f"an .npz file with {expected}",
            do="Write it with numpy.savez; arrays of Python objects are never loaded.",
        ) from error
