"""Learned criteria are fitted on calibration tables, fold by fold."""

import numpy as np
import pytest

from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.errors import InputError, PolicyError
from eesearch.core.policy import Fit, Scoring
from eesearch.core.tables import ExitTable
from eesearch.exits.criteria import probabilities
from eesearch.exits.gates import features
from eesearch.exits.learned import sigmoid
from eesearch.exits.routing import stop_output
from eesearch.training import gates
from eesearch.training.fits import fit_temperature, stratified_folds
from eesearch.training.gates import fit_learned, fit_learned_path, logistic_row, path_cases

N, CLASSES = 600, 3
LABELS = np.random.default_rng(1).integers(0, CLASSES, N)


def opinion(right, seed):
    """Logits of an exit that says the label where it is right, and is a little surer there. [N, C]"""
    rng = np.random.default_rng(seed)
    said = np.where(right, LABELS, (LABELS + rng.integers(1, CLASSES, N)) % CLASSES)
    sure = rng.exponential(1.0, N) + 0.5 * right
    return (np.eye(CLASSES)[said] * sure[:, None] + rng.normal(size=(N, CLASSES)) * 0.1).astype(np.float32)


@pytest.fixture(scope="module")
def table():
    """Three exits that err independently."""
    logits = np.stack([opinion(np.random.default_rng(s).random(N) < 0.7, s) for s in (2, 3, 4)])
    exits = tuple(ExitId(network="n", cut=c, head=h) for c, h in (("a", "x"), ("b", "x"), (OUTPUT, OWN)))
    return ExitTable(logits, LABELS, exits, "cal", "s")


def log_loss(score, right):
    return -float(np.log(np.where(right, score, 1.0 - score)).mean())


def test_a_row_is_the_logistic_regression_it_was_fitted_from():
    seen = np.random.default_rng(0).random((4000, 2)).astype(np.float32)
    right = np.random.default_rng(1).random(4000) < sigmoid(-1.0 + seen @ [3.0, -2.0])
    np.testing.assert_allclose(logistic_row(seen, right), [-1.0, 3.0, -2.0], atol=0.25)


def test_a_feature_that_never_changes_is_not_blown_up():
    seen = np.random.default_rng(0).random((400, 2)).astype(np.float32)
    seen[:, 1] = 1.0
    row = logistic_row(seen, seen[:, 0] > 0.5)
    assert np.isfinite(row).all()
    assert row[2] == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize(("value", "rate"), [(True, 5 / 6), (False, 1 / 6)])
def test_an_exit_that_is_always_right_or_wrong_has_a_smoothed_rate(value, rate):
    row = logistic_row(np.ones((4, 2), np.float32), np.full(4, value))
    assert sigmoid(row[:1])[0] == pytest.approx(rate)
    assert row[1:].tolist() == [0.0, 0.0]


def test_without_samples_nothing_is_known():
    assert logistic_row(np.ones((0, 2), np.float32), np.ones(0, bool)).tolist() == [0.0, 0.0, 0.0]


def test_learned_is_fitted_per_exit_on_its_tempered_features(table):
    temperature = fit_temperature(table)
    fit = fit_learned(table, temperature)
    assert (fit.kind, fit.parameters.shape, fit.parameters.dtype) == ("learned", (6, 3, 7), np.float32)
    assert np.array_equal(fit.fold, temperature.fold)
    rest = fit.fold != 2
    seen = features(probabilities(table.logits[1][rest], temperature.parameters[3, 1]))
    np.testing.assert_allclose(fit.parameters[3, 1], logistic_row(seen, table.correct[1][rest]), rtol=1e-5)


def test_learned_tells_right_from_wrong_better_than_the_rate(table):
    temperature = fit_temperature(table)
    scoring = Scoring("learned", fits=(temperature, fit_learned(table, temperature)))
    score, right = stop_output(table, [0], scoring)
    assert ((score > 0.0) & (score < 1.0)).all()
    assert log_loss(score, right) < log_loss(np.full(N, right.mean()), right) - 0.02


def test_earlier_exits_that_agree_make_learned_path_surer(table):
    temperature = fit_temperature(table)
    alone, path = fit_learned(table, temperature), fit_learned_path(table, temperature)
    assert path.parameters.shape == (6, 3, 13)
    last, right = stop_output(table, [0, 1, 2], Scoring("learned_path", fits=(temperature, path)))
    own, _ = stop_output(table, [0, 1, 2], Scoring("learned", fits=(temperature, alone)))
    assert log_loss(last, right) < log_loss(own, right) - 0.05
    said = table.logits.argmax(-1)
    agree = (said[0] == said[2]) & (said[1] == said[2])
    assert last[agree].mean() > last[~agree].mean() + 0.2
    first, right = stop_output(table, [0], Scoring("learned_path", fits=(temperature, path)))
    own, _ = stop_output(table, [0], Scoring("learned", fits=(temperature, alone)))
    assert log_loss(first, right) == pytest.approx(log_loss(own, right), abs=0.02)


def test_every_sample_is_shown_once_for_every_length_of_path(table, monkeypatch):
    for most in (gates.SHOWN, 900):
        monkeypatch.setattr(gates, "SHOWN", most)
        cases = path_cases(table, np.random.default_rng(0))
        assert [{len(rows) for rows, _ in of_exit} for of_exit in cases] == [{1}, {1, 2}, {1, 2, 3}]
        for e, of_exit in enumerate(cases):
            assert all(rows[-1] == e for rows, _ in of_exit)
            for length in range(1, e + 2):
                dealt = np.concatenate([samples for rows, samples in of_exit if len(rows) == length])
                assert len(np.unique(dealt)) == len(dealt) == min(N, most // (e + 1))


@pytest.mark.parametrize("make", [fit_learned, fit_learned_path])
def test_gates_of_a_fold_do_not_see_it(table, make):
    before = make(table, seed=3)
    hidden = before.fold == 1
    logits = table.logits.copy()
    logits[:, hidden] = logits[::-1, hidden] * 2
    after = make(ExitTable(logits, LABELS, table.exits, "cal", "s"), seed=3)
    same = [np.array_equal(a, b) for a, b in zip(before.parameters, after.parameters, strict=True)]
    assert same == [False, False, True, False, False, False]


@pytest.mark.parametrize("make", [fit_learned, fit_learned_path])
def test_refuses_nonsense(table, make):
    with pytest.raises(PolicyError, match="test table"):
        make(ExitTable(table.logits, LABELS, table.exits, "test", "s"))
    with pytest.raises(InputError, match="at least 2"):
        make(table, folds=1)
    heat = Fit("temperature", table.exits, np.ones((6, 3, 1), np.float32), stratified_folds(LABELS, 5, 0))
    with pytest.raises(PolicyError, match="other folds"):
        make(table, heat, seed=1)
