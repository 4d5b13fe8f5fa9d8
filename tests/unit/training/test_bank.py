import pytest
import torch

from eesearch.core.design import Design, ExitSpec, HeadSpec, TapSpec, TrainSpec
from eesearch.core.errors import EesearchError, HeadError, InputError
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.split import split
from eesearch.nets.zoo import mlp
from eesearch.training.bank import build_heads, count_samples, plan_cache, train_bank
from eesearch.training.cache import CACHING, NO_CACHING, Caching
from eesearch.training.checkpoint import weights_hash
from eesearch.training.data import Split
from eesearch.training.plans import train_design
from eesearch.training.taps import Tap, cache_taps, find_cut, read_taps

LINEAR = HeadSpec(kind="linear", pool="avg", size=1)
MIXED = HeadSpec(kind="mlp", hidden=(8,), pool="mixed", size=2)
POOLED_CONV = HeadSpec(kind="conv", channels=4, pool="avg", size=2)
LOGISTIC = HeadSpec(kind="logistic", pool="avg", size=2)
MAP_CONV = HeadSpec(kind="dsconv", channels=4, pool="none")
SPEC = TrainSpec(epochs=2, batch_size=16, lr=0.01)


def design(*exits, train=SPEC, seed=0, strategy="separate"):
    specs = tuple(ExitSpec(cut=cut, head=head) for cut, head in exits)
    return Design(backbone="b", data="d", strategy=strategy, exits=specs, train=train, seed=seed)


def everywhere(backbone, *heads):
    return [(cut.name, head) for cut in backbone.cuts for head in heads]


def count_runs(backbone, k):
    runs = []
    backbone.segments[k].register_forward_hook(lambda module, args, out: runs.append(len(args[0])))
    return runs


def test_all_heads_train_and_the_backbone_stays_bit_identical(backbone, data):
    before = weights_hash(backbone)
    told = []
    wanted = design(*everywhere(backbone, LINEAR, MIXED, MAP_CONV))
    net = train_bank(backbone, wanted, data, progress=lambda *event: told.append(event))
    assert weights_hash(backbone) == before
    assert net.backbone is backbone
    assert [(e.cut, e.head) for e in net.exits[:-1]] == [(e.cut, e.head.name) for e in wanted.exits]
    fresh = build_heads(backbone, wanted.exits, 0)
    for place, head in zip(net.places, net.heads, strict=True):
        assert weights_hash(head) != weights_hash(fresh[place])
    assert not any(module.training for module in net.modules())
    assert all(p.requires_grad for p in net.parameters())
    assert list(dict.fromkeys(label for label, *_ in told)) == [
        "cache hidden states",
        "train bank",
        "train bank on maps",
    ]
    assert told[-1] == ("train bank on maps", 8, 8)


@pytest.mark.parametrize("caching", [CACHING, NO_CACHING])
def test_a_head_is_the_same_whichever_others_are_in_the_bank(backbone, data, caching):
    crowd = everywhere(backbone, LINEAR, MIXED, POOLED_CONV, MAP_CONV)
    together = train_bank(backbone, design(*crowd), data, caching=caching)
    for place in (crowd[0], crowd[2], crowd[-1]):
        alone = train_bank(backbone, design(place), data, caching=caching)
        twin = together.heads[together.places.index((place[0], place[1].name))]
        assert weights_hash(alone.heads[0]) == weights_hash(twin)


def test_cached_heads_are_those_of_the_running_backbone_and_of_the_separate_plan(backbone, data):
    wanted = design(*everywhere(backbone, LINEAR, POOLED_CONV))
    cached = train_bank(backbone, wanted, data)
    running = train_bank(backbone, wanted, data, caching=NO_CACHING)
    planned = train_design(ExitNet(backbone, build_heads(backbone, wanted.exits, 0)), wanted, data)
    x = torch.from_numpy(data.x)
    with torch.no_grad():
        for first, second, third in zip(cached(x), running(x), planned(x), strict=True):
            torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(first, third, rtol=1e-3, atol=1e-3)


def test_the_backbone_runs_no_more_than_it_must(backbone, data):
    first, last = count_runs(backbone, 0), count_runs(backbone, len(backbone.segments) - 1)
    train_bank(backbone, design(*everywhere(backbone, LINEAR, MIXED)), data)
    assert sum(first) == len(data)
    assert last == []
    first.clear()
    train_bank(backbone, design((backbone.cuts[0].name, MAP_CONV), *everywhere(backbone, LINEAR)), data)
    assert sum(first) == len(data) * (1 + SPEC.epochs)
    for segment in backbone.segments:
        segment._forward_hooks.clear()


def test_the_seed_decides(backbone, data):
    place = (backbone.cuts[0].name, LINEAR)
    first, again, other = (train_bank(backbone, design(place, seed=seed), data) for seed in (0, 0, 1))
    assert weights_hash(first.heads) == weights_hash(again.heads) != weights_hash(other.heads)


def test_initial_weights_are_of_their_own(backbone):
    cut = backbone.cuts[0].name
    exits = design((cut, POOLED_CONV)).exits
    torch.manual_seed(1)
    first = build_heads(backbone, exits, 0)[cut, POOLED_CONV.name]
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    again = build_heads(backbone, exits, 0)[cut, POOLED_CONV.name]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert weights_hash(first) == weights_hash(again)
    assert weights_hash(build_heads(backbone, exits, 1)[cut, POOLED_CONV.name]) != weights_hash(first)


def test_the_plan_is_what_the_cache_takes(backbone, data):
    wanted = design(*everywhere(backbone, LINEAR, MIXED, POOLED_CONV, MAP_CONV)).exits
    taps = {Tap.of(find_cut(backbone, e.cut), e.head.tap) for e in wanted}
    cache = cache_taps(backbone, [tap for tap in taps if tap.cacheable], data)
    assert len(cache) == 3 * len(backbone.cuts)
    assert all(values.dtype == torch.float32 for values in cache.values())
    assert plan_cache(backbone, wanted, len(data)) == sum(values.nbytes for values in cache.values())


@pytest.mark.parametrize(
    ("heads", "max_cache_gb", "passes"),
    [
        ((LINEAR,), 1.0, 1),
        ((MAP_CONV,), 1.0, 2),
        ((LINEAR, MAP_CONV), 1.0, 3),
        ((LINEAR, MAP_CONV), 0.0, 2),
        ((LOGISTIC, LINEAR), 1.0, 1),
        ((LOGISTIC, MAP_CONV), 1.0, 3),
        ((LOGISTIC, LINEAR), 0.0, 2 + 2),
    ],
)
def test_samples_are_counted_as_they_go_through_the_backbone(backbone, data, heads, max_cache_gb, passes):
    wanted, runs = design(*everywhere(backbone, *heads)), count_runs(backbone, 0)
    train_bank(backbone, wanted, data, caching=Caching(max_cache_gb))
    backbone.segments[0]._forward_hooks.clear()
    counted = count_samples(backbone, wanted.exits, len(data), epochs=SPEC.epochs, max_cache_gb=max_cache_gb)
    assert counted == sum(runs) == passes * len(data)


def test_the_cache_holds_what_heads_read(backbone, data):
    tap = Tap.of(backbone.cuts[-1], TapSpec(pool="avg", size=1))
    cache = cache_taps(backbone, [tap], data)
    with torch.no_grad():
        carry = backbone.run(backbone.start(torch.from_numpy(data.x)), 0, len(backbone.cuts))
        expected = backbone.tap(len(backbone.cuts) - 1, carry).mean((2, 3), keepdim=True)
    torch.testing.assert_close(cache[tap], expected)
    assert not cache[tap].is_inference()


def test_heads_on_a_vector_share_one_tap(data):
    flat = Split("train", data.x.reshape(len(data), -1), data.y)
    vectors = split(mlp(features=64, hidden=(8, 6), classes=3), torch.zeros(1, 64))
    wanted = design(*everywhere(vectors, LINEAR, MIXED))
    assert plan_cache(vectors, wanted.exits, 10) == 10 * 4 * sum(cut.shape[0] for cut in vectors.cuts)
    assert len(train_bank(vectors, wanted, flat).heads) == 2 * len(vectors.cuts)


def test_reading_stops_at_the_deepest_tap(backbone, data):
    later = count_runs(backbone, 1)
    x = torch.from_numpy(data.x[:2])
    taps = dict(read_taps(backbone, [Tap.of(backbone.cuts[0], TapSpec(pool="none"))], x))
    assert later == []
    assert [values.shape[1:] for values in taps.values()] == [backbone.cuts[0].shape]
    backbone.segments[1]._forward_hooks.clear()


def test_refuses_nonsense(backbone, data):
    cut = backbone.cuts[0].name
    with pytest.raises(InputError, match=r"no such cut; got nowhere; expected one of .*" + cut):
        train_bank(backbone, design(("nowhere", LINEAR)), data)
    with pytest.raises(InputError, match="separately"):
        train_bank(backbone, design((cut, LINEAR), strategy="joint"), data)
    with pytest.raises(HeadError):
        train_bank(backbone, design((cut, HeadSpec(kind="linear", pool="none"))), data)
    with pytest.raises(InputError, match="cached hidden states"):
        train_bank(backbone, design((cut, LINEAR), train=TrainSpec(augment=("flip",))), data)
    wild = TrainSpec(epochs=1, lr=1e39, optimizer="sgd")
    with pytest.raises(EesearchError, match=r"'train bank' diverged"):
        train_bank(backbone, design((cut, LINEAR), train=wild), data)
