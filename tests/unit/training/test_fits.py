import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.errors import InputError, PolicyError
from eesearch.core.policy import Fit
from eesearch.core.tables import ExitTable
from eesearch.exits.answers import mean_log_probability
from eesearch.training.fits import (
    Pools,
    best_temperature,
    fit_ensemble,
    fit_temperature,
    sample_paths,
    stratified_folds,
)


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
    rest = fit.fold != 0
    by_hand = best_temperature(logits[rest], labels[rest], start=float(fit.parameters[0, 0, 0]))
    assert fit.parameters[1, 0, 0] == pytest.approx(by_hand)
    assert len(np.unique(fit.parameters)) == 6
    assert np.array_equal(fit.fold, stratified_folds(labels, 5, 2))


def test_each_exit_gets_its_own():
    logits, labels = sample(n=1000)
    fit = fit_temperature(table([logits, logits * 3], labels))
    assert fit.parameters[0, 1, 0] == pytest.approx(3 * fit.parameters[0, 0, 0], rel=1e-4)
    assert fit.parameters.shape == (6, 2, 1)
    assert fit.parameters[1:].mean(0) == pytest.approx(fit.parameters[0], rel=0.05)
    assert fit.parameters.dtype == np.float32
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
    assert np.isfinite(fit.parameters).all()


def opinion(right, sure=2.0, seed=0):
    """Logits of an exit that gives the label this ahead of the others where it is right, else another class. [N, C]"""
    rng = np.random.default_rng(seed)
    said = np.where(right, LABELS, (LABELS + rng.integers(1, 3, len(LABELS))) % 3)
    return np.eye(3)[said] * sure + rng.normal(size=(len(LABELS), 3)) * 0.1


LABELS = np.random.default_rng(1).integers(0, 3, 1500)


def independent(count, chance, seed=0):
    return [opinion(np.random.default_rng(seed + i).random(1500) < chance, seed=seed + i) for i in range(count)]


def nll_of_mean(split_table, fit, rows):
    parameters = {"temperature": np.ones((len(rows), 1), np.float32), "ensemble": fit.parameters[0, rows]}
    mean = mean_log_probability(split_table.logits[rows], parameters)
    return nll(mean, split_table.labels, 1.0), float((mean.argmax(-1) == split_table.labels).mean())


def test_exits_that_know_nothing_get_no_weight():
    noise = np.random.default_rng(5).normal(size=(2, 1500, 3)) * 2
    known = table([*noise, opinion(np.random.default_rng(6).random(1500) < 0.8)], LABELS)
    fit = fit_ensemble(known)
    assert fit.parameters[0, :, 0] == pytest.approx([0, 0, 1], abs=0.02)
    alone = nll(known.logits[2], LABELS, 1.0)
    assert nll_of_mean(known, fit, [0, 1, 2])[0] == pytest.approx(alone, rel=0.01)


def test_exits_that_err_independently_are_better_together():
    two = table(independent(2, 0.7), LABELS)
    fit = fit_ensemble(two)
    assert fit.parameters[0, :, 0] == pytest.approx([1, 1], abs=0.15)
    together, accuracy = nll_of_mean(two, fit, [0, 1])
    assert together < min(nll(logits, LABELS, 1.0) for logits in two.logits)
    three = table(independent(3, 0.7), LABELS)  # of two that disagree one is as good as the other; three can vote
    _, accuracy = nll_of_mean(three, fit_ensemble(three), [0, 1, 2])
    assert accuracy > three.accuracy.max() + 0.03


def test_weights_are_the_best_for_the_paths_that_were_sampled():
    four = table([*independent(3, 0.6), *independent(1, 0.8, seed=7)], LABELS)
    paths = sample_paths(four, np.random.default_rng(0))
    pools = Pools.drawn(four, np.ones((4, 1), np.float32), paths, np.arange(1500), 0)
    best = np.log(pools.best_weights(4))
    for step in np.random.default_rng(0).normal(size=(20, 4)) * 0.3:
        assert pools.loss(best)[0] < pools.loss(best + step - step.mean())[0]
    assert np.exp(best).max() == 1.0
    assert best[3] == 0.0


def test_slope_of_the_pooled_loss():
    rng = np.random.default_rng(0)
    paths = np.array([[0, 1, -1], [0, 2, 3], [1, 3, -1]])
    log_p = log_softmax(rng.normal(size=(3, 3, 7, 5)) * 2, axis=-1) * (paths >= 0)[..., None, None]
    pools = Pools(paths, log_p, rng.integers(0, 5, (3, 7)))
    at = rng.normal(size=4)
    slope = [(pools.loss(at + d)[0] - pools.loss(at - d)[0]) / 2e-5 for d in np.eye(4) * 1e-5]
    np.testing.assert_allclose(pools.loss(at)[1], slope, rtol=1e-6, atol=1e-9)


def test_the_pooled_loss_is_that_of_the_answer_given():
    three = table(independent(3, 0.7), LABELS)
    heat, weight = np.float32([[0.5], [2.0], [1.0]]), np.float32([[0.2], [1.0], [0.6]])
    pools = Pools.drawn(three, heat, np.array([[0, 1, 2]]), np.arange(100), 0)
    dealt = np.random.default_rng(0).permutation(100)
    mean = mean_log_probability(three.logits[:, dealt], {"temperature": heat, "ensemble": weight})
    assert pools.loss(np.log(weight[:, 0]))[0] == pytest.approx(nll(mean, LABELS[dealt], 1.0), rel=1e-4)


def test_sampled_paths_keep_the_order_and_one_head_per_cut():
    names = [("a", "x"), ("a", "y"), ("b", "x"), ("c", "x"), ("c", "y"), ("d", "x"), (OUTPUT, OWN)]
    exits = tuple(ExitId(network="n", cut=cut, head=head) for cut, head in names)
    bank = ExitTable(np.zeros((7, 4, 2), np.float32), np.zeros(4, np.int64), exits, "cal", "s")
    paths = [tuple(p[p >= 0].tolist()) for p in sample_paths(bank, np.random.default_rng(0))]
    assert len(set(paths)) == len(paths)
    assert {len(p) for p in paths} == {2, 3, 4}
    assert {row for p in paths for row in p} == set(range(7))
    for path in paths:
        assert list(path) == sorted(path)
        assert len({exits[row].cut for row in path}) == len(path)
        assert len(path) == 2 or path[:-1] in paths
    assert any(p[-1] != 6 for p in paths)
    one_cut = bank.select(exits[:2])
    assert not len(sample_paths(one_cut, np.random.default_rng(0)))
    assert (fit_ensemble(one_cut).parameters == 1.0).all()


def test_ensemble_weights_of_a_fold_do_not_see_it():
    four = table(independent(4, 0.7), LABELS)
    before = fit_ensemble(four, seed=3)
    hidden = before.fold == 1
    logits = four.logits.copy()
    logits[:, hidden] = logits[::-1, hidden] * 2
    after = fit_ensemble(table(logits, LABELS), seed=3)
    same = [np.array_equal(a, b) for a, b in zip(before.parameters, after.parameters, strict=True)]
    assert same == [False, False, True, False, False, False]
    assert np.array_equal(before.fold, fit_temperature(four, seed=3).fold)


def test_ensemble_uses_the_temperatures_of_its_fold():
    two = table(independent(2, 0.7), LABELS)
    fold = stratified_folds(LABELS, 5, 0)
    heat = np.ones((6, 2, 1), np.float32)
    heat[2, 0] = 3.0
    plain, warm = fit_ensemble(two), fit_ensemble(two, Fit("temperature", two.exits, heat, fold))
    same = [np.array_equal(a, b) for a, b in zip(plain.parameters, warm.parameters, strict=True)]
    assert same == [True, True, False, True, True, True]
    with pytest.raises(PolicyError, match="other folds"):
        fit_ensemble(two, Fit("temperature", two.exits, heat, fold), seed=1)


def test_refuses_nonsense():
    logits, labels = sample(n=10)
    with pytest.raises(PolicyError, match="test table"):
        fit_temperature(table([logits], labels, split="test"))
    with pytest.raises(InputError, match="at least 2"):
        fit_temperature(table([logits], labels), folds=1)
    with pytest.raises(PolicyError, match="test table"):
        fit_ensemble(table([logits], labels, split="test"))
