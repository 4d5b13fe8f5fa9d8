"""What a search of `mode: bank` tries first, and where its designs start."""

import numpy as np
import pytest

from eesearch.core.errors import DataError
from eesearch.study.drafts import draft_rows
from eesearch.study.trial import BANK
from tests.unit.study.conftest import FIELDS, TRAINED, proposal

SEVERAL = FIELDS["space"] | {
    "heads": [{"kind": "linear", "gate": "linear"}],
    "strategies": ["separate", "mixed", "gated", "layerwise"],
    "loss": {"cost_weight": {"low": 0.1, "high": 10.0}},
}


def placement(params):
    return {name: value for name, value in params.items() if name.startswith("exit:")}


class TestSeeds:
    def test_the_best_placement_is_trained_by_every_strategy_and_others_by_the_first(self, made):
        problem = made(space=SEVERAL)
        seeds = problem.seeds()
        placed = [seed for seed, _ in problem.replayed_seeds]
        assert len(placed) > 1
        strategies = [params["strategy"] for _, params in seeds]
        assert strategies == ["mixed", "gated", "layerwise", *["mixed"] * (len(seeds) - 3)]
        origins = [origin for origin, _ in seeds]
        assert origins[:3] == [placed[0].rule, f"{placed[0].rule}, gated", f"{placed[0].rule}, layerwise"]
        first, *compared = (placement(params) for _, params in seeds[:3])
        assert compared == [first, first]
        assert all(placement(params) != first for _, params in seeds[3:])

    def test_they_set_every_parameter_and_nothing_else(self, made):
        problem = made(space=SEVERAL)
        names = [parameter.name for parameter in problem.parameters]
        assert "loss:cost_weight" in names
        for _, params in problem.seeds():
            assert params.keys() == set(names)
            assert params["loss:cost_weight"] == pytest.approx(1.0)

    def test_one_strategy_trains_each_placement_once(self, made):
        strategies = [params["strategy"] for _, params in made().seeds()]
        assert set(strategies) == {"mixed"}

    def test_a_space_that_trains_nothing_has_none(self, made):
        assert made(space=FIELDS["space"] | {"strategies": ["separate"]}).seeds() == []


class TestWarmStarts:
    def start(self, problem, **fields):
        exits = [{"cut": problem.cuts[0], "head": {"kind": "linear"}, "alpha": 0.2}]
        return {"name": "earlier", "strategy": "mixed", "exits": exits} | fields

    def test_they_come_first_with_their_losses_as_near_as_the_space_allows(self, made):
        space = FIELDS["space"] | {"strategies": ["mixed", "distill"], "loss": {"distill": {"low": 0.3, "high": 0.6}}}
        loss = {"distill": 0.9, "temperature": 5.0}
        given = self.start(made(), strategy="distill", loss=loss)
        (origin, params), *_ = made("warm", space=space, warm_start=[given]).seeds()
        assert (origin, params["strategy"]) == ("warm start earlier", "distill")
        assert (params["loss:distill"], params["loss:temperature"]) == (0.6, 5.0)

    def test_a_strategy_that_the_space_lacks_becomes_its_first(self, made):
        given = self.start(made(), strategy="freezeout")
        (_, params), *_ = made("warm", warm_start=[given]).seeds()
        assert params["strategy"] == "mixed"


class TestStart:
    @pytest.mark.parametrize("start", ["bank", "backbone"])
    def test_designs_start_from_the_trained_backbone_with_the_banks_heads_or_random_ones(self, made, start):
        problem = made(training=FIELDS["training"] | {"start": start})
        design = problem.proposed(proposal(problem))
        bank = problem.workshop.bank_design
        assert design.start == (bank.key if start == "bank" else "")
        assert (design.backbone, design.before) == (bank.backbone, None)

    def test_or_from_scratch_where_mixed_trains_the_backbone_first(self, made):
        model = {"model": "eesearch.nets.zoo:mlp", "args": {"features": 6, "hidden": [8, 8, 8], "classes": 3}}
        training = FIELDS["training"] | {"start": "scratch", "epochs": 2, "batch_size": 32}
        problem = made(backbone=model, training=training, seed=1)
        design = problem.proposed(proposal(problem, strategy="mixed"))
        assert design.start == ""
        assert design.backbone == problem.materials.fresh.key != problem.workshop.bank_design.backbone
        assert design.before == problem.study.training.backbone
        assert design.before.epochs == 2
        assert problem.run(proposal(problem, strategy="mixed")).samples == (2 + 3) * TRAINED

    def test_proposals_of_losses_reach_the_design(self, made):
        problem = made(space=SEVERAL)
        design = problem.proposed(proposal(problem, strategy="gated", **{"loss:cost_weight": 0.7}))
        assert design.loss.cost_weight == 0.7

    def test_trial_0_is_the_bank(self, made):
        problem = made()
        assert problem.origin == BANK
        assert problem.first().design == problem.workshop.bank_design
        assert problem.draft() is None

    def test_a_draft_has_the_same_heads_learnt_from_fewer_samples_and_no_gates(self, made):
        problem = made(training=FIELDS["training"] | {"draft": 0.25}, space=FIELDS["space"] | {"gates": True})
        draft, bank, (profile,) = problem.draft(), problem.first(), problem.materials.profiles
        assert (draft.samples, bank.samples) == (TRAINED / 4, TRAINED)
        assert draft.design.model_copy(update={"data": bank.design.data}) == bank.design
        learnt = problem.workshop.learned_from(draft.design)
        assert np.unique(learnt.y, return_counts=True)[1].tolist() == [TRAINED // 12] * 3, "stratified"
        ways = [{point.policy.criterion for point in problem.solved(o.design, profile).points} for o in (draft, bank)]
        assert "gate" not in ways[0]
        assert problem.solved(draft.design, profile).gates == {}
        assert problem.solved(bank.design, profile).gates
        tables = [problem.workshop.table(o.design, "cal") for o in (draft, bank)]
        assert (tables[0].logits[-1] == tables[1].logits[-1]).all(), "the network is the same"
        assert not np.allclose(tables[0].logits[0], tables[1].logits[0])

    def test_a_draft_is_refused_that_has_too_few_samples_for_its_classes(self, made):
        with pytest.raises(DataError, match=r"draft share.*training\.draft"):
            made(training=FIELDS["training"] | {"draft": 0.01})
        study = made(training=FIELDS["training"] | {"draft": 0.1}).study
        with pytest.raises(DataError, match=r"lacks classes.*no sample of class 2.*training\.draft"):
            draft_rows(study, np.repeat([0, 1, 2], [500, 500, 2]))


class TestWeighing:
    """Losses that ask what exits cost are told, in MACs of the backbone."""

    def costs(self, problem, design):
        table = problem.workshop.table(problem.workshop.bank_design, "cal")
        profile = problem.materials.profiles[0]
        step = problem.priced(table, profile, "max_prob")[1][0]
        wanted = {(e.cut, e.head.name) for e in design.exits}
        ids = [e for e in table.exits if e.is_output or (e.cut, e.head) in wanted]
        return step.cumulative(ids) / profile.macs_prefix[-1]

    def test_gates_learn_what_leaving_costs_heads_on_the_way_included(self, made):
        problem = made(space=SEVERAL)
        design = problem.proposed(proposal(problem, strategy="gated"))
        assert len(design.loss.costs) == len(design.exits) + 1
        assert design.loss.costs == pytest.approx(self.costs(problem, design))
        assert list(design.loss.costs) == sorted(design.loss.costs)
        assert design.loss.costs[-1] > 1.0, "the backbone, and the heads before its end"

    def test_sdns_weights_rise_to_the_relative_costs_whatever_was_proposed(self, made):
        problem = made(space=FIELDS["space"] | {"loss": {"ramp": ["constant", "sdn"]}})
        plain, sdn = (problem.proposed(proposal(problem, **{"loss:ramp": ramp})) for ramp in ("constant", "sdn"))
        assert {e.alpha for e in plain.exits} == {1.0}
        assert [e.alpha for e in sdn.exits] == pytest.approx(self.costs(problem, sdn)[:-1])
        other = problem.proposed(proposal(problem, **{"loss:ramp": "sdn", f"alpha:{problem.cuts[0]}": 0.3}))
        assert other.key == sdn.key != plain.key

    def test_others_are_told_nothing(self, made):
        problem = made(space=SEVERAL)
        for strategy in ("mixed", "layerwise"):
            assert problem.proposed(proposal(problem, strategy=strategy)).loss.costs == ()


def test_what_a_trial_took_is_told(made):
    problem = made(space=SEVERAL)
    segments = len(problem.materials.backbone.segments)
    trained = problem.run(proposal(problem, strategy="mixed"))
    assert trained.forward == trained.backward == segments * trained.samples
    gated = problem.run(proposal(problem, strategy="gated"))
    assert set(gated.notes) == {"soft accuracy", "soft cost", "hard accuracy", "hard cost"}
    assert trained.notes == {}
