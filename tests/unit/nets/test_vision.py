import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from eesearch.core.errors import DataError, ModelError
from eesearch.nets import vision


def test_torchvision_can_be_imported_beside_any_torch():
    module = vision.torchvision()
    assert module.datasets.FakeData(size=2)[0][1] in range(10)
    assert vision.torchvision() is module


def test_a_network_that_imports_torchvision_is_measured_in_a_process_of_its_own(tmp_path):
    """As a person starts it: tests start programs with torchvision's operators declared."""
    (tmp_path / "text.yaml").write_text("""
name: text
backbone: {model: "eesearch.nets.series:text_encoder", args: {vocabulary: 8, tokens: 6, width: 8, depth: 1, heads: 2}}
data: {source: data.npz}
input: {tokens: true}
devices: [cpu:eager:t1:b1]
measuring: {processes: 1, warmup: 0.01, warmup_max: 0.02, round: 0.005, rounds_min: 2, rounds_max: 2}
""")
    y = np.arange(40) % 2
    x = y[:, None] + np.ones((40, 6), int)
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "eesearch", "inspect", "text.yaml", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "bert." in done.stdout


def test_a_missing_extra_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(DataError, match=r"torchvision is not installed.*pip install 'eesearch\[vision\]'"):
        vision.torchvision()
    with pytest.raises(ModelError):
        vision.torchvision(ModelError)


def test_operators_are_declared_once_where_they_are_missing(monkeypatch):
    declared, tries = [], iter([RuntimeError("operator torchvision::nms does not exist"), None])

    class Library:
        def __init__(self, *name):
            declared.append(name)

        def define(self, operator):
            declared.append(operator.partition("(")[0])

    def need(*_):
        error = next(tries)
        if error:
            raise error
        return "module"

    monkeypatch.setattr(vision, "need", need)
    monkeypatch.setattr(vision, "_declared", [])
    monkeypatch.setattr(torch.library, "Library", Library)
    assert vision.torchvision() == "module"
    assert declared == [("torchvision", "DEF"), "nms", "qnms"]


def test_what_imports_torchvision_finds_it_imported(monkeypatch):
    assert vision.need_vision("json", "hf") is __import__("json")
    assert "torchvision" in sys.modules
    with pytest.raises(ModelError, match=r"nosuch is not installed.*pip install 'eesearch\[hf\]'"):
        vision.need_vision("nosuch", "hf", ModelError)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert vision.need_vision("json", "hf") is __import__("json"), "where there is none, none is needed"


@pytest.mark.parametrize("message", ["operator torchvision::roi_align does not exist", "another"])
def test_what_declaring_does_not_mend_is_told(message, monkeypatch):
    def need(*_):
        raise RuntimeError(message)

    monkeypatch.setattr(vision, "need", need)
    monkeypatch.setattr(vision, "_declared", ["nms"])
    with pytest.raises(DataError, match="torchvision does not fit the torch"):
        vision.torchvision()
