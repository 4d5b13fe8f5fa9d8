"""What the parts of a network cost without any clock: multiply-adds, parameters, bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from eesearch.costs.figures import Heads, build_for, head_name
from eesearch.costs.macs import count_macs
from eesearch.costs.peaks import peak_bytes, tensor_bytes
from eesearch.nets.backbone import Backbone, Carry
from eesearch.nets.fitted import FittedBody
from eesearch.nets.modes import evaluating

ByHead = dict[str, dict[str, float]]
"""cut -> head name -> figure."""


@dataclass(frozen=True)
class Counted:
    """The counted fields of a `DeviceProfile`."""

    macs_prefix: tuple[float, ...]
    macs_head: ByHead
    params_prefix: tuple[float, ...]
    params_head: ByHead
    peak_segment: tuple[float, ...]
    peak_head: ByHead
    carry_bytes: tuple[float, ...]


def count_parts(backbone: Backbone, heads: Heads) -> Counted:
    """Count everything, for one sample.

    Raises:
        CostError: an operation whose multiply-adds are not known.
        HeadError: a head does not fit its cut.
    """
    with evaluating(backbone):
        carries = _carries(backbone)
        macs = _count(backbone, heads, count_macs, carries)
        params = _count(backbone, heads, _NewParameters(), carries)
        peaks = tuple(map(peak_bytes, backbone.segments, carries))
        held = tuple(map(tensor_bytes, carries))
    _, needs = _count(backbone, heads, _beyond_inputs, carries)
    after = {cut.name: held[k + 1] for k, cut in enumerate(backbone.cuts)}
    peak_head = {cut: {name: after[cut] + more for name, more in named.items()} for cut, named in needs.items()}
    return Counted(
        macs_prefix=tuple(np.cumsum(macs[0]).tolist()),
        macs_head=macs[1],
        params_prefix=tuple(np.cumsum(params[0]).tolist()),
        params_head=params[1],
        peak_segment=peaks,
        peak_head=peak_head,
        carry_bytes=held[: len(backbone.segments)],
    )


def _carries(backbone: Backbone) -> list[Carry]:
    """Before every segment, and behind the last."""
    carries: list[Carry] = [(backbone.example,)]
    with torch.no_grad():
        for segment in backbone.segments:
            carries.append(tuple(segment(*carries[-1])))
    return carries


def _count(
    backbone: Backbone, heads: Heads, count: Callable[[nn.Module, Carry], float], carries: list[Carry]
) -> tuple[list[float], ByHead]:
    """Each segment, and each head by cut and name; heads that are alike are counted once."""
    steps = [count(segment, carry) for segment, carry in zip(backbone.segments, carries, strict=False)]
    counted: dict[str, float] = {}
    for cut in backbone.cuts:
        for spec in heads.get(cut.name, ()):
            if head_name(spec, cut) not in counted:
                head = build_for(spec, cut, backbone.classes)
                counted[head_name(spec, cut)] = count(head, (torch.zeros(1, *cut.shape),))
    by_head = {
        cut.name: {spec.name: counted[head_name(spec, cut)] for spec in heads[cut.name]}
        for cut in backbone.cuts
        if heads.get(cut.name)
    }
    return steps, by_head


class _NewParameters:
    """Counts all that was learnt: parameters, and the tensors of what was fitted; those of earlier parts once only."""

    def __init__(self) -> None:
        self._counted: set[Tensor] = set()

    def __call__(self, module: nn.Module, _: Carry) -> float:
        fitted = [part.state_dict(keep_vars=True).values() for part in module.modules() if isinstance(part, FittedBody)]
        new = {*module.parameters(), *chain(*fitted)} - self._counted
        self._counted |= new
        return float(sum(tensor.numel() for tensor in new))


def _beyond_inputs(module: nn.Module, args: Carry) -> float:
    """Peak bytes of activations without the inputs."""
    return peak_bytes(module, args) - tensor_bytes(args)
