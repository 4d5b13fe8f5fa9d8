"""Whose answer a sample leaves with: the exit's own, a mean of all active exits so far, or the surest of them.

Each turns a criterion that looks at one exit into one that scores the answer that is given, so that routing, network
and solver need not tell them apart.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from array_api_compat import array_namespace

from eesearch.core.errors import PolicyError
from eesearch.core.policy import Criterion, Parameters
from eesearch.core.registry import ANSWERS

Array = Any
"""A numpy array or a torch tensor."""


@ANSWERS.register("own")
def own(criterion: Criterion) -> Criterion:
    """What the exit says where the sample leaves: the criterion as it is."""
    return criterion


@ANSWERS.register("mean")
@cache
def mean(criterion: Criterion) -> Criterion:
    """Log-probabilities of the active exits so far, averaged with fitted weights; scored as if one exit had said so.

    Raises:
        PolicyError: the criterion looks at several exits itself.
    """
    _require_last(criterion, "mean")

    def function(logits: Array, parameters: Parameters) -> tuple[Array, Array]:
        averaged = mean_log_probability(logits, parameters)
        untempered = {"temperature": parameters["temperature"][-1:] * 0.0 + 1.0}
        return criterion.function(averaged[None], {kind: v[-1:] for kind, v in parameters.items()} | untempered)

    return Criterion(function, memory="all", needs=(*criterion.needs, "ensemble"), own_answer=False)


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


@ANSWERS.register("most_confident")
@cache
def most_confident(criterion: Criterion) -> Criterion:
    """What the surest active exit so far says, with its score (IDK cascades, Wang et al. 2018).

    Raises:
        PolicyError: the criterion looks at several exits itself.
    """
    _require_last(criterion, "most_confident")

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


def _require_last(criterion: Criterion, answer: str) -> None:
    if criterion.memory != "last":
        raise PolicyError(
            "a criterion that looks at several exits gives its own answer",
            got=f"answer '{answer}'",
            expected="answer 'own'",
        )
