"""Verbs to begin with: a study file for one's own network, and a look at where it can be cut."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eesearch.cli.verbs import QuietOption, RunOption, SetOption, StudyArgument, app, console
from eesearch.core.errors import StudyError

if TYPE_CHECKING:
    from eesearch.study.inspection import InspectedNetwork

MODEL_HELP = "timm:NAME, torchvision:NAME, hf:FOLDER, or package.module:function."
DATA_HELP = "An .npz or .csv file, a folder of images, torchvision:NAME, hf:FOLDER, or package.module:function."


@app.command()
def init(
    example: Annotated[str | None, typer.Option(help="Copy a shipped study, such as digits, instead.")] = None,
    model: Annotated[str | None, typer.Option(help=MODEL_HELP)] = None,
    data: Annotated[str | None, typer.Option(help=DATA_HELP)] = None,
    device: Annotated[list[str] | None, typer.Option(help="cpu:eager:t1:b1, macs, ...; several may be given.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Of the model: safetensors, or a state dict.")] = None,
    arg: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Argument of the model.")] = None,
    data_arg: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Argument of the data.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Of texts: a folder, or a name of transformers.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; NAME.yaml by default.")] = None,
) -> None:
    """Write a study file for a model and data, after a look at both; asks for what no flag says."""
    if example is not None:
        if model or data or device or weights or arg or data_arg or tokenizer:
            raise StudyError("--example copies a study as it is", do="Leave out all but --out.")
        from eesearch.study.files import copy_example

        for path in copy_example(example, out or Path(f"{example}.yaml")):
            print(path)
        return
    from eesearch.study.start import Begun, write_study

    model = model or _asked("model", MODEL_HELP)
    data = data or _asked("data", DATA_HELP)
    devices = tuple(device or ()) or ("cpu:eager:t1:b1", "macs")
    begun = Begun(
        model=model,
        data=data,
        devices=devices,
        args=_arguments("--arg", arg or ()),
        weights=None if weights is None else str(weights),
        data_args=_arguments("--data-arg", data_arg or ()),
        tokenizer=tokenizer,
    )
    name = _name_of(model if out is None else out.stem)
    file = out or Path(f"{name}.yaml")
    written = write_study(begun, name, file)
    _print_networks(written.networks)
    if said := [text for text in (written.preprocessing.report, written.preprocessing.warning) if text]:
        print(f"input: {'. '.join(said)}")
    print(f"{file} is written; search it: eesearch search {file}")


@app.command()
def inspect(
    study: StudyArgument,
    device: Annotated[list[str] | None, typer.Option(help="Any; by default the study's timed ones.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it: .png, .svg or .pdf.")] = None,
    run: RunOption = None,
    overrides: SetOption = None,
    quiet: QuietOption = False,
) -> None:
    """Show where a study's networks can be cut, and what it costs to get there; nothing is trained."""
    from eesearch.reporting.console import ProgressBars
    from eesearch.study.files import load_study
    from eesearch.study.inspection import inspect_study

    question = load_study(study, overrides or ())
    form = _form(out)
    timed = [name for name in question.measured if name != "macs"] if device is None else device
    chosen = tuple(name for name in timed if name != "macs")
    with ProgressBars(quiet=quiet) as bars:
        networks = inspect_study(question, run or Path("runs") / question.name, chosen, progress=bars)
    _print_networks(networks)
    if out is not None:
        from eesearch.reporting.inspected import save_inspection

        save_inspection(networks, out, form)
        print(out)


def _form(out: Path | None) -> Any:
    forms = ("png", "svg", "pdf")
    form = "png" if out is None else out.suffix.removeprefix(".")
    if form not in forms:
        raise StudyError(f"cannot draw {out}", expected="a name that ends with .png, .svg or .pdf")
    return form


def _print_networks(networks: Sequence[InspectedNetwork]) -> None:
    from eesearch.reporting.inspected import inspection_table

    for network in networks:
        console().print(inspection_table(network))


def _asked(flag: str, help: str) -> str:
    """An answer of the person at the terminal; where there is none, the flag is missing."""
    if not sys.stdin.isatty():
        raise StudyError(f"--{flag} is missing", expected=help)
    return str(typer.prompt(f"Which {flag}? {help}")).strip()


def _arguments(flag: str, given: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE` pairs; values are YAML, as in a study file."""
    import yaml

    found: dict[str, Any] = {}
    for text in given:
        name, mark, value = text.partition("=")
        if not mark or not name.isidentifier():
            raise StudyError(f"{flag} is not understood", got=text, expected="NAME=VALUE, such as depth=20")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise StudyError(f"the value of {flag} {name} is not YAML", got=value) from error
    return found


def _name_of(model: str) -> str:
    """A name for the study: the last word of the model's."""
    words = model.rstrip("/").replace(":", "/").replace(".", "_").split("/")
    name = "".join(c for c in words[-1] if c.isalnum() or c in "_-").lstrip("_-")
    return name or "study"
