"""Preprocessing as part of the network, so that every network starts from the same raw sample."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from eesearch.core.errors import ModelError
from eesearch.nets.views import is_present, keep_missing


def as_tensor(x: Tensor | NDArray[np.generic]) -> Tensor:
    """A tensor over the memory of an array; over a copy where torch would refuse or warn (read-only, strided)."""
    if isinstance(x, Tensor):
        return x
    return torch.from_numpy(np.require(x, requirements=["C", "W"]))


def rows_of(x: Tensor | NDArray[np.generic]) -> Tensor:
    """As `as_tensor`, but read-only arrays (mapped files) are not copied: for those who copy the rows they take."""
    if isinstance(x, Tensor) or x.flags.writeable:
        return as_tensor(x)
    with warnings.catch_warnings():  # torch warns of arrays that must not be written
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(np.require(x, requirements=["C"]))


class Normalize(nn.Module):
    """Raw sample (uint8 or float) to float32: `(x * scale - mean) / std` per channel (dimension 1).

    Computed as one multiplication and one addition, `x * (scale / std) - mean / std`.

    Args:
        scale: What raw values are multiplied with first: 1/255 for 8-bit images.
        mean: Per channel, after scaling; one value serves all channels, none is 0.
        std: Per channel, after scaling; one value serves all channels, none is 1.

    Raises:
        ModelError: `mean` and `std` have different lengths, or a `std` is not positive.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, scale: float = 1.0, mean: Sequence[float] = (), std: Sequence[float] = ()) -> None:
        super().__init__()
        means, stds = tuple(mean) or (0.0,), tuple(std) or (1.0,)
        if len(means) != len(stds) and 1 not in (len(means), len(stds)):
            raise ModelError(
                "input mean and std do not fit together",
                got=f"{len(means)} means, {len(stds)} stds",
                expected="one of each per channel",
            )
        if min(stds) <= 0.0:
            raise ModelError("input std must be positive", got=list(stds))
        divisor = torch.tensor(stds, dtype=torch.float64)
        centre = torch.tensor(means, dtype=torch.float64)
        self.register_buffer("weight", (scale / divisor).float())
        self.register_buffer("bias", (-centre / divisor).float())

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, ...] of any real type to float32 of the same shape."""
        channels = (-1,) + (1,) * (x.dim() - 2)
        return x.float() * self.weight.view(channels) + self.bias.view(channels)


class NormalizeViews(Normalize):
    """Raw samples of several views: each channel as `Normalize` does it, but a view that is missing stays 0.

    Its presence tells `split` that the network's samples are views.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[N, V, C, H, W] of any real type to float32 of the same shape."""
        normal = x.float() * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)
        return keep_missing(normal, is_present(x))


class Resize(nn.Module):
    """Images of one size to images of another, bilinearly.

    Args:
        size: Height and width that come out.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to float32 [N, C, *size]."""
        return F.interpolate(x, size=self.size, mode="bilinear", align_corners=False)


class Preprocessed(nn.Module):
    """A model together with what is done to its raw input first, and with its classes in the order of the data.

    Args:
        normalize: Raw sample to what `model` expects.
        model: The user's model.
        classes: Number, in the data, of the class that each output stands for; none: they are in order. [C]
    """

    order: Tensor

    def __init__(self, normalize: nn.Module, model: nn.Module, classes: Sequence[int] = ()) -> None:
        super().__init__()
        self.normalize = normalize
        self.model = model
        self.ordered = not classes
        if classes:
            self.register_buffer("order", torch.tensor(classes).argsort())

    def forward(self, x: Tensor) -> Tensor:
        """Raw samples [N, ...] to logits [N, C]."""
        logits: Tensor = self.model(self.normalize(x))
        return logits if self.ordered else logits.index_select(1, self.order)


def views_of(model: nn.Module, x: Tensor) -> int:
    """How many views V a sample has; 0 if the model reads samples that are no views.

    Args:
        model: With its preprocessing.
        x: Raw samples.

    Raises:
        ModelError: the model's preprocessing wants views, and these are none.
    """
    if not (isinstance(model, Preprocessed) and isinstance(model.normalize, NormalizeViews)):
        return 0
    if x.dim() != 5:
        raise ModelError(
            "the samples are no views",
            got=f"shape {['N', *x.shape[1:]]}",
            expected="views of images, [N, V, C, H, W]",
            do="Leave `views: true` out of the study's input, or give each sample as V images of one size.",
        )
    return x.shape[1]
