"""The splits of a data set: loaded from wherever they are, checked, hashed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AliasChoices, ConfigDict, Field

from eesearch.core.design import Value
from eesearch.core.errors import DataError
from eesearch.core.weights import ClassWeights, Weights, class_units, effective_samples
from eesearch.training.checks import FORMAT as FORMAT
from eesearch.training.checks import check_classes, check_splits, read_classes, read_split, read_text
from eesearch.training.shares import Share, take_share
from eesearch.training.sources import as_arrays, load_arrays
from eesearch.training.texts import Tokenizing, tokenized

log = logging.getLogger(__name__)

FEW = 0.25
"""A split that weights make worth less than this share of its samples is told."""


class Calibration(Value):
    """Where the calibration split comes from, when the data set has none of its own.

    Attributes:
        origin: `train` or `test`; written `from` in files. From test: the rest of test is the reported test split.
        share: How much of it, stratified by class.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    origin: Literal["train", "test"] = Field(
        default="train", validation_alias=AliasChoices("from", "origin"), serialization_alias="from"
    )
    share: float = Field(default=0.2, gt=0.0, lt=1.0)


@dataclass(frozen=True, eq=False)
class Split:
    """Samples and labels.

    Attributes:
        name: `train`, `cal`, `test` or `cert`.
        x: Raw samples, before any preprocessing: uint8, integer or float32. [N, ...]
        y: Labels 0 .. C - 1. [N]
        text: What a person reads of each sample, for the report; None: nothing was given. [N]
        class_weights: What a sample of each class counts; None: all the same. [C]
    """

    name: str
    x: NDArray[Any]
    y: NDArray[np.int64]
    text: NDArray[Any] | None = None
    class_weights: Weights | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def weights(self) -> Weights | None:
        """What each sample counts; None: all the same. [N]"""
        return None if self.class_weights is None else self.class_weights[self.y]

    @property
    def most_frequent(self) -> float:
        """Accuracy of whoever always answers the class that counts most."""
        share = np.bincount(self.y, weights=self.weights)
        return float(share.max() / share.sum())

    @cached_property
    def key(self) -> str:
        """Content hash of samples, labels and weights; the name and the text do not count."""
        digest = hashlib.sha256()
        for array in (self.x, self.y, *([] if self.class_weights is None else [self.class_weights])):
            digest.update(f"{array.dtype.str}{array.shape};".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Dataset:
    """What a study trains on, selects on and reports on.

    Attributes:
        cal: Everything is chosen on it.
        seed: Decided which samples calibrate, and which certify.
        cert: The certification share: risk control reads it, and nobody else; None: none was reserved.
        tokenizer: What made token ids of texts; "": samples were no texts.
    """

    train: Split
    cal: Split
    test: Split
    class_names: tuple[str, ...]
    seed: int
    cert: Split | None = None
    tokenizer: str = ""

    @property
    def splits(self) -> tuple[Split, ...]:
        """All that there are."""
        return (self.train, self.cal, self.test, *([self.cert] if self.cert else []))

    @property
    def classes(self) -> int:
        """How many classes, C."""
        return len(self.class_names)

    def record(self) -> dict[str, Any]:
        """Sizes, seed, classes, shares of the most frequent ones and content hashes, as a run records them."""
        chance = {split.name: split.most_frequent for split in (self.cal, self.test)}
        weighed = {split.name: split.class_weights.tolist() for split in self.splits if split.class_weights is not None}
        return {
            **({"class_weights": weighed} if weighed else {}),
            "most_frequent": chance,
            "sizes": {split.name: len(split) for split in self.splits},
            "hashes": {split.name: split.key for split in self.splits},
            "sample_shape": list(self.train.x.shape[1:]),
            "sample_dtype": str(self.train.x.dtype),
            "class_names": list(self.class_names),
            "seed": self.seed,
        }


def load_dataset(
    source: str,
    args: Mapping[str, Any] | None = None,
    *,
    calibration: Calibration | None = None,
    certification: float | None = None,
    class_weights: ClassWeights | None = None,
    tokenizing: Tokenizing | None = None,
    seed: int = 0,
) -> Dataset:
    """Load a data set, take the calibration split out if there is none, and check everything.

    Args:
        source: As `eesearch.training.sources.SOURCES` lists them.
        args: Arguments of the function, or what the source knows.
        calibration: Used when there is no `x_cal`.
        certification: Share of the calibration samples that is set aside for risk control, stratified by class,
            wherever they come from; None: nothing is.
        class_weights: What the classes count where something is selected (calibration) or reported (test).
        tokenizing: How texts become token ids; None: samples are no texts.
        seed: Decides which samples calibrate, and which certify.

    Raises:
        DataError: the source fails; texts without a tokenizer, or the other way round; NaN; labels that are not
            0 .. C - 1; a class missing from a split; an empty split; samples of different shapes; a share that leaves a
            split without a class.
    """
    arrays = load_arrays(source, args or {})
    return make_dataset(
        arrays,
        calibration=calibration,
        certification=certification,
        class_weights=class_weights,
        tokenizing=tokenizing,
        seed=seed,
    )


def make_dataset(
    arrays: Mapping[str, Any],
    *,
    calibration: Calibration | None = None,
    certification: float | None = None,
    class_weights: ClassWeights | None = None,
    tokenizing: Tokenizing | None = None,
    seed: int = 0,
) -> Dataset:
    """Turn the arrays of `FORMAT`, or data sets by split, into a checked data set; see `load_dataset`.

    Raises:
        DataError: as `load_dataset`.
    """
    arrays = tokenized(as_arrays(arrays, "the data"), tokenizing)
    given = ["train", "test", *(["cal"] if {"x_cal", "y_cal"} & set(arrays) else [])]
    missing = [key for name in given for key in (f"x_{name}", f"y_{name}") if key not in arrays]
    if missing:
        raise DataError(f"the data set lacks {', '.join(missing)}", got=", ".join(sorted(arrays)), expected=FORMAT)
    splits = {name: Split(name, *read_split(name, arrays[f"x_{name}"], arrays[f"y_{name}"])) for name in given}
    if arrays.get("text_test") is not None:
        splits["test"] = replace(splits["test"], text=read_text("text_test", arrays["text_test"], len(splits["test"])))
    check_splits({name: split.x for name, split in splits.items()})
    names = read_classes(arrays.get("class_names"), splits["train"].y)
    check_classes({name: split.y for name, split in splits.items()}, names)
    if "cal" not in splits:
        chosen = calibration or Calibration()
        share = Share("cal", "calibration", chosen.share, "Change `calibration.share`, or give x_cal and y_cal.")
        splits[chosen.origin], splits["cal"] = _take_share(splits[chosen.origin], share, seed)
    if certification is not None:
        advice = "Change `data.certification`, or calibrate on more samples."
        share = Share("cert", "certification", certification, advice)
        splits["cal"], splits["cert"] = _take_share(splits["cal"], share, seed)
    check_classes({name: split.y for name, split in splits.items()}, names)
    if class_weights:
        for each in ("cal", "test"):
            splits[each] = replace(splits[each], class_weights=class_units(class_weights, names, splits[each].y))
            _warn_of_few(splits[each])
    made_by = tokenizing.tokenizer if tokenizing else ""
    return Dataset(splits["train"], splits["cal"], splits["test"], names, seed, splits.get("cert"), made_by)


def _warn_of_few(split: Split) -> None:
    """Where a few samples of one class decide, accuracies say little."""
    assert split.weights is not None
    alike = effective_samples(np.ones(len(split), np.bool_), split.weights)
    if alike < FEW * len(split):
        log.warning(
            "with these class weights %d %s samples tell an accuracy no more surely than %.0f that count the same",
            len(split), split.name, alike,
        )  # fmt: skip


def digits(*, test_share: float = 0.3, seed: int = 0) -> dict[str, Any]:
    """scikit-learn's 1,797 handwritten digits: uint8 images [N, 1, 8, 8] of 0 .. 16.

    They come without a test split; by default 30 percent of them, stratified, are one (540 samples: the standard error
    of an accuracy of 97 % is then 0.7 points).
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    x, y = bunch.images[:, None].astype(np.uint8), bunch.target.astype(np.int64)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=test_share, random_state=seed, stratify=y)
    names = [str(name) for name in bunch.target_names]
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test, "class_names": names}


def digits_views(
    *, missing: float = 0.1, noise: float = 2.0, enlarged: int = 3, test_share: float = 0.3, seed: int = 0
) -> dict[str, Any]:
    """Three views of each of scikit-learn's digits, as cameras would have them: uint8 [N, 3, 1, 8 e, 8 e] of 0 .. 16.

    One sees the left of a digit, one the right, one the top, five of eight columns or rows each; the rest is 0.

    Args:
        missing: Share of the views that are all 0; every sample keeps one at least.
        noise: Standard deviation of what is added to each pixel that a view sees.
        enlarged: Pixels of a side for one of the original.
        test_share: As for `digits`.
        seed: Of the split, of noise and of missing views.
    """
    arrays = digits(test_share=test_share, seed=seed)
    rng = np.random.default_rng(seed)
    for name in ("x_train", "x_test"):
        large = arrays[name].repeat(enlarged, -2).repeat(enlarged, -1)  # [N, 1, H, W]
        x = np.zeros((len(large), 3, *large.shape[1:]), np.uint8)
        seen = 5 * enlarged
        for view, window in enumerate((np.s_[..., :seen], np.s_[..., -seen:], np.s_[..., :seen, :])):
            shown = large[window]
            x[:, view][window] = (shown + rng.normal(0.0, noise, shown.shape)).round().clip(0, 16)
        lost = rng.random(x.shape[:2]) < missing
        lost[np.arange(len(x)), rng.integers(3, size=len(x))] = False
        x[lost] = 0
        arrays[name] = x
    return arrays


def _take_share(split: Split, share: Share, seed: int) -> tuple[Split, Split]:
    """The rest, and a seeded stratified share as a split of its own; both keep the order of the samples."""
    rest, taken = take_share(split.y, share, split.name, seed)
    text = None if split.text is None else split.text[rest]
    return Split(split.name, split.x[rest], split.y[rest], text), Split(share.name, split.x[taken], split.y[taken])
