"""Counts are formulas of the dimensions; torch's own counter (2 per multiply-add) agrees."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.flop_counter import FlopCounterMode

from eesearch.core.design import HeadSpec
from eesearch.core.errors import CostError
from eesearch.costs import macs
from eesearch.costs.macs import count_macs
from eesearch.nets.heads import build_head


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, *args):
        return self.function(self, *args)


def fitted(kind, **sizes):
    """A head of three classes on six features."""
    return build_head(HeadSpec(kind=kind, **sizes), (6,), 3)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.body = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.skip = nn.Conv2d(8, 16, 1, stride=2)
        self.linear = nn.Linear(16, 10)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = self.body(x) + self.skip(x)
        x = nn.functional.max_pool2d(x, 2)
        return self.linear(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)).softmax(-1)


def torch_macs(module, args):
    """torch's counter on the meta device, where LSTM and attention are taken apart into products."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        module = module.eval().to("meta")
        args = tuple(a.to("meta") for a in args)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            module(*args)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() / 2


def attention(d, n, hidden):
    """In- and output projections, q k^T and its product with v, two layers of the MLP."""
    return 4 * n * d * d + 2 * n * n * d + 2 * n * d * hidden


CASES = {
    "linear": (nn.Linear(7, 5), (torch.zeros(3, 7),), 3 * 7 * 5),
    "linear of a sequence": (nn.Linear(7, 5), (torch.zeros(2, 4, 7),), 2 * 4 * 7 * 5),
    "conv": (nn.Conv2d(3, 8, 3, padding=1), (torch.zeros(2, 3, 6, 6),), 2 * 36 * 8 * 3 * 9),
    "conv with groups and stride": (
        nn.Conv2d(4, 8, 3, groups=2, stride=2, padding=1),
        (torch.zeros(1, 4, 8, 8),),
        16 * 8 * 2 * 9,
    ),
    "depthwise conv": (nn.Conv2d(6, 6, 3, groups=6, padding=1), (torch.zeros(1, 6, 5, 5),), 25 * 6 * 9),
    "dilated conv": (nn.Conv2d(2, 3, 3, dilation=2), (torch.zeros(1, 2, 7, 7),), 9 * 3 * 2 * 9),
    "conv of padding same": (nn.Conv2d(3, 8, 3, padding="same"), (torch.zeros(1, 3, 6, 6),), 36 * 8 * 3 * 9),
    "conv1d": (nn.Conv1d(3, 8, 5), (torch.zeros(1, 3, 12),), 8 * 8 * 3 * 5),
    "transposed conv": (nn.ConvTranspose2d(3, 8, 3, stride=2), (torch.zeros(1, 3, 5, 5),), 25 * 3 * 8 * 9),
    "logistic regression": (fitted("logistic"), (torch.zeros(2, 6),), 2 * 6 * 3),
    "linear svm": (fitted("svm"), (torch.zeros(1, 6),), 6 * 3),
    "decision tree": (fitted("tree", depth=4), (torch.zeros(1, 6),), 4),
    "boosted trees": (fitted("boosting", depth=4, rounds=5), (torch.zeros(2, 6),), 2 * 5 * 3 * 4),
    "mlp": (nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4)), (torch.zeros(1, 8),), 8 * 16 + 16 * 4),
    "residual cnn": (
        Residual(),
        (torch.zeros(1, 3, 8, 8),),
        64 * 8 * 3 * 9 + 16 * 16 * 8 * 9 + 16 * 16 * 8 + 16 * 10,
    ),
    "encoder layer": (
        nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.0),
        (torch.zeros(1, 5, 16),),
        attention(16, 5, 32),
    ),
    "attention with weights": (
        Apply(lambda m, x: m.mha(x, x, x)[0], mha=nn.MultiheadAttention(16, 4, batch_first=True)),
        (torch.zeros(2, 5, 16),),
        2 * attention(16, 5, 0),
    ),
    "sdpa": (
        Apply(lambda m, q, k, v: nn.functional.scaled_dot_product_attention(q, k, v)),
        (torch.zeros(2, 3, 5, 8), torch.zeros(2, 3, 7, 8), torch.zeros(2, 3, 7, 4)),
        2 * 3 * 5 * 7 * (8 + 4),
    ),
    "lstm": (nn.LSTM(6, 8, batch_first=True), (torch.zeros(2, 5, 6),), 2 * 5 * 4 * 8 * (6 + 8)),
    "bidirectional lstm of two layers": (
        nn.LSTM(6, 8, num_layers=2, bidirectional=True),
        (torch.zeros(5, 1, 6),),
        5 * 2 * 4 * 8 * ((6 + 8) + (16 + 8)),
    ),
    "gru": (nn.GRU(6, 8), (torch.zeros(5, 2, 6),), 10 * 3 * 8 * (6 + 8)),
    "rnn": (nn.RNN(6, 8, nonlinearity="relu"), (torch.zeros(5, 2, 6),), 10 * 8 * (6 + 8)),
    "einsum": (
        Apply(lambda m, a, b: torch.einsum("bhid,bhjd->bhij", a, b)),
        (torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 6, 5)),
        2 * 3 * 4 * 6 * 5,
    ),
    "baddbmm": (Apply(lambda m, c, a, b: torch.baddbmm(c, a, b)), tuple(torch.zeros(2, 4, 4) for _ in "abc"), 2 * 64),
    "matrix and vector": (Apply(lambda m, a, b: a @ b), (torch.zeros(3, 5), torch.zeros(5)), 15),
}


UNKNOWN_TO_TORCH = ("gru", "rnn", "matrix and vector", "decision tree", "boosted trees")


@pytest.mark.parametrize("name", CASES)
def test_count_is_the_formula(name):
    module, args, expected = CASES[name]
    assert count_macs(module, args) == expected


@pytest.mark.parametrize("name", [n for n in CASES if n not in UNKNOWN_TO_TORCH])
def test_torchs_counter_agrees(name):
    module, args, expected = CASES[name]
    assert torch_macs(copy.deepcopy(module), args) == expected


def test_broadcast_products():
    product = Apply(lambda m, a, b: a @ b)
    assert count_macs(product, (torch.zeros(3, 5), torch.zeros(2, 5, 4))) == 2 * 3 * 5 * 4
    dots = Apply(lambda m, a, b: torch.einsum("b...i,ij->b...j", a, b))
    assert count_macs(dots, (torch.zeros(2, 3, 4, 5), torch.zeros(5, 6))) == 2 * 3 * 4 * 5 * 6


def test_packed_lstm_counts_the_steps_that_run():
    lstm = nn.LSTM(6, 8, batch_first=True)
    packed = Apply(
        lambda m, x: m.lstm(pack_padded_sequence(x, torch.tensor([3, 2]), batch_first=True))[0].data, lstm=lstm
    )
    assert count_macs(packed, (torch.zeros(2, 3, 6),)) == 5 * 4 * 8 * (6 + 8)


def test_norms_pooling_activations_count_zero():
    layers = [nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.LayerNorm([4, 8, 8]), nn.Upsample(scale_factor=2)]
    layers += [nn.AvgPool2d(2), nn.Hardswish(), nn.SiLU(), nn.Dropout(), nn.AdaptiveAvgPool2d(2), nn.PReLU()]
    assert count_macs(nn.Sequential(*layers), (torch.rand(1, 4, 8, 8),)) == 0


def test_unknown_operation_is_named_with_its_module():
    model = nn.Sequential(nn.Linear(3, 3), Apply(lambda m, x: torch.cdist(x, x)))
    with pytest.raises(CostError, match=r"aten::cdist in '1'.*MAC_RULES"):
        count_macs(model, (torch.zeros(2, 3),))


def test_registered_rule_counts(monkeypatch):
    monkeypatch.setitem(macs.MAC_RULES, "aten::cdist", lambda i, o: macs.shape(i[0])[-1] * sum(macs.shape(o[0])))
    assert count_macs(Apply(lambda m, x: torch.cdist(x, x)), (torch.zeros(2, 3),)) == 3 * (2 + 2)


class _Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x @ x


def _scripted():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.script.*deprecated", category=DeprecationWarning)
        return torch.jit.script(torch.nn.functional.softsign)


def test_what_cannot_be_looked_into_raises():
    scripted = _scripted()
    with pytest.raises(CostError, match="scripted"):
        count_macs(Apply(lambda m, x: scripted(x)), (torch.zeros(2, 2),))
    with pytest.raises(CostError, match="PythonOp"):
        count_macs(Apply(lambda m, x: _Square.apply(x)), (torch.zeros(2, 2),))
    with pytest.raises(CostError, match="3 operands"):
        count_macs(Apply(lambda m, x: torch.einsum("ij,jk,kl->il", x, x, x)), (torch.zeros(2, 2),))


def test_module_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), Apply(lambda m, x: 1 / 0)).train()
    model[0].eval()
    kept = model[0].register_forward_hook(lambda *_: None)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CostError, match="ZeroDivisionError"):
        count_macs(model, (torch.zeros(2, 3),))
    assert [m.training for m in model.modules()] == [True, False, True, True]
    assert list(model[0]._forward_hooks) == [kept.id]
    assert not any(m._forward_pre_hooks for m in model.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.backends.mha.get_fastpath_enabled()
