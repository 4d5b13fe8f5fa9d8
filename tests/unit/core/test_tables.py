"""ExitTable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.errors import PolicyError
from eesearch.core.store import Store
from eesearch.core.tables import ExitTable

A, END = ExitId(network="n", cut="a", head="linear-avg1"), ExitId(network="n", cut=OUTPUT, head=OWN)


@pytest.fixture
def table():
    logits = np.float32([[[1, 0], [0, 1], [0, 1]], [[1, 0], [1, 0], [0, 1]]])
    return ExitTable(logits, np.array([0, 1, 0]), (A, END), "cal", "hash")


def test_correct_and_accuracy(table):
    np.testing.assert_array_equal(table.correct, [[True, True, False], [True, False, False]])
    np.testing.assert_allclose(table.accuracy, [2 / 3, 1 / 3])


def test_row_finds_an_exit_or_says_what_there_is(table):
    assert table.row(END) == 1
    with pytest.raises(PolicyError, match=r"the cal table does not hold exit n:b:x; got .*n:a:linear-avg1"):
        table.row(ExitId(network="n", cut="b", head="x"))


def test_select_takes_rows_in_the_order_asked_for(table):
    other = table.select([END, A])
    np.testing.assert_array_equal(other.logits, table.logits[::-1])
    assert (other.exits, other.split, other.samples) == ((END, A), "cal", "hash")


def test_accuracy_goes_by_weights_which_every_other_table_of_these_samples_keeps(table):
    weights = np.arange(len(table.labels)) + 1
    weighed = replace(table, weights=weights)
    wanted = (weighed.correct * weights).sum(-1) / weights.sum()
    np.testing.assert_allclose(weighed.accuracy, wanted)
    assert (table.weight == 1).all()
    others = weighed.select(table.exits[:1]), ExitTable.from_arrays(*weighed.arrays()), ExitTable.join([weighed])
    for other in others:
        np.testing.assert_array_equal(other.weights, weights)
    assert ExitTable.from_arrays(*table.arrays()).weights is None


def test_survives_the_store(table, tmp_path):
    store = Store(tmp_path)
    store.put("table", "k", *table.arrays())
    back = ExitTable.from_arrays(*store.get("table", "k"))
    np.testing.assert_array_equal(back.logits, table.logits)
    np.testing.assert_array_equal(back.labels, table.labels)
    assert (back.exits, back.split, back.samples) == (table.exits, table.split, table.samples)
    assert (back.logits.dtype, back.labels.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 3, 2), (2, 3)])
def test_refuses_logits_that_do_not_fit(shape):
    with pytest.raises(PolicyError, match="does not fit together"):
        ExitTable(np.zeros(shape, np.float32), np.zeros(3, np.int64), (A, END), "cal", "hash")
