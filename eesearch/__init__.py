"""eesearch: a trained classifier, a data set and a device in; the Pareto front of its early-exit versions out.

Five minutes:

* `eesearch.load_run(path)` opens what a search left: fronts, picks, models, plots.
* `eesearch.search(model, data, device=..., max_drop=..., budget=...)` runs a whole search and returns a `Run`:
  `run.front().to_pandas()`, `run.pick("max-drop=0.5%")`, `run.predict(point, x)`. From a shell, with a study file:
  `eesearch search study.yaml`.
* `eesearch.split(model, example)` cuts a model into a chain of segments, a `Backbone`; an exit may hang on any cut.
* What must be trained is a `Design` (which cuts carry which heads). One training, the *bank*, trains every head at
  every cut on the frozen backbone. What can be chosen afterwards is a `Policy` (which exits stay, with which
  thresholds): no training, only arithmetic on the `ExitTable` of what every exit says about every sample.
* `eesearch.solve_front(table, costs)` does that arithmetic: the whole Pareto front of (error, cost).
* Costs are measured, per device, before the first trial (`DeviceProfile`), and include the heads of samples that stay.
* The outer search (Optuna) proposes designs that need training; each is worth the front that the solver finds for it.

Reading order: `api`, `study/bank_problem`, `solve/exact`, `exits/routing`, `nets/split`, `training/bank`,
`costs/profile`, `drivers/optuna_driver`. Values shared by all are in `core`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from eesearch.api import Run, load_run, plan, profile, report, search, search_study, solve_front, split

__all__ = ["Run", "load_run", "plan", "profile", "report", "search", "search_study", "solve_front", "split"]


def __getattr__(name: str) -> Any:
    """Import the verbs when they are first asked for: they bring torch along."""
    if name in __all__:
        return getattr(import_module("eesearch.api"), name)
    raise AttributeError(f"module 'eesearch' has no attribute '{name}'")
