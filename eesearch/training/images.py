"""Images as arrays: a folder of image files, or whatever else gives PIL images; all of one size and kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eesearch.core.errors import DataError
from eesearch.training.shares import split_test

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pbm", ".pgm", ".ppm", ".tif", ".tiff", ".webp"})
"""Of files that are read as images; others are passed over."""

GREY, COLOUR = frozenset({"1", "L", "LA", "La"}), frozenset({"RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr"})
"""Modes of PIL with 8 bits per value; of others, such as 16-bit scans, most of what they say would be lost."""

SPLITS = {"train": "train", "test": "test", "cal": "cal", "val": "cal", "valid": "cal", "validation": "cal"}
"""What splits are called elsewhere -> here; of several that mean the same, the first counts."""

LAYOUT = "FOLDER/train/CLASS/IMAGE and FOLDER/test/CLASS/IMAGE, or FOLDER/CLASS/IMAGE and a test_share"


class Asked(NamedTuple):
    """How images are to come out.

    Attributes:
        size: Height and width; None: they are of one size.
        mode: `RGB` or `L` (grey); None: they are of one kind.
        advice: Where the user can say so; `{}` stands for the argument.
    """

    size: tuple[int, int] | None = None
    mode: str | None = None
    advice: str = "Write under `data`: args: {{{}}}."

    @classmethod
    def of(cls, args: Mapping[str, Any]) -> Asked:
        """What `size` and `mode` of a source's arguments say.

        Raises:
            DataError: neither a size nor a mode.
        """
        size, mode = args.get("size"), args.get("mode")
        if size is not None:
            whole = isinstance(size, list | tuple) and len(size) == 2 and all(type(n) is int and n > 0 for n in size)
            if not whole:
                raise DataError("size is no size of images", got=repr(size), expected="[HEIGHT, WIDTH] in pixels")
            size = (size[0], size[1])
        if mode not in (None, "RGB", "L"):
            raise DataError("mode is no kind of image", got=repr(mode), expected="RGB (colour) or L (grey)")
        return cls(size, mode)


@dataclass(frozen=True)
class Frame:
    """What every image of a data set becomes: uint8 [channels, height, width].

    Attributes:
        size: Height and width.
        mode: `RGB` or `L`.
        asked: What the user said of it; the rest is as the first image has it.
        first: Name of that image.
    """

    size: tuple[int, int]
    mode: str
    asked: Asked
    first: str

    @classmethod
    def of(cls, image: Image.Image, name: str, asked: Asked) -> Frame:
        """As the first image of the training split has it, where the user does not say.

        Raises:
            DataError: it does not have 8 bits per value.
        """
        return cls(asked.size or (image.height, image.width), asked.mode or _kind(image, name), asked, name)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a sample: [C, H, W]."""
        return (3 if self.mode == "RGB" else 1, *self.size)

    def pixels(self, image: Image.Image, name: str) -> NDArray[np.uint8]:
        """An image as uint8 [C, H, W].

        Raises:
            DataError: it is of another size or kind, and the user did not say what to make of it.
        """
        from PIL import Image

        size, kind = (image.height, image.width), _kind(image, name)
        if size != self.size and self.asked.size is None:
            raise DataError(
                "the images are of different sizes",
                got=f"{name} with {list(size)}, {self.first} with {list(self.size)} (height, width)",
                expected="one size",
                do=self.asked.advice.format(f"size: [{self.size[0]}, {self.size[1]}]"),
            )
        if kind != self.mode and self.asked.mode is None:
            raise DataError(
                "some images are grey and others in colour",
                got=f"{name} of mode {image.mode}, {self.first} read as {self.mode}",
                expected="one kind, RGB or L (grey)",
                do=self.asked.advice.format("mode: RGB"),
            )
        image = image.convert(self.mode)
        if size != self.size:
            image = image.resize(self.size[::-1], Image.Resampling.BILINEAR)
        pixels = np.asarray(image, np.uint8)  # [H, W] or [H, W, 3]
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _kind(image: Image.Image, name: str) -> str:
    if image.mode not in GREY | COLOUR:
        raise DataError(
            f"the image {name} does not have 8 bits per value",
            got=f"mode {image.mode}",
            expected="8-bit grey or colour",
            do="Convert such images first, or give the samples as arrays.",
        )
    return "L" if image.mode in GREY else "RGB"


def read_folder(folder: Path, args: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of a folder of images, a folder for each class.

    Args:
        folder: Holds `train`, `test` and maybe `cal` (or `val`, `validation`), or the folders of classes themselves.
        args: `size`, `mode`, `test_share`.

    Raises:
        DataError: no such folder, no classes, a class without images, an image that cannot be read or is unlike the
            others.
    """
    unknown = sorted(args.keys() - {"size", "mode", "test_share"})
    if unknown:
        raise DataError(
            f"{folder} is a folder of images", got=f"argument {unknown[0]}", expected="size, mode, test_share"
        )
    asked = Asked.of(args)
    names, splits = _listed(folder, args)
    first = splits["train"][0][0]
    frame = Frame.of(_opened(first), str(first), asked)
    arrays: dict[str, Any] = {"class_names": names}
    for split, files in splits.items():
        arrays[f"x_{split}"] = _decoded([file for file, _ in files], frame)
        arrays[f"y_{split}"] = np.array([label for _, label in files], np.int64)
    return arrays


_Labelled = list[tuple[Path, int]]


def _listed(folder: Path, args: Mapping[str, Any]) -> tuple[list[str], dict[str, _Labelled]]:
    """Names of the classes, and the files of each split with their labels."""
    inside = _folders(folder)
    there = [name for name in SPLITS if name in inside]
    if not there:
        names = _classes(folder)
        files = _labelled(folder, names)
        rest, taken = split_test(np.array([label for _, label in files]), args.get("test_share"))
        return names, {"train": [files[i] for i in rest], "test": [files[i] for i in taken]}
    if not {"train", "test"} <= set(there):
        raise DataError(f"{folder} lacks train or test", got=", ".join(there), expected=LAYOUT, do="Rename one.")
    if "test_share" in args:
        raise DataError(f"{folder} has a test split", got="test_share", expected="none", do="Leave test_share out.")
    names = _classes(folder / "train")
    splits: dict[str, _Labelled] = {}
    for name in there:
        if SPLITS[name] not in splits:
            splits[SPLITS[name]] = _labelled(folder / name, names)
    return names, splits


def _classes(folder: Path) -> list[str]:
    names = sorted(_folders(folder))
    if not names:
        loose = _images(folder)
        raise DataError(
            f"the folder {folder} " + ("has no folders of classes" if loose else "is empty: there are no images"),
            got=f"{len(loose)} images directly in it" if loose else "no folder in it",
            expected=LAYOUT,
            do="Put the images there, in a folder for each class, or check data.source.",
        )
    return names


def _labelled(folder: Path, names: Sequence[str]) -> _Labelled:
    """Image files of a split with their labels, by class and name."""
    strange = sorted(set(_classes(folder)) - set(names))
    if strange:
        raise DataError(f"{folder} has a class that train lacks", got=strange[0], expected=f"among {', '.join(names)}")
    files = [(file, label) for label, name in enumerate(names) for file in _images(folder / name)]
    empty = [names[label] for label in sorted(set(range(len(names))) - {label for _, label in files})]
    if empty:
        raise DataError(
            f"the folder {folder / empty[0]} holds no images",
            expected=f"files that end in {', '.join(sorted(SUFFIXES))}",
            do="Add images of that class, or remove its folder everywhere.",
        )
    return files


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}", expected=LAYOUT, do="Check data.source.")
    return [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]


def _images(folder: Path) -> list[Path]:
    """All image files below a folder; those whose names start with a dot are none."""
    found = folder.rglob("*") if folder.is_dir() else ()
    return sorted(f for f in found if f.suffix.lower() in SUFFIXES and not f.name.startswith(".") and f.is_file())


def _decoded(files: Sequence[Path], frame: Frame) -> NDArray[np.uint8]:
    """Every image straight into its place. [N, C, H, W]"""
    x = np.empty((len(files), *frame.shape), np.uint8)

    def decode(row: int) -> None:
        x[row] = frame.pixels(_opened(files[row]), str(files[row]))

    with ThreadPoolExecutor() as pool:  # PIL decodes without the interpreter's lock
        for _ in pool.map(decode, range(len(files))):
            pass
    return x


def _opened(file: Path) -> Image.Image:
    """An image, decoded.

    Raises:
        DataError: it cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            image.load()
    except Exception as error:  # decoders raise a dozen kinds on a damaged file
        raise DataError(
            f"cannot read the image {file}",
            got=f"{type(error).__name__}: {error}",
            expected="an image file",
            do="Mend it or take it out of the folder.",
        ) from error
    return image
