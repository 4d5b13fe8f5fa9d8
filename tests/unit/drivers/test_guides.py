import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from eesearch.core.errors import StudyError
from eesearch.drivers import guides
from eesearch.drivers.guides import Asked, Proposer, accuracies, gains, scalarized
from eesearch.drivers.samplers import distributions
from eesearch.study.question import SAMPLERS
from eesearch.study.space import Choice, LogFloat
from eesearch.study.trial import Outcome

GUIDES = ("hypervolume", "gain", "accuracies", "scalarized")


def front(*points):
    return np.array(points, float).reshape(-1, 2)


class Rectangles:
    """A trial is worth one point; alpha trades its error against its cost, the head makes it better or worse."""

    directions = ("maximize",)
    parameters = (Choice("exit:a", ("none", "good", "bad")), LogFloat("alpha:a", 0.1, 10.0))
    reference = ((0.05, 0.1), (0.05, 0.2))

    def __init__(self):
        self.asked = []

    def points(self, params):
        if params["exit:a"] == "none":
            return ()
        share = np.log10(params["alpha:a"]) / 2 + 0.5  # 0 .. 1
        worse = 0.01 if params["exit:a"] == "bad" else 0.0
        return ((0.1 * share + worse, 1.0 - share + worse),)

    def fronts(self, outcome):
        params = self.known[outcome.samples]
        self.asked.append(outcome.samples)
        return (self.points(params), self.points(params)) if params else ()

    known = ()

    def outcome(self, params):
        """The number of samples stands for the design."""
        self.known = (*self.known, dict(params))
        points = front(*self.points(params)) if params else front((0.05, 0.9))
        value = float(np.maximum(0.0, 1.0 - points / (0.1, 1.0)).prod(axis=1).max(initial=0.0))
        return Outcome(design=None, values=(value,), samples=len(self.known) - 1)


def history(problem, n=16):
    """Trial 0 without parameters, then random ones."""
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=2))
    study.add_trial(complete(problem.outcome({})))
    for _ in range(n):
        trial = study.ask(distributions(problem.parameters))
        outcome = problem.outcome(trial.params)
        trial.set_user_attr("outcome", outcome.model_dump_json())
        study.tell(trial, outcome.values)
    return study


def complete(outcome, **fields):
    return create_trial(values=list(outcome.values), user_attrs={"outcome": outcome.model_dump_json()}, **fields)


def proposal(problem, study, sampler="tpe", guide="hypervolume", seed=0, number=17):
    return Proposer(problem, Asked(sampler, guide, seed, trials=40)).propose(study, number)


def test_gain_is_what_the_merged_front_would_lose():
    # corner (0.1, 1): a covers 0.5 x 0.5 of the rectangle, b 0.2 x 0.8, together 0.25 + 0.16 - 0.1
    a, b, dominated = front((0.05, 0.5)), front((0.08, 0.2)), front((0.06, 0.6))
    assert gains([(a,), (b,)], [0.1]) == pytest.approx([0.15, 0.06])
    assert gains([(a,), (b,), (dominated,)], [0.1]) == pytest.approx([0.07, 0.06, 0.0]), "it would step in for a"
    assert gains([(a,), (b,), (a,)], [0.1]) == pytest.approx([0.0, 0.06, 0.0]), "a twin adds nothing"
    merged = front((0.05, 0.5), (0.08, 0.2))
    assert gains([(merged,), (front(),)], [0.1]) == pytest.approx([0.31, 0.0])


def test_gain_is_the_mean_over_devices():
    a, b = front((0.05, 0.5)), front((0.08, 0.2))
    assert gains([(a, a), (b, front())], [0.1, 0.2]) == pytest.approx([(0.15 + 0.75 * 0.5) / 2, 0.06 / 2])


def test_what_lies_outside_of_the_rectangle_gains_nothing():
    assert gains([(front((0.2, 0.1), (0.01, 1.5)),), (front((0.05, 0.5)),)], [0.1]) == pytest.approx([0.0, 0.25])


def test_accuracies_within_shares_of_the_cost():
    points = front((0.3, 0.1), (0.2, 0.25), (0.1, 0.6), (0.02, 0.9))
    assert accuracies((points,)) == pytest.approx((0.8, 0.8, 0.9))
    assert accuracies((front((0.1, 0.6)),)) == pytest.approx((0.0, 0.0, 0.9)), "nothing is so cheap"
    assert accuracies((points, front())) == pytest.approx((0.4, 0.4, 0.45))


def test_scalarization_along_a_direction():
    direction = np.array([0.6, 0.8])
    # 1 - y / corner = (0.5, 0.5) -> min(0.5 / 0.6, 0.5 / 0.8); (0.2, 0.8) -> min(0.2 / 0.6, 1)
    a, b = (0.05, 0.5), (0.08, 0.2)
    assert scalarized((front(a),), [0.1], direction) == pytest.approx(0.625**2)
    assert scalarized((front(b),), [0.1], direction) == pytest.approx((1 / 3) ** 2)
    assert scalarized((front(a, b),), [0.1], direction) == pytest.approx(0.625**2)
    assert scalarized((front(a), front()), [0.1, 0.1], direction) == pytest.approx(0.625**2 / 2)
    assert scalarized((front((0.2, 0.1)),), [0.1], direction) == 0.0


def test_the_mean_scalarization_is_proportional_to_the_hypervolume():
    angles = (np.arange(2000) + 0.5) * np.pi / 4000
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for points, volume in ((front((0.05, 0.5)), 0.25), (front((0.05, 0.5), (0.08, 0.2)), 0.31)):
        mean = np.mean([scalarized((points,), [0.1], direction) for direction in directions])
        assert mean * np.pi / 4 == pytest.approx(volume, rel=1e-3)


@pytest.mark.parametrize("guide", GUIDES)
def test_the_same_storage_gives_the_same_proposal(guide):
    problem = Rectangles()
    study = history(problem)
    first = proposal(problem, study, guide=guide)
    copied = optuna.create_study(direction="maximize")
    copied.add_trials(study.get_trials())
    assert proposal(problem, copied, guide=guide) == first
    assert proposal(problem, study, guide=guide, number=18) != first
    assert proposal(problem, study, guide=guide, seed=1) != first
    assert len(study.get_trials()) == 17, "nothing is written"


def test_a_database_gives_the_same_proposals_as_memory(tmp_path):
    problem = Rectangles()
    study = history(problem)
    stored = optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db", direction="maximize")
    stored.add_trials(study.get_trials())
    read = optuna.load_study(study_name=stored.study_name, storage=f"sqlite:///{tmp_path}/study.db")
    for sampler in ("tpe", "nsga2"):
        assert proposal(problem, read, sampler) == proposal(problem, study, sampler)


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "gp"])
@pytest.mark.parametrize("guide", GUIDES)
def test_every_sampler_follows_every_guide(sampler, guide):
    problem = Rectangles()
    params = proposal(problem, history(problem), sampler, guide)
    assert params.keys() == {"exit:a", "alpha:a"}
    assert params["exit:a"] in ("none", "good", "bad")
    assert 0.1 <= params["alpha:a"] <= 10.0


def test_what_a_sampler_is_shown(monkeypatch):
    shown = []

    class Looking(optuna.samplers.RandomSampler):
        def before_trial(self, study, trial):
            shown.append((study.directions, {t.number: t for t in study.get_trials() if t.number != trial.number}))

    monkeypatch.setattr(guides, "make_sampler", lambda *_, **__: Looking(seed=0))
    monkeypatch.setattr(guides, "RandomSampler", type(None))
    problem = Rectangles()
    study = history(problem, 2)
    space = distributions(problem.parameters)
    good = {"exit:a": "good", "alpha:a": 1.0}
    study.add_trial(complete(problem.outcome(good), params=good, distributions=space))
    running = study.ask(space)
    study.add_trial(create_trial(state=TrialState.FAIL, params=good, distributions=space))
    study.add_trial(
        create_trial(state=TrialState.PRUNED, params=good, distributions=space, intermediate_values={1: 0.5})
    )
    for guide in GUIDES:
        proposal(problem, study, guide=guide)
    for (directions, trials), guide in zip(shown, GUIDES, strict=True):
        states = [t.state.name for t in trials.values()]
        stopped = ["PRUNED"] if guide != "accuracies" else []
        assert states == ["COMPLETE"] * 3 + ["RUNNING"] + stopped, "trial 0 and the failed one are not"
        assert len(directions) == (3 if guide == "accuracies" else 1)
        assert trials[3].params == running.params
    own, gain, within, random = (next(t for t in trials.values() if t.params == good) for _, trials in shown)
    assert own.values == pytest.approx([0.25])
    assert within.values == pytest.approx([0.0, 0.95, 0.95])
    fronts = [problem.fronts(Outcome(design=None, values=(0.0,), samples=k)) for k in (1, 2, 3)]
    bank = ((), ())  # it tells no points here
    whole = [tuple(front(*points) for points in found) for found in (bank, *fronts)]
    assert gain.values == pytest.approx([gains(whole, [0.1, 0.2])[3] + 1e-6 * 0.25])
    assert 0.25 <= random.values[0] <= 0.75**2 / 0.5


def test_fronts_are_read_once():
    problem = Rectangles()
    study = history(problem)
    proposer = Proposer(problem, Asked("tpe", "gain", 0, trials=40))
    for number in (17, 18):
        proposer.propose(study, number)
    assert sorted(problem.asked) == list(range(17))


def test_generations_follow_the_trials_in_the_storage():
    problem = Rectangles()
    study = history(problem, 25)
    assert proposal(problem, study, "nsga2") == proposal(problem, study, "nsga2")
    seen = {}

    class Watched(optuna.samplers.NSGAIISampler):
        def select_parent(self, study, generation):
            seen[generation] = [t.number for t in self.get_population(study, generation - 1)]
            return super().select_parent(study, generation)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guides, "make_sampler", lambda *_, seed, **__: Watched(seed=seed, population_size=10))
        proposal(problem, study)
    assert seen == {1: list(range(10)), 2: list(range(10, 20))}


def test_a_long_history_is_shown_in_part(monkeypatch):
    monkeypatch.setattr(guides, "SHOWN", 6)
    problem = Rectangles()
    trials = history(problem, 20).get_trials()[1:]
    told = {t.number: t.values for t in trials}
    kept = guides._most_telling(trials, told, ["maximize"])
    best = sorted(trials, key=lambda t: -t.values[0])[:3]
    latest = [t for t in trials if t not in best][-3:]
    assert {t.number for t in kept} == {t.number for t in best + latest}
    fewer = guides._most_telling(trials[:6], told, ["maximize"])
    assert len(fewer) == 6


def test_with_several_objectives_the_best_are_the_non_dominated(monkeypatch):
    monkeypatch.setattr(guides, "SHOWN", 4)
    values = [(0.5, 0.5), (0.1, 0.9), (0.9, 0.1), (0.6, 0.6), (0.7, 0.7), (0.8, 0.8)]
    trials = [create_trial(values=list(v)) for v in values]
    for number, trial in enumerate(trials):
        trial.number = number
    kept = guides._most_telling(trials, dict(enumerate(values)), ["minimize", "minimize"])
    assert {t.number for t in kept} >= {4, 5}, "the latest"
    assert len({t.number for t in kept} & {0, 1, 2}) == 2, "of three that nothing dominates"


class Failing(optuna.samplers.RandomSampler):
    """A sampler that cannot do this."""

    def sample_independent(self, study, trial, param_name, param_distribution):
        raise ValueError("no choices, please")


def test_a_path_to_no_sampler_is_refused_before_anything_is_trained():
    with pytest.raises(StudyError, match="got NopPruner; expected a subclass of optuna"):
        Proposer(Rectangles(), Asked("optuna.pruners:NopPruner", "hypervolume", 0, trials=40))


def test_a_foreign_sampler_that_cannot_propose_is_named(monkeypatch):
    monkeypatch.setattr(guides, "make_sampler", lambda *_, **__: Failing())
    problem = Rectangles()
    with pytest.raises(StudyError, match=r"'my.module:Failing' cannot propose.*ValueError: no choices, please"):
        proposal(problem, history(problem, 2), "my.module:Failing")
