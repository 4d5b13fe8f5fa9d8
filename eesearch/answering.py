"""While a search runs: its answers and its report, written again and again, by whichever process is there."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from eesearch.core.cascades import systems_of
from eesearch.core.costs import Profile
from eesearch.core.errors import EesearchError
from eesearch.core.locks import locked, tried
from eesearch.core.progress import Progress, silent
from eesearch.core.store import write_atomic
from eesearch.costs.devices import parse_device
from eesearch.drivers.job import Listener
from eesearch.drivers.storage import Database
from eesearch.drivers.studies import finished
from eesearch.reporting.html import render_html
from eesearch.reporting.render import render
from eesearch.study.answers import Answers
from eesearch.study.compose import Composer, Mode
from eesearch.study.picks import Picked
from eesearch.study.question import Study
from eesearch.study.run import Run
from eesearch.study.rundir import RunDir
from eesearch.study.trial import Finished
from eesearch.study.usual import usual_points
from eesearch.study.verified import policy_key
from eesearch.study.verify import Effort, verify
from eesearch.study.workers import others

REFRESH, LONGEST_PAUSE = 5.0, 20.0
"""While a search runs, answers are written again after so many times the time that writing them took, or seconds."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watchers:
    """Who listens to a search.

    Attributes:
        progress: Told about everything that takes time.
        trial: Told every finished trial.
        answers: Shown the answers so far, from time to time.
        logs: Tools that log every trial below `logs/` of the run: `tensorboard`, `mlflow`, `wandb`.
    """

    progress: Progress = silent
    trial: Listener = lambda trial: None
    answers: Callable[[Answers], None] = lambda answers: None
    logs: tuple[str, ...] = ()


class Answering:
    """Writes what the finished trials found, whoever ran them; as often as that takes little of the search's time."""

    def __init__(self, run: RunDir, problem: Mode, database: Database, watchers: Watchers) -> None:
        self._run, self._problem, self._database, self._watchers = run, problem, database, watchers
        self._composer = Composer(problem)
        self._ended, self._took = -inf, 0.0
        self._phases: dict[str, float] = {}

    def trial(self, trial: Finished) -> None:
        """Tell a trial, and refresh the answers unless they were refreshed just now."""
        self._watchers.trial(trial)
        last = trial.ended >= self._problem.study.trials  # all is written at the end anyway
        if not last and time.monotonic() - self._ended >= min(REFRESH * self._took, LONGEST_PAUSE):
            with tried(self._run.lock("answers")) as mine:
                if mine:  # otherwise another process writes them just now
                    self._write(live=True)

    def finish(self) -> Answers:
        """Write all there is to tell, what takes long to work out included.

        Raises:
            RunError: the disk is full, or the directory cannot be written.
        """
        with locked(self._run.lock("answers"), waiting="another search writes the answers; this one waits for it"):
            return self._write(final=True)

    def interrupt(self) -> None:
        """Somebody waits: write what is known, if any trial was finished and nobody else writes just now."""
        try:
            with tried(self._run.lock("answers")) as mine:
                if mine and self._done():
                    self._write(live=bool(others(self._run.path)))
        except EesearchError as error:
            log.warning("the answers could not be written: %s", error)

    def abandon(self) -> None:
        """The search died: tell the page, unless somebody else works on it, and if the disk allows."""
        try:
            if self._run.has_answers:
                draw(self._run, self._run.answers(), live=bool(others(self._run.path)))
        except EesearchError as error:
            log.warning("the report could not be written: %s", error)

    def _done(self) -> list[Finished]:
        return finished(self._problem, self._database)

    def _write(self, *, live: bool = False, final: bool = False) -> Answers:
        start, done = time.monotonic(), self._done()
        answers = self._composer.answers(done, final=final)
        spent = {name: seconds - self._phases.get(name, 0.0) for name, seconds in answers.phases.items()}
        self._phases = dict(answers.phases)
        answers = self._run.verified_answers(answers.model_copy(update={"phases": self._run.add_phases(spent)}))
        self._run.write_answers(answers, None if live else self._composer.examples(answers, done))
        draw(self._run, answers, live=live)
        self._watchers.answers(answers)
        self._ended = time.monotonic()
        self._took = self._ended - start
        return answers


def verify_found(found: Run, problem: Mode, progress: Progress = silent) -> Answers:
    """Run a few points of each front end to end, as the study says, and draw the report again.

    What cannot run here is left out, and told: systems, profiles of other machines. Nothing that was found can
    get lost: the answers were written before.

    Args:
        found: The search that was just finished, with its live network and test samples.
        problem: Of the search.
        progress: Told what is measured.

    Returns:
        The answers, with what was measured.

    Raises:
        KeyboardInterrupt: after what was measured so far was drawn.
    """
    run, study = found.directory, problem.study
    with tried(run.lock("verify")) as mine:
        if not study.verify.points:
            return found.answers
        if not mine or others(run.path):
            log.info("others still search in %s: the last one verifies the front", run.path)
            return found.answers
        try:
            for profile in problem.materials.profiles:
                _verify_device(found, profile, study, progress)
        finally:
            answers = run.verified_answers(found.answers)
            if answers != found.answers:
                draw(run, answers)
    return answers


def _verify_device(found: Run, profile: Profile, study: Study, progress: Progress) -> None:
    effort = Effort(study.verify.seconds, processes=study.measuring.processes)
    if systems_of(profile):
        log.info("%s is not verified: it is no single device of this machine", profile.device)
        return
    if profile.axis != "latency_ms":
        return
    try:
        if not parse_device(profile.device).timed:
            log.info("%s is not verified: it was measured elsewhere", profile.device)
            return
        device = found.device(profile.device)
        here = (device.device, profile.fingerprint)
        known = {entry.policy for entry in found.directory.verified() if (entry.device, entry.fingerprint) == here}
        points = [p for p in usual_points(device, study.verify.points) if policy_key(p.cal) not in known]
        if points:
            verify(found, [Picked(device, p) for p in points], device.device, effort=effort, progress=progress)
    except EesearchError as error:
        log.warning("%s could not be verified: %s", profile.device, error)


def page(run: RunDir, answers: Answers, *, live: bool = False) -> str:
    """The report as one HTML file."""
    return render_html(answers, run.examples(answers), run=str(run.path), live=live)


def draw(run: RunDir, answers: Answers, *, live: bool = False) -> None:
    """Write `report.html` and `front.png`; while a search runs, only the page, which reloads itself then."""
    if not live:
        write_atomic(run.path / "front.png", render(answers, "png"))
    write_atomic(run.path / "report.html", page(run, answers, live=live))
