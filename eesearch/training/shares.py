"""A share of samples that is set aside, each class alike."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eesearch.core.errors import DataError


class Share(NamedTuple):
    """What is taken out of a split.

    Attributes:
        name: As a split.
        purpose: What it is for.
        size: How much of the split.
        advice: What to do if it cannot be taken.
    """

    name: str
    purpose: str
    size: float
    advice: str


def take_share(y: NDArray[Any], share: Share, origin: str, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of the rest, and of a seeded stratified share; both rising.

    Args:
        y: Labels; every class that there is must be on either side. [N]
        share: What is taken.
        origin: Name of the split that it comes from.
        seed: Decides which samples.

    Raises:
        DataError: a side would lack a class.
    """
    from sklearn.model_selection import train_test_split

    counts = np.unique(y, return_counts=True)[1]
    size, classes, fewest = round(share.size * len(y)), len(counts), int(counts.min())
    if size < classes or len(y) - size < classes or fewest < 2:
        raise DataError(
            f"cannot take a stratified {share.purpose} share out of the {origin} split",
            got=f"{size} of {len(y)} samples for {share.purpose}, {fewest} in the rarest class",
            expected=f"at least one sample of each of the {classes} classes on either side",
            do=share.advice,
        )
    rest, taken = train_test_split(np.arange(len(y)), test_size=size, random_state=seed, stratify=y)
    rest.sort()
    taken.sort()
    return rest, taken


def check_share(size: Any) -> float:
    """The share of data that come in one piece that is to be their test split, as `args` says it; None: not at all.

    Raises:
        DataError: it is not said, or no share.
    """
    do = "Write under `data`: args: {test_share: 0.2}; for hf: and torchvision: {test: NAME} names a split that is one."
    if size is None:
        raise DataError("the data have no test split", expected="one, or a share of them that becomes it", do=do)
    if isinstance(size, bool) or not isinstance(size, int | float) or not 0.0 < size < 1.0:
        raise DataError("test_share is no share", got=repr(size), expected="a number between 0 and 1")
    return float(size)


def split_test(y: NDArray[Any], size: Any) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows to train on and rows to test on, of data that come in one piece: always the same ones.

    Args:
        y: Labels. [N]
        size: What `args` says of `test_share`; None: nothing.

    Raises:
        DataError: it is not said, no share, or cannot be taken.
    """
    return take_share(y, Share("test", "test", check_share(size), "Change `test_share`, or add samples."), "only", 0)
