"""Reads a device kit that somebody else may have made: in memory, never to disk, and only what its manifest names.

The standard library only, and nothing newer than Python 3.9: this file travels with the kit (`costs.kit`).
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import Any

KIT, KIT_VERSION = "eesearch-kit", 2

MANIFEST, EXAMPLE = "manifest.json", "example.bin"

_OTHERS = {"measure.py", "__main__.py", "README.txt"}

_PIECE = re.compile(r"pieces/[A-Za-z0-9_-]{1,64}\.onnx")

MOST_ENTRIES, LARGEST_ENTRY, LARGEST_KIT = 10_000, 2**30, 2**34
"""Of a kit: entries, and bytes that one and all of them declare."""

LARGEST_MANIFEST = 2**24

EXTERNAL = re.compile(rb"[\x00\x08]location")
"""How an ONNX file names another file that holds its weights (the length of the word before it, in few or many bytes):
no kit's does."""

DTYPES = {
    **{"float64": 8, "float32": 4, "float16": 2, "bool": 1, "uint8": 1},
    **{"int64": 8, "int32": 4, "int16": 2, "int8": 1},
}
"""Of raw samples, with their bytes."""

_READING = (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, EOFError, ValueError)


class KitError(Exception):
    """The kit, or this machine, cannot be used; the message says why."""


class Kit:
    """A kit whose entries are all that they should be.

    Args:
        path: The zip file.

    Attributes:
        manifest: What is to be measured, see `costs.kit`.

    Raises:
        KitError: it is no kit, or damaged, or made to harm.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise KitError(f"there is no kit {path}") from None
        except _READING as error:
            raise KitError(f"{path} is no kit: it is no zip file ({error})") from None
        entries = self._zip.infolist()
        _require_harmless(entries)
        if MANIFEST not in self._zip.namelist():
            raise KitError(f"{path} is no kit: it has no {MANIFEST}")
        self.manifest = _checked(self._read(MANIFEST, LARGEST_MANIFEST))
        promised = set(self.manifest["entries"])
        there = {entry.filename for entry in entries} - _OTHERS - {MANIFEST}
        for name in sorted(promised - there):
            raise KitError(f"the kit lacks '{name}', which its manifest names")
        for name in sorted(there - promised):
            raise KitError(f"the kit holds '{name}', which its manifest does not name")

    def read(self, name: str) -> bytes:
        """An entry, compared with its hash.

        Raises:
            KitError: it is damaged, or names further files.
        """
        content, promised = self._read(name, LARGEST_ENTRY), self.manifest["entries"][name]
        if hashlib.sha256(content).hexdigest() != promised:
            raise KitError(f"'{name}' in the kit is damaged: its hash is not the one in the manifest")
        if name != EXAMPLE and EXTERNAL.search(content):
            raise KitError(f"'{name}' in the kit keeps its weights in another file, which is not read")
        return content

    def check(self) -> None:
        """Read every entry once.

        Raises:
            KitError: as `read`; or the example is of another size than the manifest says.
        """
        sizes = {name: len(self.read(name)) for name in self.manifest["entries"]}
        example = self.manifest["example"]
        expected = prod(example["shape"]) * DTYPES[example["dtype"]]
        if sizes[EXAMPLE] != expected:
            raise KitError(f"the example in the kit has {sizes[EXAMPLE]:,} bytes, its shape says {expected:,}")

    def _read(self, name: str, most: int) -> bytes:
        size = self._zip.getinfo(name).file_size
        if size > most:
            raise KitError(f"'{name}' in the kit is too large: {size:,} bytes, at most {most:,} are read")
        try:
            with self._zip.open(name) as file:
                return file.read(most)
        except _READING as error:
            raise KitError(f"'{name}' in the kit is damaged: {error}") from None


def _require_harmless(entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MOST_ENTRIES:
        raise KitError(f"the kit has {len(entries):,} entries, at most {MOST_ENTRIES:,} are read")
    names = set()
    for entry in entries:
        name = entry.filename
        if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or re.match(r"[A-Za-z]:", name):
            raise KitError(f"the kit has an entry that leads out of it: {name!r}")
        if name not in _OTHERS and name not in (MANIFEST, EXAMPLE) and not _PIECE.fullmatch(name):
            raise KitError(f"the kit has an entry that does not belong there: {name!r}")
        if name in names:
            raise KitError(f"the kit has two entries '{name}'")
        if entry.flag_bits & 1:
            raise KitError(f"'{name}' in the kit is encrypted")
        names.add(name)
    size = sum(entry.file_size for entry in entries)
    if size > LARGEST_KIT:
        raise KitError(f"the kit is too large: {size:,} bytes unpacked, at most {LARGEST_KIT:,} are read")


def _checked(text: bytes) -> dict[str, Any]:
    """The manifest, if every name in it is of something that is there."""
    try:
        made = json.loads(text.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise KitError(f"the kit's {MANIFEST} is malformed: {str(error) or type(error).__name__}") from None
    _expect(isinstance(made, dict) and made.get("format") == KIT, f"it is not of the format {KIT}")
    if made.get("version") != KIT_VERSION:
        raise KitError(f"the kit is of version {made.get('version')!r}, this script reads version {KIT_VERSION}")
    _expect(_is_texts(made.get("entries")), "entries are not names with hashes")
    for name in made["entries"]:
        _expect(name == EXAMPLE or _PIECE.fullmatch(name) is not None, f"'{name}' is no name of an entry")
    _check_example(made)
    networks: Any = made.get("networks")
    several = isinstance(networks, dict) and all(isinstance(own, dict) for own in networks.values())
    _expect(several and bool(networks), "networks are not objects by name")
    for own in networks.values():
        _check_figures(own, made["entries"])
        _expect(isinstance(own.get("known"), dict), "known is no object")
    _check_joined(made)
    return dict(made)


def _check_joined(made: dict[str, Any]) -> None:
    joined: Any = made.get("joined")
    if len(made["networks"]) == 1:
        _expect(joined is None, "one network cannot be joined")
        return
    _expect(_is_texts(joined) and set(joined) == {"content", "reference"}, "it does not say how networks are joined")
    _expect(joined["reference"] in made["networks"], f"there is no network {joined['reference']!r}")


def _check_example(made: dict[str, Any]) -> None:
    example: Any = made.get("example")
    _expect(isinstance(example, dict) and EXAMPLE in made["entries"], "it has no example")
    _expect(example.get("dtype") in DTYPES, f"the example's dtype is not one of {', '.join(DTYPES)}")
    shape = example.get("shape")
    sizes = isinstance(shape, list) and all(type(size) is int and 0 < size <= 2**24 for size in shape)
    _expect(sizes and shape[:1] == [1], "the example's shape is not that of one sample")


def _check_figures(made: dict[str, Any], entries: dict[str, str]) -> None:
    figures: Any = made.get("figures")
    _expect(isinstance(figures, list) and all(isinstance(figure, dict) for figure in figures), "figures is no list")
    for figure in figures:
        _expect(isinstance(figure.get("name"), str) and type(figure.get("decides")) is bool, "a figure has no name")
        for key in ("parts", "minus"):
            parts = figure.get(key)
            known = isinstance(parts, list) and all(isinstance(p, str) and p in entries for p in parts)
            _expect(known and EXAMPLE not in parts, f"'{figure['name']}' names a piece that is not there")
        _expect(bool(figure["parts"]), f"'{figure['name']}' measures nothing")
    names = [figure["name"] for figure in figures]
    _expect(len(set(names)) == len(names), "two figures have the same name")
    prefixes: Any = made.get("prefixes")
    heads: Any = made.get("heads")
    resume = made.get("resume")
    _expect(isinstance(prefixes, list) and bool(prefixes), "it has no prefixes")
    _expect(isinstance(heads, dict) and all(map(_is_texts, heads.values())), "heads are not figures by cut and name")
    _expect(_is_texts(made.get("decisions")), "decisions are not figures by name")
    used = [*prefixes, *made["decisions"].values(), *(name for by_name in heads.values() for name in by_name.values())]
    for name in [*used, *([] if resume is None else [resume])]:
        _expect(name in names, f"there is no figure {name!r}")


def _is_texts(found: Any) -> bool:
    """Whether this is an object of texts."""
    return isinstance(found, dict) and all(isinstance(value, str) for value in found.values())


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise KitError(f"the kit's {MANIFEST} is malformed: {otherwise}")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")
