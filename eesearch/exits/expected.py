"""Expected cost (eqs. 12 to 14 of the survey, as settled), and the one map of its symbols.

survey     here             meaning
f_i        segment i        the part of the backbone between two cuts
h_i        hidden i         what a segment hands on; a head reads its tap
c_i        head i           auxiliary classifier at cut i (eq. 3)
y_i        logits[i]        what head i says
alpha_i    alpha            weight of a head's companion loss (eq. 6)
g_i        gate[i]          probability of leaving at stop i (eqs. 9, 14)
beta_i     threshold        leave iff score >= threshold (eq. 11)
gamma_i    cumulative[i]    cost of leaving at stop i, rejected heads included
gamma_f_i  segment[i]       cost of segment i alone
gamma_c_i  head[i]          cost of head i alone
I_i        reach[i]         share of the samples that arrives at stop i (*not* the share that leaves: exit_rate[i])
cm_i       pass_ratio[i]    reach[i + 1] / reach[i]
epsilon_j  incremental[j]   cost of going on from stop j - 1 to stop j: segments + head
p_ij       stop_prob[j, i]  probability that sample i leaves at stop j
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

Array = Any
"""A numpy array or a torch tensor."""


def incremental(cumulative: NDArray[np.float64]) -> NDArray[np.float64]:
    """epsilon_j: what each stop costs beyond the one before it. [k]

    Args:
        cumulative: Cost of leaving at each stop. [k]
    """
    return np.diff(cumulative, prepend=0.0)


def pass_ratio(reach: NDArray[np.float64]) -> NDArray[np.float64]:
    """cm_i = I_{i+1} / I_i: share of those arriving at stop i that goes on; 1 where nobody arrives. [k - 1]

    Args:
        reach: Share of the samples that arrives at each stop. [k]
    """
    arriving, going_on = reach[:-1], reach[1:]
    return np.divide(going_on, arriving, out=np.ones_like(going_on), where=arriving > 0)


def expected_cost(exit_rate: NDArray[np.float64], cumulative: NDArray[np.float64]) -> float:
    """Mean cost per sample (eq. 12): a rejected head has been paid for by everyone who arrived at it.

    The same as `reach @ incremental(cumulative)`.

    Args:
        exit_rate: Share of the samples that leaves at each stop. [k]
        cumulative: Cost of leaving at each stop. [k]
    """
    return float(exit_rate @ cumulative)


def stop_probabilities(gates: Array) -> Array:
    """p_ij = g_j prod_{l<j} (1 - g_l) (eq. 14) with the last gate taken as 1, so that each column sums to 1. [k, N]

    Args:
        gates: Probability of leaving for a sample that has arrived; gradients flow through. [k, N]
    """
    xp = array_namespace(gates)
    arriving = xp.ones_like(gates[0])
    stop_prob = []
    for gate in gates[:-1]:
        stop_prob.append(arriving * gate)
        arriving = arriving * (1.0 - gate)
    return xp.stack([*stop_prob, arriving])


def soft_cost(gates: Array, cumulative: Array) -> Array:
    """Expected cost of each sample under soft decisions (eq. 13): stop probability x *cumulative* cost. [N]

    The survey multiplies by the incremental cost, which undercounts. Gates in {0, 1} give the hard cost exactly.

    Args:
        gates: Probability of leaving for a sample that has arrived. [k, N]
        cumulative: Cost of leaving at each stop, same array type as the gates. [k]
    """
    return array_namespace(gates).sum(stop_probabilities(gates) * cumulative[:, None], axis=0)
