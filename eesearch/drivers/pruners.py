"""Who stops designs early: Optuna's pruners by name, which see an interrupted search as an undisturbed one.

Optuna keeps the trials of processes that died. Here they are tried again, as trials of their own (`drivers.trials`), so
the dead must not compete with those that repeat them, nor shift the brackets of those that come after.
"""

from __future__ import annotations

import copy
from collections.abc import Container
from typing import cast

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial, TrialState

from eesearch.drivers.records import PLACE, interrupted


def make_pruner(name: str, epochs: int) -> BasePruner | None:
    """What stops designs that do not look promising; None for `none`, and where one epoch is all there is.

    Up to eight epochs, rungs lie at 1, 2, 4, ... epochs and half of the trials pass each; beyond, at 1, 3, 9, ... and
    a third passes. `asha` compares a trial with all that came to the same rung before; `hyperband` lets a share of the
    trials run longer before their first rung; `median` stops a trial whose best value so far is below the median of
    the others' at the same epoch, from the sixth trial and a fifth of the epochs on.

    Args:
        name: `none`, `asha` (asynchronous successive halving), `hyperband`, `median`.
        epochs: Of a whole training.
    """
    if name == "none" or epochs < 2:
        return None
    factor = 2 if epochs <= 8 else 3
    if name == "asha":
        return _Halving(min_resource=1, reduction_factor=factor)
    if name == "hyperband":
        return _Hyperband(min_resource=1, max_resource=epochs, reduction_factor=factor)
    return MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // 5))  # looks at complete trials only


class _Living:
    """What successive halving looks at of a study, without the trials that were killed."""

    def __init__(self, study: optuna.Study) -> None:
        self._study, self._storage, self.direction = study, study._storage, study.direction

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        return [t for t in self._study.get_trials(deepcopy=deepcopy, states=states) if not interrupted(t)]


class _Halving(SuccessiveHalvingPruner):
    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return super().prune(cast(optuna.Study, _Living(study)), trial)


class _Hyperband(HyperbandPruner):
    def _get_bracket_id(self, study: optuna.Study, trial: FrozenTrial) -> int:
        if interrupted(trial):
            return -1  # no bracket
        placed = copy.copy(trial)
        placed.number = int(trial.user_attrs.get(PLACE, trial.number))
        return super()._get_bracket_id(study, placed)
