import copy
import pickle

import cloudpickle
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from eesearch.core.errors import ModelError, SplitError
from eesearch.nets.inputs import Normalize, Preprocessed
from eesearch.nets.split import Backbone, Cut, split
from eesearch.nets.zoo import cifar_resnet, mlp, residual_cnn, transformer


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def images(samples=3, channels=1, side=8):
    return torch.randn(samples, channels, side, side)


def names(backbone):
    return [cut.name for cut in backbone.cuts]


def assert_same(backbone, model, x):
    for batch in (x, x[:1]):
        with torch.no_grad():
            torch.testing.assert_close(backbone(batch), model.eval()(batch), rtol=1e-5, atol=1e-6)


class TestAuto:
    def test_cuts_a_sequential_after_its_hidden_activations(self):
        model = mlp(features=4, hidden=(8, 8, 8), classes=3)
        backbone = split(model, torch.randn(5, 4))
        # Flatten 0, Linear 1, ReLU 2, Linear 3, ReLU 4, ...; after the last ReLU only the classifier would remain.
        assert backbone.cuts == (Cut("2", (8,), "vector"), Cut("4", (8,), "vector"))
        assert len(backbone.segments) == 3
        assert_same(backbone, model, torch.randn(5, 4))

    def test_cuts_the_cifar_resnet_after_its_stem_and_all_blocks_but_the_last(self):
        backbone = split(cifar_resnet(depth=56), images(2, 3, 8))
        blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(9)]
        assert names(backbone) == ["relu", *blocks[:-1]]
        assert len(backbone.cuts) == 27

    def test_finds_map_shapes_in_a_residual_cnn(self):
        model = residual_cnn(channels=(4, 8), blocks=2)
        backbone = split(model, images())
        assert names(backbone) == ["stem.2", "stages.0.0", "stages.0.1", "stages.1.0"]
        assert [cut.shape for cut in backbone.cuts] == [(4, 8, 8), (4, 8, 8), (4, 8, 8), (8, 4, 4)]
        assert {cut.kind for cut in backbone.cuts} == {"map"}
        assert_same(backbone, model, images())

    def test_a_sequential_of_untraceable_modules_is_cut_between_them(self):
        class Gated(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(4, 4)

            def forward(self, x):
                return self.layer(x) if x.sum() > 0 else -self.layer(x)

        model = nn.Sequential(nn.Sequential(Gated(), nn.ReLU()), Gated(), nn.Linear(4, 2))
        backbone = split(model, torch.rand(1, 4))
        assert names(backbone) == ["0.1"]

    def test_a_reused_activation_is_no_shared_weight_and_names_the_block(self):
        class Block(nn.Module):
            def __init__(self):
                super().__init__()
                self.relu = nn.ReLU(inplace=True)
                self.conv1, self.conv2 = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)

            def forward(self, x):
                out = self.conv2(self.relu(self.conv1(x)))
                out += x
                return self.relu(out)

        model = nn.Sequential(nn.Conv2d(1, 2, 1), Block(), Block(), nn.Flatten(), nn.Linear(128, 3))
        backbone = split(model, images())
        assert names(backbone) == ["0", "1"]
        assert_same(backbone, model, images())

    def test_a_batch_size_read_early_does_not_block_cuts(self):
        class Reads(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b, self.c = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Linear(32, 3)

            def forward(self, x):
                batch, height = x.shape[0], x.shape[2]
                x = F.relu(self.b(F.relu(self.a(x))))
                return self.c(x.view(batch, -1) / height)

        model = Reads()
        backbone = split(model, images())
        assert names(backbone) == ["relu"]
        assert all(len(backbone.run((images(),), 0, k + 1)) == 1 for k in range(2))
        assert_same(backbone, model, images(5))

    def test_constants_do_not_depend_on_how_often_tracing_failed(self):
        class Block(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(6, 6)

            def forward(self, x):
                assert x.shape[-1] == 6
                return self.layer(x).relu()

        class Positions(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.positions = nn.Linear(4, 6), nn.Embedding(5, 6)
                self.blocks = nn.ModuleList(Block() for _ in range(3))
                self.last = nn.Linear(6, 2)

            def forward(self, x):
                x = self.embed(x) + self.positions(torch.arange(5))
                for block in self.blocks:
                    x = block(x)
                return self.last(x.mean(1))

        backbone = split(Positions(), torch.rand(2, 5, 4), check_gradients=True)
        assert names(backbone) == ["embed", "add", "blocks.0", "blocks.1"]

    def test_optional_arguments_of_forward_keep_their_defaults(self):
        class Optional(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = mlp(features=4, hidden=(4, 4), classes=2)

            def forward(self, x, mask=None, scale=2.0):
                return self.layers(x if mask is None else x * mask) * scale

        backbone = split(Optional(), torch.rand(2, 4))
        assert names(backbone) == ["layers.2"]

    def test_refuses_a_network_without_a_place(self):
        with pytest.raises(SplitError, match=r"Name the cuts yourself.*Possible cuts: 0, 1"):
            split(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), torch.rand(2, 4))


class TestByHand:
    def test_cuts_after_the_named_modules_in_the_order_of_the_network(self):
        model = residual_cnn(channels=(4, 8), blocks=2)
        backbone = split(model, images(), ["stages.1", "stages.0.0"])
        assert names(backbone) == ["stages.0.0", "stages.1"]
        assert_same(backbone, model, images())

    def test_a_cut_inside_a_block_carries_the_shortcut_along(self):
        model = residual_cnn(channels=(4, 8))
        x = images()
        backbone = split(model, x, ["stages.0.0.bn1"])
        assert len(backbone.segments) == 2
        carry = backbone.run(backbone.start(x), 0, 1)
        assert len(carry) == 2
        stem = model.eval().stem(x)
        block = model.stages[0][0]
        torch.testing.assert_close(backbone.tap(0, carry), block.bn1(block.conv1(stem)))
        torch.testing.assert_close(carry[1], stem)
        assert_same(backbone, model, x)

    def test_the_name_of_an_automatic_cut_gives_the_same_cut(self):
        model, x = cifar_resnet(depth=8), images(2, 3)
        assert split(model, x, names(split(model, x))).cuts == split(model, x).cuts

    @pytest.mark.parametrize(
        ("cuts", "says"),
        [
            (["stages.7"], "no such module. Did you mean 'stages"),
            (["linear"], "nothing comes after it"),
            (["stem", "stem.2"], "the same place"),
            (["stem", "stem"], "the same place"),
            (["stages"], "never calls it"),
        ],
    )
    def test_refuses_what_is_no_cut(self, cuts, says):
        with pytest.raises(SplitError, match=says):
            split(residual_cnn(channels=(4, 8)), images(), cuts)

    def test_asks_which_call_of_a_module_is_meant(self):
        looped = _Looped(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        with pytest.raises(SplitError, match=r"called 2 time\(s\); expected one of act@1, act@2"):
            split(looped, torch.rand(2, 4), ["act"])
        assert names(split(looped, torch.rand(2, 4), ["act@2"])) == ["act@2"]

    def test_a_module_called_output_is_not_taken_for_the_networks_own_classifier(self):
        class Named(nn.Module):
            def __init__(self):
                super().__init__()
                self.output, self.model_x = nn.Linear(4, 4), nn.Linear(4, 2)

            def forward(self, x):
                return self.model_x(F.relu(self.output(x))).exp()

        backbone = split(Named(), torch.rand(2, 4), ["output@1", "model_x"])
        assert names(backbone) == ["output@1", "model_x"]
        with pytest.raises(SplitError, match="output@1"):
            split(Named(), torch.rand(2, 4), ["output"])

    def test_refuses_to_separate_two_uses_of_a_weight(self):
        looped = _Looped(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        with pytest.raises(SplitError, match=r"'layer.weight' is used before and after it"):
            split(looped, torch.rand(2, 4), ["act@1"])

    def test_refuses_a_value_that_nobody_reads(self):
        class Forgets(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

            def forward(self, x):
                x = self.a(x)
                x.cos()
                return self.c(self.b(x))

        assert names(split(Forgets(), torch.rand(2, 4))) == ["a"]
        with pytest.raises(SplitError, match=r"after 'cos': nothing reads its output"):
            split(Forgets(), torch.rand(2, 4), ["cos"])

    def test_refuses_to_separate_tied_parameters(self):
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        model[2].weight = model[0].weight
        with pytest.raises(SplitError, match="used before and after"):
            split(model, torch.rand(2, 4), ["1"])
        with pytest.raises(SplitError):  # and there is no other place
            split(model, torch.rand(2, 4))
        assert names(split(model, torch.rand(2, 4), ["3"])) == ["3"]

    def test_refuses_states_that_no_head_reads(self):
        model = nn.Sequential(nn.Unflatten(1, (1, 1, 2, 2)), nn.Linear(2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
        with pytest.raises(SplitError, match=r"\['N', 1, 1, 2, 2\]; heads read"):
            split(model, torch.rand(2, 4), ["2"])

    def test_cuts_between_tokens(self):
        backbone = split(transformer(depth=2), torch.rand(2, 1, 8, 8))
        kinds = {cut.name: (cut.kind, cut.shape) for cut in backbone.cuts}
        assert kinds["blocks.0"] == ("tokens", (16, 32))

    def test_names_the_module_that_is_kept_whole_around_a_cut(self):
        class Branches(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(4, 4)

            def forward(self, x):
                return self.layer(x) if x.max() > 0 else x

        with pytest.raises(SplitError, match="runs inside '0', which is kept whole"):
            split(nn.Sequential(Branches(), nn.Linear(4, 2)), torch.rand(2, 4), ["0.layer"])


class _Looped(nn.Module):
    """Calls its layer and its activation twice."""

    def __init__(self, layer, act, classifier):
        super().__init__()
        self.layer, self.act, self.classifier = layer, act, classifier

    def forward(self, x):
        return self.classifier(self.act(self.layer(self.act(self.layer(x)))))


def test_what_is_frozen_stays_so_but_where_everything_is():
    """A model that is used for inference is often frozen as a whole; its exits are to be trained with it."""
    model = mlp(features=4, hidden=(8, 8, 8), classes=3)
    model[1].requires_grad_(False)
    learning = [p.requires_grad for p in split(model, torch.randn(5, 4)).parameters()]
    assert learning == [False, False, *[True] * 6]
    model.requires_grad_(False)
    assert all(p.requires_grad for p in split(model, torch.randn(5, 4)).parameters())
    assert not any(p.requires_grad for p in model.parameters())


class TestUnusableModels:
    @pytest.mark.parametrize(
        ("output", "says"),
        [
            (lambda y: (y, y), "got tuple of 2"),
            (lambda y: {"logits": y}, "got dict with keys logits"),
            (lambda y: y[:, :, None], r"got a tensor \[2, 3, 1\]"),
            (lambda y: y[:, :1], r"got a tensor \[2, 1\]"),
        ],
    )
    def test_an_output_that_is_not_logits_is_described(self, output, says):
        class Wrapped(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(4, 3)

            def forward(self, x):
                return output(self.layer(x))

        with pytest.raises(ModelError, match=says):
            split(Wrapped(), torch.rand(2, 4))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_a_model_that_is_not_in_single_precision(self, dtype):
        x = torch.rand(2, 4, dtype=dtype)
        with pytest.raises(ModelError, match=rf"got {dtype} in 4 tensor.*such as '1.weight'.*Call model.float\(\)"):
            split(mlp(features=4, hidden=(3,)).to(dtype), x)
        model = nn.Sequential(nn.BatchNorm1d(4), mlp(features=4))
        model[0].weight.data = model[0].weight.data.to(dtype)
        with pytest.raises(ModelError, match=rf"got {dtype} in 1 tensor.*such as '0.weight'"):
            split(model, torch.rand(2, 4))
        model[0].float().register_buffer("mean", torch.zeros(4, dtype=dtype))
        assert split(model, torch.rand(2, 4)).cuts  # a table that nobody learns may be in another one

    def test_a_model_with_two_inputs(self):
        class Pair(nn.Module):
            def forward(self, left, right, scale=1.0):
                return scale * left * right

        with pytest.raises(
            ModelError, match=r"Pair wants several inputs; got forward\(left, right\); expected one tensor"
        ):
            split(Pair(), torch.rand(2, 4))

    def test_gray_images_into_a_network_of_colours(self):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        with pytest.raises(ModelError, match=r"does not run on the example.*Bring both to the same channels"):
            split(model, torch.rand(2, 1, 8, 8))

    def test_an_example_that_the_model_cannot_take(self):
        with pytest.raises(ModelError, match=r"does not run on the example; got .* on torch.float32 \[2, 5\]"):
            split(mlp(features=4), torch.rand(2, 5))

    @pytest.mark.parametrize("example", [torch.rand(4), torch.rand(0, 4)])
    def test_an_example_that_is_no_batch(self, example):
        with pytest.raises(ModelError, match="not a batch"):
            split(mlp(features=4), example)

    def test_control_flow_in_the_models_own_forward(self):
        class Branching(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(4, 3)

            def forward(self, x):
                return self.layer(x) if x.sum() > 0 else self.layer(-x)

        with pytest.raises(SplitError, match="cannot split Branching: its own forward cannot be traced"):
            split(Branching(), torch.rand(2, 4))

    def test_an_own_forward_that_looks_at_its_mode(self):
        class Drops(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)

            def forward(self, x):
                return self.b(F.dropout(self.a(x), training=self.training))

        with pytest.raises(SplitError, match="something else in training mode"):
            split(Drops(), torch.rand(2, 4), ["a"])

    def test_a_model_that_is_not_deterministic(self):
        class Noisy(nn.Module):
            def forward(self, x):
                return x + torch.rand_like(x)

        with pytest.raises(SplitError, match="deterministic"):
            split(nn.Sequential(nn.Linear(4, 4), Noisy(), nn.Linear(4, 2)), torch.rand(2, 4), ["0"])


class TestTheUsersModel:
    def test_stays_bit_identical(self):
        model = residual_cnn(channels=(4, 8)).train()
        model.stem[1].eval()
        model(images()).sum().backward()
        calls = []
        hook = model.linear.register_forward_hook(lambda *_: calls.append(1))
        before = copy.deepcopy(model.state_dict())
        modes = [m.training for m in model.modules()]
        gradients = [p.grad.clone() for p in model.parameters()]
        backbone = split(model, images(), check_gradients=True)
        backbone.train()(images()).sum().backward()
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name]), name
        assert [m.training for m in model.modules()] == modes
        assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
        assert list(model.linear._forward_hooks) == [hook.id]
        calls.clear()
        backbone(images())
        assert not calls  # the hook is the user's model's, not the backbone's

    def test_random_numbers_are_not_consumed(self):
        model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        x = torch.rand(2, 4)
        before = torch.random.get_rng_state()
        split(model, x, check_gradients=True)
        assert torch.equal(torch.random.get_rng_state(), before)


class TestTrainingMode:
    def test_gradients_and_running_statistics_are_the_models(self):
        model, x = residual_cnn(channels=(4, 8)), images(6)
        backbone = split(model, x, check_gradients=True).train()
        model.train()(x).square().sum().backward()
        backbone(x).square().sum().backward()
        inner = dict(backbone.origin.names)
        tensors = backbone.tensors()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(tensors[inner[name]].grad, parameter.grad)
        for name, buffer in model.named_buffers():
            torch.testing.assert_close(tensors[inner[name]], buffer)

    def test_a_module_that_looks_at_its_mode_is_kept_whole_and_works(self):
        class Drops(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(4, 4)

            def forward(self, x):
                x = F.relu(self.layer(x))
                return x * torch.zeros_like(x) if self.training else x

        model = nn.Sequential(nn.Linear(4, 4), Drops(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        backbone = split(model, torch.rand(2, 4), check_gradients=True)
        assert names(backbone) == ["0", "1"]
        carry = backbone.train().run((torch.rand(2, 4),), 0, 2)
        assert not carry[0].any()
        assert backbone.eval().run((torch.rand(2, 4),), 0, 2)[0].any()

    def test_a_wrong_gradient_is_noticed(self, monkeypatch):
        model = mlp(features=4, hidden=(4, 4), classes=2)
        kept = Backbone.tensors

        def swapped(self):
            tensors = kept(self)
            return {**tensors, "model.1.weight": tensors["model.3.weight"]}

        monkeypatch.setattr(Backbone, "tensors", swapped)
        with pytest.raises(SplitError, match=r"another gradient of '1.weight'"):
            split(model, torch.rand(3, 4), check_gradients=True)

    def test_a_carry_is_not_overwritten_by_the_next_segment(self):
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
        backbone = split(model, torch.rand(2, 4), ["0"])
        carry = backbone.run((torch.randn(5, 4),), 0, 1)
        before = carry[0].clone()
        backbone.run(carry, 1, 2)
        assert torch.equal(carry[0], before)
        assert (before < 0).any()  # or the activation would have changed nothing


class TestState:
    def test_original_state_loads_into_the_users_model(self):
        class Unused(nn.Module):
            def __init__(self):
                super().__init__()
                self.used, self.unused = mlp(features=4, hidden=(4, 4), classes=2), nn.Linear(3, 3)

            def forward(self, x):
                return self.used(x)

        model = Unused()
        backbone = split(Preprocessed(Normalize(0.5), model), torch.rand(2, 4))
        assert len(list(backbone.parameters())) == 6
        with torch.no_grad():
            for parameter in backbone.parameters():
                parameter.add_(1.0)
        fresh = Unused()
        fresh.load_state_dict(backbone.original_state(), strict=True)
        x = torch.rand(2, 4)
        torch.testing.assert_close(fresh(0.5 * x), backbone(x))
        assert torch.equal(fresh.unused.weight, model.unused.weight)

    def test_loading_copies_all_weights(self):
        one, two = (split(residual_cnn(channels=(4, 8)), images(), "auto") for _ in range(2))
        assert one.key != two.key
        two.load_original(one.original_state())
        assert one.key == two.key
        with torch.no_grad():
            next(one.parameters()).zero_()
        assert one.key != two.key  # copied, not shared

    def test_weights_are_loaded_however_the_network_is_cut_and_as_they_were_stored_before(self):
        model, x = residual_cnn(channels=(4, 8)), images()
        whole = split(model, x, "auto")
        for stored in (whole.original_state(), whole.state_dict()):
            same = split(residual_cnn(channels=(4, 8)), x, "auto")
            same.load_any(stored)
            assert same.key == whole.key
        fewer = split(residual_cnn(channels=(4, 8)), x, [whole.cuts[0].name])
        fewer.load_any(whole.original_state())
        torch.testing.assert_close(fewer(x), whole(x))
        with pytest.raises(ModelError, match="do not belong to this network"):
            fewer.load_any(whole.state_dict())

    def test_loading_refuses_another_networks_weights(self):
        backbone = split(residual_cnn(channels=(4, 8)), images())
        for other in (residual_cnn(channels=(4, 9)), residual_cnn(channels=(4, 8, 8))):
            with pytest.raises(ModelError, match="do not belong to this network"):
                backbone.load_original(other.state_dict())


class TestKey:
    def test_is_the_same_however_the_network_is_cut(self):
        model, x = residual_cnn(channels=(4, 8)), images()
        backbone = split(model, x)
        assert backbone.key == split(model, x, ["stages.0"]).key
        assert backbone.key == backbone.keep(["stages.0.0"]).key == copy.deepcopy(backbone).key

    def test_differs_with_weights_preprocessing_and_settings(self):
        def key(model, scale=1.0):
            return split(Preprocessed(Normalize(scale), model), torch.ones(2, 4)).key

        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        leaky, steeper, trained = copy.deepcopy(model), copy.deepcopy(model), copy.deepcopy(model)
        leaky[1] = nn.LeakyReLU(0.1)
        steeper[1] = nn.LeakyReLU(0.2)
        trained[0].weight.data[0, 0] += 1e-6
        keys = [key(model), key(model, 2.0), key(leaky), key(steeper), key(trained)]
        assert len(set(keys)) == 5
        assert key(copy.deepcopy(model).train()) == keys[0]


class TestKeep:
    def test_merges_segments_and_shares_weights(self):
        model, x = residual_cnn(channels=(4, 8), blocks=2), images()
        backbone = split(model, x)
        fewer = backbone.keep(["stages.1.0", "stem.2"])
        assert names(fewer) == ["stem.2", "stages.1.0"]
        assert len(fewer.segments) == 3
        assert {id(p) for p in fewer.parameters()} == {id(p) for p in backbone.parameters()}
        assert torch.equal(fewer(x), backbone(x))
        assert torch.equal(fewer.run((x,), 0, 2)[0], backbone.run((x,), 0, 4)[0])

    def test_merges_segments_between_which_two_tensors_travel(self):
        model, x = residual_cnn(channels=(4, 8)), images()
        backbone = split(model, x, ["stem", "stages.0.0.bn1", "stages.1.0.conv1"])
        assert torch.equal(backbone.keep(["stages.1.0.conv1"])(x), backbone(x))

    def test_a_layer_that_works_in_place_may_be_used_on_both_sides_of_a_cut(self):
        class Shared(nn.Module):
            def __init__(self):
                super().__init__()
                self.one, self.two, self.three, self.four = (nn.Linear(4, 4) for _ in range(4))
                self.relu = nn.ReLU(inplace=True)

            def forward(self, x):
                x = self.two(self.relu(self.one(x)))
                return self.four(self.relu(self.three(x)))

        model, x = Shared(), torch.rand(3, 4)
        backbone = split(model, x, ["one", "two"])
        with torch.no_grad():
            carry = backbone.span(0, 1)(x)
            tap = carry[0].clone()
            assert torch.equal(backbone.span(1, 3)(*carry)[0], model(x))
            assert torch.equal(carry[0], tap)  # a head may still have to read it

    def test_may_keep_no_cut_and_then_follows_the_mode(self):
        backbone = split(residual_cnn(channels=(4, 8)), images())
        whole = backbone.keep([])
        assert whole.cuts == ()
        assert len(whole.segments) == 1
        assert not any(m.training for m in whole.modules())
        assert all(m.training for m in backbone.train().keep([]).modules())

    def test_refuses_an_unknown_cut(self):
        with pytest.raises(SplitError, match=r"no cut 'stages.0.7'; expected one of stages.0.0"):
            split(residual_cnn(channels=(4, 8)), images()).keep(["stages.0.7"])


class TestExample:
    @pytest.mark.parametrize("samples", [1, 3])
    def test_raw_bytes_from_numpy_with_preprocessing(self, samples):
        raw = np.random.default_rng(0).integers(0, 256, (samples, 1, 8, 8), dtype=np.uint8)
        model = Preprocessed(Normalize(1 / 255, [0.5], [0.25]), residual_cnn(channels=(4, 8)))
        backbone = split(model, raw)
        assert names(backbone)[0] == "stem.2"  # the user's own name, without a prefix
        assert backbone.example.dtype == torch.uint8
        assert backbone.example.shape == (1, 1, 8, 8)
        assert backbone.classes == 10
        assert_same(backbone, model, torch.from_numpy(raw))
        assert names(split(model, raw, ["stages.0"])) == ["stages.0"]


@pytest.mark.parametrize("again", [copy.deepcopy, lambda b: pickle.loads(cloudpickle.dumps(b))])
def test_survives_copying_and_pickling(again):
    class Local(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(x) if x.numel() else x  # a module that is kept whole

    model = Preprocessed(Normalize(), nn.Sequential(Local(), nn.ReLU(), Local(), nn.ReLU(), nn.Linear(4, 2)))
    backbone, x = split(model, torch.rand(2, 4)), torch.rand(5, 4)
    twin = again(backbone)
    assert torch.equal(twin(x), backbone(x))
    assert (twin.key, twin.cuts, twin.classes) == (backbone.key, backbone.cuts, backbone.classes)
    assert torch.equal(twin.keep(["1"])(x), backbone(x))
    with torch.no_grad():
        next(twin.parameters()).add_(1.0)
    assert twin.key != backbone.key
    assert twin.train().segments[0].training
