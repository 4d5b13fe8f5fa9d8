"""Streamed tables against tables that were held whole."""

from __future__ import annotations

import numpy as np
import pytest

from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.errors import DataError, PolicyError
from eesearch.core.policy import Fit, Scoring
from eesearch.core.tables import ExitTable
from eesearch.exits.routing import score_table
from eesearch.solve.stream import ScoreTable, stream_scores

EXITS = (*(ExitId(network="t", cut=f"{k}", head="h") for k in range(4)), ExitId(network="t", cut=OUTPUT, head=OWN))


@pytest.fixture
def whole():
    rng = np.random.default_rng(0)
    return ExitTable(rng.normal(size=(5, 150, 3)).astype(np.float32), rng.integers(0, 3, 150), EXITS, "cal", "s")


def blocks(table, *sizes):
    ends = np.cumsum(sizes)
    for start, end in zip(ends - sizes, ends, strict=True):
        yield table.logits[:, start:end], table.labels[start:end]


@pytest.mark.parametrize("sizes", [(150,), (1, 63, 64, 22), (70, 70, 10)])
@pytest.mark.parametrize("criterion", ["max_prob", "entropy"])
def test_blocks_make_the_same_table_as_the_whole(whole, sizes, criterion):
    scoring = Scoring(criterion)
    streamed = stream_scores(blocks(whole, *sizes), EXITS, scoring)
    np.testing.assert_array_equal(streamed.scores, score_table(whole, scoring))
    np.testing.assert_array_equal(streamed.correct, whole.correct)
    np.testing.assert_array_equal(streamed.labels, whole.labels)
    assert (streamed.scores.dtype, streamed.correct.dtype) == (np.float32, np.bool_)
    assert streamed.exits == EXITS


def test_the_content_does_not_depend_on_the_blocks(whole):
    first, second = (stream_scores(blocks(whole, *sizes), EXITS, Scoring()) for sizes in [(150,), (100, 50)])
    assert first.samples == second.samples
    other = stream_scores(blocks(whole, 149), EXITS, Scoring())
    assert other.samples != first.samples


@pytest.mark.parametrize("split", ["cal", "test"])
def test_fits_follow_the_samples(whole, split):
    rng = np.random.default_rng(1)
    heat = rng.uniform(0.5, 2.0, (4, 5, 1)).astype(np.float32)
    scoring = Scoring(fits=(Fit("temperature", EXITS, heat, rng.integers(0, 3, 150).astype(np.int16)),))
    streamed = stream_scores(blocks(whole, 90, 60), EXITS, scoring, split=split)
    table = ExitTable(whole.logits, whole.labels, EXITS, split, "s")
    np.testing.assert_array_equal(streamed.scores, score_table(table, scoring))


@pytest.mark.parametrize(("folds", "words"), [(149, "fewer samples"), (151, "more samples")])
def test_refuses_a_fit_of_other_samples(whole, folds, words):
    fit = Fit("temperature", EXITS, np.ones((2, 5, 1), np.float32), np.zeros(folds, np.int16))
    with pytest.raises(PolicyError, match=words):
        stream_scores(blocks(whole, 75, 75), EXITS, Scoring(fits=(fit,)))


def test_keeps_no_block(whole):
    def spoiled():
        for logits, labels in blocks(whole, 50, 50, 50):
            block = logits.copy()
            yield block, labels
            block[:] = np.nan  # as a generator does that fills the same memory again

    streamed = stream_scores(spoiled(), EXITS, Scoring())
    np.testing.assert_array_equal(streamed.scores, score_table(whole, Scoring()))
    np.testing.assert_array_equal(streamed.correct, whole.correct)


def test_refuses_no_samples_other_shapes_and_scores_of_paths(whole):
    with pytest.raises(DataError, match="no sample"):
        stream_scores(iter(()), EXITS, Scoring())
    with pytest.raises(PolicyError, match="does not fit together"):
        stream_scores(blocks(whole, 150), EXITS[1:], Scoring())
    with pytest.raises(PolicyError, match="one exit"):
        stream_scores(blocks(whole, 150), EXITS, Scoring(answer="most_confident"))


def test_a_score_table_refuses_what_does_not_fit_and_exits_it_does_not_know():
    scores, correct = np.zeros((2, 3), np.float32), np.ones((2, 3), np.bool_)
    with pytest.raises(PolicyError, match="does not fit together"):
        ScoreTable(scores, correct[:, :2], EXITS[:2])
    with pytest.raises(PolicyError, match="does not fit together"):
        ScoreTable(scores, correct, EXITS)
    with pytest.raises(PolicyError, match="does not hold exit t:2:h"):
        ScoreTable(scores, correct, EXITS[:2]).row(EXITS[2])
