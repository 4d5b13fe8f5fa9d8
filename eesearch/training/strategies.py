"""Training strategies as data: each is a list of phases, run by the one loop.

| strategy | phases | learns | loss |
|---|---|---|---|
| `separate` | 1 | the heads, on a frozen backbone | sum L_i |
| `joint` (eq. 6) | 1 | everything | L + sum alpha_i L_i |
| `mixed` | 1 or 2 | the backbone, unless it is trained; then everything | L; then as `joint` |
| `distill` | 1 | everything | as `joint`, each exit also imitating a teacher |
| `combined` (eq. 8) | 1 | everything, and the weights of the combination | l(y, y^) + as `joint` |
| `gated` (eqs. 9, 13, 14) | 1 | everything, gates included | l(y, c^_1) + lambda E[cost] + as `joint` |
| `layerwise` | E + 1 | the segments up to an exit and its head, those before frozen and their outputs cached | L_i |
| `freezeout` (eq. 10) | 1 | everything, each part until its time has come | as `joint` |

`separate` is what the bank trains from cached hidden states (`bank.train_bank`); here it runs through the network,
and gives the same heads.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from itertools import groupby

import torch
from torch import Tensor, nn

from eesearch.core.design import Design, LossSpec
from eesearch.core.errors import InputError
from eesearch.core.registry import STRATEGIES
from eesearch.core.tables import ExitTable
from eesearch.core.weights import mean_right
from eesearch.exits.expected import soft_cost
from eesearch.nets.exitnet import ExitNet
from eesearch.training.accelerator import device_of
from eesearch.training.fitting import is_fitted
from eesearch.training.freezing import START_AND_POWER, freeze_share, freezing_rate
from eesearch.training.loop import Phase
from eesearch.training.losses import (
    SHARPEST_GATE,
    combined_loss,
    distilled_loss,
    gated_loss,
    joint_loss,
    mixture,
    separate_loss,
)
from eesearch.training.models import Alone, Stretch, Taught, embed
from eesearch.training.plans import Strategy

WHOLE = ("backbone", "heads")
"""All parts of an `ExitNet`."""


def gated_exits(design: Design) -> list[bool]:
    """Which exits of a design have a gate. [E]"""
    return [e.head.gate != "none" for e in design.exits]


def alphas_of(design: Design) -> list[float]:
    """The weights of a design's companion losses. [E]"""
    return [e.alpha for e in design.exits]


def _separate(net: ExitNet, design: Design) -> list[Phase]:
    def loss(logits: Sequence[Tensor], labels: Tensor, done: float) -> Tensor:
        # the own classifier is frozen with the backbone
        return separate_loss(logits[:-1], labels, done, gated=gated_exits(design))

    learning = any(True for _ in net.heads.parameters())  # heads that are fitted have none
    return [Phase("train heads", ("heads",), loss, design.train)] if learning else []


def _joint(net: ExitNet, design: Design) -> list[Phase]:
    loss = joint_loss(alphas_of(design), ramp=design.loss.ramp, gated=gated_exits(design))
    return [Phase("train jointly", WHOLE, loss, design.train)]


def _mixed(net: ExitNet, design: Design) -> list[Phase]:
    before = []
    if design.before is not None:
        before = [Phase("train backbone", ("network",), joint_loss(()), design.before, model=Alone(net.backbone))]
    return before + _joint(net, design)


def _distill(net: ExitNet, design: Design) -> list[Phase]:
    loss = distilled_loss(alphas_of(design), design.loss, gated=gated_exits(design))
    if design.loss.teacher == "final":
        return [Phase("train with distillation", WHOLE, loss, design.train)]
    taught = Taught(net, copy.deepcopy(net.backbone))
    learns = tuple(f"net.{part}" for part in WHOLE)
    segments = len(net.backbone.segments)
    passes = (2 * segments, segments)
    return [Phase("train with distillation", learns, loss, design.train, model=taught, passes=passes)]


COMBINATION = "combination"
"""The kind of fit that the weights of eq. 8 become."""


def _combined(net: ExitNet, design: Design) -> list[Phase]:
    how, exits, weights = design.loss.combine, len(net.exits), None
    if any(is_fitted(net.head(*place)) for place in net.places):
        raise InputError("the strategy 'combined' trains all heads together", got="a head that is fitted by itself")
    if how in ("softmax", "free"):
        each = 0.0 if how == "softmax" else 1.0 / exits
        weights = nn.Parameter(torch.full((exits, 1), each, device=device_of(net)))
        net.learnt[COMBINATION] = weights
    learns = WHOLE if weights is None else (*WHOLE, "learnt")
    loss = combined_loss(alphas_of(design), how, weights, gated=gated_exits(design))
    return [Phase("train combined", learns, loss, design.train)]


def _answer_combined(loss: LossSpec) -> tuple[tuple[str, str], ...]:
    answer = loss.combine if loss.combine in ("average", "max") else "combined"
    return (("max_prob", answer),)


def _weigh(net: ExitNet, design: Design) -> None:
    """From what was trained to the weights alpha_i themselves."""
    if design.loss.combine == "softmax":
        with torch.no_grad():
            net.learnt[COMBINATION].copy_(net.learnt[COMBINATION].softmax(0))


def _gated(net: ExitNet, design: Design) -> list[Phase]:
    if not all(gated_exits(design)):
        raise InputError(
            "the strategy 'gated' trains gates",
            got=f"the head {next(e.head.name for e in design.exits if e.head.gate == 'none')} without one",
            expected="`gate: linear` or `gate: mlp` at every head",
        )
    return [Phase("train gated", WHOLE, gated_loss(alphas_of(design), design.loss), design.train)]


def _decide_by_gates(loss: LossSpec) -> tuple[tuple[str, str], ...]:
    return (("own_gate", "own"),)


def soft_and_hard(table: ExitTable, design: Design) -> dict[str, float]:
    """Accuracy and cost (in backbones) of eq. 9 as trained, with soft decisions, and with gates rounded to 0 and 1."""
    logits, labels = torch.from_numpy(table.logits), torch.from_numpy(table.labels)
    soft = torch.sigmoid(logits.mean(-1) * SHARPEST_GATE)  # [E, N]
    found = {}
    for name, gates in (("soft", soft), ("hard", soft.round())):
        mixed = mixture(logits.softmax(-1), gates)
        found[f"{name} accuracy"] = float(mean_right((mixed.argmax(-1) == labels).numpy(), table.weights))
        found[f"{name} cost"] = float(soft_cost(gates, gates.new_tensor(design.loss.costs)).mean())
    return found


def _refuse_shared(net: ExitNet, strategy: str) -> None:
    """Layers that freeze one after the other must not share weights, as the time steps of recurrent networks do."""
    held = [id(parameter) for segment in net.backbone.segments for parameter in segment.parameters()]
    if len(set(held)) < len(held):
        raise InputError(
            f"the strategy '{strategy}' freezes layers one after the other",
            got="segments that share weights",
            expected="a network whose layers have weights of their own",
            do="Train it by joint, mixed, distill, combined or gated.",
        )


def _layerwise(net: ExitNet, design: Design) -> list[Phase]:
    _refuse_shared(net, "layerwise")
    answering = [(k, tuple(i for i, _ in heads)) for k, heads in groupby(enumerate(net.taps), key=lambda pair: pair[1])]
    trained = [any(True for i in heads for _ in net.heads[i].parameters()) for _, heads in answering]  # others: fitted
    ends = [(k + 1, heads) for (k, heads), learning in zip(answering, trained, strict=True) if learning]
    ends.append((len(net.backbone.segments), ()))
    phases, first, before = [], 0, 0
    for number, (last, heads) in enumerate(ends, start=1):
        # Embeddings are cached once, so from the second layer on every epoch sees the same ones: not transformed.
        spec = design.train if number == 1 else design.train.model_copy(update={"augment": ()})
        embedded = (first - before) / max(spec.epochs, 1)
        learns = [f"backbone.segments.{k}" for k in range(first, last)] + [f"heads.{i}" for i in heads]
        gated = [gated_exits(design)[i] for i in heads]
        phases.append(
            Phase(
                f"train layer {number} of {len(ends)}",
                tuple(learns),
                partial(separate_loss, gated=gated),
                spec,
                model=Stretch(net, first, last, heads),
                inputs=partial(embed, net.backbone, segments=first) if first else None,
                passes=(embedded + last - first, last - first),
            )
        )
        before, first = first, last
    return phases


def _freezeout(net: ExitNet, design: Design) -> list[Phase]:
    _refuse_shared(net, "freezeout")
    (joint,) = _joint(net, design)
    start, power = START_AND_POWER[design.loss.freeze]
    ends = sorted(set(net.taps))  # layers lie between exits: where else the backbone could be cut does not matter
    layers = [sum(end < k for end in ends) for k in range(len(net.backbone.segments))]
    parts = [f"backbone.segments.{k}" for k in range(len(layers))]
    shares = {
        part: freeze_share(layer, len(ends) + 1, start=start, power=power)
        for part, layer in zip(parts, layers, strict=True)
    }

    def rate(part: str, step: int, steps: int) -> float:
        share = shares.get(part, 1.0)  # heads learn to the end
        return freezing_rate(step, share * steps) / share

    return [
        Phase(
            "train with freezing",
            (*parts, "heads"),
            joint.loss,
            design.train,
            rate,
            passes=(len(parts), sum(shares.values())),
        )
    ]


LOSS = ("alpha", "ramp")
"""What every loss of eq. 6 uses."""

for _strategy in (
    Strategy("separate", _separate),
    Strategy("joint", _joint, LOSS),
    Strategy("mixed", _mixed, (*LOSS, "before")),
    Strategy("distill", _distill, (*LOSS, "distill", "temperature", "teacher")),
    Strategy("combined", _combined, ("alpha", "combine"), scorings=_answer_combined, finish=_weigh),
    Strategy("gated", _gated, ("alpha", "cost_weight", "costs"), scorings=_decide_by_gates, notes=soft_and_hard),
    Strategy("layerwise", _layerwise),
    Strategy("freezeout", _freezeout, (*LOSS, "freeze")),
):
    STRATEGIES.register(_strategy.name)(_strategy)
