import logging
import sys
import types

import optuna
import pytest
from optuna.trial import create_trial

from eesearch.core.errors import EesearchError, InputError
from eesearch.drivers.loggers import guarded, make_loggers
from eesearch.drivers.studies import open_study
from eesearch.study.space import Choice
from eesearch.study.trial import Outcome


class Question:
    """Trial 0, then one that fails, then one that succeeds."""

    origin = "bank"
    key = "question"
    directions = ("maximize",)
    parameters = (Choice("exit:a", ("none", "head")),)

    def __init__(self):
        self.ran = 0

    def draft(self):
        return None

    def first(self):
        return Outcome(design=None, values=(0.25,))

    def seeds(self):
        return []

    def run(self, params, report=None):
        self.ran += 1
        if self.ran == 1:
            raise EesearchError("this design diverged")
        return Outcome(design=None, values=(0.5,) * len(self.directions))

    def revalue(self, outcome):
        return outcome


class Points(Question):
    """Each trial is a point."""

    directions = ("minimize", "minimize")

    def first(self):
        return None


def search(question, place, loggers):
    place.search(question, fields={"budget": {"trials": 3}}, loggers=loggers, title="tiny: macs")


def test_every_trial_that_ended_is_told_once_the_bank_and_the_failed_one_too(place):
    seen = []
    search(Question(), place(), [lambda study, trial: seen.append((trial.number, trial.state.name, trial.values))])
    assert seen == [(0, "COMPLETE", [0.25]), (1, "FAIL", None), (2, "COMPLETE", [0.5])]
    search(Question(), place(), [lambda study, trial: seen.append(trial)])
    assert len(seen) == 3, "a continued search tells what is new"


def test_people_find_the_study_by_its_title_and_the_values_by_their_names(place):
    search(Question(), place(), [])
    study = open_study(Question(), place().database())
    assert (study.study_name, study.user_attrs["title"]) == ("question", "tiny: macs")
    assert study.metric_names == ["hypervolume"]


def test_a_failing_logger_stops_nothing_and_is_told_once(place, caplog):
    def broken(study, trial):
        raise OSError("no space left")

    seen = []
    with caplog.at_level(logging.WARNING):
        search(Question(), place(), [guarded(broken, "mlflow"), lambda study, trial: seen.append(trial.number)])
    assert seen == [0, 1, 2]
    assert [r.message for r in caplog.records if "logging to" in r.message] == [
        "logging to mlflow failed, the search goes on: OSError: no space left"
    ]


def test_ctrl_c_goes_through_a_logger():
    def interrupted(study, trial):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded(interrupted, "mlflow")(optuna.create_study(), create_trial(value=1.0))


def test_what_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("eesearch.drivers.loggers.find_spec", lambda module: None)
    with pytest.raises(InputError, match=r"needs the package wandb.*pip install 'eesearch\[wandb\]'"):
        make_loggers(["wandb"], tmp_path)
    with pytest.raises(InputError, match=r"there is no logger 'csv'.*tensorboard \| mlflow \| wandb"):
        make_loggers(["csv"], tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("question", "values"), [(Question, {"hypervolume"}), (Points, {"calibration error", "relative cost"})]
)
def test_tensorboard_reads_back_what_was_logged(tmp_path, place, question, values):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    search(question(), place(), make_loggers(["tensorboard", "tensorboard"], tmp_path))
    folder = tmp_path / "logs" / "tensorboard"
    curves = EventAccumulator(str(folder))
    curves.Reload()
    assert {tag.replace("_", " ") for tag in curves.Tags()["scalars"]} == values
    tags = curves.Tags()["scalars"]
    found = {tag: sorted((e.step, round(e.value, 6)) for e in curves.Scalars(tag)) for tag in tags}
    expected = [(0, 0.25), (2, 0.5)] if question is Question else [(1, 0.5), (2, 0.5)]
    assert all(curve == expected for curve in found.values())
    trial = EventAccumulator(str(folder / "trial-2"))
    trial.Reload()
    content = trial.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert HParamsPluginData.FromString(content).session_start_info.hparams["exit:a"].string_value in ("none", "head")


def mlflow_settings(run):
    return {"tracking_uri": f"sqlite:///{run}/logs/mlflow.db", "metric_name": ["hypervolume"]}


def wandb_settings(run):
    kwargs = {"project": "eesearch", "name": run.name, "dir": str(run / "logs"), "mode": "offline"}
    return {"metric_name": ["hypervolume"], "wandb_kwargs": kwargs | {"settings": {"silent": True}}}


@pytest.mark.parametrize(
    ("name", "callback", "settings"),
    [("mlflow", "MLflowCallback", mlflow_settings), ("wandb", "WeightsAndBiasesCallback", wandb_settings)],
)
def test_mlflow_and_wandb_are_optuna_s_callbacks_that_stay_in_the_run(
    tmp_path, place, monkeypatch, name, callback, settings
):
    """The tools are heavy and not installed for tests: their callbacks are played."""
    calls = []

    class Callback:
        def __init__(self, **settings):
            calls.append(settings)

        def __call__(self, study, trial):
            calls.append(trial.number)

    played = types.ModuleType(f"optuna_integration.{name}")
    setattr(played, callback, Callback)
    monkeypatch.setitem(sys.modules, played.__name__, played)
    monkeypatch.setattr("eesearch.drivers.loggers.find_spec", lambda module: object())
    for variable in ("MLFLOW_TRACKING_URI", "WANDB_MODE"):
        monkeypatch.delenv(variable, raising=False)
    search(Question(), place(), make_loggers([name], tmp_path))
    assert calls == [settings(tmp_path), 0, 1, 2]
