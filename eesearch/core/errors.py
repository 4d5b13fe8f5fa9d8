"""The tree of errors, and the exit codes that the command line gives them.

    EesearchError                 exit code 1: ours
    ├── StoreError                an entry of the store is damaged (set aside and recomputed by its owner)
    └── InputError                exit code 2: the user's input
        ├── StudyError            a study or search-space file; all its mistakes at once
        ├── DataError             arrays, labels, splits
        ├── ModelError            the model: import, output, weights
        │   └── SplitError        the model cannot be cut there
        ├── HeadError             a head does not fit its tap
        ├── CostError             an operation that is not counted, a device that does not exist
        ├── PolicyError           a policy that contradicts itself or its table
        ├── PickError             a selection that names no point
        └── RunError              the run directory: another study's, not writable, disk full

A message has four parts: what happened, what was got, what was expected, what to do.
"""

from __future__ import annotations

from collections.abc import Sequence


class EesearchError(Exception):
    """Whatever eesearch raises on purpose.

    Args:
        what: What happened, with the name of the thing it happened to.
        got: What was found.
        expected: What would have been right.
        do: What the user can do about it.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        got: object = None,
        expected: object = None,
        do: str | None = None,
    ) -> None:
        parts = [what]
        if got is not None:
            parts.append(f"got {got}")
        if expected is not None:
            parts.append(f"expected {expected}")
        message = "; ".join(parts)
        super().__init__(f"{message}. {do}" if do else message)


class StoreError(EesearchError):
    """An entry of the store is truncated or does not match its checksum."""


class InputError(EesearchError):
    """The user's input cannot be used as it is."""

    exit_code = 2


class StudyError(InputError):
    """A study or search-space file is wrong; lists every mistake with its path in the file."""

    @classmethod
    def collect(cls, source: str, mistakes: Sequence[tuple[str, str]]) -> StudyError:
        """Build one error from `(path in the file, message)` pairs."""
        lines = "\n".join(f"  {path}: {message}" for path, message in mistakes)
        plural = "mistake" if len(mistakes) == 1 else "mistakes"
        return cls(f"{len(mistakes)} {plural} in {source}:\n{lines}")


class DataError(InputError):
    """The data set cannot be used: labels, shapes, missing values, empty splits."""


class ModelError(InputError):
    """The model cannot be used: import path, weights, or what it returns."""


class SplitError(ModelError):
    """The model cannot be cut into segments there."""


class HeadError(InputError):
    """A head does not fit the tap that it is to read."""


class CostError(InputError):
    """A cost cannot be known: an uncounted operation, a device that does not exist."""


class PolicyError(InputError):
    """A policy contradicts itself or the table it is used on."""


class PickError(InputError):
    """A selection does not name a point of the front."""


class RunError(InputError):
    """The run directory cannot be used."""
