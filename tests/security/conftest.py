"""A small finished run, and files that would do harm if anybody ran what they hold."""

import io
import logging
import os
import pickle
import shutil
import sys
import textwrap

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from eesearch.api import search_study
from eesearch.cli import app
from eesearch.study.question import Study

FIELDS = {
    "name": "small",
    "backbone": {"model": "eesearch.nets.zoo:mlp", "args": {"features": 4, "hidden": [6, 6], "classes": 3}},
    "training": {"epochs": 2, "batch_size": 32, "lr": 0.05, "heads": {"epochs": 2, "batch_size": 32, "lr": 0.05}},
    "devices": ["macs"],
    "space": {"heads": [{"kind": "linear"}], "strategies": ["separate"], "gates": False, "levels": 6},
    "budget": {"trials": 1},
}


def arrays(rng):
    """Three separable classes in four dimensions."""
    made = {}
    for split, count in (("train", 120), ("cal", 60), ("test", 60)):
        y = np.arange(count) % 3
        x = rng.normal(size=(count, 4)) + 2.0 * np.eye(4)[y]
        made |= {f"x_{split}": x.astype(np.float32), f"y_{split}": y}
    return made


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A finished run; not to be written to."""
    folder = tmp_path_factory.mktemp("security")
    np.savez(folder / "data.npz", **arrays(np.random.default_rng(0)), class_names=["a", "b", "c"])
    study = Study.model_validate(FIELDS | {"data": {"source": str(folder / "data.npz")}})
    search_study(study, folder / "small")
    return folder / "small"


@pytest.fixture
def run(small, tmp_path):
    """A copy of it."""
    return shutil.copytree(small, tmp_path / "run")


@pytest.fixture
def cli():
    """Calls the command line; its `--quiet` lasts as long as the test."""
    log = logging.getLogger("eesearch")
    level = log.level

    def call(*arguments):
        done = CliRunner().invoke(app, [str(a) for a in arguments])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    yield call
    log.setLevel(level)


@pytest.fixture
def marker(tmp_path):
    """A directory that appears if somebody ran what they must not run."""
    return tmp_path / "harmed"


class Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def bombs(marker):
    """Bytes that make the marker when they are unpickled, by form."""
    archive, zipped = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": Bomb(marker)}, archive)
    np.savez(zipped, x_train=np.array([Bomb(marker)], object), x=np.array([Bomb(marker)], object))
    made = {"pickle": pickle.dumps(Bomb(marker)), "torch": archive.getvalue(), "npz": zipped.getvalue()}
    pickle.loads(made["pickle"])
    assert marker.exists(), "the bomb works"
    marker.rmdir()
    return made


@pytest.fixture
def evil(tmp_path, monkeypatch, marker):
    """An importable module that makes the marker; its `build` and `data` give what the small run has."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "evil_code.py").write_text(
        textwrap.dedent(f"""
            import os
            from eesearch.nets.zoo import mlp

            os.makedirs({str(marker)!r}, exist_ok=True)

            def build(**args):
                return mlp(**args)

            class Sampler:
                pass
        """)
    )
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))  # nobody has named it yet
    yield "evil_code:build"
    sys.modules.pop("evil_code", None)


@pytest.fixture
def foreign(run, evil):
    """A run that came from elsewhere: its study names the module as its model."""
    rewrite(run, model=evil)
    return run


def rewrite(run, **backbone):
    """Change what a run's study says of its network."""
    file = run / "study.yaml"
    fields = yaml.safe_load(file.read_text())
    fields["backbones"][0] |= backbone
    file.write_text(yaml.safe_dump(fields))
