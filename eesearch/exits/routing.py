"""Where each sample leaves: scores, thresholds, reach and exit rate, all replayed on a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eesearch.core.design import ABSTAINED
from eesearch.core.errors import PolicyError
from eesearch.core.policy import Criterion, Scoring
from eesearch.core.tables import ExitTable


def score_table(table: ExitTable, scoring: Scoring) -> NDArray[np.float32]:
    """How sure each exit is of each sample; on the split `cal` with the values fitted without the sample. [E, N]

    Args:
        table: One split.
        scoring: Of memory `last`: with it a score belongs to an exit, not to a path.

    Raises:
        InputError: there is no such criterion.
        PolicyError: the score also depends on earlier exits, or a fit does not match the table.
    """
    criterion = _checked(table, scoring)
    if criterion.memory != "last":
        raise PolicyError(
            f"criterion '{scoring.criterion}' with answer '{scoring.answer}' has no score per exit",
            got="memory 'all'",
            expected="memory 'last'",
        )
    scores = np.empty(table.logits.shape[:2], np.float32)
    for row in range(len(scores)):  # one exit at a time: [E, N, C] probabilities may not fit in memory
        scores[row] = stop_output(table, [row], scoring)[0]
    return scores


def stop_output(
    table: ExitTable, rows: Sequence[int], scoring: Scoring
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """How sure the last of these active exits is, and whether what is answered there is right.

    A last resort is as sure as can be, and right; an exit that says nothing is neither.

    Args:
        table: One split.
        rows: The active exits up to this stop, as rows of the table, in order. [k]
        scoring: Of any memory.

    Returns:
        Scores [N], correctness [N].

    Raises:
        InputError: there is no such criterion.
        PolicyError: a fit does not match the table, or is missing.
    """
    criterion = _checked(table, scoring)
    if table.exits[rows[-1]].is_last_resort:
        return np.full(len(table.labels), np.inf, np.float32), np.ones(len(table.labels), np.bool_)
    if table.exits[rows[-1]].is_none:
        return np.full(len(table.labels), -np.inf, np.float32), np.zeros(len(table.labels), np.bool_)
    if criterion.memory == "all":
        return _output(criterion, table, rows, scoring)
    key = (rows[-1], scoring.criterion, scoring.answer, scoring.keys)
    if key not in table.remembered:
        table.remembered[key] = _output(criterion, table, rows[-1:], scoring)
    return table.remembered[key]


def _output(
    criterion: Criterion, table: ExitTable, rows: Sequence[int], scoring: Scoring
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Score [N] and correctness [N] of the last of these exits; read only, as they may be remembered."""
    said, score = _call(criterion, table, list(rows), scoring)
    correct = table.correct[rows[-1]] if criterion.own_answer else np.asarray(said == table.labels)
    for values in (score, correct):
        values.setflags(write=False)
    return score, correct


def stop_answer(table: ExitTable, rows: Sequence[int], scoring: Scoring) -> NDArray[np.int64]:
    """The class that is answered at the last of these active exits; `ABSTAINED` at a last resort. [N]

    Args:
        table: One split.
        rows: The active exits up to this stop, as rows of the table, in order. [k]
        scoring: Of any memory.

    Raises:
        InputError: there is no such criterion.
        PolicyError: a fit does not match the table, or is missing.
    """
    criterion = _checked(table, scoring)
    if table.exits[rows[-1]].is_last_resort:
        return np.full(len(table.labels), ABSTAINED)
    if criterion.own_answer:
        return np.asarray(table.logits[rows[-1]].argmax(-1))
    return _call(criterion, table, list(rows) if criterion.memory == "all" else list(rows[-1:]), scoring)[0]


def path_outputs(
    table: ExitTable, rows: Sequence[int], scoring: Scoring
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """`stop_output` at every stop of a path.

    Args:
        table: One split.
        rows: The stops, as rows of the table, in order. [k]
        scoring: Of any memory.

    Returns:
        Scores [k, N], correctness [k, N].
    """
    outputs = [stop_output(table, rows[: k + 1], scoring) for k in range(len(rows))]
    return np.stack([score for score, _ in outputs]), np.stack([correct for _, correct in outputs])


def _checked(table: ExitTable, scoring: Scoring) -> Criterion:
    """The criterion, once it is sure that the fits were made on these samples."""
    if table.split == "cal" and len(scoring.fold) not in (0, len(table.labels)):
        raise PolicyError(
            "the fit was made on another calibration split",
            got=f"{len(scoring.fold)} samples",
            expected=f"{len(table.labels)}",
        )
    return scoring.decision


def _call(
    criterion: Criterion, table: ExitTable, rows: Sequence[int], scoring: Scoring
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Class answered [N] and score [N], fold by fold on calibration."""
    exits, logits = [table.exits[row] for row in rows], table.logits[rows]
    if table.split != "cal" or not len(scoring.fold):
        said, score = criterion.function(logits, scoring.parameters(exits))
        return said.argmax(-1), score.astype(np.float32)
    classes, scores = np.empty(len(table.labels), np.int64), np.empty(len(table.labels), np.float32)
    for fold in np.unique(scoring.fold):
        own = scoring.fold == fold
        said, score = criterion.function(logits[:, own], scoring.parameters(exits, int(fold)))
        classes[own], scores[own] = said.argmax(-1), score
    return classes, scores


def route(scores: NDArray[np.float32], thresholds: Sequence[float] | NDArray[np.float64]) -> NDArray[np.int64]:
    """The stop at which each sample leaves: the first whose score reaches its threshold, the last for all others.

    Scores are compared in float64, so that a threshold between two neighbouring float32 scores keeps them apart. A
    score that is not a number never leaves early.

    Args:
        scores: Of the active exits, in their order. [k, N]
        thresholds: One per active exit; the last is -inf. [k]

    Returns:
        Index of the stop. [N]

    Raises:
        PolicyError: the thresholds do not match the scores or do not end with -inf.
    """
    limits = np.asarray(thresholds, np.float64)
    if limits.shape != scores.shape[:1] or limits[-1] != -np.inf:
        raise PolicyError(
            "the thresholds do not fit the exits",
            got=limits.tolist(),
            expected=f"{len(scores)} numbers, the last -inf",
        )
    leaves = scores.astype(np.float64) >= limits[:, None]  # [k, N]
    leaves[-1] = True
    return np.asarray(leaves.argmax(0))


def exit_rate(stop: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Share of the samples that leaves at each of k stops; sums to 1. [k]

    Args:
        stop: Where each sample leaves, as `route` tells. [N]
        k: Number of stops.
    """
    return np.bincount(stop, minlength=k) / len(stop)


def reach(stop: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Share of the samples that arrives at each of k stops (I_i of the survey, as settled); the first is 1. [k]

    Args:
        stop: Where each sample leaves, as `route` tells. [N]
        k: Number of stops.
    """
    counts = np.bincount(stop, minlength=k)
    return np.asarray(counts[::-1].cumsum()[::-1] / len(stop))
