"""The architecture, checked by machine: who may import whom, how long things may be, what --help may load."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "eesearch"
FILES = sorted(PACKAGE.rglob("*.py"))
# From the left to the right; a module imports from its own package or from ranks to the right of it.
RANKS = [
    {"__main__"},
    {"cli"},
    {"api"},
    {"notebook", "answering"},
    {"reporting", "exporters", "drivers"},
    {"study"},
    {"training", "costs", "seeding", "solve"},
    {"nets", "exits"},
    {"core"},
]
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
LONGEST_FILE, LONGEST_FUNCTION, MOST_PARAMETERS, MOST_WITH_OPTIONS = 400, 60, 5, 7
NO_TORCH = {"core", "exits", "seeding", "solve", "reporting"}


def package_of(module):
    """The second part of `eesearch.x.y`; the package itself is no part."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def modules_imported(tree):
    """Every module named by an import statement, type-only ones included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "eesearch")


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_modules_import_to_the_right_only(file):
    own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own in ("__init__", "testing"):  # the map of the package, and what only tests import
        return
    for module in modules_imported(ast.parse(file.read_text())):
        other = package_of(module)
        if not module.startswith("eesearch") or other in (None, own, "__version__"):
            continue
        assert other in RANK, f"{module} is in no rank"
        assert RANK[own] < RANK[other], f"{own} must not import {module}"


@pytest.mark.parametrize("file", [f for f in FILES if f.relative_to(PACKAGE).parts[0] in NO_TORCH], ids=str)
def test_arithmetic_imports_no_torch(file):
    assert not any(module.split(".")[0] == "torch" for module in modules_imported(ast.parse(file.read_text())))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_files_and_functions_keep_their_budget(file):
    text = file.read_text()
    assert len(text.splitlines()) <= LONGEST_FILE
    assert len(file.relative_to(PACKAGE).parts) <= 2, "package depth is 2"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= LONGEST_FUNCTION, f"{node.name} has {lines} lines"
            data = [a.arg for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in ("self", "cls")]
            if own_signature(file, node):
                assert len(data) <= MOST_PARAMETERS, f"{node.name} takes {len(data)} positional parameters"
                options = len(node.args.kwonlyargs)
                assert len(data) + options <= MOST_WITH_OPTIONS, f"{node.name} takes {len(data) + options} parameters"


def own_signature(file, node):
    """Commands of the CLI take one parameter per flag; typer reads them from the signature."""
    return not (file.parent.name == "cli" and any("command" in ast.unparse(d) for d in node.decorator_list))


def test_no_import_cycles():
    imports = {}
    for file in FILES:
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        named = set(modules_imported(ast.parse(file.read_text())))
        imports[name] = {m for m in named if m.startswith("eesearch.")}

    def reach(start, seen):
        for other in imports.get(start, ()):
            if other not in seen:
                seen.add(other)
                reach(other, seen)
        return seen

    for name in imports:
        if name != "eesearch":
            assert name not in reach(name, set()), f"{name} imports itself in the end"


def test_no_package_bears_the_name_of_a_public_function():
    import eesearch

    names = {f.stem for f in PACKAGE.iterdir()} & set(eesearch.__all__)
    assert not names


def test_the_version_is_told_once():
    import eesearch

    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == eesearch.__version__


def test_help_loads_neither_torch_nor_ray_nor_scikit_learn():
    code = """
import sys
from eesearch.cli import app
try:
    app(["--help"])
except SystemExit:
    pass
heavy = {"torch", "ray", "sklearn", "optuna", "numba", "pandas", "matplotlib", "plotly", "fvcore"}
print("LOADED", sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    assert "LOADED []" in done.stdout


def test_the_readme_has_no_gaps():
    text = (ROOT / "README.md").read_text()
    assert "@@" not in text
    for picture in ("docs/results/report.png", "docs/results/solver.png"):
        assert picture in text
        assert (ROOT / picture).stat().st_size > 10_000
