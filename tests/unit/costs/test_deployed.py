"""The loop on the host does what routing does, on every back end that is here."""

from math import inf, isnan

import numpy as np
import pytest
import torch

from eesearch.core.design import ABSTAINED, ASK, HeadSpec
from eesearch.core.errors import CostError
from eesearch.core.policy import Policy, Stop
from eesearch.costs.backends import backend_names, find_backend
from eesearch.costs.deployed import StageRunner, lower_policy, on_host
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.heads import build_head
from eesearch.nets.split import split
from eesearch.nets.stages import Prediction
from eesearch.nets.zoo import residual_cnn

CUTS = ["stem.2", "stages.1.0.bn1"]  # behind the second two tensors travel on
DECISIONS = ["max_prob/own", "patience/own", "margin/most_confident", "entropy/average"]
COUNT = 24


@pytest.fixture(scope="module")
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = torch.randn(COUNT, 1, 8, 8)
        backbone = split(residual_cnn(channels=(4, 8), classes=3), x, CUTS)
        heads = {(c.name, "linear-avg1"): build_head(HeadSpec(kind="linear"), c.shape, 3) for c in backbone.cuts}
        return ExitNet(backbone, heads).eval(), x


def policy(net, x, decision, *, asks=False):
    """Thresholds at which some samples leave at each stop."""
    criterion, answer = decision.split("/")
    never = Policy(stops=stops(net, (inf, inf, -inf)), criterion=criterion, answer=answer)
    if criterion == "patience":
        thresholds = (1.5, 1.5, -inf)
    else:
        middle = []
        for number in range(3):
            cut = Policy(stops=(*never.stops[:number], never.stops[number].model_copy(update={"threshold": -inf})),
                         criterion=criterion, answer=answer)  # fmt: skip
            scores = np.sort(net.predict(x, cut).score.astype(float))
            middle.append((scores[COUNT // 2] + scores[COUNT // 2 - 1]) / 2)
        thresholds = (middle[0], middle[1], middle[2] if asks else -inf)
    last = (Stop(exit=ASK, threshold=-inf),) if asks else ()
    return Policy(stops=(*stops(net, thresholds), *last), criterion=criterion, answer=answer)


def stops(net, thresholds):
    return tuple(Stop(exit=e, threshold=t) for e, t in zip(net.exits, thresholds, strict=True))


def runner(net, chosen, name, x):
    try:
        backend = find_backend("cpu", name)
    except CostError as missing:
        pytest.skip(str(missing))
    lowered = lower_policy(net.stages(chosen), chosen, (), x)
    with torch.no_grad():
        prepared = [backend.prepare(stage.module, stage.example) for stage in lowered]
    calls = tuple(backend.load(p, stage.example, 1) for p, stage in zip(prepared, lowered, strict=True))
    remembers = any(name.startswith("logits") for stage in lowered for name in stage.inputs)
    return StageRunner(calls, tuple(stage.threshold for stage in lowered), remembers, backend.native), backend


def check(net, x, decision, name):
    """One by one, and together where the back end takes any number of samples."""
    chosen = policy(net, x, decision)
    expected = net.predict(x, chosen)
    assert len(set(expected.exit.tolist())) > 1
    run, backend = runner(net, chosen, name, x[:1])
    with torch.inference_mode():
        said = [Prediction(*(np.array([part]) for part in run.one(backend.native(x[i : i + 1])))) for i in range(COUNT)]
        found = [Prediction.join(said), *([run.batch(backend.native(x))] if backend.batches else [])]
    for each in found:
        assert each.answer.tolist() == expected.answer.tolist()
        assert each.exit.tolist() == expected.exit.tolist()
        assert each.score.tolist() == pytest.approx(expected.score.tolist(), abs=1e-4)


@pytest.mark.parametrize("decision", DECISIONS)
def test_compiled_stages_answer_as_routing_does(net, decision):
    check(*net, decision, "eager")


@pytest.mark.slow  # networks are exported and compiled
@pytest.mark.parametrize("decision", ["max_prob/own", "patience/own"])
@pytest.mark.parametrize("name", [n for n in backend_names("cpu") if n != "eager"])
def test_so_they_do_on_every_back_end(net, name, decision):
    check(*net, decision, name)


def test_who_passes_the_last_stage_is_handed_on(net):
    net, x = net
    chosen = policy(net, x, "max_prob/own", asks=True)
    run, _ = runner(net, chosen, "eager", x)
    with torch.inference_mode():
        said, expected = run.batch(x), net.predict(x, chosen)
        asked = int(np.flatnonzero(expected.exit == 3)[0])
        answer, stop, score = run.one(x[asked : asked + 1])
    assert said.answer.tolist() == expected.answer.tolist()
    assert said.exit.tolist() == expected.exit.tolist()
    assert (answer, stop) == (ABSTAINED, 3)
    assert isnan(score)


def test_samples_that_left_are_not_computed(net):
    net, x = net
    chosen = policy(net, x, "max_prob/own")
    run, _ = runner(net, chosen, "eager", x)
    seen = []

    def counted(call):
        def counting(*inputs):
            seen.append(len(inputs[0]))
            return call(*inputs)

        return counting

    counting = StageRunner(tuple(map(counted, run.calls)), run.thresholds, run.remembers, run.native)
    with torch.inference_mode():
        exits = counting.batch(x).exit
    assert seen == [int((exits >= k).sum()) for k in range(3)]


def test_no_number_leaves_at_the_end():
    """As in routing: a score that is not a number never leaves early."""
    nan = torch.tensor([torch.nan])
    call = lambda x: (x, x, torch.tensor([1]), nan)  # noqa: E731
    last = lambda x: (x, torch.tensor([2]), nan)  # noqa: E731
    run = StageRunner((call, last), (0.5, -inf), False, lambda t: t)
    assert run.one(torch.zeros(1, 1))[:2] == (2, 1)
    assert run.batch(torch.zeros(1, 1)).exit.tolist() == [1]


def test_outputs_of_both_kinds_come_to_the_host():
    assert on_host(torch.arange(2)).tolist() == on_host(np.arange(2)).tolist() == [0, 1]
