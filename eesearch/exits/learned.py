"""Learned criteria: how likely an exit is right, by a gate in its head or by logistic regression on what exits say.

The parameters of one exit are one row [D], intercept first, so that nothing but arrays is needed at inference:

    learned         D = 1 + P         score = sigmoid(row[0] + row[1:] @ features(answer))
    learned_path    D = 1 + P + 6     the same, and what the active exits before it say (see `path_features`)

with the P = 3 + C features of `eesearch.exits.gates`, of tempered probabilities.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from eesearch.core.policy import Criterion, Parameters
from eesearch.core.registry import CRITERIA
from eesearch.exits.criteria import max_prob_score, probabilities
from eesearch.exits.gates import FIGURES, features, gate_width

EARLIER = 6
"""Numbers that sum up what earlier exits say."""

FITTED = ("ensemble", "learned", "learned_path")
"""Kinds of fit, besides temperatures, that are made from a calibration table."""

Array = Any
"""A numpy array or a torch tensor."""


def parameter_widths(classes: int) -> dict[str, int]:
    """D, the number of parameters of one exit, for every kind of fit."""
    answer = FIGURES + classes
    learned = {"learned": 1 + answer, "learned_path": 1 + answer + EARLIER}
    return {"temperature": 1, "ensemble": 1, "combination": 1, "gate": gate_width(classes), **learned}


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), which never overflows."""
    xp = array_namespace(x)
    small = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1.0 / (1.0 + small), small / (1.0 + small))


def path_features(logits: Array, temperature: Array) -> Array:
    """What a gate sees at the last of several active exits: its features, then six numbers on those before it. [N, P+6]

    Whether there are any; the mean probability that they give to this exit's class, and the share of them that say the
    same class; the probability that the one before this gives to it; how sure that one is, and how sure the surest is.
    Zeros at the first stop.

    Args:
        logits: Of the active exits so far. [k, N, C]
        temperature: [k, 1]
    """
    xp = array_namespace(logits)
    answer = probabilities(logits[-1], temperature[-1])
    said = xp.argmax(logits[-1], axis=-1)  # [N]
    is_said = xp.arange(answer.shape[-1], device=answer.device)[None, :] == said[:, None]  # [N, C]
    none = xp.zeros_like(answer[:, 0])
    trust, agreeing, before, sure, surest = none, none, none, none, none
    for e in range(logits.shape[0] - 1):
        earlier = probabilities(logits[e], temperature[e])
        before = xp.sum(xp.where(is_said, earlier, xp.zeros_like(earlier)), axis=-1)
        sure = max_prob_score(earlier)
        trust, surest = trust + before, xp.maximum(surest, sure)
        agreeing = agreeing + xp.astype(xp.argmax(logits[e], axis=-1) == said, answer.dtype)
    count = max(logits.shape[0] - 1, 1)
    any_before = none if logits.shape[0] == 1 else xp.ones_like(none)
    summary = xp.stack([any_before, trust / count, agreeing / count, before, sure, surest], axis=-1)
    return xp.concat([features(answer), summary], axis=-1)


def _chance(seen: Array, row: Array) -> Array:
    """The probability that an exit is right. [N]

    Args:
        seen: Features. [N, D - 1]
        row: Its parameters. [D]
    """
    # Not a matrix product: with it a sample's score could depend on the size of its batch.
    return sigmoid(row[0] + array_namespace(seen).sum(seen * row[1:], axis=-1))


def _own_gate(logits: Array, parameters: Parameters) -> tuple[Array, Array]:
    """What the gate in the head says, which is the mean of its logits; a head without a gate says nothing with it."""
    answer = probabilities(logits[-1], parameters["temperature"][-1])
    return answer, sigmoid(array_namespace(logits).mean(logits[-1], axis=-1))


def _learned(logits: Array, parameters: Parameters) -> tuple[Array, Array]:
    answer = probabilities(logits[-1], parameters["temperature"][-1])
    return answer, _chance(features(answer), parameters["learned"][-1])


def _learned_path(logits: Array, parameters: Parameters) -> tuple[Array, Array]:
    seen = path_features(logits, parameters["temperature"])
    return seen[:, FIGURES : FIGURES + logits.shape[-1]], _chance(seen, parameters["learned_path"][-1])


# A network's own classifier has no gate, so scores of `own_gate` cannot be compared between all exits.
CRITERIA.register("own_gate")(Criterion(_own_gate, memory="last", answers=("own",)))
CRITERIA.register("learned")(Criterion(_learned, memory="last", needs=("learned",), answers=("own", "most_confident")))
CRITERIA.register("learned_path")(Criterion(_learned_path, memory="all", needs=("learned_path",)))
