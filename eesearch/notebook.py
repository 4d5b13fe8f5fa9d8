"""What a notebook works with: a run that draws itself."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from eesearch.reporting.figures import draw_front
from eesearch.study import run as study_run
from eesearch.study.certificates import Certified
from eesearch.study.certifying import certify
from eesearch.study.usual import wanted_picks
from eesearch.study.verified import Verified
from eesearch.study.verify import Effort, verify_picks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Run", "load_run"]


@dataclass(frozen=True, eq=False, repr=False)
class Run(study_run.Run):
    """What a search left in its run directory: `front`, `pick`, `verify`, `certify`, `model`, `predict`, `plot`."""

    def certify(self, max_drop: float | str, *, confidence: float = 0.9, device: str | None = None) -> Certified:
        """Certify the cheapest point that loses at most so much, on the study's certification share.

        Each different question makes all others stricter: decide what to ask before the first answer is seen. See
        `eesearch.study.certifying.certify`, which takes a pool, too.

        Args:
            max_drop: Such as `"1%"`, or 0.01.
            confidence: That the promise is kept, whatever samples there happened to be.
            device: On whose front; the study's first by default.

        Raises:
            PickError: there is no such device, or nothing on its front is cheaper than the backbone.
            DataError: the study has reserved no share.
            InputError: the share was asked too often already, or what the study names cannot be loaded.
            RunError: the store lacks a network; the data have changed; the ledger is damaged or cannot be written.
        """
        return certify(self, max_drop, confidence=confidence, device=device)

    def verify(
        self, *selections: str, device: str | None = None, seconds: float = 15.0, processes: int = 3
    ) -> tuple[Verified, ...]:
        """Run points end to end on this machine, really stopping early, beside the unmodified network.

        What is measured is kept in the run, too: `eesearch front` and the report show it.

        Args:
            selections: Such as `"knee"`; by default the point at no loss, the knee, and one that is far from both.
            device: Where to run; that of each point's front by default.
            seconds: Per point, about, in all processes together.
            processes: Fresh ones.

        Returns:
            Per point what was predicted and what was measured.

        Raises:
            InputError: as `eesearch.study.verify.verify`.
        """
        picks = wanted_picks(self, selections, device=device)
        return verify_picks(self, picks, device, effort=Effort(seconds, processes))

    def plot(self, device: str | None = None) -> Figure:
        """The fronts as a matplotlib figure, to show, change or save.

        Args:
            device: Only this one; all by default.

        Raises:
            PickError: the run has no such device.
        """
        if device is None:
            return draw_front(self.answers)
        return draw_front(self.answers.model_copy(update={"devices": (self.device(device),)}))

    def _repr_html_(self) -> str:
        """The verdicts and every device's front."""
        verdicts = "".join(f"<li>{escape(each)}</li>" for each in self.answers.verdicts())
        fronts = "".join(device.front()._repr_html_() for device in self.answers.devices)
        title = escape(f"{self.answers.study}: {len(self.answers.trials)} trials in {self.directory.path}")
        return f"<p><b>{title}</b></p><ul>{verdicts}</ul>{fronts}"


def load_run(path: Path | str, *, trust: bool = False) -> Run:
    """Open a run directory.

    Args:
        path: Of the run.
        trust: Whether the code that its study names may run, though no study of yours has run it.

    Raises:
        RunError: it holds no run, or no answers yet.
    """
    return Run.load(path, trust=trust)
