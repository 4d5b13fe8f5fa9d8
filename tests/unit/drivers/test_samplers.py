import optuna
import pytest

from eesearch.core.errors import StudyError
from eesearch.drivers.samplers import distributions, make_sampler
from eesearch.study.question import SAMPLERS
from eesearch.study.space import Choice, LogFloat, UnitFloat

PARAMETERS = (
    Choice("strategy", ("joint",)),
    Choice("exit:a", ("none", "linear", "mlp")),
    LogFloat("alpha:a", 0.1, 3.0),
    UnitFloat("threshold:a"),
)
SPACE = distributions(PARAMETERS)


def sampler(name, seed=5, directions=1, trials=20):
    return make_sampler(name, seed=seed, trials=trials, directions=directions)


def history(directions, n=11):
    """Trials drawn at random, whose values depend on their parameters."""
    study = optuna.create_study(directions=["maximize"] * directions, sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(n):
        trial = study.ask(SPACE)
        study.tell(trial, [trial.params["alpha:a"], trial.params["threshold:a"]][:directions])
    return study.get_trials(deepcopy=False)


def proposal(name, trials, seed=5, directions=1):
    study = optuna.create_study(directions=["maximize"] * directions, sampler=sampler(name, seed, directions))
    study.add_trials(trials)
    return study.ask(SPACE).params


def test_a_space_in_optunas_words():
    assert distributions(PARAMETERS) == {
        "strategy": optuna.distributions.CategoricalDistribution(("joint",)),
        "exit:a": optuna.distributions.CategoricalDistribution(("none", "linear", "mlp")),
        "alpha:a": optuna.distributions.FloatDistribution(0.1, 3.0, log=True),
        "threshold:a": optuna.distributions.FloatDistribution(0.0, 1.0),
    }


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "gp" else ()) for name in SAMPLERS]
)
def test_every_sampler_proposes_within_the_space_and_by_its_seed_alone(name, directions):
    trials = history(directions)
    params = proposal(name, trials, directions=directions)
    assert params.keys() == SPACE.keys()
    assert params["strategy"] == "joint"
    assert params["exit:a"] in ("none", "linear", "mlp")
    assert 0.1 <= params["alpha:a"] <= 3.0
    assert 0.0 <= params["threshold:a"] <= 1.0
    assert proposal(name, trials, directions=directions) == params
    few = [proposal(name, trials[:4], seed=seed, directions=directions) for seed in (5, 6)]
    assert few[0] != few[1], "nobody knows anything yet: seeds differ"


def test_populations_grow_with_the_budget():
    sizes = [sampler("nsga2", trials=trials).population_size for trials in (5, 100, 240, 10_000)]
    assert sizes == [10, 10, 24, 50]
    assert sampler("nsga3", trials=240).population_size == 24


def test_auto_looks_at_all_parameters_together_where_trials_are_few():
    trials = history(1, 20)

    def auto(budget):
        study = optuna.create_study(direction="maximize", sampler=sampler("auto", trials=budget))
        study.add_trials(trials)
        return study.ask(SPACE).params

    assert auto(20) == auto(60) != auto(61) == auto(1000) == proposal("tpe", trials)
    assert proposal("auto", history(2), directions=2) == proposal("tpe", history(2), directions=2)


def test_a_sampler_by_import_path():
    found = sampler("optuna.samplers:NSGAIIISampler")
    assert isinstance(found, optuna.samplers.NSGAIIISampler)
    trials = history(1, 3)
    proposals = [proposal("optuna.samplers:RandomSampler", trials, seed=seed) for seed in (5, 5, 6)]
    assert proposals[0] == proposals[1] != proposals[2], "it gets the seed"
    assert isinstance(sampler("optuna.samplers:BruteForceSampler"), optuna.samplers.BruteForceSampler)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("optuna.samplers:Nonsense", "has no 'Nonsense'"),
        ("no_such_module:Sampler", "cannot import 'no_such_module'"),
        (":Sampler", "no import path"),
        ("optuna.samplers:PartialFixedSampler", "needs no arguments but `seed`"),
        ("optuna.pruners:NopPruner", "got NopPruner; expected a subclass of optuna.samplers.BaseSampler"),
        ("math:pi", "is no class; got float"),
        ("optuna.samplers:QMCSampler", "remembers its place"),
        ("optuna.samplers:CmaEsSampler", "remembers its place|cannot be made"),
    ],
)
def test_what_is_no_sampler_is_refused(path, message):
    with pytest.raises(StudyError, match=message):
        sampler(path)
