import pytest
from pydantic import ValidationError

from eesearch.core.errors import InputError
from eesearch.study.space import AlphaRange, Choice, LogFloat, SearchSpace, UnitFloat, parameters

SPACE = SearchSpace.model_validate(
    {"heads": [{"kind": "linear"}, {"kind": "mlp", "hidden": [8]}], "alpha": {"low": 0.5}}
)


def test_the_space_is_a_flat_static_list_of_what_fits_each_cut():
    assert parameters(SPACE, {"a": SPACE.heads, "b": SPACE.heads[:1]}) == (
        Choice("strategy", ("joint",)),
        Choice("exit:a", ("none", "linear-avg1", "mlp8-avg1")),
        LogFloat("alpha:a", 0.5, 3.0),
        Choice("exit:b", ("none", "linear-avg1")),
        LogFloat("alpha:b", 0.5, 3.0),
    )


def test_thresholds_are_parameters_of_joint_trials_only():
    flat = parameters(SPACE, {"a": SPACE.heads}, thresholds=True)
    assert UnitFloat("threshold:a") in flat
    assert flat[-1] == Choice("criterion", ("max_prob",))
    assert not [p for p in parameters(SPACE, {"a": SPACE.heads}) if isinstance(p, UnitFloat)]


def test_a_space_that_trains_nothing_has_no_parameters():
    with pytest.raises(InputError, match="no strategy that trains"):
        parameters(SearchSpace(strategies=("separate",)), {"a": SPACE.heads})


@pytest.mark.parametrize(
    "fields",
    [
        {"heads": []},
        {"heads": [{"kind": "linear"}, {"kind": "linear"}]},
        {"strategies": ["magic"]},
        {"alpha": {"low": 2.0, "high": 1.0}},
        {"max_exits": -1},
        {"cuts": {"candidates": "some"}},
        {"cuts": {"candidates": []}},
    ],
)
def test_nonsense_is_refused(fields):
    with pytest.raises(ValidationError):
        SearchSpace.model_validate(fields)


@pytest.mark.parametrize(("low", "high", "start"), [(0.1, 3.0, 1.0), (2.0, 3.0, 2.0), (0.1, 0.5, 0.5)])
def test_seeds_start_at_one_or_as_near_as_allowed(low, high, start):
    assert AlphaRange(low=low, high=high).start == start
