import pytest
import torch
import torch.nn.functional as F

from eesearch.core.errors import ModelError
from eesearch.nets.classics import alexnet, lenet
from eesearch.nets.split import split


@pytest.mark.parametrize(
    ("model", "shape", "cuts"),
    [
        (lenet(), (1, 28, 28), {"conv1": (5, 30, 30), "pool1": (5, 15, 15), "pool2": (10, 9, 9), "pool3": (20, 6, 6)}),
        (alexnet(), (3, 32, 32), {"pool1": (32, 16, 16), "conv2": (64, 16, 16), "conv3": (96, 8, 8)}),
    ],
)
def test_they_have_the_sizes_of_their_originals_where_branches_hang(model, shape, cuts):
    assert {cut.name: cut.shape for cut in split(model, torch.rand(2, *shape), list(cuts)).cuts} == cuts


def test_they_have_the_linear_layers_of_their_originals():
    assert lenet().linear.in_features == 720
    assert alexnet().linear1[0].in_features == 1024


def test_alexnet_keeps_the_size_of_what_goes_through_it_at_first():
    """From torch's own weights a convolution without ReLU would leave a third of its variance."""
    torch.manual_seed(0)
    conv = alexnet().conv4
    said = conv(torch.randn(4, 96, 32, 32))
    assert said.var().item() == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("side", [8, 13, 28])
@pytest.mark.parametrize("build", [lenet, alexnet])
def test_they_take_other_sizes(build, side):
    assert build(classes=3, in_channels=2, side=side).eval()(torch.rand(2, 2, side, side)).shape == (2, 3)


@pytest.mark.parametrize(("build", "side"), [(lenet, 0), (alexnet, 7)])
def test_images_that_are_too_small_are_refused(build, side):
    with pytest.raises(ModelError):
        build(side=side)


@pytest.mark.parametrize("build", [lenet, alexnet])
def test_they_learn_from_scratch(build):
    torch.manual_seed(0)
    model = build(classes=3, in_channels=1, side=8)
    centres, labels = 3.0 * torch.randn(3, 1, 8, 8), torch.arange(30) % 3
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(centres[labels] + 0.2 * torch.randn(30, 1, 8, 8)), labels).backward()
        optimizer.step()
    assert (model.eval()(centres).argmax(-1) == torch.arange(3)).all()
