"""Where searches meet: one question, one trained network, one clock, and what each had found by when."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import moocore
import numpy as np
from numpy.typing import NDArray

from eesearch.core.design import Design
from eesearch.core.front import MAX_DROP, Evaluation
from eesearch.solve.oracle import static_front
from eesearch.solve.placed import evaluations
from eesearch.study.compose import Mode
from eesearch.study.materials import Materials, prepare
from eesearch.study.modes import build_problem
from eesearch.study.policies import Candidates, ordered_hypervolume
from eesearch.study.problem import Problem
from eesearch.study.question import Study
from eesearch.study.rundir import RunDir, open_run
from eesearch.study.strategies import spread

FRONT_POINTS = 40
"""Points of a final front that are kept; its hypervolumes are those of all."""


class MissingRivalError(Exception):
    """A competitor is not installed: it is left out, and told."""


Points = NDArray[np.float64]
"""(error, cost / backbone's cost). [P, 2]"""


@dataclass(frozen=True)
class Found:
    """What is new at some time of a search.

    Attributes:
        seconds: Since it began.
        samples: Training samples that went through the network since it began.
        cal, test: What the new policies do. [P, 2] each, in the same order
    """

    seconds: float
    samples: int
    cal: Points
    test: Points


@dataclass(frozen=True)
class Arena:
    """A question, and the network that all start from.

    Attributes:
        fields: Of the study; all competitors have the same backbone, data, space and training sections.
        folder: Of everything that is written: the trained network, and a run directory per competitor.
        clock: Seconds that each may train.
    """

    fields: dict[str, Any]
    folder: Path
    clock: float

    def study(self, **changes: Any) -> Study:
        """The question, with other fields; `training__start` is `training: {start: ...}`."""
        fields = dict(self.fields)
        for name, value in changes.items():
            section, _, field = name.partition("__")
            fields[section] = {**fields[section], field: value} if field else value
        return Study.model_validate(fields)

    def prepare(self) -> Problem:
        """Train the network and count what its parts cost, unless that was done; nobody's clock runs meanwhile."""
        return _built(self.study(), self.folder / "start")

    def run(self, name: str, study: Study) -> Path:
        """A fresh run directory of a study, which holds the network if it was trained; pretrained ones have a file."""
        path, trained = self.folder / name, self.folder / "start" / "store"
        shutil.rmtree(path, ignore_errors=True)
        open_run(path, study)
        if trained.exists():
            shutil.copytree(trained, path / "store", dirs_exist_ok=True)
        return path

    def materials(self, study: Study, path: Path) -> Materials:
        """What the trials of a run directory share."""
        return prepare(study, RunDir(path))

    def problem(self, name: str, **changes: Any) -> Problem:
        """The problem in a fresh run directory."""
        study = self.study(**changes)
        return _built(study, self.run(name, study))


Player = Callable[[Arena, int], list[Found]]
"""A competitor: `(arena, seed) -> what it had found by when`."""


def _built(study: Study, path: Path) -> Problem:
    problem: Mode = build_problem(study, open_run(path, study))
    assert isinstance(problem, Problem)
    return problem


def reopened(study: Study, path: Path) -> Problem:
    """The problem of a search that has ended."""
    problem = build_problem(study, RunDir(path))
    assert isinstance(problem, Problem)
    return problem


def first_images(*, file: str, train: int) -> dict[str, NDArray[np.uint8]]:
    """The first training images of an `.npz` file, and all of its test images; a study's `data.source`."""
    with np.load(file, allow_pickle=False) as held:
        return {name: held[name][:train] if name.endswith("train") else held[name] for name in held.files}


def errors(problem: Problem) -> tuple[float, float]:
    """The backbone's, on calibration and on test."""
    profile = problem.materials.profiles[0]
    return problem.backbone(profile, "cal").error, problem.backbone(profile, "test").error


def figures(problem: Problem, points: Sequence[Evaluation], design: Design | None) -> tuple[Points, Points]:
    """Points of one trial, as the search has evaluated them, on calibration and on test.

    Args:
        problem: Of the search.
        points: On calibration.
        design: That made them; None: the backbone itself.
    """
    profile = problem.materials.profiles[0]
    test = [problem.reported(e, design, profile) if design else problem.backbone(profile, "test") for e in points]
    return _values(problem, points, "cal"), _values(problem, test, "test")


def looked_up(problem: Problem, design: Design, candidates: Candidates) -> tuple[Points, Points]:
    """Policies on a trained design, on calibration and on test; only those that nothing beats on calibration."""
    profile, found = problem.materials.profiles[0], []
    for split in ("cal", "test"):
        table, costs = problem.replay(design, profile, candidates[0][0].decision, split)
        found.append(_values(problem, evaluations(candidates, table, costs), split))
    best = moocore.is_nondominated(found[0])
    return found[0][best], found[1][best]


def _values(problem: Problem, points: Sequence[Evaluation], split: Any) -> Points:
    profile = problem.materials.profiles[0]
    unit = problem.backbone(profile, split).costs[profile.axis].mean
    return np.array([(e.error, e.costs[profile.axis].mean / unit) for e in points], np.float64).reshape(-1, 2)


def static(problem: Problem) -> tuple[Points, Points]:
    """Static networks: the backbone cut off at each exit of the bank, where all samples leave."""
    bank, profile = problem.workshop.bank_design, problem.materials.profiles[0]
    table, costs = problem.replay(bank, profile, "max_prob", "cal")
    return looked_up(problem, bank, [(point.policy, ()) for point in static_front(table, costs).points])


def within(found: Sequence[Found], clock: float) -> list[Found]:
    """What was found before the clock was over."""
    return [each for each in found if each.seconds <= clock]


def curve(found: Sequence[Found], backbone_errors: tuple[float, float]) -> list[dict[str, Any]]:
    """Hypervolume of the front so far, selected on calibration, on both splits; a row whenever calibration gains.

    The last row holds points of the final front, too: (error, cost / backbone's cost) of each on both splits.

    Args:
        found: In order of time; nothing at all is the front of no point.
        backbone_errors: On calibration and on test.
    """
    cal, test = np.empty((0, 2)), np.empty((0, 2))
    rows: list[dict[str, Any]] = []
    for number, new in enumerate(found or [Found(0.0, 0, cal, test)], start=1):
        cal, test = np.concatenate([cal, new.cal]), np.concatenate([test, new.test])
        if len(cal):
            best = moocore.is_nondominated(cal)
            order = np.argsort(cal[best, 1], kind="stable")
            cal, test = cal[best][order], test[best][order]
        pairs = zip((cal, test), backbone_errors, strict=True)
        values = [ordered_hypervolume(p, e + MAX_DROP) if len(p) else 0.0 for p, e in pairs]
        row = {"seconds": new.seconds, "trials": number, "samples": new.samples, "cal": values[0], "test": values[1]}
        if len(rows) > 1 and rows[-1]["cal"] == rows[-2]["cal"] == row["cal"]:
            rows[-1] = row  # nothing was found: only the time went on
        else:
            rows.append(row)
    rows[-1]["front"] = json.dumps(spread(np.concatenate([cal, test], axis=1).round(4).tolist(), FRONT_POINTS))
    return rows
