"""Criteria learnt on the calibration table: the probability that an exit is right, by logistic regression.

`learned` sees what the exit itself says, `learned_path` also what the active exits before it say. Which these will be
is not known when it is fitted, so it is fitted on a fixed random sample of paths, as ensemble weights are: every sample
is shown once for every length of path, on one of the paths of that length that end at the exit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from eesearch.core.policy import Fit
from eesearch.core.tables import ExitTable
from eesearch.exits.criteria import probabilities
from eesearch.exits.gates import features
from eesearch.exits.learned import parameter_widths, path_features
from eesearch.training.fits import FOLDS, folded_heat, sample_paths

SHRINKAGE = 1.0
"""Weight of the squared slopes (of standardised features) in the logistic loss, against the sum over samples."""

LEAST_SCALE = 0.01
"""Features lie in [0, 1]. One that hardly ever changes is not blown up: where it does change it would decide alone."""

SHOWN = 20_000
"""Most samples that one exit's gate is fitted on, those of different paths counted each."""

Case = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Rows of the active exits up to an exit [k], and the samples that met them. [n]"""

Seen = Callable[[ExitTable, NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]], NDArray[np.float32]]
"""`(table, rows [k], samples [n], temperatures [E, 1]) -> features [n, D - 1]`."""


def fit_learned(table: ExitTable, temperature: Fit | None = None, *, folds: int = FOLDS, seed: int = 0) -> Fit:
    """Fit the gates of the criterion `learned`, one per exit.

    Args:
        table: The calibration table.
        temperature: A fit of kind `temperature` with the same folds; None: 1.
        folds: At least 2; stratified by class, as far as a class has members.
        seed: Decides the folds, and which samples are shown if there are too many.

    Raises:
        PolicyError: the table is of another split, or the temperatures were fitted on other folds.
        InputError: fewer than two folds.
    """
    rng, samples = np.random.default_rng(seed), len(table.labels)
    shown = [[(np.array([e]), _some(rng, samples, SHOWN))] for e in range(len(table.exits))]
    return _fitted("learned", table, temperature, shown, _seen_alone, folds=folds, seed=seed)


def fit_learned_path(table: ExitTable, temperature: Fit | None = None, *, folds: int = FOLDS, seed: int = 0) -> Fit:
    """Fit the gates of the criterion `learned_path`, one per exit.

    Args:
        table: The calibration table.
        temperature: As for `fit_learned`.
        folds: As for `fit_learned`.
        seed: Decides the folds, the paths, and which samples are shown on each.

    Raises:
        PolicyError: the table is of another split, or the temperatures were fitted on other folds.
        InputError: fewer than two folds.
    """
    shown = path_cases(table, np.random.default_rng(seed))
    return _fitted("learned_path", table, temperature, shown, _seen_on_path, folds=folds, seed=seed)


def path_cases(table: ExitTable, rng: np.random.Generator) -> list[list[Case]]:
    """For each exit, paths of active exits that end there, and the samples that are shown on each. [E]

    Args:
        table: Its rows are in the order of the cuts.
        rng: Draws paths, and deals the samples out to them.
    """
    ending: list[dict[int, list[NDArray[np.intp]]]] = [defaultdict(list) for _ in table.exits]
    for e, of_length in enumerate(ending):
        of_length[1] = [np.array([e])]
    for padded in sample_paths(table, rng):
        rows = padded[padded >= 0]
        ending[rows[-1]][len(rows)].append(rows)
    cases: list[list[Case]] = []
    for of_length in ending:
        cases.append([])
        for paths in of_length.values():
            samples = _some(rng, len(table.labels), SHOWN // len(of_length))
            dealt = rng.integers(len(paths), size=len(samples))
            cases[-1] += [(rows, samples[dealt == p]) for p, rows in enumerate(paths)]
    return cases


def _some(rng: np.random.Generator, samples: int, most: int) -> NDArray[np.intp]:
    """All samples, or as many as allowed."""
    return np.arange(samples) if samples <= most else np.sort(rng.permutation(samples)[:most])


def _seen_alone(
    table: ExitTable, rows: NDArray[np.intp], samples: NDArray[np.intp], heat: NDArray[np.float32]
) -> NDArray[np.float32]:
    return np.asarray(features(probabilities(table.logits[rows[-1], samples], heat[rows[-1]])))


def _seen_on_path(
    table: ExitTable, rows: NDArray[np.intp], samples: NDArray[np.intp], heat: NDArray[np.float32]
) -> NDArray[np.float32]:
    return np.asarray(path_features(table.logits[rows[:, None], samples], heat[rows]))


def _fitted(
    kind: str,
    table: ExitTable,
    temperature: Fit | None,
    shown: Sequence[Sequence[Case]],
    see: Seen,
    *,
    folds: int,
    seed: int,
) -> Fit:
    fold, heat = folded_heat(table, temperature, folds, seed)
    parameters = np.zeros((1 + folds, len(table.exits), parameter_widths(table.logits.shape[-1])[kind]), np.float32)
    for m in range(1 + folds):
        for e, cases in enumerate(shown):
            rest = [(rows, samples[fold[samples] != m - 1]) for rows, samples in cases]
            seen = np.concatenate([see(table, rows, samples, heat[m]) for rows, samples in rest])
            right = np.concatenate([table.correct[e, samples] for _, samples in rest])
            parameters[m, e] = logistic_row(seen, right)
    return Fit(kind, table.exits, parameters, fold)


def logistic_row(seen: NDArray[np.float32], right: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Intercept and slopes of the logistic regression of `right` on features that are not scaled. [1 + P]

    Where an exit is always right, or always wrong, there is nothing to tell apart: an intercept with its smoothed rate.

    Args:
        seen: [N, P]
        right: [N]
    """
    row, count = np.zeros(1 + seen.shape[1]), int(right.sum())
    if count in (0, len(right)):
        row[0] = np.log((count + 1) / (len(right) - count + 1))
        return row.astype(np.float32)
    from sklearn.linear_model import LogisticRegression  # takes a second to import

    mean, scale = seen.mean(0, dtype=np.float64), np.maximum(seen.std(0, dtype=np.float64), LEAST_SCALE)
    model = LogisticRegression(C=1.0 / SHRINKAGE, solver="newton-cholesky", max_iter=100)
    with threadpool_limits(1):  # sums in another order are other numbers
        model.fit((seen - mean) / scale, right)
    row[1:] = model.coef_[0] / scale
    row[0] = model.intercept_[0] - row[1:] @ mean
    return row.astype(np.float32)
