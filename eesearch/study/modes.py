"""From a study and its run directory to the problem that a driver searches."""

from __future__ import annotations

from eesearch.core.progress import Progress, silent
from eesearch.study.bank_problem import BankProblem
from eesearch.study.cascade_problem import CascadeProblem
from eesearch.study.compose import Mode
from eesearch.study.joint_trials import JointTrials
from eesearch.study.materials import Given, prepare
from eesearch.study.members import prepare_members
from eesearch.study.one_design import OneDesign
from eesearch.study.question import Study
from eesearch.study.rundir import RunDir

MODES: dict[str, type[Mode]] = {"bank": BankProblem, "joint-trials": JointTrials, "design": OneDesign}


def build_problem(study: Study, run: RunDir, *, given: Given | None = None, progress: Progress = silent) -> Mode:
    """Load, train or measure whatever the run directory lacks; several processes take turns.

    Args:
        study: The question.
        run: Its run directory.
        given: A live model and its data, instead of those that the study names.
        progress: Told what takes time.

    Raises:
        InputError: of the part that cannot be used.
    """
    with run.preparing():
        if len(study.backbones) > 1 and given is None:
            return CascadeProblem(prepare_members(study, run, progress=progress), progress)
        materials = prepare(study, run, given=given, progress=progress)
    return MODES[study.mode](materials, progress)
