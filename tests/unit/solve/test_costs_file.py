"""Costs from files: both forms against steps worked out by hand, and one clear error for everything else."""

from __future__ import annotations

import json
from math import inf

import numpy as np
import pytest

from eesearch.core.costs import DeviceProfile, LatencyProfile, stage_costs
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.errors import CostError
from eesearch.solve.costs_file import read_costs
from eesearch.solve.stream import ScoreTable

EXITS = tuple(
    ExitId(network="t", cut=cut, head=head) for cut, head in [("a", "x"), ("a", "y"), ("b", "x"), (OUTPUT, OWN)]
)
TABLE = ScoreTable(np.zeros((4, 1), np.float32), np.ones((4, 1), np.bool_), EXITS)
MACS = {"axis": "macs", "prefix": [10, 30, 60], "head": [1, 2, 3, 0]}
STEP = [[11, 12, 33, 60], [None, None, 23, 50], [None, None, 23, 50], [None, None, None, 30], [None] * 4]


@pytest.fixture
def read(tmp_path):
    """What a file with this content says about the table."""

    def write_and_read(content):
        path = tmp_path / "costs.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_costs(path, TABLE)

    return write_and_read


def test_prefixes_and_heads_make_steps(read):
    (costs,) = read(MACS)
    assert (costs.axis, costs.exits, costs.backbone) == ("macs", EXITS, 60.0)
    np.testing.assert_array_equal(costs.step, _with_inf(STEP))


def _with_inf(rows):
    return np.array([[inf if cost is None else cost for cost in row] for row in rows])


def test_explicit_steps_are_taken(read):
    (costs,) = read({"axis": "bytes", "step": STEP})
    assert (costs.axis, costs.backbone) == ("bytes", 60.0)
    np.testing.assert_array_equal(costs.step, _with_inf(STEP))
    assert read({"axis": "bytes", "step": STEP, "backbone": 55.5})[0].backbone == 55.5


def test_decisions_and_resumptions_are_those_of_a_measured_profile(read):
    heads = {"a": {"x": 0.5, "y": 0.25}, "b": {"x": 0.125}}
    latency = LatencyProfile(
        prefix_ms=(1.0, 2.0, 4.0), head_ms=heads, decision_ms={"max_prob": 0.03125}, resume_ms=0.0625,
        timings={}, noise=0.0,
    )  # fmt: skip
    profile = DeviceProfile(
        device="d", fingerprint={}, content="", cuts=("a", "b"), macs_prefix=(1, 2, 4), macs_head=heads, latency=latency
    )
    timed = {"axis": "latency_ms", "prefix": [1, 2, 4], "head": [0.5, 0.25, 0.125, 0]}
    (costs,) = read(timed | {"decision": 0.03125, "resume": 0.0625})
    expected = stage_costs(profile, EXITS, "max_prob", "latency_ms")
    np.testing.assert_array_equal(costs.step, expected.step)
    assert costs.backbone == expected.backbone


def test_a_list_gives_several_axes(read):
    costs = read([MACS, {"axis": "energy_mj", "prefix": [1, 1, 2], "head": [0, 0, 0, 0], "backbone": 1.5}])
    assert [(c.axis, c.backbone) for c in costs] == [("macs", 60.0), ("energy_mj", 1.5)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot read .*costs.json; got Expecting property name"),
        ([], r"must give each axis once; got \[\]"),
        ([MACS, MACS], "must give each axis once"),
        (7, "has mistakes"),
        ({"axis": "macs"}, "either prefix and head, or step"),
        (MACS | {"step": STEP}, "either prefix and head, or step"),
        ({"axis": "macs", "prefix": [1, 2, 3]}, "either prefix and head, or step"),
        (MACS | {"heads": [], "axis": "flops"}, "axis: Input should be 'macs'.*; heads: unknown field"),
        ({"prefix": [1], "head": [1]}, "axis: is needed"),
        (MACS | {"prefix": [10, 30, 29]}, r"a longer prefix cannot cost less; got \[10.0, 30.0, 29.0\]"),
        (MACS | {"prefix": [10, "b", 60]}, r"prefix\.1: "),
        (MACS | {"prefix": [10, -1, 60]}, r"prefix\.1: "),
        ('{"axis": "macs", "prefix": [NaN, 30, 60], "head": [1, 2, 3, 0]}', r"prefix\.0: "),
        (MACS | {"prefix": [0, 0, 0]}, "must cost something"),
        (
            MACS | {"prefix": [10, 60]},
            r"got 2 prefixes, 4 heads, the last 0.0; expected 3 prefixes \(of a, b, output\)",
        ),
        (MACS | {"head": [1, 2, 3]}, "got 3 prefixes, 3 heads, the last 3.0; expected .* 4 heads, the last 0"),
        (MACS | {"head": []}, "0 heads, the last missing"),
        (MACS | {"head": [1, 2, 3, 4]}, "the last 4.0; expected"),
        (MACS | {"backbone": 0}, "backbone: "),
        ({"axis": "macs", "step": STEP, "decision": 1}, "holds its decision"),
        ({"axis": "macs", "step": STEP[1:]}, r"got 4 rows of \[4\]; expected 5 rows of 4"),
        ({"axis": "macs", "step": [row[:3] for row in STEP]}, r"got 5 rows of \[3\]"),
        ({"axis": "macs", "step": [*STEP[:3], [None, 1, None, 30], STEP[4]]}, "goes back; got b to a"),
        ({"axis": "macs", "step": [STEP[0], [1, None, 23, 50], *STEP[2:]]}, "goes back; got a to a"),
        ({"axis": "macs", "step": [[None] * 4, *STEP[1:]]}, "must cost something; got inf"),
    ],
)
def test_refuses_what_are_no_costs_of_this_table(read, content, words):
    with pytest.raises(CostError, match=words):
        read(content)


def test_refuses_what_cannot_be_read(tmp_path):
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CostError, match="there is no such file"):
        read_costs(tmp_path / "none.json", TABLE)
    for path in (tmp_path / "binary.json", tmp_path):
        with pytest.raises(CostError, match="cannot read"):
            read_costs(path, TABLE)
