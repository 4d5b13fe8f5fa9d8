"""The command line in this process: every verb, every kind of bad input, exit codes and messages."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from eesearch import __version__
from eesearch.cli import app
from eesearch.costs.noise import Noise
from eesearch.study.files import load_study
from eesearch.training.data import digits
from tests.integration.command import refused, run, study_file

REPLAY = Path(__file__).parents[2] / "docs" / "results" / "replay"


def limited(**limit):
    return {"constraints": {"limits": [limit]}}


@pytest.fixture
def finished(searched):
    return searched.directory.path


class TestVerbs:
    def test_version(self):
        assert run("--version").output.strip() == f"eesearch {__version__}"

    @pytest.mark.parametrize("command", [["-m", "eesearch"], ["cli.py"]])
    def test_the_module_and_the_script_are_the_same_thing(self, command):
        root = Path(__file__).parents[2]
        done = subprocess.run([sys.executable, *command, "--version"], cwd=root, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, f"eesearch {__version__}\n")

    def test_search_says_the_verdict_first_and_continues(self, tiny, tmp_path):
        tiny["budget"]["trials"] = 2
        file = study_file(tmp_path, tiny)
        first = run("search", file, "--run", tmp_path / "run")
        assert first.exit_code == 0, first.output
        assert first.stdout.startswith("macs: no saving can be promised at no loss")
        assert "report.html" in first.stdout.splitlines()[-1]
        more = run("search", file, "--run", tmp_path / "run", "--trials", 3, "--quiet")
        assert more.exit_code == 0, more.output
        assert len(json.loads((tmp_path / "run" / "front.json").read_text())["trials"]) == 3

    def test_dry_run_tells_the_plan_and_writes_nothing(self, tiny, tmp_path):
        result = run("search", study_file(tmp_path, tiny), "--run", tmp_path / "run", "--dry-run")
        assert result.exit_code == 0, result.output
        said = " ".join(result.output.split())
        for word in ("stages.0.0", "linear-mixed2", "cached hidden states", "trainings: 6 (", "time: about"):
            assert word in said
        assert "12,064 for the bank, at most 754 for each design" in said, "maps are not cached: 1 + 15 epochs"
        assert not (tmp_path / "run").exists()
        for samples, trainings in ((12_064, 1), (12_065, 2), (12_064 + 2 * 754, 3), (10**9, 6)):
            result = run("search", study_file(tmp_path, tiny), "--dry-run", "--samples", samples)
            assert f"trainings: {trainings} (" in result.output
        said = " ".join(run("search", study_file(tmp_path, tiny), "--dry-run", "--max-cache", 1e-6).output.split())
        assert "over the limit, so computed anew in every epoch; at most 1e-06 GB (--max-cache)" in said

    def test_options_of_a_search_reach_it(self, tiny, tmp_path, monkeypatch):
        from eesearch import api
        from eesearch.core.errors import InputError

        seen = {}

        def search(question, path, **options):
            seen.update(options, question=question)
            raise InputError("enough")

        monkeypatch.setattr(api, "search_study", search)
        monkeypatch.setenv("EESEARCH_STORAGE", "sqlite:///environment.db")
        given = ("--address", "auto", "--sampler", "random", "--samples", 9000, "--driver", "ray", "--max-cache", 2.5)
        refused(run("search", study_file(tmp_path, tiny), *given), "enough")
        question = seen["question"]
        assert seen["place"] == api.Place("sqlite:///environment.db", "auto")
        assert (question.driver, question.sampler, question.budget.samples) == ("ray", "random", 9000)
        assert question.budget.max_cache_gb == 2.5
        refused(run("search", study_file(tmp_path, tiny), "--storage", "sqlite:///given.db"), "enough")
        assert seen["place"].storage == "sqlite:///given.db"
        refused(run("search", study_file(tmp_path, tiny), "--sampler", "genetic"), "no sampler 'genetic'")

    def test_front_in_all_forms(self, finished):
        table = run("front", finished, "--device", "macs")
        assert "backbone" in table.output
        assert re.search(r"^ *separate +1 of 1 ", table.output, flags=re.M), "a line per strategy"
        rows = pd.read_csv(io.StringIO(run("front", finished, "--format", "csv").output))
        pd.testing.assert_frame_equal(rows, pd.read_csv(finished / "front.csv"))
        records = json.loads(run("front", finished, "--device", "macs", "--format", "json").output)
        assert {r["device"] for r in records} == {"macs"}

    def test_front_keeps_constraints(self, finished):
        everything = pd.read_csv(finished / "front.csv")
        timed = everything[everything["device"] != "macs"]
        drop = timed[["drop_cal", "drop_promised"]][:-1]
        arguments = ("front", finished, "--device", timed.iloc[0]["device"], "--format", "csv")
        for option, lost in (("--naive", drop["drop_cal"]), ("--max-drop=2%", drop.max(axis=1))):
            rows = pd.read_csv(io.StringIO(run(*arguments, "--max-drop", "2%", option).output))
            assert list(rows["point"][:-1].astype(int)) == list(lost.index[lost <= 0.02 + 1e-12] - drop.index[0])
        refused(run(*arguments, "--budget-ms", "1e-9"), "no point")
        refused(run("front", finished, "--device", "macs", "--budget-ms", "5"), "has no latencies")
        assert run("front", finished, "--budget-ms", "1e6").exit_code == 0, "without --device: those that are timed"

    def test_predict_answers_and_really_stops(self, finished, tmp_path):
        data = digits()
        np.savez(tmp_path / "in.npz", x=data["x_test"], y=data["y_test"])
        out = tmp_path / "out.csv"
        result = run("predict", finished, tmp_path / "in.npz", "--pick", "max-drop=5%@macs", "--out", out)
        assert result.exit_code == 0, result.output
        table = pd.read_csv(out)
        assert list(table.columns) == ["index", "answer", "exit", "score"]
        assert list(table["index"]) == list(range(540))
        assert np.mean(table["answer"] == data["y_test"]) > 0.8
        assert "accuracy" in result.output
        np.savez(tmp_path / "one.npz", x=data["x_test"][:1])
        assert run("predict", finished, tmp_path / "one.npz", "--pick", "knee").stdout.startswith(
            "index,answer,exit,score\n0,"
        )

    @pytest.mark.parametrize(
        "pick", ["best", "point=99", "max-drop=x", "knee@gpu", "budget-ms=1e-9", "budget-ms=1@macs"]
    )
    def test_picks_that_mean_nothing(self, finished, tmp_path, pick):
        np.savez(tmp_path / "in.npz", x=digits()["x_test"][:2])
        refused(run("predict", finished, tmp_path / "in.npz", "--pick", pick), "PickError")

    def test_predict_refuses_what_does_not_fit(self, finished, tmp_path):
        np.savez(tmp_path / "flat.npz", x=np.zeros((3, 64), np.uint8))
        refused(
            run("predict", finished, tmp_path / "flat.npz", "--pick", "knee"), "uint8 [64]", "expected uint8 [1, 8, 8]"
        )
        np.savez(tmp_path / "scaled.npz", x=digits()["x_test"] / 16.0)
        refused(run("predict", finished, tmp_path / "scaled.npz", "--pick", "knee"), "got float32 [1, 8, 8]")
        np.savez(tmp_path / "none.npz", z=np.zeros(3))
        np.savez(tmp_path / "labels.npz", x=digits()["x_test"][:2], y=np.array(["3", "x"]))
        refused(run("predict", finished, tmp_path / "labels.npz", "--pick", "knee"), "no class of the run; got x")
        np.savez(tmp_path / "labels.npz", x=digits()["x_test"][:2], y=np.array([3, 10]))
        refused(run("predict", finished, tmp_path / "labels.npz", "--pick", "knee"), "no class of the run; got 10")
        refused(run("predict", finished, tmp_path / "none.npz", "--pick", "knee"), "holds no samples")
        np.savez(tmp_path / "text.npz", x=np.array([["a"], ["b"]]))
        refused(run("predict", finished, tmp_path / "text.npz", "--pick", "knee"), "holds no samples")
        np.save(tmp_path / "single.npy", np.zeros(3))
        refused(run("predict", finished, tmp_path / "single.npy", "--pick", "knee"), "cannot read")
        (tmp_path / "cut.npz").write_bytes((tmp_path / "flat.npz").read_bytes()[:-30])
        refused(run("predict", finished, tmp_path / "cut.npz", "--pick", "knee"), "cannot read")
        refused(run("predict", finished, tmp_path / "absent.npz", "--pick", "knee"), "cannot read")

    def test_report_draws_again(self, finished):
        assert run("report", finished).output.strip().endswith("report.html")

    def test_policies_of_the_literature_beside_ours(self, finished):
        table = run("policies", finished, "--device", "macs", "--quiet")
        assert table.exit_code == 0, table.output
        names = ("ours", "BranchyNet", "SDN", "MSDNet", "IDK", "Streeter", "PABEE", "Bolukbasi", "reconstruction")
        names += ("DeeBERT", "ZTW", "EENet")
        assert all(name in table.output for name in names), table.output
        rows = pd.read_csv(io.StringIO(run("policies", finished, "--format", "csv", "--quiet").stdout))
        assert set(rows["max_drop"]) == {0.0, 0.005, 0.01, 0.02}
        assert len(rows) == 12 * 4
        refused(run("policies", finished, "--device", "gpu"), "no device gpu")

    def test_solve_needs_two_files_and_no_run(self, tmp_path):
        files = REPLAY / "digits_cnn.npz", REPLAY / "digits_cnn.json"
        table = run("solve", *files, "--max-exits", 2)
        assert table.exit_code == 0, table.output
        assert "nothing is better anywhere" in " ".join(table.output.split())
        rows = pd.read_csv(io.StringIO(run("solve", *files, "--max-exits", 2, "--format", "csv").output))
        assert rows["point"].iloc[-1] == "backbone"
        out = tmp_path / "front.json"
        assert (
            run("solve", *files, "--levels", "all", "--max-exits", 1, "--format", "json", "--out", out).exit_code == 0
        )
        assert json.loads(out.read_text())["certificate"]["exact"]
        refused(run("solve", *files, "--levels", "many"), "'many' is no number of threshold levels")
        refused(run("solve", *files, "--criterion", "vibes"), "the scores in")
        refused(run("solve", *files[::-1]), "digits_cnn.json")

    def test_schema(self):
        assert json.loads(run("schema", "study").output)["title"] == "Study"
        refused(run("schema", "run"), "study or space")

    def test_init_copies_a_study_that_loads(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert run("init", "--example", "digits").output.split() == ["digits.yaml", "digits_space.yaml"]
        assert load_study("digits.yaml").space == load_study("digits").space
        refused(run("init", "--example", "digits"), "there already")

    def test_doctor(self):
        result = run("doctor")
        criteria = "entropy, gate, learned, learned_path, margin, max_prob, own_gate, patience"
        for word in ("torch", "2.13", "pinning", criteria, "cpu:eager:t1:b1"):
            assert word in result.output

    def test_doctor_tells_the_timers_own_noise(self, monkeypatch):
        asked = []

        def noise(device, progress):
            asked.append(device)
            return Noise(device, 1.5, 0.01, 0.03, 0.005, 1.0, 0.02, True)

        monkeypatch.setattr("eesearch.costs.noise.timer_noise", noise)
        result = run("doctor", "--timer", "--device", "cpu:onnxruntime:t1:b4", "--quiet")
        assert asked == ["cpu:onnxruntime:t1:b4"]
        assert "differences under 3.0% are ties" in result.output


class TestBadInput:
    def test_three_mistakes_in_one_file(self, tiny, tmp_path):
        tiny |= {"colour": "red", "seed": -1}
        tiny["budget"]["trials"] = 0
        refused(run("search", study_file(tmp_path, tiny)), "3 mistakes", "colour", "seed", "budget.trials")

    def test_a_model_that_returns_a_tuple(self, tiny, tmp_path, monkeypatch):
        (tmp_path / "twins.py").write_text(
            "from torch import nn\n"
            "class Twins(nn.Module):\n"
            "    def __init__(self):\n        super().__init__()\n        self.body = nn.Linear(64, 10)\n"
            "    def forward(self, x):\n        y = self.body(x.flatten(1))\n        return y, y\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        tiny["backbone"] = {"model": "twins:Twins"}
        refused(run("search", study_file(tmp_path, tiny), "--run", tmp_path / "r"), "tuple")

    def test_a_model_that_cannot_be_imported(self, tiny, tmp_path):
        tiny["backbone"] = {"model": "nowhere.models:build"}
        refused(run("search", study_file(tmp_path, tiny), "--run", tmp_path / "r"), "cannot import 'nowhere.models'")

    def test_a_model_file_with_a_syntax_error(self, tiny, tmp_path, monkeypatch):
        (tmp_path / "broken.py").write_text("def build(:\n")
        monkeypatch.syspath_prepend(tmp_path)
        tiny["backbone"] = {"model": "broken:build"}
        refused(run("search", study_file(tmp_path, tiny), "--run", tmp_path / "r"), "cannot import 'broken'")

    def test_a_head_that_fits_no_cut(self, tiny, tmp_path):
        tiny["space"]["heads"].append({"kind": "mlp", "hidden": []})
        refused(run("search", study_file(tmp_path, tiny), "--run", tmp_path / "r"), "fits no cut")

    @pytest.mark.parametrize(
        "change", [{"devices": ["gpu:0"]}, {"driver": "optna"}, {"devices": ["cpu:eager:t999:b1"]}]
    )
    def test_devices_and_drivers_are_checked_before_anything_is_trained(self, tiny, tmp_path, change):
        word = change["driver"] if "driver" in change else change["devices"][0]
        refused(run("search", study_file(tmp_path, tiny | change), "--run", tmp_path / "r"), word)
        assert not (tmp_path / "r" / "checkpoints").exists()

    @pytest.mark.parametrize(
        ("section", "fields", "words"),
        [
            (
                "objectives",
                {"constraints": {"limits": [{"axis": "energy_mj", "at_most": 1}]}},
                "no device of the study",
            ),
            (
                "objectives",
                {"constraints": {"limits": [{"axis": "latency_ms", "at_most": 1}]}},
                "no device of the study",
            ),
            ("objectives", {"constraints": {"limits": [{"axis": "params", "at": "mean", "at_most": 1}]}}, "as a whole"),
            ("space", {"last_resort": {"latency_ms": 1.0}}, "no price in macs"),
            ("space", {"criteria": ["gate"]}, "is learnt, not listed"),
            ("space", {"criteria": ["patience"], "answers": ["mean"]}, "none of the criteria"),
            ("space", {"answers": ["loudest"]}, "there is no answer"),
        ],
    )
    def test_what_cannot_be_asked_is_refused_before_anything_is_done(self, tiny, tmp_path, section, fields, words):
        tiny[section] = tiny.get(section, {}) | fields
        refused(run("search", study_file(tmp_path, tiny), "--run", tmp_path / "run"), words)
        assert not (tmp_path / "run").exists()

    def test_joint_trials_draw_thresholds_of_single_exits_only(self, tiny, tmp_path):
        tiny |= {"mode": "joint-trials", "space": tiny["space"] | {"criteria": ["patience"]}}
        refused(run("search", study_file(tmp_path, tiny), "--run", tmp_path / "run"), "criteria of one exit only")

    def test_weights_that_are_no_state_dict(self, tiny, tmp_path):
        import torch

        torch.save([torch.zeros(2)], tmp_path / "w.pt")
        tiny["backbone"]["weights"] = str(tmp_path / "w.pt")
        refused(run("search", study_file(tmp_path, tiny), "--run", tmp_path / "r"), "holds no state dict")

    def test_a_network_with_another_number_of_classes(self, tiny, tmp_path):
        tiny["backbone"]["args"]["classes"] = 7
        for flags in ([], ["--dry-run"]):
            refused(run("search", study_file(tmp_path, tiny), "--run", tmp_path / "r", *flags), "7 outputs")

    def test_a_cut_that_does_not_exist(self, tiny, tmp_path):
        tiny["space"]["cuts"] = {"candidates": ["stages.0.9"]}
        refused(run("search", study_file(tmp_path, tiny), "--run", tmp_path / "r"), "stages.0.9", "stages.0.0")

    def test_weights_of_another_architecture(self, tiny, tmp_path):
        from safetensors.numpy import save_file

        save_file({"w": np.zeros(3, np.float32)}, tmp_path / "w.safetensors")
        tiny["backbone"]["weights"] = str(tmp_path / "w.safetensors")
        refused(run("search", study_file(tmp_path, tiny), "--run", tmp_path / "r"), "another architecture")

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (lambda d: d["y_train"].__setitem__(3, 11), ["out of range", "11"]),
            (
                lambda d: d.__setitem__("x_test", d["x_test"] + np.where(d["x_test"] > 15, np.nan, 0.0)),
                ["x_test", "NaN"],
            ),
            (lambda d: d.update(x_cal=d["x_test"][:0], y_cal=d["y_test"][:0]), ["cal split is empty"]),
            (
                lambda d: d.update(x_test=d["x_test"][d["y_test"] != 4], y_test=d["y_test"][d["y_test"] != 4]),
                ["class 4"],
            ),
            (lambda d: d.pop("y_test"), ["y_test"]),
        ],
        ids=["label out of range", "NaN", "empty calibration", "class missing", "array missing"],
    )
    def test_data(self, tiny, tmp_path, spoil, words):
        data = {name: np.array(array) for name, array in digits().items()}
        data["x_train"], data["x_test"] = data["x_train"].astype(np.float32), data["x_test"].astype(np.float32)
        spoil(data)
        np.savez(tmp_path / "data.npz", **data)
        tiny["data"] = {"source": str(tmp_path / "data.npz")}
        refused(run("search", study_file(tmp_path, tiny), "--run", tmp_path / "r"), "DataError", *words)

    def test_the_run_directory_of_another_study(self, tiny, finished, tmp_path):
        before = (finished / "study.yaml").read_bytes()
        tiny["seed"] = 5
        refused(run("search", study_file(tmp_path, tiny), "--run", finished), "another study", "seed: 0 there, 5 now")
        assert (finished / "study.yaml").read_bytes() == before

    def test_a_run_directory_below_a_file(self, tiny, tmp_path):
        (tmp_path / "file").write_text("")
        refused(run("search", study_file(tmp_path, tiny), "--run", tmp_path / "file" / "run"), "cannot write")


def test_a_cluster_s_address_needs_its_driver_and_a_foreign_sampler_is_looked_at_first(tmp_path):
    run = str(tmp_path / "run")
    refused = CliRunner().invoke(app, ["search", "digits", "--run", run, "--address", "auto"])
    assert (refused.exit_code, "Add --driver ray" in refused.stderr) == (2, True)
    refused = CliRunner().invoke(app, ["search", "digits", "--run", run, "--sampler", "nowhere.at_all:Sampler"])
    assert (refused.exit_code, "nowhere.at_all" in refused.stderr) == (2, True)
    refused = CliRunner().invoke(app, ["search", "digits", "--run", run, "--warm-start", str(tmp_path / "none")])
    assert (refused.exit_code, "or a run directory" in refused.stderr) == (2, True)
    assert not (tmp_path / "run").exists()
