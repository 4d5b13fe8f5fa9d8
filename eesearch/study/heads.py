"""Which heads of a search space can read which cuts."""

from __future__ import annotations

import torch

from eesearch.core.design import HeadSpec
from eesearch.core.errors import HeadError
from eesearch.nets.heads import build_head
from eesearch.nets.split import Backbone, Cut
from eesearch.study.space import SearchSpace

_READS = {"first": "tokens", "last": "sequence"}
"""Pooling -> the one kind of cut where it means something."""


def refuse_kind(spec: HeadSpec, cut: Cut) -> None:
    """Refuse the first token of what is no tokens, the last step of what is no sequence.

    Raises:
        HeadError: so.
    """
    if cut.kind in ("tokens", "sequence") and _READS.get(spec.pool, cut.kind) != cut.kind:
        expected = f"a cut of {_READS[spec.pool]}"
        raise HeadError(f"pool '{spec.pool}' means nothing there", got=f"{cut.kind} at '{cut.name}'", expected=expected)


_MEANINGLESS: dict[str, dict[str, object]] = {"vector": {"pool": "none", "size": 1, "views": "max"}, "views": {}}
"""Kind of a cut -> fields of a head that mean nothing there, as heads are compared; at others views mean nothing."""


def fitting_heads(space: SearchSpace, backbone: Backbone) -> dict[str, tuple[HeadSpec, ...]]:
    """The heads of the space that can read each cut; heads that differ in what means nothing there count once.

    Raises:
        HeadError: a cut that no head fits, or a head that fits no cut.
    """
    refusals: dict[str, HeadError] = {}
    fitting: dict[str, tuple[HeadSpec, ...]] = {}
    with torch.random.fork_rng(devices=[]):
        for cut in backbone.cuts:
            distinct: dict[HeadSpec, HeadSpec] = {}
            for spec in space.heads_at(cut.kind):
                same = spec.model_copy(update=_MEANINGLESS.get(cut.kind, {"views": "max"}))
                try:
                    refuse_kind(spec, cut)
                    build_head(spec, cut.shape, backbone.classes)
                except HeadError as error:
                    refusals[spec.name] = error
                else:
                    distinct.setdefault(same, spec)
            if not distinct:
                raise HeadError(
                    f"no head of the space fits cut '{cut.name}'", got="; ".join(map(str, refusals.values()))
                )
            fitting[cut.name] = tuple(distinct.values())
    never = set(refusals) - {h.name for heads in fitting.values() for h in heads}
    if never and space.heads != "auto":
        raise HeadError(f"the head {min(never)} fits no cut", got=refusals[min(never)])
    return fitting
