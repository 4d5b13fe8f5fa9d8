import pytest
from pydantic import ValidationError

from eesearch.core.design import LossSpec
from eesearch.core.errors import InputError
from eesearch.core.policy import Criterion
from eesearch.core.registry import CRITERIA, STRATEGIES
from eesearch.study.space import AlphaRange, Choice, LogFloat, LossSpace, SearchSpace, UnitFloat, parameters, slots

SPACE = SearchSpace.model_validate(
    {"heads": [{"kind": "linear"}, {"kind": "mlp", "hidden": [8]}], "alpha": {"low": 0.5}}
)


def test_the_space_is_a_flat_static_list_of_what_fits_each_cut():
    assert parameters(SPACE, {"a": SPACE.heads, "b": SPACE.heads[:1]}) == (
        Choice("strategy", ("mixed",)),
        Choice("exit:a", ("none", "linear-avg1", "mlp8-avg1")),
        LogFloat("alpha:a", 0.5, 3.0),
        Choice("exit:b", ("none", "linear-avg1")),
        LogFloat("alpha:b", 0.5, 3.0),
    )


def test_thresholds_are_parameters_of_joint_trials_only():
    flat = slots(SPACE.model_copy(update={"max_exits": 2}), {"a": SPACE.heads, "b": SPACE.heads[:1]})
    assert flat[1:4] == (
        Choice("exit:1", ("none", "a:linear-avg1", "a:mlp8-avg1", "b:linear-avg1")),
        LogFloat("alpha:1", 0.5, 3.0),
        UnitFloat("threshold:1"),
    )
    assert [p.name for p in flat[4:]] == ["exit:2", "alpha:2", "threshold:2", "criterion"]
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
        {"criteria": ["own_gate"], "heads": [{"gate": "mlp"}, {"kind": "mlp", "hidden": [8]}]},
        {"criteria": ["learned", "learned_path", "patience"], "answers": ["mean", "average"]},
    ],
)
def test_nonsense_is_refused(fields):
    with pytest.raises(ValidationError):
        SearchSpace.model_validate(fields)


@pytest.mark.parametrize(("low", "high", "start"), [(0.1, 3.0, 1.0), (2.0, 3.0, 2.0), (0.1, 0.5, 0.5)])
def test_seeds_start_at_one_or_as_near_as_allowed(low, high, start):
    assert AlphaRange(low=low, high=high).start == start


GATED = [{"kind": "linear", "gate": "linear"}]


def test_what_may_not_be_listed_is_refused_with_what_to_do():
    for fields, says in (
        ({"criteria": ["gate"]}, "learnt, not listed: write `gates: true`"),
        ({"answers": ["own", "combined"]}, "comes with the strategy `combined`"),
        ({"criteria": ["own_gate"]}, r"linear-avg1 has none: write `gate: linear`"),
    ):
        with pytest.raises(ValidationError, match=says):
            SearchSpace.model_validate(fields)


def test_learned_criteria_are_listed_like_any_other_and_go_with_the_answers_that_they_can_score():
    listed = {
        "heads": GATED,
        "criteria": ["own_gate", "learned", "learned_path", "margin"],
        "answers": ["own", "mean", "most_confident", "average", "max"],
    }
    space = SearchSpace.model_validate(listed)
    assert space.scorings == (
        ("own_gate", "own"),
        ("learned", "own"),
        ("learned", "most_confident"),
        ("learned_path", "own"),
        *(("margin", answer) for answer in listed["answers"]),
    )
    assert space.rule_criterion == "margin"
    assert SearchSpace.model_validate(listed | {"criteria": ["learned"]}).rule_criterion == "max_prob"
    assert {"learned/most_confident", "learned_path", "margin/max", "own_gate"} <= set(space.decisions)


def test_a_criterion_whose_fit_nothing_makes_is_refused(monkeypatch):
    odd = Criterion(CRITERIA["max_prob"].function, needs=("horoscope",))
    monkeypatch.setitem(CRITERIA._entries, "odd", odd)
    with pytest.raises(ValidationError, match="'odd' needs a fit of kind 'horoscope', which nothing makes"):
        SearchSpace(criteria=("max_prob", "odd"))


LOSS = LossSpace.model_validate(
    {"ramp": ["linear", "sdn"], "distill": {"low": 0.25, "high": 1.0}, "temperature": 4.0, "teacher": ["final"]}
)


class TestLosses:
    def test_what_varies_is_searched_if_somebody_uses_it(self):
        assert LOSS.parameters({"alpha", "ramp", "distill", "temperature", "teacher"}) == [
            Choice("loss:ramp", ("linear", "sdn")),
            LogFloat("loss:distill", 0.25, 1.0),
        ]
        assert LOSS.parameters({"temperature", "teacher"}) == []
        assert LOSS.parameters(set()) == []

    def test_a_space_searches_what_its_strategies_use_between_strategy_and_exits(self):
        space = SearchSpace(strategies=("separate", "distill", "freezeout"), loss=LOSS)
        names = [parameter.name for parameter in parameters(space, {"a": space.offered[:1]})]
        assert names == ["strategy", "loss:ramp", "loss:distill", "exit:a", "alpha:a"]
        assert space.used == {"alpha", "ramp", "distill", "temperature", "teacher", "freeze"}

    @pytest.mark.parametrize(
        ("strategies", "ramp", "searched"),
        [
            (("mixed",), ("constant",), True),
            (("mixed",), ("sdn",), False),
            (("mixed",), ("sdn", "linear"), True),
            (("layerwise",), ("constant",), False),
            (("mixed", "combined"), ("sdn",), True),
        ],
    )
    def test_weights_are_searched_where_somebody_chooses_them(self, strategies, ramp, searched):
        space = SearchSpace(strategies=("separate", *strategies), loss=LossSpace(ramp=ramp))
        names = {parameter.name for parameter in parameters(space, {"a": space.offered[:1]})}
        assert ("alpha:a" in names) == searched

    def test_parameters_become_a_loss_and_the_rest_is_what_is_fixed_or_lies_in_the_middle(self):
        spec = LOSS.spec({"loss:ramp": "sdn", "loss:distill": 0.9, "alpha:a": 2.0})
        assert (spec.ramp, spec.distill, spec.temperature, spec.teacher) == ("sdn", 0.9, 4.0, "final")
        assert LOSS.spec({}).distill == pytest.approx(0.5), "the geometric middle of 0.25 and 1"
        assert LOSS.spec({}).ramp == "linear"
        assert (spec.costs, spec.combine, spec.freeze) == ((), "softmax", "cubic")

    def test_a_search_starts_in_the_middle_or_next_to_a_given_loss(self):
        used = {"ramp", "distill", "temperature"}
        assert LOSS.start(used) == {"loss:ramp": "linear", "loss:distill": pytest.approx(0.5)}
        near = LossSpec(ramp="sdn", distill=0.1, temperature=7.0)
        assert LOSS.start(used, near) == {"loss:ramp": "sdn", "loss:distill": 0.25}
        assert LOSS.start(used, LossSpec(ramp="cosine", distill=0.7)) == {"loss:ramp": "linear", "loss:distill": 0.7}

    def test_where_it_starts_is_where_its_parameters_say(self):
        space = LossSpace(ramp=("constant", "cosine"), combine=("free", "max"), teacher=("final", "backbone"))
        used = {name for strategy in STRATEGIES for name in STRATEGIES[strategy].uses}
        start = space.start(used)
        assert {parameter.name for parameter in space.parameters(used)} == start.keys()
        assert space.spec(start) == space.spec({})

    def test_every_combination_of_options_is_listed(self):
        listed = list(LossSpace(ramp=("constant", "sdn"), combine=("softmax", "max")).options())
        assert [(loss.ramp, loss.combine) for loss in listed] == [
            ("constant", "softmax"), ("constant", "max"), ("sdn", "softmax"), ("sdn", "max"),
        ]  # fmt: skip


class TestStrategies:
    def test_those_that_train_are_in_order_and_the_first_listed_is_preferred(self):
        space = SearchSpace(strategies=("mixed", "separate", "distill"))
        assert space.trained == ("distill", "mixed")
        assert space.preferred == "mixed"

    def test_a_strategy_brings_its_own_ways_to_decide(self):
        loss = LossSpace(combine=("softmax", "average"))
        space = SearchSpace(strategies=("separate", "mixed", "combined"), loss=loss, criteria=("margin",))
        assert space.scorings_of("mixed", LossSpec()) == space.scorings == (("margin", "own"),)
        assert space.scorings_of("combined", LossSpec()) == (("margin", "own"), ("max_prob", "combined"))
        assert space.scorings_of("combined", LossSpec(combine="average"))[1] == ("max_prob", "average")
        assert {"max_prob/combined", "max_prob/average"} <= set(space.decisions), "devices measure them"

    def test_what_comes_with_a_strategy_cannot_be_listed(self):
        with pytest.raises(ValidationError, match="comes with the strategy `combined`"):
            SearchSpace(answers=("own", "combined"))
