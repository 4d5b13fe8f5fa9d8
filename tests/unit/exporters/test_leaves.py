import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from eesearch.core.errors import ModelError
from eesearch.exporters.leaves import layer_source, literal

ENCODER_LAYER = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu", norm_first=True)
LAYERS = [
    nn.Conv2d(1, 8, 3, padding=1, bias=False),
    nn.Conv2d(8, 8, (3, 5), padding="same", groups=8, padding_mode="reflect"),
    nn.Conv1d(3, 4, 3, 2, dilation=2),
    nn.ConvTranspose2d(3, 4, 2, 2, output_padding=1),
    nn.BatchNorm2d(8, eps=1e-3, momentum=None),
    nn.BatchNorm1d(8, affine=False, track_running_stats=False),
    nn.InstanceNorm2d(3),
    nn.GroupNorm(2, 8, affine=False),
    nn.LayerNorm((4, 8), bias=False),
    nn.LayerNorm(8, elementwise_affine=False),
    nn.RMSNorm(8),
    nn.LocalResponseNorm(5),
    nn.Linear(3, 4),
    nn.Linear(3, 4, bias=False),
    nn.Bilinear(2, 3, 4),
    nn.Embedding(10, 4, padding_idx=0),
    nn.EmbeddingBag(10, 3, mode="sum"),
    nn.ReLU(inplace=True),
    nn.LeakyReLU(0.2),
    nn.GELU("tanh"),
    nn.SiLU(),
    nn.Hardtanh(-2.0, float("inf")),
    nn.PReLU(3),
    nn.Softmax(-1),
    nn.Dropout(0.1),
    nn.Identity(),
    nn.Flatten(2),
    nn.Unflatten(1, (2, 4)),
    nn.MaxPool2d(2, ceil_mode=True),
    nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    nn.AdaptiveAvgPool2d((1, None)),
    nn.ZeroPad2d((1, 2, 3, 4)),
    nn.Upsample(scale_factor=2, mode="bilinear"),
    nn.PixelShuffle(2),
    nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True, proj_size=2),
    nn.GRU(3, 4, bias=False),
    nn.RNN(3, 4, nonlinearity="relu"),
    nn.GRUCell(3, 4),
    nn.MultiheadAttention(8, 2, batch_first=True, kdim=3, bias=False),
    nn.MultiheadAttention(8, 2, add_bias_kv=True, add_zero_attn=True, dropout=0.1),
    nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation=nn.SiLU(), bias=False),
    ENCODER_LAYER,
    nn.TransformerEncoder(ENCODER_LAYER, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_the_text_makes_the_same_layer(layer):
    twin = eval(layer_source(layer, "here"), {"nn": nn, "torch": torch})
    assert str(twin) == str(layer)
    twin.load_state_dict(layer.state_dict())


def test_defaults_are_not_told():
    assert layer_source(nn.Conv2d(1, 8, 3, padding=1, bias=False), "x") == (
        "nn.Conv2d(1, 8, (3, 3), padding=(1, 1), bias=False)"
    )
    assert layer_source(nn.BatchNorm2d(8), "x") == "nn.BatchNorm2d(8)"


class Own(nn.Linear):
    pass


def own_activation(x):
    return x


@pytest.mark.parametrize("layer", [Own(2, 3), parametrizations.weight_norm(nn.Linear(2, 3)), nn.Sequential(nn.ReLU())])
def test_what_a_constructor_call_does_not_tell_is_refused(layer):
    with pytest.raises(ModelError, match=r"(?s)'block\.0' cannot be written as plain PyTorch.*--to onnx"):
        layer_source(layer, "block.0")


@pytest.mark.parametrize("activation", [lambda x: x, own_activation])
def test_an_activation_of_somebody_s_own_is_refused(activation):
    layer = nn.TransformerEncoderLayer(8, 2, 16, activation=activation)
    with pytest.raises(ModelError, match=r"is no function of torch\.nn\.functional"):
        layer_source(layer, "block.0")


def test_plain_values():
    value = (1, [float("-inf"), 'a"b\\'], None, True)
    assert eval(literal(value)) == value
    assert literal((1,)) == "(1,)"
