"""A device kit measured where neither torch nor eesearch is, and its profile used here: the whole way round."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from eesearch.api import profile, search_study
from eesearch.cli import app
from eesearch.core.cascades import CascadeProfile
from eesearch.costs.profile import load_any_profile, load_profile
from eesearch.study.files import load_study
from eesearch.study.rundir import RunDir
from tests.integration.test_cascade import several

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

ROOT = Path(__file__).parents[2]
SHORT = ["training.epochs=1", "training.heads.epochs=1", "budget.trials=1"]


def call(*arguments):
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Python of an environment that holds onnxruntime and numpy."""
    folder = tmp_path_factory.mktemp("bare") / "kit-env"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-compile"]
    done = subprocess.run(
        [*pip, "-c", ROOT / "constraints.txt", "onnxruntime", "numpy"], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"pip cannot install onnxruntime: {done.stderr.strip().splitlines()[-1]}")
    return python


@pytest.fixture(scope="module")
def measured(bare, tmp_path_factory):
    """The profile that came back."""
    folder = tmp_path_factory.mktemp("device")
    assert "kit-env/bin/python kit.zip --out profile.json" in call("profile", "digits", "--bundle", folder / "kit.zip")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for library in ("torch", "eesearch"):
        missing = subprocess.run([bare, "-c", f"import {library}"], capture_output=True, cwd=folder, env=clean)
        assert b"ModuleNotFoundError" in missing.stderr
    command = [bare, "kit.zip", "--quick", "--batch", "2", "--out", "pi4.json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=clean)
    assert done.returncode == 0, done.stderr
    assert "wrote pi4.json: name it among the devices of a study" in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["kit.zip", "pi4.json"]
    return folder / "pi4.json"


def test_the_profile_is_of_that_machine(measured):
    found = load_profile(measured)
    assert found.device == "cpu:onnxruntime:t1:b2"
    assert found.fingerprint.keys() >= {"processor", "onnxruntime", "numpy", "protocol"}
    assert "torch" not in found.fingerprint
    assert [each.batch for each in (*found.smaller, found.latency)] == [1, 2]
    assert set(found.latency.timings) == set(found.smaller[0].timings)
    assert found.latency.decision_ms.keys() >= {"max_prob"}
    assert found.latency.prefix_ms[-1] > 0.0


def test_it_is_a_device_of_a_search(measured, tmp_path):
    run = tmp_path / "run"
    devices = [f"devices=[{json.dumps(str(measured))}, macs]"]
    overrides = [part for change in SHORT + devices for part in ("--set", change)]
    call("search", "digits", "--run", run, "--quiet", *overrides)
    timed, counted = RunDir(run).answers().devices
    assert (timed.device, timed.axis) == (str(measured), "latency_ms")
    assert timed.points
    assert {pick.device for pick in RunDir(run).answers().elsewhere} <= {str(measured), "macs"}
    told = call("profile-diff", measured, f"{run}@macs")
    assert "of the cost on pi4.json and" in told.replace("\n", " ")
    assert counted.device == "macs"


def test_several_networks_come_back_as_one_profile(tmp_path, tiny_fields):
    """Where eesearch is, here; the script looks for neither it nor torch."""
    study = tmp_path / "several.yaml"
    study.write_text(yaml.safe_dump(several(tiny_fields)))
    told = call("profile", study, "--bundle", tmp_path / "kit.zip")
    assert f"eesearch profile {study} --device profile.json" in told.replace("\n", ""), "this command works here"
    command = [sys.executable, "kit.zip", "--quick", "--out", "pi4.json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert ": large: resume" in done.stderr
    found = load_any_profile(tmp_path / "pi4.json")
    assert isinstance(found, CascadeProfile)
    assert (found.device, list(found.members)) == ("cpu:onnxruntime:t1:b1", ["small", "middle", "large"])
    here = load_study(str(study), [f"devices=[{json.dumps(str(tmp_path / 'pi4.json'))}]"])
    told = profile(here, tmp_path / "run", here.devices[0])
    assert [each.latency for each in told.members.values()] == [each.latency for each in found.members.values()]
    assert told.content == profile(here, tmp_path / "run", "macs").content == found.content
    run = search_study(here, tmp_path / "run")
    assert run.answers.devices[0].points


def test_the_script_can_be_run_beside_the_kit(bare, measured, tmp_path):
    """As somebody does who does not trust the script in a kit; and what it is given is checked."""
    with zipfile.ZipFile(measured.with_name("kit.zip")) as archive:
        (tmp_path / "measure.py").write_bytes(archive.read("measure.py"))
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        for name, content in {**entries, "../evil.py": b"", "__main__.py": b"open('harmed', 'w')"}.items():
            archive.writestr(name, content)
    done = subprocess.run([bare, "measure.py", "evil.zip"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: the kit has an entry that leads out of it: '../evil.py'\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.zip", "measure.py"]
