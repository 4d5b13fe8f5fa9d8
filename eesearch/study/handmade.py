"""Policies that somebody wrote by hand, on exits that a run has trained: a paper's thresholds, one exit for all."""

from __future__ import annotations

from eesearch.core.costs import stage_costs
from eesearch.core.errors import RunError
from eesearch.core.policy import Fit, Policy
from eesearch.core.tables import ExitTable
from eesearch.costs.profile import load_any_profile
from eesearch.exits.evaluate import evaluate, outcomes
from eesearch.study.picks import Picked
from eesearch.study.points import Point, stop_facts
from eesearch.study.run import Run
from eesearch.study.workshop import SplitName


def by_hand(run: Run, design: str, policy: Policy, device: str | None = None) -> Picked:
    """What a policy does, as a point alone on a front: `verify`, `Run.model` and `export` take it like any other.

    It is evaluated on the run's tables; its network need not run for that.

    Args:
        run: A finished search.
        design: Key of what was trained, one of `run.answers.designs`.
        policy: Its exits are among those of the design.
        device: Whose costs; the study's first by default.

    Raises:
        PickError: the run has no such device.
        RunError: the store lacks a table of the design, or a fit of the policy.
        PolicyError: the design has no such exit.
        CostError: the device's profile cannot be read, or lacks the exits or the policy's criterion.
    """
    answer = run.device(device)
    profile = load_any_profile(run.directory.profile_file(answer.device))
    costs = [stage_costs(profile, policy.exits, policy.decision, axis) for axis in profile.axes]
    fits = [_fit(run, key) for key in policy.fits]
    made_by = run.answers.designs.get(design)
    if made_by is None:
        raise _lacks(run, f"design {design}")
    tables = (exit_table(run, design, "cal"), exit_table(run, design, "test"))
    cal, test = (evaluate(policy, table, costs, fits).made_by(made_by) for table in tables)
    stop, right = outcomes(policy, tables[1], fits)
    stops = stop_facts(policy, costs, tables[1].weight, stop=stop, right=right)
    point = Point(cal=cal, test=test, stops=stops)
    return Picked(answer.model_copy(update={"points": (point,)}), point)


def exit_table(run: Run, design: str, split: SplitName) -> ExitTable:
    """What the exits of a design said of a split; calibration is there to choose by, test to report.

    Args:
        run: A finished search.
        design: Key of what was trained.
        split: `cal` or `test`.

    Raises:
        RunError: the store lacks it.
    """
    kept = run.directory.store.get("table", f"{design}-{split}")
    if kept is None:
        raise _lacks(run, f"the {split} table of design {design}")
    return ExitTable.from_arrays(*kept)


def _fit(run: Run, key: str) -> Fit:
    kept = run.directory.store.get("fit", key)
    if kept is None:
        raise _lacks(run, f"the fit {key}")
    return Fit.from_arrays(*kept)


def _lacks(run: Run, what: str) -> RunError:
    return RunError(
        f"{run.directory.path} lacks {what}",
        do="Run `eesearch search` with the same study and --run again: it makes what is missing.",
    )
