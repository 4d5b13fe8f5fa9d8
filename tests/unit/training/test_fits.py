import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from eesearch.core.design import ExitId
from eesearch.core.errors import InputError, PolicyError
from eesearch.core.tables import ExitTable
from eesearch.training.fits import best_temperature, fit_temperature, stratified_folds


def sample(n=400, classes=5, temperature=1.0, seed=0):
    """Logits whose best temperature is `temperature`, up to sampling."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 2
    p = np.exp(logits)
    p /= p.sum(1, keepdims=True)
    labels = np.array([rng.choice(classes, p=row) for row in p])
    return (logits * temperature).astype(np.float32), labels.astype(np.int64)


def table(logits, labels, split="cal"):
    exits = tuple(ExitId(network="n", cut=f"c{i}", head="h") for i in range(len(logits)))
    return ExitTable(np.asarray(logits, np.float32), labels, exits, split, "s")


def nll(logits, labels, temperature):
    z = logits.astype(np.float64) / temperature
    z -= z.max(1, keepdims=True)
    return float((np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), labels]).mean())


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("start", [0.05, 1.0, 20.0])
def test_finds_the_minimum(temperature, start):
    logits, labels = sample(temperature=temperature)
    reference = minimize_scalar(
        lambda log_t: nll(logits, labels, np.exp(log_t)),
        bounds=np.log([0.05, 20]),
        method="bounded",
        options={"xatol": 1e-8},
    )
    assert best_temperature(logits, labels, start=start) == pytest.approx(np.exp(reference.x), rel=1e-4)


def test_stays_within_bounds():
    labels = np.arange(10) % 2
    right = np.eye(2, dtype=np.float32)[labels] * 5
    assert best_temperature(right, labels) == pytest.approx(0.05, rel=1e-5)
    assert best_temperature(-right, labels) == pytest.approx(20.0, rel=1e-5)
    assert best_temperature(right * 1e4, labels) <= 1.0
    assert best_temperature(np.zeros_like(right), labels) == 1.0
    assert best_temperature(right[:0], labels[:0]) == 1.0


def test_a_sample_does_not_see_its_own_label():
    logits, labels = sample(n=50)
    fit = fit_temperature(table([logits], labels), seed=2)
    fold = stratified_folds(labels, 5, 2)
    rest = fold != 0
    by_hand = best_temperature(logits[rest], labels[rest], start=float(fit.deployed[0]))
    assert fit.calibration[0, fold == 0] == pytest.approx(by_hand)
    assert len(np.unique(fit.calibration[0])) == 5


def test_each_exit_gets_its_own():
    logits, labels = sample(n=1000)
    fit = fit_temperature(table([logits, logits * 3], labels))
    assert fit.deployed[1] == pytest.approx(3 * fit.deployed[0], rel=1e-4)
    assert fit.calibration.shape == (2, 1000)
    assert fit.calibration.mean(1) == pytest.approx(fit.deployed, rel=0.05)
    assert fit.deployed.dtype == np.float32
    assert fit.kind == "temperature"


def test_folds_are_even_and_stratified():
    labels = np.repeat([0, 1, 2], [50, 23, 2])
    fold = stratified_folds(labels, 5, seed=0)
    assert np.bincount(fold).tolist() == [15] * 5
    for label in range(3):
        counts = np.bincount(fold[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert (stratified_folds(labels, 5, seed=0) == fold).all()
    assert (stratified_folds(labels, 5, seed=1) != fold).any()


@pytest.mark.parametrize("n", [1, 3])
def test_fewer_samples_than_folds(n):
    logits, labels = sample(n=n)
    fit = fit_temperature(table([logits], labels))
    assert np.isfinite(fit.calibration).all()


def test_refuses_nonsense():
    logits, labels = sample(n=10)
    with pytest.raises(PolicyError, match="test table"):
        fit_temperature(table([logits], labels, split="test"))
    with pytest.raises(InputError, match="at least 2"):
        fit_temperature(table([logits], labels), folds=1)
