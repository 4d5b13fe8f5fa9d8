"""Optuna's samplers by name, with settings for searches of tens to hundreds of trainings.

A sampler is made anew for every proposal, with a seed of its own: what it knows, it reads from the trials that it is
shown (`drivers.guides`). So an interrupted search goes on as an undisturbed one would have.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)

from eesearch.core.errors import StudyError
from eesearch.core.imports import import_object
from eesearch.study.space import Choice, LogFloat, Parameter

SMALLEST_POPULATION, LARGEST_POPULATION = 10, 50
"""Of the genetic samplers; in between, so many that a budget makes ten generations."""

KEEP_STATE = (CmaEsSampler, GridSampler, QMCSampler)
"""Samplers that remember where they are in attributes of their own, and would begin anew with every proposal."""


TOGETHER = 60
"""Up to so many trials, `auto` lets TPE look at all parameters together; see `make_sampler`."""


def make_sampler(name: str, *, seed: int, trials: int, directions: int) -> BaseSampler:
    """A sampler for one proposal.

    `auto` is TPE, which looks at all parameters together up to 60 trials and at each by itself beyond, or where there
    are several objectives. By `benchmarks/samplers.py` (20 seeds), together it finds 1.1 +- 0.4 % more of what a pool
    of designs adds to the bank after 20 trials, 0.3 +- 0.2 % more after 40, and 0.07 +- 0.02 % less after 80. After 20
    and 40 trials, NSGA-II (1.2 %, 1.5 %) and random search (3.7 %, 5.0 %) find less than TPE by itself; Gaussian
    processes find as much after 20, 0.6 +- 0.3 % less after 40, and think fifteen times as long.

    Args:
        name: `tpe`, `nsga2`, `nsga3`, `gp`, `random`, `auto`, or the import path `package.module:Class` of a class
            that is called with `seed=` if it takes one.
        seed: Of this proposal.
        trials: The study's budget.
        directions: How many objectives there are.

    Raises:
        StudyError: the path leads nowhere, to what is no sampler, or to one that cannot be used here.
    """
    if ":" in name:
        return _foreign(name, seed)
    if name == "auto":
        return _tpe(seed, together=trials <= TOGETHER and directions == 1)
    with warnings.catch_warnings():  # NSGA-III is marked experimental; the version is pinned to one major release
        warnings.simplefilter("ignore", ExperimentalWarning)
        return _NAMED[name](seed, trials)


def _tpe(seed: int, *, together: bool = False) -> TPESampler:
    # running trials count as bad ones (constant_liar): several workers then look in different places
    return TPESampler(seed=seed, multivariate=together, constant_liar=True)


def distributions(parameters: Sequence[Parameter]) -> dict[str, BaseDistribution]:
    """What Optuna calls a space, by name of the parameter."""
    return {p.name: _distribution(p) for p in parameters}


def _distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.options)
    if isinstance(parameter, LogFloat):
        return FloatDistribution(parameter.low, parameter.high, log=True)
    return FloatDistribution(0.0, 1.0)


def _population(trials: int) -> int:
    return min(max(trials // 10, SMALLEST_POPULATION), LARGEST_POPULATION)


_NAMED: dict[str, Callable[[int, int], BaseSampler]] = {
    "tpe": lambda seed, trials: _tpe(seed),
    "nsga2": lambda seed, trials: NSGAIISampler(seed=seed, population_size=_population(trials)),
    "nsga3": lambda seed, trials: NSGAIIISampler(seed=seed, population_size=_population(trials)),
    "gp": lambda seed, trials: GPSampler(seed=seed, warn_independent_sampling=False),
    "random": lambda seed, trials: RandomSampler(seed=seed),
}


def _foreign(path: str, seed: int) -> BaseSampler:
    make = import_object(path, StudyError)
    if not callable(make):
        raise StudyError(f"sampler: '{path}' is no class", got=type(make).__name__, expected="an Optuna sampler")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = make(seed=seed) if _takes_seed(make) else make()
    except Exception as error:  # whatever foreign code runs into
        raise StudyError(
            f"sampler: '{path}' cannot be made",
            got=f"{type(error).__name__}: {error}",
            expected="a class that needs no arguments but `seed`",
            do="Write a subclass that sets the others, and name that.",
        ) from error
    if not isinstance(sampler, BaseSampler):
        raise StudyError(
            f"sampler: '{path}' is no Optuna sampler",
            got=type(sampler).__name__,
            expected="a subclass of optuna.samplers.BaseSampler",
        )
    if isinstance(sampler, KEEP_STATE):
        raise StudyError(
            f"sampler: '{path}' remembers its place between proposals, which an interrupted search cannot",
            expected="one that looks at the trials only, such as tpe, nsga2, gp or random",
        )
    return sampler


def _takes_seed(make: Callable[..., object]) -> bool:
    try:
        accepted = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # written in C
        return False
    return any(p.name == "seed" or p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted)
