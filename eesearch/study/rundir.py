"""The run directory: one study's resolved question, database, profiles, store and answers."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from filelock import FileLock, Timeout
from pydantic import ValidationError

from eesearch.core.errors import RunError, StudyError
from eesearch.core.store import Store, disk_errors, write_atomic
from eesearch.study.answers import Answers, table_rows
from eesearch.study.examples import Examples
from eesearch.study.files import load_study
from eesearch.study.question import FREE_TO_CHANGE, Study, differences

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunDir:
    """Paths of one run, and how its files are read and written."""

    path: Path

    @property
    def study_file(self) -> Path:
        """The resolved study."""
        return self.path / "study.yaml"

    @property
    def database(self) -> Path:
        """Optuna's SQLite storage."""
        return self.path / "study.db"

    @property
    def store(self) -> Store:
        """Tables, weights and fits, by content."""
        return Store(self.path / "store")

    def profile_file(self, device: str) -> Path:
        """Where a device's measured profile lies."""
        return self.path / "profiles" / f"{device.replace(':', '-').replace('/', '_')}.json"

    def study(self) -> Study:
        """The resolved study of this run.

        Raises:
            RunError: the directory holds no run.
        """
        self._require()
        return load_study(self.study_file)

    def _require(self) -> None:
        if not self.study_file.is_file():
            raise RunError(
                f"{self.path} holds no run", expected="a directory that `eesearch search` wrote, such as runs/digits"
            )

    @property
    def has_answers(self) -> bool:
        """Whether any were written."""
        return (self.path / "front.json").is_file()

    def answers(self) -> Answers:
        """The answers as last written.

        Raises:
            RunError: there are none, or the file is damaged.
        """
        file = self.path / "front.json"
        self._require()
        if not self.has_answers:
            raise RunError(f"{self.path} has no answers yet", do="Run `eesearch search` until its first trial is done.")
        try:
            return Answers.model_validate_json(file.read_bytes())
        except ValidationError as error:
            raise RunError(
                f"{file} is damaged",
                got=f"{error.error_count()} mistakes in it",
                do="Run `eesearch search` with the same study and --run again: it rewrites the file from the store.",
            ) from None

    def check_inputs(self, inputs: Mapping[str, str]) -> None:
        """Remember the content hashes of data and model at the first search, and refuse others later.

        A study names files and functions; what they hold may have changed since, and its trials with it.

        Raises:
            RunError: something changed.
        """
        file = self.path / "inputs.json"
        try:
            known = json.loads(file.read_text()) if file.is_file() else None
        except ValueError:
            known = None  # damaged: what it says is written again
        if known is None:
            write_atomic(file, json.dumps(inputs, indent=1))
        elif known != inputs:
            changed = ", ".join(sorted(name for name in known if known[name] != inputs.get(name)))
            raise RunError(
                f"{self.path} was begun with another {changed}",
                got="the same names with other contents",
                do="Restore it, pass another directory with --run, or start anew with --fresh.",
            )

    def examples(self, answers: Answers) -> Examples | None:
        """Samples to look at, if there are any for these answers."""
        try:
            found = Examples.model_validate_json((self.path / "examples.json").read_bytes())
        except (FileNotFoundError, ValidationError):  # of an older run, or half of a search: a report goes without
            return None
        return found if found.made_for == answers.key else None

    def phases(self) -> dict[str, float]:
        """Wall seconds by phase of all searches so far."""
        try:
            return dict(self.answers().phases)
        except RunError:  # there are no answers yet
            return {}

    def write_answers(self, answers: Answers, examples: Examples | None = None) -> None:
        """Write `front.json` and `front.csv`, and `examples.json` if there are any.

        Raises:
            RunError: the disk is full, or the directory cannot be written.
        """
        write_atomic(self.path / "front.json", answers.model_dump_json())
        write_atomic(self.path / "front.csv", table_rows(answers.devices).to_csv(index=False))
        if examples is not None:
            write_atomic(self.path / "examples.json", examples.model_dump_json())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for one search; a second one is refused. The lock lies beside the directory, not in it.

        Raises:
            RunError: another process searches here, or the directory above cannot be written.
        """
        lock = self.path.with_name(f".{self.path.name}.lock")
        with disk_errors(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            held = FileLock(lock, timeout=0)
            try:
                held.acquire()
            except Timeout:
                if not lock.exists():
                    raise RunError(f"cannot write {lock}", do="Pass another directory with --run.") from None
                raise RunError(
                    f"another search is running in {self.path}", do="Wait for it, or pass another --run."
                ) from None
        try:
            yield
        finally:
            held.release()


def open_run(path: Path, study: Study, *, fresh: bool = False) -> RunDir:
    """Make a run directory, or open it to continue the same study.

    Args:
        path: The directory.
        study: The question; when continued, what is in `question.FREE_TO_CHANGE` may have changed.
        fresh: Rename what is there and start anew; nothing is deleted.

    Raises:
        RunError: the directory belongs to another study (the differences are shown), holds something else, or cannot
            be written.
    """
    run = RunDir(path)
    if fresh and path.exists():
        aside = _free_name(path)
        os.rename(path, aside)
        log.info("the old run was renamed to %s", aside)
    if run.study_file.is_file():
        _check_same(run, study)
    elif path.is_dir() and any(p.name != "profiles" for p in path.iterdir()):  # `eesearch profile` may come first
        raise RunError(f"{path} is not empty and holds no run", do="Pass another directory with --run.")
    fields = study.model_dump(mode="json", exclude_defaults=False)
    write_atomic(run.study_file, yaml.safe_dump(fields, sort_keys=False, allow_unicode=True))
    return run


def _free_name(path: Path) -> Path:
    return next(p for n in range(1, 10_000) if not (p := path.with_name(f"{path.name}.old-{n}")).exists())


def _check_same(run: RunDir, study: Study) -> None:
    try:
        old = run.study()
    except StudyError as error:
        raise RunError(f"{run.study_file} cannot be read", got=error, do="Start anew with --fresh.") from None
    changed = differences(old, study)
    if changed:
        lines = "\n".join(f"  {path}: {a!r} there, {b!r} now" for path, a, b in changed)
        raise RunError(
            f"{run.path} belongs to another study; only {', '.join(FREE_TO_CHANGE)} may change:\n{lines}\n"
            "Pass another directory with --run, or start anew with --fresh (the old one is renamed, not deleted)"
        )
