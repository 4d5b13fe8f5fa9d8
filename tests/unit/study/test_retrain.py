from math import inf

import pytest

from eesearch.core.design import Design, ExitId, ExitSpec, HeadSpec, LossSpec, TrainSpec
from eesearch.core.errors import InputError, RunError, StudyError
from eesearch.core.front import CostSummary, Evaluation
from eesearch.core.policy import Policy, Stop
from eesearch.study.answers import Answers, DeviceAnswer
from eesearch.study.config import Expected, ExportedConfig
from eesearch.study.points import Point
from eesearch.study.retrain import (
    Retraining,
    active_exits,
    comparison,
    replacement,
    retraining,
    warm_start,
    warm_starts,
    warmed,
)
from eesearch.study.rundir import RunDir
from eesearch.study.space import MOST_EXITS

AVG, MIXED, MLP = HeadSpec(), HeadSpec(pool="mixed", size=2), HeadSpec(kind="mlp", hidden=(8,))


def evaluation(exits, accuracy, macs):
    stops = [Stop(exit=ExitId(network="n", cut=cut, head=head), threshold=0.5) for cut, head in exits]
    stops.append(Stop(exit=ExitId(network="n", cut="output", head="own"), threshold=-inf))
    rates = (1.0, *[0.0] * (len(stops) - 1))
    costs = {"macs": CostSummary(mean=macs, p95=macs, worst=macs)}
    return Evaluation(
        policy=Policy(stops=tuple(stops), criterion="max_prob"), accuracy=accuracy, samples=100, exit_rate=rates,
        costs=costs,
    )  # fmt: skip


@pytest.fixture
def config():
    """Three exits were trained, two are stops; on the vector cut two heads of the space are the same."""
    exits = (
        ExitSpec(cut="map", head=MIXED, alpha=0.3),
        ExitSpec(cut="map", head=MLP),
        ExitSpec(cut="vector", head=AVG),
    )
    said = evaluation([("map", MIXED.name), ("vector", AVG.name)], 0.9, 50.0)
    made = ExportedConfig(
        study={
            "name": "toy",
            "backbones": [
                {"model": "eesearch.nets.zoo:mlp", "args": {"features": 64}, "weights": "/there/w.safetensors"}
            ],
            "data": {"source": "eesearch.training.data:digits"},
            "space": {"heads": [h.model_dump(mode="json") for h in (AVG, MIXED, MLP)]},
            "budget": {"trials": 30, "timeout": "5m"},
        },
        design=Design(backbone="b", data="d", strategy="joint", exits=exits, train=TrainSpec(epochs=3, lr=0.5)),
        policy=said.policy,
        fits={},
        device="macs",
        axis="macs",
        expected=Expected(cal=said, test=said),
        pruned=(f"map:{MLP.name}",),
    )
    return made.model_copy(update={"key": made.content})


def test_the_study_has_the_stops_and_nothing_else(config):
    study = retraining(config)
    assert [(e.cut, e.head, e.alpha) for e in study.design.exits] == [("map", MIXED, 0.3), ("vector", AVG, 1.0)]
    assert study.space.cuts.candidates == ("map", "vector")
    assert study.space.max_exits == 2
    assert (study.mode, study.budget.trials, study.budget.timeout) == ("design", 1, None)


def test_heads_stand_in_the_order_of_the_space(config):
    """On a vector the first of those that differ in pooling alone stands for all: it must be the same one again."""
    assert [h.name for h in retraining(config).space.heads] == [AVG.name, MIXED.name]


def test_a_backbone_that_came_with_weights_is_kept_and_fine_tuned(config):
    design = retraining(config).design
    assert not design.scratch
    assert (design.train.epochs, design.train.lr) == (3, 0.5)


LOSS = LossSpec(ramp="cosine", distill=0.7, temperature=2.0, teacher="final")


def test_the_loss_survives(config):
    """Costs do not: they are those of exits that may not all be there any more."""
    loss = LOSS.model_copy(update={"costs": (0.2, 0.4, 0.6, 1.0)})
    changed = config.design.model_copy(update={"strategy": "distill", "loss": loss})
    config = config.model_copy(update={"design": changed})
    again = ExportedConfig.model_validate_json(config.model_dump_json())
    assert again.design.loss == loss
    design = retraining(again).design
    assert (design.strategy, design.loss) == ("distill", LOSS)
    start = warm_start(again)
    assert start.loss.model_copy(update={"costs": ()}) == LOSS


def test_from_scratch_the_studys_own_training_section_is_used(config):
    study = retraining(config, Retraining(scratch=True, epochs=77, overrides=["training.lr=0.25"]))
    assert study.design.scratch
    assert study.design.train.epochs == 77
    assert study.name == f"toy-{config.key[:8]}-77-epochs"


@pytest.mark.parametrize(
    "searched", [{"training": {"draft": 0.1, "start": "backbone"}}, {"pruning": "asha"}, {"guide": "gain"}]
)
def test_how_the_search_went_about_it_is_not_asked_for_again(config, searched):
    study = retraining(config.model_copy(update={"study": config.study | searched}))
    assert (study.mode, study.training.draft, study.training.start) == ("design", None, "bank")


def test_other_data_take_the_place_of_the_configurations(config, tmp_path):
    study = retraining(config, Retraining(data="other.npz"))
    assert study.data.source.endswith("/other.npz")
    assert study.data.args == {}


def test_code_that_the_user_never_named_is_refused(config):
    study = config.study | {"backbones": [{"model": "elsewhere:build"}]}
    foreign = config.model_copy(update={"study": study})
    with pytest.raises(InputError, match="elsewhere:build"):
        retraining(foreign)
    assert retraining(foreign, Retraining(trust=True)).backbone.model == "elsewhere:build"


def test_a_warm_start_is_the_placement(config):
    start = warm_start(config)
    assert (start.name, start.strategy, start.exits) == (config.key[:8], "joint", active_exits(config))


def test_a_placement_without_exits_is_no_warm_start(config):
    """A design that was trained as a whole may answer by its own classifier alone."""
    alone = config.model_copy(update={"policy": evaluation([], 0.9, 90.0).policy})
    with pytest.raises(StudyError, match="has no early exit"):
        warm_start(alone)


def test_without_exits_there_is_nothing_to_train(config):
    with pytest.raises(StudyError, match="unmodified backbone"):
        retraining(config.model_copy(update={"design": None}))


def answers(*found):
    points = tuple(Point(cal=evaluation([], cal, macs), test=evaluation([], cal - 0.01, macs)) for cal, macs in found)
    device = DeviceAnswer(device="macs", axis="macs", backbone=points[-1], points=points)
    return Answers(study="toy", mode="design", data={}, devices=(device,))


def test_the_exported_point_is_set_beside_the_cheapest_that_is_as_good(config):
    found = answers((0.80, 10.0), (0.91, 30.0), (0.95, 90.0))
    assert replacement(config, found.devices[0]) == (found.devices[0].points[1], True)
    words = comparison(config, found)
    assert "trained with 3 exits, of which 1 are not among its stops" in words
    assert "90.00% on test at 50 macs" in words
    assert "90.00% on test at 30 macs on average; point=1" in words


def test_or_beside_the_most_accurate_if_none_is(config):
    words = comparison(config, answers((0.80, 10.0), (0.85, 30.0)))
    assert "none reaches it" in words
    assert "84.00% on test at 30 macs on average; point=1" in words


class TestWarmStartsFromARun:
    """Which designs of a run are tried first, and in which order."""

    @pytest.fixture
    def run(self, tmp_path):
        made = RunDir(tmp_path / "earlier")
        made.path.mkdir()
        made.study_file.write_text("name: earlier\n")
        bank = Design(
            backbone="b", data="d", strategy="separate", train=TrainSpec(),
            exits=(ExitSpec(cut="map", head=AVG), ExitSpec(cut="map", head=MLP)),
        )  # fmt: skip
        first, second = (
            Design(backbone="b", data="d", strategy="joint", exits=exits, train=TrainSpec(), start=bank.key)
            for exits in [
                (ExitSpec(cut="map", head=MIXED, alpha=0.3), ExitSpec(cut="vector", head=AVG)),
                (ExitSpec(cut="vector", head=AVG, alpha=0.7),),
            ]
        )
        designs = {d.key: d for d in (bank, first, second)}

        def point(design, *exits):
            chosen = evaluation(exits, 0.9, 1.0).model_copy(update={"design": design})
            return Point(cal=chosen, test=chosen)

        placed = ("map", AVG.name)
        fronts = [
            [point("", ), point(bank.key, placed), point(second.key, ("vector", AVG.name))],
            [point(first.key, ("map", MIXED.name)), point(bank.key, placed), point(bank.key), point(second.key)],
        ]  # fmt: skip
        devices = tuple(
            DeviceAnswer(device=name, axis="macs", backbone=points[-1], points=tuple(points))
            for name, points in zip(("macs", "phone"), fronts, strict=True)
        )
        made.write_answers(Answers(study="earlier", mode="bank", data={}, devices=devices, designs=designs))
        return made

    def test_what_was_trained_as_a_whole_comes_first_then_placements_of_the_bank(self, run):
        starts = warm_starts(run)
        assert [start.strategy for start in starts] == ["joint", "joint", "separate"]
        assert [len(start.exits) for start in starts] == [1, 2, 1]
        assert [e.alpha for e in starts[1].exits] == [0.3, 1.0], "all its exits, those included that nobody stops at"
        assert starts[2].exits == (ExitSpec(cut="map", head=AVG),), "only the stops: the bank has every head"

    def test_they_tell_where_they_come_from(self, run):
        starts = warm_starts(run)
        assert {start.run for start in starts} == {str(run.path)}
        assert all(start.name.startswith("earlier ") for start in starts)
        assert len({start.name for start in starts}) == len(starts)

    def test_of_many_placements_few_are_taken_evenly(self, run):
        answers = run.answers()
        (bank,) = [d for d in answers.designs.values() if d.strategy == "separate"]
        heads = [HeadSpec(kind="mlp", hidden=(width,)) for width in range(1, 12)]
        many = bank.model_copy(update={"exits": tuple(ExitSpec(cut="map", head=head) for head in heads)})
        points = []
        for head in heads:
            chosen = evaluation([("map", head.name)], 0.9, 1.0).model_copy(update={"design": many.key})
            points += [Point(cal=chosen, test=chosen)] * 2
        device = answers.devices[0].model_copy(update={"points": tuple(points)})
        run.write_answers(answers.model_copy(update={"devices": (device,), "designs": {many.key: many}}))
        assert [start.exits[0].head.hidden[0] for start in warm_starts(run)] == [1, 3, 6, 9, 11]

    def test_they_are_added_to_those_of_the_study(self, run, config):
        study = config.question()
        both = warmed(warmed(study, [run.path]), [run.path])
        assert len(both.warm_start) == 6
        assert both.warm_start[:3] == both.warm_start[3:] == tuple(warm_starts(run))

    def test_a_run_of_the_backbone_alone_has_none(self, run):
        answers = run.answers()
        bare = [d.model_copy(update={"points": d.points[:1]}) for d in answers.devices[:1]]
        run.write_answers(answers.model_copy(update={"devices": tuple(bare)}))
        with pytest.raises(StudyError, match="has an early exit"):
            warm_starts(run)

    def test_a_run_without_answers_is_told(self, run):
        (run.path / "front.json").unlink()
        with pytest.raises(RunError, match="no answers yet"):
            warm_starts(run)


def test_cuts_where_samples_cross_to_another_tier_are_kept(config):
    study = config.study | {
        "devices": ["chain"],
        "systems": {
            "chain": {
                "tiers": [{"name": name, "device": "macs"} for name in ("phone", "cloud")],
                "links": [{"bandwidth": 1, "round_trip": 1, "bits": [32, 8]}],
                "boundaries": ["coded"],
                "axis": "bytes",
            }
        },
    }
    first, *others = config.policy.stops
    silent = Stop(exit=ExitId(network="n", cut="crossing", head="none", tier="phone"), threshold=inf)
    policy = config.policy.model_copy(update={"stops": (first, silent, *others)})
    question = retraining(config.model_copy(update={"study": study, "policy": policy}), Retraining(trust=True))
    assert question.space.cuts.candidates == ("map", "vector", "crossing", "coded")
    assert question.space.max_exits == 3
    assert [e.cut for e in question.design.exits] == ["map", "vector"]
    many = policy.model_copy(update={"stops": (first, *[silent] * MOST_EXITS, *others)})
    question = retraining(config.model_copy(update={"study": study, "policy": many}), Retraining(trust=True))
    assert question.space.max_exits == MOST_EXITS, "with one threshold for all, a policy may have more"
