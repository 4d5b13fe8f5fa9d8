import pytest
import torch
import torch.nn.functional as F
from torch import nn

from eesearch.nets.split import split


class Moved(nn.Module):
    """Convolutions between which channels are last, as in ConvNeXt and Swin."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.mixers = nn.ModuleList(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU()) for _ in range(3))
        self.last = nn.Linear(8, 2)

    def forward(self, x):
        x = self.stem(x).permute(0, 2, 3, 1)
        for mixer in self.mixers:
            x = x + mixer(x)
        return self.last(x.mean((1, 2)))


def test_maps_with_channels_last_are_read_channels_first():
    model, x = Moved(), torch.randn(3, 3, 8, 6)
    backbone = split(model, x, check_gradients=True)
    assert {(cut.shape, cut.kind) for cut in backbone.cuts} == {((8, 4, 3), "map")}
    tap = backbone.tap(0, backbone.run(backbone.start(x), 0, 1))
    hidden = model.stem(x)
    torch.testing.assert_close(tap, hidden)
    kept = backbone.keep([backbone.cuts[1].name])
    torch.testing.assert_close(kept(x), model(x))


def test_series_of_convolutions_are_sequences_and_tokens_are_tokens():
    series = nn.Sequential(
        nn.Conv1d(2, 4, 3),
        nn.ReLU(),
        nn.Conv1d(4, 6, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(6, 2),
    )
    backbone = split(series, torch.randn(3, 2, 12), ["1", "3"], check_gradients=True)
    assert [(cut.shape, cut.kind) for cut in backbone.cuts] == [((10, 4), "sequence"), ((8, 6), "sequence")]
    tokens = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 6), nn.GELU(), nn.Flatten(), nn.Linear(30, 2))
    backbone = split(tokens, torch.randn(3, 5, 4), ["1"])
    assert [(cut.shape, cut.kind) for cut in backbone.cuts] == [((5, 6), "tokens")]


@pytest.mark.parametrize(
    "move",
    [
        lambda x: x.transpose(1, 2),
        lambda x: torch.transpose(x, -1, -2),
        lambda x: x.transpose(dim0=1, dim1=2),
        lambda x: torch.swapaxes(x, 1, 2),
        lambda x: torch.permute(input=x, dims=(0, 2, 1)),
    ],
)
def test_a_transposed_map_of_patches_is_tokens(move):
    class Patches(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 4, 4)
            self.mixer = nn.Linear(8, 8)
            self.last = nn.Linear(8, 2)

        def forward(self, x):
            tokens = move(self.patches(x).flatten(2))
            return self.last(self.mixer(tokens).relu().mean(1))

    backbone = split(Patches(), torch.randn(2, 3, 8, 8))
    assert (backbone.cuts[0].shape, backbone.cuts[0].kind) == ((4, 8), "tokens")


def test_a_mask_rides_along():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(9, 6)
            self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
            self.last = nn.Linear(6, 2)

        def forward(self, ids):
            there = (ids != 0)[:, :, None]
            x = self.embed(ids)
            for block in self.blocks:
                x = block(x).relu() * there
            return self.last(x.sum(1) / there.sum(1))

    ids = torch.randint(1, 9, (4, 5))
    ids[1, 2:] = 0
    backbone = split(Masked(), ids, check_gradients=True)
    assert [cut.kind for cut in backbone.cuts] == ["tokens"] * 3
    carry = backbone.run(backbone.start(ids), 0, 2)
    assert [tuple(tensor.shape[1:]) for tensor in carry] in ([(5, 6), (5, 1)], [(5, 6), (5, 1), (5,)])
    assert not carry[0][1, 2:].any()


class Normed(nn.Module):
    """A norm without weights over all of a value but the batch."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x):
        return self.norm(x)


@pytest.mark.parametrize(
    "norm",
    [
        nn.LayerNorm([16, 6, 5]),
        nn.RMSNorm([16, 6, 5]),
        Normed(lambda x: F.layer_norm(x, [16, 6, 5])),
        Normed(lambda x: F.layer_norm(x, normalized_shape=x.shape[1:])),
    ],
)
def test_a_norm_over_several_axes_leaves_the_channels_where_they_were(norm):
    model = nn.Sequential(
        nn.Conv2d(3, 16, 1), norm, nn.ReLU(), nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(120, 2)
    )
    backbone = split(model, torch.randn(2, 3, 6, 5), ["2"])
    assert [(cut.shape, cut.kind) for cut in backbone.cuts] == [((16, 6, 5), "map")]
    series = nn.Sequential(nn.Conv1d(3, 8, 1), nn.LayerNorm([8, 10]), nn.ReLU(), nn.Flatten(), nn.Linear(80, 2))
    backbone = split(series, torch.randn(2, 3, 10), ["2"])
    assert [(cut.shape, cut.kind) for cut in backbone.cuts] == [((10, 8), "sequence")]


class Mixing(nn.Module):
    """Convolutions over tokens, as in MLP-Mixer; the branch is the first or the second summand."""

    def __init__(self, first):
        super().__init__()
        self.first = first
        self.embed, self.last = nn.Linear(4, 6), nn.Linear(6, 2)
        self.norms = nn.ModuleList(nn.LayerNorm(6) for _ in range(3))
        self.mixers = nn.ModuleList(nn.Sequential(nn.Conv1d(5, 7, 1), nn.GELU(), nn.Conv1d(7, 5, 1)) for _ in range(3))

    def forward(self, x):
        x = self.embed(x)
        for norm, mixer in zip(self.norms, self.mixers, strict=True):
            x = mixer(norm(x)) + x if self.first else x + mixer(norm(x))
        return self.last(x.mean(1))


@pytest.mark.parametrize("first", [True, False])
def test_a_sum_has_the_layout_of_the_residual_stream(first):
    backbone = split(Mixing(first), torch.randn(2, 5, 4), ["embed", "add", "add_1"])
    assert [(cut.shape, cut.kind) for cut in backbone.cuts] == [((5, 6), "tokens")] * 3


class Beside(nn.Module):
    """A projection over time is computed before the convolution that it is added to."""

    def __init__(self):
        super().__init__()
        self.over_time, self.conv, self.last = nn.Linear(20, 20), nn.Conv1d(4, 4, 3, padding=1), nn.Linear(80, 3)

    def forward(self, x):
        beside = self.over_time(x)
        return self.last(torch.relu(self.conv(x) + beside).flatten(1))


def test_a_sum_of_two_branches_has_the_layout_of_the_first():
    backbone = split(Beside(), torch.randn(2, 4, 20), ["relu"])
    assert [(cut.shape, cut.kind) for cut in backbone.cuts] == [((20, 4), "sequence")]


class Recurrences(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.LSTM(4, 6, batch_first=True), nn.GRU(6, 8, batch_first=True)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        hidden, _ = self.first(x)
        hidden, _ = self.second(hidden)
        return self.last(hidden[:, -1])


def test_a_recurrence_gives_a_sequence_and_its_unread_state_blocks_no_cut():
    model, x = Recurrences(), torch.randn(3, 5, 4)
    backbone = split(model, x, check_gradients=True)
    assert [(cut.name, cut.shape, cut.kind) for cut in backbone.cuts] == [("getitem", (5, 6), "sequence")]
    tap = backbone.tap(0, backbone.run(backbone.start(x), 0, 1))
    torch.testing.assert_close(tap, model.first(x)[0])


@pytest.mark.parametrize("layer", [nn.InstanceNorm1d(4), nn.AdaptiveAvgPool1d(8), nn.AdaptiveMaxPool1d(8)])
def test_pools_and_norms_of_series_give_sequences(layer):
    model = nn.Sequential(nn.Conv1d(2, 4, 1), layer, nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
    backbone = split(model, torch.randn(3, 2, 8), ["1"])
    assert [(cut.shape, cut.kind) for cut in backbone.cuts] == [((8, 4), "sequence")]
