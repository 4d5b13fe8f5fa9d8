"""Networks of a cascade that are trained for it: together with their exits, or in a size that the search proposes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eesearch.api import plan, search_study
from eesearch.core.cascades import member_of
from eesearch.core.design import Cascade
from eesearch.core.errors import StudyError
from eesearch.core.paired import Paired
from eesearch.core.tables import ExitTable
from eesearch.study.certifying import certify
from eesearch.study.materials import load_study_data
from eesearch.study.members import stored_cascade
from eesearch.study.modes import build_problem
from eesearch.study.pools import Pool
from eesearch.study.question import Study
from eesearch.study.retrain import warmed
from eesearch.study.run import Run
from eesearch.study.rundir import RunDir
from eesearch.training.plans import Work

SMALL = "eesearch.nets.zoo:scalable_cnn"


@pytest.fixture(scope="module")
def fields(tiny_fields):
    own = {key: value for key, value in tiny_fields.items() if key != "backbone"}
    networks = [
        {"name": "small", "model": SMALL, "args": {"stages": 2}, "vary": {"width": [2, 3, 4], "depth": [1, 2]}},
        {"name": "large", "model": SMALL, "args": {"width": 8, "stages": 2}, "cuts": {"max_cuts": 2}},
    ]
    space = own["space"] | {"strategies": ["separate", "joint"], "max_exits": 2, "cuts": {"max_cuts": 1}}
    return own | {
        "name": "searched", "backbones": networks, "reference": "large", "space": space, "devices": ["macs"],
        "budget": {"trials": 5}, "pruning": "median",
    }  # fmt: skip


@pytest.fixture(scope="module")
def found(fields, tmp_path_factory):
    return search_study(Study.model_validate(fields), tmp_path_factory.mktemp("runs") / "searched")


def test_trials_train_networks_and_propose_their_sizes(found):
    answers = found.answers
    assert [trial.state for trial in answers.trials].count("failed") == 0
    designs = [answers.designs[trial.design] for trial in answers.trials if trial.design]
    assert all(isinstance(design, Cascade) and design.reference == "large" for design in designs)
    sizes = {name for design in designs for name in design.networks if name.startswith("small.")}
    assert "small.width-3.depth-2" in sizes, "trial 0 has the middle options"
    assert len(sizes) > 1, "the sampler proposes others"
    trained = [design for design in designs if design.members["large"].strategy == "joint"]
    assert trained, "the seed trains the large network together with its exits"
    assert trained[0].strategy == "joint"
    assert any(trial.origin.startswith("large: ") for trial in answers.trials)


def test_training_a_proposed_network_is_counted(found, fields):
    """Of a variant: its own training and that of its heads; what trial 0 has trained is not counted again."""
    samples = len(load_study_data(Study.model_validate(fields)).train)
    epochs = fields["training"]["epochs"]
    for trial in found.answers.trials[1:]:
        design = found.answers.designs.get(trial.design)
        if design is None:
            continue
        new = not any(name == "small.width-3.depth-2" for name in design.networks)
        trained = design.members["large"].strategy == "joint"
        assert (trial.samples > 0) == (new or trained)
        if new:
            assert trial.samples >= epochs * samples


def test_what_changes_nothing_costs_nothing(found, fields):
    problem = build_problem(Study.model_validate(fields), RunDir(found.directory.path))
    (_, params) = problem.seeds()[0]
    none = {name: "none" for name in params if name.startswith("exit:")}
    first, again = problem.first(), problem.run(params | none)
    assert again.design == first.design
    assert first.samples > 0
    assert (again.samples, again.forward, again.backward) == (0, 0, 0)


def test_the_table_is_the_network_of_every_design(found):
    run = Run.load(found.directory.path, trust=True)
    test = load_study_data(run.question()).test
    (device,) = run.answers.devices
    seen = set()
    for point in device.points:
        if point.cal.design in seen or not point.cal.design:
            continue
        seen.add(point.cal.design)
        told = run.predict(point, test.x)
        shares = np.bincount(told.exit, minlength=len(point.stops)) / len(test)
        assert shares == pytest.approx([stop.share for stop in point.stops])
        assert float((told.answer == test.y).mean()) == pytest.approx(point.test.accuracy)
    assert seen


def test_seeds_by_rising_cost_stand_in_the_answers(found):
    (device,) = found.answers.devices
    rules = {seed.rule: seed.point for seed in device.seeds}
    assert set(rules) == {"small.width-3.depth-2 first"}
    (point,) = rules.values()
    assert [member_of(e) for e in point.cal.policy.exits] == ["small.width-3.depth-2", "large"]
    assert point.cal.accuracy >= device.backbone.cal.accuracy, "networks break even on calibration"


def test_a_trained_cascade_is_what_its_table_says(found):
    """Whether or not it is on the front: its networks are read from the store, and answer as they did in the trial."""
    run = Run.load(found.directory.path, trust=True)
    test = load_study_data(run.question()).test
    design = next(d for d in run.answers.designs.values() if d.strategy == "joint")
    net = stored_cascade(found.directory.store, run.question(), design, test.x[:2])
    table = ExitTable.from_arrays(*found.directory.store.get("table", f"{design.key}-test"))
    assert net.exits == table.exits
    with torch.inference_mode():
        logits = torch.stack(net(torch.from_numpy(test.x))).numpy()
    np.testing.assert_allclose(logits, table.logits, rtol=1e-4, atol=1e-4)


def test_a_plan_knows_what_is_proposed(fields):
    """All sizes are measured, and a trial trains one of them, and one network with its exits."""
    asked = Study.model_validate(fields | {"reference": "", "budget": {"trials": 4}})
    whole = [fields["backbones"][0], fields["backbones"][1] | {"exits": False}]
    told, alone = plan(asked), plan(Study.model_validate(fields | {"backbones": whole}))
    assert told.trials == 4
    small, large = told.networks
    assert (small.varies, large.varies) == (True, False)
    samples = len(load_study_data(asked).train)
    assert small.samples[1] >= fields["training"]["epochs"] * samples
    assert told.samples[1] == small.samples[1] + large.samples[1]
    assert alone.networks[1].samples[1] == 0, "a network without exits is not trained with any"


def test_a_search_begins_with_what_another_has_chosen(found, fields, tmp_path):
    """Of the exits of several networks, those of one that may be trained with them."""
    warm = warmed(Study.model_validate(fields | {"budget": {"trials": 2}}), [found.directory.path])
    again = search_study(warm, tmp_path / "warm")
    origins = [trial.origin for trial in again.answers.trials]
    assert origins[1].startswith("warm start")
    assert again.answers.trials[1].state in ("complete", "pruned")
    assert all(name.startswith("large/") for name in again.answers.trials[1].exits), "what the trial has trained"
    start = warm.warm_start[0]
    moved = tuple(e.model_copy(update={"cut": "small.width-3/a"}) for e in start.exits)
    foreign = warm.model_copy(update={"warm_start": (start.model_copy(update={"exits": moved}),)})
    with pytest.raises(StudyError, match=r"does not suit several networks; got exits of small\.width-3"):
        search_study(foreign, tmp_path / "foreign")


def test_what_a_stopped_trial_took():
    """Other networks were trained to the end; of the one that was stopped, a share of its epochs counts."""
    work = Work(epochs=4, last=4, samples=500, forward=50, backward=5, ready=(100, 10, 1))
    assert work.upto(2) == Work(2, 4, 300, 30, 3, (100, 10, 1))


def test_the_reference_is_what_it_was_whatever_was_trained(found):
    """Where all points on the front come of designs that trained it further, too."""
    run, (device,) = Run.load(found.directory.path, trust=True), found.answers.devices
    designs = {key: each for key, each in run.answers.designs.items() if not each.keeps_reference}
    points = [p for p in (*device.points, *(t.point for t in device.dominated)) if p.cal.design in designs]
    assert points
    only = device.model_copy(update={"points": tuple(points), "dominated": ()})
    alone = Run(run.directory, run.answers.model_copy(update={"devices": (only,)}), trusted=True)
    test = load_study_data(run.question()).test
    assert float((alone.predict(only.backbone, test.x).answer == test.y).mean()) == device.backbone.test.accuracy
    pool = Pool(np.random.default_rng(0).uniform(0, 16, (200, *test.x.shape[1:])).astype(test.x.dtype), test.y[:200])
    whole = alone.predict(only.backbone, pool.x).answer == pool.y
    tested = certify(alone, "100%", pool=pool).asked.tested()
    assert tested
    for candidate in tested:
        answer = alone.predict(points[candidate.number], pool.x).answer
        assert candidate.paired == Paired.of(answer == pool.y, whole)


def test_the_same_search_trains_nothing_again(found):
    again = search_study(found.directory.study(), found.directory.path)
    assert again.answers.devices == found.answers.devices
    assert again.answers.trials == found.answers.trials


def test_sizes_are_searched_for_a_phone_and_a_cloud(fields, found, tmp_path):
    """Stamoulis et al. 2018: small networks are proposed and trained, and run here or there, under limits.

    The large one has no room on the phone, and little may be sent to it.
    """
    room = 0.75 * found.answers.devices[0].backbone.cal.costs["peak_bytes"].worst
    tiers = [{"name": "phone", "device": "macs"}, {"name": "cloud", "device": "macs"}]
    chain = {"tiers": tiers, "links": [{"bandwidth": 5, "round_trip": 40}], "axis": "bytes"}
    most = 150.0
    asked = fields | {
        "name": "remote", "devices": ["chain"], "systems": {"chain": chain}, "pruning": "none",
        "space": fields["space"] | {"strategies": ["separate"], "max_exits": 1}, "budget": {"trials": 3},
        "objectives": {"constraints": {"limits": [{"axis": "bytes", "at_most": most}], "max_memory_mb": room / 1e6}},
    }  # fmt: skip
    found = search_study(Study.model_validate(asked), tmp_path / "remote")
    (device,) = found.answers.devices
    assert [trial.state for trial in found.answers.trials] == ["complete"] * 3
    assert all(point.cal.costs["bytes"].mean <= most for point in device.points)
    assert all(point.cal.costs["peak_bytes"].worst <= room for point in device.points)
    walks = {tuple((member_of(e).partition(".")[0], e.tier) for e in p.cal.policy.exits) for p in device.points}
    assert (("small", "phone"), ("large", "cloud")) in walks
