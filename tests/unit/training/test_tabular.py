import numpy as np
import pytest

from eesearch.core.errors import DataError
from eesearch.training.tabular import read_csv


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def refused(path, *parts, **args):
    with pytest.raises(DataError) as caught:
        read_csv(path, args)
    for part in parts:
        assert part in str(caught.value)


@pytest.fixture
def numbers(tmp_path):
    rows = [f"{n},{n / 2},{n % 2}" for n in range(10)]
    return write(tmp_path / "numbers.csv", "width,height,label", *rows)


@pytest.fixture
def texts(tmp_path):
    return write(tmp_path / "texts.csv", "id,text,label", '1,"good, really",pos', "2,NA,neg", "3,,pos")


def test_columns_of_numbers_are_features(numbers):
    arrays = read_csv(numbers, {"test_share": 0.2})
    assert arrays["x_train"].shape == (8, 2)
    assert arrays["x_train"].dtype == np.float32
    assert (arrays["x_test"][:, 0] / 2 == arrays["x_test"][:, 1]).all()
    assert sorted(arrays["y_test"]) == [0, 1]


def test_texts_and_named_classes_of_several_files(texts, tmp_path):
    test = write(tmp_path / "test.csv", "label,text", "neg,bad")
    arrays = read_csv(texts, {"test": str(test), "cal": str(texts)})
    assert arrays["x_train"].tolist() == ["good, really", "NA", ""]
    assert arrays["x_test"].tolist() == ["bad"]
    assert arrays["class_names"] == ["neg", "pos"]
    assert arrays["y_cal"].tolist() == [1, 0, 1]


def test_columns_by_name(tmp_path):
    file = write(tmp_path / "named.csv", "review,stars,label", "good,1,x", "bad,0,y", "fine,1,x", "poor,0,y")
    test = write(tmp_path / "test.csv", "review,stars,label", "good,1,x", "bad,0,y")
    arrays = read_csv(file, {"text": "review", "label": "stars", "test": str(test)})
    assert arrays["x_train"].tolist() == ["good", "bad", "fine", "poor"]
    assert arrays["y_train"].tolist() == [1, 0, 1, 0]


def test_refuses_files_that_cannot_be_used(tmp_path, numbers):
    refused(tmp_path / "none.csv", "there is no such file")
    refused(write(tmp_path / "empty.csv", "a,label"), "is empty")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00,\x80")
    refused(tmp_path / "bytes.csv", "cannot read", "a CSV file with names in its first line")
    other = write(tmp_path / "other.csv", "width,label", "1,0")
    refused(numbers, "lacks a column that", "got height", test=str(other))
    refused(numbers, "train and test are the same samples", test=str(numbers.parent / "." / numbers.name))


def test_refuses_columns_that_cannot_be_used(tmp_path, numbers):
    refused(numbers, "the labels of", "got width, height, label", "a column 'class'", label="class")
    refused(numbers, "the texts of", "a column 'review'", text="review")
    refused(numbers, "got argument root", "text, label, test, cal, test_share", root="x")
    refused(numbers, "the data have no test split", "test_share: 0.2")
    refused(write(tmp_path / "l.csv", "label", "1"), "has labels alone")
    words = write(tmp_path / "w.csv", "a,b,label", "1,2,0", "1,,1")
    refused(words, "column 'b'", "holds no numbers", "got ''", "args: {text: COLUMN}")


@pytest.mark.parametrize("value", ["nan", "NaN", "1_000", "True"])
def test_refuses_what_python_but_no_table_takes_for_a_number(tmp_path, value):
    file = write(tmp_path / "n.csv", "a,b,label", "1,2,0", f"1,{value},1", "1,x,1")
    refused(file, "column 'b'", "holds no numbers", f"got '{value}'")


def test_large_whole_numbers_are_numbers(tmp_path):
    file = write(tmp_path / "n.csv", "a,label", f"1{'0' * 22},0", "1,1", "2,0", "3,1")
    arrays = read_csv(file, {"test_share": 0.5})
    assert sorted([*arrays["x_train"][:, 0], *arrays["x_test"][:, 0]]) == [1.0, 2.0, 3.0, np.float32(1e22)]


@pytest.mark.parametrize("label", ["", " ", "NaN"])
def test_refuses_samples_without_a_label(tmp_path, label):
    """A text among numbers would make classes of texts, which are numbered by the alphabet: 10 before 2."""
    file = write(tmp_path / "n.csv", "a,label", "1,2", "1,10", f"1,{label}", "1,2")
    refused(file, "samples without a label in column 'label'", "got 1 of 4 rows of", "n.csv, row 2 first")


def test_a_class_may_be_called_nan(tmp_path):
    """Among names of classes it is one: of languages, that of Min Nan Chinese."""
    file = write(tmp_path / "n.csv", "a,label", "1,nan", "2,deu", "3,nan", "4,deu")
    arrays = read_csv(file, {"test_share": 0.5})
    assert sorted([*arrays["y_train"], *arrays["y_test"]]) == [0, 0, 1, 1]
    assert list(arrays["class_names"]) == ["deu", "nan"]


def test_refuses_row_numbers_as_pandas_writes_them(tmp_path):
    file = write(tmp_path / "t.csv", ",a,label", "0,1.5,x", "1,2.5,y", "2,0.5,x")
    refused(file, "a column of", "has no name; got column 0", "table.to_csv(FILE, index=False)")


def test_refuses_regression(numbers):
    refused(numbers, "column 'height'", "(regression)", label="height")
