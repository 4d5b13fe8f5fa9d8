"""A certification share that nobody but `eesearch certify` sees, and certificates from the command line."""

import json

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

import eesearch
from eesearch.cli import app
from eesearch.core.errors import DataError, InputError
from eesearch.core.store import Store
from eesearch.nets.zoo import mlp
from eesearch.notebook import load_run
from eesearch.study.certificates import read_ledger
from eesearch.study.certifying import certify
from eesearch.study.materials import load_study_data
from eesearch.study.rundir import RunDir
from eesearch.training.data import Calibration, make_dataset
from tests.integration.conftest import TINY

DATA = TINY["data"] | {"certification": 0.5}
ONE_TRIAL = TINY | {"name": "certified", "data": DATA, "budget": {"trials": 1}}


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    file = tmp_path_factory.mktemp("study") / "study.yaml"
    file.write_text(yaml.safe_dump(ONE_TRIAL))
    return file


@pytest.fixture(scope="module")
def directory(study, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "certified"
    done = run("search", study, "--run", path, "--quiet")
    assert done.exit_code == 0, done.output
    return RunDir(path)


@pytest.fixture
def fresh(directory):
    """A run that nobody has asked yet."""
    (directory.path / "certificates.json").unlink(missing_ok=True)
    return directory


def table_keys(directory):
    store, folder = Store(directory.path / "store"), directory.path / "store" / "table"
    return {store.get("table", file.stem)[1]["samples"] for file in folder.glob("*.safetensors")}


class TestShare:
    def test_nothing_of_the_run_was_computed_on_it(self, directory):
        data, answers = load_study_data(directory.study()), directory.answers()
        assert (len(data.cal), len(data.cert)) == (251, 252)
        assert table_keys(directory) == {data.cal.key, data.test.key}
        assert {p.cal.samples for p in answers.devices[0].points} == {251}
        assert answers.data["hashes"]["cert"] == data.cert.key
        assert json.loads((directory.path / "inputs.json").read_text())["cert split"] == data.cert.key

    def test_another_share_is_another_study(self, directory, study):
        done = run("search", study, "--run", directory.path, "--set", "data.certification=0.4")
        assert done.exit_code == 2
        assert "data.certification" in done.output

    def test_the_same_share_continues(self, directory, study):
        done = run("search", study, "--run", directory.path, "--quiet")
        assert done.exit_code == 0, done.output


class TestVerb:
    def test_it_certifies_on_the_share_and_remembers(self, fresh):
        done = run("certify", fresh.path, "--max-drop", "8%", "--confidence", "0.8")
        assert done.exit_code == 0, done.output
        assert done.stdout.startswith("macs: certified with 80 % confidence: point ")
        assert "252 samples of the certification share" in done.stdout
        again = run("certify", fresh.path, "--max-drop", "8%", "--confidence", "0.8")
        assert again.stdout.splitlines()[0] == done.stdout.splitlines()[0]
        assert "Asked before" in again.stdout
        further = run("certify", fresh.path, "--max-drop", "0%", "--out", fresh.path / "answer.txt")
        assert further.exit_code == 0, further.output
        assert "2 questions to these samples" in (fresh.path / "answer.txt").read_text()
        assert len(read_ledger(fresh).asked) == 2

    def test_a_pool_is_listed_labelled_and_certified_on(self, fresh, tmp_path):
        test = load_study_data(fresh.study()).test
        x = test.x[:400].copy()
        x[:, 0, 0, 0] += 1  # nothing of the run, and yet digits
        np.savez(tmp_path / "x.npz", x=x)
        asked = ("certify", fresh.path, "--max-drop", "8%", "--pool", tmp_path / "x.npz")
        listed = run(*asked, "--out", tmp_path / "labels.csv")
        assert listed.exit_code == 0, listed.output
        rows = [int(line.split(",")[0]) for line in (tmp_path / "labels.csv").read_text().splitlines()[1:]]
        assert f"{len(rows)} of 400 samples need a label" in listed.stderr
        empty = run(*asked, "--labels", tmp_path / "labels.csv")
        assert empty.exit_code == 2
        assert f"{len(rows)} of the {len(rows)} samples that need a label have none" in empty.output
        filled = "index,label\n" + "".join(f"{row},{test.y[row]}\n" for row in rows)
        (tmp_path / "labels.csv").write_text(filled)
        done = run(*asked, "--labels", tmp_path / "labels.csv")
        assert done.exit_code == 0, done.output
        assert "macs: certified" in done.stdout
        np.savez(tmp_path / "xy.npz", x=x, y=test.y[:400])
        whole = run(*asked[:-1], tmp_path / "xy.npz")
        assert "Asked before" in whole.stdout, "all labels say what the few that decide said"

    @pytest.mark.parametrize(
        "wrong",
        [("--max-drop", "much"), ("--max-drop", "1%", "--confidence", "2"), ("--max-drop", "1%", "--labels", "x")],
    )
    def test_what_is_no_question_is_refused(self, fresh, wrong):
        done = run("certify", fresh.path, *wrong)
        assert done.exit_code == 2
        assert "Traceback" not in done.output


def test_arrays_give_up_a_share_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng, arrays = np.random.default_rng(0), {}
    for name, count in (("train", 150), ("test", 400)):
        y = np.arange(count) % 3
        arrays |= {f"x_{name}": (rng.normal(size=(count, 6)) + y[:, None]).astype(np.float32), f"y_{name}": y}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = mlp(features=6, hidden=(8, 8), classes=3)
    fields = {"data": {"certification": 0.5}, "space": {"heads": [{"kind": "linear"}], "strategies": ["separate"]}}
    found = eesearch.search(model, arrays, device="macs", study=fields)
    dataset = make_dataset(arrays, calibration=Calibration(origin="test", share=0.5), certification=0.5)
    assert found.answers.data["sizes"] == {"train": 150, "cal": 100, "test": 200, "cert": 100}
    done = found.certify("30%", confidence=0.8)
    assert (done.asked.samples, done.asked.query.source) == (100, dataset.cert.key)
    with pytest.raises(DataError, match="were given as arrays"):
        load_run(found.directory.path).certify("31%")
    assert certify(load_run(found.directory.path), "30%", confidence=0.8).recorded


def test_a_dataset_keeps_its_splits():
    arrays = {
        f"{a}_{s}": np.zeros((4, 2), np.float32) if a == "x" else np.arange(4) % 2
        for s in ("train", "cal", "test")
        for a in "xy"
    }
    with pytest.raises(InputError, match="has its splits already"):
        eesearch.search(torch.nn.Linear(2, 2), make_dataset(arrays), study={"data": {"certification": 0.5}})
