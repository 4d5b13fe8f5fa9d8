"""What a policy may be; fits."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest

from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.errors import InputError, PolicyError
from eesearch.core.policy import Fit, Policy, Scoring, Stop, decision_named
from eesearch.core.store import Store


def exit_at(cut, network="n"):
    return ExitId(network=network, cut=cut, head=OWN if cut == OUTPUT else "linear-avg1")


def policy(*stops):
    return Policy(stops=[Stop(exit=e, threshold=t) for e, t in stops], criterion="max_prob")


def test_names_its_exits_and_thresholds():
    got = policy((exit_at("a"), 0.5), (exit_at("b"), inf), (exit_at(OUTPUT), -inf))
    assert got.exits == (exit_at("a"), exit_at("b"), exit_at(OUTPUT))
    assert got.thresholds == (0.5, inf, -inf)


def test_survives_json_with_its_infinite_thresholds():
    before = policy((exit_at("a"), inf), (exit_at("b"), 0.1 + 0.2), (exit_at(OUTPUT), -inf))
    assert Policy.model_validate_json(before.model_dump_json()) == before


@pytest.mark.parametrize("stops", [[], [(exit_at("a"), 0.5)], [(exit_at("a"), -inf), (exit_at("b"), 0.5)]])
def test_must_end_with_a_stop_for_everyone(stops):
    with pytest.raises(PolicyError, match="a last stop with threshold -inf"):
        policy(*stops)


def test_refuses_a_threshold_that_is_not_a_number():
    with pytest.raises(PolicyError, match="not a number"):
        policy((exit_at("a"), nan), (exit_at(OUTPUT), -inf))


def test_refuses_the_same_exit_twice():
    with pytest.raises(PolicyError, match="the same exit twice"):
        policy((exit_at("a"), 0.5), (exit_at("a"), -inf))


def test_refuses_to_enter_a_network_twice_but_not_two_networks():
    policy((exit_at("a"), 0.5), (exit_at("b"), 0.5), (exit_at("a", "m"), -inf))
    with pytest.raises(PolicyError, match="the same network twice"):
        policy((exit_at("a"), 0.5), (exit_at("a", "m"), 0.5), (exit_at("b"), -inf))


def fit(values=(1.0, 2.0)):
    """Two exits, two folds, three samples: row 0 deployed, then twice and three times as much."""
    deployed = np.array(values, np.float32)[:, None]
    parameters = np.stack([deployed, 2 * deployed, 3 * deployed])
    return Fit("temperature", (exit_at("a"), exit_at(OUTPUT)), parameters, np.array([0, 1, 0], np.int16))


def test_fit_finds_rows_and_refuses_what_it_does_not_know():
    np.testing.assert_array_equal(fit().rows((exit_at(OUTPUT), exit_at("a"))), [1, 0])
    with pytest.raises(PolicyError, match="the temperature fit knows nothing of exit n:b"):
        fit().rows((exit_at("b"),))


def test_fit_key_depends_on_all_that_it_holds():
    one = fit()
    different = [
        one,
        fit((1.0, 2.5)),
        replace(one, kind="other"),
        replace(one, exits=(exit_at("b"), exit_at(OUTPUT))),
        replace(one, parameters=one.parameters + np.float32(1e-6)),
        replace(one, parameters=one.parameters.reshape(2, 3, 1)),
        replace(one, fold=one.fold[::-1] + 1),
    ]
    assert len({each.key for each in different}) == 7
    assert one.key == fit().key == replace(one, parameters=np.asfortranarray(one.parameters)).key
    assert len(one.key) == 16


def test_a_policy_requires_the_fit_that_it_was_chosen_with():
    stops = (Stop(exit=exit_at(OUTPUT), threshold=-inf),)
    plain = Policy(stops=stops, criterion="max_prob")
    fitted = Policy(stops=stops, criterion="max_prob", fits=(fit().key,))
    plain.require(())
    fitted.require([fit()])
    for refusing, given in ((plain, [fit()]), (fitted, ()), (fitted, [fit((1.0, 2.5))]), (fitted, [fit(), fit()])):
        with pytest.raises(PolicyError, match="do not belong together"):
            refusing.require(given)


def test_fit_survives_the_store(tmp_path):
    store = Store(tmp_path)
    store.put("fit", "k", *fit().arrays())
    back = Fit.from_arrays(*store.get("fit", "k"))
    assert back.key == fit().key
    assert back.exits == fit().exits


def test_scoring_takes_each_exits_values_of_a_fold_or_as_deployed():
    scoring = Scoring(fits=(fit(), replace(fit((5.0, 6.0)), kind="ensemble")))
    deployed = scoring.parameters((exit_at(OUTPUT), exit_at("a")))
    np.testing.assert_array_equal(deployed["temperature"], [[2.0], [1.0]])
    np.testing.assert_array_equal(deployed["ensemble"], [[6.0], [5.0]])
    np.testing.assert_array_equal(scoring.parameters((exit_at("a"),), fold=1)["temperature"], [[3.0]])
    assert Scoring().parameters((exit_at("a"),), fold=1)["temperature"].tolist() == [[1.0]]


def test_a_fit_without_folds_is_used_everywhere_as_deployed():
    plain = replace(fit(), parameters=fit().parameters[:1], fold=np.empty(0, np.int16))
    assert Scoring(fits=(plain,)).parameters((exit_at("a"),), fold=0)["temperature"].tolist() == [[1.0]]


def test_scoring_refuses_two_fits_of_a_kind_and_different_folds():
    with pytest.raises(PolicyError, match="one fit of a kind"):
        Scoring(fits=(fit(), fit((1.0, 3.0))))
    with pytest.raises(PolicyError, match="different folds"):
        Scoring(fits=(fit(), replace(fit(), kind="ensemble", fold=np.array([1, 0, 0], np.int16))))


def decision_of(criterion, answer, fits=()):
    return Scoring(criterion, answer, fits).decision


def test_scoring_refuses_a_decision_without_its_fit_and_impossible_pairs():
    with pytest.raises(PolicyError, match=r"needs a fit; got .*temperature.*; expected a fit of kind ensemble"):
        decision_of("max_prob", "mean", (fit(),))
    with pytest.raises(PolicyError, match="gives its own answer"):
        decision_of("patience", "most_confident")
    with pytest.raises(InputError, match="there is no answer 'loudest'"):
        decision_of("max_prob", "loudest")


def test_decisions_are_named_by_criterion_and_answer():
    stops = (Stop(exit=exit_at(OUTPUT), threshold=-inf),)
    assert Policy(stops=stops, criterion="margin").decision == "margin"
    assert Policy(stops=stops, criterion="margin", answer="mean").decision == "margin/mean"
    assert decision_named("margin/most_confident").memory == "all"
