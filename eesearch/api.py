"""The verbs: split, profile, search, report. Each reads top to bottom."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from eesearch.answering import Answering, Watchers, draw, page, verify_found
from eesearch.core.errors import InputError
from eesearch.core.progress import Progress, silent
from eesearch.core.registry import DRIVERS
from eesearch.core.store import write_atomic
from eesearch.costs.kit import KitFacts, StudyFacts, write_kit
from eesearch.costs.profile import AnyProfile, save_profile
from eesearch.drivers.job import Job
from eesearch.drivers.loggers import make_loggers
from eesearch.drivers.samplers import make_sampler
from eesearch.drivers.storage import open_database
from eesearch.nets.split import split
from eesearch.notebook import Run, load_run
from eesearch.reporting.console import ProgressBars
from eesearch.reporting.render import FILES, render
from eesearch.solve.exact import solve_front
from eesearch.study.answers import Answers
from eesearch.study.bank_problem import BankProblem
from eesearch.study.compose import Mode
from eesearch.study.estimate import plan
from eesearch.study.files import validate
from eesearch.study.materials import Given
from eesearch.study.measured import measured_networks, study_profile
from eesearch.study.modes import build_problem
from eesearch.study.question import DataSpec, Study
from eesearch.study.rundir import RunDir, open_run
from eesearch.study.workers import working
from eesearch.training.checkpoint import weights_hash
from eesearch.training.data import Dataset, load_dataset, make_dataset

__all__ = ["Run", "Watchers", "load_run", "plan", "profile", "report", "search", "search_study", "solve_front", "split"]

ReportForm = Literal["html", "png", "svg", "pdf", "md"]

log = logging.getLogger(__name__)


def search(
    model: nn.Module,
    data: Dataset | Mapping[str, Any] | Path | str,
    *,
    device: str = "cpu:eager:t1:b1",
    max_drop: float | str | None = None,
    budget: str = "30m",
    study: Mapping[str, Any] | None = None,
) -> Run:
    """Search the early-exit versions of a trained classifier; the notebook's one call.

    Args:
        model: Maps raw samples [N, ...] to logits [N, C]. Stays as it is.
        data: The arrays `x_train y_train x_test y_test [x_cal y_cal]`; or data sets of rows, torch's or Hugging Face's,
            by split: `{"train": ..., "test": ...}`; or what a study's `data.source` may be, such as an `.npz` file.
            Without a calibration split, one half of test calibrates and the other is reported
            (`study={"data": {"calibration": ...}}` says otherwise): the model has learnt the training split, and
            thresholds chosen there are worth nothing.
            `study={"data": {"certification": 0.5}}` sets a share of the calibration samples aside for risk control.
        device: Whose cost is minimised: `macs`, `cpu:eager:t1:b1`, or a profile's JSON file.
        max_drop: How far below the backbone's accuracy points still count, such as `"2%"`; None: 5 points.
        budget: Wall time of the trials, such as `"30m"`.
        study: Any other field of a study file: `name` (the run goes to `runs/<name>`), `space`, `training`, `input`.

    Returns:
        The run: `run.front().to_pandas()`, `run.pick("max-drop=0.5%")`.

    Raises:
        InputError: of the part that cannot be used.
    """
    fields = dict(study or {})
    dataset = _dataset(data, fields)
    fields.setdefault("name", type(model).__name__)
    fields["backbone"] = {"model": f"given:{type(model).__name__}", "args": {"weights": weights_hash(model)[:16]}}
    splits = {each.name: each.key for each in dataset.splits}
    fields["data"] = {"source": "given:arrays", "args": splits, "tokenizer": dataset.tokenizer}
    fields.setdefault("devices", [device])
    fields["budget"] = {"trials": 1000, "timeout": budget, **fields.get("budget", {})}
    if max_drop is not None:
        fields["objectives"] = {**fields.get("objectives", {}), "max_drop": max_drop}
    resolved = validate(Study, fields, "eesearch.search")
    with ProgressBars() as bars:  # silent unless standard error is a terminal
        path = Path("runs") / resolved.name
        return search_study(resolved, path, given=Given(model, dataset), watchers=Watchers(progress=bars))


def _dataset(data: Dataset | Mapping[str, Any] | Path | str, fields: dict[str, Any]) -> Dataset:
    """Arrays without a calibration split give one half of test for it: the model has learnt the training split."""
    if isinstance(data, Dataset):
        if fields.get("data"):
            raise InputError(
                "a Dataset has its splits already: the study's data cannot change them",
                got=f"study={{'data': {fields['data']}}}",
                do="Give the arrays, or build it with make_dataset(arrays, calibration=..., certification=...).",
            )
        return data
    given = {"calibration": {"from": "test", "share": 0.5}, **fields.pop("data", {}), "source": "given:arrays"}
    spec, seed = validate(DataSpec, given, "the study's data"), int(fields.get("seed", 0))
    chosen: dict[str, Any] = {
        "calibration": spec.calibration,
        "certification": spec.certification,
        "class_weights": spec.class_weights,
        "tokenizing": spec.tokenizing,
        "seed": seed,
    }
    return make_dataset(data, **chosen) if isinstance(data, Mapping) else load_dataset(str(data), spec.args, **chosen)


@dataclass(frozen=True)
class Place:
    """Where a search runs.

    Attributes:
        storage: Database of the trials, such as `postgresql://user:password@host/name`; None: in the run directory.
        address: Of the Ray cluster, for `driver: ray`: `auto` or `host:port`; None: a local one is started.
    """

    storage: str | None = None
    address: str | None = None


def search_study(
    study: Study,
    path: Path,
    *,
    fresh: bool = False,
    given: Given | None = None,
    watchers: Watchers = Watchers(),
    place: Place = Place(),
) -> Run:
    """Run a study, continue it, or join the processes that run it; answers and report are refreshed as trials finish.

    Args:
        study: The question.
        path: The run directory; processes on several machines share it.
        fresh: Rename an old run directory and start anew.
        given: A live model and its data, instead of those that the study names.
        watchers: Told what happens.
        place: Database and cluster.

    Raises:
        InputError: of the part that cannot be used; nothing is lost.
        KeyboardInterrupt: after the answers so far were written.
    """
    loggers = make_loggers(watchers.logs, path)  # refused before anything is written
    make_sampler(study.sampler, seed=study.seed, trials=study.budget.trials, directions=1)  # so is this
    with ExitStack() as stack:
        with RunDir(path).preparing():
            run = open_run(path, study, fresh=fresh)
            database = open_database(run, place.storage)
            worker = stack.enter_context(working(run.path))
        problem = build_problem(study, run, given=given, progress=watchers.progress)
        answering = Answering(run, problem, database, watchers)
        job = Job(
            problem=problem, study=study, run=run, database=database, worker=worker, listener=answering.trial,
            loggers=loggers, title=f"{study.name}: {', '.join(study.devices)}", address=place.address, given=given,
        )  # fmt: skip
        try:
            DRIVERS[study.driver](job)
            answers = answering.finish()
        except KeyboardInterrupt:
            answering.interrupt()
            raise
        except BaseException:
            answering.abandon()
            raise
        _tell_unfinished(problem, answers)
    materials = problem.materials
    live = Run(run, answers, materials.backbone, materials.dataset.test.x, materials.dataset.cert)
    answers = verify_found(live, problem, watchers.progress)
    return Run(run, answers, trusted=True) if given is None else replace(live, answers=answers)


def _tell_unfinished(problem: Mode, answers: Answers) -> None:
    """Say what a budget cut off."""
    done, budget = len(answers.trials), problem.study.budget
    if problem.parameters and done < budget.trials:
        by_samples = budget.samples is not None and sum(t.samples for t in answers.trials) >= budget.samples
        spent = f"samples ({budget.samples})" if by_samples else f"timeout ({budget.timeout} s)"
        option = "--samples" if by_samples else "--timeout"
        log.info("ended after %d of %d trials: budget.%s is spent; %s gives more", done, budget.trials, spent, option)
    untried = problem.untried(answers) if isinstance(problem, BankProblem) else []
    if untried:
        log.warning("%d warm starts were not tried: the budget was spent; %s is the first", len(untried), untried[0])


def report(path: Path | str, form: ReportForm = "html", *, out: Path | None = None) -> Path:
    """Draw a run's answers again, as `report.html` and `front.png`, or as a file of another kind.

    Args:
        path: The run directory.
        form: What to make.
        out: The file; in the run directory by default.

    Returns:
        Path of the file.

    Raises:
        InputError: there is no such kind of report.
        RunError: the directory holds no answers, or the file cannot be written.
    """
    if form not in (forms := get_args(ReportForm)):
        raise InputError(f"there is no report of kind '{form}'", expected=f"one of {', '.join(forms)}")
    run = RunDir(Path(path))
    answers = run.answers()
    if form == "html" and out is None:
        draw(run, answers)
        return run.path / "report.html"
    file = out or run.path / FILES[form]
    write_atomic(file, page(run, answers) if form == "html" else render(answers, form))
    return file


def profile(
    study: Study, run: Path, device: str, *, out: Path | None = None, progress: Progress = silent
) -> AnyProfile:
    """Measure what every prefix and head of a study costs on one device or system; weights do not matter.

    Args:
        study: Names the networks and the space.
        run: Its profile is reused if it matches, and a new one is kept there.
        device: `macs`, `cpu:eager:t1:b1`, a profile's JSON file, which is checked, or one of the study's systems.
        out: A further copy.
        progress: Told what is measured.

    Raises:
        InputError: of the part that cannot be used.
    """
    _, networks = measured_networks(study)
    measured = study_profile(study, RunDir(run), device, networks, progress)
    if out is not None:
        save_profile(measured, out)
    return measured


def bundle(study: Study, out: Path, *, progress: Progress = silent) -> KitFacts:
    """Write a kit with which another machine measures a study's networks, without torch; see `costs.kit`.

    Args:
        study: Names the networks and the space; weights do not matter.
        out: The zip file.
        progress: Told what is written.

    Raises:
        InputError: of the part that cannot be used.
    """
    _, networks = measured_networks(study)
    facts = StudyFacts(study.name, study.decisions, reference=study.backbone.name)
    return write_kit(networks, out, facts, progress=progress)
