"""What trials tell of picks without each fold of calibration, and what is composed of it."""

import shutil

import numpy as np
import pytest
from scipy.special import softmax

from eesearch.solve.optimism import optimism
from eesearch.study import front_problem
from eesearch.study.compose import Composer
from eesearch.study.joint_trials import JointTrials
from eesearch.study.one_design import OneDesign
from eesearch.study.trial import Finished
from eesearch.training.fits import FOLDS
from tests.unit.study.conftest import FIELDS, TRAINED, proposal, slotted

SEVERAL = FIELDS["space"] | {"criteria": ["max_prob", "margin"], "gates": True}


def entries(problem):
    return sorted((problem.materials.store.root / "folds").glob("*.safetensors"))


def same(some, others):
    """Bit by bit, fold by fold."""
    assert len(some) == len(others) == FOLDS
    for one, other in zip(some, others, strict=True):
        for name, array in vars(one).items():
            assert (array.dtype, array.tobytes()) == (vars(other)[name].dtype, vars(other)[name].tobytes()), name
    return True


@pytest.fixture
def watched(monkeypatch):
    """What each call of the two functions that look at folds returned."""
    told = {"fold_points": [], "fixed_points": []}

    def watch(name):
        function = getattr(front_problem, name)

        def called(*args, **kwargs):
            told[name].append(function(*args, **kwargs))
            return told[name][-1]

        monkeypatch.setattr(front_problem, name, called)

    for name in told:
        watch(name)
    return told


class TestFolded:
    def test_is_found_once_and_read_back_bit_by_bit(self, made, watched):
        problem = made(space=SEVERAL)
        outcome, (profile,) = problem.first(), problem.materials.profiles
        calls = {name: len(told) for name, told in watched.items()}
        assert calls["fold_points"] == 2, "one for each criterion, by who trained the design"
        assert calls["fixed_points"] > 0, "gates were learnt"
        assert len(entries(problem)) == 1
        found = problem.folded(outcome.design, profile)
        again = made(space=SEVERAL)
        read = again.folded(outcome.design, again.materials.profiles[0])
        assert same(found, read)
        assert {name: len(told) for name, told in watched.items()} == calls
        assert again.materials.watch.phases.get("estimate optimism") is None

    def test_holds_what_no_other_policy_of_any_criterion_or_gate_beats(self, made, watched):
        problem = made(space=SEVERAL)
        outcome, (profile,) = problem.first(), problem.materials.profiles
        tables = [*watched["fold_points"], *watched["fixed_points"]]
        for v, fold in enumerate(problem.folded(outcome.design, profile)):
            found = [table[v] for table in tables]
            every = {each for one in found for each in zip(one.cost, one.lost, one.lost_in, strict=True)}
            kept = list(zip(fold.cost, fold.lost, fold.lost_in, strict=True))
            assert set(kept) <= every
            assert all(any(c <= cost and b <= lost for c, b, _ in kept) for cost, lost, _ in every)
            assert (np.diff(fold.cost) > 0).all()
            assert (np.diff(fold.lost) < 0).all()
        inside = [int(fold.samples[1]) for fold in problem.folded(outcome.design, profile)]
        assert sum(inside) == 80
        assert {int(fold.samples.sum()) for fold in problem.folded(outcome.design, profile)} == {80}

    def test_knows_nothing_of_gates_that_break_the_constraints(self, made, watched):
        """Nobody can pick them; and the solver did not choose them, so they would hide the optimism of its choice."""
        free = made(space=SEVERAL)
        design, (profile,) = free.first().design, free.materials.profiles
        costs = [free.gated(each, design, profile).costs["macs"].worst for each in free.learned(design, profile)[1]]
        assert len(watched["fixed_points"]) == len(costs) > 0
        most = sorted(costs)[0] * (1.0 - 1e-6)
        limit = {"axis": "macs", "at": "worst", "at_most": most}
        bound = made("bound", space=SEVERAL, objectives={"constraints": {"limits": [limit]}})
        bound.first()
        assert len(watched["fixed_points"]) == len(costs), "none of them was looked at"
        assert len(watched["fold_points"]) == 4

    def test_other_policies_have_an_entry_of_their_own(self, made):
        problem = made()
        first, trained = problem.first(), problem.run(proposal(problem))
        assert len(entries(problem)) == 2, "one for each design"
        more = made(space=FIELDS["space"] | {"levels": 3})
        assert more.first().design == first.design
        assert len(entries(problem)) == 3
        assert trained.design != first.design


def test_a_drop_counts_from_the_network_and_not_from_what_training_made_of_it(made):
    free, bound = made("free"), made("bound", objectives={"constraints": {"max_drop": 0.02}})
    (profile,) = free.materials.profiles
    whole, outcome = free.backbone(profile, "cal").accuracy, free.run(proposal(free))
    own = free.workshop.table(outcome.design, "cal").accuracy[-1]
    wanted = [p for p in free.points(outcome, profile) if p.accuracy > whole - 0.0201]
    assert wanted[0].accuracy < own - 0.02, "training made the network better"
    assert list(bound.points(bound.run(proposal(bound)), profile)) == wanted


class TestUnseen:
    def test_of_a_trained_design_is_what_was_folded(self, made):
        problem = made()
        outcome, (profile,) = problem.first(), problem.materials.profiles
        assert same(problem.unseen(outcome, profile), problem.folded(outcome.design, profile))

    def test_of_a_trial_without_exits_is_nothing(self, made):
        problem = made()
        assert problem.unseen(problem.run(proposal(problem, "none")), problem.materials.profiles[0]) == ()

    def test_of_one_design_is_that_of_its_front(self, made):
        train = {"epochs": 1, "batch_size": 32, "lr": 0.01}
        exits = [{"cut": made("other").cuts[0], "head": {"kind": "linear"}, "alpha": 0.3}]
        design = {"strategy": "mixed", "exits": exits, "train": train}
        problem = made("one", kind=OneDesign, mode="design", design=design)
        outcome, (profile,) = problem.first(), problem.materials.profiles
        assert len(entries(problem)) == 1
        assert same(problem.unseen(outcome, profile), problem.folded(outcome.design, profile))
        assert optimism([problem.unseen(outcome, profile)])

    def test_of_joint_trials_without_exits_is_the_backbone_itself(self, made):
        problem = made(kind=JointTrials, mode="joint-trials")
        outcome = problem.run(slotted(problem, "none"))
        (profile,) = problem.materials.profiles
        found = problem.unseen(outcome, profile)
        whole = problem.backbone(profile, "cal").costs["macs"].mean
        assert [each.cost.tolist() for each in found] == [[whole]] * FOLDS
        assert [(each.lost.tolist(), each.lost_in.tolist()) for each in found] == [([0], [0])] * FOLDS
        assert {gap for _, gap in optimism([found])} == {0.0}

    def test_of_joint_trials_that_break_the_constraints_is_nothing(self, made):
        limit = {"axis": "macs", "at_most": 1.0}
        problem = made(kind=JointTrials, mode="joint-trials", objectives={"constraints": {"limits": [limit]}})
        outcome, (profile,) = problem.run(slotted(problem)), problem.materials.profiles
        (point,) = problem.points(outcome, profile)
        assert problem.constraints(profile).broken(point, problem.backbone(profile, "cal"))
        assert problem.unseen(outcome, profile) == ()

    def test_of_joint_trials_is_their_one_point_fold_by_fold(self, made):
        problem = made(kind=JointTrials, mode="joint-trials")
        outcome = problem.run(slotted(problem))
        (profile,) = problem.materials.profiles
        (point,), found = problem.points(outcome, profile), problem.unseen(outcome, profile)
        lost = round((problem.backbone(profile, "cal").accuracy - point.accuracy) * 80)
        assert sum(int(each.lost_in[0]) for each in found) == lost
        assert {int(each.lost[0] + each.lost_in[0]) for each in found} == {lost}
        costs = [float(each.cost[0] * each.samples[0]) for each in found]  # each sample is in all folds but one
        assert sum(costs) / (FOLDS - 1) / 80 == pytest.approx(point.costs["macs"].mean)
        assert not entries(problem), "nothing was solved"


def paired_by_hand(problem, point, design):
    """(lost, gained) on test of a policy that goes by `max_prob`, sample by sample."""
    table, whole = problem.workshop.table(design, "test"), problem.workshop.backbone_table("test")
    fits, lost, gained = problem.workshop.fits(point.test.policy.fits), 0, 0
    for n, label in enumerate(table.labels):
        for stop in point.test.policy.stops:
            row = table.row(stop.exit)
            heat = np.prod([fit.parameters[0, fit.exits.index(stop.exit), 0] for fit in fits])
            if softmax(table.logits[row, n] / heat).max() >= stop.threshold:
                break
        right, before = table.logits[row, n].argmax() == label, whole.logits[-1, n].argmax() == label
        lost, gained = lost + (before and not right), gained + (right and not before)
    return int(lost), int(gained)


class TestComposed:
    def finished(self, problem):
        trained = proposal(problem)
        return [
            Finished(0, "bank", problem.first(), "", 1.0, "complete", samples=TRAINED),
            Finished(1, "sampler", problem.run(trained), "", 1.0, "complete", 3 * TRAINED, trained),
            Finished(2, "sampler", problem.run(proposal(problem, "none")), "", 1.0, "complete"),
        ]

    def test_devices_tell_the_optimism_of_picks_and_points_how_they_differ_on_test(self, made):
        problem = made()
        finished = self.finished(problem)
        (device,) = Composer(problem).answers(finished, final=False).devices
        drops = [drop for drop, _ in device.optimism]
        assert len(drops) > 1
        assert all(np.diff(drops) > 0)
        own = [problem.folded(t.outcome.design, problem.materials.profiles[0]) for t in finished[:2]]
        assert device.optimism == optimism(own)
        designs = {t.outcome.design.key: t.outcome.design for t in finished[:2]}
        differ = 0
        for point in device.points:
            if point.test.design in designs:
                lost, gained = paired_by_hand(problem, point, designs[point.test.design])
                assert (point.paired.lost, point.paired.gained, point.paired.samples) == (lost, gained, 40)
                differ += lost + gained
            assert point.paired.drop == pytest.approx(device.backbone.test.accuracy - point.test.accuracy)
        assert differ > 0
        assert (device.backbone.paired.lost, device.backbone.paired.gained) == (0, 0)

    def test_a_run_that_is_older_gets_them_when_it_goes_on(self, made):
        problem = made()
        finished = self.finished(problem)
        (new,) = Composer(problem).answers(finished, final=False).devices
        before = [path.name for path in entries(problem)]
        shutil.rmtree(problem.materials.store.root / "folds")
        older = made()
        (device,) = Composer(older).answers(finished, final=False).devices
        assert device == new
        assert len(before) == 2
        assert [path.name for path in entries(older)] == before
