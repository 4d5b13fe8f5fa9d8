"""Answers of several exits against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from eesearch.core.errors import InputError, PolicyError
from eesearch.core.policy import decision_named
from eesearch.exits.answers import combined_logits, goes_with

SAID = np.array([[[0.6, 0.3, 0.1]], [[0.2, 0.7, 0.1]]], np.float32)
LOGITS = np.log(SAID)


def answered(name, logits=LOGITS, **parameters):
    values = {"temperature": np.ones((len(logits), 1)), **parameters}
    return decision_named(name).function(logits, {kind: np.asarray(v, np.float32) for kind, v in values.items()})


def weights(*values):
    return np.array(values, np.float32)[:, None]


def test_average_pooling_is_the_mean_of_the_probabilities():
    answer, score = answered("margin/average")
    np.testing.assert_allclose(answer, [[0.4, 0.5, 0.1]], rtol=1e-5)
    assert score[0] == pytest.approx(0.1, rel=1e-4)


def test_max_pooling_takes_the_larger_probability_of_each_class():
    answer, score = answered("max_prob/max")
    np.testing.assert_allclose(answer, [[0.6 / 1.4, 0.7 / 1.4, 0.1 / 1.4]], rtol=1e-5)
    assert score[0] == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize("answer", ["average", "max"])
def test_pooled_probabilities_are_tempered(answer):
    cooled = np.sqrt(SAID[0, 0]) / np.sqrt(SAID[0, 0]).sum()
    expected = (cooled + SAID[1, 0]) / 2 if answer == "average" else np.maximum(cooled, SAID[1, 0])
    got, _ = answered(f"max_prob/{answer}", temperature=weights(2.0, 1.0))
    np.testing.assert_allclose(got[0], expected / expected.sum(), rtol=1e-5)


@pytest.mark.parametrize("answer", ["average", "max"])
def test_a_probability_that_is_zero_everywhere_stays_zero(answer):
    sure = np.array([[[1e4, 0.0, 0.0]], [[1e4, 0.0, 0.0]]], np.float32)
    got, score = answered(f"entropy/{answer}", sure)
    np.testing.assert_allclose(got, [[1.0, 0.0, 0.0]], atol=1e-30)
    assert score[0] == 1.0


class TestCombined:
    """Eq. 8 over the active exits."""

    Z = np.array([[[1.0, 0.0, 2.0]], [[0.0, 3.0, 1.0]], [[2.0, 2.0, 2.0]]], np.float32)

    def sums(self, *values):
        return combined_logits(self.Z[: len(values)], {"combination": weights(*values)})[0].tolist()

    def test_weights_are_renormalised_over_the_active_exits(self):
        assert self.sums(1.0, 3.0) == [0.25, 2.25, 1.25]
        assert self.sums(0.1, 0.3) == pytest.approx([0.25, 2.25, 1.25])
        assert self.sums(5.0) == [1.0, 0.0, 2.0]

    def test_a_single_exit_speaks_for_itself_whatever_its_weight(self):
        assert self.sums(-0.2) == [1.0, 0.0, 2.0]

    def test_weights_of_either_sign_that_sum_up_to_more_than_0(self):
        assert self.sums(-1.0, 2.0) == [-1.0, 6.0, 0.0]

    def test_weights_that_cancel_out_are_divided_by_their_absolute_values(self):
        assert self.sums(1.0, -1.0) == [0.5, -1.5, 0.5]
        assert self.sums(1.0, -3.0) == [0.25, -2.25, -0.25]

    def test_where_all_weights_vanish_the_last_exit_answers(self):
        assert self.sums(0.0, 0.0) == [0.0, 3.0, 1.0]

    def test_the_criterion_scores_the_softmax_of_the_sum_whatever_the_temperatures_are(self):
        p = np.exp([0.25, 2.25, 1.25])
        answer, score = answered(
            "max_prob/combined", self.Z[:2], temperature=weights(3.0, 5.0), combination=weights(1.0, 3.0)
        )
        np.testing.assert_allclose(answer[0], p / p.sum(), rtol=1e-5)
        assert score[0] == pytest.approx(max(p / p.sum()), rel=1e-5)

    def test_a_constant_in_the_logits_of_an_exit_does_not_matter(self):
        shifted = self.Z[:2] + np.array([[[5.0]], [[-3.0]]], np.float32)  # as gates in heads add one
        before, after = (
            answered("max_prob/combined", z, combination=weights(1.0, 3.0))[0] for z in (self.Z[:2], shifted)
        )
        np.testing.assert_allclose(after, before, rtol=1e-5)


@pytest.mark.parametrize(
    ("criterion", "answers"),
    [
        ("margin", {"own", "mean", "most_confident", "average", "max", "combined"}),
        ("patience", {"own"}),
        ("own_gate", {"own"}),
        ("gate", {"own"}),
        ("learned", {"own", "most_confident"}),
        ("learned_path", {"own"}),
    ],
)
def test_which_answers_a_criterion_can_score(criterion, answers):
    every = ("own", "mean", "most_confident", "average", "max", "combined")
    assert {answer for answer in every if goes_with(criterion, answer)} == answers


def test_what_was_learnt_for_single_exits_is_refused_for_a_mean():
    with pytest.raises(PolicyError, match=r"got answer 'mean'; expected answer 'own' or 'most_confident'"):
        decision_named("learned/mean")
    with pytest.raises(InputError, match="there is no answer 'loudest'"):
        goes_with("learned", "loudest")
