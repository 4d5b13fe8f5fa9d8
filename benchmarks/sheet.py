"""What the tables of proof share: rows that outlive an interruption, what they took and where, a clock, small pictures.

A benchmark asks `Sheet.has` before it measures anything, and hands over what it measured with `Sheet.add`, which writes
the file at once: a second call goes on where the first ended, and another seed is one more call.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from math import inf
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from eesearch.core.store import write_atomic
from eesearch.costs.machine import processor, usable_cores

LIBRARIES = ("torch", "optuna", "numpy", "scikit-learn")
RESULTS = Path("benchmarks/results")
COLOURS = 96
"""Of a picture that is kept: a plot needs no more, and takes a third of the room."""


def where(*more: str) -> str:
    """Processor, cores and versions that rows were taken with, in words.

    Args:
        more: Further libraries that matter.
    """
    versions = ", ".join(f"{name} {version(name)}" for name in (*LIBRARIES, *filter(_installed, more)))
    return f"{processor()}, {len(usable_cores())} cores; python {platform.python_version()}, {versions}"


def _installed(library: str) -> bool:
    try:
        version(library)
    except PackageNotFoundError:
        return False
    return True


@dataclass
class Sheet:
    """A CSV file of raw rows that grows.

    Attributes:
        file: Is read if it is there.
        keys: Columns that name a measurement; all rows of one were taken together.
        where: As the function of this name gives it; the first row of every measurement has it.
    """

    file: Path
    keys: Sequence[str]
    where: str = field(default_factory=where)
    rows: pd.DataFrame = field(init=False)

    def __post_init__(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.rows = pd.read_csv(self.file) if self.file.exists() else pd.DataFrame(columns=[*self.keys, "wall_s"])

    def has(self, *key: Any) -> bool:
        """Whether a measurement is there.

        Args:
            key: Values of `keys`.
        """
        found = pd.Series(True, index=self.rows.index)
        for name, value in zip(self.keys, key, strict=True):
            found &= self.rows[name] == value
        return bool(found.any())

    def add(self, key: Sequence[Any], rows: Iterable[Mapping[str, Any]], wall_s: float) -> None:
        """Append a measurement and write the file.

        Args:
            key: Values of `keys`.
            rows: At least one.
            wall_s: What it took in all; it is noted in the first row, too.
        """
        named = dict(zip(self.keys, key, strict=True))
        new = pd.DataFrame([{**named, **row} for row in rows])
        new.insert(len(named), "wall_s", [round(wall_s, 2), *[float("nan")] * (len(new) - 1)])
        new["where"] = [self.where, *[None] * (len(new) - 1)]
        self.rows = pd.concat([self.rows, new], ignore_index=True) if len(self.rows) else new
        write_atomic(self.file, self.rows.to_csv(index=False, float_format="%.6g"))

    def compute(self) -> str:
        """What all rows took together, and on what, in words."""
        hours = self.rows["wall_s"].sum() / 3600
        return f"{hours:.2f} hours in all; {' | '.join(self.rows['where'].dropna().unique())}"


@dataclass
class Clock:
    """A budget of minutes; nothing is begun after that."""

    minutes: float
    begun: float = field(default_factory=time.monotonic)

    @property
    def over(self) -> bool:
        """Whether the minutes are spent."""
        return time.monotonic() - self.begun > 60.0 * self.minutes


def parser(doc: str | None, *, minutes: float, seeds: int = 3) -> argparse.ArgumentParser:
    """The options that all tables have.

    Args:
        doc: Of the script.
        minutes: Default of `--budget`.
        seeds: Default of `--seeds`.
    """
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--quick", action="store_true", help="the smallest form, in minutes, on scikit-learn's digits")
    made.add_argument("--seeds", type=int, default=seeds)
    made.add_argument("--budget", type=float, default=minutes, help="minutes in all; nothing is begun after that")
    made.add_argument("--data", type=Path, help="folder of .npz files: mnist, fashion_mnist, cifar10, ...")
    made.add_argument("--models", type=Path, help="folder of pretrained weights: cifar10_resnet20.safetensors, ...")
    made.add_argument("--out", type=Path, default=RESULTS, help="folder of rows and pictures")
    made.add_argument("--work", type=Path, default=Path("runs/benchmarks"), help="folder of what can be made again")
    return made


def announce(minutes: float, sheet: Sheet) -> None:
    """Print the time estimate, before anything is measured."""
    print(f"about {minutes:.0f} minutes on {len(os.sched_getaffinity(0))} cores; rows go to {sheet.file}", flush=True)


def spread(values: pd.Series, digits: int = 3) -> str:
    """Median and range of what seeds gave, in words; of how many, if not of all. Infinite is told as `never`."""
    there = values.dropna()
    if there.empty:
        return "-"
    low, middle, high = ("never" if v == inf else f"{v:.{digits}f}" for v in (there.min(), there.median(), there.max()))
    some = "" if len(there) == len(values) else f" [{len(there)} of {len(values)}]"
    return (middle if len(there) == 1 else f"{middle} ({low} to {high})") + some


def save(figure: Figure, path: Path, dpi: int = 100) -> None:
    """Write a picture with few colours."""
    drawn, packed = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    image = Image.open(drawn).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    image.save(packed, format="png", optimize=True)
    write_atomic(path, packed.getvalue())
