"""Heads: the small classifiers c_i that read the hidden state at a cut (eq. 3 of the survey).

An entry of the HEADS registry is a function `(features, classes, spec) -> body`: from the shape of what it reads (after
pooling, without the batch: [C, p, p] or [D]) to a module that maps [N, *features] to logits [N, classes].
"""

from __future__ import annotations

from math import log, prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eesearch.core.design import NOTHING, HeadSpec, TapSpec
from eesearch.core.errors import HeadError
from eesearch.core.registry import HEADS
from eesearch.nets.views import ViewsBody

_LARGE = 8
"""Convolutions in heads halve maps that are larger than this."""

_GATE_HIDDEN = 16
"""Width of the hidden layer of a gate of kind `mlp`."""


def tap_shape(cut_shape: tuple[int, ...], tap: TapSpec) -> tuple[int, ...]:
    """Shape of what `read_tap` returns, without the batch.

    Raises:
        HeadError: the cut is no map, sequence or vector, or it is smaller than what it is pooled to.
    """
    if len(cut_shape) == 1 or (tap.pool == "none" and len(cut_shape) in (2, 3)):
        return cut_shape
    if len(cut_shape) == 2:
        return _sequence_shape(cut_shape, tap)
    if tap.pool in ("first", "last"):
        raise HeadError(
            "there is no such token",
            got=f"pool '{tap.pool}' on {list(cut_shape)}",
            expected="tokens or a sequence [T, D]",
        )
    if len(cut_shape) == 4:
        views, channels, *side = cut_shape
        if tap.joined:
            return tap_shape((views * channels, *side), tap)
        return (views, *tap_shape((channels, *side), tap))
    if len(cut_shape) != 3:
        expected = "[C, H, W], [T, D] or [D]; [V, C, H, W] of several views"
        raise HeadError("a head cannot read this", got=f"shape {list(cut_shape)}", expected=expected)
    channels, height, width = cut_shape
    if min(height, width) < tap.size:
        raise HeadError(
            f"a map cannot be pooled to {tap.size}x{tap.size}",
            got=f"{height}x{width}",
            do=f"Choose a size of at most {min(height, width)}, or an earlier cut.",
        )
    return (channels * (2 if tap.pool == "mixed" else 1), tap.size, tap.size)


def _sequence_shape(cut_shape: tuple[int, ...], tap: TapSpec) -> tuple[int, ...]:
    tokens, width = cut_shape
    if tokens < tap.size:
        raise HeadError(
            f"a sequence cannot be pooled to {tap.size} parts",
            got=f"{tokens} tokens",
            do=f"Choose a size of at most {tokens}.",
        )
    return (width * (2 if tap.pool == "mixed" else 1), tap.size)


def read_tap(hidden: Tensor, tap: TapSpec) -> Tensor:
    """Pool a hidden state as `TapSpec` says; a vector stays as it is.

    Args:
        hidden: [N, C, H, W], [N, T, D] or [N, D]; [N, V, C, H, W] of several views.
        tap: How.
    """
    if hidden.dim() == 5:
        return _read_views(hidden, tap)
    if hidden.dim() == 2 or tap.pool == "none":
        return hidden
    if hidden.dim() == 3:
        return _read_sequence(hidden, tap)
    return _beside(_pooled(hidden, tap), 1)


def _read_sequence(hidden: Tensor, tap: TapSpec) -> Tensor:
    """Tokens or time steps [N, T, D] to [N, D, p] or [N, 2D, p]."""
    if tap.pool in ("first", "last"):
        at = 0 if tap.pool == "first" else hidden.shape[1] - 1
        return hidden[:, at, :, None]
    features = hidden.transpose(1, 2)  # [N, D, T]
    if tap.size == 1:
        there = (hidden != 0).any(2).sum(1).clamp(min=1)  # [N]
        mean = features.sum(2, keepdim=True) / there[:, None, None]
    else:
        mean = F.adaptive_avg_pool1d(features, tap.size)
    if tap.pool == "avg":
        return mean
    return torch.cat([mean, F.adaptive_max_pool1d(features, tap.size)], 1)  # [N, 2D, p]


def _pooled(maps: Tensor, tap: TapSpec) -> list[Tensor]:
    """The average- and, if `mixed`, the max-pooled map. Each [N, C, p, p]"""
    average = F.adaptive_avg_pool2d(maps, tap.size)
    return [average, F.adaptive_max_pool2d(maps, tap.size)] if tap.pool == "mixed" else [average]


def _read_views(hidden: Tensor, tap: TapSpec) -> Tensor:
    """Views [N, V, C, H, W] to [N, V, C, p, p] (or 2C), joined to [N, V C, p, p]."""
    if tap.pool == "none":
        return hidden.flatten(1, 2) if tap.joined else hidden
    parts = _pooled(hidden.flatten(1, 2), tap)
    if tap.joined:
        return _beside(parts, 1)
    return _beside([part.unflatten(1, (hidden.shape[1], -1)) for part in parts], 2)


def _beside(parts: list[Tensor], channels: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, channels)


class Head(nn.Module):
    """A body and the tap that it reads.

    Training that caches taps feeds `body` with what `read_tap` made.

    Args:
        spec: Its design.
        cut_shape: Shape of the hidden state at its cut, without the batch.
        body: Maps [N, *tap_shape(cut_shape, spec.tap)] to logits [N, C].
    """

    def __init__(self, spec: HeadSpec, cut_shape: tuple[int, ...], body: nn.Module) -> None:
        super().__init__()
        self.spec = spec
        self.tap = spec.tap
        self.cut_shape = cut_shape
        self.body = body

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden state [N, *cut_shape] to logits [N, C]."""
        logits: Tensor = self.body(read_tap(hidden, self.tap))
        return logits


def build_head(spec: HeadSpec, cut_shape: tuple[int, ...], classes: int) -> Head:
    """Make a head for a cut, with fresh weights from torch's global generator.

    Args:
        spec: Its design.
        cut_shape: Shape of the hidden state there, without the batch: [C, H, W], [T, D] or [D]; [V, C, H, W] of views.
        classes: Number of classes C.

    Raises:
        HeadError: it does not fit this cut.
    """
    features = tap_shape(cut_shape, spec.tap)
    if len(cut_shape) == 4 and spec.kind != NOTHING and spec.views != "concat":
        return Head(spec, cut_shape, _per_view(features, classes, spec))
    body = HEADS[spec.kind](features, classes, spec)
    return Head(spec, cut_shape, body if spec.gate == "none" else _gated(body, features, classes, spec))


def _per_view(features: tuple[int, ...], classes: int, spec: HeadSpec) -> ViewsBody:
    """A body for each view, with weights of its own."""
    assert spec.views != "concat"
    views, *read = features
    bodies = [HEADS[spec.kind](tuple(read), classes, spec) for _ in range(views)]
    if spec.gate != "none" or any(hasattr(body, "fit") for body in bodies):
        what = f"learns a gate '{spec.gate}'" if spec.gate != "none" else "is fitted"
        raise HeadError(
            f"a {spec.kind} head that {what} takes all views together",
            got=f"views '{spec.views}'",
            expected="views 'concat'",
        )
    return ViewsBody(bodies, spec.views)


class GatedBody(nn.Module):
    """A body that also tells how sure it is: the gate g_i (eq. 9) is the mean of its logits.

    Logits are defined up to a constant that softmax, argmax and temperatures do not see; this one is chosen so that it
    carries the gate, and nothing between here and a table has to know of it. The gate reads the body's features and
    what it says, and learns from both without teaching them: no gradient of the gate reaches the body.

    Args:
        body: Maps [N, *features] to logits [N, C].
        gate: Maps [N, F + C + 3] to the gate's logit [N, 1].
        classes: C
        averaged: Axes of the features that the gate sees the mean of; none: it sees all of them.
    """

    def __init__(self, body: nn.Module, gate: nn.Module, classes: int, averaged: tuple[int, ...]) -> None:
        super().__init__()
        self.body, self.gate = body, gate
        self.averaged = averaged
        self._most_entropy = log(classes)

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, *features] to logits [N, C], whose mean over the classes is the gate's logit."""
        logits: Tensor = self.body(features)
        read = features.detach()
        pooled = read.mean(self.averaged) if self.averaged else read.flatten(1)
        sure = self.gate(torch.cat([pooled, self._figures(logits.detach())], 1))  # [N, 1]
        return logits - logits.mean(1, keepdim=True) + sure

    def _figures(self, logits: Tensor) -> Tensor:
        """Probabilities, the largest, its margin, and 1 - normalised entropy. [N, C + 3]"""
        log_p = logits.log_softmax(1)
        p = log_p.exp()
        top = p.topk(2, 1).values
        entropy = (p * log_p).sum(1, keepdim=True) / self._most_entropy + 1.0
        return torch.cat([p, top[:, :1], top[:, :1] - top[:, 1:], entropy], 1)


def _gated(body: nn.Module, features: tuple[int, ...], classes: int, spec: HeadSpec) -> GatedBody:
    if hasattr(body, "fit"):
        raise HeadError(
            f"a {spec.kind} head is fitted, and learns no gate", got=f"gate '{spec.gate}'", expected="gate 'none'"
        )
    averaged: tuple[int, ...] = ()
    width = prod(features)
    if spec.pool == "none" and len(features) > 1:  # a full map [C, H, W] or sequence [T, D]
        averaged, width = ((2, 3), features[0]) if len(features) == 3 else ((1,), features[1])
    seen = width + classes + 3
    if spec.gate == "linear":
        return GatedBody(body, nn.Linear(seen, 1), classes, averaged)
    layers = nn.Sequential(nn.Linear(seen, _GATE_HIDDEN), nn.ReLU(), nn.Linear(_GATE_HIDDEN, 1))
    return GatedBody(body, layers, classes, averaged)


class Silent(nn.Module):
    """Uniform logits for everyone: nobody is sure of anything.

    Args:
        classes: C
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, features: Tensor) -> Tensor:
        """Any features to zeros [N, C]."""
        return features.new_zeros((features.shape[0], self.classes))


@HEADS.register(NOTHING)
def nothing(features: tuple[int, ...], classes: int, spec: HeadSpec) -> nn.Module:
    """No head at all: at its cut a sample may cross to another tier of a system. It is free, and never trained.

    Raises:
        HeadError: it is to have a gate.
    """
    if spec.gate != "none":
        raise HeadError("a head that says nothing has no gate", got=f"gate '{spec.gate}'", expected="gate 'none'")
    return Silent(classes)


@HEADS.register("linear")
def linear(features: tuple[int, ...], classes: int, spec: HeadSpec) -> nn.Module:
    """One linear layer on a vector, or a pooled map or sequence.

    Raises:
        HeadError: it is to read a full map or sequence.
    """
    refuse_full_map(features, spec)
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(features), classes))


@HEADS.register("mlp")
def mlp(features: tuple[int, ...], classes: int, spec: HeadSpec) -> nn.Module:
    """One or two hidden layers with ReLU, on a vector, or a pooled map or sequence.

    Raises:
        HeadError: it is to read a full map or sequence, or `hidden` does not have one or two positive widths.
    """
    refuse_full_map(features, spec)
    if len(spec.hidden) not in (1, 2) or min(spec.hidden) < 1:
        raise HeadError("an mlp head has one or two hidden layers", got=f"hidden = {list(spec.hidden)}")
    layers: list[nn.Module] = [nn.Flatten()]
    width = prod(features)
    for hidden in spec.hidden:
        layers += [nn.Linear(width, hidden), nn.ReLU()]
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, classes))


@HEADS.register("conv")
def conv(features: tuple[int, ...], classes: int, spec: HeadSpec) -> nn.Module:
    """A 3x3 convolution, batch norm, ReLU, global average, linear; on a full map or one pooled to p x p, p >= 2.

    Trains on batches of at least two samples wherever its own map is a single point (batch norm needs a spread).

    Raises:
        HeadError: what it reads is not a map of several points.
    """
    channels, stride = _map_of(features, spec)
    return _pooled_classifier([nn.Conv2d(channels, spec.channels, 3, stride, 1, bias=False)], spec.channels, classes)


@HEADS.register("dsconv")
def dsconv(features: tuple[int, ...], classes: int, spec: HeadSpec) -> nn.Module:
    """As `conv`, its convolution depthwise separable: 3x3 per channel, then 1x1 across channels (MobileNet, 2017).

    Raises:
        HeadError: what it reads is not a map of several points.
    """
    channels, stride = _map_of(features, spec)
    depthwise = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
    pointwise = nn.Conv2d(channels, spec.channels, 1, bias=False)
    return _pooled_classifier([depthwise, nn.BatchNorm2d(channels), nn.ReLU(), pointwise], spec.channels, classes)


def _pooled_classifier(layers: list[nn.Module], channels: int, classes: int) -> nn.Module:
    tail = [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    return nn.Sequential(*layers, *tail)


def refuse_full_map(features: tuple[int, ...], spec: HeadSpec) -> None:
    """For heads that read a vector, or a pooled map or sequence.

    Raises:
        HeadError: it is to read a full map or sequence.
    """
    if len(features) > 1 and spec.pool == "none":
        raise HeadError(
            f"a {spec.kind} head does not read full maps or sequences",
            got=f"pool 'none' on {list(features)}",
            expected="pool 'avg' or 'mixed'",
        )


def _map_of(features: tuple[int, ...], spec: HeadSpec) -> tuple[int, int]:
    """Channels of the map that a convolution reads, and its stride there."""
    if len(features) != 3 or features[1] * features[2] == 1:
        raise HeadError(
            f"a {spec.kind} head needs a map of several points",
            got=f"shape {list(features)} (pool '{spec.pool}', size {spec.size})",
            expected="pool 'none', or a size of 2 to 4, on a map [C, H, W]",
        )
    return features[0], 2 if max(features[1:]) > _LARGE else 1
