"""What a training sees, in which order: batches, and the random transformations of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eesearch.core.design import TrainSpec, content_key
from eesearch.core.errors import InputError
from eesearch.nets.inputs import as_tensor, rows_of
from eesearch.training.data import Split

PADDING = 4
"""Pixels of zero padding around an image before it is cropped to its size again."""

Inputs = Tensor | Mapping[Any, Tensor]
"""One tensor [N, ...], or several by name."""


def derive_seed(*parts: object) -> int:
    """A seed of its own for everything random that `parts` name: independent streams, the same on every machine."""
    return int(content_key("seed", *parts), 16) >> 1


@dataclass(frozen=True, eq=False)
class Samples:
    """The samples of a training.

    Attributes:
        inputs: What the model is called with: [N, ...], or a mapping of such tensors.
        labels: int64 [N]
        seed: Decides their order, their transformations, and the dropout of the model.
    """

    inputs: Inputs
    labels: Tensor
    seed: int = 0

    @classmethod
    def of(cls, split: Split, seed: int = 0) -> Samples:
        """All samples of a split."""
        return cls(rows_of(split.x), as_tensor(split.y), seed)

    @property
    def named_inputs(self) -> Mapping[Any, Tensor]:
        """The inputs as a mapping, whatever they are."""
        return {"x": self.inputs} if isinstance(self.inputs, Tensor) else self.inputs

    @property
    def cached_bytes(self) -> int:
        """What the inputs take where they were computed, and are no raw samples."""
        return 0 if isinstance(self.inputs, Tensor) else sum(tensor.nbytes for tensor in self.inputs.values())


class Batches:
    """The batches of each epoch, a function of the seed and of the epoch's number alone.

    A last batch of one sample joins the batch before it: batch normalisation cannot learn from a single sample.

    Args:
        samples: At least one.
        spec: Gives the size of a batch and the transformations.

    Raises:
        InputError: transformations of something that is no image.
    """

    def __init__(self, samples: Samples, spec: TrainSpec) -> None:
        inputs = samples.inputs
        if spec.augment and not (isinstance(inputs, Tensor) and inputs.dim() == 4):
            shape = f"samples {list(inputs.shape[1:])}" if isinstance(inputs, Tensor) else "cached hidden states"
            raise InputError(
                f"augment {list(spec.augment)} needs images", got=shape, expected="[C, H, W]", do="Leave `augment` out."
            )
        self.samples = samples
        self.augment = spec.augment
        full, rest = divmod(len(samples.labels), spec.batch_size)
        self.sizes = [spec.batch_size] * full + [rest] * (rest > 0)
        if len(self.sizes) > 1 and rest == 1:
            self.sizes[-2:] = [spec.batch_size + 1]

    def __len__(self) -> int:
        return len(self.sizes)

    def epoch(self, number: int) -> Iterator[tuple[Inputs, Tensor]]:
        """Inputs and labels of the batches of one epoch, every sample once."""
        generator = torch.Generator().manual_seed(derive_seed("order", self.samples.seed, number))
        order = torch.randperm(len(self.samples.labels), generator=generator)
        for rows in torch.split(order, self.sizes):
            labels = self.samples.labels[rows]
            if isinstance(self.samples.inputs, Tensor):
                yield transform(self.samples.inputs[rows], self.augment, generator), labels
            else:
                yield {name: tensor.index_select(0, rows) for name, tensor in self.samples.inputs.items()}, labels


def transform(images: Tensor, augment: tuple[str, ...], generator: torch.Generator) -> Tensor:
    """Each image [N, C, H, W] mirrored with probability 1/2 (`flip`), shifted by up to 4 pixels (`crop`)."""
    if "flip" in augment:
        mirrored = torch.rand(len(images), generator=generator) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    if "crop" in augment:
        count, _, height, width = images.shape
        padded = F.pad(images, (PADDING,) * 4)
        corner = torch.randint(2 * PADDING + 1, (2, count), generator=generator)
        rows = corner[0, :, None, None] + torch.arange(height)[:, None]  # [N, H, 1]
        columns = corner[1, :, None, None] + torch.arange(width)  # [N, 1, W]
        each = torch.arange(count)[:, None, None]
        images = padded[each, :, rows, columns].movedim(-1, 1)  # [N, H, W, C] -> [N, C, H, W]
    return images.contiguous()
