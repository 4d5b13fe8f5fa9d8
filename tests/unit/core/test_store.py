"""The store: round trips, damage, full disks."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from eesearch.core import store as module
from eesearch.core.errors import RunError, StoreError
from eesearch.core.store import Store, is_leftover, write_atomic

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


def test_what_cannot_be_read_is_not_taken_for_damaged(store, monkeypatch):
    def refused(path, framework):
        raise OSError("Too many open files (os error 24)")

    monkeypatch.setattr(module, "safe_open", refused)
    with pytest.raises(RunError, match=r"cannot read .* Too many open files"):
        store.get("table", "k")
    monkeypatch.undo()
    assert store.get("table", "k") is not None


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


def test_a_text_is_an_entry_like_any_other(store):
    store.put_text("front", "k", '{"é": 1}', {"solver": "2"})
    arrays, facts = store.get("front", "k")
    assert (arrays, facts) == ({}, {"text": '{"é": 1}', "solver": "2"})
    path = store.path("front", "k")
    path.write_bytes(path.read_bytes().replace(b": 1}", b": 7}"))
    with pytest.raises(StoreError, match="wrong checksum"):
        store.get("front", "k")


class TestSeveralProcesses:
    """What another process does between two steps of this one; tests/integration/test_store.py has real ones."""

    def test_an_entry_that_goes_while_it_is_opened_is_none(self, store, monkeypatch):
        def gone(path, framework):
            path.unlink(missing_ok=True)
            raise FileNotFoundError(path)

        monkeypatch.setattr(module, "safe_open", gone)
        assert store.get("table", "k") is None

    def test_a_damaged_entry_that_another_has_just_made_again_is_read(self, store, monkeypatch):
        good = store.path("table", "k").read_bytes()
        write_atomic(store.path("table", "k"), good[:-1])
        whole = module._read

        def slowly(path):
            try:
                return whole(path)
            except StoreError:
                write_atomic(path, good)
                raise

        monkeypatch.setattr(module, "_read", slowly)
        assert store.get("table", "k")[1] == {"split": "cal"}
        assert not damaged(store).exists()

    def test_a_good_entry_is_never_set_aside_for_a_damaged_one(self, store, monkeypatch):
        good, path = store.path("table", "k").read_bytes(), store.path("table", "k")
        write_atomic(path, good[:-1])
        move = os.replace

        def late(source, target):
            monkeypatch.undo()
            write_atomic(path, good)  # between the look at what lies there and the move
            move(source, target)

        monkeypatch.setattr(os, "replace", late)
        assert store.get("table", "k")[1] == {"split": "cal"}
        assert path.exists()
        assert not damaged(store).exists()

    def test_a_damaged_entry_that_another_has_just_set_aside_is_none(self, store, monkeypatch):
        path = store.path("table", "k")
        path.write_bytes(b"")
        monkeypatch.setattr(module, "_set_aside", lambda path, seen: bool(os.rename(path, damaged(store))))
        assert store.get("table", "k") is None


class TestOtherStores:
    @pytest.fixture
    def own(self, store, tmp_path):
        return Store(tmp_path / "own", [tmp_path / "nowhere", store.root])

    def test_what_is_missing_is_copied(self, own, store):
        arrays, meta = own.get("table", "k")
        assert meta == {"split": "cal"}
        np.testing.assert_array_equal(arrays["logits"], ARRAYS["logits"])
        assert Store(own.root).get("table", "k") is not None
        assert own.get("table", "other") is None

    @pytest.mark.parametrize("kind", ["fit", "front", "folds", "literature", "shard"])
    def test_what_depends_on_the_calibration_samples_of_another_run_is_not_copied(self, own, store, kind):
        store.put(kind, "k", ARRAYS, {})
        assert own.get(kind, "k") is None
        assert not own.path(kind, "k").exists()

    def test_what_is_there_stays(self, own):
        own.put("table", "k", {"labels": np.zeros(3)}, {"split": "own"})
        assert own.get("table", "k")[1] == {"split": "own"}

    def test_what_is_damaged_is_neither_used_nor_touched(self, own, store, caplog):
        path = store.path("table", "k")
        path.write_bytes(path.read_bytes()[:-1])
        assert own.get("table", "k") is None
        assert path.exists()
        assert not own.path("table", "k").exists()
        assert "is damaged" in caplog.text


def test_the_names_of_unfinished_writes_are_known(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda handle: seen.extend(tmp_path.iterdir()))
    for name in ("k-cal.safetensors", "front.json", "4f2a.0"):
        write_atomic(tmp_path / name, "x")
    unfinished = [path for path in seen if path.name.startswith(".")]
    assert len(unfinished) == 3
    assert all(is_leftover(path) for path in unfinished)
    assert not any(is_leftover(path) for path in tmp_path.iterdir())
    assert not is_leftover(tmp_path / ".run.lock")
