"""Criteria: when is an answer sure enough to leave with it?

Each is one pure function `(logits [k, N, C] of the active exits so far, fitted parameters) -> (answer [N, C], score
[N])` against the array API, so that routing (numpy), the network (torch) and an export (trace) run the same code. The
answer holds probabilities, the score is larger the surer, and both keep the dtype of the logits.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import Any

from array_api_compat import array_namespace

from eesearch.core.policy import Criterion, Parameters
from eesearch.core.registry import CRITERIA

Array = Any
"""A numpy array or a torch tensor."""


def _last_only(score: Callable[[Array], Array]) -> Criterion:
    """The criterion that scores the tempered probabilities [N, C] of the last exit so far."""

    def function(logits: Array, parameters: Parameters) -> tuple[Array, Array]:
        answer = probabilities(logits[-1], parameters["temperature"][-1])
        return answer, score(answer)

    return Criterion(function, memory="last")


def probabilities(logits: Array, temperature: Array) -> Array:
    """softmax(logits / temperature) over the classes, which never overflows. [..., C]

    Args:
        logits: [N, C], or [k, N, C]
        temperature: [1], [N, 1] or [k, 1, 1]; above 0; larger is less sure (Guo et al. 2017).
    """
    xp = array_namespace(logits)
    scaled = logits / temperature
    weights = xp.exp(scaled - xp.max(scaled, axis=-1, keepdims=True))
    return weights / xp.sum(weights, axis=-1, keepdims=True)


def entropy_score(answer: Array) -> Array:
    """1 - normalised entropy (eq. 11 with its missing minus sign): 0 for uniform, 1 for one-hot. [N]

    Args:
        answer: Probabilities [N, C]; zeros count 0 (the limit of p log p).
    """
    xp = array_namespace(answer)
    positive = answer > 0
    p_log_p = xp.where(positive, answer * xp.log(xp.where(positive, answer, xp.ones_like(answer))), answer)
    score = 1.0 + xp.sum(p_log_p, axis=-1) / log(answer.shape[-1])
    return xp.clip(score, 0.0, 1.0)  # rounding may leave [0, 1] by one unit in the last place


def max_prob_score(answer: Array) -> Array:
    """The largest probability: 1/C for uniform, 1 for one-hot. [N]

    Args:
        answer: Probabilities [N, C].
    """
    return array_namespace(answer).max(answer, axis=-1)


def margin_score(answer: Array) -> Array:
    """The largest probability minus the second largest: 0 for a tie at the top, 1 for one-hot. [N]

    Args:
        answer: Probabilities [N, C].
    """
    xp = array_namespace(answer)
    classes = xp.arange(answer.shape[-1], device=answer.device)
    is_top = classes[None, :] == xp.argmax(answer, axis=-1)[:, None]  # [N, C], one per row even in a tie
    second = xp.max(xp.where(is_top, xp.zeros_like(answer), answer), axis=-1)
    return xp.max(answer, axis=-1) - second


def _patience(logits: Array, parameters: Parameters) -> tuple[Array, Array]:
    """How many active exits in a row, up to this one, give the same answer (PABEE, Zhou et al. 2020): 1, 2, ..."""
    xp = array_namespace(logits)
    classes = xp.argmax(logits, axis=-1)  # [k, N]
    run = xp.ones_like(logits[-1, :, 0])
    agrees = run
    for earlier in range(logits.shape[0] - 2, -1, -1):
        agrees = agrees * xp.astype(classes[earlier] == classes[-1], logits.dtype)
        run = run + agrees
    return probabilities(logits[-1], parameters["temperature"][-1]), run


CRITERIA.register("entropy")(_last_only(entropy_score))
CRITERIA.register("max_prob")(_last_only(max_prob_score))
CRITERIA.register("margin")(_last_only(margin_score))
CRITERIA.register("patience")(Criterion(_patience, memory="all"))
