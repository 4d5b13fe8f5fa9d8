"""What is said beside the figures of a run."""

import pytest

from eesearch.study.cautions import cautions, times

CLASSES = ("cat", "dog", "eel")


def test_nothing_is_said_where_there_is_nothing_to_say():
    assert cautions({"most_frequent": {"cal": 0.4}}, CLASSES, 0.9) == []
    assert cautions({}, CLASSES, 0.9) == []


def test_a_network_that_has_learnt_nothing():
    (told,) = cautions({"most_frequent": {"cal": 0.4}}, CLASSES, 0.405)
    assert told.startswith(
        "The network is right about 40.5% of calibration, and who always answers the same class about"
    )


def test_weights_of_both_splits_once_if_they_are_the_same():
    same = {"class_weights": {"cal": [2, 3, 2], "test": [4, 6, 4]}}
    assert cautions(same, CLASSES, 0.9) == ["Accuracies are weighted by class: dog counts 1.5, any other 1."]
    other = {"class_weights": {"cal": [1, 3, 1], "test": [1, 2, 5]}}
    assert cautions(other, CLASSES, 0.9) == [
        "Accuracies on calibration are weighted by class: dog counts 3, any other 1.",
        "Accuracies on test are weighted by class: eel counts 5, dog counts 2, any other 1.",
    ]


def test_of_many_classes_those_that_count_most_are_told():
    weights = list(range(1, 31))
    (told,) = cautions({"class_weights": {"cal": weights, "test": weights}}, [f"c{n}" for n in weights], 0.9)
    assert "c30 counts 30, c29 counts 29" in told
    assert told.endswith("c19 counts 19, ..., any other 1.")


@pytest.mark.parametrize(("ratio", "text"), [(0.42, "0.42 x"), (0.1, "0.10 x"), (0.052, "0.05 x"), (0.0031, "0.003 x")])
def test_ratios_never_read_as_nothing(ratio, text):
    assert times(ratio) == text
