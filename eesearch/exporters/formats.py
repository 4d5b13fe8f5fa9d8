"""`export`: write a chosen point in a format, read it again as its users will, and compare; all or nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eesearch.core.errors import EesearchError, RunError
from eesearch.core.registry import EXPORTERS
from eesearch.core.store import disk_errors
from eesearch.exporters.apart import Reloaded
from eesearch.exporters.chosen import Chosen, choose
from eesearch.study.picks import Picked
from eesearch.study.run import Run

CHECKED = 256
"""Samples that an export is compared on, unless somebody says otherwise."""

NEAR = 1e-4
"""Scores that are closer to a threshold than this may fall on either side of it: other kernels round otherwise."""

MOST_DIFFERING = 0.005
"""Largest share of samples on which an export may answer or stop otherwise, without being near a threshold."""


@dataclass(frozen=True)
class Exporter:
    """One format; the entry type of the EXPORTERS registry.

    Attributes:
        write: Writes a chosen point into a folder that is there and empty.
        extra: Which optional dependencies it needs, as in `pip install 'eesearch[onnx]'`; "": none.
        about: What it writes, in a few words.
        reload: Loads a written folder as its users will; None: the format answers nothing.
    """

    write: Callable[[Chosen, Path], None]
    extra: str
    about: str
    reload: Callable[[Path], Reloaded] | None = None


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: The folder.
        files: Below it, sorted.
        checked: Number of test samples on which it was compared with the network; 0: the format answers nothing.
        differing: Of these, those with another answer or exit, where no score was near a threshold.
        near: Of these, those with a score near a threshold; they are not compared.
    """

    path: Path
    files: tuple[str, ...]
    checked: int
    differing: int
    near: int

    @property
    def verdict(self) -> str:
        """What the comparison says, in a sentence."""
        if not self.checked:
            return "written; there was nothing to compare with the network"
        same = self.checked - self.differing - self.near
        words = f"read again: {same} of {self.checked} test samples get the network's answer at the network's exit"
        words += f"; {self.near} too near a threshold to tell" if self.near else ""
        return words + (f"; {self.differing} differ" if self.differing else "")


def export(
    run: Run, selection: str | Picked, to: str, out: Path, *, check: int = CHECKED, naive: bool = False
) -> Exported:
    """Write a point of a run in a format.

    Args:
        run: A finished run.
        selection: Such as `max-drop=0.5%`; or what `Run.pick` or `by_hand` returned.
        to: A name in the EXPORTERS registry.
        out: A folder that is not there, or is empty.
        check: Test samples to compare on; 0: none.
        naive: Whether the selection believes losses on calibration, see `Run.pick`.

    Raises:
        InputError: there is no such format or point, a library is missing, or the format cannot hold this network.
        RunError: there is something at `out`, or it cannot be written.
        EesearchError: what was written does not do what the network does; nothing is left behind.
    """
    exporter: Exporter = EXPORTERS[to]
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} is there already", expected="a folder that does not exist, or an empty one")
    chosen = choose(run, selection, check=check, naive=naive)
    with _written_at_once(out) as folder:
        exporter.write(chosen, folder)
        checked, differing, near = _compared(exporter, chosen, folder, check)
        if differing > MOST_DIFFERING * checked:
            raise EesearchError(
                f"the exported {to} does not do what the network does",
                got=f"{differing} of {checked} samples with another answer or exit",
                expected=f"at most {MOST_DIFFERING:.1%}",
                do="Nothing was written. Please report it, with the model.",
            )
    files = sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file())
    return Exported(out, tuple(files), checked, differing, near)


@contextmanager
def _written_at_once(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place at the end, or is removed."""
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        with disk_errors(out):
            yield folder
            os.chmod(folder, 0o755)
            if out.exists():
                out.rmdir()
            os.replace(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _compared(exporter: Exporter, chosen: Chosen, folder: Path, check: int) -> tuple[int, int, int]:
    """Samples that were compared, of these differing ones, and ones near a threshold."""
    if exporter.reload is None or check < 1:
        return 0, 0, 0
    samples = chosen.samples[:check]
    answer, stop = exporter.reload(folder)(samples)
    own = chosen.answers(samples)
    near = near_threshold(chosen, chosen.scores(samples))
    differing = ((answer != own.answer) | (stop != own.exit)) & ~near
    return len(samples), int(differing.sum()), int(near.sum())


def near_threshold(chosen: Chosen, scores: np.ndarray) -> np.ndarray:
    """Whether some score [k, N] of a sample is so close to its stop's threshold that rounding decides. bool [N]"""
    limits = np.array(chosen.thresholds)[:, None]
    finite = np.isfinite(limits)
    return np.asarray((np.abs(scores - np.where(finite, limits, np.inf)) < NEAR).any(0))
