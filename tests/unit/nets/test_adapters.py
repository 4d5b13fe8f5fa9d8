import copy

import pytest
import torch
from torch import nn

from eesearch.core.design import Design, ExitSpec, HeadSpec, TrainSpec
from eesearch.core.errors import InputError, ModelError, SplitError
from eesearch.core.registry import ADAPTERS, STRATEGIES
from eesearch.costs.counting import count_parts
from eesearch.nets.adapters import Adapter, adapter_of, followed, place, speaking
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.heads import build_head
from eesearch.nets.inputs import Preprocessed
from eesearch.nets.links import carry_at, carry_bytes
from eesearch.nets.recurrent import RecurrentClassifier
from eesearch.nets.split import split


class Counting(nn.Module):
    """Its forward looks at values: torch.fx cannot follow it."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.last = nn.Linear(4, 2)

    def forward(self, x, *, scale):
        if x.sum() == 123456.0:
            raise RuntimeError
        for part in self.parts:
            x = part(x).relu()
        return {"logits": self.last(x) * scale}


def _whole(network, x):
    return type(network).forward(network, x, scale=2.0)["logits"]


def _traced(network, x):
    for number, part in enumerate(network.parts):
        x = part(x).relu()
        place(x, f"hidden.{number}")
    return network.last(x) * 2.0


@pytest.fixture
def registered(monkeypatch):
    ADAPTERS._load()
    monkeypatch.setitem(ADAPTERS._entries, "Counting", Adapter(_whole, _traced))


def test_a_network_of_one_s_own_is_followed_by_an_adapter(registered):
    model, x = Counting().eval(), torch.randn(5, 4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    backbone = split(model, x, check_gradients=True)
    assert [cut.name for cut in backbone.cuts] == ["hidden.0", "hidden.1"]
    torch.testing.assert_close(backbone(x), model(x, scale=2.0)["logits"])
    assert backbone.original_state().keys() == before.keys()
    assert "forward" not in vars(model), "the user's network stays as it is"


def test_an_adapter_serves_what_inherits_from_its_class(registered):
    class Mine(Counting):
        pass

    assert adapter_of(Preprocessed(nn.Identity(), Mine())) is ADAPTERS["Counting"]
    assert adapter_of(nn.Linear(2, 2)) is None


def test_an_adapter_that_says_something_else_is_refused(registered, monkeypatch):
    monkeypatch.setitem(ADAPTERS._entries, "Counting", Adapter(_whole, lambda network, x: _traced(network, x) * 1.01))
    with pytest.raises(SplitError, match="the segments of Counting do not do what it does"):
        split(Counting(), torch.randn(5, 4))


def test_copies_keep_what_the_network_says(registered):
    model, x = Counting(), torch.randn(3, 4)
    torch.testing.assert_close(speaking(model)(x), followed(copy.deepcopy(model))(x))


class Scaled(nn.Module):
    """Reads weights of its own, without a layer."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(4, 5))

    def forward(self, x):
        return x @ self.scale


def recurrent(cells=nn.LSTM, **settings):
    return RecurrentClassifier(cells(5, 8, batch_first=True, **settings), nn.Linear(8, 3), steps=11, parts=4)


class TestRecurrent:
    @pytest.mark.parametrize("cells", [nn.LSTM, nn.GRU, nn.RNN])
    def test_segments_are_runs_of_time_steps(self, cells):
        model, x = recurrent(cells, num_layers=2).eval(), torch.randn(4, 11, 5)
        backbone = split(model, x, check_gradients=True)
        assert [(cut.name, cut.shape, cut.kind) for cut in backbone.cuts] == [
            (f"step.{end}", (8,), "vector") for end in (2, 5, 8)
        ]
        tap = backbone.tap(1, backbone.run(backbone.start(x), 0, 2))
        torch.testing.assert_close(tap, model.rnn(x[:, :5])[0][:, -1])
        torch.testing.assert_close(backbone(x), model(x))

    @pytest.mark.parametrize(
        "embed",
        [nn.Linear(4, 5), nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5)), Scaled(), nn.Embedding(9, 5)],
    )
    def test_what_embeds_a_step_is_used_by_every_segment(self, embed):
        network = RecurrentClassifier(nn.GRU(5, 8, batch_first=True), nn.Linear(8, 3), steps=11, embed=embed, parts=4)
        model = network.eval()
        x = torch.randint(9, (4, 11)) if isinstance(embed, nn.Embedding) else torch.randn(4, 11, 4)
        backbone = split(model, x, check_gradients=True)
        assert [cut.name for cut in backbone.cuts] == ["step.2", "step.5", "step.8"]
        torch.testing.assert_close(backbone(x), model(x))
        assert sum(p.numel() for p in backbone.parameters()) == sum(p.numel() for p in model.parameters())

    def test_a_classifier_that_shares_its_weight_with_what_embeds(self):
        model = RecurrentClassifier(
            nn.GRU(5, 9, batch_first=True), nn.Linear(9, 5), steps=11, embed=nn.Linear(9, 5), parts=4
        )
        model.classifier.weight = model.embed.weight
        assert len(split(model, torch.randn(4, 11, 9), check_gradients=True).cuts) == 3

    def test_only_the_steps_that_are_still_to_come_go_on(self):
        backbone = split(recurrent(nn.GRU), torch.randn(2, 11, 5))
        sizes = [carry_bytes(carry_at(backbone, cut.name)) for cut in backbone.cuts]
        state, seen = 8, 8  # what the exit reads is the state of the last layer
        assert sizes == [4 * (state + seen + 5 * (11 - end)) for end in (2, 5, 8)]

    def test_weights_are_there_once(self):
        model = recurrent()
        backbone = split(model, torch.randn(2, 11, 5))
        assert sum(p.numel() for p in backbone.parameters()) == sum(p.numel() for p in model.parameters())

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: recurrent(bidirectional=True), "cannot be stopped between time steps; got two directions"),
            (
                lambda: RecurrentClassifier(nn.GRU(2, 2), nn.Linear(2, 2), steps=4),
                "cannot be stopped between time steps; got batch_first=False",
            ),
            (
                lambda: RecurrentClassifier(nn.GRU(2, 2, batch_first=True), nn.Linear(2, 2), steps=4, parts=5),
                "time steps cannot be divided so; got 5 parts; expected from 2 to 4",
            ),
        ],
    )
    def test_refuses_what_cannot_be_stopped(self, make, message):
        with pytest.raises(ModelError) as caught:
            make()
        assert message in str(caught.value)

    def test_refuses_samples_of_another_length(self):
        with pytest.raises(ModelError, match="the samples have another length; got 7 steps; expected 11"):
            recurrent()(torch.randn(2, 7, 5))

    def test_shared_modules_are_refused_elsewhere(self):
        part = nn.Linear(4, 4)
        model = nn.Sequential(part, nn.ReLU(), part, nn.ReLU(), nn.Linear(4, 2))
        with pytest.raises(SplitError, match="is used before and after it"):
            split(model, torch.randn(2, 4), ["1"])

    @pytest.mark.parametrize("strategy", ["layerwise", "freezeout"])
    def test_strategies_that_freeze_layers_are_refused(self, strategy):
        backbone = split(recurrent(), torch.randn(2, 11, 5))
        exits = [ExitSpec(cut="step.5", head=HeadSpec())]
        net = ExitNet(backbone, {("step.5", HeadSpec().name): build_head(HeadSpec(), (8,), 3)})
        design = Design(backbone="", data="", strategy=strategy, exits=tuple(exits), train=TrainSpec(epochs=1), seed=0)
        with pytest.raises(
            InputError, match=f"'{strategy}' freezes layers one after the other; got segments that share"
        ):
            STRATEGIES[strategy].phases(net, design)

    def test_parameters_are_counted_once(self):
        model = recurrent()
        backbone = split(model, torch.randn(2, 11, 5))
        counted = count_parts(backbone, {}).params_prefix
        assert counted[-1] == sum(p.numel() for p in model.parameters())
        assert len({*counted[:-1]}) == 1
