from eesearch.core.front import CostSummary
from eesearch.reporting.hovers import design_facts, made_words, oracle_hover, point_hover


def test_hover_shows_the_whole_configuration(answers):
    device = answers.devices[1]
    lines = point_hover(device, device.points[2], "Point 2").split("<br>")
    assert lines == [
        "<b>Point 2</b>",
        "joint, criterion max_prob, design 9d1e5a7b03c2f418",
        "32.0% leave at layer1.4, linear-avg1 (max_prob ≥ 0.9514)",
        "41.0% leave at layer2.3, linear-avg1 (max_prob ≥ 0.9122)",
        "27.0% leave at output, own classifier (always)",
        "accuracy 91.68% on test (drop +1.78 points)",
        "accuracy 91.96% on calibration",
        "68.77 M MACs on average, 0.55 x backbone (p95 110.0, worst 128.0)",
        "3.68 ms on average, 0.55 x backbone (p95 5.88, worst 6.84)",
    ]


def test_hover_tells_what_was_promised_of_a_chosen_point_and_the_interval_of_what_came(promised):
    device = promised.devices[1]
    lines = point_hover(device, device.points[3], "Point 3", chosen=True).split("<br>")
    assert lines[4:6] == [
        "accuracy 93.40% on test (drop +0.06 points, 95 % -0.50 to +0.62)",
        "accuracy 93.74% on calibration (drop -0.02 points, +0.31 promised)",
    ]
    assert "promised" not in point_hover(device, device.points[3], "Somebody else's")


def test_hover_tells_parameters_as_what_is_deployed_and_the_answer_if_it_is_not_the_exit_s_own(answers):
    device = answers.devices[0]
    deployed = {"params": CostSummary(mean=1e6, p95=2e6, worst=3.25e6)}
    point, backbone = (
        p.model_copy(update={"test": p.test.model_copy(update={"costs": p.test.costs | deployed})})
        for p in (device.points[2], device.backbone)
    )
    policy = point.test.policy.model_copy(update={"answer": "mean"})
    point = point.model_copy(update={"test": point.test.model_copy(update={"policy": policy})})
    lines = point_hover(device.model_copy(update={"backbone": backbone}), point, "Point 2").split("<br>")
    assert lines[-1] == "3.250 M parameters deployed"
    assert lines[1] == "joint, criterion max_prob/mean, design 9d1e5a7b03c2f418"


def test_an_oracle_tells_where_samples_leave_and_is_escaped(answers, hostile):
    device = answers.devices[1]
    assert oracle_hover(device, device.oracle[1]).split("<br>") == [
        "<b>Stable oracle: an ideal, computed on test</b>",
        "70.0% leave at layer1.4, linear-avg1",
        "30.0% leave at output, own classifier",
        "accuracy 93.46% on test",
        "3.02 ms on average, 0.45 x backbone",
    ]
    evil = hostile.devices[0]
    assert "<img" not in oracle_hover(evil, evil.oracle[0])


def test_the_backbone_has_no_design(answers):
    assert made_words(answers.devices[0].backbone.test) == "backbone, criterion max_prob"


def test_a_design_tells_its_last_exit_and_what_its_strategy_notes(compared, answers):
    device = compared.devices[0]
    lines = point_hover(device, device.points[2], "Point 2").split("<br>")
    assert lines[-2:] == [
        "own classifier: 92.82% on calibration, 0.90 points below the backbone",
        "soft-hard gap: -0.30 points, +0.031 x backbone: as trained, with soft gates, 93.10% at 0.520 x; with hard "
        "ones 92.80% at 0.551 x",
    ]  # fmt: skip
    assert design_facts(device, device.backbone.test.design) == []
    assert design_facts(answers.devices[0], "9d1e5a7b03c2f418") == []


def test_what_a_strategy_notes_is_escaped(compared):
    device = compared.devices[0]
    evil = {key: facts.model_copy(update={"notes": {"<img>": 1.0}}) for key, facts in device.designs.items()}
    assert "<img>" not in point_hover(device.model_copy(update={"designs": evil}), device.points[0], "Point 0")
