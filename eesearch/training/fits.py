"""Numbers fitted on the calibration table, without the network: a temperature and an ensemble weight per exit.

Guo et al., "On calibration of modern neural networks" (ICML 2017): divide the logits z of an exit by the T that
minimises the negative log-likelihood of the labels. In b = 1 / T this loss is convex,

    NLL(b) = mean( log sum_c exp(b z_c) - b z_y ),    NLL' = mean( E_p z - z_y ),    NLL'' = mean( Var_p z ),

so a Newton iteration kept inside a bracket finds it.

A running ensemble answers at a stop with the mean of what the active exits so far said, exit i weighing w_i,

    log q = sum_i v_i log p_i - log sum_c exp( sum_i v_i log p_ic ),    v_i = w_i / sum_j w_j,

over the active exits (a logarithmic opinion pool). Which exits will be active is not known when the weights are fitted.
So they minimise the negative log-likelihood of the labels over a fixed random sample of paths and of their prefixes; it
is convex in each v, and with g_i = mean( sum_c (q_c - [c = y]) log p_ic ), the slope in log w_i is

    sum over prefixes of v_i (g_i - sum_j v_j g_j).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from eesearch.core.errors import InputError, PolicyError
from eesearch.core.policy import Fit, Scoring
from eesearch.core.tables import ExitTable

FOLDS = 5
"""Of calibration, unless somebody asks for others."""

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
"""An exit that is always right wants T = 0, one that knows nothing wants infinity."""

PATHS, PATHS_PER_EXIT = 300, 8
"""Random paths that ensemble weights are fitted on, at least; each has one or more prefixes of two exits or more."""

LONGEST_PATH = 4
"""Most exits on such a path, the own classifier included."""

JUDGEMENTS, NUMBERS = 100_000, 2**25
"""Samples that judge the prefixes, counted once per prefix: so many in all, other ones for each so that all are used,
and no more than leaves so many numbers to hold."""

LOG_WEIGHT, RIDGE = 12.0, 1e-6
"""Log-weights are kept within -12 and 12; a trace of their mean square in the loss settles what no path tells."""


def fit_temperature(table: ExitTable, *, folds: int = FOLDS, seed: int = 0) -> Fit:
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
    fold = _folds(table, folds, seed)
    parameters = np.ones((1 + folds, len(table.exits), 1), np.float32)
    for e, logits in enumerate(table.logits):
        deployed = best_temperature(logits, table.labels)
        parameters[0, e] = deployed
        for f in range(folds):
            rest = fold != f
            parameters[1 + f, e] = best_temperature(logits[rest], table.labels[rest], start=deployed)
    return Fit("temperature", table.exits, parameters, fold)


def _folds(table: ExitTable, folds: int, seed: int) -> NDArray[np.int16]:
    """The folds of a calibration table, the same for every kind of fit. [N]"""
    if table.split != "cal":
        raise PolicyError("a fit is for calibration", got=f"the {table.split} table", expected="the cal table")
    if folds < 2:
        raise InputError("out-of-fold values need folds", got=folds, expected="at least 2")
    return stratified_folds(table.labels, folds, seed)


def folded_heat(
    table: ExitTable, temperature: Fit | None, folds: int, seed: int
) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """The folds of a calibration table [N], and the temperatures to fit with: of all samples, then without each fold.

    Args:
        table: The calibration table.
        temperature: A fit of kind `temperature` with the same folds; None: 1.
        folds: At least 2.
        seed: Decides the folds.

    Returns:
        [N], [1 + folds, E, 1]

    Raises:
        PolicyError: the table is of another split, or the temperatures were fitted on other folds.
        InputError: fewer than two folds.
    """
    fold = _folds(table, folds, seed)
    scoring = Scoring(fits=(temperature,) if temperature else ())
    if len(scoring.fold) and not np.array_equal(scoring.fold, fold):
        raise PolicyError("the temperatures were fitted on other folds", do="Use the same number of folds and seed.")
    models = (None, *range(folds))
    return fold, np.stack([scoring.parameters(table.exits, model)["temperature"] for model in models])


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


def stratified_folds(labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int16]:
    """The fold of each sample: shuffled within its class, then dealt out in turn. [N]

    Folds differ in size by one at most, and so do the members of a class in them.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), np.int16)
    fold[order] = np.arange(len(labels)) % folds
    return fold


def fit_ensemble(table: ExitTable, temperature: Fit | None = None, *, folds: int = FOLDS, seed: int = 0) -> Fit:
    """Fit the weight of every exit in the mean of log-probabilities (the module's docstring says which).

    The largest weight is 1; so are all in a table of one cut, where no exit can be averaged with another.

    Args:
        table: The calibration table.
        temperature: A fit of kind `temperature` with the same folds; None: 1.
        folds: At least 2; stratified by class, as far as a class has members.
        seed: Decides the folds, the paths, and the samples that judge each.

    Raises:
        PolicyError: the table is of another split, or the temperatures were fitted on other folds.
        InputError: fewer than two folds.
    """
    fold, heat = folded_heat(table, temperature, folds, seed)
    paths = sample_paths(table, np.random.default_rng(seed))
    parameters = np.ones((1 + folds, len(table.exits), 1), np.float32)
    for m in range(1 + folds if len(paths) else 0):
        pools = Pools.drawn(table, heat[m], paths, np.flatnonzero(fold != m - 1), seed)
        parameters[m, :, 0] = pools.best_weights(len(table.exits))
    return Fit("ensemble", table.exits, parameters, fold)


def sample_paths(table: ExitTable, rng: np.random.Generator) -> NDArray[np.intp]:
    """Random paths of at least two exits in the order of the table's rows, one head per cut, and all such prefixes.

    Every exit is on some; every second path ends with the own classifier, as most policies do.

    Args:
        table: If it holds an own classifier that ends paths, this is its last row.
        rng: Draws how many exits, and which.

    Returns:
        Rows of the table, padded with -1; none if there is only one cut. [P, 4]
    """
    cuts = [(e.network, e.cut) for e in table.exits]
    heads = {cut: [row for row, other in enumerate(cuts) if other == cut] for cut in dict.fromkeys(cuts)}
    found: dict[tuple[int, ...], None] = {}
    for n in range(max(PATHS, PATHS_PER_EXIT * len(cuts)) if len(heads) > 1 else 0):
        path = {n % len(cuts)}
        if n // len(cuts) % 2 == 0 and table.exits[-1].is_output:
            path.add(len(cuts) - 1)
        free = [cut for cut in heads if cut not in {cuts[row] for row in path}]
        length = int(rng.integers(2, min(LONGEST_PATH, len(heads)) + 1))
        for c in rng.choice(len(free), max(length - len(path), 0), replace=False):
            path.add(int(rng.choice(heads[free[c]])))
        ordered = tuple(sorted(path))
        found |= {ordered[:end]: None for end in range(2, len(ordered) + 1)}
    padded = np.full((len(found), LONGEST_PATH), -1, np.intp)
    for p, rows in enumerate(found):
        padded[p, : len(rows)] = rows
    return padded


@dataclass(frozen=True, eq=False)
class Pools:
    """Paths, and what the exits on each say about the samples that judge it.

    Attributes:
        paths: Rows of the table, padded with -1. [P, K]
        log_p: Tempered log-probabilities; 0 where there is no exit. [P, K, n, C]
        labels: [P, n]
    """

    paths: NDArray[np.intp]
    log_p: NDArray[np.floating]
    labels: NDArray[np.int64]

    @classmethod
    def drawn(
        cls, table: ExitTable, heat: NDArray[np.float32], paths: NDArray[np.intp], samples: NDArray[np.intp], seed: int
    ) -> Pools:
        """Deal these samples out to the paths, all of them about equally often. `heat` [E, 1]."""
        room = min(JUDGEMENTS // len(paths), NUMBERS // (paths.size * table.logits.shape[-1]))
        each = min(max(room, 1), len(samples))
        rounds = -(-len(paths) * each // len(samples))
        rng = np.random.default_rng(seed)
        dealt = np.concatenate([rng.permutation(samples) for _ in range(rounds)])[: len(paths) * each]
        judges = dealt.reshape(len(paths), each)
        logits = table.logits[paths[:, :, None], judges[:, None]] / heat[paths][..., None]
        log_p = np.where(paths[..., None, None] >= 0, log_softmax(logits, axis=-1), np.float32(0.0))
        return cls(paths, log_p, table.labels[judges])

    def loss(self, log_weight: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Mean negative log-likelihood of the labels, and its slope in each log-weight. [E]"""
        weight = np.where(self.paths >= 0, np.exp(log_weight)[self.paths], 0.0)
        share = weight / weight.sum(1, keepdims=True)  # [P, K]
        pooled = np.einsum("pk,pknc->pnc", share.astype(self.log_p.dtype), self.log_p)
        log_q = log_softmax(pooled, axis=-1)
        of_label = np.take_along_axis(log_q, self.labels[..., None], -1)
        excess = np.exp(log_q)  # [P, n, C]
        np.put_along_axis(excess, self.labels[..., None], np.exp(of_label) - 1.0, -1)
        slope = np.einsum("pnc,pknc->pk", excess, self.log_p).astype(np.float64) / self.labels.size
        slope = share * (slope - (share * slope).sum(1, keepdims=True))
        there = self.paths >= 0
        of_exit = np.bincount(self.paths[there], slope[there], minlength=len(log_weight))
        ridge = RIDGE * log_weight
        return -float(of_label.mean(dtype=np.float64)) + float(ridge @ log_weight) / 2.0, of_exit + ridge

    def best_weights(self, exits: int) -> NDArray[np.float64]:
        """The weights that minimise the loss; the largest is 1. [E]"""
        bounds = [(-LOG_WEIGHT, LOG_WEIGHT)] * exits
        found = minimize(self.loss, np.zeros(exits), jac=True, method="L-BFGS-B", bounds=bounds, options={"gtol": 1e-6})
        return np.asarray(np.exp(found.x - found.x.max()))
