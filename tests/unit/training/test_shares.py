import numpy as np
import pytest

from eesearch.core.errors import DataError
from eesearch.training.shares import Share, split_test, take_share


def test_a_share_is_stratified_seeded_and_in_order():
    y = np.arange(40) % 4
    share = Share("cal", "calibration", 0.25, "Change it.")
    rest, taken = take_share(y, share, "train", 0)
    assert set(np.bincount(y[taken])) == {2, 3}
    assert sorted([*rest, *taken]) == list(range(40))
    assert (np.diff(rest) > 0).all()
    assert (np.diff(taken) > 0).all()
    assert (
        take_share(y, share, "train", 0)[1].tolist() == taken.tolist() != take_share(y, share, "train", 1)[1].tolist()
    )


def test_classes_may_have_any_names():
    rest, taken = split_test(np.array(["cat", "dog"] * 5), 0.4)
    assert (len(rest), len(taken)) == (6, 4)


def test_refuses_what_leaves_a_side_without_a_class():
    with pytest.raises(DataError, match=r"share out of the only split; got 1 of 10 samples for test, 5 in the rarest"):
        split_test(np.arange(10) % 2, 0.1)
    with pytest.raises(DataError, match="1 in the rarest class"):
        split_test(np.array([0] * 9 + [1]), 0.5)


@pytest.mark.parametrize("share", [0, 1.0, "0.2", True])
def test_refuses_what_is_no_share(share):
    with pytest.raises(DataError, match="a number between 0 and 1"):
        split_test(np.arange(10) % 2, share)
