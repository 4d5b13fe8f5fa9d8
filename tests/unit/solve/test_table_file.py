"""Tables from files: both forms, names, and one clear error for everything that is no table."""

from __future__ import annotations

import numpy as np
import pytest

from eesearch.core.design import LAST_RESORT
from eesearch.core.errors import DataError
from eesearch.core.tables import ExitTable
from eesearch.solve.stream import ScoreTable
from eesearch.solve.table_file import read_table

LOGITS = np.arange(24, dtype=np.float64).reshape(3, 4, 2) % 5
LABELS = np.array([0, 1, 1, 0], np.uint8)
SCORES = np.array([[0.1, 0.2, 0.3, 0.4], [3.0, 2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
CORRECT = np.array([[1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]])


@pytest.fixture
def written(tmp_path):
    """Writes a table of these arrays; None leaves one out."""

    def write(**arrays):
        path = tmp_path / "table.npz"
        np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
        return path

    return write


@pytest.fixture
def logits(written):
    """Writes a table of logits with some arrays changed."""
    return lambda **changed: written(**{"logits": LOGITS, "labels": LABELS} | changed)


@pytest.fixture
def scores(written):
    """Writes a table of scores with some arrays changed."""
    return lambda **changed: written(**{"scores": SCORES, "correct": CORRECT} | changed)


def names(table):
    return [(e.cut, e.head) for e in table.exits]


def test_logits_make_an_exit_table(logits):
    table = read_table(logits())
    assert isinstance(table, ExitTable)
    assert (table.logits.dtype, table.labels.dtype, table.split) == (np.float32, np.int64, "cal")
    np.testing.assert_array_equal(table.logits, LOGITS)
    np.testing.assert_array_equal(table.labels, LABELS)
    assert names(table) == [("1", "head1"), ("2", "head1"), ("output", "own")]


def test_scores_make_a_score_table(scores):
    table = read_table(scores(), split="test")
    assert isinstance(table, ScoreTable)
    assert (table.correct.dtype, table.labels, table.split) == (np.bool_, None, "test")
    np.testing.assert_array_equal(table.correct, CORRECT)
    assert table.row(table.exits[1]) == 1


@pytest.mark.parametrize(
    ("values", "kept"),
    [(np.float32([0.1, 0.2]), np.float32), (np.uint16([7, 65535]), np.float32), ([0.1, 0.1 + 1e-16], np.float64)],
)
def test_scores_are_halved_only_where_nothing_is_lost(scores, values, kept):
    given = np.array([values])
    table = read_table(scores(scores=given, correct=np.ones((1, 2), np.bool_)))
    assert table.scores.dtype == kept
    np.testing.assert_array_equal(table.scores, given)


def test_names_are_taken_and_several_heads_share_a_cut(logits):
    cuts, heads = np.array(["a", "a", "output"]), np.array(["x", "y", "z"])
    assert names(read_table(logits(cuts=cuts))) == [("a", "head1"), ("a", "head2"), ("output", "own")]
    assert names(read_table(logits(cuts=cuts, heads=heads))) == [("a", "x"), ("a", "y"), ("output", "own")]


def test_content_tells_splits_apart(logits):
    first, second = read_table(logits()).samples, read_table(logits(labels=1 - LABELS)).samples
    assert first == read_table(logits()).samples
    assert first != second


def poisoned(array, value):
    changed = array.astype(np.float64)
    changed.flat[3] = value
    return changed


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"labels": None}, "holds no table; got arrays logits"),
        ({"scores": SCORES}, "holds no table; got arrays labels, logits, scores"),
        ({"label": LABELS}, "unknown arrays; got label;"),
        ({"logits": LOGITS[0]}, r"do not fit together; got logits \[4, 2\], labels \[4\]"),
        ({"logits": np.float32(1.0)}, "has no rows"),
        ({"logits": LOGITS[:0]}, "has no rows"),
        ({"logits": LOGITS[:, :0], "labels": LABELS[:0]}, "do not fit together"),
        ({"logits": LOGITS[:, :, :1]}, "do not fit together"),
        ({"labels": LABELS[:3]}, r"do not fit together; got logits \[3, 4, 2\], labels \[3\]"),
        ({"logits": poisoned(LOGITS, np.nan)}, "not all finite; got 1 of 24"),
        ({"logits": poisoned(LOGITS, 1e300)}, "not all finite; got 1 of 24"),
        ({"logits": LOGITS.astype(str)}, "must be numbers"),
        (
            {"labels": LABELS.astype(np.int64) - 1},
            "out of range; got int64 from -1 to 0; expected integers from 0 to 1",
        ),
        ({"labels": LABELS + 1}, "out of range; got uint8 from 1 to 2"),
        ({"labels": LABELS.astype(np.float32)}, "no integers; got float32"),
        ({"cuts": np.array(["a", "output"])}, r"cuts in .* must be names; got <U6 \[2\]; expected 3 strings"),
        ({"heads": np.arange(3)}, r"heads in .* must be names; got int64"),
        ({"cuts": np.array(["a", "b", "c"])}, "out of order; got .* alone at 'output'"),
        ({"cuts": np.array(["a", "output", "output"])}, "out of order"),
        ({"logits": np.tile(LOGITS, (2, 1, 1))[:4], "cuts": np.array(["a", "b", "a", "output"])}, "out of order"),
        ({"cuts": np.array(["a", "a", "output"]), "heads": np.array(["x", "x", "own"])}, "names of their own"),
        ({"cuts": np.array(["a", LAST_RESORT, "output"])}, "names of their own"),
    ],
)
def test_refuses_what_is_no_table_of_logits(logits, changed, words):
    with pytest.raises(DataError, match=words):
        read_table(logits(**changed))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"correct": None}, "holds no table; got arrays scores"),
        ({"labels": LABELS}, "holds no table"),
        ({"correct": CORRECT[:2]}, r"do not fit together; got scores \[3, 4\], correct \[2, 4\]"),
        ({"scores": SCORES[0]}, "do not fit together"),
        ({"correct": CORRECT + 1}, "must say yes or no"),
        ({"correct": CORRECT - 1}, "must say yes or no"),
        ({"correct": CORRECT.astype(np.float32)}, "must say yes or no; got float32"),
        ({"scores": poisoned(SCORES, -np.inf)}, "not all finite; got 1 of 12"),
        ({"scores": SCORES > 0}, "must be numbers; got bool"),
    ],
)
def test_refuses_what_is_no_table_of_scores(scores, changed, words):
    with pytest.raises(DataError, match=words):
        read_table(scores(**changed))


def test_refuses_what_is_no_npz(tmp_path, logits):
    missing, text, single, cut = (tmp_path / name for name in ("none.npz", "text.npz", "single.npy", "cut.npz"))
    text.write_text("logits")
    np.save(single, LOGITS)
    cut.write_bytes(logits().read_bytes()[:200])
    with pytest.raises(DataError, match="there is no such file"):
        read_table(missing)
    for path in (text, single, cut, tmp_path):
        with pytest.raises(DataError, match=r"cannot read .* expected an .npz file with logits"):
            read_table(path)


def test_never_unpickles(logits):
    with pytest.raises(DataError, match="Python objects are never loaded"):
        read_table(logits(cuts=np.array(["a", "b", "output"], object)))
