"""What a policy may be; fits."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest

from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.errors import PolicyError
from eesearch.core.policy import Fit, Policy, Stop
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
    deployed = np.array(values, np.float32)
    return Fit("temperature", (exit_at("a"), exit_at(OUTPUT)), deployed, np.tile(deployed[:, None], (1, 3)))


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
        replace(one, calibration=one.calibration + np.float32(1e-7)),
        replace(one, calibration=one.calibration.reshape(3, 2)),
    ]
    assert len({each.key for each in different}) == 6
    assert one.key == fit().key == replace(one, calibration=np.asfortranarray(one.calibration)).key
    assert len(one.key) == 16


def test_a_policy_requires_the_fit_that_it_was_chosen_with():
    stops = (Stop(exit=exit_at(OUTPUT), threshold=-inf),)
    plain = Policy(stops=stops, criterion="max_prob")
    fitted = Policy(stops=stops, criterion="max_prob", fits=(fit().key,))
    plain.require(None)
    fitted.require(fit())
    for refusing, given in ((plain, fit()), (fitted, None), (fitted, fit((1.0, 2.5)))):
        with pytest.raises(PolicyError, match="do not belong together"):
            refusing.require(given)


def test_fit_survives_the_store(tmp_path):
    store = Store(tmp_path)
    store.put("fit", "k", *fit().arrays())
    back = Fit.from_arrays(*store.get("fit", "k"))
    assert back.key == fit().key
    assert back.exits == fit().exits
