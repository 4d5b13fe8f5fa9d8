"""What heads read of a frozen backbone: taps, and their values for every sample of a split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from eesearch.core.design import TapSpec
from eesearch.core.errors import InputError
from eesearch.core.progress import Progress, silent
from eesearch.nets.heads import read_tap, tap_shape
from eesearch.nets.inputs import as_tensor
from eesearch.nets.modes import evaluating
from eesearch.nets.split import Backbone, Cut
from eesearch.training.accelerator import device_of, full_precision
from eesearch.training.cache import IN_MEMORY, Layout
from eesearch.training.data import Split

PASS_BATCH = 256
"""Samples per batch while the backbone fills the cache."""


class Tap(NamedTuple):
    """What one or more heads read: a cut, and how it is pooled."""

    cut: Cut
    spec: TapSpec

    @classmethod
    def of(cls, cut: Cut, spec: TapSpec) -> Tap:
        """The tap of a head; a vector is never pooled, so all heads on a vector share one; only views are joined."""
        if cut.kind == "vector":
            return cls(cut, TapSpec(pool="none"))
        return cls(cut, spec if cut.kind == "views" else spec.model_copy(update={"joined": False}))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is read, without the batch."""
        return tap_shape(self.cut.shape, self.spec)

    @property
    def cacheable(self) -> bool:
        """Whether it is small: pooled, or a vector."""
        return self.spec.pool != "none" or self.cut.kind == "vector"


def layouts_of(taps: Sequence[Tap], samples: int) -> dict[Tap, Layout]:
    """What the values of taps take for so many samples: float32 [N, ...] per tap."""
    return {tap: Layout((samples, *tap.shape)) for tap in taps}


def cache_taps(
    backbone: Backbone, taps: Sequence[Tap], split: Split, *, progress: Progress = silent
) -> dict[Tap, Tensor]:
    """What the heads read, for every sample, in memory: float32 [N, ...] per tap. The backbone runs once."""
    made = IN_MEMORY.keep(layouts_of(taps, len(split)), tap_batches(backbone, taps, split, progress=progress))
    assert made is not None
    return made


def tap_batches(
    backbone: Backbone, taps: Sequence[Tap], split: Split, *, progress: Progress = silent
) -> Iterator[tuple[Tap, Tensor]]:
    """The same batch by batch: each tap with its next rows."""
    total, device = len(split), device_of(backbone)
    for first in range(0, total, PASS_BATCH):
        last = min(first + PASS_BATCH, total)
        with evaluating(backbone), torch.inference_mode(), full_precision(device):  # never held over a yield
            read = list(read_taps(backbone, taps, as_tensor(split.x[first:last]).to(device)))
        yield from read
        progress("cache hidden states", last, total)


def read_taps(backbone: Backbone, taps: Sequence[Tap], x: Tensor) -> Iterator[tuple[Tap, Tensor]]:
    """Run the backbone as far as the deepest tap, and give each tap its values on the way."""
    left = len(taps)
    carry = backbone.start(x)
    for k, cut in enumerate(backbone.cuts):
        if not left:
            return
        carry = backbone.run(carry, k, k + 1)
        for tap in taps:
            if tap.cut == cut:
                left -= 1
                yield tap, read_tap(backbone.tap(k, carry), tap.spec)


def find_cut(backbone: Backbone, name: str) -> Cut:
    """The cut of this name.

    Raises:
        InputError: the backbone has no such cut.
    """
    cuts = {cut.name: cut for cut in backbone.cuts}
    if name not in cuts:
        raise InputError("the backbone has no such cut", got=name, expected=f"one of {', '.join(cuts)}")
    return cuts[name]
