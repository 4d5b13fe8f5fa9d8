"""Loggers of other tools: TensorBoard, MLflow, Weights & Biases. Each is called with every trial that ended.

All of them write below `logs/` of the run directory and ask no server, unless their own environment variables say so.
MLflow and W&B log by Optuna's own callbacks. Optuna's callback for TensorBoard needs all of TensorFlow and cannot log
trials with two values, so TensorBoard gets its events from the writer that comes with torch.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import optuna
from optuna.trial import FrozenTrial, TrialState

from eesearch.core.errors import InputError

log = logging.getLogger(__name__)

Logger = Callable[[optuna.Study, FrozenTrial], None]
"""Called after every trial that ended, well or badly; what Optuna calls a callback."""

LoggerName = Literal["tensorboard", "mlflow", "wandb"]

_MODULES: dict[str, tuple[str, ...]] = {
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow", "optuna_integration"),
    "wandb": ("wandb", "optuna_integration"),
}


def make_loggers(names: Sequence[str], run_path: Path) -> list[Logger]:
    """Loggers that write below `logs/` of a run directory.

    Args:
        names: Of the tools; one named twice logs once.
        run_path: The run directory.

    Raises:
        InputError: there is no such tool, or it is not installed.
    """
    loggers: list[Logger] = []
    for name in dict.fromkeys(names):
        if name not in _MODULES:
            raise InputError(f"there is no logger '{name}'", expected=" | ".join(get_args(LoggerName)))
        for module in _MODULES[name]:
            if find_spec(module) is None:
                raise InputError(f"logging to {name} needs the package {module}", do=f"pip install 'eesearch[{name}]'.")
        folder = run_path / "logs"
        made: Logger = _TensorBoard(folder / "tensorboard") if name == "tensorboard" else _Callback(name, folder)
        loggers.append(guarded(made, name))
    return loggers


def guarded(logger: Logger, name: str) -> Logger:
    """The same logger, whose errors stop no search: the first one is told, the others are not."""
    failed = False

    def call(study: optuna.Study, trial: FrozenTrial) -> None:
        nonlocal failed
        try:
            logger(study, trial)
        except Exception as error:  # somebody else's tool may fail in any way
            if not failed:
                log.warning("logging to %s failed, the search goes on: %s: %s", name, type(error).__name__, error)
            failed = True

    return call


class _TensorBoard:
    """Each trial as a row of the HPARAMS page, and its values as curves over the trials."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if trial.state != TrialState.COMPLETE:
            return
        values = dict(zip(value_names(study), trial.values, strict=True))
        with SummaryWriter(str(self.folder)) as writer:  # closed after each trial: an interrupted search loses none
            for name, value in values.items():
                writer.add_scalar(name, value, trial.number)
            writer.add_hparams(
                {"origin": str(trial.user_attrs.get("origin", "")), **trial.params},
                values,
                run_name=f"trial-{trial.number}",
                global_step=trial.number,
            )


class _Callback:
    """Optuna's callback for another tool; made at the first trial, when the names of the values are known."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._callback: Logger | None = None

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        with warnings.catch_warnings():
            # Optuna 5 marks its callbacks deprecated: version 6, which the pins exclude, is to drop them.
            warnings.simplefilter("ignore", FutureWarning)
            if self._callback is None:
                self._callback = self._made(value_names(study))
            self._callback(study, trial)

    def _made(self, values: Sequence[str]) -> Logger:
        self.folder.mkdir(parents=True, exist_ok=True)
        integration = import_module(f"optuna_integration.{self.name}")
        if self.name == "mlflow":
            uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{self.folder.absolute() / 'mlflow.db'}")
            made: Logger = integration.MLflowCallback(tracking_uri=uri, metric_name=values)
            return made
        settings = {
            "project": "eesearch",
            "name": self.folder.absolute().parent.name,
            "dir": str(self.folder.absolute()),
            "mode": os.environ.get("WANDB_MODE", "offline"),
            "settings": {"silent": True},  # it would write across the progress
        }
        made = integration.WeightsAndBiasesCallback(metric_name=values, wandb_kwargs=settings)
        return made


def value_names(study: optuna.Study) -> list[str]:
    """Names of a study's values, in order."""
    return list(study.metric_names or [f"value_{i}" for i in range(len(study.directions))])
