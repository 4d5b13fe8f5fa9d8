import copy
from math import inf

import cloudpickle
import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from eesearch.core.design import ABSTAINED, ASK, OUTPUT, OWN, HeadSpec
from eesearch.core.errors import HeadError, ModelError, PolicyError
from eesearch.core.policy import Criterion, Fit, Policy, Scoring, Stop, decision_name, decision_named
from eesearch.core.registry import CRITERIA
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import replay
from eesearch.exits.learned import parameter_widths
from eesearch.exits.routing import path_outputs
from eesearch.nets.exitnet import ExitNet, Prediction
from eesearch.nets.heads import build_head
from eesearch.nets.split import split
from eesearch.nets.zoo import residual_cnn

CUTS = ("stem.2", "stages.0.0", "stages.1.0")
NO_FOLDS = np.empty(0, np.int16)
LINEAR, CONV = HeadSpec(), HeadSpec(kind="conv", pool="none", channels=4)


@pytest.fixture
def backbone():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return split(residual_cnn(channels=(4, 8, 8), classes=3), torch.randn(2, 1, 8, 8))


@pytest.fixture
def net(backbone):
    places = [("stages.1.0", LINEAR), ("stem.2", LINEAR), ("stages.0.0", CONV), ("stages.0.0", LINEAR)]
    shapes = {cut.name: cut.shape for cut in backbone.cuts}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        heads = {(cut, spec.name): build_head(spec, shapes[cut], 3) for cut, spec in places}
    return ExitNet(backbone, heads).eval()


@pytest.fixture
def x():
    return torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(2))


def policy(net, rows, thresholds, **options):
    stops = tuple(Stop(exit=net.exits[i], threshold=t) for i, t in zip(rows, thresholds, strict=True))
    return Policy(stops=stops, **{"criterion": "max_prob", **options})


def by_hand(net, x, rows, thresholds, temperature=None):
    """Route each sample with the logits of the whole network."""
    with torch.no_grad():
        logits = torch.stack([net(x)[i] for i in rows])  # [k, N, C]
    t = torch.ones(len(rows)) if temperature is None else torch.as_tensor(temperature)
    scores = (logits / t[:, None, None]).softmax(-1).amax(-1)
    leaves = scores >= torch.tensor(thresholds)[:, None]
    stop = leaves.float().argmax(0)  # the first
    each = torch.arange(len(x))
    return logits.argmax(-1)[stop, each].numpy(), stop.numpy(), scores[stop, each].numpy()


def assert_prediction(prediction, expected):
    np.testing.assert_array_equal(prediction.answer, expected[0])
    np.testing.assert_array_equal(prediction.exit, expected[1])
    np.testing.assert_allclose(prediction.score, expected[2], rtol=1e-5)


def medians(net, x, rows):
    with torch.no_grad():
        scores = torch.stack([net(x)[i] for i in rows[:-1]]).softmax(-1).amax(-1)
    return [*scores.sort(-1).values[:, 19:21].mean(-1).tolist(), -inf]


def layers(segment):
    """The layers with weights of a segment."""
    return {m for m in segment.modules() if list(m.parameters(recurse=False))}


def count_calls(net):
    """Samples that the first layer of each segment saw, call by call."""
    seen = [[] for _ in net.backbone.segments]
    for segment, sizes in zip(net.backbone.segments, seen, strict=True):
        layer = next(m for m in segment.modules() if list(m.parameters(recurse=False)))
        layer.register_forward_hook(lambda _, args, __, sizes=sizes: sizes.append(len(args[0])))
    return seen


def test_exits_stand_in_the_order_of_the_cuts_then_as_given(net):
    places = [(e.cut, e.head) for e in net.exits]
    assert places == [
        ("stem.2", "linear-avg1"),
        ("stages.0.0", "conv4-map"),
        ("stages.0.0", "linear-avg1"),
        ("stages.1.0", "linear-avg1"),
        (OUTPUT, OWN),
    ]
    assert {e.network for e in net.exits} == {net.backbone.key}


def test_a_head_is_found_by_cut_and_name(net):
    assert net.head("stages.0.0", "linear-avg1") is net.heads[2]
    with pytest.raises(HeadError, match=r"no head 'other' at 'stem\.2'; expected one of 'linear-avg1' at 'stem\.2'"):
        net.head("stem.2", "other")


def test_forward_gives_each_heads_logits_and_the_backbones(net, x):
    logits = net(x)
    assert len(logits) == 5
    assert torch.equal(logits[-1], net.backbone(x))
    hidden = net.backbone.run(net.backbone.start(x), 0, 3)[0]
    assert torch.equal(logits[3], net.heads[3](hidden))


def test_gradients_of_all_exits_reach_the_whole_network(net, x):
    sum(logits.square().mean() for logits in net.train()(x)).backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


def test_refresh_gives_a_trained_network_its_own_name(net):
    before = net.network
    with torch.no_grad():
        next(net.backbone.parameters()).add_(1.0)
    assert net.network == before
    net.refresh()
    assert net.network == net.backbone.key != before
    assert net.exits[0].network == net.network


def test_a_trained_head_leaves_the_networks_name_alone(net):
    before = net.network
    with torch.no_grad():
        next(net.heads.parameters()).add_(1.0)
    net.refresh()
    assert net.network == before


@pytest.mark.parametrize(
    ("place", "shape", "says"),
    [(("stages.9", "linear-avg1"), (4, 8, 8), "hangs on no cut"), ((CUTS[0], "h"), (5, 8, 8), "does not fit")],
)
def test_heads_that_do_not_belong_are_refused(backbone, place, shape, says):
    with pytest.raises(HeadError, match=says):
        ExitNet(backbone, {place: build_head(LINEAR, shape, 3)})


def test_without_heads_it_is_the_backbone(backbone):
    x = torch.rand(3, *backbone.example.shape[1:])
    (logits,) = ExitNet(backbone, {}).eval()(x)
    assert torch.equal(logits, backbone.eval()(x))


class TestStages:
    def test_inactive_cuts_are_merged_away(self, net):
        stages = net.stages(policy(net, [1, 4], [0.5, -inf]))
        assert [layers(s.segment) for s in stages] == [
            {*layers(net.backbone.segments[k]), *layers(net.backbone.segments[k + 1])} for k in (0, 2)
        ]
        assert all(isinstance(s.segment, fx.GraphModule) for s in stages)
        assert stages[0].head is net.heads[1]
        assert stages[1].head is None
        assert [s.threshold for s in stages] == [0.5, -inf]

    def test_without_an_early_exit_the_one_stage_is_the_whole_backbone(self, net, x):
        (stage,) = net.stages(policy(net, [4], [-inf]))
        assert layers(stage.segment) == set().union(*map(layers, net.backbone.segments))
        with torch.no_grad():
            assert torch.equal(stage.run((x,))[1], net.backbone(x))

    def test_nothing_behind_the_last_stop_is_contained(self, net):
        stages = net.stages(policy(net, [0, 3], [0.5, -inf]))
        contained = {layer for stage in stages for layer in layers(stage.segment)}
        assert contained == set().union(*map(layers, list(net.backbone.segments)[:3]))

    def test_merged_segments_are_built_once_and_share_the_weights(self, net):
        before = dict(net.state_dict())
        (whole,) = net.stages(policy(net, [4], [-inf]))
        assert net.stages(policy(net, [4], [-inf]))[0].segment is whole.segment
        own = {id(p) for p in net.backbone.parameters()}
        assert {id(p) for p in whole.segment.parameters()} == own
        assert net.state_dict().keys() == before.keys()
        assert sum(1 for _ in net.modules()) == sum(1 for _ in copy.deepcopy(net).modules())

    @pytest.mark.parametrize("rows", [[3, 0], [1, 2], [4, 0]])
    def test_stops_must_go_up_from_cut_to_cut(self, net, rows):
        with pytest.raises(PolicyError, match="cannot meet"):
            net.stages(policy(net, rows, [0.5, -inf]))

    def test_another_networks_exit_is_refused(self, net):
        foreign = net.exits[0].model_copy(update={"network": "other"})
        with pytest.raises(PolicyError, match=r"no exit other:stem\.2"):
            net.stages(Policy(stops=(Stop(exit=foreign, threshold=-inf),), criterion="max_prob"))


class TestPredict:
    @pytest.mark.parametrize("rows", [[0, 4], [0, 1, 3, 4], [2, 3], [0, 2, 3]])
    def test_answers_and_stops_as_routing_by_hand_says(self, net, x, rows):
        thresholds = medians(net, x, rows)
        prediction = net.predict(x, policy(net, rows, thresholds))
        assert len(set(prediction.exit)) > 1  # or nothing was routed
        assert_prediction(prediction, by_hand(net, x, rows, thresholds))
        assert (prediction.answer.dtype, prediction.exit.dtype) == (np.int64, np.int64)
        assert prediction.score.dtype == np.float32

    def test_samples_one_by_one_and_numpy_arrays_give_the_same(self, net, x):
        rows = [0, 2, 4]
        p = policy(net, rows, medians(net, x, rows))
        raw = x.numpy().copy()
        raw.flags.writeable = False  # as a memory-mapped file is
        whole = net.predict(raw, p)
        singles = [net.predict(x[i : i + 1], p) for i in range(len(x))]
        for field in ("answer", "exit"):
            one_by_one = np.concatenate([getattr(s, field) for s in singles])
            np.testing.assert_array_equal(getattr(whole, field), one_by_one)

    def test_later_segments_see_only_the_samples_that_went_on(self, net, x):
        rows = [0, 3, 4]
        p = policy(net, rows, medians(net, x, rows))
        stop = by_hand(net, x, rows, p.thresholds)[1]
        seen = count_calls(net)
        net.predict(x, p)
        went_on = int((stop > 0).sum())
        assert seen == [[40], [went_on], [went_on], [int((stop > 1).sum())]]
        assert 0 < seen[3][0] < went_on < 40

    @pytest.mark.parametrize(
        ("rows", "thresholds", "segments_run"),
        [
            ([0, 4], [0.0, -inf], 1),  # everybody leaves at once
            ([0, 4], [inf, -inf], 4),  # nobody leaves
            ([0, 3], [inf, -inf], 3),  # the last stop is an early exit
            ([4], [-inf], 4),
        ],
    )
    @pytest.mark.parametrize("samples", [1, 40])
    def test_segments_after_the_last_needed_stop_never_run(self, net, x, rows, thresholds, segments_run, samples):
        seen = count_calls(net)
        heads_run = []
        net.heads[0].register_forward_hook(lambda *_: heads_run.append(1))
        prediction = net.predict(x[:samples], policy(net, rows, thresholds))
        assert [len(s) for s in seen] == [1] * segments_run + [0] * (4 - segments_run)
        assert len(heads_run) == int(rows[0] == 0)  # paid for, whether anyone leaves or not
        expected = int(thresholds[0] == inf)
        assert set(prediction.exit) == {expected}
        assert (prediction.score > 0).all()

    def test_a_second_tensor_in_the_carry_is_selected_along(self, x):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            backbone = split(residual_cnn(channels=(4, 8), classes=3), x, ["stages.1.0.bn1"])
            head = build_head(LINEAR, backbone.cuts[0].shape, 3)
        net = ExitNet(backbone, {("stages.1.0.bn1", "linear-avg1"): head}).eval()
        thresholds = medians(net, x, [0, 1])
        assert len(backbone.run((x,), 0, 1)) == 2
        assert_prediction(net.predict(x, policy(net, [0, 1], thresholds)), by_hand(net, x, [0, 1], thresholds))

    def test_no_samples_give_no_answers(self, net, x):
        prediction = net.predict(x[:0], policy(net, [0, 4], [0.5, -inf]))
        assert prediction.answer.shape == prediction.exit.shape == prediction.score.shape == (0,)

    def test_the_fit_divides_each_exits_logits(self, net, x):
        rows, t = [0, 3, 4], np.array([0.2, 1.0, 5.0, 0.5, 2.0], np.float32)
        fit = Fit("temperature", net.exits, t[None, :, None], NO_FOLDS)
        with torch.no_grad():
            scores = torch.stack([net(x)[i] / float(t[i]) for i in rows]).softmax(-1).amax(-1)
        thresholds = [*scores.sort(-1).values[:2, 19:21].mean(-1).tolist(), -inf]
        prediction = net.predict(x, policy(net, rows, thresholds, fits=(fit.key,)), [fit])
        assert_prediction(prediction, by_hand(net, x, rows, thresholds, t[rows]))

    def test_a_policy_with_fits_refuses_to_run_without(self, net, x):
        with pytest.raises(PolicyError, match="belong together; got no fit; expected fit key"):
            net.predict(x, policy(net, [0, 4], [0.5, -inf], fits=("key",)))

    def test_a_fit_of_other_exits_is_refused(self, net, x):
        fit = Fit("temperature", net.exits[1:], np.ones((1, 4, 1), np.float32), NO_FOLDS)
        with pytest.raises(PolicyError, match="knows nothing of exit"):
            net.predict(x, policy(net, [0, 4], [0.5, -inf], fits=(fit.key,)), [fit])

    @pytest.mark.parametrize("fits", [(), ("another",)])
    def test_a_fit_that_the_policy_was_not_chosen_with_is_refused(self, net, x, fits):
        fit = Fit("temperature", net.exits, np.ones((1, 5, 1), np.float32), NO_FOLDS)
        with pytest.raises(PolicyError, match=f"do not belong together; got fit {fit.key}"):
            net.predict(x, policy(net, [0, 4], [0.5, -inf], fits=fits), [fit])

    def test_many_samples_are_computed_in_batches(self, net, x):
        many = torch.cat([x] * 13)[:513]
        p = policy(net, [0, 4], medians(net, x, [0, 4]))
        seen = count_calls(net)
        prediction = net.predict(many.numpy(), p)
        assert seen[0] == [256, 256, 1]
        expected = net.predict(x, p)
        for field in ("answer", "exit"):
            np.testing.assert_array_equal(getattr(prediction, field), np.tile(getattr(expected, field), 13)[:513])

    def test_runs_in_eval_mode_and_gives_each_module_its_mode_back(self, net, x):
        p = policy(net, [0, 1, 4], [0.4, 0.4, -inf])
        expected, state = net.predict(x, p), copy.deepcopy(net.state_dict())
        net.heads.train()
        net.backbone.segments[1].train()
        modes = [m.training for m in net.modules()]
        prediction = net.predict(x, p)
        assert_prediction(prediction, (expected.answer, expected.exit, expected.score))
        assert [m.training for m in net.modules()] == modes
        assert all(torch.equal(t, state[name]) for name, t in net.state_dict().items())

    def test_thresholds_are_compared_in_double_precision(self, net, x, monkeypatch):
        low = np.float32(0.5)
        high = np.nextafter(low, np.float32(1.0))
        midpoint = (float(low) + float(high)) / 2  # rounds to one of the two in single precision
        scores = torch.tensor([low, high])
        fixed = Criterion(lambda logits, t: (logits[-1].softmax(-1), scores[: logits.shape[1]]))
        monkeypatch.setitem(CRITERIA._entries, "fixed", fixed)
        prediction = net.predict(x[:2], policy(net, [0, 4], [midpoint, -inf], criterion="fixed"))
        assert prediction.exit.tolist() == [1, 0]

    def test_a_criterion_with_memory_sees_all_exits_so_far_of_the_samples_on_their_way(self, net, x, monkeypatch):
        shapes = []

        def mean(logits, parameters):
            temperature = parameters["temperature"]
            shapes.append((*logits.shape, *temperature.shape))
            answer = (logits / temperature[:, :, None]).softmax(-1).mean(0)
            return answer, answer.amax(-1)

        monkeypatch.setitem(CRITERIA._entries, "running_mean", Criterion(mean, memory="all", own_answer=False))
        rows = [0, 1, 4]
        with torch.no_grad():
            said = torch.stack([net(x)[i] for i in rows]).softmax(-1)
        running = torch.stack([said[: k + 1].mean(0) for k in range(3)])
        scores = running.amax(-1)
        thresholds = [*scores.sort(-1).values[:2, 19:21].mean(-1).tolist(), -inf]
        stop = (scores >= torch.tensor(thresholds)[:, None]).float().argmax(0)
        each = torch.arange(len(x))
        expected = running.argmax(-1)[stop, each], stop, scores[stop, each]
        assert_prediction(net.predict(x, policy(net, rows, thresholds, criterion="running_mean")), expected)
        assert shapes[0] == (1, 40, 3, 1, 1)
        assert shapes[2] == (3, int((stop > 1).sum()), 3, 3, 1)

    def test_whom_nobody_is_sure_about_is_handed_on(self, net, x):
        never, own = policy(net, [0, 4], [2.0, -inf]).stops
        stops = (never, Stop(exit=own.exit, threshold=0.5), Stop(exit=ASK, threshold=-inf))
        asking = Policy(stops=stops, criterion="max_prob")
        with torch.no_grad():
            said = net(x)[4].softmax(-1)
        stays = said.amax(-1) < 0.5
        assert 0 < stays.sum() < len(x)
        for prediction in (net.predict(x, asking), Prediction.join([net.predict(one[None], asking) for one in x])):
            expected = torch.where(stays, ABSTAINED, said.argmax(-1))
            assert prediction.answer.tolist() == expected.tolist()
            assert prediction.exit.tolist() == torch.where(stays, 2, 1).tolist()
            assert np.isnan(prediction.score).tolist() == stays.tolist()

    @pytest.mark.parametrize(
        ("criterion", "answer"),
        [("margin", a) for a in ("mean", "most_confident", "average", "max", "combined")]
        + [("learned", "own"), ("learned", "most_confident"), ("learned_path", "own"), ("own_gate", "own")],
    )
    def test_scores_and_answers_of_all_kinds_are_those_of_the_table(self, net, x, criterion, answer):
        rng, needs = np.random.default_rng(0), decision_named(decision_name(criterion, answer)).needs
        made = {kind: rng.normal(size=(1, 5, width)) for kind, width in parameter_widths(3).items()}
        made |= dict.fromkeys(("ensemble", "combination"), np.array([[[0.5], [1.0], [0.2], [2.0], [1.5]]]))
        fits = tuple(Fit(kind, net.exits, made[kind].astype(np.float32), NO_FOLDS) for kind in needs)
        with torch.no_grad():
            logits = torch.stack(net(x)).numpy()
        table = ExitTable(logits, np.zeros(len(x), np.int64), net.exits, "test", "s")
        rows, scoring = [0, 2, 4], Scoring(criterion, answer, fits)
        scores, _ = path_outputs(table, rows, scoring)
        thresholds = [*np.sort(scores)[:2, 19:21].mean(-1).tolist(), -inf]
        chosen = policy(net, rows, thresholds, criterion=criterion, answer=answer, fits=scoring.keys)
        stop, answers = replay(chosen, table, fits)
        prediction = net.predict(x, chosen, fits)
        assert len(set(stop)) == 3
        assert prediction.exit.tolist() == stop.tolist()
        assert prediction.answer.tolist() == answers.tolist()
        np.testing.assert_allclose(prediction.score, scores[stop, np.arange(len(x))], atol=1e-6)


class Scaled(nn.Module):
    """Two convolutions, and between them a weight and a buffer that no layer holds."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.last = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.full((4, 1, 1), 2.0))
        self.register_buffer("shift", torch.full((4, 1, 1), 0.5))
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.two(self.one(x) * self.scale + self.shift)).mean((2, 3)))


class TestMergedSegmentsSeeTheCurrentNetwork:
    """Stages are merged, and remembered, before each change."""

    @pytest.fixture
    def net(self, x):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            backbone = split(Scaled(), x, ["one", "two"])
            return ExitNet(backbone, {("two", "linear-avg1"): build_head(LINEAR, backbone.cuts[1].shape, 3)}).eval()

    def assert_right(self, net, x):
        """All policies answer as the network's own chain of segments; returns the last logits."""
        with torch.no_grad():
            expected = net(x)
        for rows in ([0, 1], [1], [0]):
            prediction = net.predict(x, policy(net, rows, [*[inf] * (len(rows) - 1), -inf]))
            np.testing.assert_allclose(prediction.score, expected[rows[-1]].softmax(-1).amax(-1), rtol=1e-5)
        return expected[-1]

    def test_after_training_in_place(self, net, x):
        before = self.assert_right(net, x)
        optimizer = torch.optim.SGD(net.parameters(), 0.5)
        nn.functional.cross_entropy(net.train()(x)[-1], torch.arange(40) % 3).backward()
        optimizer.step()
        assert net.backbone.span(0, 3).model.norm.training
        net.eval()
        assert not net.backbone.span(0, 3).model.norm.training
        assert not torch.allclose(self.assert_right(net, x), before)

    def test_after_loading(self, net, x):
        before = self.assert_right(net, x)
        other = copy.deepcopy(net)
        with torch.no_grad():
            for tensor in other.state_dict().values():
                tensor.add_(1)
        other.refresh()
        net.load_arrays(*other.arrays())
        assert not torch.allclose(self.assert_right(net, x), before)

    def test_after_weights_were_replaced(self, net, x):
        before = self.assert_right(net, x)
        state = {name: tensor + 1 for name, tensor in net.state_dict().items()}
        net.load_state_dict(state, assign=True)
        assert not torch.allclose(self.assert_right(net, x), before)

    def test_after_a_conversion(self, net, x):
        self.assert_right(net, x)
        self.assert_right(net.double(), x.double())
        held = {name: t.dtype for name, t in net.backbone.span(0, 3).named_buffers()}
        assert held["model.shift"] == torch.float64

    @pytest.mark.parametrize("again", [copy.deepcopy, lambda n: cloudpickle.loads(cloudpickle.dumps(n))])
    def test_in_a_copy_and_in_what_was_copied(self, net, x, again):
        before = self.assert_right(net, x)
        twin = again(net)
        with torch.no_grad():
            for tensor in twin.state_dict().values():
                tensor.add_(1)
        assert not torch.allclose(self.assert_right(twin, x), before)
        assert torch.equal(self.assert_right(net, x), before)


class TestArrays:
    def test_round_trip_on_an_untouched_backbone(self, net, backbone, x):
        start = copy.deepcopy(backbone)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(1.5)
        net.heads[1].train()(net.backbone.run((x,), 0, 2)[0])  # moves the running statistics of a head
        net.eval().refresh()
        before = start.key
        again = ExitNet.from_arrays(start, *net.arrays())
        assert start.key == before
        assert again.network == net.network != before
        assert again.exits == net.exits
        assert not again.training
        assert all(torch.equal(a, b) for a, b in zip(again(x), net(x), strict=True))

    def test_arrays_do_not_change_with_the_network(self, net):
        arrays, meta = net.arrays()
        assert all(isinstance(value, str) for value in meta.values())
        assert {name.split(".")[0] for name in arrays} == {"backbone", "head"}
        kept = arrays["backbone.linear.bias"].copy()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(1.0)
        np.testing.assert_array_equal(arrays["backbone.linear.bias"], kept)

    def test_another_networks_weights_are_refused(self, net, backbone):
        arrays, meta = net.arrays()
        small = ExitNet(copy.deepcopy(backbone), {("stem.2", "linear-avg1"): build_head(LINEAR, (4, 8, 8), 3)})
        with pytest.raises(ModelError, match="other heads"):
            small.load_arrays(arrays, meta)
        with pytest.raises(ModelError, match="other cuts"):
            ExitNet.from_arrays(backbone.keep(["stem.2"]), arrays, meta)
        with pytest.raises(ModelError, match="other code"):
            net.load_arrays(arrays, {**meta, "network": "another"})
        with pytest.raises(ModelError, match=r"do not fit the head 'linear-avg1' at 'stem\.2'"):
            net.load_arrays({name: a for name, a in arrays.items() if name != "head.0.body.1.bias"}, meta)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda n: cloudpickle.loads(cloudpickle.dumps(n))])
def test_survives_copying_and_pickling(net, x, again):
    twin = again(net)
    p = policy(net, [0, 2, 4], [0.4, 0.4, -inf])
    assert_prediction(twin.predict(x, p), _fields(net.predict(x, p)))
    assert isinstance(twin.heads, nn.ModuleList)


def _fields(prediction):
    return prediction.answer, prediction.exit, prediction.score
