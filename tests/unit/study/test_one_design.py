"""`mode: design` trains what the study says, and nothing else."""

import pytest

from eesearch.core.errors import CostError, StudyError
from eesearch.study.one_design import OneDesign
from tests.unit.study.conftest import FIELDS

TRAIN = {"epochs": 2, "batch_size": 32, "lr": 0.01}


@pytest.fixture
def one(made):
    """Makes the problem of one design with an exit at the first cut."""

    def make(strategy="mixed", name="one", head=None, **fields):
        cut = made("other").cuts[0]
        exits = [{"cut": cut, "head": head or {"kind": "linear"}, "alpha": 0.3}]
        design = {"strategy": strategy, "exits": exits, "train": TRAIN} | fields
        return made(name, kind=OneDesign, mode="design", design=design)

    return make


def test_its_trial_trains_the_design_with_its_loss(one):
    problem = one(loss={"ramp": "linear", "distill": 0.8}, strategy="distill")
    outcome = problem.first()
    assert (outcome.design.loss.ramp, outcome.design.loss.distill) == ("linear", 0.8)
    assert outcome.design.exits[0].alpha == 0.3
    assert outcome.samples == 2 * 2 * 120, "the teacher looks, too"
    assert problem.workshop.network(outcome.design).network != outcome.design.backbone


def test_the_loss_decides_what_comes_out(one):
    keys = {one(loss={"ramp": ramp}).first().design.key for ramp in ("constant", "linear")}
    assert len(keys) == 2


def test_exits_are_weighed_by_their_costs_where_the_loss_asks(one):
    design = one(loss={"ramp": "sdn"}).first().design
    assert 0.0 < design.exits[0].alpha < 1.0
    assert design.exits[0].alpha != 0.3


def test_a_cut_may_carry_two_heads_unless_losses_ask_what_exits_cost(one, made):
    cut = made("other").cuts[0]
    exits = [{"cut": cut, "head": {"kind": kind, "hidden": [4] if kind == "mlp" else []}} for kind in ("linear", "mlp")]
    heads = [e["head"] for e in exits]
    fields = {"strategy": "mixed", "exits": exits, "train": TRAIN}
    space = FIELDS["space"] | {"heads": heads}
    assert made("two", kind=OneDesign, mode="design", design=fields, space=space).first().last_accuracy > 0.0
    with pytest.raises(CostError, match="cannot meet these exits in this order"):
        made("dear", kind=OneDesign, mode="design", design=fields | {"loss": {"ramp": "sdn"}}, space=space).first()


def test_it_starts_from_random_heads_on_the_studys_backbone(one):
    problem = one()
    design = problem.first().design
    assert (design.start, design.backbone, design.before) == ("", problem.materials.backbone.key, None)


def test_an_exit_that_the_space_does_not_offer_is_refused(one):
    with pytest.raises(StudyError, match="that the space does not offer there"):
        one(head={"kind": "linear", "pool": "mixed", "size": 2})
