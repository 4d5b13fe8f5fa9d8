"""The bank and its draft: every head at every cut, learnt from all training samples, and from a share of them."""

from __future__ import annotations

from typing import Any

from eesearch.core.design import ExitSpec
from eesearch.study.materials import Materials
from eesearch.training.data import Split
from eesearch.training.shares import Share, take_share


def bank_fields(materials: Materials) -> dict[str, Any]:
    """Of the design of every head at every cut, on frozen backbones."""
    return {
        "backbone": materials.key,
        "data": materials.dataset.train.key,
        "strategy": "separate",
        "exits": tuple(ExitSpec(cut=cut, head=head) for cut, specs in materials.heads.items() for head in specs),
        "train": materials.study.training.heads,
        "seed": materials.study.seed,
    }


def drafted(materials: Materials) -> Split | None:
    """The training samples that the draft of the bank learns from, each class alike; None: the study wants no draft.

    Raises:
        DataError: the share is too small to hold every class, or leaves none.
    """
    study, train = materials.study, materials.dataset.train
    if study.training.draft is None:
        return None
    asked = Share("train", "draft", study.training.draft, "Change `training.draft`.")
    _, rows = take_share(train.y, asked, "train", study.seed)
    return Split("train", train.x[rows], train.y[rows], class_weights=train.class_weights)
