"""What trainings will take is what they take."""

from eesearch.study.estimate import Plan, PlannedNetwork, expected_work
from eesearch.study.question import Study
from tests.unit.study.conftest import FIELDS, TRAINED

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
