"""Adapters: how torch.fx follows networks whose own forward it cannot.

An adapter is registered under the name of a class of networks, and serves those that inherit from it. It says what the
network makes of raw samples, and the same once more as a forward over the same modules that torch.fx can follow;
`split` proves that both agree. State dicts, names of modules and weights stay the network's own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any

from torch import Tensor, fx, nn

from eesearch.core.registry import ADAPTERS
from eesearch.nets.inputs import Preprocessed

Forward = Callable[[Any, Tensor], Tensor]
"""`(network, what its preprocessing made of raw samples [N, ...]) -> logits [N, C]`."""


@dataclass(frozen=True)
class Adapter:
    """How networks of one class are read.

    Attributes:
        whole: What the network itself says; calls `type(network).forward`.
        traced: The same over the same modules, as torch.fx can follow it.
        reads_tokens: Whether samples are numbers of tokens, int64 [N, T], and not to be scaled.
        shared: Types of modules, and paths below the network, that may run before and after a cut with the same
            weights.
        cuts: The places where one cuts if nobody says where; None: wherever one can.
    """

    whole: Forward
    traced: Forward
    reads_tokens: bool = False
    shared: tuple[type[nn.Module] | str, ...] = ()
    cuts: Callable[[Any], Sequence[str]] | None = None


PLACE = "place"
"""Where a traced value notes the name of the place that `place` gave it."""


def place(value: Tensor, name: str) -> None:
    """While a forward is traced: a cut behind this value is called so."""
    if isinstance(value, fx.Proxy):
        value.node.meta[PLACE] = name


def adapter_of(model: nn.Module) -> Adapter | None:
    """The adapter of a network's class, or of the first that it inherits from; None: torch.fx follows it as it is.

    Args:
        model: With its preprocessing or without.
    """
    names = [cls.__name__ for cls in type(user_model(model)).__mro__]
    found: Adapter | None = next((ADAPTERS[name] for name in names if name in ADAPTERS), None)
    return found


def user_model(model: nn.Module) -> nn.Module:
    """The user's model, without preprocessing."""
    return model.model if isinstance(model, Preprocessed) else model


def speaking(model: nn.Module) -> nn.Module:
    """A copy that maps raw samples [N, ...] to logits [N, C] as the network itself does, with an adapter's help."""
    return _with_forward(copy.deepcopy(model), "whole")


def followed(model: nn.Module) -> nn.Module:
    """The same model, which torch.fx can follow if an adapter helps; its class and its modules stay."""
    return _with_forward(model, "traced")


def _with_forward(model: nn.Module, name: str) -> nn.Module:
    adapter = adapter_of(model)
    if adapter is not None:
        network = user_model(model)
        network.forward = MethodType(getattr(adapter, name), network)
    return model
