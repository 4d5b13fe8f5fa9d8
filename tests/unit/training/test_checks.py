import numpy as np
import pytest

from eesearch.core.errors import DataError
from eesearch.training.checks import check_classes, check_splits, read_classes, read_split


@pytest.mark.parametrize(
    ("given", "kept"),
    [(np.uint8, np.uint8), (np.bool_, np.uint8), (np.int16, np.int64), (np.float64, np.float32)],
)
def test_samples_and_labels_become_what_torch_can_use(given, kept):
    x, y = read_split("train", np.ones((2, 3), given), np.array([0, 1], np.uint8))
    assert x.dtype == kept
    assert y.dtype == np.int64


def test_samples_of_the_right_type_are_not_copied():
    x = np.ones((2, 3), np.float32)
    assert read_split("train", x, np.array([0, 1]))[0] is x


def test_class_names_default_to_numbers():
    assert read_classes(None, np.array([0, 2])) == ("0", "1", "2")
    assert read_classes(np.array(["cat", "dog"]), np.array([0])) == ("cat", "dog")


def test_a_class_missing_from_a_split_is_named():
    labels = {"train": np.array([0, 1, 2]), "cal": np.array([0, 0])}
    with pytest.raises(DataError, match=r"the cal split has no sample of class dog, bird"):
        check_classes(labels, ("cat", "dog", "bird"))


def test_long_lists_are_cut_short():
    with pytest.raises(DataError, match=r"got 2, 3, 4, 5, 6, 7, 8, 9, \.\.\. \(98 in all\)"):
        check_classes({"train": np.arange(100)}, ("cat", "dog"))


def test_splits_must_be_alike():
    images = {"train": np.zeros((2, 1, 8, 8)), "test": np.zeros((9, 1, 8, 8))}
    check_splits(images)
    with pytest.raises(DataError, match=r"test differ.*\[8, 8, 1\].*\[1, 8, 8\]"):
        check_splits({**images, "test": np.zeros((9, 8, 8, 1))})
