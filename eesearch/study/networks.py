"""Networks of a study file: one, or several that a sample may enter one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from eesearch.core.design import Value
from eesearch.study.space import CutSpace

MOST_NETWORKS = 8
"""The paths through all orders of more would be too many."""


def _is_false(value: object) -> bool:
    return value is False


class InputSpec(Value):
    """Preprocessing: (x * scale - mean) / std per channel; part of the network's first segment.

    Attributes:
        views: Whether a sample is several views of one size, [V, C, H, W]; one whose values are all 0 is missing, and
            stays 0.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    views: bool = Field(default=False, exclude_if=_is_false)


def _is_none(value: object) -> bool:
    return value is None


def _is_true(value: object) -> bool:
    return value is True


class BackboneSpec(Value):
    """One network.

    Attributes:
        name: Among several, it stands before the name of each cut: `resnet8/layer1.0`.
        model: `package.module:function`; called with `args`, it returns an `nn.Module` that maps [N, ...] to [N, C].
        weights: A safetensors file, or a state dict that `torch.load(weights_only=True)` reads; none: the network is
            trained first, by the study's `training` section.
        input: Its own preprocessing; the study's, where it has none.
        cuts: Where its exits may hang; where the space says, unless it has cuts of its own.
        exits: Whether it may have early exits; a network without them is answered by as a whole.
    """

    name: str = Field(default="backbone", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    model: str
    args: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None
    input: InputSpec | None = Field(default=None, exclude_if=_is_none)
    cuts: CutSpace | None = Field(default=None, exclude_if=_is_none)
    exits: bool = Field(default=True, exclude_if=_is_true)


def check_networks(networks: Sequence[BackboneSpec], reference: str, *, trained: bool, driver: str, mode: str) -> None:
    """Refuse what several networks cannot do, or cannot be.

    Args:
        networks: Of the study.
        reference: Name of the one that all is compared with; "": the most accurate.
        trained: Whether the space trains designs beyond the bank.
        driver: Of the study.
        mode: Of the study.

    Raises:
        ValueError: so.
    """
    names = [spec.name for spec in networks]
    if not names or len(names) > MOST_NETWORKS:
        raise ValueError(f"backbones: from 1 to {MOST_NETWORKS} networks can be searched; got {len(names)}")
    if reference and reference not in names:
        raise ValueError(f"reference: there is no network '{reference}'; expected one of {', '.join(names)}")
    if len(names) == 1:
        return
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"backbones: networks need names of their own; got '{twice}' twice")
    if mode != "bank" or trained:
        got = "a strategy that trains whole networks" if mode == "bank" else f"mode {mode}"
        raise ValueError(f"backbones: several networks are searched in mode bank with strategy separate; got {got}")
    if driver == "ray":
        raise ValueError("backbones: driver ray trains one network so far; write driver: optuna")
