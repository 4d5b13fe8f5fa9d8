"""What trainings will take is what they take."""

from eesearch.study.estimate import Plan, PlannedNetwork, expected_cache, expected_work, plan
from eesearch.study.question import Study
from eesearch.training.cache import Caching
from tests.unit.study.conftest import FIELDS, TRAINED

TRAINED_DIGITS = 1006
SPACE = FIELDS["space"] | {
    "heads": [{"kind": "linear", "gate": "linear"}],
    "strategies": ["separate", "mixed", "distill", "gated", "layerwise"],
}


def expected(problem, study=None):
    materials = problem.materials
    return expected_work(study or materials.study, materials.backbone, materials.heads, len(materials.dataset.train))


def test_it_is_what_the_designs_of_each_strategy_take(made):
    problem = made(space=SPACE)
    works = expected(problem)
    assert list(works) == ["distill", "gated", "layerwise", "mixed"]
    params = {f"exit:{cut}": heads[0].name for cut, heads in problem.materials.heads.items()}
    for strategy, work in works.items():
        design = problem.proposed({"strategy": strategy, **params})
        assert problem.workshop.work(design) == work
    assert works["distill"].samples == 2 * works["mixed"].samples, "the teacher looks, too"


def test_from_scratch_the_backbone_is_trained_too(made):
    space = SPACE | {"strategies": ["separate", "joint", "mixed"]}
    training = FIELDS["training"] | {"epochs": 4, "start": "scratch"}
    works = expected(made(space=SPACE), Study.model_validate(FIELDS | {"space": space, "training": training}))
    joint = FIELDS["training"]["joint"]["epochs"]
    assert works["joint"].samples == 4 * TRAINED
    assert works["mixed"].samples == (4 + joint) * TRAINED


def test_a_space_that_trains_nothing_takes_nothing(made):
    assert expected(made(space=SPACE | {"strategies": ["separate"]})) == {}


def test_totals_are_over_all_networks():
    networks = (PlannedNetwork("a", 1.0, (), 5, (10, 3), {}), PlannedNetwork("b", 1.0, (), 7, (20, 0), {}))
    assert Plan(networks, 1, {}).samples == (30, 3)
    assert Plan(networks, 1, {}).cache_bytes == 7, "one bank after the other"


def test_what_designs_cache_is_what_their_embeddings_take(made, monkeypatch):
    problem, seen = made(space=SPACE), []
    materials = problem.materials

    def told(caching, size, held=0):
        seen.append(size + held)
        return place(caching, size, held)

    most = expected_cache(materials.study, materials.backbone, materials.heads, TRAINED)
    place = Caching.place
    monkeypatch.setattr(Caching, "place", told)
    params = {f"exit:{cut}": heads[0].name for cut, heads in materials.heads.items()}
    problem.workshop.network(problem.proposed({"strategy": "layerwise", **params}))
    assert most == max(seen) > 0
    plain = made(space=SPACE | {"strategies": ["separate", "mixed"]}).materials
    assert expected_cache(plain.study, plain.backbone, plain.heads, TRAINED) == 0


PLANNED = {
    "name": "planned",
    "backbone": {"model": "eesearch.nets.zoo:mlp", "args": {"features": 64, "hidden": [8, 8]}},
    "data": {"source": "eesearch.training.data:digits"},
    "devices": ["macs"],
    "space": {"heads": [{"kind": "linear"}], "strategies": ["separate", "mixed"]},
    "verify": {"points": 0},
}


def test_joint_trials_have_no_bank():
    found = plan(Study.model_validate(PLANNED | {"mode": "joint-trials", "budget": {"trials": 7}}))
    epochs = 3
    assert (found.banks, found.trials) == (0, 7)
    assert found.samples == (0, epochs * TRAINED_DIGITS)
    assert found.cache_bytes == 0
    assert not [phase for phase in found.seconds if "bank" in phase]
    spent = plan(Study.model_validate(PLANNED | {"mode": "joint-trials", "budget": {"samples": found.samples[1] + 1}}))
    assert spent.trials == 2


def test_one_design_is_planned_as_it_is_trained():
    exits = [{"cut": "2", "head": {"kind": "linear"}}]
    asked = {"strategy": "joint", "exits": exits, "train": {"epochs": 5}}
    found = plan(Study.model_validate(PLANNED | {"mode": "design", "design": asked}))
    assert (found.banks, found.trials) == (0, 1)
    assert found.samples == (0, 5 * TRAINED_DIGITS)
    assert found.cache_bytes == found.design_cache_bytes == 0
    assert found.seconds["trained designs"] > 0.0
    alone = plan(Study.model_validate(PLANNED | {"mode": "design", "design": asked | {"strategy": "separate"}}))
    assert alone.samples == (0, TRAINED_DIGITS), "its hidden states are cached"
    assert alone.design_cache_bytes == TRAINED_DIGITS * 4 * 8


def test_a_plan_knows_where_caches_would_go(tmp_path):
    space = PLANNED["space"] | {"strategies": ["separate", "layerwise"]}
    fields = PLANNED | {"space": space, "training": {"heads": {"epochs": 3}}}
    found = plan(Study.model_validate(fields), tmp_path / "run")
    assert found.caching == Caching(16.0, tmp_path / "run" / "cache")
    bank, design = found.cache_bytes, found.design_cache_bytes
    assert bank == TRAINED_DIGITS * 4 * sum(cut.shape[0] for cut in found.cuts)
    assert design > 0
    assert found.samples[0] == TRAINED_DIGITS
    tight = plan(Study.model_validate(fields | {"budget": {"max_cache_gb": (bank - 1) / 1e9}}), tmp_path / "run")
    assert tight.samples[0] == 3 * TRAINED_DIGITS, "the backbone runs in every epoch"
    assert tight.caching.place(tight.cache_bytes).kind == "nowhere"
    drafted = plan(
        Study.model_validate(fields | {"training": {"heads": {"epochs": 3}, "draft": 0.5}}), tmp_path / "run"
    )
    assert drafted.samples[0] == 1.5 * TRAINED_DIGITS
    assert list(drafted.seconds)[2:4] == ["draft (trial 0)", "bank (trial 1)"]
    assert drafted.seconds["draft (trial 0)"] > 0.0
    assert not (tmp_path / "run").exists()
