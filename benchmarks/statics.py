"""Static networks end to end beside a backbone: sub-networks cut at an exit, and smaller networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from eesearch.costs.devices import parse_device
from eesearch.costs.endtoend import Ran, Ride, run_rides, timing_order
from eesearch.costs.pairing import Compared, compare_blocks
from eesearch.nets.inputs import as_tensor
from eesearch.nets.lower import Lowered
from eesearch.notebook import Run
from eesearch.study.files import load_study
from eesearch.study.materials import load_backbone, load_study_data
from eesearch.study.points import Point
from eesearch.study.verify import Effort

DEPTHS = (20, 32, 44)
"""Of the smaller ResNets, whose weights are at hand."""


class Static(nn.Module):
    """One network that answers everybody, as the timer runs stages: raw samples to (logits, answer, score).

    Args:
        segment: From raw samples to the carry at its end.
        head: Reads that; None: it is the logits.
    """

    def __init__(self, segment: nn.Module, head: nn.Module | None = None) -> None:
        super().__init__()
        self.segment, self.head = segment, head

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[N, ...] to [N, C], [N], [N]; the score means nothing."""
        (end, *_) = self.segment(x)
        logits = end if self.head is None else self.head(end)
        return logits, logits.argmax(-1), logits[:, 0]


@dataclass(frozen=True)
class Timed:
    """What a static network did.

    Attributes:
        accuracy: On all test samples.
        compared: It and the backbone, which took turns.
    """

    accuracy: float
    compared: Compared


def sub_network(run: Run, point: Point) -> nn.Module:
    """The network that is left of a policy with one stop."""
    net, _ = run.network(point, load_study_data(run.question()).test.x[:2])
    (stage,) = net.eval().stages(point.cal.policy)
    return Static(stage.segment, stage.head)


def smaller_resnets(run: Run, models: Path) -> dict[str, nn.Module]:
    """The pretrained ResNets beside the one of a run, by name."""
    found: dict[str, nn.Module] = {}
    for depth in DEPTHS:
        name = f"resnet{depth}"
        weights = models / f"cifar10_{name}.safetensors"
        study = load_study("cifar10_resnet56", [f"backbone.args.depth={depth}", f"backbone.weights={weights}"])
        backbone = load_backbone(study, load_study_data(run.question()).test.x[:2])
        found[name] = Static(backbone.span(0, len(backbone.segments)))
    return found


def time_static(run: Run, networks: Sequence[nn.Module], device: str, effort: Effort, pair_ms: float) -> list[Timed]:
    """Run static networks on the test split, in blocks that take turns with the run's backbone.

    Args:
        run: Names the backbone and the data.
        networks: As `sub_network` and `smaller_resnets` make them.
        device: A timed one of this machine.
        effort: How much is measured.
        pair_ms: What a sample takes in the largest of them and the backbone together, about.
    """
    test, where = load_study_data(run.question()).test, parse_device(device)
    net, _ = run.network(run.device().backbone, test.x[:2])
    seconds = effort.seconds / effort.processes
    order = timing_order(np.zeros(len(test.x), np.int64), pair_ms, seconds, batch=where.batch)
    example = as_tensor(test.x[np.arange(where.batch) % len(test.x)])
    names = ("logits_0", "answer", "score")
    rides = [Ride((Lowered(n.eval(), (example,), ("x",), names, -inf),), order) for n in networks]
    found: dict[int, Timed] = {}

    def finished(number: int, ran: Sequence[Ran]) -> None:
        right: NDArray[np.bool_] = np.array(ran[0].said.answer) == test.y
        compared = compare_blocks([each.timed(rides[number].order) for each in ran])
        found[number] = Timed(float(right.mean()), compared)

    protocol = replace(run.directory.study().measuring, processes=effort.processes)
    backbone = net.eval().backbone
    whole = backbone.span(0, len(backbone.segments))
    run_rides(rides, whole, test.x, device=where, protocol=protocol, finished=finished)
    return [found[number] for number in range(len(rides))]
