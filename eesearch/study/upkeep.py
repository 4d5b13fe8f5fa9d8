"""Keeping a run's directory: what lies in its store, whether that is whole, and what nobody needs any more.

Tables, networks and fits are never removed: they are what trainings cost.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from eesearch.core.errors import RunError, StoreError
from eesearch.core.locks import tried
from eesearch.core.store import DAMAGED, SUFFIX, disk_errors, is_leftover
from eesearch.study.answers import Answers
from eesearch.study.problem import SOLVER_VERSION
from eesearch.study.rundir import RunDir
from eesearch.study.workers import living

log = logging.getLogger(__name__)

SOLVED = ("front", "folds", "literature")
"""Kinds of entries that the solver makes of tables, and makes again when they are missing."""


MADE_ONCE = ("design-", "network-", "part-", "table-")
"""Their locks begin so: one for each thing made, and nobody takes it again."""

LOCK = "a lock that nobody holds"
"""Why the file of a lock goes."""


@dataclass(frozen=True)
class Shelf:
    """Entries of one kind, or the checkpoints.

    Attributes:
        size: Bytes, whatever else lies there included.
    """

    kind: str
    entries: int
    size: int


@dataclass(frozen=True)
class Spare:
    """A file that nobody needs.

    Attributes:
        size: In bytes.
        why: In words.
    """

    path: Path
    size: int
    why: str


def shelves(run: RunDir) -> list[Shelf]:
    """What the store holds by kind, and the checkpoints.

    Raises:
        RunError: the directory holds no run.
    """
    run.study()
    folders = [*_folders(run.store.root), run.path / "checkpoints"]
    found = []
    for folder in folders:
        files = [file for file, _ in _files(folder)]
        entries = sum(file.suffix == SUFFIX or folder.name == "checkpoints" for file in files)
        if files:
            found.append(Shelf(folder.name, entries, sum(size for _, size in _files(folder))))
    return found


def verify(run: RunDir) -> list[str]:
    """Read every entry of the store; damaged ones are set aside, and made again by the search that needs them.

    Returns:
        What was damaged, in words.

    Raises:
        RunError: the directory holds no run, or a damaged entry cannot be set aside.
    """
    run.study()
    damaged = []
    for folder in _folders(run.store.root):
        for file, _ in _files(folder):
            if file.suffix != SUFFIX or is_leftover(file):
                continue
            try:
                run.store.get(folder.name, file.stem)
            except StoreError as error:
                damaged.append(str(error))
    return damaged


def set_aside(run: RunDir) -> list[str]:
    """Entries that were found damaged once, and have not been made again so far: nothing has needed them."""
    aside = sorted(run.store.root.glob("*/*.damaged"))
    return [f"{f.parent.name}/{f.stem}" for f in aside if not f.with_suffix(".safetensors").exists()]


def prune(run: RunDir, *, dry_run: bool = False) -> list[Spare]:
    """Remove what nobody needs; the next search trains nothing for it.

    Args:
        run: In which nobody searches.
        dry_run: Only say what would go.

    Raises:
        RunError: the directory holds no run, a search is running there, or a file cannot be removed.
    """
    run.study()
    _refuse_busy(run)
    with run.preparing():  # who begins to search waits until we are done
        _refuse_busy(run)
        found = list(spare(run))
        for each in () if dry_run else found:
            _remove(each)
    return found


def _remove(found: Spare) -> None:
    with disk_errors(found.path):
        if found.why != LOCK:
            found.path.unlink(missing_ok=True)
            return
        with tried(found.path) as free:  # a training without a search may have taken it just now
            if free:
                found.path.unlink(missing_ok=True)


def _refuse_busy(run: RunDir) -> None:
    busy = living(run.path)  # removes the locks of the dead
    if busy:
        raise RunError(
            f"a search is running in {run.path}",
            got=f"{len(busy)} {'process' if len(busy) == 1 else 'processes'} at work",
            do=f"Stop it first. If there is none, remove what is left of it: {run.path / 'workers'}.",
        )


def spare(run: RunDir) -> Iterator[Spare]:
    """What would be removed; every file for itself, so that half of it gone does no harm."""
    for folder in (run.path, run.path / "profiles"):
        yield from (Spare(file, size, "an interrupted write") for file, size in _files(folder) if is_leftover(file))
    for file, size in _files(run.path / "checkpoints"):
        key = file.name.partition(".")[0].partition("-")[0]  # of a part of the bank: BANK-KEY
        if is_leftover(file):
            yield Spare(file, size, "an interrupted write")
        elif file.name.endswith(DAMAGED):
            yield Spare(file, size, "damaged")
        elif run.store.path("weights", key).is_file():
            yield Spare(file, size, "a checkpoint of a finished training")
    yield from (Spare(file, size, "left of a cache") for file, size in _files(run.cache))
    for file, size in _files(run.path / "locks"):
        if _is_free(file):
            yield Spare(file, size, LOCK)
    needed = _devices(run)
    for folder in _folders(run.store.root):
        for file, size in _files(folder):
            why = _useless(run, file, needed)
            if why:
                yield Spare(file, size, why)


def _is_free(file: Path) -> bool:
    """Whether this is the lock of something that is made once, and nobody makes it now."""
    if not (file.suffix == ".lock" and file.name.startswith(MADE_ONCE)):
        return False
    with tried(file) as free:
        return free


def _useless(run: RunDir, file: Path, devices: set[str]) -> str:
    """Why nobody needs a file of the store; "" if somebody may."""
    kind = file.parent.name
    if is_leftover(file):
        return "an interrupted write"
    if file.suffix == DAMAGED:
        return "damaged"
    if kind == "shard" and run.store.path("table", file.stem.rsplit("-", 2)[0]).is_file():  # KEY-split-first-last
        return "a piece of a finished table"
    if kind == "part" and run.store.path("weights", file.stem.partition("-")[0]).is_file():  # BANK-KEY
        return "a part of a finished bank"
    if kind not in SOLVED:
        return ""
    if file.suffix == ".json":
        return "solved by an older eesearch"
    try:
        _, facts = run.store.get(kind, file.stem) or ({}, {})
    except StoreError:  # set aside just now: the next prune removes it
        return ""
    if facts.get("solver", str(SOLVER_VERSION)) != str(SOLVER_VERSION):
        return "solved by an older eesearch"
    if devices and facts.get("device", "") not in {"", *devices}:
        return "solved for a device that the study does not have any more"
    return ""


def _devices(run: RunDir) -> set[str]:
    """Names of the devices that the study has, as profiles tell them; empty: not known."""
    file = run.path / "front.json"
    try:
        answers = Answers.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return set()
    return {device.device for device in answers.devices} | set(run.study().devices)


def _folders(root: Path) -> list[Path]:
    """The folders of a store."""
    if root.is_symlink():
        log.warning("%s is a link: it is not followed", root)
        return []
    return sorted(entry for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []


def _files(folder: Path) -> list[tuple[Path, int]]:
    """Plain files of a folder with their bytes, by name; links are never followed: they may lead anywhere."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_file(follow_symlinks=False):
                    found.append((Path(entry.path), entry.stat(follow_symlinks=False).st_size))
            except FileNotFoundError:  # removed while we looked
                continue
    return sorted(found)
