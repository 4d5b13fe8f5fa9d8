"""Fitting the heads that learn without gradients, on what they read of a network as it is."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from eesearch.core.design import content_key
from eesearch.core.progress import Progress, silent
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.fitted import FittedBody
from eesearch.nets.heads import Head
from eesearch.nets.inputs import as_tensor
from eesearch.training.cache import CACHING, Caching, nbytes
from eesearch.training.checkpoint import Checkpoint, weights_hash
from eesearch.training.data import Split
from eesearch.training.samples import derive_seed
from eesearch.training.taps import Tap, cache_taps, find_cut, layouts_of, tap_batches


def is_fitted(head: Head) -> bool:
    """Whether it is fitted instead of trained."""
    return isinstance(head.body, FittedBody)


def fit_heads(
    net: ExitNet,
    split: Split,
    seed: int,
    *,
    cache: Mapping[Tap, Tensor] | None = None,
    caching: Caching = CACHING,
    checkpoint: Checkpoint | None = None,
    progress: Progress = silent,
) -> None:
    """Fit every head of a network that is fitted, in place; all else stays as it is.

    A head depends on the backbone, the samples, the seed and its own place alone.

    Args:
        net: Runs in eval mode.
        split: The training split.
        seed: Each head has one of its own, derived from this and its place.
        cache: What some taps read, if it is known. Each [N, ...]
        caching: If the other taps read more, the backbone runs over the data once for each.
        checkpoint: Written after each head; read first.
        progress: Called after each head.

    Raises:
        InputError: a head cannot be fitted to these samples.
        RunError: the checkpoint cannot be written.
    """
    heads = {place: net.head(*place) for place in net.places if is_fitted(net.head(*place))}
    if not heads:
        return
    done = _Done(checkpoint, content_key("fit", seed, split.key, weights_hash(net.backbone)) if checkpoint else "")
    left = [place for place, head in heads.items() if not done.restore(place, head)]
    reads = {place: Tap.of(find_cut(net.backbone, place[0]), heads[place].tap) for place in left}
    known = dict(cache or {})
    missing = [tap for tap in dict.fromkeys(reads.values()) if tap not in known]
    if missing:
        layouts = layouts_of(missing, len(split))
        where = caching.place(nbytes(layouts))
        caching.tell("hidden states of heads that are fitted", nbytes(layouts), where)
        known |= where.keep(layouts, tap_batches(net.backbone, missing, split, progress=progress)) or {}
    labels = as_tensor(split.y)
    for tap in dict.fromkeys(reads.values()):
        features = known[tap] if tap in known else cache_taps(net.backbone, [tap], split, progress=progress)[tap]
        for place in (place for place, read in reads.items() if read == tap):
            body = heads[place].body
            assert isinstance(body, FittedBody)
            body.fit(features, labels, derive_seed("fit", seed, *place))
            done.add(place, heads[place])
            progress("fit heads", len(done.heads), len(heads))


class _Done:
    """The heads that are fitted already, in the checkpoint too."""

    def __init__(self, checkpoint: Checkpoint | None, made_for: str) -> None:
        self.checkpoint = checkpoint
        self.made_for = content_key(made_for, checkpoint.owner) if checkpoint else ""
        saved = checkpoint.load(self.made_for) if checkpoint else None
        self.heads: dict[tuple[str, str], dict[str, Tensor]] = saved["heads"] if saved else {}

    def restore(self, place: tuple[str, str], head: Head) -> bool:
        if place in self.heads:
            head.load_state_dict(self.heads[place])
        return place in self.heads

    def add(self, place: tuple[str, str], head: Head) -> None:
        self.heads[place] = head.state_dict()
        if self.checkpoint:
            self.checkpoint.save({"made_for": self.made_for, "heads": self.heads})
