import pytest
import torch
from torch import nn

from eesearch.core.errors import RunError
from eesearch.training.checkpoint import Checkpoint, weights_hash


def test_round_trip_for_the_same_training_only(tmp_path):
    checkpoint = Checkpoint(tmp_path / "deep" / "run.pt")
    assert checkpoint.load("a") is None
    checkpoint.save({"made_for": "a", "epoch": 3, "model": {"w": torch.ones(2)}})
    assert checkpoint.load("a")["model"]["w"].tolist() == [1, 1]
    assert checkpoint.load("b") is None
    checkpoint.clear()
    assert checkpoint.load("a") is None
    checkpoint.clear()


@pytest.mark.parametrize("keep", [0, 10, -20])
def test_a_truncated_file_is_set_aside(tmp_path, keep):
    checkpoint = Checkpoint(tmp_path / "run.pt")
    checkpoint.save({"made_for": "a", "model": torch.ones(100)})
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:keep])
    assert checkpoint.load("a") is None
    assert not checkpoint.path.exists()
    assert (tmp_path / "run.pt.damaged").exists()


class Code:
    """Something whose pickle needs its class."""


def test_a_file_with_code_in_it_is_not_loaded(tmp_path):
    checkpoint = Checkpoint(tmp_path / "run.pt")
    torch.save({"made_for": "a", "model": Code()}, checkpoint.path)
    assert checkpoint.load("a") is None
    assert (tmp_path / "run.pt.damaged").exists()


def test_a_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        Checkpoint(tmp_path / "file" / "run.pt").save({})


def test_phases_have_files_of_their_own(tmp_path):
    checkpoint = Checkpoint(tmp_path / "run.pt")
    assert len({checkpoint.path, checkpoint.phase(0, "a").path, checkpoint.phase(1, "a").path}) == 3


def test_weights_hash_sees_weights_and_buffers():
    norm = nn.BatchNorm1d(2)
    before = weights_hash(norm)
    norm.running_mean += 1
    assert weights_hash(norm) != before
