"""Samples of several views: missing ones stay 0, and whatever joins views takes the others."""

import pytest
import torch

from eesearch.core.design import HeadSpec
from eesearch.core.errors import HeadError, ModelError, SplitError
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.heads import build_head, read_tap, tap_shape
from eesearch.nets.inputs import NormalizeViews, Preprocessed
from eesearch.nets.links import carry_at, carry_bytes, gathered_bytes
from eesearch.nets.split import split
from eesearch.nets.views import JoinViews, is_present
from eesearch.nets.zoo import views_cnn

CUTS = ["devices.0", "devices.1", "join", "cloud.0"]
MISSING = 1


@pytest.fixture
def x():
    """Three views, of which every second sample lacks one."""
    x = torch.randint(1, 17, (6, 3, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    x[::2, MISSING] = 0
    return x


def model_of(how, **args):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        cnn = views_cnn(views=3, aggregate=how, channels=(4, 4), cloud=(6, 6), classes=5, **args)
        for module in cnn.modules():
            if isinstance(module, torch.nn.BatchNorm2d):  # so that a block makes something of nothing
                torch.nn.init.normal_(module.bias, 0.5)
                torch.nn.init.normal_(module.running_mean)
    return Preprocessed(NormalizeViews(1 / 16, (0.4,), (0.3,)), cnn).eval()


def hidden_at(backbone, x):
    """The tap at each cut."""
    found, carry = {}, backbone.start(x)
    for k, cut in enumerate(backbone.cuts):
        carry = backbone.run(carry, k, k + 1)
        assert len(carry) == 1
        found[cut.name] = backbone.tap(k, carry)
    return found


@pytest.mark.parametrize("how", ["max", "average", "concat"])
def test_the_chain_is_the_model_and_a_missing_view_stays_zero(x, how):
    model = model_of(how)
    backbone = split(model, x, CUTS, check_gradients=True)
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), model(x))
    joined = 12 if how == "concat" else 4
    assert [(cut.kind, cut.shape) for cut in backbone.cuts] == [
        ("views", (3, 4, 4, 4)), ("views", (3, 4, 2, 2)), ("map", (joined, 2, 2)), ("map", (6, 2, 2)),
    ]  # fmt: skip
    with torch.no_grad():
        for cut, hidden in hidden_at(backbone, x).items():
            if cut.startswith("devices"):
                assert not hidden[::2, MISSING].any()
                assert is_present(hidden).float().mean() > 0.7, "the others say something"


def test_where_nobody_names_cuts_views_have_some_too(x):
    kinds = [cut.kind for cut in split(model_of("max"), x).cuts]
    assert kinds[0] == "views"
    assert "map" in kinds


def test_joined_is_who_is_there():
    hidden = torch.rand(2, 3, 4, 2, 2)
    hidden[0, MISSING] = 0.0
    there = hidden[0, [0, 2]]
    assert torch.equal(JoinViews("max")(hidden)[0], there.amax(0))
    torch.testing.assert_close(JoinViews("average")(hidden), torch.stack([there.mean(0), hidden[1].mean(0)]))
    assert torch.equal(JoinViews("concat")(hidden), hidden.flatten(1, 2))
    assert not JoinViews("average")(torch.zeros_like(hidden)).any(), "nobody there"


@pytest.mark.parametrize("how", ["max", "average"])
def test_a_missing_view_is_as_if_its_device_did_not_exist(x, how):
    model = model_of(how)
    with torch.no_grad():
        said = model(x[::2])
        for device in model.model.devices:
            del device.blocks[MISSING]
        torch.testing.assert_close(said, model(x[::2, [0, 2]]))


def test_preprocessing_leaves_a_missing_view_alone():
    x = torch.tensor([[3.0, 5.0], [0.0, 0.0]]).view(1, 2, 2, 1, 1)
    got = NormalizeViews(1.0, (1.0, 2.0), (2.0, 3.0))(x)
    torch.testing.assert_close(got.flatten(), torch.tensor([1.0, 1.0, 0.0, 0.0]))


def test_what_is_no_view_is_refused(x):
    with pytest.raises(ModelError, match=r"the samples are no views; got shape \['N', 1, 8, 8\]"):
        split(model_of("max"), x[:, 0])
    for wrong in (x[:, :2], torch.cat([x, x[:, :1]], 1)):
        with pytest.raises(ModelError, match=r"ViewsCnn does not run on the example"):
            split(model_of("max"), wrong)
    bare = model_of("max").model
    with pytest.raises(SplitError, match=r"after 'devices.0': its output is \['N', 3, 4, 4, 4\]; heads read"):
        split(bare, x.float(), ["devices.0"])


@pytest.mark.parametrize("wrong", [{"aggregate": "sum"}, {"views": 0}, {"channels": ()}, {"cloud": ()}])
def test_an_impossible_network_is_refused(wrong):
    with pytest.raises(ModelError, match="aggregat"):
        views_cnn(**wrong)


SHAPE = (3, 4, 6, 6)


@pytest.fixture
def hidden():
    hidden = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(1))
    hidden[0, MISSING] = 0.0
    hidden[1] = 0.0
    return hidden


@pytest.mark.parametrize("how", ["max", "average"])
@pytest.mark.parametrize("kind", ["linear", "mlp", "conv"])
def test_class_scores_are_those_of_the_views_that_are_there(hidden, how, kind):
    spec = HeadSpec(kind=kind, pool="mixed", size=2, hidden=(7,), channels=4, views=how)
    head = build_head(spec, SHAPE, 10).eval()
    with torch.no_grad():
        said = head(hidden)
        each = [body(read_tap(hidden[:, v], spec.tap)) for v, body in enumerate(head.body.bodies)]
    join = torch.amax if how == "max" else torch.mean
    torch.testing.assert_close(said[0], join(torch.stack([each[0][0], each[2][0]]), 0))
    torch.testing.assert_close(said[2:], join(torch.stack(each), 0)[2:])
    assert not said[1].any(), "nobody knows anything"


def test_a_head_on_joined_views_reads_all_channels(hidden):
    spec = HeadSpec(pool="mixed", size=2, views="concat")
    assert spec.name == "linear-mixed2-concat"
    assert tap_shape(SHAPE, spec.tap) == (24, 2, 2)
    assert torch.equal(read_tap(hidden, spec.tap), read_tap(hidden.flatten(1, 2), HeadSpec(pool="mixed", size=2).tap))
    tree = HeadSpec(kind="tree", views="concat")
    assert build_head(tree, SHAPE, 3)(hidden).shape == (5, 3)


@pytest.mark.parametrize("spec", [HeadSpec(kind="tree"), HeadSpec(gate="linear", views="average")])
def test_who_needs_all_views_together_says_so(spec):
    with pytest.raises(HeadError, match=r"takes all views together; got views '.*'; expected views 'concat'"):
        build_head(spec, SHAPE, 3)


def test_the_usual_way_of_joining_is_no_part_of_keys():
    assert "views" not in HeadSpec().model_dump()
    assert HeadSpec().name == "linear-avg1"
    assert HeadSpec(views="average").model_dump()["views"] == "average"


def test_bytes_are_those_of_all_views(x):
    backbone = split(model_of("average"), x, CUTS)
    sizes = [carry_bytes(carry_at(backbone, cut)) for cut in CUTS]
    assert sizes == [4 * 3 * 4 * 4 * 4, 4 * 3 * 4 * 2 * 2, 4 * 4 * 2 * 2, 4 * 6 * 2 * 2]
    assert carry_bytes((backbone.example,)) == 3 * 64
    assert gathered_bytes(HeadSpec(), SHAPE, 10) == 4 * 3 * 10
    assert gathered_bytes(HeadSpec(pool="mixed", size=2, views="concat"), SHAPE, 10) == 4 * 24 * 4


def test_a_network_with_heads_on_views_stops_early(x):
    backbone = split(model_of("concat"), x, CUTS)
    places = {}
    for cut, how in zip(backbone.cuts, ("max", "average", "max", "max"), strict=True):
        spec = HeadSpec(views=how)
        places[cut.name, spec.name] = build_head(spec, cut.shape, 5)
    net = ExitNet(backbone, places).eval()
    again = ExitNet.from_arrays(backbone, *net.arrays())
    with torch.no_grad():
        for one, two in zip(net(x), again(x), strict=True):
            assert torch.equal(one, two)
