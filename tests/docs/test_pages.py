"""What the pages say about the code is compared with the code."""

import dataclasses
import re
from importlib import import_module
from pathlib import Path

import typer

from eesearch.cli import app
from eesearch.core.registry import EXPORTERS
from eesearch.exits import expected
from eesearch.solve.table_file import _NAMES
from eesearch.study.files import shipped, validate
from eesearch.study.question import Study

ROOT = Path(__file__).parents[2]
GROUPS = re.compile(r"eesearch\.(heads|adapters|criteria|answers|strategies|backends|drivers|exporters)")


def named(path):
    """The object of a dotted path: a module, or something in it."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"there is no {path}")


def tables(text, kind):
    """`(object, names in the first column)` of the tables that a comment `<!-- kind: path -->` announces."""
    for match in re.finditer(rf"<!-- {kind}: (\S+) -->\n+((?:\|.*\n)+)", text):
        rows = match[2].splitlines()[2:]
        yield named(match[1]), [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]


def section(text, heading, level):
    """What stands below a heading."""
    (found,) = re.findall(rf"^{'#' * level} {heading}\n(.*?)(?=^#{{1,{level}}} |\Z)", text, re.MULTILINE | re.DOTALL)
    return found


def test_tables_of_fields_are_complete(pages):
    found = list(tables(pages["files"], "fields"))
    assert len(found) == pages["files"].count("<!-- fields:")
    for model, names in found:
        is_model = hasattr(model, "model_fields")
        fields = list(model.model_fields) if is_model else [f.name for f in dataclasses.fields(model)]
        assert sorted(names) == sorted(fields), model.__name__


def test_columns_and_arrays_are_complete(pages):
    ((columns, listed),) = tables(pages["files"], "names")
    assert listed == list(columns)
    ((form, arrays),) = tables(pages["files"], "keys")
    assert sorted(arrays) == sorted(re.findall(r"\w+", form))
    rows = section(pages["files"], "TABLE.npz and COSTS.json", 2).split("\n\n")[1].splitlines()[2:]
    assert sorted(row.split("`")[1] for row in rows) == sorted(_NAMES)


def test_the_short_study_is_one(blocks):
    import yaml

    fields = yaml.safe_load(next(b.text for b in blocks("files") if b.language == "yaml"))
    assert fields.pop("space") in shipped("search_spaces")
    validate(Study, fields, "files.md")


def test_every_verb_and_option_is_told(pages):
    text, shared = pages["commands"], section(pages["commands"], "Arguments that several verbs share", 2)
    verbs = typer.main.get_command(app).commands
    for verb, command in verbs.items():
        own = section(text, verb, 3)
        assert f"`eesearch {verb} " in own or f"`eesearch {verb}`" in own
        for parameter in command.params:
            option = parameter.opts[0]
            if option.startswith("--"):
                assert f"`{option}" in own, f"{verb} {option}"
            else:
                assert (parameter.metavar or "").split("|")[0].strip("{}[].") in own + shared, f"{verb} {option}"
    told = set(re.findall(r"^### ([\w-]+)$", text, re.MULTILINE))
    assert told == set(verbs)


def test_no_option_is_told_that_is_not_there(pages):
    verbs = typer.main.get_command(app).commands
    for verb, command in verbs.items():
        items = re.findall(r"^- ((?:`--[\w-]+[^`]*`(?:, )?)+)", section(pages["commands"], verb, 3), re.MULTILINE)
        told = {option for item in items for option in re.findall(r"--[\w-]+", item)}
        assert told <= {name for p in command.params for name in p.opts}, verb


def test_commands_in_all_pages_exist(pages):
    verbs = typer.main.get_command(app).commands
    for page, text in {**pages, "README": (ROOT / "README.md").read_text()}.items():
        for verb, rest in re.findall(r"eesearch ([a-z]+(?:-[a-z]+)*)((?: [^`\n]*)?)", text):
            if verb not in verbs:
                assert not re.search(rf"[`$] ?eesearch {verb}\b", text), f"{page}: eesearch {verb}"
                continue
            options = {name for p in verbs[verb].params for name in (*p.opts, "--help")}
            for option in re.findall(r"(?<= )--[\w-]+", rest.split("#")[0]):
                assert option in options, f"{page}: eesearch {verb} {option}"


def test_every_format_is_told(pages):
    rows = re.findall(r"^\| `(\w+)` \|", section(pages["commands"], "export", 3), re.MULTILINE)
    assert sorted(rows) == sorted(EXPORTERS)


def test_objects_that_pages_name_exist(pages):
    count = 0
    for text in pages.values():
        for path in re.findall(r"`(eesearch(?:\.\w+)+)`", text):
            if not GROUPS.fullmatch(path):
                named(path)
                count += 1
    assert count > 25


def test_files_that_pages_name_exist(pages):
    for page, text in pages.items():
        for path in re.findall(r"\b((?:tests|benchmarks|eesearch|studies|search_spaces)/[\w/]+\.\w+)", text):
            assert (ROOT / path).is_file(), f"{page}: {path}"


def test_every_symbol_is_told(pages):
    rows = [re.split(r"\s{2,}", line) for line in expected.__doc__.splitlines() if len(re.split(r"\s{2,}", line)) == 3]
    assert len(rows) == 15
    told = section(pages["equations"], "Symbols", 2)
    for _, here, _ in rows[1:]:
        assert f"| {here} |" in told


def test_every_equation_is_told(pages):
    numbers = re.findall(r"^\| (\d+) \|", pages["equations"], re.MULTILINE)
    assert numbers == [str(n) for n in range(1, 15)]
