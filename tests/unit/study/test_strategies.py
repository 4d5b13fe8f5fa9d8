import pytest

from eesearch.core.front import Front
from eesearch.study.answers import TrialAnswer
from eesearch.study.bank_problem import BankProblem
from eesearch.study.compose import Composer
from eesearch.study.materials import prepare
from eesearch.study.policies import ordered_hypervolume
from eesearch.study.question import Study
from eesearch.study.rundir import RunDir
from eesearch.study.strategies import MOST_OF_A_LAYER, compare_strategies, spread
from eesearch.study.trial import Finished
from tests.unit.study.conftest import FIELDS, TRAINED, proposal


@pytest.fixture(scope="module")
def searched(given, tmp_path_factory):
    """The bank, a joint design that two trials proposed, one that was stopped early, one that failed."""
    directory = RunDir(tmp_path_factory.mktemp("strategies"))
    problem = BankProblem(prepare(Study.model_validate(FIELDS), directory, given=given))
    cut = problem.cuts[0]
    few = proposal(problem) | {f"exit:{cut}": "none"}
    bank, joint = problem.first(), problem.run(proposal(problem))
    bank = bank.model_copy(update={"forward": 10, "backward": 0})
    joint = joint.model_copy(update={"forward": 700, "backward": 600, "notes": {"soft cost": 0.5}})
    finished = [
        Finished(0, "bank", bank, "", 4.0, "complete", samples=TRAINED),
        Finished(1, "sampler", joint, "", 3.0, "complete", 3 * TRAINED, proposal(problem)),
        Finished(2, "sampler", joint, "", 0.1, "complete", 3 * TRAINED, proposal(problem)),
        Finished(3, "sampler", None, "", 2.0, "pruned", 2 * TRAINED, few),
        Finished(4, "sampler", None, "HeadError: no", 1.0, "failed", 0, proposal(problem)),
    ]
    return problem, Composer(problem).answers(finished, final=False)


def test_each_strategy_has_a_front_of_its_own(searched):
    problem, answers = searched
    (device,) = answers.devices
    (profile,) = problem.materials.profiles
    separate, joint = device.strategies
    assert (separate.strategy, joint.strategy) == ("separate", "joint")
    for own, trial in ((separate, answers.trials[0]), (joint, answers.trials[1])):
        alone = problem.device_front(answers.designs[trial.design], profile)
        assert [p.cal for p in own.points] == list(spread(alone.points, MOST_OF_A_LAYER))
        assert own.hypervolume == pytest.approx(alone.hypervolume(max_drop=problem.study.objectives.max_drop))
        assert own.hypervolume == pytest.approx(trial.value)
        assert own.last_accuracy == trial.last_accuracy
        assert {p.test.design for p in own.points} <= {trial.design, ""}


def test_hypervolumes_on_test_keep_the_order_and_the_depth_of_calibration(searched):
    problem, answers = searched
    (device,) = answers.devices
    for own in device.strategies:
        front = Front([p.cal for p in own.points], backbone=device.backbone.cal, axis=device.axis, device="")
        assert len(front) == len(own.points) < MOST_OF_A_LAYER  # nothing was left out
        values = front.values.copy()
        values[:, 0] = [p.test.error for p in own.points]
        values[:, 1] = [device.ratio(p) for p in own.points]
        depth = device.backbone.test.error + problem.study.objectives.max_drop
        assert own.hypervolume_test == pytest.approx(ordered_hypervolume(values, depth))


def test_the_cheapest_without_loss_is_that_of_its_own_front(searched):
    _, answers = searched
    (device,) = answers.devices
    for own in device.strategies:
        floor = device.backbone.cal.accuracy - 1e-12
        fitting = [p for p in own.points if p.cal.accuracy >= floor]
        assert own.free == (fitting[0] if fitting else None)


def test_training_is_counted_once_for_each_design_and_for_what_was_stopped(searched):
    problem, answers = searched
    separate, joint = answers.devices[0].strategies
    assert (separate.trials, separate.designs) == (1, 1)
    assert (joint.trials, joint.designs) == (4, 1)
    segments = len(problem.materials.backbone.segments)
    stopped = 2 * TRAINED * segments  # two of three epochs, forward and as far backward
    assert tuple(joint.cost.model_dump().values()) == (5 * TRAINED, 700 + stopped, 600 + stopped)
    assert answers.trials[3].epochs == 2
    assert joint.best == 1
    assert tuple(joint.best_cost.model_dump().values()) == (3 * TRAINED, 700, 600)


def test_designs_are_known_by_the_trial_that_trained_them(searched):
    _, answers = searched
    facts = answers.devices[0].designs
    _, first, again, *_ = answers.trials
    assert first.design == again.design
    assert facts[first.design].trial == 1
    assert facts[first.design].notes == first.notes == {"soft cost": 0.5}
    assert (first.forward, first.backward) == (700, 600)


def test_a_strategy_without_a_design_has_an_empty_front(made):
    problem = made()
    failed = TrialAnswer(number=0, state="failed", strategy="brave", origin="sampler")
    nameless = TrialAnswer(number=1, state="complete", strategy="", origin="sampler")
    profile = problem.materials.profiles[0]
    (own,) = compare_strategies(problem, profile, [(failed, ()), (nameless, ())], lambda cal: pytest.fail("no points"))
    assert (own.strategy, own.trials, own.designs, own.points) == ("brave", 1, 0, ())
    assert (own.hypervolume, own.hypervolume_test, own.free, own.best) == (None, None, None, None)


def test_many_are_spread_evenly_with_both_ends():
    assert spread(range(100), 4) == (0, 33, 66, 99)
    assert spread("ab", 4) == ("a", "b")
    assert spread((), 4) == ()
