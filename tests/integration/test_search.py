import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from eesearch.api import Watchers, search, search_study
from eesearch.study.front_table import COLUMNS
from eesearch.study.materials import load_study_data, prepare
from eesearch.study.question import Study
from eesearch.study.run import Run
from eesearch.training.data import digits
from tests.integration.deployed import check_deployed


@pytest.fixture(scope="session")
def rows(searched):
    return pd.read_csv(searched.directory.path / "front.csv")


def test_everything_that_is_promised_is_there(searched):
    files = {p.name for p in searched.directory.path.iterdir()}
    assert {"study.yaml", "study.db", "profiles", "store", "front.csv", "front.json", "front.png"} <= files
    assert "report.html" in files
    assert not list((searched.directory.path / "checkpoints").iterdir()), "finished trainings need no checkpoint"


def test_trials_are_the_bank_three_seeds_and_the_sampler(searched):
    trials = searched.answers.trials
    assert [t.state for t in trials] == ["complete"] * 6
    assert [t.strategy for t in trials] == ["separate"] + ["mixed"] * 5
    assert trials[0].origin == "bank"
    assert len({t.origin for t in trials[1:4]} - {"sampler"}) == 3
    assert {t.origin for t in trials[4:]} == {"sampler"}
    assert sum(seed.enqueued for seed in searched.device("macs").seeds) == 3


def test_the_table_has_the_promised_columns_and_a_backbone_per_device(rows):
    assert tuple(rows.columns) == COLUMNS
    for device, group in rows.groupby("device"):
        assert list(group["point"]) == [*map(str, range(len(group) - 1)), "backbone"], device
        assert group.iloc[-1]["macs_ratio"] == 1.0


def test_rows_are_consistent(rows):
    assert (
        (rows["accuracy_test_low"] < rows["accuracy_test"]) & (rows["accuracy_test"] < rows["accuracy_test_high"])
    ).all()
    timed = rows[rows["device"] != "macs"]
    assert (timed["latency_ms"] <= timed["latency_ms_worst"] + 1e-12).all()
    assert rows[rows["device"] == "macs"]["latency_ms"].isna().all()
    for row in rows.itertuples():
        lists = [getattr(row, name).split("|") for name in ("exits", "heads", "thresholds", "exit_rate")]
        assert len({len(entries) for entries in lists}) == 1
        assert lists[2][-1] == "-inf"
        assert sum(map(float, lists[3])) == pytest.approx(1.0, abs=1e-3)


def test_fronts_are_selected_on_calibration(searched):
    for device in searched.answers.devices:
        cal = [(p.cal.costs[device.axis].mean, p.cal.error) for p in device.points]
        assert cal == sorted(cal)
        assert all(b[1] < a[1] for a, b in pairwise(cal)), "each point costs more and errs less"
        assert all(p.test.policy == p.cal.policy for p in device.points)


def test_splits_are_recorded(searched):
    data = searched.answers.data
    dataset = load_study_data(searched.directory.study())
    assert data["hashes"]["test"] == dataset.test.key
    assert data["sizes"] == {"train": 754, "cal": 503, "test": 540}
    assert data["seed"] == 0


@pytest.mark.parametrize("device", ["cpu:eager:t1:b1", "macs"])
def test_the_table_is_the_network(searched, device):
    """Sample by sample, the deployed network stops where routing says and answers what the table says."""
    points = searched.device(device).points
    for point in points[:: max(1, len(points) // 6)]:
        check_deployed(searched, point)
    assert max(len(point.cal.policy.exits) for point in points) > 1, "some policy stops early"


def test_the_reported_accuracy_is_the_deployed_network_s(searched):
    dataset = load_study_data(searched.directory.study())
    _, point = searched.pick("knee@macs")
    prediction = searched.predict(point, dataset.test.x)
    assert np.mean(prediction.answer == dataset.test.y) == pytest.approx(point.test.accuracy, abs=0.004)


def test_the_bank_leaves_the_backbone_bit_identical(searched):
    bank = searched.answers.trials[0]
    assert bank.last_accuracy == searched.device("macs").backbone.cal.accuracy


def test_continuing_trains_nothing_anew_and_changes_nothing(searched, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(searched.directory.path, copy)
    seen = []
    search_study(searched.directory.study(), copy, watchers=Watchers(lambda phase, done, total: seen.append(phase)))
    assert not [phase for phase in seen if "train" in phase or "measure" in phase]
    assert (copy / "front.csv").read_bytes() == (searched.directory.path / "front.csv").read_bytes()


def test_joint_trials_is_the_plain_way(tiny, tmp_path):
    tiny |= {"mode": "joint-trials"}
    tiny["budget"]["trials"] = 6
    run = search_study(Study.model_validate(tiny), tmp_path / "run")
    trials = run.answers.trials
    assert [t.origin for t in trials] == ["sampler"] * 6
    assert {t.strategy for t in trials} <= {"mixed", ""}, "no bank"
    assert not run.device().seeds
    assert all(len(t.exits) <= tiny["space"]["max_exits"] for t in trials)
    designs = {t.design for t in trials}
    assert all(p.cal.design in designs for p in run.device().points)
    assert all(0.0 <= t < 1.0 for p in run.device().points for t in p.cal.policy.thresholds[:-1]), "sampled, not solved"


def test_the_notebook_s_one_call(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from eesearch.nets.zoo import residual_cnn

    model = residual_cnn(channels=[4, 8], blocks=1, classes=10, in_channels=1)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    study = {"name": "notebook", "space": tiny["space"], "training": tiny["training"], "budget": {"trials": 2}}
    study["objectives"] = {"constraints": {"max_params": 1e6}}
    run = search(model, digits(), device="macs", max_drop="2%", study=study)
    objectives = run.directory.study().objectives
    assert objectives.max_drop == 0.02
    assert objectives.constraints.limits, "the other objectives are kept"
    frame = run.front().to_pandas()
    assert list(frame["point"]) == list(range(len(frame)))
    assert {"accuracy", "macs", "exits"} <= set(frame.columns)
    assert all((before[k] == v).all() for k, v in model.state_dict().items())
    _, point = run.pick("point=0")
    assert len(run.predict(point, digits()["x_test"][:5]).answer) == 5
    assert run.answers.data["sizes"] == {"train": 1257, "cal": 270, "test": 270}, "test calibrates: train was learnt"
    assert Run.load(tmp_path / "runs" / "notebook").answers == run.answers


def test_live_data_may_be_data_sets_of_rows(tmp_path, monkeypatch):
    import torch
    from torch.utils.data import TensorDataset

    from eesearch.nets.zoo import mlp

    monkeypatch.chdir(tmp_path)
    made = torch.Generator().manual_seed(0)
    splits = {}
    for name, count in (("train", 120), ("test", 80)):
        y = torch.arange(count) % 2
        splits[name] = TensorDataset(torch.randn(count, 4, generator=made) + 2.0 * y[:, None], y)
    brief = {"epochs": 1, "batch_size": 32}
    study = {"name": "rows", "budget": {"trials": 1}, "training": {"heads": brief}}
    study |= {"space": {"heads": [{"kind": "linear"}], "strategies": ["separate"], "levels": 6}}
    run = search(mlp(features=4, hidden=(6, 6), classes=2), splits, device="macs", study=study)
    assert run.answers.data["sizes"] == {"train": 120, "cal": 40, "test": 40}


def test_front_json_reads_back(searched):
    text = (searched.directory.path / "front.json").read_text()
    assert json.loads(text)["version"] == 1
    assert searched.directory.answers() == searched.answers
    plain = [device.model_copy(update={"verified": ()}) for device in searched.answers.devices]  # it has its own file
    assert list(type(searched.answers).model_validate_json(text).devices) == plain


def test_every_split_has_a_table_and_it_is_made_once(searched, tmp_path, monkeypatch):
    import shutil

    from eesearch.study import workshop
    from eesearch.study.rundir import RunDir

    shutil.copytree(searched.directory.path, tmp_path / "copy")
    run = RunDir(tmp_path / "copy")
    materials = prepare(run.study(), run)
    made = workshop.Workshop(materials)
    tables = {split: made.table(made.bank_design, split) for split in ("train", "cal", "test")}
    assert {split: len(table.labels) for split, table in tables.items()} == {"train": 754, "cal": 503, "test": 540}
    assert {table.samples for table in tables.values()} == set(searched.answers.data["hashes"].values())
    monkeypatch.setattr(workshop, "collect", None)  # calling it would fail: everything comes from the store
    again = workshop.Workshop(materials)
    for split, table in tables.items():
        assert np.array_equal(again.table(again.bank_design, split).logits, table.logits)


def test_oracle_static_networks_and_overthinking_are_told(searched):
    for device in searched.answers.devices:
        assert len(device.overthinking) == len(searched.answers.trials[0].exits)
        ideal = min(point.cost for point in device.oracle if point.error <= device.backbone.test.error)
        assert ideal < device.backbone.test.costs[device.axis].mean
        assert all(len(point.cal.policy.exits) == 1 for point in device.static)
