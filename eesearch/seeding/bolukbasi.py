"""Adaptive early exits learned backwards, one gate at a time (Bolukbasi et al., ICML 2017).

F is the full network, mu what a unit of excess loss costs, in units of the cost axis. From the deepest exit to the
first, with k' the next kept exit, the two things that can be done with sample n once exit k has spoken cost

    stop_k(n) = mu * max(0, L(answer_k, y) - L(answer_F, y)),    stop_F(n) = 0
    cont_k(n) = step[k, k'] + (pi_k'(n) = leave ? stop_k'(n) : cont_k'(n))

and gate pi_k is a classifier of the cheaper one (leave iff stop <= cont), a sample weighing |stop - cont|. Then the
gate (all who arrive pay the head) competes with *never* (no exit here, the step past it is direct) and *always* (all
who arrive leave, and whatever lies behind is cut off), on samples that it was not learned from. A gate was learned from
all samples, of which many may not arrive; so a second pass learns the kept ones again, from those that arrive under
the first pass's policy. Of the two policies the one that costs less, excess loss included, is the answer.

Everything is learned once from all of calibration, to be deployed, and once without each fold, with the temperatures
that have not seen the fold either. All that a fold's labels decide about its own scores is which candidates win.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import inf, isfinite
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from eesearch.core.costs import StageCosts
from eesearch.core.design import ExitId
from eesearch.core.errors import CostError, InputError, PolicyError
from eesearch.core.policy import Fit, Policy, Scoring, Stop
from eesearch.core.progress import Progress, silent
from eesearch.core.tables import ExitTable, best_per_cut
from eesearch.exits import gates
from eesearch.exits.criteria import probabilities
from eesearch.exits.evaluate import evaluate
from eesearch.seeding.classifiers import CLASSIFIERS, fit_gate
from eesearch.seeding.placement import Seed

RELATIVE_MUS = tuple(np.geomspace(1.0, 300.0, 10).tolist())
"""Prices of a unit of excess loss, in units of the backbone's cost: at 100 an error in a thousand is worth a tenth."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Learning:
    """How gates are learned.

    Attributes:
        classifiers: What competes at each exit (see `eesearch.seeding.classifiers`).
        loss: L. `error`: 1 for a wrong answer; `cross_entropy`: minus the log of the label's tempered probability.
    """

    classifiers: tuple[str, ...] = ("linear", "tree")
    loss: Literal["error", "cross_entropy"] = "error"


@dataclass(frozen=True, eq=False)
class Learned:
    """What was learned for one mu.

    Attributes:
        policy: Criterion `gate`, thresholds 0; its fits are the temperatures, if any, and `fit`.
        fit: Gates of one head per cut and of the own classifier, those that are not in the policy included.
        mu: Cost of a unit of excess loss.
        classifiers: Which classifier decides at each stop of the policy but the last.
        objective: Mean of cost and mu times excess loss on calibration, gates out of fold.
    """

    policy: Policy
    fit: Fit
    mu: float
    classifiers: tuple[str, ...]
    objective: float

    @property
    def placed(self) -> tuple[ExitId, ...]:
        """The exits of the policy but for the own classifier."""
        return tuple(e for e in self.policy.exits if not e.is_output)


def learn_gates(
    table: ExitTable,
    costs: StageCosts,
    mu: float,
    *,
    scoring: Scoring,
    learning: Learning | None = None,
    seed: int = 0,
) -> Learned:
    """Learn gates and a placement for one price of errors; at each cut the most accurate head stands for the cut.

    Args:
        table: Calibration; the network's own classifier is its last row.
        costs: Knows every exit of the table; made for criterion `gate`.
        mu: Cost of a unit of excess loss, not negative.
        scoring: Only its temperatures are used, and its folds: gates have the same.
        learning: None: as `Learning` says.
        seed: Decides between equally good splits of a tree.

    Raises:
        InputError: a mu or classifier that is none, or there are no folds.
        PolicyError: the table is not the one of calibration that the temperatures know, or has no own classifier.
        CostError: an exit has no cost, or cannot follow an earlier one.
    """
    return bolukbasi(table, costs, scoring=scoring, learning=learning, seed=seed, mus=[mu])[0]


def bolukbasi(
    table: ExitTable,
    costs: StageCosts,
    *,
    scoring: Scoring,
    learning: Learning | None = None,
    seed: int = 0,
    mus: Sequence[float] | None = None,
    progress: Progress = silent,
) -> list[Learned]:
    """`learn_gates` for a range of prices, in their order.

    Args:
        table: As for `learn_gates`.
        costs: As for `learn_gates`.
        scoring: As for `learn_gates`.
        learning: As for `learn_gates`.
        seed: As for `learn_gates`.
        mus: None: `RELATIVE_MUS` times the backbone's cost.
        progress: Told after every mu.

    Raises:
        InputError: a mu or classifier that is none, or there are no folds.
        PolicyError: the table is not the one of calibration that the temperatures know, or has no own classifier.
        CostError: an exit has no cost, or cannot follow an earlier one.
    """
    bank = _bank(table, costs, scoring, learning or Learning(), seed)
    prices = [costs.backbone * mu for mu in RELATIVE_MUS] if mus is None else list(mus)
    learned = []
    for mu in prices:
        if not (isfinite(mu) and mu >= 0.0):
            raise InputError("mu is the cost of a unit of excess loss", got=mu, expected="a number, not negative")
        with threadpool_limits(1):  # sums over samples must not depend on the number of threads
            learned.append(_learned(bank, mu))
        progress("learn gates", len(learned), len(prices))
    return learned


def fewer(
    learned: Learned, table: ExitTable, costs: StageCosts, most: int, *, scoring: Scoring, seed: int = 0
) -> Learned:
    """The same price of errors with at most so many early exits: those where most samples leave, learned again.

    Args:
        learned: With more.
        table: As for `learn_gates`.
        costs: As for `learn_gates`.
        most: Number of early exits.
        scoring: As for `learn_gates`.
        seed: As for `learn_gates`.
    """
    rate = evaluate(learned.policy, table, [costs], (*scoring.fits, learned.fit)).exit_rate
    early = sorted(learned.placed, key=lambda e: -rate[learned.policy.exits.index(e)])[:most]
    kept = table.select([e for e in table.exits if e in early or e.is_output])
    return learn_gates(kept, costs, learned.mu, scoring=scoring, seed=seed)


def seeds(learned: Sequence[Learned]) -> list[Seed]:
    """The distinct placements, each under the first mu that made it; the bare network is none."""
    found: dict[tuple[ExitId, ...], Seed] = {}
    for one in learned:
        if one.placed:
            found.setdefault(one.placed, Seed(f"bolukbasi {one.mu:.4g}", one.placed))
    return list(found.values())


@dataclass(frozen=True, eq=False)
class _Bank:
    """What gates are learned from: L exits, the last the own classifier; M models, one of all samples, one per fold.

    Attributes:
        exits: [L]
        step: As StageCosts. [L + 1, L]
        seen: What the gate of each exit sees, with the temperatures of each model. [M, L, N, P]
        excess: L(answer_k, y) - L(answer_F, y) where above 0, else 0. [M, L, N]
        classes: C
        scoring: Holds the temperatures, if any.
        fold: [N]
        classifiers: Those that compete.
        seed: Of the trees.
    """

    exits: tuple[ExitId, ...]
    step: Floats
    seen: NDArray[np.float32]
    excess: Floats
    classes: int
    scoring: Scoring
    fold: NDArray[np.int16]
    classifiers: tuple[str, ...]
    seed: int

    @cached_property
    def learns(self) -> Bools:
        """Which samples each model is learned from. [M, N]"""
        return np.stack([self.fold != m - 1 for m in range(len(self.seen))])

    def unseen(self, values: NDArray[Any]) -> NDArray[Any]:
        """For each sample what the model says that was learned without it. [M, N] to [N]"""
        return np.asarray(values[1 + self.fold.astype(np.intp), np.arange(len(self.fold))])


def _bank(table: ExitTable, costs: StageCosts, scoring: Scoring, learning: Learning, seed: int) -> _Bank:
    _check(table, scoring, learning)
    exits = tuple(table.exits[row] for row in best_per_cut(table.exits, table.accuracy))
    step, chain = costs.select(exits).step, table.select(exits)
    if not np.isfinite(step[np.triu_indices(len(exits))]).all():
        raise CostError("a sample cannot meet these exits in this order", got=[str(e) for e in exits])
    tempered = Scoring(fits=tuple(fit for fit in scoring.fits if fit.kind == "temperature"))
    models = range(2 + int(scoring.fold.max()))
    seen, excess = zip(*(_outputs(chain, tempered, m, learning) for m in models), strict=True)
    classes = table.logits.shape[-1]
    return _Bank(
        exits, step, np.stack(seen), np.stack(excess), classes, tempered, scoring.fold, learning.classifiers, seed
    )


def _check(table: ExitTable, scoring: Scoring, learning: Learning) -> None:
    if table.split != "cal" or not table.exits[-1].is_output:
        raise PolicyError(
            "gates are learned from calibration, with the network's own classifier as the last row",
            got=f"the {table.split} table, last row {table.exits[-1]}",
        )
    if not learning.classifiers or set(learning.classifiers) - set(CLASSIFIERS):
        raise InputError("no such classifier", got=learning.classifiers, expected=f"of {', '.join(CLASSIFIERS)}")
    if not len(scoring.fold):
        raise InputError("gates need folds", got="no fit", do="Pass temperatures: their folds are used.")
    if len(scoring.fold) != len(table.labels):
        raise PolicyError(
            "the fit was made on another calibration split",
            got=f"{len(scoring.fold)} samples",
            expected=f"{len(table.labels)}",
        )


def _outputs(chain: ExitTable, scoring: Scoring, model: int, learning: Learning) -> tuple[NDArray[np.float32], Floats]:
    """What gates see [L, N, P] and the excess loss [L, N], with the temperatures of one model."""
    heat = scoring.parameters(chain.exits, None if model == 0 else model - 1)["temperature"]
    look = gates.features if "classes" in learning.classifiers else gates.figures
    seen, loss = [], []
    for k, logits in enumerate(chain.logits):
        answer = probabilities(logits, heat[k])
        seen.append(look(answer))
        of_label = np.maximum(answer[np.arange(len(answer)), chain.labels], np.finfo(np.float32).tiny)
        loss.append(~chain.correct[k] if learning.loss == "error" else -np.log(of_label))
    losses = np.array(loss, np.float64)
    return np.stack(seen), np.maximum(losses - losses[-1], 0.0)


@dataclass(frozen=True, eq=False)
class _Option:
    """What may be done at an exit.

    Attributes:
        name: `never`, `always`, or a classifier.
        value: What happens to a sample from there on costs, if it gets there. [M, N]
        leaves: [M, N]
        into: Cost of getting there from the stop before.
    """

    name: str
    value: Floats
    leaves: Bools
    into: float


@dataclass(frozen=True, eq=False)
class _Pass:
    """What one pass made.

    Attributes:
        kept: Kept exits, the first first, and what is done there; `always` only at the last.
        gates: Gates of all exits, chosen or not; of those that were not looked at: never. [M, L, D]
        objective: Mean cost, excess loss included, out of fold.
    """

    kept: dict[int, _Option]
    gates: Rows
    objective: float


def _learned(bank: _Bank, mu: float) -> Learned:
    first = _backward(bank, mu, np.ones_like(bank.excess, bool), range(len(bank.exits) - 1))
    again = list(first.kept)
    second = _backward(bank, mu, _arrivals(bank, first), again)
    chosen, rows = first, first.gates.copy()
    if second.objective <= first.objective:
        chosen = second
        rows[:, again] = second.gates[:, again]
    fit = Fit("gate", bank.exits, rows, bank.fold)
    decided = tuple(option.name for option in chosen.kept.values() if option.name != "always")
    return Learned(_policy(bank, chosen, fit), fit, mu, decided, chosen.objective)


def _policy(bank: _Bank, chosen: _Pass, fit: Fit) -> Policy:
    stops = [
        Stop(exit=bank.exits[k], threshold=-inf if option.name == "always" else 0.0)
        for k, option in chosen.kept.items()
    ]
    if not stops or stops[-1].threshold != -inf:
        stops.append(Stop(exit=bank.exits[-1], threshold=-inf))
    return Policy(stops=tuple(stops), criterion="gate", fits=(*bank.scoring.keys, fit.key))


def _arrivals(bank: _Bank, made: _Pass) -> Bools:
    """Whether a sample gets as far as each exit, under each model. [M, L, N]"""
    arrives = np.ones_like(bank.excess, bool)
    for k, option in made.kept.items():
        arrives[:, k + 1 :] &= ~option.leaves[:, None]
    return arrives


def _backward(bank: _Bank, mu: float, arrives: Bools, candidates: Sequence[int]) -> _Pass:
    """One pass over candidate exits, from the deepest to the first. `arrives` [M, L, N]."""
    models, exits, samples = bank.excess.shape
    rows = np.zeros((models, exits, gates.gate_width(bank.classes)), np.float32)
    rows[:, :, 0] = gates.NEVER
    following, value = exits - 1, np.zeros((models, samples))
    kept: dict[int, _Option] = {}
    for before, k in reversed(list(pairwise([-1, *candidates]))):
        stop, cont = mu * bank.excess[:, k], bank.step[k + 1, following] + value
        here = bank.unseen(arrives[:, k])
        if not here.any():
            continue
        into = float(bank.step[before + 1, k])
        direct = float(bank.step[before + 1, following])
        options = [
            _Option("never", value, np.zeros_like(here), direct),
            _Option("always", stop, np.ones_like(stop, bool), into),
        ]
        learned = {name: _learn(bank, k, name, stop - cont, arrives[:, k]) for name in bank.classifiers}
        for name, made in learned.items():
            leaves = np.stack([gates.gate_score(s[k], row) >= 0.0 for s, row in zip(bank.seen, made, strict=True)])
            options.append(_Option(name, np.where(leaves, stop, cont), leaves, into))

        prices = [option.into + float(bank.unseen(option.value)[here].mean()) for option in options]
        rows[:, k] = learned[options[2 + int(np.argmin(prices[2:]))].name]
        chosen = options[int(np.argmin(prices))]  # the first of equals: no head before a useless one
        if chosen.name == "never":
            continue
        kept = {k: chosen} | ({} if chosen.name == "always" else kept)
        following, value = k, chosen.value
    objective = float(bank.step[0, following] + bank.unseen(value).mean())
    return _Pass(kept, rows, objective)


def _learn(bank: _Bank, k: int, classifier: str, excess: Floats, arrives: Bools) -> Rows:
    """The gate of exit k, of each model: leave iff stop - cont (`excess`) [M, N] is not above 0. [M, D]"""
    made = []
    for seen, gap, use in zip(bank.seen[:, k], excess, bank.learns & arrives & (excess != 0.0), strict=True):
        made.append(fit_gate(classifier, seen[use], -gap[use], bank.classes, seed=bank.seed))
    return np.stack(made)
