"""Reading the files that a person writes: YAML, overrides, shipped examples; all mistakes at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from eesearch.core.constraints import SHORT
from eesearch.core.errors import StudyError
from eesearch.core.store import write_atomic
from eesearch.study.question import DataSpec, Study
from eesearch.study.systems import SystemSpec
from eesearch.training.sources import Source

M = TypeVar("M", bound=BaseModel)


def shipped(folder: str) -> dict[str, Path]:
    """The YAML files that ship in `studies` or `search_spaces`, by name."""
    files = resources.files(f"eesearch.{folder}").iterdir()
    return {Path(f.name).stem: Path(str(f)) for f in files if f.name.endswith(".yaml")}


def load_study(path: Path | str, overrides: Sequence[str] = ()) -> Study:
    """Read a study file, a shipped study's name, or the resolved `study.yaml` of a run.

    Args:
        path: The file, or the name of a shipped study.
        overrides: `key=value`, the key dotted (`budget.trials=5`), the value in YAML.

    Raises:
        StudyError: the file is missing, is no YAML, or has mistakes; all of them, each with its path in the file.
    """
    file = find(path, "studies")
    return resolve(read_yaml(file), overrides, file)


def resolve(fields: dict[str, Any], overrides: Sequence[str], file: Path) -> Study:
    """The study of a file's fields, after overrides.

    Args:
        fields: Changed in place.
        overrides: As `load_study` takes them.
        file: Where the fields come from; a search space named there may lie beside it.

    Raises:
        StudyError: mistakes; all of them, each with its path in the file.
    """
    for override in overrides:
        _override(fields, override)
    # A space by name or path is read here; its own mistakes are told with their path below `space`.
    if isinstance(fields.get("space"), str):
        fields["space"] = read_yaml(find(fields["space"], "search_spaces", beside=file.parent))
    return _absolute(validate(Study, fields, str(file), known=list(_not_json(fields))))


def _absolute(study: Study) -> Study:
    """With the paths of files made absolute, so that a run can be continued and used from another directory."""
    networks = tuple(
        spec.model_copy(
            update={"model": _absolute_hf(spec.model), "weights": spec.weights and _absolute_path(spec.weights)}
        )
        for spec in study.backbones
    )
    devices = tuple(str(Path(d).absolute()) if d.endswith(".json") else d for d in study.devices)
    systems = {name: _absolute_system(system) for name, system in study.systems.items()}
    places = {"data": _absolute_data(study.data), "backbones": networks, "devices": devices, "systems": systems}
    return study.model_copy(update=places)


def _absolute_data(data: DataSpec) -> DataSpec:
    kind, name = Source.of(data.source)
    source, args, tokenizer = _absolute_hf(data.source), dict(data.args), data.tokenizer
    if kind in ("npz", "csv", "folder"):
        source = _absolute_path(name)
    for arg in {"torchvision": ("root",), "csv": ("test", "cal")}.get(kind, ()):
        if isinstance(args.get(arg), str):
            args[arg] = _absolute_path(args[arg])
    if tokenizer and Path(tokenizer).expanduser().is_dir():
        tokenizer = _absolute_path(tokenizer)
    return data.model_copy(update={"source": source, "args": args, "tokenizer": tokenizer})


def _absolute_hf(name: str) -> str:
    """`hf:FOLDER` with the whole path of the folder; anything else, a name in the hub's cache too, as it is."""
    prefix, _, folder = name.partition(":")
    return f"hf:{_absolute_path(folder)}" if prefix == "hf" and Path(folder).expanduser().is_dir() else name


def _absolute_path(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def _absolute_system(system: SystemSpec) -> SystemSpec:
    tiers = tuple(
        tier.model_copy(update={"device": str(Path(tier.device).absolute())}) if tier.device.endswith(".json") else tier
        for tier in system.tiers
    )
    return system.model_copy(update={"tiers": tiers})


def find(path: Path | str, folder: str, *, beside: Path | None = None) -> Path:
    """The file of that path (as given, or beside another file), or the shipped one of that name.

    Raises:
        StudyError: there is neither.
    """
    for candidate in (Path(path), *([beside / path] if beside else [])):
        if candidate.is_file():
            return candidate
    known = shipped(folder)
    if str(path) in known:
        return known[str(path)]
    raise StudyError(f"there is no file {path}", expected=f"a YAML file, or one of {', '.join(sorted(known))}")


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        StudyError: unreadable, no YAML, or something other than a mapping.
    """
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StudyError(f"cannot read {path}", got=error, do="Mend the file and run the same command again.") from None
    if not isinstance(fields, dict):
        raise StudyError(f"{path} holds no study", got=type(fields).__name__, expected="a mapping of fields")
    return fields


def validate(model: type[M], fields: object, source: str, *, known: Sequence[tuple[str, str]] = ()) -> M:
    """Build a pydantic model or tell all mistakes at once.

    Args:
        model: What the fields are of.
        fields: As they were read.
        source: For the message.
        known: Paths and messages of mistakes that were found before.

    Raises:
        StudyError: with every mistake's path and message.
    """
    mistakes = list(known)
    try:
        made = model.model_validate(fields)
    except ValidationError as error:
        mistakes += [(_where(e["loc"], e["type"]), _plain(e["type"], e["msg"], e.get("input"))) for e in error.errors()]
    if mistakes:
        raise StudyError.collect(source, mistakes)
    return made


def _not_json(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[str, str]]:
    """Arguments that cannot be written as JSON, such as the dates that YAML finds, with their paths."""
    if isinstance(value, dict | list | tuple):
        for name, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _not_json(each, (*path, name))
    elif "args" in path and not isinstance(value, str | int | float | None):
        yield ".".join(map(str, path)), f"expected a number, a word or a list; got {value!r}: write it in quotes"


def _where(path: tuple[int | str, ...], kind: str) -> str:
    """The path of a mistake, as a person writes it: a study's only network is its `backbone`."""
    return "backbone" if (path, kind) == (("backbones",), "missing") else ".".join(map(str, path)) or "(top)"


def _plain(kind: str, message: str, got: object) -> str:
    if kind == "extra_forbidden":
        return "unknown field; remove it or mend its name"
    if kind == "missing":
        return "this field is needed"
    message = message.removeprefix("Value error, ")
    return message if kind == "value_error" else f"{message[0].lower()}{message[1:]}; got {got!r}"


def _override(fields: dict[str, Any], override: str) -> None:
    """Set one dotted key; `backbone.x` means the only entry of `backbones`, `backbones.NAME.x` the one of that name."""
    key, mark, text = override.partition("=")
    if not mark or not key:
        raise StudyError(f"--set {override}", expected="key=value, such as budget.trials=5")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise StudyError(f"--set {override}", got=error, expected="a value in YAML") from None
    *parents, last = key.split(".")
    node: Any = fields
    if parents[:1] == ["backbone"] and "backbones" in fields:
        parents[:1] = ["backbones", "0"]
    for name in parents:
        node = node[_index(node, name, override)] if isinstance(node, list) else node.setdefault(name, {})
        if not isinstance(node, dict | list):
            raise StudyError(f"--set {override}", got=f"'{name}' is no section", expected="a field that exists")
    if isinstance(node, list):
        node[_index(node, last, override)] = value
    else:
        node[last] = value


def _index(node: list[Any], name: str, override: str) -> int:
    """Place of an entry in a list, by its number or by its name."""
    named = [place for place, entry in enumerate(node) if isinstance(entry, dict) and entry.get("name") == name]
    if named:
        return named[0]
    if not name.isdigit() or int(name) >= len(node):
        raise StudyError(f"--set {override}", got=f"'{name}'", expected=f"an index below {len(node)}")
    return int(name)


def schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of a study or search-space file.

    Raises:
        StudyError: another kind.
    """
    from eesearch.study.space import SearchSpace

    models: dict[str, type[BaseModel]] = {"study": Study, "space": SearchSpace}
    if kind not in models:
        raise StudyError(f"there is no schema of a {kind}", expected="study or space")
    found = models[kind].model_json_schema()
    return _as_written(found) if kind == "study" else found


def _as_written(schema: dict[str, Any]) -> dict[str, Any]:
    """With what is written in short: one `backbone`, a space by its name or path, limits as one number."""
    fields = schema["properties"]
    fields |= {"backbone": fields["backbones"]["items"], "space": {"anyOf": [fields["space"], {"type": "string"}]}}
    schema["required"].remove("backbones")
    schema["oneOf"] = [{"required": ["backbone"]}, {"required": ["backbones"]}]
    schema["$defs"]["Constraints"]["properties"] |= {name: {"type": "number", "minimum": 0.0} for name in SHORT}
    return schema


def copy_example(name: str, out: Path) -> list[Path]:
    """Copy a shipped study to `out`, and the search space it names beside it; returns what was written.

    Raises:
        StudyError: there is no such study, or a file is there already.
    """
    studies = shipped("studies")
    if name not in studies:
        raise StudyError(f"no study '{name}' ships", expected=f"one of {', '.join(sorted(studies))}")
    text = studies[name].read_text(encoding="utf-8")
    space = yaml.safe_load(text).get("space")
    copies = {out: text}
    if isinstance(space, str):
        beside = out.with_name(f"{out.stem}_space.yaml")
        space_text = shipped("search_spaces")[space].read_text(encoding="utf-8")
        copies = {out: text.replace(f"space: {space}", f"space: {beside.name}"), beside: space_text}
    taken = [str(path) for path in copies if path.exists()]
    if taken:
        raise StudyError(f"{', '.join(taken)} is there already", do="Pass another name with --out.")
    for path, content in copies.items():
        write_atomic(path, content)
    return list(copies)
