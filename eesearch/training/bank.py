"""The bank: every head at every cut trained in one go, on a backbone that stays bit-identical.

A frozen backbone gives the same hidden states in every epoch. What the heads read of them after pooling is small: it is
computed once and cached, in memory or on disk, and the heads train from the cache. Heads that read a full map train
side by side while the frozen backbone runs over the data, up to the deepest of their cuts; so do all heads when the
cache would be too large. Heads that are fitted instead of trained always read a cache, if need be of one tap at a time.
Heads do not influence each other: each has initial weights of its own, derived from (seed, cut, head), and sees the
samples in an order derived from the seed, so a head is the same whichever others are in the bank.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from eesearch.core.design import Design, ExitSpec
from eesearch.core.errors import InputError
from eesearch.core.progress import Progress, silent
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.heads import Head, build_head
from eesearch.nets.inputs import as_tensor
from eesearch.nets.split import Backbone
from eesearch.training.accelerator import device_of
from eesearch.training.cache import CACHING, NO_CACHING, Caching, nbytes
from eesearch.training.checkpoint import Checkpoint
from eesearch.training.data import Split
from eesearch.training.fitting import fit_heads, is_fitted
from eesearch.training.loop import Phase, train
from eesearch.training.losses import Loss, separate_loss
from eesearch.training.samples import Samples, derive_seed
from eesearch.training.taps import Tap, find_cut, layouts_of, read_taps, tap_batches

log = logging.getLogger(__name__)

Heads = dict[tuple[str, str], Head]
"""By (cut, head name)."""


def train_bank(
    backbone: Backbone,
    design: Design,
    split: Split,
    *,
    caching: Caching = CACHING,
    checkpoint: Checkpoint | None = None,
    progress: Progress = silent,
) -> ExitNet:
    """Train all heads of a `separate` design at once, then fit those that are fitted.

    Args:
        backbone: Runs in eval mode; its weights and statistics stay bit-identical. The result shares it.
        design: Exits (any number of heads at each cut), training section, seed. The strategy `separate`.
        split: The training split.
        caching: If `plan_cache` says more, or the disk has no room, the backbone runs over the data in every epoch
            instead.
        checkpoint: Written after each epoch and each fitted head; read first.
        progress: Called with the label of each phase.

    Raises:
        InputError: another strategy; an exit after a cut that the backbone does not have; a head cannot be fitted to
            these samples.
        HeadError: a head does not fit its tap.
        EesearchError: the training diverged.
        RunError: the checkpoint cannot be written.
    """
    if design.strategy != "separate":
        raise InputError("the bank trains heads separately", got=f"a {design.strategy} design", expected="separate")
    heads = build_heads(backbone, design.exits, design.seed)
    for head in heads.values():
        head.to(device_of(backbone))
    reads = {place: Tap.of(find_cut(backbone, place[0]), head.tap) for place, head in heads.items()}
    cache = _cached(backbone, list(reads.values()), split, caching, progress)
    from_cache = {place for place, tap in reads.items() if tap in cache}
    learning = [place for place, head in heads.items() if not is_fitted(head)]
    cached = HeadBank([(reads[place], heads[place]) for place in learning if place in from_cache])
    running = HeadBank([(reads[place], heads[place]) for place in learning if place not in from_cache])
    if cached.taps:
        samples = Samples({tap: cache[tap] for tap in cached.taps}, as_tensor(split.y), design.seed)
        phase = Phase("train bank", ("heads",), cached.loss, design.train)
        own = checkpoint.phase(0, design.key) if checkpoint else None
        train(cached, phase, samples, checkpoint=own, progress=progress)
    if running.taps:
        phase = Phase("train bank on maps", ("bank",), running.loss, design.train)
        own = checkpoint.phase(1, design.key) if checkpoint else None
        bank = RunningBank(backbone, running)
        train(bank, phase, Samples.of(split, design.seed), checkpoint=own, progress=progress)
    net = ExitNet(backbone, heads).eval()
    own = checkpoint.phase(2, design.key) if checkpoint else None
    fit_heads(net, split, design.seed, cache=cache, caching=NO_CACHING, checkpoint=own, progress=progress)
    return net


def _cached(
    backbone: Backbone, taps: Sequence[Tap], split: Split, caching: Caching, progress: Progress
) -> dict[Tap, Tensor]:
    """What is small of these taps, if there is room for it; its size is told first."""
    wanted = tuple(dict.fromkeys(tap for tap in taps if tap.cacheable))
    layouts = layouts_of(wanted, len(split))
    if not wanted:
        return {}
    where = caching.place(nbytes(layouts))
    log.info("%s", caching.told("hidden states of the bank", nbytes(layouts), where))
    return where.keep(layouts, tap_batches(backbone, wanted, split, progress=progress)) or {}


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
    return nbytes(layouts_of([tap for tap in taps if tap.cacheable], samples))


def count_samples(
    backbone: Backbone, exits: Sequence[ExitSpec], samples: int, *, epochs: int, max_cache_gb: float
) -> int:
    """How many samples go through the backbone to train a bank: each once for the cache, and per epoch for the rest.

    Without a cache, each goes through it once more for every tap of a head that is fitted.

    Args:
        backbone: As in `train_bank`.
        exits: Of the bank.
        samples: In the training split.
        epochs: Of the heads.
        max_cache_gb: As in `Caching`.

    Raises:
        InputError: the backbone has no such cut.
        HeadError: a head does not fit its tap.
    """
    fits = plan_cache(backbone, exits, samples) / 1e9 <= max_cache_gb
    passes: set[Tap | str] = set()
    for (cut, _), head in build_heads(backbone, exits, 0).items():
        tap = Tap.of(find_cut(backbone, cut), head.tap)
        cached = fits and tap.cacheable
        passes.add("cache" if cached else tap if is_fitted(head) else "epochs")
    return samples * (len(passes) + (epochs - 1) * ("epochs" in passes))


class HeadBank(nn.Module):
    """Heads that read taps by name, independent of each other.

    Args:
        heads: What each reads, and the head; shared, not copied.
    """

    def __init__(self, heads: Sequence[tuple[Tap, Head]]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(head for _, head in heads)
        self._reads = [tap for tap, _ in heads]
        self._given = [head for _, head in heads]
        self._bodies = [head.body for head in self._given]

    @property
    def taps(self) -> tuple[Tap, ...]:
        """The distinct taps that the heads read."""
        return tuple(dict.fromkeys(self._reads))

    @property
    def loss(self) -> Loss:
        """sum_i L_i, and those of the gates."""
        return partial(separate_loss, gated=[head.spec.gate != "none" for head in self._given])

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
