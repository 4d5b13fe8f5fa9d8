"""What a worker does with one trial after the other, without Ray's processes."""

import threading
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
import pytest
import torch

from eesearch.core.errors import RunError
from eesearch.core.store import Store
from eesearch.drivers.ray_worker import Portable, Training
from eesearch.study.bank_problem import BankProblem
from eesearch.study.trial import Outcome, StoppedEarlyError


class Toy:
    """Three epochs; stops when told."""

    def __init__(self, error=None):
        self.error, self.seen, self.threads = error, [], None

    def run(self, params, report=None):
        self.threads = torch.get_num_threads()
        self.seen.append(params["alpha:a"])
        for epoch in (1, 2):
            if report and report(epoch, params["alpha:a"] * epoch):
                self.seen.append("stopped")
                raise StoppedEarlyError(epoch)
        if self.error:
            raise self.error
        return Outcome(design=None, values=(params["alpha:a"],))


def training(problem, alpha=0.5, **options):
    return Training(problem, {"alpha:a": alpha}, **({"threads": 1, "pruned": True} | options))


def test_a_result_for_each_epoch_then_the_outcome():
    trial = training(Toy())
    results = [trial.next(), trial.next(), trial.next()]
    trial.stop()
    assert [r.get("epoch") for r in results] == [1, 2, None]
    assert [r.get("value") for r in results] == [0.5, 1.0, None]
    assert [r.get("done", False) for r in results] == [False, False, True]
    assert Outcome.model_validate_json(results[-1]["outcome"]).values == (0.5,)


def test_nothing_is_reported_where_nothing_is_pruned():
    trial = training(Toy(), pruned=False)
    assert trial.next()["done"]
    trial.stop()


def test_a_stopped_trial_leaves_its_training_in_order():
    problem = Toy()
    trial = training(problem)
    trial.next()
    trial.stop()
    assert problem.seen == [0.5, "stopped"]
    assert not any(thread.name == "trial" for thread in threading.enumerate())


def test_a_trial_that_never_began_is_stopped_too():
    problem = Toy()
    training(problem).stop()
    assert problem.seen == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("no head"), {"failure": "ValueError: no head", "done": True}),
        (RunError("disk full"), {"broken": "disk full", "done": True}),
        (OSError(5, "Input/output error"), {"broken": "[Errno 5] Input/output error", "done": True}),
        (MemoryError("large"), {"failure": "MemoryError: large", "done": True}),
    ],
)
def test_errors_of_a_design_are_its_own_and_those_of_the_disk_are_not(error, expected):
    trial = training(Toy(error), pruned=False)
    assert trial.next() == expected
    trial.stop()


def test_a_trial_computes_with_its_own_number_of_threads():
    problem = Toy()
    before = torch.get_num_threads()
    try:
        trial = training(problem, threads=2, pruned=False)
        trial.next()
        trial.stop()
        assert problem.threads == 2
    finally:
        torch.set_num_threads(before)


def test_a_problem_without_materials_travels_as_it_is():
    there = cloudpickle.loads(cloudpickle.dumps(Portable.of(Toy()))).unpack()
    assert there.run({"alpha:a": 0.25}).values == (0.25,)


@dataclass(frozen=True)
class Stores:
    """Materials, as far as they have paths."""

    store: Store


def test_workers_look_into_the_stores_of_warm_starts_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    problem = object.__new__(BankProblem)
    problem.materials = Stores(Store(Path("run/store"), [Path("other/store"), Path("/far/store")]))
    Store(Path("other/store")).put_text("weights", "k", "found", {})
    packed = Portable.of(problem).materials.store
    assert packed.root == tmp_path / "run/store"
    assert packed.others == (tmp_path / "other/store", Path("/far/store"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert packed.get("weights", "k")[1]["text"] == "found"
