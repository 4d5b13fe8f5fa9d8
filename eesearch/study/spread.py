"""Work on the bank in pieces, which the workers of a cluster do side by side: parts of the bank, shards of a table.

Every piece leaves its result in the store of the run directory, and the pieces together are, bit for bit, what one
process would have made: a head is the same whichever others are in the bank, and a shard is whole batches. This holds
where all use the same number of threads, as for every training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Literal, Protocol

from eesearch.core.costs import Profile
from eesearch.core.design import Design, ExitSpec
from eesearch.nets.split import Backbone
from eesearch.training.bank import build_heads
from eesearch.training.fitting import is_fitted
from eesearch.training.taps import Tap, find_cut

WORTH_MACS = 1e11
"""Less work than this, some ten seconds of one core, is done where it is: a worker needs seconds to begin."""

WORTH_SHARE = 0.8
"""The bank is parted where the longest part takes less than this share of the whole: each runs the backbone anew."""

BACKWARD = 3
"""A training step on a head costs this many times its answer."""

FITTING = 30_000
"""MACs that take as long as scikit-learn takes over one feature of one sample, about 3 microseconds."""

SHARDS_PER_WORKER = 2
"""Workers are not equally fast."""

BATCH = 256
"""Samples of a batch when tables are collected; the last bits of the logits depend on it."""


@dataclass(frozen=True)
class BankPart:
    """Some heads of a bank.

    Attributes:
        design: Of strategy `separate`, with these heads only.
        cached: Whether the whole bank trains from cached features; the last bits of the heads depend on it.
        bank: Key of the whole.
    """

    design: Design
    cached: bool
    bank: str

    @property
    def key(self) -> str:
        """In the store."""
        return f"{self.bank}-{self.design.key}"


@dataclass(frozen=True)
class TableShard:
    """Some rows of a table.

    Attributes:
        design: Trained already.
        first: Number of the first sample; a multiple of `BATCH`.
        last: Number of the sample after the last.
    """

    design: Design
    split: Literal["train", "cal", "test"]
    first: int
    last: int

    @property
    def key(self) -> str:
        """In the store."""
        return f"{self.design.key}-{self.split}-{self.first}-{self.last}"


SpreadJob = BankPart | TableShard


class Spread(Protocol):
    """Somewhere to do pieces of work side by side."""

    @property
    def workers(self) -> int:
        """How many are done at once."""
        ...

    def __call__(self, jobs: Sequence[SpreadJob]) -> None:
        """Have every job done by a workshop (`Workshop.do`) on the same run directory.

        Raises:
            EesearchError: what a job raised.
        """
        ...


def part_bank(
    bank: Design, backbone: Backbone, profile: Profile, *, samples: int, cached: bool, workers: int
) -> list[BankPart]:
    """Share the heads of a bank out, so that the longest part is as short as can be; neighbours stay together.

    Args:
        bank: All heads, in the order of the cuts.
        backbone: What they hang on.
        profile: Knows the MACs of every prefix and head.
        samples: Of the training split.
        cached: Whether the whole bank trains from cached features.
        workers: The most parts.

    Returns:
        At least two parts; none if parting is not worth it.
    """
    macs = dict(zip(profile.cuts, profile.macs_prefix, strict=False))
    epochs = bank.train.epochs

    built = build_heads(backbone, bank.exits, bank.seed)

    def work(exits: Sequence[ExitSpec]) -> float:
        once = each_epoch = heads = 0.0  # the deepest cut of those who read the cache, and of those who do not
        alone: dict[Tap, float] = {}
        for e in exits:
            tap, fitted = Tap.of(find_cut(backbone, e.cut), e.head.tap), is_fitted(built[e.cut, e.head.name])
            if cached and tap.cacheable:
                once = max(once, macs[e.cut])
            elif fitted:
                alone[tap] = macs[e.cut]
            else:
                each_epoch = max(each_epoch, macs[e.cut])
            training = epochs * BACKWARD * profile.macs_head[e.cut][e.head.name]
            heads += FITTING * prod(tap.shape) if fitted else training
        return samples * (once + sum(alone.values()) + epochs * each_epoch + heads)

    whole = work(bank.exits)
    if workers < 2 or whole < WORTH_MACS:
        return []
    parts = _shortest(bank.exits, work, workers)
    if len(parts) < 2 or max(map(work, parts)) > WORTH_SHARE * whole:
        return []
    return [BankPart(bank.model_copy(update={"exits": tuple(part)}), cached, bank.key) for part in parts]


def _shortest(
    exits: Sequence[ExitSpec], work: Callable[[Sequence[ExitSpec]], float], most: int
) -> list[Sequence[ExitSpec]]:
    """At most so many runs of neighbours; the largest has the least work possible, to a hundredth."""
    low, high = max(work([e]) for e in exits), work(exits)
    best = [exits]
    while high - low > 0.01 * high:
        limit = (low + high) / 2
        runs: list[list[ExitSpec]] = [[]]
        for e in exits:
            if runs[-1] and work([*runs[-1], e]) > limit:
                runs.append([])
            runs[-1].append(e)
        if len(runs) <= most:
            best, high = list(runs), limit
        else:
            low = limit
    return best


def shard_table(
    design: Design, split: Literal["train", "cal", "test"], *, samples: int, macs: float, workers: int
) -> list[TableShard]:
    """Cut the collection of a table into shards of whole batches.

    Args:
        design: Trained already.
        split: Whose samples.
        samples: How many there are.
        macs: What one sample costs.
        workers: Who do it.

    Returns:
        At least two shards; none if sharding is not worth it.
    """
    batches = -(-samples // BATCH)
    count = min(SHARDS_PER_WORKER * workers, batches)
    if workers < 2 or count < 2 or samples * macs < WORTH_MACS:
        return []
    edges = [min(BATCH * (batches * i // count), samples) for i in range(count + 1)]
    return [TableShard(design, split, first, last) for first, last in pairwise(edges)]
