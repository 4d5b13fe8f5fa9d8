"""Where data come from: what a study's `data.source` may be, and the arrays that it gives."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

from eesearch.core.arrays import read_npz
from eesearch.core.errors import DataError
from eesearch.core.hub import ALLOW, hub_as_allowed
from eesearch.core.imports import PREFIX, import_object, need
from eesearch.nets.vision import torchvision
from eesearch.training.checks import FORMAT
from eesearch.training.images import SPLITS, Asked, read_folder
from eesearch.training.rows import Columns, Wanted, are_datasets, dataset_arrays, require_distinct
from eesearch.training.tabular import read_csv

SOURCES = "a .npz or .csv file, a folder of images, package.module:function, torchvision:NAME, hf:FOLDER or hf:NAME"
"""What a source may be, for messages."""

Kind = Literal["npz", "csv", "folder", "torchvision", "hf", "import", "unknown"]


class Source(NamedTuple):
    """A source, by what is written before or after its name.

    Attributes:
        name: A path, a name, or an import path.
    """

    kind: Kind
    name: str

    @classmethod
    def of(cls, written: str) -> Source:
        """What is written in a study; nothing is looked for."""
        if written.startswith(PREFIX):
            return cls("import", written.removeprefix(PREFIX))
        if written.endswith(".npz"):
            return cls("npz", written)
        if written.endswith(".csv"):
            return cls("csv", written)
        prefix, mark, name = written.partition(":")
        if not mark or written.startswith(("/", "~", ".")):
            return cls("folder", written)
        if prefix == "torchvision":
            return cls("torchvision", name)
        if prefix == "hf":
            return cls("hf", name)
        return cls("import" if re.fullmatch(r"[\w.]+:[\w.]+", written) else "unknown", written)

    @property
    def runs_code(self) -> bool:
        """Whether more than a plain file is read: functions are called, or loaders of other libraries."""
        return self.kind not in ("npz", "csv", "folder")


def load_arrays(source: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arrays of a source, by their names in `FORMAT`; samples may be texts.

    Args:
        source: As a study has it.
        args: Of the function; or what the kind of source knows.

    Raises:
        DataError: it is of no kind that is known, is not there, fails, or gives something else.
    """
    kind, name = Source.of(source)
    read: dict[Kind, Callable[[str, Mapping[str, Any]], Mapping[str, Any]]] = {
        "npz": _read_npz,
        "csv": lambda name, args: read_csv(Path(name).expanduser(), args),
        "folder": _read_folder,
        "torchvision": _read_torchvision,
        "hf": _read_hf,
        "import": _call,
    }
    if kind not in read:
        raise DataError("the data source is not known", got=source, expected=SOURCES)
    return read[kind](name, args)


def as_arrays(given: Any, source: str) -> Mapping[str, Any]:
    """Arrays by name, whether they come as such or as data sets that are read by rows.

    Raises:
        DataError: neither.
    """
    if isinstance(given, Mapping) and {"x_train", "y_train", "x_test", "y_test"} & given.keys():
        return given
    if are_datasets(given):
        return dataset_arrays(given, Wanted(source))
    if isinstance(given, Mapping):
        return given
    got = type(given).__name__
    raise DataError(
        f"the data source {source} gives no data", got=got, expected=f"a mapping with {FORMAT}, or data sets by split"
    )


def _read_npz(name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    path = Path(name).expanduser()
    if args:
        raise DataError(f"{path} is a file", got=f"arguments {sorted(args)}", expected="none")
    return read_npz(path, FORMAT)


def _read_folder(name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    folder = Path(name).expanduser()
    if not folder.is_dir():
        state = "is no folder of images" if folder.exists() else "is not there"
        raise DataError(f"the data source {state}", got=name, expected=SOURCES, do="Check data.source.")
    return read_folder(folder, args)


def _call(path: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
    module = path.partition(":")[0]
    if module.isidentifier() and module not in sys.modules and find_spec(module) is None:
        got, do = f"cannot import '{module}'", "Install it, or run eesearch in the directory that holds it."
        raise DataError(f"the data source {path} is not known", got=got, expected=SOURCES, do=do)
    function: Any = import_object(path, DataError)
    try:
        given = function(**args)
    except Exception as error:  # the user's code may fail in any way: say where, keep the cause
        raise DataError(
            f"the data source {path} failed",
            got=f"{type(error).__name__}: {error}",
            expected=f"a function that returns a mapping with {FORMAT}, or data sets by split",
            do="Call it by hand with the same arguments, from the same directory.",
        ) from error
    return as_arrays(given, path)


def _read_torchvision(name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """A data set of torchvision; `train`, `test` and `cal` name splits of classes that are asked for one by name."""
    found = getattr(torchvision().datasets, name, None)
    if not inspect.isclass(found):
        raise DataError(f"torchvision has no data set '{name}'", expected="a class of torchvision.datasets: CIFAR10")
    taken = set().union(*(inspect.signature(each).parameters for each in found.__mro__ if "__init__" in vars(each)))
    sized = isinstance(args.get("size"), list | tuple)  # of images; as a word or number, `size` is the class's
    ours = {"test_share", "mode"} | ({"size"} if sized else set())
    own = {key: value for key, value in args.items() if key not in ours}
    if "train" in taken:
        chosen: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
    elif "split" in taken and "split" not in own:
        splits = {"train": "train"} | ({} if "test_share" in args else {"test": "test"})
        splits |= {split: own.pop(split) for split in ("train", "test", "cal") if split in own}
        require_distinct(f"torchvision:{name}", splits)
        chosen = {split: {"split": name} for split, name in splits.items()}
    else:
        chosen = {"train": {}}
    try:
        datasets = {split: found(**own, **each) for split, each in chosen.items()}
    except Exception as error:  # of any kind: no such folder, a bad checksum, an argument that it does not know
        raise DataError(
            f"torchvision:{name} failed",
            got=f"{type(error).__name__}: {error}",
            expected="arguments that it takes, and its files below `root`",
            do="Write under `data`: args: {root: FOLDER}, with download: true to fetch them first.",
        ) from error
    asked = Asked.of({key: args[key] for key in ours & args.keys()})
    wanted = Wanted(f"torchvision:{name}", asked=asked, by_args=True, test_share=args.get("test_share"))
    return dataset_arrays(datasets, wanted)


HF_ARGUMENTS = ("image", "text", "label", "size", "mode", "config", "revision", "train", "test", "cal", "test_share")


def _read_hf(name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """A saved data set of Hugging Face, or one in its cache: `train`, `test` and `cal` name splits."""
    unknown = sorted(args.keys() - set(HF_ARGUMENTS))
    if unknown:
        raise DataError(f"hf:{name}", got=f"argument {unknown[0]}", expected=", ".join(HF_ARGUMENTS))
    loaded = _load_hf(name, args)
    splits = dict(loaded) if isinstance(loaded, Mapping) else {"train": loaded}
    named = {split: args[split] for split in ("train", "test", "cal") if split in args}
    require_distinct(f"hf:{name}", named)
    missing = [split for split in named.values() if split not in splits]
    if missing:
        raise DataError(f"hf:{name} has no split '{missing[0]}'", got=", ".join(splits), expected="one of those")
    taken = set(named.values())  # what is named as one split is not found as another
    splits = {key: each for key, each in splits.items() if key in SPLITS and key not in taken}
    splits |= {split: loaded[given] for split, given in named.items()}
    columns = Columns(args.get("image") or args.get("text"), args.get("label"))
    wanted = Wanted(f"hf:{name}", columns, Asked.of(args), by_args=True, test_share=args.get("test_share"))
    return dataset_arrays(splits, wanted)


def _load_hf(name: str, args: Mapping[str, Any]) -> Any:
    datasets = need("datasets", "data", DataError)
    folder = Path(name).expanduser()
    saved = any((folder / file).is_file() for file in ("dataset_dict.json", "state.json"))
    try:
        with hub_as_allowed():
            if saved:
                return datasets.load_from_disk(str(folder))
            place = str(folder.absolute()) if folder.is_dir() else name
            return datasets.load_dataset(place, args.get("config"), revision=args.get("revision"))
    except Exception as error:  # of any kind: not in the cache, files that are no data set
        raise DataError(
            f"cannot load hf:{name}",
            got=f"{type(error).__name__}: {error}",
            expected="a folder that save_to_disk wrote, or a name that is in the local cache",
            do=f"Save it: load_dataset('{name}').save_to_disk(FOLDER), then source: hf:FOLDER. {ALLOW}",
        ) from error
