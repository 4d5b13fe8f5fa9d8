"""Training in a study file: strategies, losses, and where designs start."""

import pytest
from pydantic import ValidationError

from eesearch.core.design import LossSpec, TrainSpec
from eesearch.study.question import Study
from tests.unit.study.conftest import FIELDS

DESIGN = {
    "strategy": "mixed",
    "exits": [{"cut": "a", "head": {}}],
    "train": {"epochs": 1},
}


def study(**fields):
    return Study.model_validate(FIELDS | fields)


def test_by_default_designs_are_trained_as_a_whole_from_the_banks_heads():
    made = study()
    assert made.space.strategies == ("separate", "mixed")
    assert made.training.start == "bank"
    assert made.space.loss.spec({}).ramp == "constant"


@pytest.mark.parametrize("start", ["bank", "backbone"])
def test_joint_and_mixed_differ_only_where_the_backbone_is_untrained(start):
    both = FIELDS["space"] | {"strategies": ["separate", "joint", "mixed"]}
    with pytest.raises(ValidationError, match="joint and mixed are the same where the backbone is trained"):
        study(space=both, training={"start": start})
    assert study(space=both, training={"start": "scratch"}).space.trained == ("joint", "mixed")


def test_a_seed_is_what_every_library_takes():
    assert study(seed=2**32 - 1).seed == 2**32 - 1
    with pytest.raises(ValidationError, match="less than 4294967296"):
        study(seed=20261130200848)


def test_where_designs_start_is_one_of_three():
    with pytest.raises(ValidationError, match=r"training\.start|'bank', 'backbone' or 'scratch'"):
        study(training={"start": "nowhere"})


def test_only_a_search_of_designs_chooses_where_they_start():
    with pytest.raises(ValidationError, match="start needs mode bank; got mode joint-trials"):
        study(mode="joint-trials", training={"start": "scratch"})


def test_distillation_needs_a_trained_backbone():
    space = FIELDS["space"] | {"strategies": ["separate", "distill"]}
    with pytest.raises(ValidationError, match=r"no trained backbone to learn from: write teacher: \[final\]"):
        study(space=space, training={"start": "scratch"})
    final = space | {"loss": {"teacher": ["final"]}}
    assert study(space=final, training={"start": "scratch"}).space.trained == ("distill",)
    with pytest.raises(ValidationError, match="no teacher where the backbone is random"):
        study(mode="design", design=DESIGN | {"strategy": "distill", "scratch": True})


def test_decisions_of_one_design_are_measured_though_the_space_has_no_such_strategy():
    made = study(mode="design", design=DESIGN | {"strategy": "combined", "loss": {"combine": "average"}})
    assert "max_prob/average" in made.decisions
    assert "max_prob/average" not in made.space.decisions
    assert study().decisions == study().space.decisions


def test_ray_gives_a_trial_the_gpu_that_it_trains_on():
    with pytest.raises(ValidationError, match="Ray shows a trial no GPU"):
        study(driver="ray", resources={"accelerator": "cuda"})
    assert study(driver="ray", resources={"accelerator": "cuda", "gpus": 0.5}).resources.gpus == 0.5


def test_the_backbones_own_section_has_neither_start_nor_other_sections():
    made = study(training={"epochs": 7, "start": "scratch", "joint": {"epochs": 1}})
    assert made.training.backbone == TrainSpec(epochs=7)


def test_one_design_may_have_a_loss():
    made = study(mode="design", design=DESIGN | {"loss": {"ramp": "sdn", "freeze": "linear"}})
    assert made.design.loss == LossSpec(ramp="sdn", freeze="linear")
    assert study(mode="design", design=DESIGN).design.loss == LossSpec()


def test_separate_cannot_start_from_random_weights():
    with pytest.raises(ValidationError, match="keeps the backbone as it is"):
        study(mode="design", design=DESIGN | {"strategy": "separate", "scratch": True})


def test_warm_starts_need_a_strategy_that_trains():
    start = {"name": "x", "strategy": "joint", "exits": [{"cut": "a", "head": {}}]}
    assert study(warm_start=[start]).warm_start[0].loss == LossSpec()
    with pytest.raises(ValidationError, match="a strategy that trains designs"):
        study(warm_start=[start], space=FIELDS["space"] | {"strategies": ["separate"]})


def test_joint_trials_draw_thresholds_of_criteria_of_one_exit():
    combined = FIELDS["space"] | {"strategies": ["combined"]}
    with pytest.raises(ValidationError, match="criteria of one exit only"):
        study(mode="joint-trials", space=combined)
    assert study(mode="joint-trials", space=FIELDS["space"] | {"strategies": ["layerwise"]})


def test_a_draft_is_a_share_in_mode_bank():
    assert study(training={"draft": 0.1}).training.draft == 0.1
    assert "draft" not in study().training.model_dump(), "what was kept before there were drafts stays valid"
    for share in (0.0, 1.0):
        with pytest.raises(ValidationError, match=r"training\.draft"):
            study(training={"draft": share})
    with pytest.raises(ValidationError, match=r"training\.draft needs mode bank and one network"):
        study(mode="joint-trials", training={"draft": 0.1})
    assert study(training={"draft": 0.1}, budget={"trials": 1}).trials == 2
