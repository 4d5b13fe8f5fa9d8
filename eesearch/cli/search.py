"""Verbs that ask: search a study, measure a device, start a study file."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from eesearch.cli.verbs import (
    MaxCacheOption,
    QuietOption,
    RunOption,
    SetOption,
    StorageOption,
    StudyArgument,
    TrustOption,
    app,
    console,
    stoppable,
)
from eesearch.core.errors import RunError, StudyError

if TYPE_CHECKING:
    from eesearch.study.answers import Answers, TrialAnswer
    from eesearch.study.question import Study
    from eesearch.study.run import Run
    from eesearch.study.trial import Finished


@app.command()
def search(
    study: StudyArgument,
    run: RunOption = None,
    overrides: SetOption = None,
    trials: Annotated[int | None, typer.Option(help="Trials in all, the bank included.")] = None,
    timeout: Annotated[str | None, typer.Option(help="Time of all trials: 90s, 10m, 2h.")] = None,
    samples: Annotated[
        int | None, typer.Option(help="Training samples in all; --dry-run tells those of a design.")
    ] = None,
    max_cache: MaxCacheOption = None,
    sampler: Annotated[
        str | None, typer.Option(metavar="NAME", help="auto, tpe, nsga2, nsga3, gp, random, or module:Class.")
    ] = None,
    driver: Annotated[str | None, typer.Option(metavar="NAME", help="optuna or ray.")] = None,
    storage: StorageOption = None,
    address: Annotated[
        str | None, typer.Option(metavar="ADDR", help="Of a running Ray cluster: auto, host:port.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew; an old run directory is renamed.")] = False,
    warm_start: Annotated[
        list[Path] | None,
        typer.Option("--warm-start", metavar="FILE|RUN", help="Try this configuration, or a run's choice, first."),
    ] = None,
    log: Annotated[
        list[str] | None, typer.Option("--log", metavar="TOOL", help="Log trials too: tensorboard, mlflow or wandb.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and stop.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Run a study, continue it, or join the processes that run it: always the same command."""
    from eesearch.study.files import load_study

    named: dict[str, object] = {"budget.trials": trials, "budget.timeout": timeout, "budget.samples": samples}
    named |= {"budget.max_cache_gb": max_cache, "sampler": sampler, "driver": driver}
    question = load_study(study, [*(overrides or ()), *(f"{k}={v}" for k, v in named.items() if v is not None)])
    if address is not None and question.driver != "ray":
        raise StudyError("--address names a Ray cluster", got=f"driver {question.driver}", do="Add --driver ray.")
    if warm_start:
        from eesearch.study.retrain import warmed

        question = warmed(question, warm_start)
    if dry_run:
        from eesearch.api import plan
        from eesearch.reporting.tables import plan_table

        console().print(plan_table(plan(question, run)))
        return
    place = (storage, address)
    _print_where(_searched(question, run, fresh=fresh, quiet=quiet, logs=log or (), place=place))


@app.command()
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="What `export --to config` wrote.")],
    data: Annotated[
        str | None, typer.Option(help="A data source, as in a study; by default that of the configuration.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Any number; by default that of the configuration.")] = None,
    start: Annotated[
        Literal["auto", "scratch", "backbone"],
        typer.Option(
            "--from", help="Random weights, or the trained backbone; auto: random if it came without weights."
        ),
    ] = "auto",
    run: RunOption = None,
    overrides: SetOption = None,
    max_cache: MaxCacheOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew; an old run directory is renamed.")] = False,
    trust: TrustOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a chosen configuration's network with its exits alone, or continue that; the result is a run."""
    from eesearch.study.config import ExportedConfig
    from eesearch.study.retrain import Retraining, comparison, retraining

    chosen = ExportedConfig.load(config)
    scratch = None if start == "auto" else start == "scratch"
    changed = [*(overrides or ()), *([] if max_cache is None else [f"budget.max_cache_gb={max_cache}"])]
    question = retraining(chosen, Retraining(data, epochs, scratch, changed, trust))
    found = _searched(question, run, fresh=fresh, quiet=quiet)
    print(comparison(chosen, found.answers))
    _print_where(found)


@app.command()
def profile(
    study: StudyArgument,
    device: Annotated[list[str] | None, typer.Option(help="One of the study's devices or any other.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the profile here too (one device).")] = None,
    bundle: Annotated[
        Path | None, typer.Option(metavar="ZIP", help="Measure nothing; write a kit that another machine measures.")
    ] = None,
    run: RunOption = None,
    overrides: SetOption = None,
    quiet: QuietOption = False,
) -> None:
    """Measure what every prefix and head of a study costs on a device."""
    from eesearch.api import profile as measure
    from eesearch.reporting.console import ProgressBars
    from eesearch.reporting.tables import profile_tables
    from eesearch.study.files import load_study

    question = load_study(study, overrides or ())
    if bundle is not None:
        if device or out is not None:
            raise StudyError("--bundle measures nothing", do="Leave --device and --out to the machine that it is for.")
        _bundle(study, question, bundle, quiet=quiet)
        return
    devices = device or list(question.devices)
    if out is not None and len(devices) != 1:
        raise StudyError("--out takes one profile", got=f"{len(devices)} devices", do="Name one with --device.")
    for name in devices:
        with ProgressBars(quiet=quiet) as bars:
            measured = measure(question, run or Path("runs") / question.name, name, out=out, progress=bars)
        console().print(*profile_tables(measured))


def _bundle(study: str, question: Study, out: Path, *, quiet: bool) -> None:
    from eesearch.api import bundle
    from eesearch.reporting.console import ProgressBars

    with ProgressBars(quiet=quiet) as bars:
        facts = bundle(question, out, progress=bars)
    print(f"{out}: {facts.pieces} pieces, {facts.size / 1e6:.1f} MB; it needs Python, onnxruntime and numpy there:")
    print("  python3 -m venv kit-env && kit-env/bin/pip install onnxruntime numpy")
    print(f"  kit-env/bin/python {out.name} --out profile.json")
    print("and here, with the profile that comes back:")
    print(f"  eesearch profile {study} --device profile.json")


@app.command()
def schema(kind: Annotated[str, typer.Argument(metavar="study|space")]) -> None:
    """Print the JSON Schema of a study or search-space file."""
    import json

    from eesearch.study.files import schema as json_schema

    print(json.dumps(json_schema(kind), indent=2))


@app.command()
def doctor(
    timer: Annotated[bool, typer.Option("--timer", help="Measure the timer's own noise instead.")] = False,
    device: Annotated[str, typer.Option(help="Where, with --timer.")] = "cpu:eager:t1:b1",
    quiet: QuietOption = False,
) -> None:
    """Say what this machine can measure, with which versions, and how well."""
    from eesearch.reporting.tables import facts_table
    from eesearch.study.doctor import facts

    if timer:
        from eesearch.costs.noise import timer_noise
        from eesearch.reporting.console import ProgressBars
        from eesearch.study.doctor import noise_facts

        with ProgressBars(quiet=quiet) as bars:
            noise = timer_noise(device, progress=bars)
        console().print(facts_table(noise_facts(noise)))
    else:
        console().print(facts_table(facts()))


def _searched(
    question: Study,
    run: Path | None,
    *,
    fresh: bool,
    quiet: bool,
    logs: Sequence[str] = (),
    place: tuple[str | None, str | None] = (None, None),
) -> Run:
    """Search, and print the answers; `place` is the database and the Ray cluster."""
    from eesearch.api import Place, Watchers, search_study
    from eesearch.reporting.live import LiveView, trial_words
    from eesearch.reporting.standing import Standing

    if quiet:
        logging.getLogger("eesearch").setLevel(logging.WARNING)
    path = run or Path("runs") / question.name
    with stoppable(), LiveView(Standing.of(question, () if fresh else _known(path)), quiet=quiet) as view:

        def tell(trial: Finished) -> None:
            view.trial(trial)
            if not (view.shown or quiet):
                print(f"{trial_words(trial)} [{view.standing.words()}]", file=sys.stderr)

        watchers = Watchers(view, tell, view.answers, tuple(logs))
        found = search_study(question, path, fresh=fresh, watchers=watchers, place=Place(*place))
    _print_answers(found.answers, quiet=quiet)
    return found


def _known(path: Path) -> Sequence[TrialAnswer]:
    """Trials of earlier searches, to count on from; the search itself does not read them."""
    from eesearch.study.rundir import RunDir

    try:
        return RunDir(path).answers().trials
    except RunError:  # none yet, or damaged
        return ()


def _print_where(found: Run) -> None:
    print(f"all points: eesearch front {found.directory.path}")
    print(f"report: {found.directory.path / 'report.html'}")


def _print_answers(answers: Answers, *, quiet: bool) -> None:
    from eesearch.reporting.console import front_table, highlights, verdict_text
    from eesearch.reporting.frontdata import rivals
    from eesearch.reporting.strategies import strategies_table

    console().print(verdict_text(answers), soft_wrap=True)
    for device in () if quiet else answers.devices:
        console().print(front_table(device, highlights(device)))
        if rivals(device):
            console().print(strategies_table(device))
