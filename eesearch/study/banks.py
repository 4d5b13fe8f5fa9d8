"""What the bank is: every head at every cut, on frozen backbones."""

from __future__ import annotations

from typing import Any

from eesearch.core.design import ExitSpec
from eesearch.study.materials import Materials


def bank_fields(materials: Materials) -> dict[str, Any]:
    """Of its design."""
    return {
        "backbone": materials.key,
        "data": materials.dataset.train.key,
        "strategy": "separate",
        "exits": tuple(ExitSpec(cut=cut, head=head) for cut, specs in materials.heads.items() for head in specs),
        "train": materials.study.training.heads,
        "seed": materials.study.seed,
    }
