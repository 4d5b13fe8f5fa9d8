"""Import paths run only from a study file that the user names; never from a run, profile, configuration or storage."""

import inspect
import json
import shutil
import sys

import numpy as np
import optuna
import pytest
import yaml

import eesearch
from eesearch.core.design import HeadSpec
from eesearch.core.errors import InputError
from eesearch.drivers.dashboard import dashboard_app
from eesearch.exporters.formats import export
from eesearch.nets import classics, series, zoo
from eesearch.study import named
from eesearch.study.config import ExportedConfig
from eesearch.study.files import load_study, shipped
from eesearch.study.retrain import Retraining, retraining
from eesearch.study.rundir import RunDir
from tests.security.conftest import rewrite


def imported():
    return "evil_code" in sys.modules


@pytest.fixture
def samples(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 4), np.float32))
    return tmp_path / "x.npz"


@pytest.fixture
def bundle(small, evil, tmp_path):
    """A configuration that came from elsewhere: its key is right, and it names the module as its model."""
    export(eesearch.load_run(small), "point=0", "config", tmp_path / "config")
    file = next((tmp_path / "config").glob("*.json"))
    fields = json.loads(file.read_text())
    fields["study"]["backbones"][0]["model"] = evil
    fields["study"]["sampler"] = "evil_code:Sampler"
    fields["key"] = ""
    config = ExportedConfig.model_validate(fields)
    file.write_text(config.model_copy(update={"key": config.content}).to_text("json"))
    return file


class TestForeignRun:
    @pytest.mark.parametrize(
        "verb",
        [
            ["front"], ["report"], ["report", "--format", "svg"], ["policies", "--quiet"], ["store"],
            ["store", "--verify"], ["store", "--prune"],
        ],
        ids=" ".join,
    )  # fmt: skip
    def test_is_looked_at_without_importing_what_it_names(self, foreign, verb, cli, marker):
        done = cli(verb[0], foreign, *verb[1:])
        assert done.exit_code == 0, done.output
        assert not imported()
        assert not marker.exists()

    def test_is_compared_and_served_without_importing(self, foreign, small, cli, marker):
        assert cli("compare", foreign, small).exit_code == 0
        dashboard_app(RunDir(foreign))
        assert eesearch.load_run(foreign).pick("knee").point
        assert not imported()
        assert not marker.exists()

    def test_is_a_warm_start_without_importing(self, foreign, small, cli, tmp_path, marker):
        arguments = ["search", small / "study.yaml", "--set", "space.strategies=[separate, joint]", "--quiet"]
        arguments += ["--run", tmp_path / "new", "--warm-start", foreign, "--trials", 1]
        done = cli(*arguments)
        assert done.exit_code == 0, done.output
        assert not marker.exists()

    @pytest.mark.parametrize("to", ["config", "torch"])
    def test_is_not_exported_unless_trusted(self, foreign, to, cli, tmp_path, marker):
        arguments = ["export", foreign, "--to", to, "--pick", "point=0", "--out", tmp_path / "out", "--check", 0]
        refused = cli(*arguments)
        assert refused.exit_code == 2
        assert "evil_code:build" in refused.output
        assert "--trust" in refused.output
        assert not marker.exists()
        done = cli(*arguments, "--trust")
        assert done.exit_code == 0, done.output
        assert imported()

    def test_predicts_nothing_unless_trusted(self, foreign, samples, cli, marker):
        refused = cli("predict", foreign, samples, "--pick", "point=0")
        assert refused.exit_code == 2
        assert "names code that no study of yours has run" in refused.output
        with pytest.raises(InputError, match="trust=True"):
            eesearch.load_run(foreign).model("point=0")
        assert not imported()
        assert not marker.exists()
        done = cli("predict", foreign, samples, "--pick", "point=0", "--trust")
        assert done.exit_code == 0, done.output
        assert imported()

    def test_may_name_data_that_are_not_imported_either(self, run, evil, samples, cli, marker):
        fields = yaml.safe_load((run / "study.yaml").read_text())
        fields["data"]["source"] = "evil_code:data"
        (run / "study.yaml").write_text(yaml.safe_dump(fields))
        assert cli("predict", run, samples, "--pick", "point=0").exit_code == 2
        assert cli("export", run, "--to", "config", "--pick", "point=0", "--out", run / "out").exit_code == 2
        assert not imported()
        assert not marker.exists()

    @pytest.mark.parametrize(
        "path",
        [
            "os:mkdir",
            "eesearch.training.data:load_dataset",
            "eesearch.nets.zoo:torch.hub.load",
            "eesearch.costs.latency:os",
        ],
    )
    def test_our_own_modules_are_no_way_around(self, run, path, samples, cli, marker):
        rewrite(run, model=path, args={"path": str(marker)})
        done = cli("predict", run, samples, "--pick", "point=0")
        assert done.exit_code == 2
        assert "--trust" in done.output
        assert not marker.exists()


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("evil_code:data", "evil_code:data"),
        ("import:evil_code:data", "evil_code:data"),
        ("torchvision:LSUN", "torchvision:LSUN"),
        ("hf:someone/something", "hf:someone/something"),
        ("evil://code", "evil://code"),
    ],
)
def test_data_that_are_no_plain_file_are_named(run, evil, source, path, samples, cli):
    fields = yaml.safe_load((run / "study.yaml").read_text())
    fields["data"]["source"] = source
    fields["backbones"][0]["model"] = f"import:{fields['backbones'][0]['model']}"
    (run / "study.yaml").write_text(yaml.safe_dump(fields))
    study = RunDir(run).study()
    assert [each for each, _ in named.named_paths(study) if each not in named.OURS] == [path]
    with pytest.raises(InputError, match="--trust"):
        named.check_named(named.named_paths(study), "somewhere")
    assert "--trust" in cli("predict", run, samples, "--pick", "point=0").output
    assert not imported()
    named.remember(study)
    named.check_named(named.named_paths(study), "somewhere")


@pytest.mark.parametrize("source", ["data.npz", "data.csv", "images", "/a:b/images"])
def test_plain_files_of_data_name_nothing(run, source):
    fields = yaml.safe_load((run / "study.yaml").read_text())
    fields["data"]["source"] = source
    (run / "study.yaml").write_text(yaml.safe_dump(fields))
    assert all(path in named.OURS for path, _ in named.named_paths(RunDir(run).study()))


class TestOwnRun:
    """Who searches a study of theirs names its code; nobody is asked again."""

    @pytest.fixture
    def own(self, small, evil, tmp_path, cli):
        fields = yaml.safe_load((small / "study.yaml").read_text())
        fields["backbones"][0]["model"] = evil
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(fields))
        done = cli("search", tmp_path / "mine.yaml", "--run", tmp_path / "mine", "--quiet")
        assert done.exit_code == 0, done.output
        return tmp_path / "mine"

    def test_is_used_without_a_word(self, own, samples, cli, tmp_path):
        assert cli("predict", own, samples, "--pick", "point=0").exit_code == 0
        done = cli("export", own, "--to", "config", "--pick", "point=0", "--out", tmp_path / "out")
        assert done.exit_code == 0, done.output
        moved = shutil.move(own, tmp_path / "elsewhere")
        assert cli("predict", moved, samples, "--pick", "point=0").exit_code == 0

    def test_other_arguments_were_not_named(self, own, samples, cli):
        rewrite(own, args={"features": 4, "hidden": [6, 6], "classes": 3, "path": "elsewhere"})
        assert "--trust" in cli("predict", own, samples, "--pick", "point=0").output

    def test_another_account_is_asked(self, own, samples, cli, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
        assert "--trust" in cli("predict", own, samples, "--pick", "point=0").output

    def test_a_home_that_cannot_be_written_means_being_asked(self, small, evil, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
        study = load_study(small / "study.yaml", [f"backbone.model={evil}"])
        named.remember(study)
        with pytest.raises(InputError, match="--trust"):
            named.check_named(named.named_paths(study), "somewhere")


class TestConfiguration:
    def test_is_not_trained_unless_trusted(self, bundle, cli, tmp_path, marker):
        refused = cli("train", bundle, "--run", tmp_path / "again")
        assert refused.exit_code == 2
        assert "evil_code:build" in refused.output
        assert not (tmp_path / "again").exists()
        assert not imported()
        assert not marker.exists()

    def test_what_the_user_names_at_the_command_needs_no_trust(self, bundle, evil):
        config = ExportedConfig.load(bundle)
        with pytest.raises(InputError, match="--trust"):
            retraining(config)
        assert retraining(config, Retraining(trust=True)).backbone.model == evil
        study = retraining(config, Retraining(overrides=["backbone.model=mine:build"]))
        assert study.backbone.model == "mine:build"

    def test_names_no_sampler_either(self, bundle):
        assert retraining(ExportedConfig.load(bundle), Retraining(trust=True)).sampler == "auto"

    def test_is_a_warm_start_without_importing(self, bundle, small, cli, tmp_path, marker):
        arguments = ["search", small / "study.yaml", "--set", "space.strategies=[separate, joint]", "--quiet"]
        done = cli(*arguments, "--run", tmp_path / "new", "--warm-start", bundle, "--trials", 1)
        assert done.exit_code == 0, done.output
        assert not imported()
        assert not marker.exists()


def test_a_storage_names_nothing_that_is_imported(run, small, evil, cli, marker):
    storage = optuna.storages.RDBStorage(f"sqlite:///{run / 'study.db'}")
    for name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=name, storage=storage)
        for attribute in ("sampler", "problem", "title", "model"):
            study.set_user_attr(attribute, evil)
            storage.set_study_system_attr(study._study_id, attribute, evil)
    done = cli("search", small / "study.yaml", "--run", run, "--quiet")
    assert done.exit_code == 0, done.output
    assert not imported()
    assert not marker.exists()


@pytest.mark.parametrize(
    "override",
    [
        "driver=evil_code:build", "devices=[cpu:evil_code:t1:b1]", "space.criteria=[evil_code:build]",
        "space.answers=[evil_code:build]", "space.strategies=[evil_code:build]",
        "space.heads=[{kind: evil_code:build}]",
    ],
)  # fmt: skip
def test_names_of_extensions_are_names_not_import_paths(small, evil, override, cli, tmp_path, marker):
    assert cli("search", small / "study.yaml", "--run", tmp_path / "new", "--set", override).exit_code == 2
    assert not marker.exists()


def test_a_profile_names_nothing_that_is_imported(run, small, evil, cli, tmp_path, marker):
    profile = json.loads((run / "profiles" / "macs.json").read_text())
    for fields in ({**profile, "module": evil}, {**profile, "device": f"cpu:{evil}:t1:b1"}):
        (tmp_path / "profile.json").write_text(json.dumps(fields))
        device = f"devices=[{tmp_path / 'profile.json'}]"
        cli("search", small / "study.yaml", "--run", tmp_path / "new", "--set", device, "--quiet")
        assert not marker.exists()


def test_ours_are_the_networks_of_the_zoo_and_the_data_that_ship():
    made_here = {
        f"{module.__name__}:{name}"
        for module in (zoo, classics, series)
        for name, thing in vars(module).items()
        if inspect.isfunction(thing) and thing.__module__ == module.__name__ and not name.startswith("_")
    }
    assert {path for path in named.OURS if path.startswith("eesearch.nets")} == made_here
    for file in shipped("studies").values():
        assert all(path in named.OURS for path, _ in named.named_paths(load_study(file)))


def test_a_head_of_a_stored_network_is_a_name(evil, marker):
    from eesearch.nets.heads import build_head

    with pytest.raises(InputError):
        build_head(HeadSpec(kind=evil), (4,), 3)
    assert not marker.exists()
