import pytest
import torch
import torch.nn.functional as F

from eesearch.core.errors import ModelError
from eesearch.nets.zoo import cifar_resnet, mlp, residual_cnn, tiny_resnet, transformer


def test_cifar_resnet_has_the_published_size_and_names():
    model = cifar_resnet(depth=20)
    assert sum(p.numel() for p in model.parameters()) == 269_722
    names = set(model.state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer1.0.conv1.weight", "layer3.2.bn2.bias", "linear.bias"} <= names
    assert not any("shortcut" in name for name in names)


def test_cifar_shortcut_pads_channels_evenly_on_both_sides():
    block = cifar_resnet(depth=8).layer2[0].eval()
    torch.nn.init.zeros_(block.bn2.weight)  # nothing but the shortcut
    x = torch.rand(1, 16, 4, 4)
    y = block(x)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()


def test_tiny_resnet_has_the_published_size_and_pads_right_and_below():
    model = tiny_resnet().eval()
    assert sum(p.numel() for p in model.parameters()) == 78_186
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    block = model.block2
    torch.nn.init.zeros_(block.shortcut.weight)
    torch.nn.init.zeros_(block.shortcut.bias)
    x = torch.zeros(1, 16, 4, 4)
    x[..., 0, 0] = 100.0  # the first corner is read by the first window only, as nothing is padded before it
    changed = (
        (block.conv1(torch.nn.functional.pad(x, (0, 1, 0, 1))) - block.conv1(torch.zeros(1, 16, 5, 5))).abs().sum(1)
    )
    assert changed[0, 0, 0] > 0.0
    assert not changed[0].flatten()[1:].any()


@pytest.mark.parametrize("depth", [2, 19, 55])
def test_impossible_depths_are_refused(depth):
    with pytest.raises(ModelError, match="6 n"):
        cifar_resnet(depth=depth)


def test_residual_cnn_takes_any_image_size_and_blocks():
    model = residual_cnn(channels=(4, 8), blocks=2, classes=5, in_channels=2).eval()
    assert model(torch.rand(3, 2, 9, 11)).shape == (3, 5)
    assert len(model.stages) == 2
    assert all(len(stage) == 2 for stage in model.stages)


def test_a_residual_cnn_without_blocks_is_refused():
    with pytest.raises(ModelError):
        residual_cnn(blocks=0)


def test_a_transformer_has_a_token_per_patch():
    model = transformer(side=8, patch=4, width=12, depth=2, heads=3, classes=5, in_channels=2).eval()
    assert model(torch.rand(3, 2, 8, 8)).shape == (3, 5)
    assert model.position.shape == (1, 4, 12)


def test_a_transformer_whose_sizes_do_not_divide_is_refused():
    with pytest.raises(ModelError, match="divide"):
        transformer(side=9)


def test_mlp_flattens_its_samples():
    assert mlp(features=12, hidden=(7,), classes=3)(torch.rand(2, 3, 2, 2)).shape == (2, 3)


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda: residual_cnn(channels=(4, 8), classes=3), (1, 8, 8)),
        (lambda: mlp(features=16, hidden=(16, 16), classes=3), (16,)),
        (lambda: transformer(side=8, patch=4, width=8, depth=1, heads=2, classes=3), (1, 8, 8)),
    ],
)
def test_networks_learn_from_scratch(build, shape):
    torch.manual_seed(0)
    model = build()
    centres, labels = torch.randn(3, *shape), torch.arange(30) % 3
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(model(centres[labels] + 0.2 * torch.randn(30, *shape)), labels).backward()
        optimizer.step()
    assert (model.eval()(centres).argmax(-1) == torch.arange(3)).all()
