import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from eesearch.core.errors import InputError
from eesearch.core.imports import need
from eesearch.exporters.apart import BATCH, answering, modules_apart, package_apart


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model.py").write_text("value = 'folder'\n")
    (tmp_path / "user.py").write_text("from .model import value\n")
    return tmp_path


def test_a_folder_s_modules_hide_others_of_their_name_only_within(folder, monkeypatch):
    other = SimpleNamespace(value="other")
    monkeypatch.setitem(sys.modules, "model", other)
    path = list(sys.path)
    with modules_apart(folder):
        import model

        assert model.value == "folder"
    assert sys.modules["model"] is other
    assert sys.path == path
    assert not (folder / "__pycache__").exists()


def test_an_error_within_leaves_nothing_behind(folder):
    (folder / "broken.py").write_text("import model\nraise KeyError\n")
    path = list(sys.path)
    with pytest.raises(KeyError), modules_apart(folder):
        need("broken", "x")
    assert not {"model", "broken"} & set(sys.modules)
    assert sys.path == path


def test_a_folder_can_be_a_package(folder):
    with package_apart(folder) as package:
        assert need(f"{package}.user", "x").value == "folder"
    assert not any(name.startswith(package) for name in sys.modules)


def test_a_missing_library_names_its_extra():
    with pytest.raises(InputError, match=r"pip install 'eesearch\[hf\]'"):
        need("no_such_library", "hf")


@pytest.mark.parametrize("count", [1, BATCH, 2 * BATCH + 1])
def test_all_samples_are_answered_in_their_order_batch_by_batch(count):
    sizes = []

    def predict(x):
        sizes.append(len(x))
        return SimpleNamespace(answer=x[:, 0], exit=x[:, 0] * 0)

    samples = np.arange(count)[:, None]
    answers, exits = answering(predict)(samples)
    assert answers.tolist() == samples[:, 0].tolist()
    assert not exits.any()
    assert max(sizes) <= BATCH
    assert torch.tensor(sizes).sum() == count
