import sys

import numpy as np
import pytest
from pydantic import ValidationError

from eesearch.core.errors import DataError
from eesearch.training.checks import ROWS
from eesearch.training.data import Calibration, Split, digits, digits_views, load_dataset, make_dataset


def arrays(train=40, test=20, classes=2, **changes):
    rng = np.random.default_rng(0)
    given = {
        "x_train": rng.normal(size=(train, 3)),
        "y_train": np.arange(train) % classes,
        "x_test": rng.normal(size=(test, 3)),
        "y_test": np.arange(test) % classes,
    }
    return {key: value for key, value in {**given, **changes}.items() if value is not None}


def saved(tmp_path, **changes):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays(**changes))
    return str(path)


def test_npz_file_gives_checked_splits(tmp_path):
    data = load_dataset(saved(tmp_path, class_names=np.array(["cat", "dog"])), seed=3)
    assert (len(data.train), len(data.cal), len(data.test)) == (32, 8, 20)
    assert data.class_names == ("cat", "dog")
    assert data.classes == 2
    assert data.train.x.dtype == np.float32
    assert np.bincount(data.cal.y).tolist() == [4, 4]


def test_class_weights_are_those_of_calibration_and_test(tmp_path):
    source = saved(tmp_path, class_names=np.array(["cat", "dog"]))
    plain, weighed = (load_dataset(source, class_weights=weights) for weights in (None, {"dog": 3}))
    assert weighed.cal.weights.tolist() == [(1, 3)[label] for label in weighed.cal.y]
    assert weighed.test.weights.tolist() == [(1, 3)[label] for label in weighed.test.y]
    assert weighed.train.weights is None, "training is not weighed"
    assert weighed.train.key == plain.train.key
    assert weighed.cal.key != plain.cal.key, "tables of other weights are not reused"
    assert weighed.record()["class_weights"] == {"cal": [1, 3], "test": [1, 3]}
    assert "class_weights" not in plain.record()
    assert plain.record()["most_frequent"] == {"cal": 0.5, "test": 0.5}
    assert weighed.record()["most_frequent"] == {"cal": 0.75, "test": 0.75}


def test_weights_by_which_a_few_samples_decide_are_told(caplog):
    few = arrays(y_test=np.array([0] * 19 + [1]), y_cal=np.array([0, 1] * 10), x_cal=np.zeros((20, 3)))
    make_dataset(few, class_weights="balanced")
    assert caplog.messages == [
        "with these class weights 20 test samples tell an accuracy no more surely than 4 that count the same"
    ]


def test_own_calibration_split_is_kept(tmp_path):
    source = saved(tmp_path, x_cal=np.zeros((4, 3)), y_cal=np.array([0, 1, 0, 1]))
    data = load_dataset(source, calibration=Calibration(origin="test", share=0.5))
    assert (len(data.train), len(data.cal), len(data.test)) == (40, 4, 20)


def test_calibration_from_test_leaves_the_rest_to_be_reported():
    given = arrays()
    data = make_dataset(given, calibration=Calibration(origin="test", share=0.5), seed=1)
    assert len(data.train) == 40
    together = np.concatenate([data.cal.x, data.test.x])
    assert sorted(map(tuple, together)) == sorted(map(tuple, given["x_test"].astype(np.float32)))


def test_calibration_share_depends_on_the_seed_alone():
    first, same, other = (make_dataset(arrays(), seed=seed).cal.key for seed in (0, 0, 1))
    assert first == same != other


def test_uint8_stays_uint8_and_integers_stay_integers():
    x = np.arange(60).reshape(20, 3)
    for dtype, kept in ((np.uint8, np.uint8), (np.int32, np.int64), (np.float64, np.float32)):
        data = make_dataset(arrays(train=20, x_train=x.astype(dtype), x_test=x.astype(dtype)))
        assert data.train.x.dtype == kept


def test_key_is_of_content_not_of_name():
    x, y = np.zeros((2, 3), np.float32), np.array([0, 1])
    key = Split("train", x, y).key
    assert Split("test", x.copy(), y).key == key
    assert Split("train", x.astype(np.uint8), y).key != key
    assert Split("train", x.reshape(2, 3, 1), y).key != key
    assert Split("train", x, y[::-1]).key != key


def test_record_names_sizes_seed_and_hashes():
    data = make_dataset(arrays(), seed=7)
    record = data.record()
    assert record["sizes"] == {"train": 32, "cal": 8, "test": 20}
    assert record["hashes"]["test"] == data.test.key
    assert record["seed"] == 7


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"x_test": None}, ["lacks x_test", "y_train"]),
        ({"x_cal": np.zeros((2, 3))}, ["lacks y_cal"]),
        ({"x_train": np.full((40, 3), np.nan)}, ["x_train", "120 NaN or infinite of 120"]),
        ({"x_test": np.full((20, 3), 1e300)}, ["x_test", "60 NaN or infinite"]),
        ({"x_train": np.full((2 * ROWS + 1, 3), np.nan)}, [f"{6 * ROWS + 3} NaN or infinite of {6 * ROWS + 3}"]),
        ({"y_train": np.arange(40) % 2 + 0.5}, ["y_train", "(regression)", "float64", "integers"]),
        ({"y_train": np.eye(2, dtype=int)[[0, 1] * 20]}, ["y_train", "(multi-label)", "int64 (40, 2)", "argmax(1)"]),
        ({"y_test": np.array(["a", "b"] * 10)}, ["y_test holds no labels", "<U1"]),
        ({"text_test": np.array(["a"] * 19)}, ["text_test holds no texts", "strings [20]"]),
        ({"y_test": np.arange(20) % 3}, ["test split are out of range", "got 2", "0..1"]),
        ({"y_train": np.arange(40) % 3 - 1}, ["train split are out of range", "got -1"]),
        ({"y_train": np.arange(39) % 2}, ["train split", "40 samples and 39 labels"]),
        ({"x_test": np.zeros((20, 4))}, ["test differ from those of train", "[4]", "[3]"]),
        ({"x_test": np.zeros((20, 3), np.uint8)}, ["test differ from those of train", "uint8", "float32"]),
        ({"x_test": np.zeros((0, 3)), "y_test": np.zeros(0, int)}, ["test split is empty"]),
        ({"x_cal": np.zeros((0, 3)), "y_cal": np.zeros(0, int)}, ["cal split is empty"]),
        ({"y_test": np.zeros(20, int), "class_names": ["cat", "dog"]}, ["test split", "class dog"]),
        ({"y_train": np.zeros(40, int), "y_test": np.zeros(20, int)}, ["nothing to classify", "1 classes"]),
        ({"class_names": ["cat", "cat"]}, ["distinct"]),
        ({"x_train": np.array([["a", "b"]] * 40)}, ["x_train holds no samples", "<U1"]),
        ({"x_train": [[1, 2], [3]]}, ["x_train is not an array"]),
    ],
)
def test_refuses(changes, parts):
    with pytest.raises(DataError) as caught:
        make_dataset(arrays(**changes))
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_refuses_a_share_that_leaves_a_side_empty(share):
    with pytest.raises(DataError, match=r"calibration share out of the train split.*at least one sample of each"):
        make_dataset(arrays(), calibration=Calibration(share=share))


def test_refuses_to_share_out_a_class_with_one_member():
    y = np.array([0] * 39 + [1])
    with pytest.raises(DataError, match="1 in the rarest class"):
        make_dataset(arrays(y_train=y))


class TestCertificationShare:
    def rows(self, *splits):
        return sorted(map(tuple, np.concatenate([split.x for split in splits])))

    @pytest.mark.parametrize("origin", ["train", "test", "file"])
    def test_it_is_taken_out_of_calibration_wherever_that_comes_from(self, origin):
        own = {"x_cal": np.random.default_rng(1).normal(size=(20, 3)), "y_cal": np.arange(20) % 2}
        given = arrays(train=80, test=40, **(own if origin == "file" else {}))
        chosen = Calibration() if origin == "file" else Calibration(origin=origin, share=0.5)
        whole = make_dataset(given, calibration=chosen, seed=3)
        data = make_dataset(given, calibration=chosen, certification=0.4, seed=3)
        assert data.cert.name == "cert"
        assert len(data.cert) == round(0.4 * len(whole.cal))
        assert self.rows(data.cal, data.cert) == self.rows(whole.cal)
        assert np.ptp(np.bincount(data.cert.y)) == 0
        assert (data.train.key, data.test.key) == (whole.train.key, whole.test.key)

    def test_it_depends_on_the_seed_alone(self):
        first, same, other = (make_dataset(arrays(), certification=0.5, seed=seed).cert.key for seed in (0, 0, 1))
        assert first == same != other

    def test_a_record_tells_of_it_only_if_there_is_one(self, tmp_path):
        data = load_dataset(saved(tmp_path), certification=0.25)
        assert data.record()["sizes"] == {"train": 32, "cal": 6, "test": 20, "cert": 2}
        assert data.record()["hashes"]["cert"] == data.cert.key
        assert [split.name for split in data.splits] == ["train", "cal", "test", "cert"]
        without = load_dataset(saved(tmp_path))
        assert without.cert is None
        assert "cert" not in without.record()["hashes"]

    @pytest.mark.parametrize("share", [0.01, 0.99])
    def test_neither_side_may_lack_a_class(self, share):
        with pytest.raises(DataError, match=r"certification share out of the cal split.*data\.certification"):
            make_dataset(arrays(), certification=share)


@pytest.mark.parametrize("bad", [{"share": 0.0}, {"share": 1.0}, {"from": "cal"}, {"form": "test"}])
def test_calibration_refuses_nonsense(bad):
    with pytest.raises(ValidationError):
        Calibration(**bad)


def test_calibration_writes_itself_as_it_is_read():
    chosen = Calibration.model_validate({"from": "test", "share": 0.5})
    assert chosen.model_dump() == {"from": "test", "share": 0.5}


@pytest.mark.parametrize("content", [b"", b"not a zip", None])
def test_refuses_files_that_are_no_archive(tmp_path, content):
    path = tmp_path / "data.npz"
    if content is None:
        np.savez(path, **arrays())
        path.write_bytes(path.read_bytes()[:-50])
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read .*data.npz.*x_train y_train"):
        load_dataset(str(path))


def test_refuses_a_single_array_and_python_objects(tmp_path):
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match="a single array"):
        load_dataset(str(tmp_path / "one.npz"))
    np.savez(tmp_path / "objects.npz", x_train=np.array([None, {}], dtype=object))
    with pytest.raises(DataError, match="Object arrays cannot be loaded"):
        load_dataset(str(tmp_path / "objects.npz"))


def test_refuses_sources_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        load_dataset(str(tmp_path / "none.npz"))
    with pytest.raises(DataError, match=r"data.parquet; expected a .npz or .csv file, a folder of images"):
        load_dataset("data.parquet")
    with pytest.raises(DataError, match="is a file"):
        load_dataset(saved(tmp_path), {"fold": 1})


def test_import_path_with_arguments(tmp_path, monkeypatch):
    (tmp_path / "mydata.py").write_text(
        "import numpy as np\n"
        "def build(n):\n"
        "    x, y = np.zeros((n, 2)), np.arange(n) % 2\n"
        "    return dict(x_train=x, y_train=y, x_test=x, y_test=y)\n"
        "def wrong():\n"
        "    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert len(load_dataset("mydata:build", {"n": 30}).test) == 30
    with pytest.raises(DataError, match=r"mydata:build failed.*TypeError") as caught:
        load_dataset("mydata:build", {"m": 30})
    assert isinstance(caught.value.__cause__, TypeError)
    with pytest.raises(DataError, match="cannot import 'nosuchmodule'"):
        load_dataset("nosuchmodule:build")
    with pytest.raises(DataError, match="got int"):
        load_dataset("mydata:wrong")
    sys.modules.pop("mydata")


def test_views_of_digits_see_parts_of_them_and_one_at_least_is_there():
    given, whole = digits_views(missing=0.5, noise=0.0, enlarged=2), digits()
    x, image = given["x_train"], whole["x_train"].repeat(2, -2).repeat(2, -1)
    assert x.shape == (1257, 3, 1, 16, 16)
    assert given["y_test"].tolist() == whole["y_test"].tolist()
    there = x.any((2, 3, 4))
    assert there.any(1).all()
    assert 0.3 < there.mean() < 0.8
    parts = (np.s_[:, :, :, :10], np.s_[:, :, :, 6:], np.s_[:, :, :10])
    for view, part in enumerate(parts):
        seen, shown = x[there[:, view], view], image[there[:, view]]
        np.testing.assert_array_equal(seen[part], shown[part])
        assert (seen.astype(int).sum((1, 2, 3)) == shown[part].astype(int).sum((1, 2, 3))).all(), "nothing else"


def test_digits_are_whole_and_stratified():
    given = digits()
    assert given["x_train"].shape == (1257, 1, 8, 8)
    assert given["x_test"].dtype == np.uint8
    assert given["x_train"].max() == 16
    assert np.bincount(given["y_test"]).min() >= 52
    assert digits(seed=1)["y_test"].tolist() != given["y_test"].tolist()
