"""The verbs: split, profile, search, report. Each reads top to bottom."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from eesearch.answering import Answering, Watchers, draw, page, verify_found
from eesearch.core.costs import DeviceProfile
from eesearch.core.design import ExitSpec, HeadSpec
from eesearch.core.errors import InputError, StudyError
from eesearch.core.progress import Progress, silent
from eesearch.core.registry import DRIVERS
from eesearch.core.store import write_atomic
from eesearch.core.systems import SystemProfile
from eesearch.costs.devices import parse_device
from eesearch.costs.figures import estimate_seconds
from eesearch.costs.kit import KitFacts, write_kit
from eesearch.costs.profile import profile as profile_costs
from eesearch.drivers.job import Job
from eesearch.drivers.loggers import make_loggers
from eesearch.drivers.samplers import make_sampler
from eesearch.drivers.storage import open_database
from eesearch.nets.split import Backbone, split
from eesearch.notebook import Run, load_run
from eesearch.reporting.console import ProgressBars
from eesearch.reporting.render import FILES, render
from eesearch.solve.exact import solve_front
from eesearch.study.answers import Answers
from eesearch.study.bank_problem import BankProblem
from eesearch.study.compose import Mode
from eesearch.study.estimate import expected_work
from eesearch.study.files import validate
from eesearch.study.materials import (
    Given,
    check_classes,
    fitting_heads,
    load_backbone,
    load_study_data,
    thinned,
)
from eesearch.study.modes import build_problem
from eesearch.study.profiling import any_profile
from eesearch.study.question import DataSpec, Study
from eesearch.study.rundir import RunDir, open_run
from eesearch.study.tiers import save_any_profile
from eesearch.study.workers import working
from eesearch.training.bank import count_samples, plan_cache
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
        data: The arrays `x_train y_train x_test y_test [x_cal y_cal]`, or an `.npz` file that holds them. Without
            `x_cal`, one half of test calibrates and the other is reported (`study={"data": {"calibration": ...}}`
            says otherwise): the model has learnt the training split, and thresholds chosen there are worth nothing.
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
    fields["data"] = {"source": "given:arrays", "args": splits}
    fields.setdefault("devices", [device])
    fields["budget"] = {"trials": 1000, "timeout": budget, **fields.get("budget", {})}
    if max_drop is not None:
        fields["objectives"] = {"max_drop": max_drop}
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
    if isinstance(data, Mapping):
        return make_dataset(data, calibration=spec.calibration, certification=spec.certification, seed=seed)
    return load_dataset(str(data), calibration=spec.calibration, certification=spec.certification, seed=seed)


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
) -> DeviceProfile | SystemProfile:
    """Measure what every prefix and head of a study costs on one device or system; weights do not matter.

    Args:
        study: Names the network and the space.
        run: Its profile is reused if it matches, and a new one is kept there.
        device: `macs`, `cpu:eager:t1:b1`, a profile's JSON file, which is checked, or one of the study's systems.
        out: A further copy.
        progress: Told what is measured.

    Raises:
        InputError: of the part that cannot be used.
    """
    network = _network(study)[1:]
    measured = any_profile(study, RunDir(run), device, network, progress)
    if out is not None:
        save_any_profile(measured, out)
    return measured


def bundle(study: Study, out: Path, *, progress: Progress = silent) -> KitFacts:
    """Write a kit with which another machine measures a study's network, without torch; see `costs.kit`.

    Args:
        study: Names the network and the space; weights do not matter.
        out: The zip file.
        progress: Told what is written.

    Raises:
        InputError: of the part that cannot be used.
    """
    _, backbone, heads = _network(study)
    return write_kit(backbone, heads, out, study=study.name, decisions=study.decisions, progress=progress)


def _network(study: Study) -> tuple[Dataset, Backbone, dict[str, tuple[HeadSpec, ...]]]:
    if len(study.backbones) > 1:
        raise StudyError(
            "plans, profiles and kits are of one network so far",
            got=", ".join(spec.name for spec in study.backbones),
            do="Run `eesearch search`: it measures all of them.",
        )
    dataset = load_study_data(study)
    backbone = thinned(load_backbone(study, dataset.train.x[:2]), study.space.cuts.max_cuts)
    check_classes(backbone, dataset)
    return dataset, backbone, fitting_heads(study.space, backbone)


@dataclass(frozen=True)
class PlannedCut:
    """A place where exits may hang.

    Attributes:
        share: Of the backbone's MACs, from the input to here.
        heads: Names of the head designs that fit.
    """

    name: str
    shape: tuple[int, ...]
    share: float
    heads: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What a search would do.

    Attributes:
        cache_bytes: Size of the cached hidden states.
        samples: Training samples that go through the backbone: for the bank, and for a design of the strategy that
            takes most; 0 if there is none.
        seconds: Estimates by phase.
    """

    cuts: tuple[PlannedCut, ...]
    cache_bytes: int
    trials: int
    samples: tuple[int, int]
    seconds: dict[str, float]


def plan(study: Study) -> Plan:
    """Look at a study without running it; a few batches are timed for the estimates.

    Raises:
        InputError: of the part that cannot be used.
    """
    dataset, backbone, heads = _network(study)
    decisions = study.decisions
    macs = profile_costs(backbone, {}, "macs", decisions=decisions).macs_prefix
    cuts = tuple(
        PlannedCut(cut.name, cut.shape, macs[k] / macs[-1], tuple(h.name for h in heads[cut.name]))
        for k, cut in enumerate(backbone.cuts)
    )
    exits = [ExitSpec(cut=cut, head=head) for cut, specs in heads.items() for head in specs]
    samples = len(dataset.train)
    forward, step = _seconds_per_sample(backbone, dataset.train.x)
    collected = len(dataset.cal) + len(dataset.test)
    works = expected_work(study, backbone, heads, samples).values()
    back, passes = step - forward, len(works) * len(backbone.segments)
    learning = sum(back * work.backward + forward * work.forward for work in works) / max(passes, 1)
    passed = count_samples(
        backbone, exits, samples, epochs=study.training.heads.epochs, max_cache_gb=study.budget.max_cache_gb
    )
    used = passed, max((work.samples for work in works), default=0)
    trials = _trials(study, *used)
    seconds = {"train backbone": 0.0 if study.backbone.weights else step * samples * study.training.epochs}
    seconds["profile"] = sum(
        estimate_seconds(backbone, heads, d, decisions=decisions, protocol=study.measuring) for d in study.measured
    )
    seconds["bank (trial 0)"] = forward * (samples + collected)
    seconds["trained designs"] = (learning + forward * collected) * (trials - 1)
    here = sum(d not in study.systems and parse_device(d).timed for d in study.devices)
    seconds["verify"] = here * study.verify.points * study.verify.seconds
    return Plan(cuts, plan_cache(backbone, exits, samples), trials, used, seconds)


def _trials(study: Study, bank: int, design: int) -> int:
    """How many trials the budget of a study allows, given the training samples of the bank and of a design."""
    if not study.space.trained:
        return 1
    trials, samples = study.budget.trials, study.budget.samples
    return trials if samples is None else min(trials, 1 + max(0, ceil((samples - bank) / design)))


def _seconds_per_sample(backbone: Backbone, x: NDArray[np.generic], batch: int = 128) -> tuple[float, float]:
    """A forward pass, and a training step, on one batch after a warm-up."""
    inputs = torch.from_numpy(np.array(x[:batch]))
    trained = copy.deepcopy(backbone)

    def forward() -> None:
        with torch.inference_mode():
            backbone(inputs)

    def step() -> None:
        trained.requires_grad_(True)
        trained(inputs).sum().backward()

    times = []
    for work in (forward, step):
        work()
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) / len(inputs))
    return times[0], times[1]
