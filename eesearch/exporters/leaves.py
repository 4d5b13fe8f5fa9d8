"""Python text that builds a layer of torch again: its constructor's arguments, read from the layer."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from eesearch.core.errors import ModelError

Arguments = dict[str, Any]

_NOT_SETTINGS = ("self", "device", "dtype", "_weight", "_freeze")


class Expression(str):
    """Python text among arguments, such as a layer inside a layer."""

    __slots__ = ()

    __repr__ = str.__str__


def layer_source(layer: nn.Module, path: str) -> str:
    """The call that makes such a layer, with fresh weights: `nn.Conv2d(1, 16, (3, 3), bias=False)`.

    Args:
        layer: One of torch's own.
        path: Where the user's model has it, for messages.

    Raises:
        ModelError: it is no layer of torch, or cannot be built from what it tells of itself.
    """
    kind = type(layer)
    if getattr(nn, kind.__name__, None) is not kind:
        raise _refused(path, f"{kind.__module__}.{kind.__qualname__}", "is no layer of torch.nn")
    arguments = _arguments(layer, path)
    text = _call(kind, arguments)
    _check(layer, text, path)
    return text


def _refused(path: str, got: str, why: str) -> ModelError:
    return ModelError(
        f"'{path}' cannot be written as plain PyTorch: it {why}, and its own forward cannot be traced",
        got=got,
        expected="layers of torch.nn, or modules whose forward has no control flow that depends on values",
        do="Export with `--to onnx`, which follows what a module computes.",
    )


def _arguments(layer: nn.Module, path: str) -> Arguments:
    special = next((_SPECIAL[base] for base in type(layer).__mro__ if base in _SPECIAL), None)
    if special is not None:
        return special(layer)
    arguments: Arguments = {}
    for parameter in inspect.signature(type(layer)).parameters.values():
        name = parameter.name
        if name in _NOT_SETTINGS or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name == "bias":
            if getattr(layer, "weight", layer) is not None:  # else there is neither, and another argument says so
                arguments[name] = getattr(layer, "bias", None) is not None
        elif hasattr(layer, name) and _is_plain(getattr(layer, name)):
            arguments[name] = getattr(layer, name)
        elif parameter.default is inspect.Parameter.empty:
            raise ModelError(
                f"'{path}' cannot be written as plain PyTorch",
                got=f"a {type(layer).__name__} that does not tell its '{name}'",
                do="Export with `--to onnx`.",
            )
    return arguments


def _is_plain(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _call(kind: type[nn.Module], arguments: Mapping[str, Any]) -> str:
    """Needed arguments by position, others by name where they are not the default."""
    words = []
    signature = inspect.signature(kind).parameters
    for name, value in arguments.items():
        default = signature[name].default if name in signature else None
        if name in signature and default is inspect.Parameter.empty:
            words.append(literal(value))
        elif name not in signature or not _same(value, default):
            words.append(f"{name}={literal(value)}")
    return f"nn.{kind.__name__}({', '.join(words)})"


def _same(value: object, default: object) -> bool:
    """Equal, or a pair of what torch makes a pair of: padding 0 is kept as (0, 0)."""
    if isinstance(value, tuple) and isinstance(default, int) and not isinstance(default, bool):
        return all(v == default for v in value)
    return type(value) is type(default) and value == default


def literal(value: object) -> str:
    """A plain value as Python text."""
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return f'float("{value}")'
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, str) and not isinstance(value, Expression):
        return json.dumps(value, ensure_ascii=False)  # which is Python too, line ends and control characters escaped
    return repr(value)


def _check(layer: nn.Module, text: str, path: str) -> None:
    """Build it, and compare."""
    with torch.random.fork_rng(devices=[]):
        twin = eval(text, {"nn": nn, "torch": torch})  # our own text, of plain values
    shapes = [{name: tuple(tensor.shape) for name, tensor in m.state_dict().items()} for m in (layer, twin)]
    if type(twin) is not type(layer) or shapes[0] != shapes[1] or str(twin) != str(layer):
        raise ModelError(
            f"'{path}' cannot be written as plain PyTorch: built again it is another layer",
            got=f"{twin}",
            expected=f"{layer}",
            do="Export with `--to onnx`.",
        )


def _recurrent(layer: Any) -> Arguments:
    names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
    extra = {"proj_size": layer.proj_size} if layer.proj_size else {}
    extra |= {"nonlinearity": layer.nonlinearity} if isinstance(layer, nn.RNN) else {}
    return {**{name: getattr(layer, name) for name in names}, **extra}


def _attention(layer: Any) -> Arguments:
    return {
        "embed_dim": layer.embed_dim,
        "num_heads": layer.num_heads,
        "dropout": layer.dropout,
        "bias": layer.in_proj_bias is not None,
        "add_bias_kv": layer.bias_k is not None,
        "add_zero_attn": layer.add_zero_attn,
        "kdim": None if layer.kdim == layer.embed_dim else layer.kdim,
        "vdim": None if layer.vdim == layer.embed_dim else layer.vdim,
        "batch_first": layer.batch_first,
    }


def _encoder_layer(layer: Any) -> Arguments:
    activation: str
    if isinstance(layer.activation, nn.Module):
        activation = Expression(layer_source(layer.activation, "activation"))
    else:
        name = getattr(layer.activation, "__name__", "")
        known = {"torch.nn.functional": nn.functional, "torch": torch}
        where = next((path for path, module in known.items() if getattr(module, name, None) is layer.activation), None)
        if where is None:
            raise _refused("activation", name or repr(layer.activation), "is no function of torch.nn.functional")
        activation = name if name in ("relu", "gelu") else Expression(f"{where}.{name}")
    return {
        "d_model": layer.self_attn.embed_dim,
        "nhead": layer.self_attn.num_heads,
        "dim_feedforward": layer.linear1.out_features,
        "dropout": layer.dropout.p,
        "activation": activation,
        "layer_norm_eps": layer.norm1.eps,
        "batch_first": layer.self_attn.batch_first,
        "norm_first": layer.norm_first,
        "bias": layer.linear1.bias is not None,
    }


def _encoder(layer: Any) -> Arguments:
    norm = None if layer.norm is None else Expression(layer_source(layer.norm, "norm"))
    return {
        "encoder_layer": Expression(layer_source(layer.layers[0], "layers.0")),
        "num_layers": layer.num_layers,
        "norm": norm,
        "enable_nested_tensor": layer.enable_nested_tensor,
    }


_SPECIAL: dict[type[nn.Module], Callable[[Any], Arguments]] = {
    nn.RNNBase: _recurrent,
    nn.MultiheadAttention: _attention,
    nn.TransformerEncoderLayer: _encoder_layer,
    nn.TransformerEncoder: _encoder,
}
"""Layers whose constructor's arguments are not their attributes."""
