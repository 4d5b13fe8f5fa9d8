"""Which fits a way of scoring takes, and how each is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from eesearch.core.errors import PolicyError
from eesearch.core.policy import Fit, Scoring, decision_name, decision_named
from eesearch.core.tables import ExitTable
from eesearch.nets.exitnet import ExitNet
from eesearch.training.fits import fit_ensemble, fit_temperature
from eesearch.training.gates import fit_learned, fit_learned_path

Keep = Callable[[str, Callable[[], Fit]], Fit]
"""`(kind, make) -> fit`: one that is known, or made now."""

MAKERS: Mapping[str, Callable[..., Fit]] = {
    "ensemble": fit_ensemble,
    "learned": fit_learned,
    "learned_path": fit_learned_path,
}
"""Kind of fit -> `(calibration table, temperatures, *, seed) -> fit`: those of `eesearch.exits.learned.FITTED`."""


def _made(kind: str, make: Callable[[], Fit]) -> Fit:
    return make()


def fitted_scoring(
    decision: tuple[str, str],
    table: Callable[[], ExitTable],
    net: Callable[[], ExitNet],
    *,
    seed: int,
    keep: Keep = _made,
) -> Scoring:
    """A way of scoring with its fits: temperatures, and what criterion and answer cannot do without.

    Args:
        decision: Criterion and answer.
        table: Gives the calibration table, if something has to be fitted on it.
        net: Gives the network, if training learnt something of what is needed.
        seed: Decides folds and paths.
        keep: Knows fits that were made before.

    Raises:
        InputError: there is no such criterion or answer.
        PolicyError: they do not go together, or nothing makes a fit that they need.
    """
    temperature = keep("temperature", lambda: fit_temperature(table(), seed=seed))
    fits = [temperature]
    for kind in decision_named(decision_name(*decision)).needs:
        fits.append(keep(kind, partial(_make, kind, table, net, temperature, seed)))
    return Scoring(*decision, tuple(fits))


def _make(kind: str, table: Callable[[], ExitTable], net: Callable[[], ExitNet], temperature: Fit, seed: int) -> Fit:
    return MAKERS[kind](table(), temperature, seed=seed) if kind in MAKERS else learnt_fit(net(), kind)


def learnt_fit(net: ExitNet, kind: str) -> Fit:
    """What training learnt about the exits of a network, as a fit: it knows no folds, calibration had no part in it.

    Raises:
        PolicyError: training learnt nothing of this kind.
    """
    if kind not in net.learnt:
        known = ", ".join([*MAKERS, *net.learnt])
        raise PolicyError(f"nothing makes a fit of kind '{kind}' for this network", expected=f"one of {known}")
    values = net.learnt[kind].detach().cpu().numpy().astype(np.float32)
    return Fit(kind, net.exits, values[None], np.empty(0, np.int16))
