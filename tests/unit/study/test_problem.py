"""Trials of a study that takes no time: what they tell of fronts, samples, and of half-trained networks."""

import numpy as np
import pytest

from eesearch.core.design import LossSpec
from eesearch.study.joint_trials import JointTrials
from eesearch.study.trial import StoppedEarlyError
from eesearch.training import cache
from eesearch.training.checkpoint import weights_hash
from tests.unit.study.conftest import FIELDS, TRAINED, proposal, slotted


def test_samples_are_those_of_the_training_whether_it_runs_now_or_ran_before(made):
    problem = made()
    assert problem.first().samples == TRAINED, "the bank caches what the backbone says"
    assert made(budget={"max_cache_gb": 1e-9}).first().samples == 2 * TRAINED, "the backbone runs in every epoch"
    trained = problem.run(proposal(problem))
    assert trained.samples == 3 * TRAINED
    assert made().run(proposal(problem)).samples == 3 * TRAINED
    assert problem.run(proposal(problem, "none")).samples == 0
    old = trained.model_copy(update={"samples": 7})
    assert problem.revalue(old).samples == 7, "what it did cost stays"


def test_fronts_are_told_in_errors_and_relative_costs(made):
    problem = made()
    ((error, deepest),) = problem.reference
    assert deepest == pytest.approx(error + 0.05)
    outcome = problem.run(proposal(problem))
    (front,) = problem.fronts(outcome)
    solved = problem.device_front(outcome.design, problem.materials.profiles[0])
    assert front == tuple(
        (e.error, pytest.approx(e.costs["macs"].mean / solved.backbone.costs["macs"].mean)) for e in solved.points
    )
    assert problem.fronts(problem.run(proposal(problem, "none"))) == ((),)


def test_a_front_that_keeps_no_constraint_counts_as_none(made):
    limit = {"axis": "macs", "at": "mean", "at_most": 1.0}
    problem = made(objectives={"constraints": {"limits": [limit]}})
    outcome = problem.run(proposal(problem))
    assert outcome.values[0] < 0
    assert problem.fronts(outcome) == ((),)


def test_joint_trials_have_fronts_of_one_point(made):
    problem = made(kind=JointTrials, mode="joint-trials")
    outcome = problem.run(slotted(problem), lambda epochs, value: True)
    assert problem.fronts(outcome) == ((pytest.approx(outcome.values),),)
    assert outcome.samples == 3 * TRAINED


def test_reports_come_after_each_epoch_but_the_last_and_change_nothing(made):
    told = []
    watched, alone = made("watched"), made("alone")
    outcome = watched.run(proposal(watched), lambda *news: told.append(news))
    assert outcome == alone.run(proposal(alone))
    nets = [problem.workshop.network(outcome.design) for problem in (watched, alone)]
    assert weights_hash(nets[0]) == weights_hash(nets[1])
    assert [epochs for epochs, _ in told] == [1, 2]
    assert len({value for _, value in told}) == 2
    again = []
    watched.run(proposal(watched), lambda *news: again.append(news))
    assert again == [], "nothing is trained, so there is nothing to tell"


def test_a_value_so_far_is_that_of_the_front_of_the_table_so_far(made):
    problem = made(space=FIELDS["space"] | {"levels": "all"})  # there is nothing to refine then
    outcome = problem.run(proposal(problem))
    so_far = problem.value_so_far(problem.workshop.network(outcome.design), outcome.design)
    assert so_far == pytest.approx(outcome.values[0])


def test_a_value_so_far_looks_at_what_the_strategy_trains_for(made, monkeypatch):
    problem = made()
    outcome = problem.run(proposal(problem))
    net, looks, look = problem.workshop.network(outcome.design), [], problem.workshop.look
    monkeypatch.setattr(problem.workshop, "look", lambda net, *how: looks.append(how) or look(net, *how))
    pooled = outcome.design.model_copy(update={"strategy": "combined", "loss": LossSpec(combine="max")})
    assert problem.value_so_far(net, pooled) >= problem.value_so_far(net, outcome.design)
    assert looks == [("max_prob", "own"), ("max_prob", "max"), ("max_prob", "own")]


def test_what_is_stopped_leaves_nothing_behind(made):
    problem = made()
    problem.first()
    kept = sorted(problem.materials.store.root.rglob("*"))
    with pytest.raises(StoppedEarlyError) as stopped:
        problem.run(proposal(problem), lambda epochs, value: epochs == 2)
    assert stopped.value.samples == 2 * TRAINED
    bank = problem.workshop.bank_design.key
    added = set(problem.materials.store.root.rglob("*")) - set(kept)
    assert all(bank in path.name for path in added if path.is_file()), "the bank's network, which it started from"
    assert not [f for f in (problem.materials.store.root.parent / "checkpoints").rglob("*") if bank not in f.name]


def test_a_training_that_was_killed_tells_only_what_is_new(made):
    told = []

    def killed(epochs, value):
        told.append((epochs, value))
        if len(told) == 2:
            raise KeyboardInterrupt
        return False

    problem = made()
    with pytest.raises(KeyboardInterrupt):
        problem.run(proposal(problem), killed)
    outcome = made().run(proposal(problem), killed)
    assert [epochs for epochs, _ in told] == [1, 2, 2]
    assert told[1] == told[2]
    assert outcome == made("alone").run(proposal(problem))


def test_joint_trials_weigh_the_exits_that_they_train(made):
    """There are no more than `max_exits`, so the costs that gates learn are of a network without others."""
    space = FIELDS["space"] | {"heads": [{"kind": "linear", "gate": "linear"}], "strategies": ["gated"]}
    problem = made(kind=JointTrials, mode="joint-trials", space=space)
    design = problem.proposed(slotted(problem, strategy="gated"))
    assert len(problem.cuts) > len(design.exits) == 1
    assert len(design.loss.costs) == 2


def test_joint_trials_place_their_exits_anywhere_each_cut_once(made):
    problem = made(kind=JointTrials, mode="joint-trials", space=FIELDS["space"] | {"max_exits": 3})
    first, last = problem.cuts[0], problem.cuts[-1]
    (head, *_) = (spec.name for spec in problem.materials.heads[last])
    params = slotted(problem) | {
        **{"exit:1": f"{last}:{head}", "alpha:1": 0.3, "threshold:1": 0.9},
        **{"exit:2": f"{first}:{head}", "alpha:2": 0.7, "threshold:2": 0.6},
        **{"exit:3": f"{last}:{head}", "alpha:3": 2.0, "threshold:3": 0.1},
    }
    design = problem.proposed(params)
    assert [(e.cut, e.alpha) for e in design.exits] == [(first, 0.7), (last, 0.3)]
    assert problem.run(params).policy.thresholds == (0.6, 0.9, -np.inf)


def test_a_search_that_caches_on_disk_finds_what_one_in_memory_finds(made, monkeypatch):
    space = FIELDS["space"] | {"strategies": ["separate", "layerwise"]}
    memory, disk = made("memory", space=space), made("disk", space=space)
    outcomes = [memory.first(), memory.run(proposal(memory) | {"strategy": "layerwise"})]
    folders = []
    monkeypatch.setattr(cache, "MEMORY_GB", 0.0)
    kept = cache._kept_on_disk
    monkeypatch.setattr(cache, "_kept_on_disk", lambda folder, *rest: folders.append(folder) or kept(folder, *rest))
    assert [disk.first(), disk.run(proposal(disk) | {"strategy": "layerwise"})] == outcomes
    for file in (memory.materials.store.root / "weights").iterdir():
        (one, meta), (other, own) = (shop.materials.store.get("weights", file.stem) for shop in (memory, disk))
        assert meta == own
        assert all(np.array_equal(array, other[name]) for name, array in one.items())
    folder = disk.materials.store.root.parent / "cache"
    assert folders == [folder] * (1 + len(disk.cuts)), "of the bank, and behind each exit"
    assert list(folder.iterdir()) == []
