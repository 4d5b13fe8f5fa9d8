"""Extension points: one registry of one signature each, filled by decorator or by entry point."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from eesearch.core.errors import InputError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Names to implementations, built-in ones and third parties' alike.

    The built-in module and the entry points are imported on the first look-up, so that a registry costs nothing to
    define and `core` imports nothing above it.

    Args:
        kind: What the registry holds, in the singular ("head"); used in messages.
        builtin: The module whose import registers the built-in entries.
        group: The entry-point group through which other distributions add theirs.
    """

    def __init__(self, kind: str, *, builtin: str, group: str) -> None:
        self.kind = kind
        self._builtin = builtin
        self._group = group
        self._entries: dict[str, T] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that adds an entry under `name`.

        Raises:
            InputError: the name is taken by another entry.
        """

        def add(entry: T) -> T:
            if self._entries.setdefault(name, entry) is not entry:
                raise InputError(f"the {self.kind} '{name}' is registered already", do="Choose another name.")
            return entry

        return add

    def _load(self) -> None:
        if not self._loaded:
            self._loaded = True
            import_module(self._builtin)
            for point in entry_points(group=self._group):
                self.register(point.name)(point.load())

    def __getitem__(self, name: str) -> T:
        self._load()
        try:
            return self._entries[name]
        except KeyError:
            known = ", ".join(sorted(self._entries))
            raise InputError(f"there is no {self.kind} '{name}'", expected=f"one of {known}") from None

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(self._entries)

    def __len__(self) -> int:
        self._load()
        return len(self._entries)


# The entries' types live above core; each module named here states its signature.
HEADS: Registry[Any] = Registry("head", builtin="eesearch.nets.fitted", group="eesearch.heads")
ADAPTERS: Registry[Any] = Registry("adapter", builtin="eesearch.nets.recurrent", group="eesearch.adapters")
CRITERIA: Registry[Any] = Registry("criterion", builtin="eesearch.exits.learned", group="eesearch.criteria")
ANSWERS: Registry[Any] = Registry("answer", builtin="eesearch.exits.answers", group="eesearch.answers")
STRATEGIES: Registry[Any] = Registry("strategy", builtin="eesearch.training.strategies", group="eesearch.strategies")
BACKENDS: Registry[Any] = Registry("back end", builtin="eesearch.costs.builtin", group="eesearch.backends")
DRIVERS: Registry[Any] = Registry("driver", builtin="eesearch.drivers.builtin", group="eesearch.drivers")
EXPORTERS: Registry[Any] = Registry("export format", builtin="eesearch.exporters.builtin", group="eesearch.exporters")
