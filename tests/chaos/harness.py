"""Searches that are killed, and what must still be true afterwards. Used by tests and by benchmarks/chaos.py."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from eesearch.core.store import Store
from tests.chaos import child

STUDY = {
    "name": "small",
    "backbone": {
        "model": "eesearch.nets.zoo:residual_cnn",
        "args": {"channels": [4, 8], "blocks": 1, "classes": 10, "in_channels": 1},
    },
    "data": {"source": "eesearch.training.data:digits", "calibration": {"from": "train", "share": 0.4}},
    "input": {"scale": 0.0625, "mean": [0.3], "std": [0.37]},
    "training": {
        "epochs": 3,
        "batch_size": 32,
        "lr": 0.01,
        "heads": {"epochs": 5, "batch_size": 64, "lr": 0.02},
        "joint": {"epochs": 2, "batch_size": 64, "lr": 0.001},
    },
    "devices": ["macs"],
    "space": {
        "heads": [{"kind": "linear", "pool": "mixed", "size": 2}],
        "levels": 6,
        "max_exits": 2,
        "criteria": ["max_prob"],
        "gates": False,
    },
    "budget": {"trials": 6},
}
"""Some seconds of search: everything that a run does, as small as it gets."""

PATIENCE_S = 180
"""A process that takes longer hangs."""

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that are started below
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["tests.chaos.child"])


@dataclass
class Searcher:
    """A process that searches."""

    process: multiprocessing.Process
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.is_alive()

    @property
    def said(self) -> str:
        """Its standard error so far."""
        return self.err.read_text() if self.err.exists() else ""

    @property
    def verdict(self) -> str:
        """What it printed in the end, without its table."""
        return self.out.read_text().partition("\n")[0]

    @property
    def told(self) -> set[int]:
        """Trials that it reported finished, by number."""
        whole = self.said.rpartition("\n")[0].splitlines()
        return {int(line.split()[1]) for line in whole if line.startswith("trial ")}

    def wait_for(self, trials: int) -> None:
        """Return when so many trials are told, or it ended."""
        end = time.monotonic() + PATIENCE_S
        while len(self.told) < trials and self.running:
            assert time.monotonic() < end, f"only {len(self.told)} trials after {PATIENCE_S} s: {self.said}"
            time.sleep(0.01)

    def kill(self) -> bool:
        """SIGKILL; whether it was still running."""
        self.process.kill()
        return self.wait() == -9

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        self.process.join(PATIENCE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            raise AssertionError(f"it hangs: {self.said}")
        return self.process.exitcode


@dataclass
class Place:
    """A study and its run directory, in which processes search.

    Attributes:
        folder: Where study, run and notes lie; made if it is missing.
        storage: The database; None: SQLite in the run directory.
        fields: Of the study.
        busy_s: A training takes at least so long.
        run: The run directory, if it is to lie somewhere else.
    """

    folder: Path
    storage: str | None = None
    fields: dict = field(default_factory=lambda: STUDY)
    busy_s: float = 0.0
    run: Path | None = None
    killed: set[int] = field(default_factory=set)
    searchers: list[Searcher] = field(default_factory=list)

    def __post_init__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.run = self.run or self.folder / "run"
        (self.folder / "study.yaml").write_text(yaml.safe_dump(self.fields))

    @property
    def audit(self) -> Path:
        """Where the processes write down what they train and store."""
        return self.folder / "audit"

    def start(self, *options: str, **orders: Any) -> Searcher:
        """Begin a process, which searches until it is done or killed.

        Args:
            options: Of the command `eesearch search`.
            orders: Further fields of `child.Orders`.
        """
        arguments = ["search", str(self.folder / "study.yaml"), "--run", str(self.run), *options]
        if self.storage is not None:
            arguments += ["--storage", self.storage]
        number = len(self.searchers)
        out, err = self.folder / f"out-{number}", self.folder / f"err-{number}"
        given = child.Orders(arguments, str(out), str(err), str(self.audit), **{"busy_s": self.busy_s, **orders})
        process = _server.Process(target=child.search, args=(given,))
        process.start()
        self.searchers.append(Searcher(process, out, err))
        return self.searchers[-1]

    def finish(self, *options: str, **orders: Any) -> Searcher:
        """Search to the end, undisturbed."""
        searcher = self.start(*options, **orders)
        assert searcher.wait() == 0, searcher.said
        return searcher

    def finish_all(self) -> None:
        """Wait until every process has ended by itself, and well."""
        for searcher in self.searchers:
            if searcher.pid not in self.killed:
                assert searcher.wait() == 0, searcher.said

    def kill(self, searcher: Searcher) -> bool:
        """SIGKILL; whether it was still running."""
        done = searcher.kill()
        if done:
            self.killed.add(searcher.pid)
        return done

    def stop_all(self) -> None:
        """Leave no process behind."""
        for searcher in self.searchers:
            if searcher.running:
                searcher.kill()

    def events(self) -> list[dict]:
        """What the processes wrote down."""
        return [json.loads(line) for line in self.audit.read_text().splitlines()] if self.audit.exists() else []


def check_refused(searcher: Searcher, *words: str) -> None:
    """Assert that a process ended with exit code 2 and one clear error that has these words."""
    assert searcher.wait() == 2, searcher.said
    assert "Traceback" not in searcher.said, searcher.said
    errors = [line for line in searcher.said.splitlines() if line.lower().startswith("error")]
    assert len(errors) == 1, searcher.said
    for word in words:
        assert word in " ".join(searcher.said.split()), searcher.said


@contextmanager
def placed(folder: Path, **fields) -> Iterator[Place]:
    """A place that leaves no process behind."""
    place = Place(folder, **fields)
    try:
        yield place
    finally:
        place.stop_all()


@dataclass(frozen=True)
class Snapshot:
    """What a run holds: finished trials with all that is known of them, and the hash of every file in the store."""

    trials: dict[tuple[str, int], tuple]
    files: dict[str, str]
    unfinished: tuple[str, ...] = ()

    def kept_in(self, later: Snapshot) -> None:
        """Assert that nothing of this was lost or changed."""
        for key, known in self.trials.items():
            assert later.trials.get(key) == known, f"trial {key} was {known}, is {later.trials.get(key)}"
        for name, digest in self.files.items():
            assert later.files.get(name) == digest, f"{name} was changed or lost"


def snapshot(place: Place) -> Snapshot:
    """What a run holds now; the run itself is not touched, so that what a kill left is for the next process to mend."""
    store, files = place.run / "store", {}
    for path in sorted(store.rglob("*.safetensors")) if store.exists() else ():
        if not path.name.startswith("."):
            files[str(path.relative_to(store))] = hashlib.sha256(path.read_bytes()).hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        url = place.storage
        if url is None:
            used = place.run
            if not any(searcher.running for searcher in place.searchers):  # else a copy may be torn
                for path in place.run.glob("study.db*"):
                    shutil.copy(path, folder)
                used = Path(folder)
            if not (used / "study.db").exists():
                return Snapshot({}, files)
            url = f"sqlite:///{used}/study.db"
        trials, unfinished = _read(url)
    return Snapshot(trials, files, tuple(unfinished))


def _read(url: str) -> tuple[dict[tuple[str, int], tuple], list[str]]:
    from sqlalchemy import create_engine, inspect

    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        if "version_info" not in inspect(engine).get_table_names():  # killed before the tables were there
            return {}, []
    finally:
        engine.dispose()
    storage = RDBStorage(url.replace("postgresql://", "postgresql+psycopg://"))
    found, unfinished = {}, []
    try:
        for study in storage.get_all_studies():
            for trial in storage.get_all_trials(study._study_id):
                if counts(trial):
                    found[study.study_name, trial.number] = (
                        trial.state.name, trial.values, trial.params, trial.user_attrs,
                        trial.datetime_start, trial.datetime_complete,
                    )  # fmt: skip
                elif trial.state in (TrialState.RUNNING, TrialState.WAITING):
                    unfinished.append(f"{trial.number}: {trial.state.name}")
    finally:
        storage.engine.dispose()
    return found, unfinished


def counts(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether a trial ended by itself; one whose process was killed did not."""
    failed = trial.state == TrialState.FAIL and "error" in trial.user_attrs
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or failed


def check_store(place: Place) -> int:
    """Assert that every entry of the store is whole, and that none was set aside; how many there are."""
    root = place.run / "store"
    assert not list(root.rglob("*.damaged")), "an entry was damaged"
    entries = [path for path in root.rglob("*.safetensors") if not path.name.startswith(".")]
    for path in entries:
        assert Store(root).get(path.parent.name, path.stem) is not None
    for path in root.rglob("*.json"):
        json.loads(path.read_text())
    return len(entries)


def check_trainings(place: Place) -> int:
    """Assert that no design was trained twice, unless the process that did it ended in the middle; how many were.

    The same holds of every table and network that was stored.
    """
    training, stored = defaultdict(list), Counter()
    gone = place.killed | {searcher.pid for searcher in place.searchers if searcher.process.exitcode}
    for line in place.events():
        if line["what"] == "training":
            assert not stored[f"weights/{line['key']}"], f"design {line['key']} was stored, and trained again"
            training[line["key"]].append(line["pid"])
        if line["what"] == "stored":
            stored[line["key"]] += 1
    for key, pids in training.items():
        alive = [pid for pid in pids[:-1] if pid not in gone]
        assert not alive, f"design {key} was trained by {pids}, of whom {alive} were neither killed nor stopped"
    # Fits and solved fronts are cheap, and the same whoever makes them; they may be made twice.
    twice = [key for key, times in stored.items() if times > 1 and key.startswith(("weights/", "table/"))]
    assert not twice, f"stored more than once: {twice}"
    return len(training)


def check_trials(place: Place, found: Snapshot, trials: int) -> None:
    """Assert that so many trials are finished in the study that was searched, none twice, and none is left over."""
    assert len(found.trials) == trials, sorted(found.trials)
    assert not found.unfinished, found.unfinished
    retried = [row[3]["retry_of"] for row in found.trials.values() if "retry_of" in row[3]]
    assert len(set(retried)) == len(retried), f"tried again more than once: {retried}"
    for row in found.trials.values():
        assert row[0] == "COMPLETE", row


@dataclass(frozen=True)
class Blow:
    """A moment for SIGKILL.

    Attributes:
        kind: `time`: seconds after the start; `trial`: shortly after a trial was told; `storage`: at an operation on
            the disk or the database.
        at: Seconds, trials, or operations.
        pause: Seconds after the trial.
    """

    kind: str
    at: float
    pause: float = 0.0

    def land(self, place: Place, searcher: Searcher) -> bool:
        """Wait for the moment, and kill; whether the process was still running."""
        if self.kind == "storage":
            killed = searcher.wait() == -9
            place.killed |= {searcher.pid} if killed else set()
            return killed
        if self.kind == "trial":
            searcher.wait_for(int(self.at))
            time.sleep(self.pause)
        else:
            end = time.monotonic() + self.at
            while time.monotonic() < end and searcher.running:
                time.sleep(0.01)
        return place.kill(searcher)


def blows(seed: int, *, seconds: float = 4.0, operations: int = 150) -> Iterator[Blow]:
    """Moments without end, at random.

    Args:
        seed: The same moments for the same seed.
        seconds: The latest, for those by the clock.
        operations: The last, for those by operations of storage.
    """
    dice = random.Random(seed)
    while True:
        kind = dice.choice(["time", "trial", "storage", "storage"])
        if kind == "time":
            yield Blow(kind, dice.uniform(0.1, seconds))
        elif kind == "trial":
            yield Blow(kind, dice.randint(1, 2), dice.choice([0.0, dice.expovariate(10), dice.uniform(0, 1)]))
        else:
            yield Blow(kind, dice.randrange(operations))


def survive(place: Place, blow: Blow) -> bool:
    """Search until the blow lands; assert that nothing finished was lost. Whether it landed before the end.

    Raises:
        AssertionError: something was lost or damaged.
    """
    before = snapshot(place)
    searcher = place.start(strike=int(blow.at) if blow.kind == "storage" else None)
    killed = blow.land(place, searcher)
    assert killed or searcher.wait() == 0, searcher.said
    after = snapshot(place)
    before.kept_in(after)
    numbers = {number for _, number in after.trials}
    assert searcher.told <= numbers, f"told as finished {searcher.told}, in the database {numbers}"
    check_store(place)
    check_trainings(place)
    return killed


def survive_together(place: Place, blow: Blow, *, workers: int, all_die: bool) -> int:
    """Search with several processes until the blow lands on one; assert that nothing finished was lost.

    Args:
        place: Where they search.
        blow: When, from the first process's point of view.
        workers: How many there are.
        all_die: Whether the others are killed then, too; otherwise they search to the end.

    Returns:
        How many were killed.

    Raises:
        AssertionError: something was lost, damaged or done twice.
    """
    before = snapshot(place)
    victim = place.start(strike=int(blow.at) if blow.kind == "storage" else None)
    others = [place.start() for _ in range(workers - 1)]
    kills = int(blow.land(place, victim))
    for other in others:
        if all_die:
            kills += place.kill(other)
        else:
            assert other.wait() == 0, other.said
    after = snapshot(place)
    before.kept_in(after)
    told = set().union(*(searcher.told for searcher in (victim, *others)))
    numbers = {number for _, number in after.trials}
    assert told <= numbers, f"told as finished {told}, in the database {numbers}"
    check_store(place)
    check_trainings(place)
    return kills
