"""Terminal tables of profiles and plans, of one network and of several."""

import io
from dataclasses import replace

from rich.console import Console

from eesearch.reporting.tables import plan_table, profile_tables, solved_table
from eesearch.study.estimate import Plan, PlannedCut, PlannedNetwork
from eesearch.training.cache import Caching
from tests.unit.core.test_cascades import pair


def shown(*tables):
    console = Console(file=io.StringIO(), width=110)
    console.print(*tables)
    return " ".join(console.file.getvalue().split())


def network(name, cuts=(), samples=(0, 0), cache=0):
    places = tuple(PlannedCut(f"{name}/{cut}", (4, 8), 0.25, ("linear-avg1", "conv")) for cut in cuts)
    return PlannedNetwork(name, 3e6, places, cache, samples, {})


def test_a_plan_tells_each_network_and_totals():
    networks = (network("small", ["a", "b"], (100, 0), 2_000_000), network("whole"), network("large", ["c"], (30, 0)))
    told = shown(plan_table(Plan(networks, 1, {"profile": 60.0, "verify": 30.0})))
    for words in ("small/a 4x8 25.0% linear-avg1", "small/b", "whole/output 100.0% as a whole", "large/c"):
        assert words in told
    assert "networks: small 3.000 M MACs, whole 3.000 M MACs" in told
    assert "cached hidden states: 2.0 MB, of one network at a time" in told
    assert "training samples: 130 for the bank" in told


def test_a_plan_of_one_network_names_none():
    told = shown(plan_table(Plan((network("backbone", ["a"], (100, 5)),), 6, {"profile": 60.0})))
    assert "networks" not in told
    assert "trainings: 6 (the bank, then 5 designs) training samples: 100 for the bank, at most 5 for each" in told
    told = shown(plan_table(Plan((network("backbone", ["a"], (110, 5)),), 6, {"profile": 60.0}, banks=2)))
    assert (
        "trainings: 6 (a draft, the bank, then 4 designs) training samples: 110 for a draft, the bank, at most" in told
    )


def test_a_plan_without_a_bank_tells_of_none():
    told = shown(plan_table(Plan((network("backbone", ["a"], (0, 5)),), 6, {"profile": 60.0}, banks=0)))
    assert "cached hidden states: of a design 0.0 MB, in memory" in told
    assert "trainings: 6 (6 designs) training samples: at most 5 for each design time" in told
    assert "bank" not in told.replace("backbone", "")
    told = shown(plan_table(Plan((network("backbone", ["a"], (0, 5)),), 1, {"profile": 60.0}, banks=0)))
    assert "trainings: 1 (1 design) " in told


def test_a_profile_of_several_networks_has_a_table_of_each():
    tables = profile_tables(pair())
    assert [str(table.title) for table in tables] == ["cpu:eager:t1:b1: a", "cpu:eager:t1:b1: b"]
    told = shown(*tables)
    assert "a/1" in told
    assert "b/1" in told


def test_a_plan_tells_where_hidden_states_would_go(tmp_path):
    sizes = (network("backbone", ["a"], (100, 5), cache=10**9),)
    told = shown(plan_table(Plan(sizes, 6, {"profile": 60.0}, Caching(16.0, tmp_path))))
    assert "cached hidden states: 1,000.0 MB, in memory; at most 16 GB (--max-cache)" in told
    large = (replace(sizes[0], design_cache_bytes=2 * 10**9),)
    told = shown(plan_table(Plan(large, 6, {"profile": 60.0}, Caching(16.0, tmp_path))))
    assert "1,000.0 MB, in memory; of a design 2,000.0 MB, on disk in" in told
    told = shown(plan_table(Plan(large, 6, {"profile": 60.0}, Caching(1.5, tmp_path))))
    assert "of a design 2,000.0 MB, over the limit, so computed anew in every epoch; at most 1.5 GB" in told


def test_cuts_that_look_like_numbers_stay_what_they_are():
    row = {
        "exits": "0.3|0.30|output",
        "heads": "a|b|own",
        "thresholds": "0.123456789|inf|-inf",
        "accuracy": 0.912345678,
    }
    told = shown(solved_table([row], "exact"))
    assert "0.3|0.30|output" in told
    assert "0.1235|inf|-inf" in told
    assert "0.912346" in told
