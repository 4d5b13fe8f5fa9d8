"""LeNet-5 and AlexNet for small images, as the BranchyNet code has them (github.com/kunglab/branchynet, networks/).

Layers in a row with names, so that exits can hang on each: `conv1`, `pool1`, ...
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from eesearch.core.errors import ModelError

_SMALLEST = 8
"""Pixels: AlexNet halves the map three times."""


def lenet(*, classes: int = 10, in_channels: int = 1, side: int = 28) -> nn.Module:
    """The LeNet of BranchyNet (Teerapittayanon et al. 2016): three convolutions, pooled, and two linear layers.

    As there, ReLU follows each pooling, poolings round up, and nothing is between the linear layers.

    Args:
        classes: Number of classes.
        in_channels: Channels of the image.
        side: Its height and width in pixels.

    Raises:
        ModelError: an image without pixels.
    """
    if side < 1:
        raise ModelError("an image has pixels", got=f"side {side}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    width = in_channels
    for number, channels in enumerate((5, 10, 20), start=1):
        layers[f"conv{number}"] = nn.Conv2d(width, channels, 5, padding=3)
        layers[f"pool{number}"] = nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.ReLU())
        width, side = channels, (side + 3) // 2  # a convolution adds 2 pixels
    layers["flat"] = nn.Flatten()
    layers["linear"] = nn.Linear(width * side**2, 84)
    layers["output"] = nn.Linear(84, classes)
    return nn.Sequential(layers)


def alexnet(*, classes: int = 10, in_channels: int = 3, side: int = 32) -> nn.Module:
    """The AlexNet for 32x32 images of BranchyNet (Teerapittayanon et al. 2016): five convolutions, three linear layers.

    Its local response normalisation is left out: with its alpha of 0.00005 it is nearly a factor of 2 ** -0.75, and
    takes longer here than the convolutions that it follows. Weights begin as there, with a variance of 1 / inputs
    (LeCun et al. 1998): from torch's, a third of that, so many layers without normalisation learn little at first.

    Args:
        classes: Number of classes.
        in_channels: Channels of the image.
        side: Its height and width in pixels.

    Raises:
        ModelError: an image that cannot be halved three times.
    """
    if side < _SMALLEST:
        raise ModelError("the image is too small for three poolings", got=f"side {side}", expected=f">= {_SMALLEST}")
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(in_channels, 32, 5, padding=2),
        pool1=_relu_and_pool(),
        conv2=nn.Conv2d(32, 64, 5, padding=2),
        pool2=_relu_and_pool(),
        conv3=nn.Conv2d(64, 96, 3, padding=1),
        relu3=nn.ReLU(),
        conv4=nn.Conv2d(96, 96, 3, padding=1),
        relu4=nn.ReLU(),
        conv5=nn.Conv2d(96, 64, 3, padding=1),
        pool5=_relu_and_pool(),
        flat=nn.Flatten(),
        linear1=nn.Sequential(nn.Linear(64 * (side // 8) ** 2, 256), nn.ReLU(), nn.Dropout()),
        linear2=nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Dropout()),
        output=nn.Linear(128, classes),
    )
    net = nn.Sequential(layers)
    for parameter in net.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, nonlinearity="linear")
        else:
            nn.init.zeros_(parameter)
    return net


def _relu_and_pool() -> nn.Sequential:
    return nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True))
