"""Nothing that is read from a file is unpickled."""

import numpy as np
import pytest
from torch import nn

from eesearch.core.errors import InputError
from eesearch.costs.profile import load_profile
from eesearch.drivers.dashboard import dashboard_app
from eesearch.exporters.torch_folder import MODEL, load_module
from eesearch.nets.sources import load_weights
from eesearch.study.config import ExportedConfig
from eesearch.study.rundir import RunDir
from eesearch.training.checkpoint import Checkpoint
from eesearch.training.data import load_dataset

FILES = (
    "study.yaml", "run.json", "inputs.json", "study.db", "front.json", "examples.json", "profiles/macs.json",
    "store/table/*", "store/weights/*", "store/fit/*", "store/front/*", "store/literature/*",
)  # fmt: skip
FORMS = ("pickle", "torch")

pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")  # torch, before it refuses


@pytest.fixture
def placed(run, bombs):
    """Puts a bomb in the place of files of the run."""

    def place(pattern, form):
        files = [file for file in run.glob(pattern) if file.is_file()]
        assert files, f"the run has no {pattern}: does it lie elsewhere now?"
        for file in files:
            file.write_bytes(bombs[form])
        return run

    return place


@pytest.mark.parametrize("pattern", FILES)
def test_in_a_run_directory(placed, pattern, cli, tmp_path, marker):
    run = placed(pattern, "torch" if "store" in pattern else "pickle")
    samples = tmp_path / "x.npz"
    np.savez(samples, x=np.zeros((2, 4), np.float32))
    for verb in (
        ["front", run], ["report", run], ["report", run, "--format", "md"], ["policies", run, "--quiet"],
        ["compare", run, run], ["predict", run, samples, "--pick", "point=0"], ["store", run],
        ["export", run, "--to", "config", "--pick", "point=0", "--out", tmp_path / "out"],
        ["store", run, "--prune"],
    ):  # fmt: skip
        done = cli(*verb)
        assert done.exit_code in (0, 1, 2), (verb, done.output)
        assert done.exit_code != 1 or "StoreError" in done.output
        assert "Traceback" not in done.output
    assert not marker.exists()


@pytest.mark.parametrize("pattern", FILES)
def test_in_a_run_that_is_searched_on(placed, pattern, small, cli, marker):
    run = placed(pattern, "pickle")
    done = cli("search", small / "study.yaml", "--run", run, "--quiet")
    assert done.exit_code == (2 if pattern in ("study.yaml", "study.db", "run.json") else 0), done.output
    assert not marker.exists()


@pytest.mark.parametrize("form", FORMS)
def test_in_the_store_it_is_set_aside(placed, form, cli, marker):
    run = placed("store/*/*", form)
    done = cli("store", run, "--verify")
    assert done.exit_code == 1
    assert not list(run.glob("store/*/*.safetensors"))
    assert len(list(run.glob("store/*/*.damaged"))) > 5
    assert not marker.exists()


def test_in_the_dashboard(placed, marker):
    run = placed("study.db", "pickle")
    with pytest.raises(Exception, match="database"):
        dashboard_app(RunDir(run))
    assert not marker.exists()


@pytest.mark.parametrize("form", FORMS)
def test_in_a_checkpoint(bombs, form, tmp_path, marker):
    checkpoint = Checkpoint(tmp_path / "key.0")
    checkpoint.path.write_bytes(bombs[form])
    assert checkpoint.load("this") is None
    assert (tmp_path / "key.0.damaged").exists()
    assert not marker.exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["weights.pt", "weights.pth", "weights.bin", "weights.safetensors"])
def test_in_the_weights_of_a_study(bombs, form, name, tmp_path, marker):
    (tmp_path / name).write_bytes(bombs[form])
    with pytest.raises(InputError, match="cannot read"):
        load_weights(nn.Linear(2, 2), tmp_path / name)
    assert not marker.exists()


@pytest.mark.parametrize("form", ["pickle", "torch", "npz"])
def test_in_data(bombs, form, tmp_path, cli, run, marker):
    file = tmp_path / "data.npz"
    file.write_bytes(bombs[form])
    with pytest.raises(InputError):
        load_dataset(str(file))
    for verb in (["predict", run, file], ["solve", file, tmp_path / "costs.json"], ["solve", file, file]):
        assert cli(*verb).exit_code == 2
    assert not marker.exists()


@pytest.mark.parametrize("form", FORMS)
def test_in_a_profile(bombs, form, tmp_path, marker):
    (tmp_path / "profile.json").write_bytes(bombs[form])
    with pytest.raises(InputError):
        load_profile(tmp_path / "profile.json")
    assert not marker.exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["chosen.json", "chosen.yaml"])
def test_in_an_exported_configuration(bombs, form, name, tmp_path, cli, marker):
    (tmp_path / name).write_bytes(bombs[form])
    with pytest.raises(InputError, match=r"cannot read|is no exported"):
        ExportedConfig.load(tmp_path / name)
    assert cli("train", tmp_path / name).exit_code == 2
    assert cli("search", "digits", "--warm-start", tmp_path / name).exit_code == 2
    assert not marker.exists()


def test_in_a_warm_start_s_run(placed, small, cli, tmp_path, marker):
    run = placed("front.json", "pickle")
    assert cli("search", small / "study.yaml", "--run", tmp_path / "new", "--warm-start", run).exit_code == 2
    assert not (tmp_path / "new").exists()
    assert not marker.exists()


def test_in_an_exported_folder(run, cli, bombs, tmp_path, marker):
    out = tmp_path / "exported"
    done = cli("export", run, "--to", "torch", "--pick", "point=0", "--out", out)
    assert done.exit_code == 0, done.output
    load = load_module(out / MODEL).load
    load(out)
    for form in FORMS:
        (out / "weights.safetensors").write_bytes(bombs[form])
        with pytest.raises(ValueError):  # the folder needs nothing of eesearch, so its errors are plain
            load(out)
    assert not marker.exists()
