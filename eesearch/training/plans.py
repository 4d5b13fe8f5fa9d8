"""Training strategies as data: each is a list of phases, run by the one loop.

| strategy | phases | learns | loss |
|---|---|---|---|
| `separate` | 1 | the heads, on a frozen backbone | sum L_i |
| `joint` (eq. 6) | 1 | everything | L + sum alpha_i L_i |

`separate` is what the bank trains from cached hidden states (`bank.train_bank`); here it runs through the network,
and gives the same heads.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from eesearch.core.design import Design
from eesearch.core.errors import InputError
from eesearch.core.progress import Progress, silent
from eesearch.core.registry import STRATEGIES
from eesearch.nets.exitnet import ExitNet
from eesearch.training.checkpoint import Checkpoint
from eesearch.training.data import Split
from eesearch.training.loop import Phase, train, unheard
from eesearch.training.losses import joint_loss, separate_loss
from eesearch.training.samples import Samples

AfterEpoch = Callable[[ExitNet, int], None]
"""Called with a network in the middle of its training, and with the number of epochs that it has had."""


@dataclass(frozen=True)
class Strategy:
    """How the exits of a design are trained; the entry type of the STRATEGIES registry.

    Attributes:
        name: As in the registry.
        uses_alpha: Whether the weights of the companion losses matter; if not, they do not enter `Design.key`.
        phases: What to run, in order, on an `ExitNet`: its parts are `backbone` and `heads`, its logits are those of
            the design's exits, then those of the network's own classifier.
    """

    name: str
    uses_alpha: bool
    phases: Callable[[Design], list[Phase]]


def _separate(design: Design) -> list[Phase]:
    def loss(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
        return separate_loss(logits[:-1], labels)  # the own classifier is frozen with the backbone

    return [Phase("train heads", ("heads",), loss, design.train)]


def _joint(design: Design) -> list[Phase]:
    loss = joint_loss([e.alpha for e in design.exits])
    return [Phase("train joint", ("backbone", "heads"), loss, design.train)]


STRATEGIES.register("separate")(Strategy("separate", uses_alpha=False, phases=_separate))
STRATEGIES.register("joint")(Strategy("joint", uses_alpha=True, phases=_joint))


def train_design(
    net: ExitNet,
    design: Design,
    split: Split,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Progress = silent,
    after_epoch: AfterEpoch | None = None,
) -> ExitNet:
    """Train the exits of a design by its strategy; returns a trained copy.

    Args:
        net: The network with exactly the exits of the design, warm-started or fresh; stays as it is.
        design: Strategy, weights, training section, seed.
        split: The training split.
        checkpoint: Written after each epoch of each phase; read first.
        progress: Called after each batch.
        after_epoch: Called after each epoch that is run now, counted over all phases; must leave the network as it is.
            It may raise to stop the training.

    Raises:
        InputError: the network and the design have different exits; there is no such strategy.
        EesearchError: the training diverged.
        RunError: the checkpoint cannot be written.
    """
    _check_exits(net, design)
    trained = copy.deepcopy(net)
    samples = Samples.of(split, design.seed)
    before = 0
    for index, phase in enumerate(STRATEGIES[design.strategy].phases(design)):
        own = checkpoint.phase(index, design.key) if checkpoint else None
        tell = partial(_tell, after_epoch, trained, before) if after_epoch else unheard
        train(trained, phase, samples, checkpoint=own, progress=progress, after_epoch=tell)
        before += phase.spec.epochs
    trained.refresh()
    return trained


def _tell(after_epoch: AfterEpoch, net: ExitNet, before: int, epochs: int) -> None:
    after_epoch(net, before + epochs)


def count_epochs(design: Design) -> int:
    """How many epochs a design is trained for, in all its phases."""
    return sum(phase.spec.epochs for phase in STRATEGIES[design.strategy].phases(design))


def _check_exits(net: ExitNet, design: Design) -> None:
    have = [(e.cut, e.head) for e in net.exits if not e.is_output]
    want = [(e.cut, e.head.name) for e in design.exits]
    if have != want:
        raise InputError(
            "the network does not carry the exits of the design, in their order",
            got=", ".join(f"{cut}:{head}" for cut, head in have),
            expected=", ".join(f"{cut}:{head}" for cut, head in want) or "at least one exit",
        )
