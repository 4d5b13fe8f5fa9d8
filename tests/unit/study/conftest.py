"""Problems of a study that takes no time: vectors of six numbers, a small network."""

import numpy as np
import pytest
import torch

from eesearch.nets.zoo import mlp
from eesearch.study.bank_problem import BankProblem
from eesearch.study.materials import Given, prepare
from eesearch.study.question import Study
from eesearch.study.rundir import RunDir
from eesearch.training.data import make_dataset

FIELDS = {
    "name": "fake",
    "backbone": {"model": "given:mlp"},
    "data": {"source": "given:arrays"},
    "devices": ["macs"],
    "space": {"heads": [{"kind": "linear"}], "levels": 4, "max_exits": 1, "gates": False},
    "training": {
        "heads": {"epochs": 2, "batch_size": 32, "lr": 0.02},
        "joint": {"epochs": 3, "batch_size": 32, "lr": 0.01},
    },
}
TRAINED = 120


def made_up(cal):
    """A small model and the arrays of its data, with so many calibration samples."""
    rng, arrays = np.random.default_rng(0), {}
    for name, count in (("train", TRAINED), ("cal", cal), ("test", 40)):
        y = np.arange(count) % 3
        arrays[f"x_{name}"] = (rng.normal(size=(count, 6)) + y[:, None]).astype(np.float32)
        arrays[f"y_{name}"] = y
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return mlp(features=6, hidden=(8, 8, 8), classes=3), arrays


@pytest.fixture(scope="session")
def given():
    model, arrays = made_up(cal=80)
    return Given(model, make_dataset(arrays))


@pytest.fixture
def made(given, tmp_path):
    """Makes problems of the same study, each with a store of its own."""

    def make(name="run", kind=BankProblem, **fields):
        return kind(prepare(Study.model_validate(FIELDS | fields), RunDir(tmp_path / name), given=given))

    return make


def slotted(problem, head=None, **others):
    """A proposal of joint trials: an exit on the first cut in every slot; `head="none"`: no exit."""
    cut, params = problem.cuts[0], {"strategy": "joint", "criterion": "max_prob"}
    for slot in range(1, problem.space.max_exits + 1):
        name = head or f"{cut}:{problem.materials.heads[cut][0].name}"
        params |= {f"exit:{slot}": name, f"alpha:{slot}": 1.0, f"threshold:{slot}": 0.5}
    return params | others


def proposal(problem, head=None, **others):
    names = {f"exit:{cut}": head or problem.materials.heads[cut][0].name for cut in problem.cuts}
    return {"strategy": "joint", **names, **{f"alpha:{cut}": 1.0 for cut in problem.cuts}, **others}
