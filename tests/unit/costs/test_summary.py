import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from eesearch.core.costs import Timing
from eesearch.costs.summary import figures, never_decreasing, noise_between, percentile
from eesearch.costs.timer import Protocol, Rounds

VALUES = st.lists(st.floats(0.0, 100.0), min_size=1, max_size=20)


def rounds(*ms, settled=True):
    return Rounds(list(ms), 1.0, settled)


@settings(deadline=None)  # the first call imports
@given(VALUES)
def test_prefixes_are_repaired_as_isotonic_regression_does(values):
    found = never_decreasing(values)
    assert found == sorted(found)
    assert found == pytest.approx(IsotonicRegression().fit_transform(np.arange(len(values)), values), abs=1e-9)


def test_what_rises_already_stays_as_it_is():
    assert never_decreasing([0.1, 0.2, 0.2, 0.7]) == [0.1, 0.2, 0.2, 0.7]
    assert never_decreasing([]) == []


@settings(deadline=None)
@given(VALUES, st.integers(0, 100))
def test_percentiles_are_those_of_numpy(values, level):
    assert percentile(sorted(values), level) == pytest.approx(np.percentile(values, level), abs=1e-9)


def test_figures_are_the_fields_of_a_timing():
    timing = Timing(**figures([rounds(1.0, 2.0, 9.0), rounds(4.0, 3.0, 5.0)]))
    assert (timing.ms, timing.min, timing.rounds, timing.noisy) == (3.0, 1.0, 6, False)
    assert Timing(**figures([rounds(-1.0)])).ms == 0.0
    assert Timing(**figures([rounds(-1.0)])).noisy
    assert Timing(**figures([rounds(1.0, settled=False)])).noisy


def test_noise_is_the_median_spread_between_processes_and_never_below_the_floor():
    protocol = Protocol(floor=0.02)
    spread = [[rounds(1.0), rounds(1.1)], [rounds(1.0), rounds(1.2)], [rounds(1.0), rounds(2.0)]]
    assert noise_between(spread, protocol) == pytest.approx(0.2 / 1.1)
    assert noise_between([[rounds(1.0), rounds(1.0)]], protocol) == noise_between([], protocol) == 0.02
