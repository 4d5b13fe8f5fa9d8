"""The command line where it searches several times: what changed or broke in between, or fails."""

import errno
import json
import os

import numpy as np
import pandas as pd

from eesearch.training.data import digits
from tests.integration.command import refused, run, study_file


def test_profile_writes_a_profile_that_a_study_can_name(tiny, tmp_path):
    file, out = study_file(tmp_path, tiny), tmp_path / "this-machine.json"
    result = run("profile", file, "--device", "cpu:eager:t1:b1", "--out", out, "--run", tmp_path / "b", "--quiet")
    assert result.exit_code == 0, result.output
    assert "stages.0.0" in result.output
    tiny["devices"] = [str(out)]
    tiny["budget"]["trials"] = 1
    result = run("search", study_file(tmp_path, tiny), "--run", tmp_path / "b")
    assert result.exit_code == 0, result.output
    rows = pd.read_csv(tmp_path / "b" / "front.csv")
    assert rows["latency_ms"].notna().all()
    out.write_text(out.read_text()[:-50])
    refused(run("search", study_file(tmp_path, tiny), "--run", tmp_path / "c"), "this-machine.json")


def test_a_data_file_that_changed_since(tiny, tmp_path):
    data = digits()
    np.savez(tmp_path / "data.npz", **data)
    tiny["data"]["source"] = str(tmp_path / "data.npz")
    tiny["budget"]["trials"] = 1
    file = study_file(tmp_path, tiny)
    assert run("search", file, "--run", tmp_path / "r").exit_code == 0
    data["x_test"][0] += 1
    np.savez(tmp_path / "data.npz", **data)
    refused(run("search", file, "--run", tmp_path / "r"), "begun with another test split")


def test_a_disk_that_fills_up_loses_no_finished_trial(begun, tiny, tmp_path, monkeypatch):
    tiny["budget"]["trials"] = 3
    file, replace, written = study_file(tmp_path, tiny), os.replace, []

    def full_later(source, target):
        if str(target).endswith(".safetensors"):
            written.append(target)
            if len(written) > 7:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full_later)
        refused(run("search", file, "--run", tmp_path / "full"), "No space left on device", "Free some space")
    assert not [p for p in (tmp_path / "full").rglob(".*") if p.name != ".lock"], "nothing half written"
    assert run("search", file, "--run", tmp_path / "full").exit_code == 0
    whole = (begun.directory.path / "front.csv").read_bytes()
    assert (tmp_path / "full" / "front.csv").read_bytes() == whole


def test_a_failing_design_is_a_failed_trial(tiny, tmp_path):
    tiny["training"]["joint"] |= {"lr": 1e30, "optimizer": "sgd"}
    tiny["budget"]["trials"] = 3
    result = run("search", study_file(tmp_path, tiny), "--run", tmp_path / "run")
    assert result.exit_code == 0, result.output
    answers = json.loads((tmp_path / "run" / "front.json").read_text())
    assert [t["state"] for t in answers["trials"]] == ["complete", "failed", "failed"]
    assert "diverged" in answers["trials"][1]["error"]
    assert "diverged" in (tmp_path / "run" / "report.html").read_text()
