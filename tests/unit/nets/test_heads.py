"""What is particular to each head; what all have in common is in tests/contracts/test_heads.py."""

import pytest
import torch
from torch import nn

from eesearch.core.design import HeadSpec, TapSpec
from eesearch.core.errors import HeadError, InputError
from eesearch.nets.heads import build_head, read_tap, tap_shape

MAP = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).view(2, 3, 4, 4)


def test_average_pooling_takes_means_of_quarters():
    got = read_tap(MAP, TapSpec(pool="avg", size=2))
    assert torch.equal(got[:, :, 0, 1], MAP[:, :, :2, 2:].mean((2, 3)))


def test_mixed_pooling_appends_the_maxima():
    got = read_tap(MAP, TapSpec(pool="mixed", size=1))
    assert torch.equal(got[:, :3, 0, 0], MAP.mean((2, 3)))
    assert torch.equal(got[:, 3:, 0, 0], MAP.amax((2, 3)))


def test_a_sequence_is_pooled_over_its_tokens():
    sequence = torch.arange(2.0 * 4 * 3).view(2, 4, 3)  # [N, T, D]
    got = read_tap(sequence, TapSpec(pool="mixed", size=2))
    assert got.shape[1:] == tap_shape((4, 3), TapSpec(pool="mixed", size=2)) == (6, 2)
    assert torch.equal(got[:, :3, 0], sequence[:, :2].mean(1))
    assert torch.equal(got[:, 3:, 1], sequence[:, 2:].amax(1))


@pytest.mark.parametrize("pool", ["none", "avg", "mixed"])
def test_vectors_are_never_pooled(pool):
    vector = torch.ones(2, 5)
    assert read_tap(vector, TapSpec(pool=pool, size=3)) is vector
    assert tap_shape((5,), TapSpec(pool=pool, size=3)) == (5,)


def test_a_full_map_is_read_as_it_is():
    assert read_tap(MAP, TapSpec(pool="none")) is MAP


def test_a_map_smaller_than_the_pool_is_refused_with_the_size_that_fits():
    with pytest.raises(HeadError, match="at most 2"):
        tap_shape((8, 2, 3), TapSpec(size=3))


@pytest.mark.parametrize(("side", "stride"), [(8, 1), (9, 2)])
@pytest.mark.parametrize("kind", ["conv", "dsconv"])
def test_convolutions_halve_large_maps(kind, side, stride):
    body = build_head(HeadSpec(kind=kind, pool="none"), (4, side, side), 3).body
    assert next(m.stride for m in body.modules() if isinstance(m, nn.Conv2d)) == (stride, stride)


def test_depthwise_separable_convolution_has_fewer_weights():
    def weights(kind):
        head = build_head(HeadSpec(kind=kind, pool="none", channels=32), (32, 8, 8), 3)
        return sum(m.weight.numel() for m in head.modules() if isinstance(m, nn.Conv2d))

    assert weights("conv") == 32 * 32 * 9
    assert weights("dsconv") == 32 * 9 + 32 * 32


def test_mlp_has_the_widths_asked_for():
    body = build_head(HeadSpec(kind="mlp", size=2, hidden=(7, 5)), (3, 4, 4), 2).body
    widths = [(m.in_features, m.out_features) for m in body.modules() if isinstance(m, nn.Linear)]
    assert widths == [(12, 7), (7, 5), (5, 2)]


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(InputError, match="conv, dsconv, linear, mlp"):
        build_head(HeadSpec(kind="forest"), (3, 4, 4), 2)
