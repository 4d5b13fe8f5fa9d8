"""Large caches lie on disk: the same bits as in memory, nothing left behind, never a full disk."""

import logging
import subprocess
import sys
from collections import namedtuple
from io import FileIO
from pathlib import Path

import pytest
import torch

from eesearch.core.errors import EesearchError
from eesearch.nets.exitnet import ExitNet
from eesearch.training import cache, models
from eesearch.training.bank import build_heads, train_bank
from eesearch.training.cache import CACHING, NO_CACHING, Caching, Layout
from eesearch.training.checkpoint import weights_hash
from eesearch.training.fitting import fit_heads
from eesearch.training.models import embed
from eesearch.training.samples import Samples
from tests.unit.training.test_bank import LINEAR, LOGISTIC, MAP_CONV, MIXED, SPEC, count_runs, design, everywhere

MAPS = Path("/proc/self/maps")
linux = pytest.mark.skipif(not MAPS.exists(), reason="what is mapped can be looked up on Linux")


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """Everything is too large for memory."""
    monkeypatch.setattr(cache, "MEMORY_GB", 0.0)
    return Caching(1.0, tmp_path / "cache")


def mapped(folder):
    """How many files of a folder are mapped by this process, and whether one of them has a name."""
    lines = [line for line in MAPS.read_text().splitlines() if str(folder) in line]
    return len(lines), any(folder.iterdir()) if folder.exists() else False


def free(monkeypatch, nbytes):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage(10**12, 0, nbytes))


@linux
def test_a_bank_trains_from_disk_as_from_memory_and_leaves_nothing(backbone, data, disk, caplog):
    wanted = design(*everywhere(backbone, LINEAR, MIXED, LOGISTIC, MAP_CONV))
    seen, runs = set(), count_runs(backbone, 0)
    with caplog.at_level(logging.INFO):
        one = train_bank(backbone, wanted, data, caching=disk, progress=lambda *_: seen.add(mapped(disk.folder)))
    backbone.segments[0]._forward_hooks.clear()
    assert sum(runs) == len(data) * (1 + SPEC.epochs), "once for the cache; maps are never cached"
    assert seen >= {(1, False)}, "one file, without a name"
    assert mapped(disk.folder) == (0, False)
    (line,) = caplog.messages
    assert line.startswith("hidden states of the bank: 0.000 GB, at most 1.000 GB: cached on disk in ")
    assert f"in {disk.folder}, where " in line
    assert weights_hash(one.heads) == weights_hash(train_bank(backbone, wanted, data).heads)


@linux
def test_nothing_is_left_after_an_error(backbone, data, disk):
    def failing(label, *_):
        if label == "train bank":
            assert mapped(disk.folder) == (1, False)
            raise EesearchError("enough")

    with pytest.raises(EesearchError, match="enough") as caught:
        train_bank(backbone, design(*everywhere(backbone, LINEAR)), data, caching=disk, progress=failing)
    del caught  # its traceback holds what the training held
    assert mapped(disk.folder) == (0, False)


def test_nothing_is_left_of_an_interrupted_filling(disk):
    def pieces():
        yield "a", torch.zeros(2, 3)
        raise OSError("the model's own")

    layouts = {"a": Layout((4, 3))}
    with pytest.raises(OSError, match="the model's own"):
        disk.place(48).keep(layouts, pieces())
    assert list(disk.folder.iterdir()) == []


KILLED = """
import os, signal, sys, torch
from pathlib import Path
from eesearch.training import cache
cache.MEMORY_GB = 0.0
folder = Path(sys.argv[1])
kept = cache.Caching(1.0, folder).place(4096).keep({"a": cache.Layout((1024,))}, [("a", torch.ones(1024))])
assert kept["a"].sum() == 1024
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_is_left_of_a_killed_process(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "cache")], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert list((tmp_path / "cache").iterdir()) == []


def test_tensors_of_every_type_come_back(disk):
    wanted = {
        "float": torch.randn(5, 3, 2),
        "strided": torch.randn(3, 5).T,
        "flags": torch.tensor([True, False, True, True, False]),
        "numbers": torch.arange(5),
        "half": torch.randn(5, 3).bfloat16(),
        "empty": torch.zeros(5, 0),
    }
    layouts = {name: Layout(tuple(t.shape), t.dtype) for name, t in wanted.items()}
    pieces = [(name, tensor[first : first + 2]) for first in (0, 2, 4) for name, tensor in wanted.items()]
    size = cache.nbytes(layouts)
    assert size == sum(tensor.nbytes for tensor in wanted.values())
    for caching in (disk, CACHING):
        kept = caching.place(size).keep(layouts, pieces)
        assert list(kept) == list(wanted)
        for name, tensor in wanted.items():
            assert kept[name].dtype == tensor.dtype
            assert torch.equal(kept[name], tensor)


def test_small_things_stay_in_memory_and_the_limit_is_for_all(tmp_path):
    caching = Caching(4.0, tmp_path / "cache")
    assert caching.place(10**9).kind == "memory"
    assert caching.place(10**9 + 1).kind == "disk"
    assert caching.place(10**9, held=1).kind == "disk"
    assert caching.place(4 * 10**9 + 1).kind == caching.place(3 * 10**9, held=2 * 10**9).kind == "nowhere"
    assert Caching(4.0).place(4 * 10**9).kind == "memory", "without a folder"
    assert NO_CACHING.place(1).kind == "nowhere"
    assert NO_CACHING.place(0).kind == "memory"
    assert not (tmp_path / "cache").exists(), "nothing was written"


def check_computed_anew(backbone, data, caching, caplog, words):
    """The backbone runs in every epoch, the heads are those of no cache, and one line says so."""
    wanted, runs = design(*everywhere(backbone, LINEAR)), count_runs(backbone, 0)
    with caplog.at_level(logging.INFO):
        net = train_bank(backbone, wanted, data, caching=caching)
    backbone.segments[0]._forward_hooks.clear()
    assert [words in message for message in caplog.messages].count(True) == 1, caplog.messages
    assert weights_hash(net.heads) == weights_hash(train_bank(backbone, wanted, data, caching=NO_CACHING).heads)
    return sum(runs) / len(data)


def test_what_is_over_the_limit_is_computed_anew(backbone, data, disk, caplog):
    words = "over the limit, so computed anew in every epoch"
    assert check_computed_anew(backbone, data, Caching(1e-9, disk.folder), caplog, words) == SPEC.epochs


def test_a_disk_with_little_room_is_left_alone(backbone, data, disk, caplog, monkeypatch):
    layouts = {"a": Layout((250, 1000))}
    free(monkeypatch, 2 * 10**6)
    assert disk.place(cache.nbytes(layouts)).kind == "disk", "half of what is free"
    free(monkeypatch, 2 * 10**6 - 2)
    assert disk.place(cache.nbytes(layouts)).kind == "nowhere"
    free(monkeypatch, 1000)
    words = f"too little room in {disk.folder} (0.0 GB are free, at most 50% of that are used), so computed anew"
    assert check_computed_anew(backbone, data, disk, caplog, words) == SPEC.epochs
    assert not disk.folder.exists()


def test_a_disk_that_cannot_set_the_space_aside_is_told_before_the_backbone_runs(
    backbone, data, disk, caplog, monkeypatch
):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "posix_fallocate", full, raising=False)
    words = f"cannot cache hidden states in {disk.folder}: No space left on device, so computed anew"
    assert check_computed_anew(backbone, data, disk, caplog, words) == SPEC.epochs
    assert list(disk.folder.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_gets_full_meanwhile_only_costs_time(backbone, data, disk, caplog, monkeypatch):
    monkeypatch.setattr(cache, "_reserve", lambda *_: None)
    monkeypatch.setattr(cache, "TemporaryFile", lambda **options: FileIO("/dev/full", "r+"))
    words = "No space left on device, so computed anew"
    assert check_computed_anew(backbone, data, disk, caplog, words) == 1 + SPEC.epochs


def test_a_folder_that_cannot_be_made_only_costs_time(backbone, data, disk, caplog):
    disk.folder.write_text("a file")
    assert check_computed_anew(backbone, data, disk, caplog, "File exists, so computed anew") == SPEC.epochs


def test_file_systems_that_cannot_set_space_aside_are_written_nevertheless(disk, monkeypatch):
    def unsupported(*_):
        raise OSError(cache.errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(cache.os, "posix_fallocate", unsupported, raising=False)
    kept = disk.place(40).keep({"a": Layout((10,))}, [("a", torch.arange(10.0))])
    assert torch.equal(kept["a"], torch.arange(10.0))


@linux
def test_embeddings_on_disk_are_those_in_memory(backbone, data, disk, monkeypatch, caplog):
    monkeypatch.setattr(models, "PASS_BATCH", 16)
    caplog.set_level(logging.INFO)
    raw = Samples.of(data)
    first = embed(backbone, raw, disk, segments=1)
    second = embed(backbone, first, disk, segments=2)
    assert mapped(disk.folder)[0] == 2
    assert [message.partition(":")[0] for message in caplog.messages] == [
        f"hidden states after {number} of {len(backbone.segments)} segments" for number in (1, 2)
    ]
    expected = embed(backbone, embed(backbone, raw, CACHING, segments=1), CACHING, segments=2)
    assert list(second.inputs) == list(expected.inputs)
    assert all(map(torch.equal, second.inputs.values(), expected.inputs.values()))
    del first, second
    assert mapped(disk.folder) == (0, False)
    caplog.clear()
    free(monkeypatch, 0)
    assert embed(backbone, raw, disk, segments=1) is raw
    assert "too little room" in caplog.text


def test_heads_are_fitted_from_disk_too(backbone, data, disk):
    wanted = design(*everywhere(backbone, LOGISTIC)).exits
    told, nets = [], []
    for caching in (disk, CACHING):
        net = ExitNet(backbone, build_heads(backbone, wanted, 0)).eval()
        fit_heads(net, data, 0, caching=caching, progress=lambda label, *_: told.append(label))
        nets.append(weights_hash(net.heads))
    assert nets[0] == nets[1]
    assert told.count("cache hidden states") == 2, "once for all, in either case"
