"""Small networks for studies, written as a user would write them; import paths such as `eesearch.nets.zoo:mlp`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eesearch.core.errors import ModelError
from eesearch.nets.views import JoinViews, is_present, keep_missing


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut; a 1x1 convolution where the shape changes (He et al., 2015, option B)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            convolution = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] to [N, channels, H / stride, W / stride]."""
        hidden = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(hidden)) + self.shortcut(x))


class ResidualCnn(nn.Module):
    """A stem, stages of residual blocks (each stage after the first halves the map), global average, linear."""

    def __init__(self, channels: Sequence[int], blocks: int, classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, channels[0], 3, 1, 1, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU()
        )
        stages = []
        width = channels[0]
        for number, wide in enumerate(channels):
            first = Residual(width, wide, 1 if number == 0 else 2)
            stages.append(nn.Sequential(first, *(Residual(wide, wide, 1) for _ in range(blocks - 1))))
            width = wide
        self.stages = nn.ModuleList(stages)
        self.linear = nn.Linear(width, classes)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] to logits [N, classes]."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


class CifarBlock(nn.Module):
    """Two 3x3 convolutions; the shortcut drops every second pixel and pads channels with zeros (option A)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.padding = (channels - in_channels) // 2

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] to [N, channels, H / stride, W / stride]."""
        hidden = F.relu(self.bn1(self.conv1(x)))
        shortcut = x
        if self.padding:
            shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(self.bn2(self.conv2(hidden)) + shortcut)


class CifarResnet(nn.Module):
    """The residual network of He et al. (2015), section 4.2: 16, 32, 64 channels on maps of 32, 16, 8."""

    def __init__(self, blocks: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _cifar_stage(16, 16, blocks)
        self.layer2 = _cifar_stage(16, 32, blocks)
        self.layer3 = _cifar_stage(32, 64, blocks)
        self.linear = nn.Linear(64, classes)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] to logits [N, classes]."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def _cifar_stage(in_channels: int, channels: int, blocks: int) -> nn.Sequential:
    first = CifarBlock(in_channels, channels, 1 if in_channels == channels else 2)
    return nn.Sequential(first, *(CifarBlock(channels, channels, 1) for _ in range(blocks - 1)))


class TinyBlock(nn.Module):
    """Two 3x3 convolutions with biases; where it halves the map, a 1x1 convolution is the shortcut."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        stride = 1 if in_channels == channels else 2
        self.halves = stride == 2
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 0 if self.halves else 1)
        self.bn1 = nn.BatchNorm2d(channels, eps=1e-3)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(channels, eps=1e-3)
        self.shortcut = nn.Conv2d(in_channels, channels, 1, 2) if self.halves else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] to [N, channels, H / stride, W / stride]."""
        padded = F.pad(x, (0, 1, 0, 1)) if self.halves else x  # TensorFlow pads right and below
        hidden = F.relu(self.bn1(self.conv1(padded)))
        return F.relu(self.bn2(self.conv2(hidden)) + self.shortcut(x))


class TinyResnet(nn.Module):
    """The ResNet-8 of MLPerf Tiny (Banbury et al. 2021), image classification; raw pixels 0 .. 255."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 16, 3, 1, 1), bn=nn.BatchNorm2d(16, eps=1e-3)))
        self.block1, self.block2, self.block3 = TinyBlock(16, 16), TinyBlock(16, 32), TinyBlock(32, 64)
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] to logits [N, classes]."""
        x = self.block3(self.block2(self.block1(F.relu(self.stem(x)))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def tiny_resnet(*, classes: int = 10) -> nn.Module:
    """The ResNet-8 of MLPerf Tiny for 32x32 RGB images; it reads raw pixels 0 .. 255.

    Args:
        classes: Number of classes.
    """
    return TinyResnet(classes)


def residual_cnn(
    *, channels: Sequence[int] = (16, 32, 64), blocks: int = 1, classes: int = 10, in_channels: int = 1
) -> nn.Module:
    """A small residual CNN for images of any size.

    Args:
        channels: Width of each stage.
        blocks: Residual blocks per stage.
        classes: Number of classes.
        in_channels: Channels of the image.

    Raises:
        ModelError: no stage, or no block in a stage.
    """
    if not channels or blocks < 1:
        raise ModelError("a residual CNN needs a stage and a block", got=f"channels {channels}, blocks {blocks}")
    return ResidualCnn(tuple(channels), blocks, classes, in_channels)


def scalable_cnn(
    *, width: int = 16, depth: int = 1, stages: int = 3, classes: int = 10, in_channels: int = 1
) -> nn.Module:
    """A residual CNN whose size two numbers tell, for searches of widths and depths.

    Args:
        width: Channels of the first stage; each further one has twice as many.
        depth: Residual blocks per stage.
        stages: Each after the first halves the map.
        classes: Number of classes.
        in_channels: Channels of the image.

    Raises:
        ModelError: no channel, no block, or no stage.
    """
    if min(width, stages) < 1:
        raise ModelError("a scalable CNN needs a channel and a stage", got=f"width {width}, stages {stages}")
    widths = [width * 2**number for number in range(stages)]
    return residual_cnn(channels=widths, blocks=depth, classes=classes, in_channels=in_channels)


def cifar_resnet(*, depth: int = 56, classes: int = 10) -> nn.Module:
    """The ResNet of He et al. (2015) for 32x32 RGB images, with parameter-free shortcuts.

    Args:
        depth: Layers: 20, 32, 44, 56, 110, ... (6 n + 2).
        classes: Number of classes.

    Raises:
        ModelError: the depth is not 6 n + 2.
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise ModelError(f"there is no CIFAR ResNet of depth {depth}", expected="6 n + 2: 8, 14, 20, 32, 44, 56, 110")
    return CifarResnet(blocks, classes)


def mlp(*, features: int, hidden: Sequence[int] = (128, 128), classes: int = 10) -> nn.Module:
    """Linear layers with ReLU on samples of `features` numbers in any shape.

    Args:
        features: Numbers per sample.
        hidden: Width of each hidden layer.
        classes: Number of classes.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    width = features
    for wide in hidden:
        layers += [nn.Linear(width, wide), nn.ReLU()]
        width = wide
    model = nn.Sequential(*layers, nn.Linear(width, classes))
    _initialise(model)
    return model


class Attention(nn.Module):
    """Self-attention over all tokens (Vaswani et al., 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, D] to [N, T, D]."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1)
        )  # each [N, heads, T, D / heads]
        mixed = F.scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.project(mixed.transpose(1, 2).flatten(2))
        return projected


class TransformerBlock(nn.Module):
    """Attention and a feed-forward part, each behind a layer norm and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, D] to [N, T, D]."""
        x = x + self.attention(self.norm1(x))
        x = x + self.feed(self.norm2(x))
        return x


class VisionTransformer(nn.Module):
    """Patches as tokens, transformer blocks, the mean over tokens, linear (Dosovitskiy et al., 2021)."""

    def __init__(self, side: int, patch: int, width: int, *, depth: int, heads: int, classes: int, channels: int):
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.position = nn.Parameter(0.02 * torch.randn(1, (side // patch) ** 2, width))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, side, side] to logits [N, classes]."""
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position  # [N, T, D]
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.linear(self.norm(x).mean(1))
        return logits


def transformer(
    *,
    side: int = 8,
    patch: int = 2,
    width: int = 32,
    depth: int = 4,
    heads: int = 4,
    classes: int = 10,
    in_channels: int = 1,
) -> nn.Module:
    """A small vision transformer for square images.

    Args:
        side: Pixels of the image's side; a multiple of `patch`.
        patch: Pixels of a patch's side.
        width: Features of a token; a multiple of `heads`.
        depth: Number of blocks.
        heads: Attention heads of a block.
        classes: Number of classes.
        in_channels: Channels of the image.

    Raises:
        ModelError: sizes that do not divide each other.
    """
    if side % patch or width % heads:
        raise ModelError("the sizes do not divide", got=f"side {side}, patch {patch}, width {width}, heads {heads}")
    return VisionTransformer(side, patch, width, depth=depth, heads=heads, classes=classes, channels=in_channels)


class PerView(nn.Module):
    """A block per view, each with weights of its own: a view that is missing stays 0."""

    def __init__(self, views: int, in_channels: int, channels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_halving(in_channels, channels) for _ in range(views))

    def forward(self, x: Tensor) -> Tensor:
        """[N, V, in_channels, H, W] to [N, V, channels, H / 2, W / 2], none of it negative."""
        hidden = torch.stack([block(x[:, v]) for v, block in enumerate(self.blocks)], 1)
        return keep_missing(hidden, is_present(x))


class ViewsCnn(nn.Module):
    """Blocks per view on its device, what joins the views, residual blocks in the cloud, global average, linear."""

    def __init__(self, views: int, join: JoinViews, channels: Sequence[int], cloud: Sequence[int], *, classes: int):
        super().__init__()
        self.devices = nn.ModuleList(PerView(views, a, b) for a, b in pairwise(channels))
        self.join = join
        joined = channels[-1] * (views if join.how == "concat" else 1)
        self.cloud = nn.ModuleList(Residual(a, b, 1) for a, b in pairwise((joined, *cloud)))
        self.linear = nn.Linear(cloud[-1], classes)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """[N, V, in_channels, H, W] to logits [N, classes]."""
        for block in self.devices:
            x = block(x)
        x = self.join(x)
        for block in self.cloud:
            x = block(x)
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def _halving(in_channels: int, channels: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, channels, 3, 2, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


def views_cnn(
    *,
    views: int = 3,
    aggregate: Literal["max", "average", "concat"] = "concat",
    channels: Sequence[int] = (8, 8),
    cloud: Sequence[int] = (32, 32),
    classes: int = 10,
    in_channels: int = 1,
) -> nn.Module:
    """A small distributed network for samples of several views, as DDNN (Teerapittayanon et al. 2017).

    A view whose values are all 0 is missing: whatever joins views takes the others. The network itself must be given
    such zeros (in a study: `input: {views: true}`).

    Args:
        views: V
        aggregate: What becomes of the views' maps behind the devices: their `max` or `average` over the views that are
            there, or all of their channels (`concat`).
        channels: Width of each block on a device, which halves the map.
        cloud: Width of each residual block behind.
        classes: Number of classes.
        in_channels: Channels of a view.

    Raises:
        ModelError: no view, no block on either side, or another aggregation.
    """
    if views < 1 or not channels or not cloud or aggregate not in ("max", "average", "concat"):
        raise ModelError(
            "a network for views needs views, blocks on devices and in the cloud, and an aggregation",
            got=f"views {views}, channels {list(channels)}, cloud {list(cloud)}, aggregate '{aggregate}'",
            expected="aggregate max, average or concat",
        )
    return ViewsCnn(views, JoinViews(aggregate), (in_channels, *channels), cloud, classes=classes)


def _initialise(model: nn.Module) -> None:
    """He et al. (2015): weights from N(0, 2 / fan), biases 0; the classifier as torch does it."""
    matrices = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    for module in matrices[:-1]:
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
