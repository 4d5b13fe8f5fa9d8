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
    with pytest.raises(InputError, match="boosting, conv, dsconv, linear, logistic, mlp, none, svm, tree"):
        build_head(HeadSpec(kind="forest"), (3, 4, 4), 2)


def seeded(spec, cut_shape, classes=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_head(spec, cut_shape, classes)


def hidden(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


class TestGates:
    """A gate in a head is the mean of its logits, and nothing else of them."""

    @pytest.mark.parametrize("gate", ["linear", "mlp"])
    def test_probabilities_are_those_of_the_head_without(self, gate):
        spec = HeadSpec(pool="mixed", size=2)
        plain, gated = seeded(spec, (4, 6, 6)), seeded(spec.model_copy(update={"gate": gate}), (4, 6, 6))
        x = hidden(5, 4, 6, 6)
        torch.testing.assert_close(gated(x).softmax(-1), plain(x).softmax(-1))
        for name, tensor in plain.body.state_dict().items():  # a gate draws its weights after its head
            assert torch.equal(gated.body.body.state_dict()[name], tensor)

    def test_the_mean_of_the_logits_is_the_gate_on_features_and_figures(self):
        head = seeded(HeadSpec(gate="linear"), (4, 6, 6))
        x = hidden(5, 4, 6, 6)
        p = head(x).softmax(-1)
        top = p.sort(-1, descending=True).values
        entropy = 1 + (p * p.log()).sum(-1) / torch.tensor(3.0).log()
        seen = torch.cat([x.mean((2, 3)), p, top[:, :1], top[:, :1] - top[:, 1:2], entropy[:, None]], 1)
        torch.testing.assert_close(head(x).mean(-1), head.body.gate(seen)[:, 0])

    @pytest.mark.parametrize(
        ("spec", "shape", "width"),
        [
            (HeadSpec(gate="mlp", pool="mixed", size=2), (4, 6, 6), 2 * 4 * 4),
            (HeadSpec(gate="mlp", kind="conv", pool="none"), (4, 6, 6), 4),
            (HeadSpec(gate="mlp", pool="avg", size=2), (7, 6), 6 * 2),
            (HeadSpec(gate="mlp"), (12,), 12),
        ],
    )
    def test_full_maps_are_averaged_over_positions(self, spec, shape, width):
        first, relu, last = seeded(spec, shape).body.gate
        assert (first.in_features, first.out_features, last.in_features) == (width + 3 + 3, 16, 16)
        assert isinstance(relu, nn.ReLU)

    def test_the_gate_teaches_its_head_nothing(self):
        head = seeded(HeadSpec(gate="mlp", pool="mixed", size=2), (4, 6, 6))
        x = hidden(5, 4, 6, 6).requires_grad_()
        head(x).mean().backward()
        still = [p.grad.abs().max() for p in (*head.body.body.parameters(),)]
        assert max(*still, x.grad.abs().max()) < 1e-7
        assert all(p.grad.abs().max() > 1e-4 for p in head.body.gate.parameters())

    def test_sure_heads_stay_finite(self):
        head = seeded(HeadSpec(gate="linear"), (4,))
        logits = head(1e4 * hidden(50, 4))
        assert logits.isfinite().all()

    def test_fitted_heads_learn_no_gate(self):
        with pytest.raises(HeadError, match="is fitted, and learns no gate; got gate 'linear'"):
            build_head(HeadSpec(kind="tree", gate="linear"), (12,), 3)
