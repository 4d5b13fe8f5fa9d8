from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset, TensorDataset

from eesearch.core.errors import DataError
from eesearch.training.data import make_dataset
from eesearch.training.images import Asked
from eesearch.training.rows import Columns, Wanted, dataset_arrays, number_labels

WANTED = Wanted("mine")
ASKED = Wanted("mine", asked=Asked(), by_args=True)


class Rows:
    """A map-style data set."""

    def __init__(self, *rows, **attributes):
        self.rows = rows
        vars(self).update(attributes)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, row):
        return self.rows[row]


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(2), 0


def pairs(*labels, sample=lambda n: torch.full((2,), float(n))):
    return Rows(*((sample(n), label) for n, label in enumerate(labels)))


def refused(given, *parts, wanted=WANTED):
    with pytest.raises(DataError) as caught:
        dataset_arrays(given, wanted)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("pair", [False, True])
def test_tensors(pair):
    train = TensorDataset(torch.arange(12.0).reshape(6, 2), torch.arange(6) % 2)
    test = TensorDataset(torch.zeros(4, 2), torch.arange(4) % 2)
    arrays = dataset_arrays((train, test) if pair else {"train": train, "test": test}, WANTED)
    assert arrays["x_train"].tolist() == np.arange(12.0).reshape(6, 2).tolist()
    assert arrays["x_train"].dtype == np.float32
    assert arrays["y_train"].tolist() == [0, 1, 0, 1, 0, 1]
    assert "class_names" not in arrays


def test_a_live_data_set_is_taken_as_arrays_are():
    given = {"train": pairs(*[0, 1] * 10), "validation": pairs(0, 1), "test": pairs(0, 1)}
    data = make_dataset(given)
    assert (len(data.train), len(data.cal), len(data.test)) == (20, 2, 2)


def test_cal_goes_before_validation_and_other_splits_are_passed_over():
    given = {"train": pairs(0, 1), "test": pairs(0, 1), "val": pairs(1), "cal": pairs(0, 1, 0), "unlabelled": None}
    assert len(dataset_arrays(given, WANTED)["y_cal"]) == 3


def test_numpy_samples_and_labels():
    rows = pairs(np.int64(0), torch.tensor(1), True, sample=lambda n: np.full((1, 2, 2), n, np.uint8))
    arrays = dataset_arrays((rows, rows), WANTED)
    assert arrays["x_test"].shape == (3, 1, 2, 2)
    assert arrays["x_test"].dtype == np.uint8
    assert arrays["y_test"].tolist() == [0, 1, 1]


def test_pil_images_and_names_of_classes():
    rows = Rows(*((Image.new("RGB", (4, 6), (9, 8, 7)), n % 2) for n in range(4)), classes=["cat", "dog"])
    arrays = dataset_arrays((rows, rows), WANTED)
    assert arrays["x_train"].shape == (4, 3, 6, 4)
    assert arrays["x_train"][0, :, 0, 0].tolist() == [9, 8, 7]
    assert arrays["class_names"] == ["cat", "dog"]


def test_mappings_by_the_names_of_their_columns():
    rows = Rows(*({"img": np.zeros(3), "labels": n % 2, "id": n} for n in range(4)))
    assert dataset_arrays((rows, rows), WANTED)["x_train"].shape == (4, 3)
    named = Wanted("mine", Columns("id", "labels"))
    assert dataset_arrays((rows, rows), named)["x_train"].tolist() == [0, 1, 2, 3]


def test_texts_and_named_classes():
    train = Rows(("good " * 3000, "pos"), ("bad", "neg"))
    arrays = dataset_arrays((train, Rows(("", "neg"), ("fine", "pos"))), WANTED)
    assert arrays["x_train"].dtype == np.dtypes.StringDType(), "not as wide as the longest text"
    assert arrays["x_test"].tolist() == ["", "fine"]
    assert arrays["class_names"] == ["neg", "pos"]
    assert arrays["y_test"].tolist() == [0, 1]


def test_a_share_becomes_test_where_there_is_none():
    arrays = dataset_arrays({"train": pairs(*[0, 1] * 5)}, ASKED._replace(test_share=0.2))
    assert len(arrays["y_train"]) == 8
    assert sorted(arrays["y_test"]) == [0, 1]


class TestRefuses:
    def test_streams(self):
        refused({"train": Stream(), "test": Stream()}, "cannot be read by row", "got Stream", "not one that streams")
        generator = (pair for pair in [(0, 0)])
        refused((pairs(0, 1), generator), "the test split of mine", "got generator")

    def test_rows_without_labels(self):
        rows = Rows(torch.zeros(2), torch.zeros(2))
        refused((rows, rows), "row 0 of the train split of mine is no sample with a label", "got Tensor")
        rows = Rows((torch.zeros(2),))
        refused((rows, rows), "got tuple of 1", "There is nothing to learn from samples without labels.")
        rows = Rows((torch.zeros(2), None))
        refused((rows, rows), "row 0 of the train split of mine has no label", "got NoneType")
        rows = Rows((torch.zeros(2), ""))
        refused((rows, rows), "row 0 of the train split of mine has no label", "got an empty text")

    def test_columns_that_are_not_there(self):
        rows = Rows({"image": 0, "caption": "a"})
        refused((rows, rows), "the labels of mine are in no column", "got image, caption", "a column label or labels")
        named = Wanted("mine", Columns("picture"))
        refused((rows, rows), "the samples of mine are in no column", "a column 'picture'", wanted=named)

    def test_regression(self):
        refused((pairs(0.5, 1.0), pairs(0.5)), "row 0 of the train split", "(regression)", "got 0.5")
        refused((pairs(torch.tensor(1.5)), pairs(0)), "(regression)", "got 1.5")

    @pytest.mark.parametrize("label", [[0, 1, 1], torch.tensor([0, 1, 1]), np.array([0, 1, 1])])
    def test_several_labels(self, label):
        refused((pairs(label), pairs(0)), "(multi-label)", "got 3 values", "Of one-hot rows give argmax(1)")

    def test_samples_unlike_each_other(self):
        rows = pairs(0, 1, sample=lambda n: torch.zeros(n + 2))
        refused((rows, rows), "row 1 of the train split of mine is unlike", "float32 [3]", "expected float32 [2]")
        rows = pairs(0, 1, sample=lambda n: "text" if n else torch.zeros(2))
        refused((rows, rows), "row 1 of the train split of mine is no sample", "got str")
        rows = pairs(0, 1, sample=lambda n: torch.zeros(2) if n else "text")
        refused((rows, rows), "row 1 of the train split of mine holds no text")

    def test_images_of_different_sizes_say_where_to_say_it(self):
        rows = pairs(0, 1, sample=lambda n: Image.new("L", (4 + n, 4)))
        refused((rows, rows), "different sizes", "row 1 of the train split", "in the data set's transform")
        refused((rows, rows), "different sizes", "args: {size: [4, 4]}", wanted=ASKED)

    def test_splits_that_are_missing(self):
        refused({"train": pairs(0, 1)}, "mine has no test split", "train, test and maybe cal")
        refused({"train": pairs(0, 1)}, "the data have no test split", "{test_share: 0.2}", wanted=ASKED)
        refused({"test": pairs(0, 1)}, "mine has no train split", "got test")
        refused((pairs(0, 1),) * 3, "mine gives 3 data sets", "Return a mapping")
        both = ASKED._replace(test_share=0.5)
        refused((pairs(0, 1), pairs(0, 1)), "has a test split", "Leave test_share out", wanted=both)

    def test_an_empty_split(self):
        refused((Rows(), pairs(0)), "the train split of mine is empty")

    @pytest.mark.parametrize("number", [0, 1])
    def test_a_row_that_fails(self, number):
        class Broken(Rows):
            def __getitem__(self, row):
                if row == number:
                    raise OSError("damaged")
                return super().__getitem__(row)

        rows = Broken((np.zeros(2), 0), (np.zeros(2), 1))
        refused((rows, rows), f"cannot read row {number} of the train split of mine", "got OSError: damaged")

    def test_classes_that_train_does_not_know(self):
        with pytest.raises(DataError, match=r"mine has a class that train lacks; got eel; expected among cat"):
            number_labels({"train": ["cat"], "test": ["eel"]}, None, "mine")
        with pytest.raises(DataError, match=r"labels of two kinds"):
            number_labels({"train": ["cat", 1]}, None, "mine")


def test_names_that_are_no_names_of_classes_are_passed_over():
    rows = Rows((np.zeros(2), 0), (np.zeros(2), 1), classes=SimpleNamespace())
    assert "class_names" not in dataset_arrays((rows, rows), WANTED)
