"""The command line: the verbs of `eesearch.api`, arguments and output; no logic of its own.

Exit codes: 0 done, 2 the user's input, 1 ours, 130 interrupted (the answers so far are written).
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from eesearch import __version__
from eesearch.core.errors import EesearchError, InputError, StudyError

if TYPE_CHECKING:
    from rich.console import Console

    from eesearch.api import Plan
    from eesearch.study.answers import Answers, DeviceAnswer
    from eesearch.study.trial import Finished

# torch, optuna and scikit-learn take seconds to import: every verb imports what it needs when it runs.


class Verbs(TyperGroup):
    """Gives errors of ours their exit codes, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen verb."""
        try:
            return super().invoke(ctx)
        except EesearchError as error:
            print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            print("interrupted; the same command continues", file=sys.stderr)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Verbs,
    help="Search early-exit versions of a classifier: where to exit, with which head, trained how, stopping when.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

SELECTION = "knee | point=N | max-drop=0.5% | budget-ms=X, each with an optional @device"

StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or the name of a shipped one.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, such as runs/digits.")]
RunOption = Annotated[Path | None, typer.Option("--run", help="Run directory; runs/<name of the study> by default.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a field: budget.trials=5.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress.")]


def main() -> None:
    """Run the command line and exit."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    logging.getLogger("eesearch").setLevel(logging.INFO)
    if str(Path.cwd()) not in sys.path:  # a study may name a model that lies in this directory
        sys.path.insert(0, str(Path.cwd()))
    app()


def _version(wanted: bool) -> None:
    if wanted:
        print(f"eesearch {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


@app.command()
def search(
    study: StudyArgument,
    run: RunOption = None,
    overrides: SetOption = None,
    trials: Annotated[int | None, typer.Option(help="Trials in all, the bank included.")] = None,
    timeout: Annotated[str | None, typer.Option(help="Time of all trials: 90s, 10m, 2h.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew; an old run directory is renamed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and stop.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Run a study, or continue it: the same command goes on where it stopped."""
    from eesearch.study.files import load_study

    totals = [f"budget.{k}={v}" for k, v in (("trials", trials), ("timeout", timeout)) if v is not None]
    question = load_study(study, [*(overrides or ()), *totals])
    if dry_run:
        from eesearch.api import plan

        _print_plan(plan(question))
        return
    from eesearch.api import Watchers, search_study
    from eesearch.reporting.console import ProgressBars

    if quiet:
        logging.getLogger("eesearch").setLevel(logging.WARNING)
    with ProgressBars(quiet=quiet) as bars:
        watchers = Watchers(bars, (lambda trial: None) if quiet else _print_trial)
        found = search_study(question, run or Path("runs") / question.name, fresh=fresh, watchers=watchers)
    _print_answers(found.answers, quiet=quiet)
    print(f"all points: eesearch front {found.directory.path}")
    print(f"report: {found.directory.path / 'report.html'}")


@app.command()
def front(
    run: RunArgument,
    device: Annotated[str | None, typer.Option(help="One device only.")] = None,
    max_drop: Annotated[str | None, typer.Option(help="At most this far below the backbone: 0.5%.")] = None,
    budget_ms: Annotated[float | None, typer.Option(help="At most this latency.")] = None,
    at: Annotated[Literal["mean", "p95", "worst"], typer.Option(help="Which latency the budget is for.")] = "mean",
    form: Annotated[Literal["table", "csv", "json"], typer.Option("--format", help="How to print.")] = "table",
) -> None:
    """Show the points of a run's fronts; drops and budgets are judged on calibration."""
    from eesearch.study.picks import Wanted, chosen_points, find_device
    from eesearch.study.rundir import RunDir

    answers = RunDir(run).answers()
    timed = [d for d in answers.devices if d.axis == "latency_ms" or budget_ms is None]
    devices = [find_device(answers.devices, device)] if device else timed or answers.devices
    wanted = Wanted.parse(max_drop=max_drop, budget_ms=budget_ms, at=at)
    chosen = [(d, chosen_points(d, wanted)) for d in devices]
    _print_points(chosen, form)


@app.command()
def report(run: RunArgument) -> None:
    """Draw a run's answers again: front.png and report.html."""
    from eesearch.api import report as draw

    print(draw(run))


@app.command()
def profile(
    study: StudyArgument,
    device: Annotated[list[str] | None, typer.Option(help="One of the study's devices or any other.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the profile here too (one device).")] = None,
    run: RunOption = None,
    overrides: SetOption = None,
    quiet: QuietOption = False,
) -> None:
    """Measure what every prefix and head of a study costs on a device."""
    from eesearch.api import profile as measure
    from eesearch.reporting.console import ProgressBars
    from eesearch.reporting.tables import profile_table
    from eesearch.study.files import load_study

    question = load_study(study, overrides or ())
    devices = device or list(question.devices)
    if out is not None and len(devices) != 1:
        raise StudyError("--out takes one profile", got=f"{len(devices)} devices", do="Name one with --device.")
    for name in devices:
        with ProgressBars(quiet=quiet) as bars:
            measured = measure(question, run or Path("runs") / question.name, name, out=out, progress=bars)
        _console().print(profile_table(measured))


@app.command()
def predict(
    run: RunArgument,
    inputs: Annotated[Path, typer.Argument(metavar="INPUT.npz", help="Holds x, and maybe y.")],
    pick: Annotated[str, typer.Option(metavar="SEL", help=SELECTION)] = "max-drop=0.5%",
    out: Annotated[Path | None, typer.Option(help="CSV file; standard output by default.")] = None,
) -> None:
    """Answer samples with a chosen point, really stopping early: index,answer,exit,score; -1 is handed on."""
    from eesearch.study.predictions import predict_file

    csv, summary = predict_file(run, pick, inputs)
    _write(out, csv)
    print(summary, file=sys.stderr)


@app.command()
def policies(
    run: RunArgument,
    device: Annotated[str | None, typer.Option(help="One of the run's devices; its first by default.")] = None,
    form: Annotated[Literal["table", "csv"], typer.Option("--format", help="How to print.")] = "table",
    quiet: QuietOption = False,
) -> None:
    """Compare our policies with those of the literature on the same exits: chosen on calibration, told on test."""
    from eesearch.reporting.console import ProgressBars
    from eesearch.reporting.policies import policies_table
    from eesearch.study.policies import compare_policies
    from eesearch.study.rundir import RunDir

    with ProgressBars(quiet=quiet) as bars:
        compared = compare_policies(RunDir(run), device, progress=bars)
    if form == "csv":
        sys.stdout.write(compared.to_pandas().to_csv(index=False))
    else:
        _console().print(policies_table(compared))


@app.command()
def solve(
    table: Annotated[Path, typer.Argument(metavar="TABLE.npz", help="Logits [E, N, C] and labels [N] of all exits.")],
    costs: Annotated[Path, typer.Argument(metavar="COSTS.json", help="What prefixes and heads cost.")],
    max_exits: Annotated[int, typer.Option(help="Most exits on cuts; the own classifier is not counted.")] = 3,
    levels: Annotated[str, typer.Option(help="Thresholds tried per exit, or `all`.")] = "24",
    criterion: Annotated[str, typer.Option(help="Score that decides whether a sample leaves.")] = "max_prob",
    answer: Annotated[
        Literal["own", "most_confident"], typer.Option(help="Whose answer a sample leaves with.")
    ] = "own",
    method: Annotated[Literal["auto", "exact", "anytime"], typer.Option(help="How to search.")] = "auto",
    seconds: Annotated[float | None, typer.Option(help="Stop then, with the best found so far.")] = None,
    test: Annotated[Path | None, typer.Option(help="Another table, on which the points are told too.")] = None,
    form: Annotated[Literal["table", "csv", "json"], typer.Option("--format", help="How to print.")] = "table",
    out: Annotated[Path | None, typer.Option(help="File for CSV or JSON; standard output by default.")] = None,
) -> None:
    """Find the front of a network that has its exits already, from two files; without torch."""
    from eesearch.core.policy import Scoring
    from eesearch.reporting.tables import solved_table
    from eesearch.solve.family import Effort, Family, read_levels
    from eesearch.solve.files import solve_files

    if out is not None and form == "table":
        raise InputError("--out writes CSV or JSON", got="--format table", do="Add --format csv or json.")
    found = solve_files(
        table, costs, scoring=Scoring(criterion, answer), family=Family(max_exits, read_levels(levels)),
        effort=Effort(method, seconds), test=test,
    )  # fmt: skip
    if form == "table":
        _console().print(solved_table(found.rows(), str(found.front.certificate)))
    else:
        _write(out, found.to_csv() if form == "csv" else found.to_json())


@app.command()
def schema(kind: Annotated[str, typer.Argument(metavar="study|space")]) -> None:
    """Print the JSON Schema of a study or search-space file."""
    import json

    from eesearch.study.files import schema as json_schema

    print(json.dumps(json_schema(kind), indent=2))


@app.command()
def init(
    example: Annotated[str, typer.Option(help="A shipped study, such as digits.")],
    out: Annotated[Path | None, typer.Option(help="File to write; NAME.yaml by default.")] = None,
) -> None:
    """Copy a shipped study, with its search space, to start from."""
    from eesearch.study.files import copy_example

    for path in copy_example(example, out or Path(f"{example}.yaml")):
        print(path)


@app.command()
def doctor() -> None:
    """Say what this machine can measure, and with which versions."""
    from eesearch.reporting.tables import facts_table
    from eesearch.study.doctor import facts

    _console().print(facts_table(facts()))


def _write(out: Path | None, text: str) -> None:
    """To a file, or to standard output."""
    if out is None:
        sys.stdout.write(text)
    else:
        from eesearch.core.store import write_atomic

        write_atomic(out, text)


def _console() -> Console:
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=110)


def _print_answers(answers: Answers, *, quiet: bool) -> None:
    from eesearch.reporting.console import front_table, highlights, verdict_text

    console = _console()
    console.print(verdict_text(answers), soft_wrap=True)
    for device in () if quiet else answers.devices:
        console.print(front_table(device, highlights(device)))


def _print_trial(trial: Finished) -> None:
    """A line per finished trial, on standard error."""
    found = trial.error if trial.outcome is None else "value " + ", ".join(f"{v:.4f}" for v in trial.outcome.values)
    print(f"trial {trial.number} ({trial.origin}): {found}, {trial.seconds:.1f} s", file=sys.stderr)


def _print_points(chosen: list[tuple[DeviceAnswer, list[int]]], form: str) -> None:
    from eesearch.reporting.console import front_table
    from eesearch.study.answers import table_rows

    if form == "table":
        for device, points in chosen:
            _console().print(front_table(device, points))
        return
    rows = table_rows([device for device, _ in chosen])
    shown = {(device.device, number) for device, points in chosen for number in (*points, "backbone")}
    rows = rows[[key in shown for key in zip(rows["device"], rows["point"], strict=True)]]
    sys.stdout.write(rows.to_csv(index=False) if form == "csv" else rows.to_json(orient="records", indent=1) + "\n")


def _print_plan(plan: Plan) -> None:
    from eesearch.reporting.tables import estimate_words, plan_table

    cuts = [(c.name, "x".join(map(str, c.shape)), c.share, "\n".join(c.heads)) for c in plan.cuts]
    summary = {
        "cached hidden states": f"{plan.cache_bytes / 1e6:,.1f} MB",
        "trainings": f"{plan.trials} (the bank, then {plan.trials - 1} designs)",
        "time": f"about {estimate_words(plan.seconds)}",
    }
    _console().print(plan_table(cuts, summary))
