"""Split a classifier once into a chain of segments; an exit may hang on any cut between them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from eesearch.core.errors import ModelError, SplitError
from eesearch.nets.adapters import adapter_of, followed, speaking, user_model
from eesearch.nets.backbone import Backbone, Carry, Cut, Origin
from eesearch.nets.cuts import Places, Point
from eesearch.nets.facts import Fact, learn_facts
from eesearch.nets.inputs import as_tensor, views_of
from eesearch.nets.proof import prove_gradients, prove_outputs, refuse_compiled, run_model
from eesearch.nets.segments import make_segments
from eesearch.nets.trace import PREFIX, structure, trace_model

__all__ = ["Backbone", "Carry", "Cut", "split"]

_PROBE = 8
"""At most so many rows of the example are used to prove that the segments do what the model does."""


def split(
    model: nn.Module,
    example: Tensor | NDArray[np.generic],
    cuts: Literal["auto"] | Sequence[str] = "auto",
    *,
    check_gradients: bool = False,
) -> Backbone:
    """Cut a classifier into segments.

    Works on a deep copy: the model's weights, gradients, mode and hooks stay as they are; its hooks are not part of the
    result, and neither is its mode (a backbone comes in eval mode). Parameters that are frozen stay so, and are not
    trained; but where all are, as for inference, none is.

    Args:
        model: Raw samples [N, ...] to logits [N, C]; wrap it in `Preprocessed` if it needs preprocessing.
        example: A batch of raw samples [N, ...], N >= 1.
        cuts: `auto`: wherever a single tensor is alive between two convolutions or matrix products, but not where only
            the classifier remains. Or names of modules (`layer1.0`), in any order: after each of them.
        check_gradients: Also prove that the gradients of all weights are the same in training mode.

    Raises:
        ModelError: the model does not run on the example, or does not return logits [N, C]; it is not in single
            precision; or it wants views (`NormalizeViews`), and the example has none.
        SplitError: the model cannot be cut there.
    """
    _refuse_other_precisions(model)
    twin = _copy(model)
    batch = _batch(example, twin)
    views, adapter = views_of(twin, batch), adapter_of(twin)
    whole = speaking(twin)
    expected = {rows: run_model(whole, batch[:rows]) for rows in (len(batch), 1)}
    for module in twin.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks):
            hooks.clear()
    traced = trace_model(followed(twin))
    facts = learn_facts(traced, batch)
    places = Places(traced, facts, views, adapter.shared if adapter else ())
    if cuts == "auto" and adapter and adapter.cuts:
        cuts = adapter.cuts(user_model(twin))
    points = places.auto() if cuts == "auto" else places.chosen([cuts] if isinstance(cuts, str) else cuts)
    segments = make_segments(traced, facts, points, batch)
    own = traced.root.get_submodule(PREFIX)
    origin = Origin(structure(traced), expected[1].shape[1], *_state_names(own, segments), views)
    backbone = Backbone(segments, [_cut(p, facts) for p in points], batch[:1].clone(), origin).eval()
    prove_outputs(traced.name, backbone, batch, expected)
    if check_gradients:
        prove_gradients(model, backbone, batch)
    if not any(parameter.requires_grad for parameter in backbone.parameters()):
        backbone.requires_grad_(True)
    return backbone


def _refuse_other_precisions(model: nn.Module) -> None:
    """Profiles, heads and exports compute in float32; a buffer may be kept in another precision."""
    tensors = model.named_parameters()
    wrong = {name: t.dtype for name, t in tensors if t.is_floating_point() and t.dtype != torch.float32}
    if wrong:
        name, dtype = next(iter(wrong.items()))
        raise ModelError(
            f"{type(user_model(model)).__name__} is not in single precision",
            got=f"{dtype} in {len(wrong)} tensor(s), such as '{name}'",
            expected="weights in torch.float32",
            do="Call model.float() first.",
        )


def _copy(model: nn.Module) -> nn.Module:
    refuse_compiled(user_model(model))
    try:
        twin = copy.deepcopy(model).eval()
    except (RuntimeError, TypeError) as error:
        raise SplitError(
            f"cannot split {type(model).__name__}: it cannot be copied",
            got=str(error).strip().splitlines()[0],
            do="Keep only modules, parameters and plain values in it; use torch.nn.utils.parametrizations, "
            "not the old weight_norm and spectral_norm.",
        ) from error
    twin.zero_grad(set_to_none=True)
    return twin


def _batch(example: Tensor | NDArray[np.generic], model: nn.Module) -> Tensor:
    """A few rows of the example, where the model's weights are; two different ones where there is only one."""
    raw = as_tensor(example)
    if raw.dim() < 2 or not len(raw):
        raise ModelError("the example is not a batch of samples", got=f"shape {list(raw.shape)}", expected="[N, ...]")
    weight = next(model.parameters(), raw)
    raw = raw[:_PROBE].detach().to(weight.device)
    return torch.cat([raw, raw.roll(1, -1)]) if len(raw) == 1 else raw


def _cut(point: Point, facts: Mapping[fx.Node, Fact]) -> Cut:
    shape = facts[point.carry[0]].shape
    order = point.moved(1 + len(shape))
    return Cut(point.name, tuple(shape[axis - 1] for axis in order[1:]) if order else shape, point.kind)


def _state_names(
    model: nn.Module, segments: Sequence[nn.Module]
) -> tuple[tuple[tuple[str, str], ...], dict[str, Tensor]]:
    """`Origin.names` and `Origin.unused`; a weight under two names is found under either."""
    inner: dict[int, str] = {}
    for segment in segments:
        for name, tensor in chain(segment.named_parameters(), segment.named_buffers()):
            inner.setdefault(id(tensor), name)
    state = {k: v for k, v in model.state_dict(keep_vars=True).items() if isinstance(v, Tensor)}
    names = tuple((name, inner[id(tensor)]) for name, tensor in state.items() if id(tensor) in inner)
    return names, {name: tensor.detach() for name, tensor in state.items() if id(tensor) not in inner}
