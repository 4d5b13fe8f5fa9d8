"""The store: round trips, damage, full disks."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from eesearch.core.errors import RunError, StoreError
from eesearch.core.store import Store, write_atomic

ARRAYS = {"logits": np.arange(12, dtype=np.float32).reshape(3, 4).T, "labels": np.array([1, 2], np.int64)}


@pytest.fixture
def store(tmp_path):
    filled = Store(tmp_path / "store")
    filled.put("table", "k", ARRAYS, {"split": "cal"})
    return filled


def damaged(store):
    return store.path("table", "k").with_suffix(".damaged")


def test_gives_back_what_was_put(store):
    arrays, meta = store.get("table", "k")
    assert meta == {"split": "cal"}
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


def test_an_entry_that_does_not_exist_is_none(store):
    assert store.get("table", "other") is None
    assert store.get("weights", "k") is None


def test_an_entry_is_replaced_whole(store):
    store.put("table", "k", {"labels": np.zeros(3)}, {})
    arrays, meta = store.get("table", "k")
    assert (set(arrays), meta) == ({"labels"}, {})


@pytest.mark.parametrize("keep", [0, 4, 60, -1])
def test_a_truncated_entry_is_set_aside_and_can_be_made_again(store, keep):
    path = store.path("table", "k")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StoreError, match="is damaged"):
        store.get("table", "k")
    assert damaged(store).exists()
    assert store.get("table", "k") is None
    store.put("table", "k", ARRAYS, {})
    assert store.get("table", "k") is not None


def test_a_flipped_bit_is_noticed(store):
    path = store.path("table", "k")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(StoreError, match="wrong checksum"):
        store.get("table", "k")


def test_changed_metadata_is_noticed(store):
    path = store.path("table", "k")
    path.write_bytes(path.read_bytes().replace(b'"cal"', b'"tes"'))
    with pytest.raises(StoreError, match="wrong checksum"):
        store.get("table", "k")


def test_a_foreign_file_without_a_checksum_is_refused(store):
    from safetensors.numpy import save

    store.path("table", "k").write_bytes(save({"labels": np.zeros(3)}))
    with pytest.raises(StoreError, match="wrong checksum"):
        store.get("table", "k")


def test_a_full_disk_leaves_the_old_entry_and_no_rest(store, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left on device") as caught:
        store.put("table", "k", {"labels": np.zeros(3)}, {})
    assert "Free some space" in str(caught.value)
    monkeypatch.undo()
    assert store.get("table", "k")[1] == {"split": "cal"}
    assert [p.name for p in store.path("table", "k").parent.iterdir()] == ["k.safetensors"]


def test_a_parent_that_is_a_file_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        Store(tmp_path / "file" / "store").put("table", "k", ARRAYS, {})


def test_an_interrupted_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "answers.json"
    write_atomic(path, "old")

    def interrupted(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_and_bytes_are_written_as_they_are(tmp_path):
    write_atomic(tmp_path / "a" / "b.txt", "é")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "é".encode()
    assert (tmp_path / "a" / "b.txt").stat().st_mode & 0o777 == 0o644
