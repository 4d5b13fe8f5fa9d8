"""Names and content keys of designs."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from eesearch.core.design import (
    Design,
    ExitId,
    ExitSpec,
    HeadSpec,
    LossSpec,
    TapSpec,
    TrainSpec,
    content_key,
    place_of,
    rows_of,
)
from eesearch.core.registry import STRATEGIES


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (HeadSpec(), "linear-avg1"),
        (HeadSpec(kind="mlp", hidden=(64, 32), pool="mixed", size=2), "mlp64x32-mixed2"),
        (HeadSpec(kind="conv", pool="none", channels=16), "conv16-map"),
        (HeadSpec(kind="dsconv", pool="avg", size=4), "dsconv32-avg4"),
    ],
)
def test_heads_are_named_by_what_they_are(spec, name):
    assert spec.name == name


def test_a_head_on_the_full_map_reads_the_same_tap_whatever_its_size():
    assert HeadSpec(kind="conv", pool="none", size=3).tap == TapSpec(pool="none", size=1)


def design(strategy="joint", alpha=1.0, seed=0, cut="a", before=None, **loss):
    exits = (ExitSpec(cut=cut, head=HeadSpec(), alpha=alpha),)
    return Design(
        backbone="b",
        data="d",
        strategy=strategy,
        exits=exits,
        train=TrainSpec(),
        seed=seed,
        loss=LossSpec(**loss),
        before=before,
    )


def test_keys_differ_when_training_would():
    keys = {d.key for d in (design(), design(alpha=0.5), design(seed=1), design(cut="b"), design("separate"))}
    assert len(keys) == 5


def test_alpha_does_not_count_where_the_strategy_ignores_it():
    assert design("separate", alpha=0.5).key == design("separate").key


OTHERS = {
    "alpha": 0.5,
    "before": TrainSpec(epochs=1),
    "ramp": "sdn",
    "combine": "max",
    "cost_weight": 0.7,
    "distill": 0.9,
    "temperature": 9.0,
    "teacher": "final",
    "freeze": "linear",
    "costs": (0.5, 1.0),
}


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_a_field_counts_if_and_only_if_the_strategy_uses_it(strategy):
    assert OTHERS.keys() == {"alpha", "before", *LossSpec.model_fields}
    plain = design(strategy)
    counting = {name for name, value in OTHERS.items() if design(strategy, **{name: value}).key != plain.key}
    assert counting == set(STRATEGIES[strategy].uses)


def test_heads_with_and_without_a_gate_have_names_of_their_own():
    assert [HeadSpec(gate=gate).name for gate in ("none", "linear", "mlp")] == [
        "linear-avg1",
        "linear-avg1-gate",
        "linear-avg1-mlpgate",
    ]


def test_content_key_ignores_the_order_of_names():
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})
    assert content_key(1, 2) != content_key(2, 1)


def test_a_design_needs_exits_and_each_only_once():
    spec = ExitSpec(cut="a", head=HeadSpec())
    for exits, why in (((), "at least one exit"), ((spec, spec), "only once per cut")):
        with pytest.raises(ValidationError, match=why):
            Design(backbone="b", data="d", strategy="separate", exits=exits, train=TrainSpec())


def test_an_exit_without_tier_is_written_as_ever():
    bare = ExitId(network="n", cut="c", head="h")
    placed = bare.model_copy(update={"tier": "edge", "link": "8bit@b"})
    assert bare.model_dump_json() == '{"network":"n","cut":"c","head":"h"}'
    assert ExitId.model_validate_json(placed.model_dump_json()) == placed != bare
    assert placed.bare == bare.bare == bare
    assert (str(bare), str(placed)) == ("n:c:h", "n:c:h@edge 8bit@b")


def test_whoever_names_no_tier_means_the_first():
    bare = ExitId(network="n", cut="c", head="h")
    phone, edge = (bare.model_copy(update={"tier": tier}) for tier in ("phone", "edge"))
    coded = edge.model_copy(update={"link": "8bit@b"})
    rows = rows_of((coded, phone, edge))
    assert [rows[place_of(e)] for e in (coded, phone, edge, bare)] == [0, 1, 2, 1]


def test_the_head_that_says_nothing_has_one_name():
    assert HeadSpec(kind="none", pool="none").name == "none"
    assert ExitId(network="n", cut="c", head="none").is_none
