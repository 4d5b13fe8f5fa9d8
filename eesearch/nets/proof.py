"""Proofs that the segments do what the user's model does, and that the model can be used at all."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from inspect import Parameter, signature

import torch
from torch import Tensor, nn

from eesearch.core.errors import ModelError, SplitError
from eesearch.nets.adapters import speaking, user_model
from eesearch.nets.backbone import Backbone
from eesearch.nets.inputs import Normalize, NormalizeViews


def run_model(model: nn.Module, batch: Tensor) -> Tensor:
    """The model's logits on a batch.

    Raises:
        ModelError: it wants several inputs, does not run, or returns something else than logits [N, C].
        SplitError: it is compiled.
    """
    name = type(user_model(model)).__name__
    refuse_compiled(user_model(model))
    _refuse_several_inputs(user_model(model), name)
    _refuse_other_channels(model, batch)
    try:
        with torch.no_grad():
            logits = model(batch.clone())  # it may overwrite what it is given
    except Exception as error:  # a user's forward may raise anything
        raise ModelError(
            f"{name} does not run on the example",
            got=f"{type(error).__name__} on {batch.dtype} {list(batch.shape)}: {error}",
            do=_remedy(str(error), batch),
        ) from error
    if isinstance(logits, Tensor) and logits.dim() == 2 and len(logits) == len(batch) and logits.shape[1] > 1:
        return logits
    raise ModelError(
        f"{name} does not return logits",
        got=_describe(logits),
        expected=f"one tensor [N, C] (here N = {len(batch)})",
        do="Wrap it in a module whose forward returns the logits alone.",
    )


def refuse_compiled(model: nn.Module) -> None:
    """Refuse what TorchScript made: there is no Python to follow.

    Raises:
        SplitError: so.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise SplitError(
            "cannot split a network that is compiled by TorchScript",
            got=type(model).__name__,
            expected="a module whose forward is Python",
            do="Give the module that it was made of.",
        )


def _refuse_several_inputs(model: nn.Module, name: str) -> None:
    """A sample is one tensor; arguments with defaults keep them."""
    given = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    arguments = signature(model.forward).parameters.values()
    needed = [each.name for each in arguments if each.default is Parameter.empty and each.kind in given]
    if len(needed) > 1:
        raise ModelError(
            f"{name} wants several inputs",
            got=f"forward({', '.join(needed)})",
            expected="one tensor of samples [N, ...]",
            do="Wrap it in a module that takes one tensor and makes the others of it, or write an adapter for it.",
        )


def _refuse_other_channels(model: nn.Module, batch: Tensor) -> None:
    """One mean and deviation serves all channels, but several do not make several channels of one."""
    for module in model.modules():
        if isinstance(module, Normalize):
            axis, channels = (2 if isinstance(module, NormalizeViews) else 1), len(module.weight)
            if channels > 1 and batch.dim() > axis and batch.shape[axis] != channels:
                raise ModelError(
                    "the input section does not fit the data",
                    got=f"mean and std of {channels} channels for samples {list(batch.shape[1:])}",
                    expected=f"{batch.shape[axis]} of each, or one for all",
                    do=_CHANNELS,
                )


_CHANNELS = (
    "Bring both to the same channels: the model's by its args (timm: in_chans: 1), those of a folder of images by the "
    "data's args (mode: RGB), those of arrays by repeating them."
)


def _remedy(error: str, batch: Tensor) -> str:
    if not batch.is_floating_point() and batch.dim() == 2:
        return "Check that the model takes so many tokens (data.max_tokens cuts texts), and that it knows these."
    if re.search(r"expected input.* to have \d+ channels", error):
        return _CHANNELS
    return (
        "Check that the data have the shape that the model expects, and the input section: scale, mean, std; "
        "images of another size are brought to its own by input.resize."
    )


def prove_outputs(name: str, backbone: Backbone, batch: Tensor, expected: Mapping[int, Tensor]) -> None:
    """Compare logits in eval mode.

    Args:
        name: Of the model, in messages.
        backbone: What was made of it.
        batch: Raw samples [N, ...].
        expected: Number of rows of the batch -> the model's logits on them.

    Raises:
        SplitError: they differ.
    """
    for rows, logits in expected.items():
        with torch.no_grad():
            got = backbone(batch[:rows])
        if not torch.allclose(got, logits, rtol=1e-5, atol=1e-6):
            raise SplitError(
                f"the segments of {name} do not do what it does",
                got=f"logits that differ by up to {(got - logits).abs().max():.3g}",
                expected="equal logits",
                do="A model can be split if its forward is deterministic in eval mode, treats each sample alone, and "
                "does not rely on forward hooks or on control flow.",
            )


def prove_gradients(model: nn.Module, backbone: Backbone, batch: Tensor) -> None:
    """Compare gradients of a fixed combination of the logits in training mode, with the same random numbers.

    Raises:
        SplitError: they differ.
    """
    whole, chained = speaking(model).train(), copy.deepcopy(backbone).train()
    expected = _gradients(whole, batch, dict(user_model(whole).named_parameters(remove_duplicate=False)))
    tensors = chained.tensors()
    got = _gradients(chained, batch, {name: tensors[inner] for name, inner in chained.origin.names})
    for name, gradient in expected.items():
        if name not in got or not torch.allclose(got[name], gradient, rtol=1e-4, atol=1e-5):
            raise SplitError(
                f"in training mode the segments of {type(user_model(model)).__name__} do not do what it does",
                got=f"another gradient of '{name}'",
                do="Let modules (nn.Dropout, nn.BatchNorm2d), not control flow, do what depends on the mode.",
            )


def _gradients(model: nn.Module, batch: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        logits = model(batch.clone())
    if not logits.requires_grad:  # everything is frozen
        return {}
    model.zero_grad(set_to_none=True)
    (logits * torch.linspace(-1.0, 1.0, logits.numel(), device=logits.device).view_as(logits)).sum().backward()
    return {name: tensor.grad for name, tensor in tensors.items() if tensor.grad is not None}


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)}"
    if isinstance(value, Mapping):
        return f"{type(value).__name__} with keys {', '.join(map(str, value))}"
    size = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
    return f"{type(value).__name__}{size}"
