"""Registries: registration, look-up, entry points."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from eesearch.core import registry as registry_module
from eesearch.core.errors import InputError
from eesearch.core.registry import Registry


@pytest.fixture
def colours(monkeypatch):
    """A registry whose built-in module exists and registers nothing by itself."""
    monkeypatch.setitem(sys.modules, "colours_builtin", ModuleType("colours_builtin"))
    return Registry("colour", builtin="colours_builtin", group="tests.colours")


class Point:
    """An entry point as importlib.metadata gives them."""

    def __init__(self, name, entry):
        self.name = name
        self.load = lambda: entry


def test_an_entry_is_found_under_its_name(colours):
    entry = colours.register("red")(object())
    assert colours["red"] is entry
    assert "red" in colours
    assert list(colours) == ["red"]
    assert len(colours) == 1


def test_an_unknown_name_is_answered_with_the_known_ones(colours):
    colours.register("red")(1)
    colours.register("blue")(2)
    with pytest.raises(InputError, match="there is no colour 'green'; expected one of blue, red"):
        colours["green"]


def test_a_name_cannot_be_taken_twice(colours):
    entry = object()
    colours.register("red")(entry)
    colours.register("red")(entry)
    with pytest.raises(InputError, match="'red' is registered already"):
        colours.register("red")(object())


def test_the_builtin_module_is_imported_on_the_first_look_up(tmp_path, monkeypatch):
    (tmp_path / "late_builtin.py").write_text("from test_late import REG\nREG.register('x')(42)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry("number", builtin="late_builtin", group="tests.numbers")
    holder = ModuleType("test_late")
    holder.REG = registry
    monkeypatch.setitem(sys.modules, "test_late", holder)
    assert "late_builtin" not in sys.modules
    assert registry["x"] == 42
    monkeypatch.delitem(sys.modules, "late_builtin")


def test_entry_points_of_other_distributions_are_loaded(colours, monkeypatch):
    found = {"tests.colours": [Point("mauve", "#e0b0ff")]}
    monkeypatch.setattr(registry_module, "entry_points", lambda group: found[group])
    assert colours["mauve"] == "#e0b0ff"
