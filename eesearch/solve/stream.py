"""Tables too large for their logits: scored block by block, of which only scores and correctness stay."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eesearch.core.design import ExitId
from eesearch.core.errors import DataError, PolicyError
from eesearch.core.policy import Fit, Scoring
from eesearch.core.tables import ExitTable
from eesearch.core.weights import Weights
from eesearch.exits.routing import stop_output

Block = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Logits [E, n, C] and labels [n] of some samples."""


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """What a solver needs of an `ExitTable` under a scoring of memory `last`, at a fraction of its size.

    Attributes:
        scores: How sure each exit is of each sample, larger = surer; float32, or float64 where that would merge scores
            that differ. [E, N]
        correct: Whether what each exit answers is right. [E, N]
        exits: As in an `ExitTable`. [E]
        split: `train`, `cal` or `test`.
        samples: Content hash of the split; tables with equal hashes are over the same samples.
        labels: Where they are known. [N]
        weights: How much each sample counts; None: all the same. [N]
    """

    scores: NDArray[np.floating[Any]]
    correct: NDArray[np.bool_]
    exits: tuple[ExitId, ...]
    split: str = "cal"
    samples: str = ""
    labels: NDArray[np.int64] | None = None
    weights: Weights | None = None

    def __post_init__(self) -> None:
        if self.scores.ndim != 2 or self.scores.shape != self.correct.shape or len(self.scores) != len(self.exits):
            raise PolicyError(
                "the table does not fit together",
                got=f"scores {self.scores.shape}, correct {self.correct.shape}, {len(self.exits)} exits",
                expected="scores [E, N], correct [E, N], E exits",
            )

    def row(self, exit_id: ExitId) -> int:
        """Index of an exit's row.

        Raises:
            PolicyError: the table does not hold this exit.
        """
        if exit_id not in self._rows:
            raise PolicyError(f"the {self.split} table does not hold exit {exit_id}", got=[str(e) for e in self.exits])
        return self._rows[exit_id]

    @cached_property
    def _rows(self) -> dict[ExitId, int]:
        return {exit_id: row for row, exit_id in enumerate(self.exits)}


def stream_scores(
    blocks: Iterable[Block], exits: Sequence[ExitId], scoring: Scoring, *, split: str = "cal"
) -> ScoreTable:
    """The score table of samples that come block by block; no block is kept.

    Args:
        blocks: Logits [E, n, C] and labels [n] of any number of samples each.
        exits: Rows of every block. [E]
        scoring: Of memory `last`; on the split `cal` its folds are those of the samples in the order of the blocks.
        split: Of all blocks.

    Raises:
        DataError: there is no sample.
        PolicyError: scores belong to paths under this scoring, a block has another shape, or a fit does not match.
    """
    if scoring.decision.memory != "last":
        raise PolicyError(
            "samples can only be streamed where a score belongs to one exit",
            got=f"criterion '{scoring.criterion}' with answer '{scoring.answer}'",
            expected="memory 'last'",
        )
    parts = [_scored(table, part) for table, part in _tables(blocks, tuple(exits), scoring, split)]
    if not parts:
        raise DataError("there is no sample in the blocks", expected="at least one")
    labels = np.concatenate([part.labels for part in parts if part.labels is not None])
    scores = np.empty((len(exits), len(labels)), np.float32)
    correct = np.empty(scores.shape, np.bool_)
    start = 0
    while parts:  # given back one by one, so that nothing is held twice
        part = parts.pop(0)
        stop = start + part.scores.shape[1]
        scores[:, start:stop], correct[:, start:stop] = part.scores, part.correct
        start = stop
    return ScoreTable(scores, correct, tuple(exits), split, content(scores, correct, labels), labels)


def content(*arrays: NDArray[Any]) -> str:
    """Content hash of a split: 16 hex digits."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def _tables(
    blocks: Iterable[Block], exits: tuple[ExitId, ...], scoring: Scoring, split: str
) -> Iterator[tuple[ExitTable, Scoring]]:
    """Each block as a table, with the folds of its samples."""
    start, folds = 0, len(scoring.fold) if split == "cal" else 0
    for logits, labels in blocks:
        stop = start + len(labels)
        if folds and stop > folds:
            raise PolicyError("the fit was made on fewer samples", got=folds, expected=f"at least {stop}")
        fits = tuple(_folds(fit, start, stop) for fit in scoring.fits)
        yield ExitTable(logits, labels, exits, split, samples=""), replace(scoring, fits=fits)
        start = stop
    if folds and start < folds:
        raise PolicyError("the fit was made on more samples", got=folds, expected=start)


def _folds(fit: Fit, start: int, stop: int) -> Fit:
    return replace(fit, fold=fit.fold[start:stop]) if len(fit.fold) else fit


def _scored(table: ExitTable, scoring: Scoring) -> ScoreTable:
    """Scores and correctness of one block, one exit at a time."""
    scores = np.empty(table.logits.shape[:2], np.float32)
    correct = np.empty(scores.shape, np.bool_)
    for row in range(len(scores)):
        scores[row], correct[row] = stop_output(table, [row], scoring)
    return ScoreTable(scores, correct, table.exits, table.split, labels=table.labels)
