import json
from dataclasses import replace

import pytest

from eesearch.core.design import HeadSpec
from eesearch.exporters.learning import Learning, head_layers, write_costs
from eesearch.nets.heads import build_head
from eesearch.training.data import Calibration


def with_study(chosen, **fields):
    """The same point of another study."""
    study = chosen.config.study | fields
    return replace(chosen, config=chosen.config.model_copy(update={"study": study}))


class TestLearning:
    def test_a_joint_design_goes_on_as_it_was_trained(self, make_chosen):
        chosen = make_chosen("joint")
        learning = Learning.of(chosen)
        assert learning.spec == chosen.config.design.train
        assert learning.alphas == (0.3, 0.7, 1.0)
        assert learning.learns is None
        assert learning.seed == 3

    def test_separate_heads_go_on_alone_with_equal_weights(self, make_chosen):
        learning = Learning.of(make_chosen("separate"))
        assert learning.alphas == (1.0, 1.0, 1.0)
        assert learning.learns == (
            *(f"stages.0.head_{layer}" for layer in range(2)), *(f"stages.1.head_{layer}" for layer in range(6))
        )  # fmt: skip

    def test_where_no_head_is_deployed_everything_learns(self, make_chosen):
        chosen = make_chosen("separate")
        alone = replace(chosen, stages=(replace(chosen.stages[0], head=None),))
        assert head_layers(alone) == ()
        assert Learning.of(alone).learns is None

    def test_it_knows_the_heads_that_no_training_changes(self, make_chosen):
        chosen = make_chosen("separate")
        first, *rest = chosen.stages
        assert Learning.of(chosen).fitted == ()
        tree = build_head(HeadSpec(kind="tree", depth=1), first.head.cut_shape, 10).eval()
        fitted = replace(chosen, stages=(replace(first, head=tree), *rest))
        assert Learning.of(fitted).fitted == fitted.exits[:1]

    def test_without_a_design_the_backbone_s_training_goes_on(self, make_chosen):
        chosen = make_chosen()
        learning = Learning.of(replace(chosen, config=chosen.config.model_copy(update={"design": None})))
        assert learning.spec == chosen.config.question().training.backbone
        assert learning.learns is None

    @pytest.mark.parametrize(
        ("given", "weights", "expected"),
        [
            ({"from": "test", "share": 0.3}, None, Calibration(origin="test", share=0.3)),
            (None, None, Calibration()),
            (None, "weights.pt", Calibration(origin="test", share=0.5)),
        ],
    )
    def test_calibration_samples_are_taken_as_the_study_took_them(self, make_chosen, given, weights, expected):
        chosen = make_chosen()
        backbone = chosen.config.study["backbones"][0] | {"weights": weights}
        data = {"source": "some.npz", "calibration": given}
        learning = Learning.of(with_study(chosen, backbones=[backbone], data=data))
        assert learning.calibration == expected
        assert learning.source == "some.npz"


class TestCosts:
    def test_steps_add_up_to_what_a_sample_has_paid_at_each_stop(self, make_chosen, tmp_path):
        write_costs(make_chosen(asks=True), tmp_path)
        costs = json.loads((tmp_path / "costs.json").read_text())
        assert costs["axis"] == "macs"
        assert costs["step"] == [
            [100.0, 200.0, 300.0, 400.0],
            [None, 100.0, 200.0, 300.0],
            [None, None, 100.0, 200.0],
            [None, None, None, 100.0],
            [None, None, None, None],
        ]

    def test_a_point_of_an_old_run_has_none(self, make_chosen, tmp_path):
        chosen = make_chosen()
        write_costs(replace(chosen, config=chosen.config.model_copy(update={"stops": ()})), tmp_path)
        assert not list(tmp_path.iterdir())
