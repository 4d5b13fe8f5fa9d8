"""What a run's directory holds and what of it nobody needs; tests/integration/test_store.py does it to a real run."""

import numpy as np
import pytest
import yaml

from eesearch.core.design import Design, ExitSpec, HeadSpec, TrainSpec
from eesearch.core.errors import RunError
from eesearch.core.locks import locked
from eesearch.study.problem import SOLVER_VERSION
from eesearch.study.rundir import RunDir
from eesearch.study.spread import BankPart, TableShard
from eesearch.study.upkeep import _remove, prune, shelves, spare, verify
from eesearch.study.workers import machine, working

STUDY = {
    "name": "toy",
    "backbone": {"model": "mine:build"},
    "data": {"source": "mine:data"},
    "devices": ["macs"],
}
NOW = {"solver": str(SOLVER_VERSION), "device": "macs"}


@pytest.fixture
def run(tmp_path):
    """A run with an entry of every kind, all of them needed."""
    made = RunDir(tmp_path / "toy")
    made.path.mkdir()
    made.study_file.write_text(yaml.safe_dump(STUDY))
    for kind, key in (("table", "a-cal"), ("table", "a-test"), ("weights", "a"), ("fit", "f")):
        made.store.put(kind, key, {"x": np.zeros(100)}, {})
    for kind in ("front", "literature"):
        made.store.put_text(kind, "k", "{}", NOW)
    return made


def why(run):
    return {str(each.path.relative_to(run.path)): each.why for each in spare(run)}


def test_entries_are_counted_by_kind(run):
    assert [(shelf.kind, shelf.entries) for shelf in shelves(run)] == [
        ("fit", 1), ("front", 1), ("literature", 1), ("table", 2), ("weights", 1),
    ]  # fmt: skip
    assert {shelf.kind: shelf.size for shelf in shelves(run)}["weights"] == run.store.path(
        "weights", "a"
    ).stat().st_size


def test_nothing_that_is_needed_goes(run):
    assert why(run) == {}
    assert prune(run) == []


def test_what_is_damaged_is_told_and_set_aside(run):
    path = run.store.path("front", "k")
    path.write_bytes(path.read_bytes()[:-2] + b"x}")
    (told,) = verify(run)
    assert str(path) in told
    assert verify(run) == []
    assert why(run) == {"store/front/k.damaged": "damaged"}


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({**NOW, "solver": "1"}, "solved by an older eesearch"),
        ({**NOW, "device": "phone"}, "solved for a device that the study does not have any more"),
        ({**NOW}, ""),
        ({}, ""),
    ],
)
def test_fronts_go_by_solver_and_device(run, facts, reason, monkeypatch):
    from eesearch.study import upkeep

    monkeypatch.setattr(upkeep, "_devices", lambda run: {"macs"})
    run.store.put_text("front", "other", "{}", facts)
    assert why(run) == ({"store/front/other.safetensors": reason} if reason else {})


def test_where_the_devices_are_not_known_fronts_stay(run):
    run.store.put_text("front", "other", "{}", {**NOW, "device": "phone"})
    assert why(run) == {}, "there are no answers yet"


def test_checkpoints_go_when_their_training_is_done(run):
    folder = run.path / "checkpoints"
    folder.mkdir()
    for name in ("a", "a.0", "b.0", "b.1.damaged", ".b.0.abcd1234"):
        (folder / name).write_bytes(b"x")
    done = "a checkpoint of a finished training"
    assert why(run) == {
        "checkpoints/a": done, "checkpoints/a.0": done, "checkpoints/b.1.damaged": "damaged",
        "checkpoints/.b.0.abcd1234": "an interrupted write",
    }  # fmt: skip
    prune(run)
    assert [file.name for file in folder.iterdir()] == ["b.0"]


def test_pieces_go_when_the_table_is_there(run):
    design = Design(
        backbone="b", data="d", strategy="separate", exits=(ExitSpec(cut="c", head=HeadSpec()),), train=TrainSpec()
    )
    for split, done in (("cal", True), ("test", False)):
        shard = TableShard(design, split, 0, 256)
        run.store.put("shard", shard.key, {"x": np.zeros(3)}, {})
        if done:
            run.store.put("table", f"{design.key}-{split}", {"x": np.zeros(3)}, {})
    assert why(run) == {f"store/shard/{design.key}-cal-0-256.safetensors": "a piece of a finished table"}


def test_parts_go_when_the_bank_is_there(run):
    design = Design(
        backbone="b", data="d", strategy="separate", exits=(ExitSpec(cut="c", head=HeadSpec()),), train=TrainSpec()
    )
    parts = [BankPart(design, cached=True, bank=bank) for bank in ("a", "other")]
    (run.path / "checkpoints").mkdir()
    for part in parts:
        run.store.put("part", part.key, {"x": np.zeros(3)}, {})
        (run.path / "checkpoints" / f"{part.key}.0").write_bytes(b"x")
    assert why(run) == {
        f"store/part/a-{design.key}.safetensors": "a part of a finished bank",
        f"checkpoints/a-{design.key}.0": "a checkpoint of a finished training",
    }
    prune(run)
    assert run.store.path("part", parts[1].key).exists()


def test_locks_go_that_nobody_holds(run):
    folder = run.path / "locks"
    folder.mkdir()
    for name in ("design-a", "design-b", "part-a-c", "table-a-cal", "ask", "answers"):
        (folder / f"{name}.lock").touch()
    (folder / "design-x.txt").touch()
    (folder / "table-link.lock").symlink_to(run.study_file)
    (run.path / "workers").mkdir()
    (run.path / "workers" / f"{machine()}.1.dead.lock").touch()
    with locked(folder / "design-b.lock"):  # a training without a search
        free = "a lock that nobody holds"
        expected = {f"locks/{name}.lock": free for name in ("design-a", "part-a-c", "table-a-cal")}
        assert {name: reason for name, reason in why(run).items() if name.startswith("locks")} == expected
        assert len(prune(run)) == 3
    left = {"design-b.lock", "ask.lock", "answers.lock", "design-x.txt", "table-link.lock"}
    assert {file.name for file in folder.iterdir()} - {"prepare.lock"} == left
    assert list((run.path / "workers").iterdir()) == []


def test_a_lock_that_was_taken_just_now_stays(run):
    file = run.lock("design-a")
    file.parent.mkdir()
    file.touch()
    (found,) = spare(run)
    with locked(file):
        _remove(found)
        assert file.exists()
    _remove(found)
    assert not file.exists()


def test_sizes_are_told(run):
    (run.path / ".front.json.abcd1234").write_bytes(b"x" * 1234)
    assert [each.size for each in prune(run, dry_run=True)] == [1234]
    assert [each.size for each in prune(run)] == [1234]
    assert prune(run) == []


def test_other_peoples_files_stay(run):
    for name in (".gitignore", "notes.txt", "store/README.md", "logs/.x.abcd1234", "store/table/mine.txt"):
        (run.path / name).parent.mkdir(exist_ok=True)
        (run.path / name).write_text("x")
    assert why(run) == {}


def test_a_search_that_runs_is_not_disturbed(run):
    with working(run.path), pytest.raises(RunError, match="a search is running"):
        prune(run)


def test_a_directory_that_is_no_run_is_told(tmp_path):
    for work in (shelves, verify, prune):
        with pytest.raises(RunError, match="holds no run"):
            work(RunDir(tmp_path))


def test_what_is_left_of_caches_goes(run):
    run.cache.mkdir()
    (run.cache / "tmp1234").write_bytes(b"x" * 10)
    assert why(run) == {"cache/tmp1234": "left of a cache"}
    assert [each.size for each in prune(run)] == [10]
