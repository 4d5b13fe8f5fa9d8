"""Objects named by import path, which only ever comes from a study file that the user names; optional libraries."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from eesearch.core.errors import InputError

PREFIX = "import:"
"""May stand before an import path, where other prefixes mean other things."""


def plain_path(path: str) -> str:
    """An import path without the prefix that may stand before it."""
    return path.removeprefix(PREFIX)


def import_object(path: str, error: type[InputError] = InputError) -> object:
    """The object that `package.module:name` names.

    Args:
        path: The import path, with or without `import:` before it.
        error: What to raise.

    Raises:
        InputError: the class given: no such path, module or name, or the module failed to import.
    """
    module_name, mark, name = plain_path(path).partition(":")
    if not mark or not module_name or not name:
        raise error(f"'{path}' is no import path", expected="package.module:name")
    try:
        found: object = import_module(module_name)
    except (ImportError, SyntaxError, ValueError, TypeError) as cause:
        raise error(
            f"cannot import '{module_name}' of '{path}'",
            got=cause,
            do=(
                f"Write {module_name.removesuffix('.py')}:{name}."
                if module_name.endswith(".py")
                else "Install it, or run eesearch in the directory that holds it."
            ),
        ) from cause
    for part in name.split("."):
        if not hasattr(found, part):
            raise error(f"module '{module_name}' has no '{name}'", expected="a function of that module")
        found = getattr(found, part)
    return found


def need(module: str, extra: str, error: type[InputError] = InputError) -> Any:
    """Import an optional library.

    Args:
        module: Its import path.
        extra: The extra of eesearch that installs it.
        error: What to raise.

    Raises:
        InputError: the class given: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as cause:
        raise error(
            f"{module} is not installed", got=cause, do=f"Install it: pip install 'eesearch[{extra}]'"
        ) from cause
