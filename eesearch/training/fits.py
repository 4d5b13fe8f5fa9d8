"""Numbers fitted on the calibration table, without the network: a temperature per exit.

Guo et al., "On calibration of modern neural networks" (ICML 2017): divide the logits z of an exit by the T that
minimises the negative log-likelihood of the labels. In b = 1 / T this loss is convex,

    NLL(b) = mean( log sum_c exp(b z_c) - b z_y ),    NLL' = mean( E_p z - z_y ),    NLL'' = mean( Var_p z ),

so a Newton iteration kept inside a bracket finds it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eesearch.core.errors import InputError, PolicyError
from eesearch.core.policy import Fit
from eesearch.core.tables import ExitTable

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
"""An exit that is always right wants T = 0, one that knows nothing wants infinity."""


def fit_temperature(table: ExitTable, *, folds: int = 5, seed: int = 0) -> Fit:
    """Fit a temperature to every exit.

    On calibration itself each sample gets the temperature fitted on the folds that it is not in, so that thresholds
    chosen there are not chosen on samples that the temperature has seen.

    Args:
        table: The calibration table.
        folds: At least 2; stratified by class, as far as a class has members.
        seed: Decides the folds.

    Raises:
        PolicyError: the table is of another split.
        InputError: fewer than two folds.
    """
    if table.split != "cal":
        raise PolicyError("a fit is for calibration", got=f"the {table.split} table", expected="the cal table")
    if folds < 2:
        raise InputError("out-of-fold values need folds", got=folds, expected="at least 2")
    fold = stratified_folds(table.labels, folds, seed)
    deployed = np.ones(len(table.exits), np.float32)
    calibration = np.ones(table.logits.shape[:2], np.float32)
    for e, logits in enumerate(table.logits):
        deployed[e] = best_temperature(logits, table.labels)
        for f in np.unique(fold):
            rest = fold != f
            calibration[e, ~rest] = best_temperature(logits[rest], table.labels[rest], start=float(deployed[e]))
    return Fit("temperature", table.exits, deployed, calibration)


def best_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64], *, start: float = 1.0) -> float:
    """The temperature in [0.05, 20] that minimises the negative log-likelihood; `start` where none is better.

    Args:
        logits: [N, C]
        labels: [N]
        start: Where the search begins.
    """
    if not len(labels):
        return start
    z = logits.astype(np.float64)
    z -= z.max(1, keepdims=True)
    right = z[np.arange(len(z)), labels].mean()
    low, high, b = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE, 1 / start
    slope, curvature = _derivatives(z, right, b)
    bound = high if slope < 0 else low
    if slope * _derivatives(z, right, bound)[0] > 0:  # the minimum lies beyond
        return 1 / bound
    for _ in range(60):
        if slope == 0.0:
            break
        low, high = (low, b) if slope > 0 else (b, high)
        newton = b - slope / curvature if curvature > 0 else np.inf
        step = newton if low < newton < high else (low * high) ** 0.5
        if abs(step - b) <= 1e-7 * b:
            break
        b = step
        slope, curvature = _derivatives(z, right, b)
    return float(np.clip(1 / b, MIN_TEMPERATURE, MAX_TEMPERATURE))


def _derivatives(z: NDArray[np.float64], right: float, b: float) -> tuple[float, float]:
    """First and second derivative of the loss in b."""
    p = np.exp(b * z)
    p /= p.sum(1, keepdims=True)
    mean = (p * z).sum(1)  # [N]
    variance = (p * z * z).sum(1) - mean**2
    return float(mean.mean() - right), float(variance.mean())


def stratified_folds(labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.intp]:
    """The fold of each sample: shuffled within its class, then dealt out in turn. [N]

    Folds differ in size by one at most, and so do the members of a class in them.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), np.intp)
    fold[order] = np.arange(len(labels)) % folds
    return fold
