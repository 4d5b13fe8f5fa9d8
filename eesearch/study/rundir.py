"""The run directory: one study's resolved question, database, profiles, store and answers."""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml
from pydantic import ValidationError

from eesearch.core.design import Value
from eesearch.core.errors import RunError, StudyError
from eesearch.core.locks import locked
from eesearch.core.store import Store, disk_errors, is_leftover, write_atomic
from eesearch.study.answers import Answers
from eesearch.study.examples import Examples
from eesearch.study.files import load_study
from eesearch.study.front_table import table_rows
from eesearch.study.question import FREE_TO_CHANGE, Study, differences
from eesearch.study.verified import Verified, VerifiedFile
from eesearch.study.workers import living

log = logging.getLogger(__name__)

LEDGER = "certificates.json"
"""The file that tells what certification samples were asked; see `eesearch.study.certificates`."""


class Identity(Value):
    """Which run this is, and where its trials lie.

    Attributes:
        id: Begins the names of its studies in a database that others use too.
        storage: Address of that database, without the password; empty: `study.db` in the run directory.
    """

    id: str
    storage: str = ""


@dataclass(frozen=True)
class RunDir:
    """Paths of one run, and how its files are read and written.

    Attributes:
        path: Of the directory.
        moved: The study that goes on, where it names files elsewhere than before; written when they hold the same.
    """

    path: Path
    moved: Study | None = field(default=None, compare=False, repr=False)

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

    @property
    def cache(self) -> Path:
        """Where large caches of trainings lie: files without a name, gone with their process."""
        return self.path / "cache"

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

    def write_study(self, study: Study) -> None:
        """Write the resolved study of this run.

        Raises:
            RunError: the directory cannot be written.
        """
        fields = study.model_dump(mode="json", exclude_defaults=False)
        write_atomic(self.study_file, yaml.safe_dump(fields, sort_keys=False, allow_unicode=True))

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
            return self.verified_answers(Answers.model_validate_json(file.read_bytes()))
        except ValidationError as error:
            raise RunError(
                f"{file} is damaged",
                got=f"{error.error_count()} mistakes in it",
                do="Run `eesearch search` with the same study and --run again: it rewrites the file from the store.",
            ) from None

    def verified(self) -> tuple[Verified, ...]:
        """What ran end to end so far; none from a damaged file, which the next verification writes anew."""
        try:
            return VerifiedFile.model_validate_json((self.path / "verified.json").read_bytes()).entries
        except (FileNotFoundError, ValidationError):
            return ()

    def verified_answers(self, answers: Answers) -> Answers:
        """The answers, with what of them ran end to end."""
        known = self.verified()
        devices = tuple(
            device.model_copy(update={"verified": tuple(v for v in known if v.device == device.device)})
            for device in answers.devices
        )
        return answers.model_copy(update={"devices": devices}) if known else answers

    def add_verified(self, newer: Iterable[Verified]) -> None:
        """Write down what ran end to end; it replaces what was known of the same points.

        Raises:
            RunError: the directory cannot be written.
        """
        with locked(self.lock("verified")):
            known = VerifiedFile(entries=self.verified()).with_newer(newer)
            write_atomic(self.path / "verified.json", known.model_dump_json(indent=1))

    def inputs(self) -> dict[str, str]:
        """The content hashes of data and model that `check_inputs` remembered; empty: none, or damaged ones."""
        file = self.path / "inputs.json"
        try:
            return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
        except (ValueError, TypeError):  # damaged: what it says is written again
            return {}

    def check_inputs(self, inputs: Mapping[str, str]) -> None:
        """Remember the content hashes of data and model at the first search, and refuse others later.

        A study names files and functions; what they hold may have changed since, and its trials with it.

        Raises:
            RunError: something changed.
        """
        known = self.inputs()
        if not known:
            write_atomic(self.path / "inputs.json", json.dumps(inputs, indent=1))
        elif known != inputs:
            changed = ", ".join(sorted(name for name in known if known[name] != inputs.get(name)))
            raise RunError(
                f"{self.path} was begun with another {changed}",
                got="the same names with other contents",
                do="Restore it, pass another directory with --run, or start anew with --fresh.",
            )
        if self.moved is not None:  # what may change meanwhile is as somebody else left it
            self.write_study(_with_free_fields(self.moved, self.study()))

    def examples(self, answers: Answers) -> Examples | None:
        """Samples to look at, if there are any for these answers."""
        try:
            found = Examples.model_validate_json((self.path / "examples.json").read_bytes())
        except (FileNotFoundError, ValidationError):  # of an older run, or half of a search: a report goes without
            return None
        return found if found.made_for == answers.key else None

    def add_phases(self, spent: Mapping[str, float]) -> dict[str, float]:
        """Add wall seconds by phase to those of all searches so far; hold the lock `answers`.

        Returns:
            The sums.
        """
        file = self.path / "phases.json"
        try:
            known = dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
            total = {name: known.get(name, 0.0) + spent.get(name, 0.0) for name in {**known, **spent}}
        except (ValueError, TypeError):  # damaged: they are only of interest
            total = dict(spent)
        write_atomic(file, json.dumps(total, indent=1))
        return total

    def write_answers(self, answers: Answers, examples: Examples | None = None) -> None:
        """Write `front.json` and `front.csv`, and `examples.json` if there are any.

        Raises:
            RunError: the disk is full, or the directory cannot be written.
        """
        own = answers.model_dump_json(exclude={"devices": {"__all__": {"verified"}}})
        write_atomic(self.path / "front.json", own)
        write_atomic(self.path / "front.csv", table_rows(answers.devices).to_csv(index=False))
        if examples is not None:
            write_atomic(self.path / "examples.json", examples.model_dump_json())

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Hold the run while it is made or completed; others wait. The lock lies beside the directory, not in it.

        Raises:
            RunError: the directory above cannot be written.
        """
        beside, waiting = self.path.resolve(), f"another search prepares {self.path}; this one joins it then"
        with ExitStack() as held:
            held.enter_context(locked(beside.with_name(f".{beside.name}.lock"), waiting=waiting))
            if self.study_file.is_file():  # it may be mounted at several places, with another directory above
                held.enter_context(locked(self.lock("prepare"), waiting=waiting))
            yield

    def lock(self, name: str) -> Path:
        """The file of a lock that the processes of this run share."""
        return self.path / "locks" / f"{name}.lock"

    def identity(self) -> Identity:
        """Who this run is to a database that other runs use too; made up at the first call, while preparing.

        Raises:
            RunError: the file that says so is damaged, or cannot be written.
        """
        file = self.path / "run.json"
        try:
            return Identity.model_validate_json(file.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            made = Identity(id=uuid.uuid4().hex[:12])
            self.identify(made)
            return made
        except ValidationError:
            raise RunError(
                f"{file} is damaged", do="Write it again: its `id` begins the names of the run's studies in `storage`."
            ) from None

    def identify(self, identity: Identity) -> None:
        """Remember it.

        Raises:
            RunError: the directory cannot be written.
        """
        write_atomic(self.path / "run.json", identity.model_dump_json(indent=1))


def open_run(path: Path, study: Study, *, fresh: bool = False) -> RunDir:
    """Make a run directory, or open it to continue the same study.

    Args:
        path: The directory.
        study: The question; when continued, what is in `question.FREE_TO_CHANGE` may have changed.
        fresh: Rename what is there and start anew; nothing is deleted. What was certified comes along: the same samples
            were asked.

    Raises:
        RunError: the directory belongs to another study (the differences are shown), holds something else, or cannot
            be written; somebody searches there with other devices or objectives.
    """
    run = RunDir(path)
    busy = living(path)
    if not busy:
        _clear_cache(run)
    if fresh and busy:
        raise RunError(f"a search is running in {path}", got="--fresh", do="Wait for it, or pass another --run.")
    ledger: bytes | None = None
    if fresh and path.exists():
        ledger = _ledger(run)
        aside = _free_name(path)
        with disk_errors(aside):
            os.rename(path, aside)
        log.info("the old run was renamed to %s", aside)
    if run.study_file.is_file():
        old = _same_study(run, study, busy=bool(busy))
        if _with_free_fields(old, study) != study:
            run.write_study(_with_free_fields(old, study))
            return replace(run, moved=study)
    elif path.is_dir() and any(
        p.name not in ("profiles", LEDGER) and not is_leftover(p) for p in path.iterdir()
    ):  # `eesearch profile` may come first
        raise RunError(f"{path} is not empty and holds no run", do="Pass another directory with --run.")
    if ledger is not None:
        write_atomic(path / LEDGER, ledger)
    run.write_study(study)
    return run


def _clear_cache(run: RunDir) -> None:
    """Remove what a machine that went down left of caches, on file systems that keep such files; nobody reads it."""
    if run.study_file.is_file() and run.cache.is_dir() and not run.cache.is_symlink():
        for file in run.cache.iterdir():
            if file.is_file() and not file.is_symlink():
                with disk_errors(file):
                    file.unlink(missing_ok=True)


def _ledger(run: RunDir) -> bytes | None:
    """What the run's certification samples were asked, damaged or not; None: nothing was."""
    file = run.path / LEDGER
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"cannot read {file}", got=error, do="Mend that, then run the same command again.") from error


def _free_name(path: Path) -> Path:
    return next(p for n in range(1, 10_000) if not (p := path.with_name(f"{path.name}.old-{n}")).exists())


def _same_study(run: RunDir, study: Study, *, busy: bool) -> Study:
    """The study of the run; refuses to go on with another one."""
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
    for name in ("devices", "objectives") if busy else ():
        if getattr(old, name) != getattr(study, name):
            raise RunError(f"a search is running in {run.path} with other {name}", do="Wait for it, or stop it first.")
    if _with_free_fields(old, study) != study and not run.inputs():
        raise RunError(
            f"{run.path} does not say what its files held, and the study names them elsewhere now",
            do="Put them where they were, pass another directory with --run, or start anew with --fresh.",
        )
    return old


def _with_free_fields(study: Study, of: Study) -> Study:
    """A study with what another one says of all that may change."""
    return study.model_copy(update={name: getattr(of, name) for name in FREE_TO_CHANGE})
