"""A way of scoring comes with the fits that it takes, each made once."""

import numpy as np
import pytest
import torch
from torch import nn

from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.errors import PolicyError
from eesearch.core.tables import ExitTable
from eesearch.exits.learned import FITTED
from eesearch.exits.routing import path_outputs
from eesearch.training.scoring import MAKERS, fitted_scoring, learnt_fit

EXITS = (ExitId(network="n", cut="a", head="x"), ExitId(network="n", cut=OUTPUT, head=OWN))


class Learnt:
    """What a network with exits tells of itself."""

    def __init__(self, **learnt):
        self.exits = EXITS
        self.learnt = nn.ParameterDict({kind: torch.tensor(values) for kind, values in learnt.items()})


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    logits = (np.eye(3)[labels] + rng.normal(size=(2, 60, 3))).astype(np.float32)
    return ExitTable(logits, labels, EXITS, "cal", "s")


def never():
    raise AssertionError("nothing was asked of this")


@pytest.mark.parametrize(
    ("decision", "kinds"),
    [
        (("margin", "own"), ["temperature"]),
        (("margin", "average"), ["temperature"]),
        (("margin", "mean"), ["temperature", "ensemble"]),
        (("learned", "own"), ["temperature", "learned"]),
        (("learned", "most_confident"), ["temperature", "learned"]),
        (("learned_path", "own"), ["temperature", "learned_path"]),
    ],
)
def test_fits_are_those_that_criterion_and_answer_need(table, decision, kinds):
    asked = []

    def keep(kind, make):
        asked.append(kind)
        return make()

    scoring = fitted_scoring(decision, lambda: table, never, seed=0, keep=keep)
    assert [fit.kind for fit in scoring.fits] == asked == kinds
    scores, _ = path_outputs(table, [0, 1], scoring)
    assert np.isfinite(scores).all()


def test_what_is_kept_needs_no_table(table):
    made = fitted_scoring(("learned", "own"), lambda: table, never, seed=0)
    kept = {fit.kind: fit for fit in made.fits}
    again = fitted_scoring(("learned", "own"), never, never, seed=0, keep=lambda kind, _: kept[kind])
    assert again.keys == made.keys


def test_weights_of_the_combination_come_from_the_network_and_know_no_folds(table):
    net = Learnt(combination=[[1.0], [3.0]])
    scoring = fitted_scoring(("max_prob", "combined"), lambda: table, lambda: net, seed=0)
    fit = scoring.fits[1]
    assert (fit.kind, fit.exits, fit.parameters.tolist(), len(fit.fold)) == (
        "combination",
        EXITS,
        [[[1.0], [3.0]]],
        0,
    )
    assert len(scoring.fold) == 60
    scores, correct = path_outputs(table, [0, 1], scoring)  # on calibration, beside temperatures with folds
    mixed = (table.logits[0] + 3 * table.logits[1]) / 4
    p = np.exp(mixed) / np.exp(mixed).sum(-1, keepdims=True)
    np.testing.assert_allclose(scores[1], p.max(-1), rtol=1e-5)
    np.testing.assert_array_equal(correct[1], p.argmax(-1) == table.labels)


def test_a_network_that_learnt_no_combination_has_none(table):
    with pytest.raises(PolicyError, match=r"nothing makes a fit of kind 'combination'.*expected one of ensemble"):
        fitted_scoring(("max_prob", "combined"), lambda: table, Learnt, seed=0)
    assert learnt_fit(Learnt(other=[[1.0], [2.0]]), "other").kind == "other"


def test_every_fit_that_tables_give_can_be_made():
    assert set(MAKERS) == set(FITTED)
