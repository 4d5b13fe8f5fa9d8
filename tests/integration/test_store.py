"""The store among several processes, and what `eesearch store` does to a real run."""

import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from eesearch.api import report, search_study
from eesearch.cli import app
from eesearch.core.store import Store, is_leftover
from eesearch.study import materials, workshop
from eesearch.study.problem import SOLVER_VERSION
from eesearch.study.question import Study
from eesearch.study.run import Run
from eesearch.study.rundir import RunDir
from eesearch.study.workers import working

PROCESS = """
import os, random, sys
from pathlib import Path
import numpy as np
from eesearch.core.errors import StoreError
from eesearch.core.store import Store, write_atomic

kind, seed = sys.argv[2], int(sys.argv[3])
store, rng, seen = Store(Path(sys.argv[1])), random.Random(seed), {"whole": 0, "none": 0, "damaged": 0}
contents = {key: np.full(20_000, key, np.int64) for key in range(3)}
for _ in range(250):
    key = rng.randrange(3)
    path = store.path("table", str(key))
    if kind == "writes":
        store.put("table", str(key), {"values": contents[key]}, {"key": str(key)})
    elif kind == "prunes":
        for file in (path, path.with_suffix(".damaged")):
            file.unlink(missing_ok=True)
    elif kind == "damages" and path.exists():
        write_atomic(path, b"not what was meant" * rng.randrange(9))
    try:
        found = store.get("table", str(key))
    except StoreError:
        seen["damaged"] += 1
        continue
    if found is None:
        seen["none"] += 1
    else:
        assert found[1] == {"key": str(key)}
        np.testing.assert_array_equal(found[0]["values"], contents[key])
        seen["whole"] += 1
print(seen)
"""

KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from eesearch.core.store import Store

os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
Store(Path(sys.argv[1])).put("table", "k", {"values": np.zeros(1000)}, {})
"""


def start(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_processes_that_write_damage_and_prune_never_make_anybody_read_what_is_wrong(tmp_path):
    kinds = ("writes", "writes", "reads", "damages", "prunes")
    processes = [start(PROCESS, tmp_path, kind, seed) for seed, kind in enumerate(kinds)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert "'whole': " in out
    left = [file for file in (tmp_path / "table").iterdir() if is_leftover(file)]
    assert left == []


def test_a_write_that_is_killed_leaves_nothing_but_its_own_file(tmp_path):
    process = start(KILLED, tmp_path)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, err
    (left,) = (tmp_path / "table").iterdir()
    assert is_leftover(left)
    assert Store(tmp_path).get("table", "k") is None


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_fields):
    path = tmp_path_factory.mktemp("store") / "tiny"
    search_study(Study.model_validate(tiny_fields | {"budget": {"trials": 3}}), path)
    return path


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "tiny")


@pytest.fixture
def trainings(monkeypatch):
    """What is trained, or collected, from now on."""
    done = []

    def count(module, name):
        whole = getattr(module, name)

        def counted(*args, **options):
            done.append(name)
            return whole(*args, **options)

        monkeypatch.setattr(module, name, counted)

    for name in ("train_bank", "train_design", "collect"):
        count(workshop, name)
    count(materials, "train_backbone")
    return done


def contents(path):
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted((path / "store").rglob("*")) if f.is_file()}


def same(entry, other):
    """Equal arrays and facts; the bytes may differ, as safetensors orders the facts at random."""
    assert entry[1] == other[1]
    assert entry[0].keys() == other[0].keys()
    for name, array in entry[0].items():
        np.testing.assert_array_equal(array, other[0][name])


def litter(copy):
    """Everything that prune removes, and how it is called there."""
    store, checkpoints = copy / "store", copy / "checkpoints"
    trained = sorted((store / "weights").glob("*.safetensors"))[0].stem
    made = {
        store / "table" / ".k-cal.safetensors.a1b2c3d4": "interrupted",
        copy / ".front.json.a1b2c3d4": "interrupted",
        copy / "profiles" / ".macs.json.a1b2c3d4": "interrupted",
        store / "weights" / "gone.damaged": "damaged",
        checkpoints / "other.0.damaged": "damaged",
        checkpoints / f"{trained}.1": "finished training",
        store / "front" / "abc.json": "older eesearch",
    }
    for file in made:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x" * 1000)
    Store(store).put_text("front", "before", "{}", {"solver": "1", "device": "macs"})
    Store(store).put_text("literature", "phone", "{}", {"solver": str(SOLVER_VERSION), "device": "phone"})
    Store(store).put("part", f"{trained}-abc", {"x": np.zeros(3)}, {})
    made |= {store / "part" / f"{trained}-abc.safetensors": "finished bank"}
    made |= {store / "front" / "before.safetensors": "older eesearch"}
    made |= {file: "nobody holds" for kind in ("design", "table") for file in (copy / "locks").glob(f"{kind}-*.lock")}
    made |= {store / "literature" / "phone.safetensors": "device that the study does not have"}
    return made


class TestStore:
    def test_lists_what_is_there(self, finished):
        done = run("store", finished)
        assert done.exit_code == 0, done.output
        rows = dict(line.split(maxsplit=1) for line in done.output.splitlines())
        assert rows["table"].startswith("6 entries")  # two splits of the bank and of two designs
        assert {"weights", "fit", "front", "literature"} <= rows.keys()

    def test_reads_every_entry(self, copy):
        before = contents(copy)
        done = run("store", copy, "--verify")
        assert (done.exit_code, done.output) == (0, "every entry is whole\n")
        assert contents(copy) == before

    def test_sets_damaged_entries_aside_and_the_next_search_makes_them_again(self, copy, trainings):
        files = [sorted((copy / "store" / kind).glob("*.safetensors"))[0] for kind in ("table", "fit", "front")]
        designs = Run.load(copy).answers.designs.values()
        bank = next(design.key for design in designs if design.strategy == "separate")  # whose tables are always needed
        files[0] = copy / "store" / "table" / f"{bank}-cal.safetensors"
        table = RunDir(copy).store.get("table", files[0].stem)
        for file in files:
            content = file.read_bytes()
            file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        done = run("store", copy, "--verify")
        assert done.exit_code == 1
        assert "3 damaged" in done.stdout
        assert all(str(file) in done.stderr for file in files)
        assert all(file.with_suffix(".damaged").exists() and not file.exists() for file in files)
        assert run("store", copy, "--verify").exit_code == 0
        study = RunDir(copy).study()
        before = Run.load(copy).answers
        search_study(study, copy)
        same(RunDir(copy).store.get("table", files[0].stem), table)
        assert set(trainings) == {"collect"}
        assert Run.load(copy).answers.devices[0].points == before.devices[0].points

    def test_is_about_runs(self, tmp_path):
        for options in ([], ["--verify"], ["--prune"]):
            done = run("store", tmp_path, *options)
            assert done.exit_code == 2
            assert "holds no run" in done.output
        assert run("store", tmp_path, "--dry-run").exit_code == 2


class TestPrune:
    def test_only_says_what_would_go(self, copy):
        made, before = litter(copy), contents(copy)
        done = run("store", copy, "--prune", "--dry-run")
        assert done.exit_code == 0, done.output
        assert f"{len(made)} files would be removed" in done.stdout
        for file, why in made.items():
            (line,) = [line for line in done.stderr.splitlines() if line.startswith(f"{file}: ")]
            assert why in line
        assert contents(copy) == before

    def test_removes_what_nobody_needs_and_nothing_else(self, copy):
        before = contents(copy)
        made = litter(copy)
        kept = copy / "checkpoints" / "unfinished.0"
        kept.write_bytes(b"x")
        done = run("store", copy, "--prune")
        assert done.exit_code == 0, done.output
        assert f"{len(made)} files removed" in done.stdout
        assert not any(file.exists() for file in made)
        assert contents(copy) == before
        assert kept.exists(), "a training that is not done goes on from it"
        assert "0 files removed" in run("store", copy, "--prune").stdout

    def test_nothing_is_trained_for_it(self, copy, trainings, tmp_path):
        litter(copy)
        assert run("store", copy, "--prune").exit_code == 0
        answers = Run.load(copy).answers
        study = RunDir(copy).study()
        search_study(study, copy)
        assert trainings == []
        assert Run.load(copy).answers.devices == answers.devices
        assert report(copy).exists()
        x = np.zeros((3, 1, 8, 8), np.uint8)
        np.savez(tmp_path / "x.npz", x=x)
        assert run("predict", copy, tmp_path / "x.npz", "--pick", "knee").exit_code == 0
        assert run("export", copy, "--to", "config", "--out", tmp_path / "out", "--pick", "knee").exit_code == 0
        assert trainings == []
        more = study.model_copy(update={"budget": study.budget.model_copy(update={"trials": 4})})
        assert len(search_study(more, copy).answers.trials) == 4
        assert "train_bank" not in trainings
        assert trainings.count("train_design") == 1

    def test_is_refused_while_somebody_searches(self, copy):
        made = litter(copy)
        with working(copy):
            done = run("store", copy, "--prune")
            assert done.exit_code == 2
            assert "a search is running" in done.output
            assert run("store", copy).exit_code == 0
        assert all(file.exists() for file in made)
        assert run("store", copy, "--prune").exit_code == 0

    def test_a_crash_in_the_middle_loses_nothing(self, copy, monkeypatch, trainings):
        made, left = litter(copy), len(list(copy.rglob("*")))
        answers = Run.load(copy).answers
        remove, count = os.unlink, iter(range(4))

        def dying(path, **options):
            if next(count, None) is None:
                raise KeyboardInterrupt
            remove(path, **options)

        monkeypatch.setattr(os, "unlink", dying)
        assert run("store", copy, "--prune").exit_code == 130
        monkeypatch.undo()
        assert 0 < sum(file.exists() for file in made) < len(made)
        assert len(list(copy.rglob("*"))) < left
        assert run("store", copy, "--verify").exit_code == 0
        assert search_study(RunDir(copy).study(), copy).answers.devices == answers.devices

    def test_links_lead_nowhere(self, copy, tmp_path):
        foreign = tmp_path / "foreign"
        foreign.mkdir()
        (foreign / "mine.damaged").write_text("x")
        (foreign / "mine.json").write_text("x")
        shutil.rmtree(copy / "store" / "front")
        (copy / "store" / "front").symlink_to(foreign)
        (copy / "store" / "table" / "link.damaged").symlink_to(foreign / "mine.json")
        assert run("store", copy, "--prune").exit_code == 0
        assert sorted(file.name for file in foreign.iterdir()) == ["mine.damaged", "mine.json"]


class TestWarmStart:
    @pytest.fixture
    def second(self, tiny, tmp_path):
        """The same question with another budget and another timer's device besides."""
        tiny["budget"] = {"trials": 5}
        tiny["devices"] = ["macs", "cpu:eager:t1:b1"]
        return tiny, tmp_path / "second"

    def warmed(self, fields, *sources):
        from eesearch.study.retrain import warmed

        return warmed(Study.model_validate(fields), sources)

    def test_designs_of_a_run_are_tried_first_and_not_trained_again(self, finished, second, trainings):
        fields, path = second
        first = Run.load(finished)
        whole = [d.key for d in first.answers.designs.values() if d.strategy == "mixed"]
        on_front = [p.cal.design for p in first.answers.devices[0].points]
        expected = list(dict.fromkeys(key for key in on_front if key in whole))
        assert expected, "a design trained as a whole is on the front, or this tests nothing"
        fields["budget"]["trials"] = 1 + len(expected)
        study = self.warmed(fields, finished)
        run = search_study(study, path)
        assert trainings == []
        assert [t.design for t in run.answers.trials[1:]] == expected
        assert all(t.origin.startswith("warm start tiny ") for t in run.answers.trials[1:])
        for kind in ("table", "weights"):
            for file in (path / "store" / kind).iterdir():
                same(RunDir(path).store.get(kind, file.stem), RunDir(finished).store.get(kind, file.stem))
        for trial in run.answers.trials:
            (known,) = [t for t in first.answers.trials if t.design == trial.design]
            assert known.last_accuracy == trial.last_accuracy

    def test_values_are_equal_on_the_same_devices(self, finished, second, trainings):
        fields, path = second
        fields |= {"devices": ["macs"]}
        first = {t.design: t.value for t in Run.load(finished).answers.trials}
        fields["budget"]["trials"] = 2
        run = search_study(self.warmed(fields, finished), path)
        assert trainings == []
        assert {t.design: t.value for t in run.answers.trials}.items() <= first.items()

    def test_what_is_damaged_there_is_trained_here(self, finished, second, trainings, tmp_path):
        fields, path = second
        other = shutil.copytree(finished, tmp_path / "other")
        bank = Run.load(other).answers.trials[0].design
        for file in (other / "store").glob(f"*/{bank}*"):
            file.write_bytes(b"")
        before = contents(other)
        fields |= {"devices": ["macs"], "budget": {"trials": 1}}
        search_study(self.warmed(fields, other), path)
        assert trainings.count("train_bank") == 1
        assert contents(other) == before
        assert run("store", path, "--verify").exit_code == 0

    def test_the_command_takes_runs(self, finished, second):
        import yaml

        fields, path = second
        file = path.with_name("study.yaml")
        file.write_text(yaml.safe_dump(fields | {"devices": ["macs"]}))
        done = run("search", file, "--run", path, "--warm-start", finished, "--trials", 2, "--quiet")
        assert done.exit_code == 0, done.output
        assert Run.load(path).answers.trials[1].origin.startswith("warm start tiny ")
        assert RunDir(path).study().warm_start[0].run == str(finished)

    @pytest.mark.parametrize(("made", "words"), [(False, "holds no run"), (True, "no answers yet")])
    def test_a_directory_without_answers_is_told(self, second, finished, tmp_path, made, words):
        other = tmp_path / "other"
        other.mkdir()
        if made:
            shutil.copy(finished / "study.yaml", other)
        done = run("search", "digits", "--run", tmp_path / "run", "--warm-start", other)
        assert done.exit_code == 2
        assert words in done.output
        assert not (tmp_path / "run").exists()

    def test_what_the_space_lacks_is_told(self, finished, second):
        fields, path = second
        fields["space"]["heads"] = [{"kind": "linear", "pool": "avg", "size": 1}]
        with pytest.raises(Exception, match="that the space lacks"):
            search_study(self.warmed(fields | {"devices": ["macs"]}, finished), path)
