"""Whose answer a sample leaves with: the exit's own, that of all active exits so far, or that of the surest of them.

Each turns a criterion that looks at one exit into one that scores the answer that is given, so that routing, network
and solver need not tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from array_api_compat import array_namespace

from eesearch.core.errors import PolicyError
from eesearch.core.policy import Criterion, Parameters, decision_name, decision_named
from eesearch.core.registry import ANSWERS
from eesearch.exits.criteria import probabilities

TINY = 1e-37
"""Stands for a probability of 0 where its logarithm is taken."""

CANCELLED = 0.1
"""Weights whose sum is less than this share of the sum of their absolute values cancel out."""

Array = Any
"""A numpy array or a torch tensor."""


def goes_with(criterion: str, answer: str) -> bool:
    """Whether a criterion of this name can score this answer.

    Raises:
        InputError: there is no such criterion or answer.
    """
    try:
        decision_named(decision_name(criterion, answer))
    except PolicyError:
        return False
    return True


@ANSWERS.register("own")
def own(criterion: Criterion) -> Criterion:
    """What the exit says where the sample leaves: the criterion as it is."""
    return criterion


@ANSWERS.register("mean")
@cache
def mean(criterion: Criterion) -> Criterion:
    """Log-probabilities of the active exits so far, averaged with fitted weights; scored as if one exit had said so.

    Raises:
        PolicyError: the criterion cannot score it.
    """
    return _together(criterion, "mean", mean_log_probability, "ensemble")


def _together(
    criterion: Criterion, answer: str, pooled: Callable[[Array, Parameters], Array], *kinds: str
) -> Criterion:
    """The criterion on what `pooled` makes of the active exits so far: logits [N, C], of temperature 1."""
    _require(criterion, answer)

    def function(logits: Array, parameters: Parameters) -> tuple[Array, Array]:
        untempered = {"temperature": parameters["temperature"][-1:] * 0.0 + 1.0}
        last = {kind: values[-1:] for kind, values in parameters.items()} | untempered
        return criterion.function(pooled(logits, parameters)[None], last)

    return Criterion(function, memory="all", needs=(*criterion.needs, *kinds), own_answer=False)


def mean_log_probability(logits: Array, parameters: Parameters) -> Array:
    """Weighted mean over exits of the tempered log-probabilities. [N, C]

    Args:
        logits: Of the active exits so far. [k, N, C]
        parameters: `temperature` and `ensemble` weights, not negative. Each [k, 1]
    """
    xp = array_namespace(logits)
    scaled = logits / parameters["temperature"][:, :, None]
    shifted = scaled - xp.max(scaled, axis=-1, keepdims=True)
    log_p = shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))
    weight = parameters["ensemble"][:, :, None]
    total = xp.sum(weight)
    # Where all weights vanish nobody is trusted more than the last exit.
    return xp.where(total > 0, xp.sum(weight * log_p, axis=0) / xp.where(total > 0, total, total + 1.0), log_p[-1])


@ANSWERS.register("average")
@cache
def average(criterion: Criterion) -> Criterion:
    """Mean of the tempered probabilities of the active exits so far (average pooling of DDNN, Teerapittayanon 2017).

    Raises:
        PolicyError: the criterion cannot score it.
    """
    return _together(criterion, "average", partial(_pooled, how="mean"))


@ANSWERS.register("max")
@cache
def largest(criterion: Criterion) -> Criterion:
    """Largest tempered probability of each class among the active exits so far, normalised (max pooling of DDNN).

    Raises:
        PolicyError: the criterion cannot score it.
    """
    return _together(criterion, "max", partial(_pooled, how="max"))


def _pooled(logits: Array, parameters: Parameters, *, how: str) -> Array:
    """Logits that softmax turns into the `mean` or `max` over exits of tempered probabilities, normalised. [N, C]"""
    xp = array_namespace(logits)
    said = probabilities(logits, parameters["temperature"][:, :, None])  # [k, N, C]
    pooled = getattr(xp, how)(said, axis=0)
    return xp.log(xp.where(pooled > TINY, pooled, xp.full_like(pooled, TINY)))


@ANSWERS.register("combined")
@cache
def combined(criterion: Criterion) -> Criterion:
    """The combined prediction of eq. 8 with the weights that training learnt, over the active exits so far.

    Raises:
        PolicyError: the criterion cannot score it.
    """
    return _together(criterion, "combined", combined_logits, "combination")


def combined_logits(logits: Array, parameters: Parameters) -> Array:
    """Weighted sum over exits of their raw logits, renormalised over those that are active. [N, C]

    It is divided by the sum of the weights; free weights of either sign may cancel out, or sum up to less than 0: then
    by the sum of their absolute values. A single exit speaks for itself; where all weights vanish the last one does.

    Args:
        logits: Of the active exits so far. [k, N, C]
        parameters: `combination` weights. [k, 1]
    """
    xp = array_namespace(logits)
    weight = parameters["combination"][:, :, None]
    total, size = xp.sum(weight), xp.sum(xp.abs(weight))
    scale = xp.where(total > CANCELLED * size, total, size)
    there = (size > 0.0) & (logits.shape[0] > 1)
    return xp.where(there, xp.sum(weight * logits, axis=0) / xp.where(there, scale, scale + 1.0), logits[-1])


@ANSWERS.register("most_confident")
@cache
def most_confident(criterion: Criterion) -> Criterion:
    """What the surest active exit so far says, with its score (IDK cascades, Wang et al. 2018).

    Raises:
        PolicyError: the criterion's scores of different exits cannot be compared.
    """
    _require(criterion, "most_confident")

    def function(logits: Array, parameters: Parameters) -> tuple[Array, Array]:
        xp = array_namespace(logits)
        answer, score = None, None
        for k in range(logits.shape[0]):
            said, sure = criterion.function(logits[k : k + 1], {kind: v[k : k + 1] for kind, v in parameters.items()})
            if score is None:
                answer, score = said, sure
            else:
                surer = (sure > score) | (score != score)  # a score that is not a number is the least sure
                answer = xp.where(surer[:, None], said, answer)
                score = xp.where(surer, sure, score)
        return answer, score

    return Criterion(function, memory="all", needs=criterion.needs, own_answer=False)


def _require(criterion: Criterion, answer: str) -> None:
    if criterion.memory != "last":
        raise PolicyError(
            "a criterion that looks at several exits gives its own answer",
            got=f"answer '{answer}'",
            expected="answer 'own'",
        )
    if criterion.answers is not None and answer not in criterion.answers:
        raise PolicyError(
            "the criterion was learnt for what single exits say",
            got=f"answer '{answer}'",
            expected=f"answer {' or '.join(map(repr, criterion.answers))}",
        )
