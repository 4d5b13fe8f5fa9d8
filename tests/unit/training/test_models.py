import pytest
import torch

from eesearch.nets.exitnet import ExitNet
from eesearch.nets.split import split
from eesearch.nets.zoo import residual_cnn
from eesearch.training import models
from eesearch.training.bank import build_heads
from eesearch.training.cache import CACHING, Caching
from eesearch.training.checkpoint import weights_hash
from eesearch.training.models import Alone, Stretch, Taught, embed
from eesearch.training.samples import Batches, Samples
from tests.unit.training.test_bank import LINEAR, MIXED, design, everywhere


@pytest.fixture
def net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = residual_cnn(channels=(4, 6, 8), blocks=1, classes=3, in_channels=1)
    backbone = split(model.eval(), torch.zeros(1, 1, 8, 8))
    wanted = design(*everywhere(backbone, LINEAR, MIXED))
    return ExitNet(backbone, build_heads(backbone, wanted.exits, 0)).eval()


@pytest.fixture
def raw():
    inputs = torch.randn(7, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return Samples(inputs, torch.arange(7) % 3, seed=5)


def test_alone_only_the_networks_own_classifier_answers(net, raw):
    (logits,) = Alone(net.backbone)(raw.inputs)
    assert torch.equal(logits, net(raw.inputs)[-1])


def test_the_teachers_logits_come_last_and_without_gradients(net, raw):
    teacher = split(residual_cnn(channels=(4,), blocks=1, classes=3, in_channels=1).eval(), torch.zeros(1, 1, 8, 8))
    *said, told = Taught(net, teacher)(raw.inputs)
    assert all(map(torch.equal, said, net(raw.inputs)))
    assert torch.equal(told, teacher(raw.inputs))
    assert all(logits.requires_grad for logits in said)
    assert not told.requires_grad


class TestStretch:
    def test_its_heads_say_what_they_say_in_the_network(self, net, raw):
        whole = net(raw.inputs)
        first = Stretch(net, 0, 1, (0, 1))(raw.inputs)
        assert all(map(torch.equal, first, whole[:2]))
        both = Stretch(net, 1, 2, (3,))(raw.inputs)
        assert torch.equal(both[0], whole[3])
        (own,) = Stretch(net, 2, len(net.backbone.segments), ())(raw.inputs)
        assert torch.equal(own, whole[-1])

    def test_nothing_before_it_gets_a_gradient(self, net, raw):
        Stretch(net, 1, 2, (2,))(raw.inputs)[0].sum().backward()
        moved = {name.rsplit(".", 1)[0] for name, p in net.named_parameters() if p.grad is not None}
        segments = {name.split(".")[2] for name in moved if name.startswith("backbone")}
        heads = {name.split(".")[1] for name in moved if name.startswith("heads")}
        assert (segments, heads) == ({"1"}, {"2"})

    def test_embeddings_give_what_raw_samples_give(self, net, raw):
        last = len(net.backbone.segments)
        for first, end, heads in ((1, 2, (2, 3)), (2, last, ())):
            stretch = Stretch(net, first, end, heads)
            ((batch, _),) = Batches(
                embed(net.backbone, raw, CACHING, segments=first), design(("a", LINEAR)).train
            ).epoch(0)
            ((plain, _),) = Batches(raw, design(("a", LINEAR)).train).epoch(0)
            assert all(map(torch.equal, stretch(batch), stretch(plain)))


class TestEmbeddings:
    def test_they_are_the_carry_and_keep_labels_and_seed(self, net, raw):
        made = embed(net.backbone, raw, CACHING, segments=2)
        assert list(made.inputs) == [(2, place) for place in range(len(made.inputs))]
        carry = net.backbone.run(net.backbone.start(raw.inputs), 0, 2)
        assert all(map(torch.equal, made.inputs.values(), carry))
        assert torch.equal(made.labels, raw.labels)
        assert made.seed == raw.seed
        assert not any(tensor.requires_grad for tensor in made.inputs.values())

    def test_they_are_made_from_embeddings_of_fewer_segments(self, net, raw):
        once = embed(net.backbone, raw, CACHING, segments=2)
        twice = embed(net.backbone, embed(net.backbone, raw, CACHING, segments=1), CACHING, segments=2)
        assert once.inputs.keys() == twice.inputs.keys()
        assert all(map(torch.equal, once.inputs.values(), twice.inputs.values()))

    def test_more_samples_than_one_pass_takes(self, net, raw, monkeypatch):
        whole = embed(net.backbone, raw, CACHING, segments=1)
        monkeypatch.setattr(models, "PASS_BATCH", 3)
        for one, other in zip(
            whole.inputs.values(), embed(net.backbone, raw, CACHING, segments=1).inputs.values(), strict=True
        ):
            torch.testing.assert_close(one, other)

    def test_the_network_runs_in_eval_mode_and_stays_as_it_is(self, net, raw):
        expected, before = embed(net.backbone, raw, CACHING, segments=2), weights_hash(net)
        net.train()
        made = embed(net.backbone, raw, CACHING, segments=2)
        assert all(map(torch.equal, made.inputs.values(), expected.inputs.values()))
        assert weights_hash(net) == before
        assert all(module.training for module in net.modules())

    def test_what_is_too_large_is_not_cached(self, net, raw):
        made = embed(net.backbone, raw, CACHING, segments=1)
        size = sum(tensor.numel() * tensor.element_size() for tensor in made.inputs.values())
        assert embed(net.backbone, raw, Caching(size / 1e9), segments=1) is not raw
        assert embed(net.backbone, raw, Caching((size - 1) / 1e9), segments=1) is raw
        assert made.cached_bytes == size
        both = size + embed(net.backbone, made, CACHING, segments=3).cached_bytes
        assert embed(net.backbone, made, Caching(both / 1e9), segments=3) is not made
        assert embed(net.backbone, made, Caching((both - 1) / 1e9), segments=3) is made, "one is made from the other"
