import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eesearch.core.errors import DataError
from eesearch.training.data import load_dataset
from eesearch.training.sources import Source, load_arrays

IMAGES = [Image.new("RGB", (4, 6), (n, 0, 0)) for n in range(8)]


def refused(source, *parts, **args):
    with pytest.raises(DataError) as caught:
        load_arrays(source, args)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("written", "kind", "name"),
    [
        ("data.npz", "npz", "data.npz"),
        ("a/b.csv", "csv", "a/b.csv"),
        ("images", "folder", "images"),
        ("/a:b/images", "folder", "/a:b/images"),
        ("./a:b", "folder", "./a:b"),
        ("mypkg.data:build", "import", "mypkg.data:build"),
        ("import:mypkg.data:build", "import", "mypkg.data:build"),
        ("torchvision:CIFAR10", "torchvision", "CIFAR10"),
        ("hf:user/name", "hf", "user/name"),
        ("hf:/a/folder", "hf", "/a/folder"),
        ("s3://bucket/a", "unknown", "s3://bucket/a"),
    ],
)
def test_a_source_is_told_by_how_it_is_written(written, kind, name):
    source = Source.of(written)
    assert source == (kind, name)
    assert source.runs_code is (kind not in ("npz", "csv", "folder"))


@pytest.mark.parametrize("source", ["s3://bucket/images", "kaggle:cats", "ftp:a/b", "hub:x y"])
def test_unknown_prefixes_are_refused_with_those_that_are_known(source):
    refused(source, "known", source, "torchvision:NAME, hf:FOLDER or hf:NAME")


class TestFunctions:
    @pytest.fixture(autouse=True)
    def module(self, tmp_path, monkeypatch):
        (tmp_path / "mydata.py").write_text(
            "import numpy as np, torch\n"
            "from torch.utils.data import TensorDataset\n"
            "def one(n): return TensorDataset(torch.zeros(n, 2), torch.arange(n) % 2)\n"
            "def pair(n): return one(n), one(n)\n"
            "def mapping(n): return {'train': one(n), 'val': one(n), 'test': one(n)}\n"
            "def alone(): return one(4)\n"
            "def streams():\n"
            "    class Stream(torch.utils.data.IterableDataset):\n"
            "        def __iter__(self): yield torch.zeros(2), 0\n"
            "    return {'train': Stream(), 'test': Stream()}\n"
            "def table():\n"
            "    from datasets import Dataset, DatasetDict\n"
            "    rows = Dataset.from_dict({'img': [[0, 1], [2, 3]], 'label': [0, 1]})\n"
            "    return DatasetDict({'train': rows, 'test': rows})\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        yield
        sys.modules.pop("mydata", None)

    @pytest.mark.parametrize("prefix", ["", "import:"])
    def test_may_return_data_sets_by_split(self, prefix):
        data = load_dataset(f"{prefix}mydata:mapping", {"n": 6})
        assert (len(data.train), len(data.cal), len(data.test)) == (6, 6, 6)
        assert len(load_dataset(f"{prefix}mydata:pair", {"n": 20}).cal) == 4

    def test_may_return_a_data_set_of_hugging_face(self):
        arrays = load_arrays("mydata:table", {})
        assert arrays["x_train"].tolist() == [[0, 1], [2, 3]]

    def test_must_return_one_of_those(self):
        refused("mydata:alone", "the data source mydata:alone", "got TensorDataset", "data sets by split")
        refused("mydata:streams", "the train split of mydata:streams cannot be read by row", "(iterable)")
        refused("import:mydata:none", "module 'mydata' has no 'none'")
        refused("import:nosuch.module:none", "cannot import 'nosuch.module'")


class TestTorchvision:
    @pytest.fixture
    def root(self, tmp_path):
        """MNIST as it is distributed, but for its size."""
        raw = tmp_path / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for name, count in (("train", 20), ("t10k", 10)):
            images = np.arange(count, dtype=np.uint8)[:, None, None].repeat(28, 1).repeat(28, 2)
            for kind, array in (("images-idx3", images), ("labels-idx1", np.arange(count, dtype=np.uint8) % 10)):
                head = [0x800 + array.ndim, *array.shape]
                (raw / f"{name}-{kind}-ubyte").write_bytes(np.array(head, ">i4").tobytes() + array.tobytes())
        return str(tmp_path)

    def test_of_two_parts(self, root):
        arrays = load_arrays("torchvision:MNIST", {"root": root, "download": False, "size": [14, 14]})
        assert arrays["x_train"].shape == (20, 1, 14, 14)
        assert arrays["x_train"][:, 0, 5, 5].tolist() == list(range(20))
        assert arrays["y_test"].tolist() == list(range(10))
        assert arrays["class_names"][3] == "3 - three"

    def test_of_one_part(self):
        args = {"size": 40, "image_size": [3, 8, 8], "num_classes": 2, "test_share": 0.5}
        arrays = load_arrays("torchvision:FakeData", args)
        assert arrays["x_train"].shape == (20, 3, 8, 8)
        assert set(arrays["y_test"]) == {0, 1}

    def test_of_parts_by_name(self, monkeypatch):
        from eesearch.nets.vision import torchvision

        seen = []

        class Named(torchvision().datasets.FakeData):
            def __init__(self, root, split="train", **options):
                seen.append(split)
                super().__init__(6, (1, 4, 4), 2, **options)

        monkeypatch.setattr(torchvision().datasets, "Named", Named, raising=False)
        load_arrays("torchvision:Named", {"root": "r"})
        load_arrays("torchvision:Named", {"root": "r", "train": "trainval", "cal": "val"})
        load_arrays("torchvision:Named", {"root": "r", "test_share": 0.5})
        load_arrays("torchvision:Named", {"root": "r", "split": "all", "test_share": 0.5})
        assert seen == ["train", "test", "trainval", "test", "val", "train", "all"]
        refused("torchvision:Named", "cal and test are the same samples", "got test", root="r", cal="test")

    def test_refuses(self, tmp_path):
        refused("torchvision:NoSuch", "torchvision has no data set 'NoSuch'")
        refused("torchvision:MNIST", "torchvision:MNIST failed", "download: true", root=str(tmp_path))
        refused("torchvision:MNIST", "'rot'", rot=str(tmp_path))
        refused("torchvision:FakeData", "the data have no test split", "test_share: 0.2")

    def test_a_missing_extra(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "torchvision", None)
        refused("torchvision:MNIST", "torchvision is not installed", "pip install 'eesearch[vision]'")


class TestHuggingFace:
    def saved(self, folder, features=None, **splits):
        from datasets import Dataset, DatasetDict

        made = {name: Dataset.from_dict(columns, features=features) for name, columns in splits.items()}
        (DatasetDict(made) if len(made) > 1 else made["train"]).save_to_disk(folder)
        return f"hf:{folder}"

    @pytest.fixture
    def images(self, tmp_path):
        from datasets import ClassLabel, Features
        from datasets import Image as Picture

        features = Features({"image": Picture(), "label": ClassLabel(names=["cat", "dog"])})
        columns = {"image": IMAGES, "label": [0, 1] * 4}
        return self.saved(tmp_path / "images", features, train=columns, test=columns, validation=columns)

    def test_images_of_a_saved_folder(self, images):
        arrays = load_arrays(images, {})
        assert arrays["x_train"].shape == (8, 3, 6, 4)
        assert arrays["x_train"][:, 0, 0, 0].tolist() == list(range(8))
        assert arrays["class_names"] == ["cat", "dog"]
        assert len(arrays["y_cal"]) == 8
        assert load_arrays(images, {"mode": "L", "size": [2, 2]})["x_test"].shape == (8, 1, 2, 2)

    def test_texts_whose_splits_and_columns_are_named(self, tmp_path):
        columns = {"review": ["good", "bad"], "stars": [1, 0], "label": [7, 7]}
        source = self.saved(tmp_path / "texts", train=columns, validation=columns, test={**columns, "stars": [-1, -1]})
        arrays = load_arrays(source, {"text": "review", "label": "stars", "test": "validation"})
        assert arrays["x_test"].tolist() == ["good", "bad"]
        assert arrays["y_test"].tolist() == [1, 0]
        assert "x_cal" not in arrays
        refused(source, "has no split 'dev'", "got train, validation, test", test="dev")

    def test_a_folder_of_files(self, tmp_path):
        for name in ("train", "test"):
            (tmp_path / f"{name}.jsonl").write_text('{"text": "a", "label": 0}\n{"text": "b", "label": 1}\n')
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
            assert load_arrays(f"hf:{tmp_path}", {})["x_test"].tolist() == ["a", "b"]

    def test_one_part(self, tmp_path):
        source = self.saved(tmp_path / "one", train={"sentence": ["a", "b"] * 5, "labels": [0, 1] * 5})
        assert len(load_arrays(source, {"test_share": 0.2})["x_test"]) == 2
        refused(source, "the data have no test split", "{test: NAME} names a split")

    @pytest.mark.parametrize(
        ("labels", "parts"),
        [
            ([[0, 1], [1]], ["(multi-label)", "got 2 values"]),
            ([0.5, 1.5], ["(regression)", "got 0.5"]),
            ([None, None], ["has no label"]),
        ],
    )
    def test_labels_of_other_tasks(self, tmp_path, labels, parts):
        columns = {"text": ["a", "b"], "label": labels}
        refused(self.saved(tmp_path / "other", train=columns, test=columns), *parts)

    def test_no_labels(self, tmp_path):
        columns = {"text": ["a", "b"]}
        refused(self.saved(tmp_path / "none", train=columns, test=columns), "the labels of hf:", "got text")

    def test_a_name_that_is_not_in_the_cache_fails_without_the_network(self, monkeypatch):
        import socket

        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("the network was asked"))
        say = ["cannot load hf:nobody/none", "save_to_disk(FOLDER), then source: hf:FOLDER", "set HF_HUB_OFFLINE=0"]
        refused("hf:nobody/none", *say)

    def test_refuses_arguments_that_it_does_not_know(self):
        refused("hf:any", "got argument data_files", data_files="x.csv")

    def test_a_missing_extra(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "datasets", None)
        refused("hf:any", "datasets is not installed", "pip install 'eesearch[data]'")


def test_plain_files_take_no_arguments_of_functions(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(2))
    refused(str(tmp_path / "a.npz"), "is a file", "expected none", fold=1)
    refused(str(Path("nowhere")), "the data source is not there", "got nowhere")
