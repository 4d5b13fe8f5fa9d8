"""The bank: every head at every cut trained in one go, on a backbone that stays bit-identical.

A frozen backbone gives the same hidden states in every epoch. What the heads read of them after pooling is small: it
is computed once and cached, and the heads train from the cache. Heads that read a full map train side by side while
the frozen backbone runs over the data, up to the deepest of their cuts; so do all heads when the cache would be too
large. Heads do not influence each other: each has initial weights of its own, derived from (seed, cut, head), and sees
the samples in an order derived from the seed, so a head is the same whichever others are in the bank.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from eesearch.core.design import Design, ExitSpec, TapSpec
from eesearch.core.errors import InputError
from eesearch.core.progress import Progress, silent
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.heads import Head, build_head, read_tap, tap_shape
from eesearch.nets.inputs import as_tensor
from eesearch.nets.modes import evaluating
from eesearch.nets.split import Backbone, Cut
from eesearch.training.checkpoint import Checkpoint
from eesearch.training.data import Split
from eesearch.training.loop import Phase, train
from eesearch.training.losses import separate_loss
from eesearch.training.samples import Samples, derive_seed

log = logging.getLogger(__name__)

FLOAT32_BYTES = 4
PASS_BATCH = 256
"""Samples per batch while the backbone fills the cache."""

Heads = dict[tuple[str, str], Head]
"""By (cut, head name)."""


class Tap(NamedTuple):
    """What one or more heads read: a cut, and how it is pooled."""

    cut: Cut
    spec: TapSpec

    @classmethod
    def of(cls, cut: Cut, spec: TapSpec) -> Tap:
        """The tap of a head; a vector is never pooled, so all heads on a vector share one."""
        return cls(cut, TapSpec(pool="none") if cut.kind == "vector" else spec)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is read, without the batch."""
        return tap_shape(self.cut.shape, self.spec)

    @property
    def cacheable(self) -> bool:
        """Whether it is small: pooled, or a vector."""
        return self.spec.pool != "none" or self.cut.kind == "vector"


def train_bank(
    backbone: Backbone,
    design: Design,
    split: Split,
    *,
    max_cache_gb: float = 4.0,
    checkpoint: Checkpoint | None = None,
    progress: Progress = silent,
) -> ExitNet:
    """Train all heads of a `separate` design at once.

    Args:
        backbone: Runs in eval mode; its weights and statistics stay bit-identical. The result shares it.
        design: Exits (any number of heads at each cut), training section, seed. The strategy `separate`.
        split: The training split.
        max_cache_gb: If `plan_cache` says more, the backbone runs over the data in every epoch instead.
        checkpoint: Written after each epoch; read first.
        progress: Called with the label of each phase.

    Raises:
        InputError: another strategy; an exit after a cut that the backbone does not have.
        HeadError: a head does not fit its tap.
        EesearchError: the training diverged.
        RunError: the checkpoint cannot be written.
    """
    if design.strategy != "separate":
        raise InputError("the bank trains heads separately", got=f"a {design.strategy} design", expected="separate")
    size = plan_cache(backbone, design.exits, len(split)) / 1e9
    fits = size <= max_cache_gb
    what = "cached" if fits else "not cached: the backbone runs in every epoch"
    log.info("hidden states of the bank: %.3f GB, at most %.3f GB: %s", size, max_cache_gb, what)
    heads = build_heads(backbone, design.exits, design.seed)
    reads = {place: Tap.of(find_cut(backbone, place[0]), head.tap) for place, head in heads.items()}
    cached = HeadBank([(reads[p], head) for p, head in heads.items() if fits and reads[p].cacheable])
    running = HeadBank([(reads[p], head) for p, head in heads.items() if not (fits and reads[p].cacheable)])
    if cached.taps:
        samples = Samples(cache_taps(backbone, cached.taps, split, progress=progress), as_tensor(split.y), design.seed)
        phase = Phase("train bank", ("heads",), separate_loss, design.train)
        own = checkpoint.phase(0, design.key) if checkpoint else None
        train(cached, phase, samples, checkpoint=own, progress=progress)
    if running.taps:
        phase = Phase("train bank on maps", ("bank",), separate_loss, design.train)
        own = checkpoint.phase(1, design.key) if checkpoint else None
        bank = RunningBank(backbone, running)
        train(bank, phase, Samples.of(split, design.seed), checkpoint=own, progress=progress)
    return ExitNet(backbone, heads).eval()


def build_heads(backbone: Backbone, exits: Sequence[ExitSpec], seed: int) -> Heads:
    """Untrained heads, each with initial weights derived from (seed, cut, head name).

    Raises:
        InputError: the backbone has no such cut.
        HeadError: a head does not fit its tap.
    """
    heads: Heads = {}
    for e in exits:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed("head", seed, e.cut, e.head.name))
            heads[e.cut, e.head.name] = build_head(e.head, find_cut(backbone, e.cut).shape, backbone.classes)
    return heads


def plan_cache(backbone: Backbone, exits: Sequence[ExitSpec], samples: int) -> int:
    """Bytes that the cached hidden states of a bank take, for a training split of so many samples.

    Raises:
        InputError: the backbone has no such cut.
        HeadError: a head does not fit its tap.
    """
    taps = {Tap.of(find_cut(backbone, e.cut), e.head.tap) for e in exits}
    return FLOAT32_BYTES * samples * sum(prod(tap.shape) for tap in taps if tap.cacheable)


def count_samples(
    backbone: Backbone, exits: Sequence[ExitSpec], samples: int, *, epochs: int, max_cache_gb: float
) -> int:
    """How many samples go through the backbone to train a bank: each once for the cache, and per epoch for the rest.

    Args:
        backbone: As in `train_bank`.
        exits: Of the bank.
        samples: In the training split.
        epochs: Of the heads.
        max_cache_gb: As in `train_bank`.

    Raises:
        InputError: the backbone has no such cut.
        HeadError: a head does not fit its tap.
    """
    fits = plan_cache(backbone, exits, samples) / 1e9 <= max_cache_gb
    cached = {fits and Tap.of(find_cut(backbone, e.cut), e.head.tap).cacheable for e in exits}
    return samples * ((True in cached) + epochs * (False in cached))


def cache_taps(
    backbone: Backbone, taps: Sequence[Tap], split: Split, *, progress: Progress = silent
) -> dict[Tap, Tensor]:
    """What the heads read, for every sample: float32 [N, ...] per tap. The backbone runs once."""
    total = len(split)
    cache = {tap: torch.empty(total, *tap.shape) for tap in taps}
    x = as_tensor(split.x)
    with evaluating(backbone), torch.inference_mode():
        for first in range(0, total, PASS_BATCH):
            last = min(first + PASS_BATCH, total)
            for tap, values in read_taps(backbone, taps, x[first:last]):
                cache[tap][first:last] = values
            progress("cache hidden states", last, total)
    return cache


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


class HeadBank(nn.Module):
    """Heads that read taps by name, independent of each other.

    Args:
        heads: What each reads, and the head; shared, not copied.
    """

    def __init__(self, heads: Sequence[tuple[Tap, Head]]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(head for _, head in heads)
        self._reads = [tap for tap, _ in heads]
        self._bodies = [head.body for _, head in heads]

    @property
    def taps(self) -> tuple[Tap, ...]:
        """The distinct taps that the heads read."""
        return tuple(dict.fromkeys(self._reads))

    def forward(self, taps: Mapping[Tap, Tensor]) -> list[Tensor]:
        """Logits [N, C] of each head, from taps that are pooled already."""
        return [body(taps[tap]) for body, tap in zip(self._bodies, self._reads, strict=True)]


class RunningBank(nn.Module):
    """A head bank behind a backbone that runs."""

    def __init__(self, backbone: Backbone, bank: HeadBank) -> None:
        super().__init__()
        self.backbone = backbone
        self.bank = bank

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits [N, C] of each head, from raw samples."""
        return self.bank.forward(dict(read_taps(self.backbone, self.bank.taps, x)))
