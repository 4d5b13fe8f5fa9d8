"""A chosen point without a run: a tiny residual CNN with two heads and random weights, as a search would hand it on."""

import json
from dataclasses import replace
from math import inf

import numpy as np
import pytest
import torch

from eesearch.core.design import ASK, Design, ExitSpec, HeadSpec, TrainSpec
from eesearch.core.front import CostSummary, Evaluation
from eesearch.core.policy import Fit, Policy, Scoring, Stop, decision_name, decision_named
from eesearch.exits.learned import parameter_widths
from eesearch.exporters.chosen import Chosen
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.heads import build_head
from eesearch.nets.inputs import Normalize, Preprocessed
from eesearch.nets.split import split
from eesearch.nets.zoo import residual_cnn
from eesearch.study.config import Expected, ExportedConfig, stop_alphas
from eesearch.study.points import StopFacts
from eesearch.study.question import Study
from eesearch.training.data import Split
from eesearch.training.plans import train_design
from eesearch.training.samples import Batches, Samples

HEADS = (HeadSpec(kind="linear", pool="mixed", size=2), HeadSpec(kind="conv", pool="none", channels=4))
STUDY = {
    "name": "tiny",
    "backbone": {"model": "eesearch.nets.zoo:residual_cnn"},
    "data": {"source": "eesearch.training.data:digits", "calibration": {"from": "train", "share": 0.4}},
    "devices": ["macs"],
}
ALPHAS = (0.3, 0.7)
SAMPLES = 64


@pytest.fixture(scope="session")
def small_net():
    """The network, and raw samples like images of digits; read them, do not change them."""
    return net_of(HEADS)


@pytest.fixture(scope="session")
def gated_net():
    """The same with a gate in each head."""
    return net_of([head.model_copy(update={"gate": gate}) for head, gate in zip(HEADS, ("mlp", "linear"), strict=True)])


def net_of(heads):
    """A network with these heads, and samples."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        cnn = residual_cnn(channels=(8, 16), blocks=1, classes=10, in_channels=1)
        x = np.random.default_rng(0).integers(0, 17, (SAMPLES, 1, 8, 8)).astype(np.uint8)
        backbone = split(Preprocessed(Normalize(1 / 16, (0.3,), (0.37,)), cnn), x[:8])
        hanging = {
            (cut.name, head.name): build_head(head, cut.shape, 10)
            for cut, head in zip(backbone.cuts, heads, strict=False)
        }
        return ExitNet(backbone, hanging).eval(), x


def fits_of(criterion, answer, exits):
    """Made-up fits of what a decision needs."""
    rng, widths = np.random.default_rng(5), parameter_widths(10)
    made = {kind: rng.normal(size=(1, len(exits), width)) for kind, width in widths.items()}
    made["ensemble"] = made["combination"] = np.array([[[1.0], [2.0], [3.0]]])
    needs = decision_named(decision_name(criterion, answer)).needs
    return tuple(Fit(kind, exits, made[kind].astype(np.float32), np.empty(0, np.int16)) for kind in needs)


@pytest.fixture
def make_chosen(small_net, gated_net):
    """`(strategy, criterion, answer, asks, gated) -> Chosen`: a third of the samples leaves at each stop, or so."""

    def make(strategy="joint", criterion="max_prob", answer="own", *, asks=False, gated=False):
        net, x = gated_net if gated else small_net
        scoring = Scoring(criterion, answer, fits_of(criterion, answer, net.exits))
        values = {kind: tuple(map(tuple, rows.tolist())) for kind, rows in scoring.parameters(net.exits).items()}
        draft = [Stop(exit=e, threshold=inf) for e in net.exits[:-1]] + [Stop(exit=net.exits[-1], threshold=-inf)]
        policy = Policy(stops=tuple(draft), criterion=criterion, answer=answer, fits=scoring.keys)
        chosen = Chosen(
            config=config_of(net, policy, strategy, values),
            stages=net.stages(policy),
            scoring=scoring,
            example=torch.from_numpy(x[:2]),
            class_names=tuple("0123456789"),
            losses=(),
            samples=x,
        )
        limits = [between(scores, share) for scores, share in zip(chosen.scores(x), (2 / 3, 1 / 2, 1 / 2), strict=True)]
        stops = [Stop(exit=e, threshold=t) for e, t in zip(net.exits, limits, strict=True)]
        last = Stop(exit=ASK, threshold=-inf) if asks else stops.pop().model_copy(update={"threshold": -inf})
        policy = policy.model_copy(update={"stops": (*stops, last)})
        config = config_of(net, policy, strategy, values)
        return replace(chosen, config=config, stages=net.stages(policy), losses=stop_alphas(config))

    return make


@pytest.fixture
def loop_trained(small_net):
    """`chosen -> (batches, logits)`: what eesearch's own loop makes of the network, and the batches that it saw."""
    net, x = small_net

    def train(chosen):
        labels = np.arange(SAMPLES) % 10
        plain = chosen.config.design.train.model_copy(update={"augment": ()})
        design = chosen.config.design.model_copy(update={"train": plain})
        split = Split("train", x, labels)
        batches = Batches(Samples.of(split, design.seed), plain)
        trained = train_design(net, design, split)
        seen = [batch for epoch in range(plain.epochs) for batch in batches.epoch(epoch)]
        with torch.no_grad():
            return seen, trained(torch.from_numpy(x))

    return train


def between(scores, share):
    """A threshold far from all scores, of which about `share` are smaller."""
    ordered = np.unique(scores)
    if len(ordered) < 12:
        return float(ordered[0]) + 0.5
    first = int(share * len(ordered)) - 5
    gap = first + int(np.argmax(np.diff(ordered[first : first + 10])))
    return float((ordered[gap] + ordered[gap + 1]) / 2)


def config_of(net, policy, strategy, fits):
    """The configuration of a policy with made-up results."""
    exits = tuple(
        ExitSpec(cut=cut, head=head.spec, alpha=alpha)
        for (cut, _), head, alpha in zip(net.places, net.heads, ALPHAS, strict=True)
    )
    train = TrainSpec(epochs=2, batch_size=16, optimizer="sgd", lr=0.01, weight_decay=1e-4, augment=("flip", "crop"))
    before = net.network if strategy == "separate" else "b"  # others train the backbone, which changes its key
    design = Design(backbone=before, data="d", strategy=strategy, exits=exits, train=train, seed=3)
    count = len(policy.stops)
    told = Evaluation(
        policy=policy,
        accuracy=0.9,
        samples=SAMPLES,
        exit_rate=(1 / count,) * count,
        costs={"macs": CostSummary(mean=200.0, p95=300.0, worst=300.0)},
    )
    stops = (StopFacts(share=1 / count, accuracy=0.9, costs={"macs": 100.0 * (i + 1)}) for i in range(count))
    return ExportedConfig(
        study=json.loads(Study.model_validate(STUDY).model_dump_json()),
        design=design,
        policy=policy,
        fits=fits,
        device="macs",
        axis="macs",
        expected=Expected(cal=told, test=told),
        stops=tuple(stops),
    )
