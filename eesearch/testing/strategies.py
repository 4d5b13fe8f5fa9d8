"""What every training strategy does."""

from __future__ import annotations

import copy
from itertools import accumulate, pairwise, product
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eesearch.core.design import Design, ExitSpec, HeadSpec, LossSpec, TrainSpec
from eesearch.core.errors import InputError
from eesearch.core.registry import STRATEGIES
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.split import split
from eesearch.testing.seeds import CLASSES, seeded
from eesearch.training.bank import build_heads
from eesearch.training.checkpoint import Checkpoint, weights_hash
from eesearch.training.collect import collect
from eesearch.training.data import Split
from eesearch.training.loop import Phase
from eesearch.training.plans import Strategy, count_work, train_design
from eesearch.training.samples import Batches, Samples


class StrategyContract:
    """What every strategy of the STRATEGIES registry does, shown on three clusters and a network with two exits.

    A test class says which strategy:

        class TestMine(StrategyContract):
            strategy = "mine"

    Attributes:
        strategy: Its name.
        loss: How its losses are weighed; costs that it asks for are filled in.
        before: How the backbone is trained first, if the strategy does that.
        gate: Of the heads.
    """

    strategy: str
    loss: LossSpec = LossSpec()
    before: TrainSpec | None = None
    gate: Literal["none", "linear", "mlp"] = "none"

    def test_learns_separable_data(self) -> None:
        """Every exit does, and the network's own classifier gets no worse."""
        net, design = self.toy(epochs=15)
        before = collect(net, _CLUSTERS).accuracy
        after = collect(train_design(net, design, _CLUSTERS), _CLUSTERS).accuracy
        assert (before[:-1] < 0.9).all()
        assert (after[:-1] > 0.95).all()
        assert after[-1] >= before[-1]

    def test_leaves_what_is_frozen_untouched(self) -> None:
        """Each phase trains its parts; all else stays bit-identical, statistics included, and runs in eval mode."""
        net, design = self.toy(epochs=1)
        given, still = weights_hash(net), copy.deepcopy(net)
        phases = self._registered.phases(still, design)
        states, modes = [_state(still)], []

        def look(network: ExitNet, _: int) -> None:
            states.append(_state(network))
            modes.append({name: module.training for name, module in network.named_modules()})

        trained = train_design(net, design, _CLUSTERS, after_epoch=look)
        ends = list(accumulate((phase.spec.epochs for phase in phases), initial=0))
        assert len(states) == ends[-1] + 1
        for phase, (start, end) in zip(phases, pairwise(ends), strict=True):
            learning, running = _learning(phase, still), set((phase.model or still).modules())
            parts = still.state_dict(keep_vars=True)
            moved = {name for name in parts if not torch.equal(states[start][name], states[end][name])}
            assert moved
            assert not {name for name in moved if id(parts[name]) not in learning}, f"frozen in '{phase.label}'"
            for name, module in still.named_modules():
                if module in running and not any(id(t) in learning for t in _tensors(module)) and _tensors(module):
                    assert not any(mode[name] for mode in modes[start:end]), f"{name} in '{phase.label}'"
        assert weights_hash(net) == given, "it trains a copy"
        assert not any(module.training for module in trained.modules())
        assert all(p.requires_grad and p.grad is None for p in trained.parameters())

    def test_stops_learning_where_the_rate_is_0(self) -> None:
        """A part whose learning rate has come to 0 is frozen like any other."""
        net, design = self.toy(epochs=4)
        states, still = [], copy.deepcopy(net)
        phases = self._registered.phases(still, design)
        train_design(net, design, _CLUSTERS, after_epoch=lambda network, _: states.append(_state(network)))
        for phase, start in zip(phases, accumulate((p.spec.epochs for p in phases), initial=0), strict=False):
            batches = len(Batches(Samples.of(_CLUSTERS), phase.spec))
            parts = still.state_dict(keep_vars=True)
            for part, epoch in product(phase.learns, range(1, phase.spec.epochs)):
                if phase.lr(part, epoch * batches, batches * phase.spec.epochs) > 0.0:
                    continue
                own = {id(t) for t in _tensors((phase.model or still).get_submodule(part))}
                for name in (name for name, tensor in parts.items() if id(tensor) in own):
                    assert torch.equal(states[start + epoch - 1][name], states[start + epoch][name]), name

    def test_killed_and_resumed_is_uninterrupted(self, tmp_path: Path) -> None:
        """In any phase: what was done is not done again, and the same bits come out."""
        net, design = self.toy(epochs=2)
        events: list[_Event] = []
        whole = train_design(net, design, _CLUSTERS, progress=_Listener(events))
        labels = [label for label, _, _ in events]
        for label in dict.fromkeys(labels):
            done = labels.index(label) + labels.count(label) // 2  # batches before the phase's second epoch
            checkpoint, told = Checkpoint(tmp_path / str(done) / "run"), list[_Event]()
            _interrupted(net, design, checkpoint, _Listener([], stop=done + 1))
            resumed = train_design(net, design, _CLUSTERS, checkpoint=checkpoint, progress=_Listener(told))
            assert told == events[done:], f"killed in '{label}'"
            assert weights_hash(resumed) == weights_hash(whole), f"killed in '{label}'"
            assert resumed.network == whole.network

    def test_the_seed_decides(self) -> None:
        """Nothing else that is random does: on one machine the same seed gives the same bits."""
        net, design = self.toy(epochs=1)
        first = weights_hash(train_design(net, design, _CLUSTERS))
        with seeded(7):
            before = torch.random.get_rng_state()
            assert weights_hash(train_design(net, design, _CLUSTERS)) == first
            assert torch.equal(torch.random.get_rng_state(), before), "the global generator is left alone"
        assert weights_hash(train_design(net, design.model_copy(update={"seed": 1}), _CLUSTERS)) != first

    def test_reports_progress(self) -> None:
        """Batch by batch, phase after phase, and all the epochs that its work was said to take."""
        net, design = self.toy(epochs=2)
        told: list[_Event] = []
        epochs: list[int] = []
        listener = _Listener(told)
        train_design(net, design, _CLUSTERS, progress=listener, after_epoch=lambda _, done: epochs.append(done))
        phases, work = self._registered.phases(copy.deepcopy(net), design), count_work(net, design, len(_CLUSTERS))
        assert list(dict.fromkeys(label for label, _, _ in told)) == [phase.label for phase in phases]
        for phase in phases:
            done = [(number, total) for label, number, total in told if label == phase.label]
            assert done == [(number, len(done)) for number in range(1, len(done) + 1)]
        assert epochs == list(range(1, work.epochs + 1))
        assert work.samples > 0
        assert 0 <= work.backward <= work.forward

    def test_what_it_does_not_use_changes_nothing(self) -> None:
        """Neither key nor training; what it uses does change the key."""
        net, design = self.toy(epochs=1)
        uses, unused = self._registered.uses, design
        for name, value in _OTHERS:
            changed: dict[str, object] = {name: value}
            if name == "alpha":
                changed = {"exits": tuple(e.model_copy(update={"alpha": value}) for e in design.exits)}
            elif name != "before":
                if getattr(design.loss, name) == value:
                    continue
                changed = {"loss": unused.loss.model_copy(update={name: value})}
            assert (unused.model_copy(update=changed).key != unused.key) == (name in uses), name
            unused = unused if name in uses else unused.model_copy(update=changed)
        plain, other = (weights_hash(train_design(net, one, _CLUSTERS)) for one in (design, unused))
        assert plain == other

    def test_refuses_nonsense(self) -> None:
        """Exits that are not the network's, or none; alpha < 0 or lambda < 0, where they matter."""
        net, design = self.toy(epochs=1)
        for exits in ((), design.exits[:1], design.exits[::-1]):
            self._refused(net, design.model_copy(update={"exits": exits}), "exits")
        negative = tuple(e.model_copy(update={"alpha": -1.0}) for e in design.exits)
        if "alpha" in self._registered.uses:
            self._refused(net, design.model_copy(update={"exits": negative}), "alpha")
        for name, value in (("cost_weight", -1.0), ("distill", 1.5), ("temperature", 0.0), ("costs", (0.5,))):
            if name in self._registered.uses:
                loss = design.loss.model_copy(update={name: value})
                self._refused(net, design.model_copy(update={"loss": loss}), name)

    @property
    def _registered(self) -> Strategy:
        assert STRATEGIES[self.strategy].name == self.strategy
        return STRATEGIES[self.strategy]

    def _refused(self, net: ExitNet, design: Design, what: str) -> None:
        try:
            train_design(net, design, _CLUSTERS)
        except InputError:
            return
        raise AssertionError(f"{self.strategy} was trained with impossible {what}")

    def toy(self, *, epochs: int) -> tuple[ExitNet, Design]:
        """A network with normalisation, dropout and an exit at each cut, and its design."""
        with seeded(0):
            layers = (nn.Linear(4, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 12), nn.Dropout(0.1), nn.ReLU())
            model = nn.Sequential(*layers, nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, CLASSES))
        backbone = split(model, torch.zeros(1, 4))
        head = HeadSpec(gate=self.gate)
        design = Design(
            backbone=backbone.key,
            data=_CLUSTERS.key,
            strategy=self.strategy,
            exits=tuple(ExitSpec(cut=cut.name, head=head, alpha=0.5) for cut in backbone.cuts),
            train=TrainSpec(epochs=epochs, batch_size=16, lr=0.04),
            loss=self.loss.model_copy(update={"costs": (0.3, 0.6, 1.0)}),
            before=self.before,
        )
        return ExitNet(backbone, build_heads(backbone, design.exits, 0)), design


def _clusters(samples: int = 64) -> Split:
    generator, labels = torch.Generator().manual_seed(0), torch.arange(samples) % CLASSES
    inputs = 0.3 * torch.randn(samples, 4, generator=generator) + 2.0 * F.one_hot(labels, 4)
    return Split("train", inputs.numpy(), labels.numpy())


_CLUSTERS = _clusters()

_OTHERS: tuple[tuple[str, object], ...] = (
    *(("alpha", 0.7), ("before", TrainSpec(epochs=3)), ("ramp", "cosine"), ("combine", "max"), ("cost_weight", 0.7)),
    *(("distill", 0.8), ("temperature", 5.0), ("teacher", "final"), ("freeze", "linear"), ("costs", (0.2, 0.5, 1.0))),
)
"""Fields of a design or its loss, with other values than the defaults."""

_Event = tuple[str, int, int]


class _KilledError(Exception):
    """Stands for SIGKILL."""


class _Listener:
    """Remembers what a training tells, and ends it in the middle of a step."""

    def __init__(self, events: list[_Event], stop: int = 0) -> None:
        self._events, self._stop = events, stop

    def __call__(self, label: str, done: int, total: int) -> None:
        self._events.append((label, done, total))
        if len(self._events) == self._stop:
            raise _KilledError


def _interrupted(net: ExitNet, design: Design, checkpoint: Checkpoint, listener: _Listener) -> None:
    try:
        train_design(net, design, _CLUSTERS, checkpoint=checkpoint, progress=listener)
    except _KilledError:
        return
    raise AssertionError("the training had ended before")


def _state(net: ExitNet) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def _tensors(module: nn.Module) -> list[Tensor]:
    return list(module.state_dict(keep_vars=True).values())


def _learning(phase: Phase, net: ExitNet) -> set[int]:
    """What learns in a phase, by identity: a phase may train another module that shares it."""
    model = phase.model or net
    return {id(tensor) for part in phase.learns for tensor in _tensors(model.get_submodule(part))}
