"""Warm starts: what other runs have left that a study goes on from, and what it must not take over."""

from __future__ import annotations

import logging
from pathlib import Path

from eesearch.core.errors import RunError
from eesearch.study.certificates import inherit
from eesearch.study.question import Study
from eesearch.study.rundir import RunDir

log = logging.getLogger(__name__)


def warm_runs(study: Study) -> list[str]:
    """The run directories that the warm starts come from; they need not be there any more."""
    return list(dict.fromkeys(start.run for start in study.warm_start if start.run))


def check_warm_starts(study: Study, cal: str) -> None:
    """Refuse designs that were chosen on other calibration samples: the certification share may be among those.

    Args:
        study: With a certification share.
        cal: Content hash of its calibration split.

    Raises:
        RunError: a warm start comes from a run with another calibration split, or with one that nobody knows.
    """
    for start in study.warm_start:
        if not start.run or not Path(start.run).exists():
            log.warning(
                "nobody knows on which samples the warm start %s was chosen. If the certification share was among "
                "them, certificates promise too much.",
                start.name,
            )
    for other in (other for other in warm_runs(study) if Path(other).exists()):
        known = RunDir(Path(other)).inputs().get("cal split")
        if known != cal:
            raise RunError(
                f"the warm start from {other} was chosen on other calibration samples, and the certification share may "
                "be among them",
                got=f"its calibration split is {known or 'unknown'}",
                expected=f"{cal}, as in this study",
                do="Leave the warm start out, warm-start from a run with the same data, seed and data.certification, "
                "or leave data.certification out and certify on new samples: eesearch certify --pool.",
            )


def inherit_questions(run: RunDir, study: Study) -> None:
    """Count what the runs of the warm starts were asked when they were certified.

    Raises:
        RunError: a ledger is damaged, or cannot be written.
    """
    inherit(run, [RunDir(Path(other)) for other in warm_runs(study)])
