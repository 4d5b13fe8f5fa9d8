"""What a training strategy is, and how a design is trained by one: phase after phase, each run by the one loop."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from eesearch.core.design import Design, LossSpec
from eesearch.core.errors import InputError
from eesearch.core.progress import Progress, silent
from eesearch.core.registry import STRATEGIES
from eesearch.core.tables import ExitTable
from eesearch.nets.exitnet import ExitNet
from eesearch.training.accelerator import CPU, HERE, Room
from eesearch.training.cache import CACHING
from eesearch.training.checkpoint import Checkpoint
from eesearch.training.data import Split
from eesearch.training.fitting import fit_heads, is_fitted
from eesearch.training.loop import Phase, train, unheard
from eesearch.training.samples import Samples

AfterEpoch = Callable[[ExitNet, int], None]
"""Called with a network in the middle of its training, and with the number of epochs that it has had."""


def no_scorings(loss: LossSpec) -> tuple[tuple[str, str], ...]:
    """The designs decide as the search space says, and in no other way."""
    return ()


@dataclass(frozen=True)
class Strategy:
    """How the exits of a design are trained; the entry type of the STRATEGIES registry.

    Attributes:
        name: As in the registry.
        phases: What to run, in order, to train an `ExitNet` with a design's exits: its parts are `backbone`, `heads`
            and `learnt`, its logits are those of the design's exits, then those of the network's own classifier. Called
            with the network that is trained, before anything has learnt; must not change it, but for `learnt`.
        uses: Fields of `Design` (`alpha`, `before`) and of its `LossSpec` that matter; others are not in `Design.key`.
        scorings: (criterion, answer) by which its designs may decide, beside those of the search space.
        finish: Called with the trained network and the design at the end.
        notes: Figures about a trained design that reports show, by name, from its calibration table.
    """

    name: str
    phases: Callable[[ExitNet, Design], list[Phase]]
    uses: tuple[str, ...] = ()
    scorings: Callable[[LossSpec], tuple[tuple[str, str], ...]] = no_scorings
    finish: Callable[[ExitNet, Design], None] | None = None
    notes: Callable[[ExitTable, Design], dict[str, float]] | None = None


def train_design(
    net: ExitNet,
    design: Design,
    split: Split,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Progress = silent,
    after_epoch: AfterEpoch | None = None,
    room: Room = HERE,
) -> ExitNet:
    """Train the exits of a design by its strategy; returns a trained copy, on the CPU.

    Args:
        net: The network with exactly the exits of the design, warm-started or fresh; stays as it is.
        design: Strategy, weights, training section, seed.
        split: The training split.
        checkpoint: Written after each epoch of each phase; read first.
        progress: Called after each batch.
        after_epoch: Called after each epoch that is run now, counted over all phases; must leave the network as it is.
            It may raise to stop the training.
        room: Where the training runs, and what it may cache.

    Raises:
        InputError: the network and the design have different exits; there is no such strategy; it cannot train them.
        EesearchError: the training diverged.
        RunError: the checkpoint cannot be written.
    """
    _check_exits(net, design)
    trained = copy.deepcopy(net).eval().to(room.device)
    samples = Samples.of(split, design.seed)
    strategy, before = STRATEGIES[design.strategy], 0
    phases = strategy.phases(trained, design)
    for index, phase in enumerate(phases):
        own = checkpoint.phase(index, design.key) if checkpoint else None
        tell = partial(_tell, after_epoch, trained, before) if after_epoch else unheard
        samples = phase.inputs(samples, room.caching) if phase.inputs else samples
        train(phase.model or trained, phase, samples, checkpoint=own, progress=progress, after_epoch=tell)
        before += phase.spec.epochs
    del samples  # and what was cached of them
    if strategy.finish is not None:
        strategy.finish(trained, design)
    trained.to(CPU).refresh()
    own = checkpoint.phase(len(phases), design.key) if checkpoint else None
    fit_heads(trained, split, design.seed, caching=room.caching, checkpoint=own, progress=progress)
    return trained


def _tell(after_epoch: AfterEpoch, net: ExitNet, before: int, epochs: int) -> None:
    after_epoch(net, before + epochs)


@dataclass(frozen=True)
class Work:
    """What a training takes.

    Attributes:
        epochs: In all phases.
        last: Of these, in the last phase: before it a network cannot be compared with others at the same epoch.
        samples: That go through the backbone, or through as many of its segments as the backbone has.
        forward: Segments that samples go through.
        backward: Segments that gradients of samples go through.
        ready: Samples and segments, as the three before, that are done before the first epoch: of other networks.
    """

    epochs: int
    last: int
    samples: int
    forward: int
    backward: int
    ready: tuple[int, int, int] = (0, 0, 0)

    @property
    def before(self) -> int:
        """Epochs before the last phase."""
        return self.epochs - self.last

    def upto(self, epochs: int) -> Work:
        """What the first so many epochs take, about: each as much as another."""
        share = epochs / max(self.epochs, 1)
        whole = (self.samples, self.forward, self.backward)
        samples, forward, backward = (
            done + round(share * (value - done)) for value, done in zip(whole, self.ready, strict=True)
        )
        return Work(epochs, self.last, samples, forward, backward, self.ready)


def count_work(net: ExitNet, design: Design, samples: int) -> Work:
    """What training a design takes, on a training split of so many samples.

    Args:
        net: With the design's exits, trained or not; stays as it is.
        design: By its strategy.
        samples: In the training split.
    """
    epochs, last, forward, backward, segments = 0, 0, 0.0, 0.0, len(net.backbone.segments)
    for phase in STRATEGIES[design.strategy].phases(copy.deepcopy(net), design):
        onward, back = phase.passes or (segments, segments - _first_learning(phase, segments))
        last = phase.spec.epochs
        epochs += last
        forward += onward * last * samples
        backward += back * last * samples
    if any(is_fitted(net.head(*place)) for place in net.places):  # their hidden states are cached in the end
        forward += segments * samples
    return Work(epochs, last, round(forward / segments), round(forward), round(backward))


def cached_bytes(net: ExitNet, design: Design) -> int:
    """Most bytes of a sample's hidden states that the phases of a design cache at a time.

    Args:
        net: With the design's exits, trained or not; stays as it is.
        design: By its strategy.
    """
    samples = Samples(net.backbone.example, torch.zeros(1, dtype=torch.int64))
    most = 0
    for phase in STRATEGIES[design.strategy].phases(copy.deepcopy(net), design):
        if phase.inputs:
            before = samples.cached_bytes
            samples = phase.inputs(samples, CACHING)
            most = max(most, before + samples.cached_bytes)
    return most


def _first_learning(phase: Phase, segments: int) -> int:
    """Number of the first segment that learns."""
    numbers = [segments]
    for part in (learning.removeprefix("net.") for learning in phase.learns):
        number = part.removeprefix("backbone.segments.").split(".")[0]
        numbers.append(int(number) if number.isdigit() else segments if part.startswith(("heads", "learnt")) else 0)
    return min(numbers)


def _check_exits(net: ExitNet, design: Design) -> None:
    have = [(e.cut, e.head) for e in net.exits if not e.is_output]
    want = [(e.cut, e.head.name) for e in design.exits]
    if have != want:
        raise InputError(
            "the network does not carry the exits of the design, in their order",
            got=", ".join(f"{cut}:{head}" for cut, head in have),
            expected=", ".join(f"{cut}:{head}" for cut, head in want) or "at least one exit",
        )
