import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from eesearch.api import Watchers, search, search_study
from eesearch.core.constraints import Constraints, Limit
from eesearch.core.design import ABSTAINED
from eesearch.core.policy import Scoring
from eesearch.core.tables import ExitTable
from eesearch.exits.last_resort import with_last_resort
from eesearch.exits.routing import path_outputs, route
from eesearch.reporting.markdown import markdown_report
from eesearch.study.bank_problem import BankProblem
from eesearch.study.front_table import COLUMNS
from eesearch.study.materials import load_study_data, prepare
from eesearch.study.points import Point
from eesearch.study.question import Objectives, Study
from eesearch.study.run import Run
from eesearch.training.data import digits


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


def check_deployed(run, point):
    x = load_study_data(run.directory.study()).test.x
    policy = point.cal.policy
    net, fits = run.network(point, x)
    table = ExitTable.from_arrays(*run.directory.store.get("table", f"{point.cal.design}-test"))
    if policy.exits[-1].is_last_resort:
        table, _ = with_last_resort(table, [], {})
    scoring, rows = Scoring.of(policy, fits), [table.row(e) for e in policy.exits]
    scores, correct = path_outputs(table, rows, scoring)
    stops, each = route(scores, policy.thresholds), np.arange(len(x))
    asked = np.array([e.is_last_resort for e in policy.exits])[stops]
    safe = (np.abs(scores.astype(float) - np.array(policy.thresholds)[:, None]) > 1e-5).all(0)
    assert safe.mean() >= 0.995
    batch = net.predict(x, policy, fits)
    np.testing.assert_array_equal(batch.exit[safe], stops[safe])
    right = np.where(batch.answer == ABSTAINED, True, batch.answer == table.labels)
    np.testing.assert_array_equal(right[safe], correct[stops, each][safe])
    np.testing.assert_array_equal(batch.answer[safe] == ABSTAINED, asked[safe])
    np.testing.assert_allclose(batch.score[safe & ~asked], scores[stops, each][safe & ~asked], rtol=1e-5, atol=1e-5)
    for n in np.flatnonzero(safe)[:25]:
        alone = net.predict(x[n : n + 1], policy, fits)
        assert (alone.exit[0], alone.answer[0]) == (stops[n], batch.answer[n])
    return batch


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


def test_devices_may_change_on_continuing(tiny, tmp_path):
    tiny["budget"]["trials"] = 3
    search_study(Study.model_validate(tiny), tmp_path / "run")
    tiny["devices"] = ["cpu:eager:t1:b1"]
    seen = []
    watchers = Watchers(lambda phase, done, total: seen.append(phase))
    again = search_study(Study.model_validate(tiny), tmp_path / "run", watchers=watchers)
    assert [d.device for d in again.answers.devices] == ["cpu:eager:t1:b1"]
    assert again.answers.phases["train bank"] > 0.0, "phases of earlier continuations are kept"
    assert [t.state for t in again.answers.trials] == ["complete"] * 3
    assert not [phase for phase in seen if "train" in phase]


def test_a_front_of_bytes_has_points_that_send_none(tiny, tmp_path):
    tiny["devices"] = ["pair"]
    tiers = [{"name": name, "device": "macs"} for name in ("phone", "cloud")]
    tiny["systems"] = {"pair": {"tiers": tiers, "links": [{"bandwidth": 1, "round_trip": 1}], "axis": "bytes"}}
    run = search_study(Study.model_validate(tiny), tmp_path / "run")
    assert [t.state for t in run.answers.trials] == ["complete"] * 6
    (device,) = run.answers.devices
    sent = [point.test.costs["bytes"].mean for point in device.points]
    assert sent[0] == 0.0, "an exit on the phone sends nothing"
    assert run.pick("knee").point in device.points
    assert np.isfinite([trial.value for trial in run.answers.trials]).all()
    assert "nan" not in (run.directory.path / "front.csv").read_text() + markdown_report(run.answers)


def test_a_damaged_store_is_made_again(tiny, tmp_path):
    tiny["budget"]["trials"] = 2
    run = search_study(Study.model_validate(tiny), tmp_path / "run").directory
    before = (run.path / "front.csv").read_bytes()
    for file in [*run.store.root.rglob("*.safetensors"), *run.store.root.rglob("*.json"), *run.path.glob("profiles/*")]:
        file.write_bytes(file.read_bytes()[:-40])
    search_study(Study.model_validate(tiny), run.path)
    assert (run.path / "front.csv").read_bytes() == before
    assert list(run.store.root.rglob("*.damaged"))


def test_a_vector_has_no_use_for_pooling(tiny, tmp_path):
    tiny["backbone"] = {
        "model": "eesearch.nets.zoo:mlp",
        "args": {"features": 64, "hidden": [32, 32, 32], "classes": 10},
    }
    tiny["space"]["heads"] = [{"kind": "linear"}, {"kind": "linear", "pool": "mixed", "size": 2}]
    run = search_study(Study.model_validate(tiny), tmp_path / "run")
    assert [t.state for t in run.answers.trials] == ["complete"] * 6, "the sampler proposes what fits"
    assert {e.split(":")[1] for t in run.answers.trials for e in t.exits} == {"linear-avg1"}


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
    run = search(model, digits(), device="macs", max_drop="2%", study=study)
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
    from eesearch.study.materials import prepare
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


@pytest.fixture(scope="module")
def of_all_kinds(tiny_fields, tmp_path_factory):
    space = tiny_fields["space"] | {
        "criteria": ["margin", "patience"],
        "answers": ["own", "mean", "most_confident"],
        "strategies": ["separate"],
        "last_resort": {"macs": 40_000.0},
        "levels": 5,
    }
    fields = tiny_fields | {"space": space, "budget": {"trials": 1}, "objectives": {"max_drop": 0.2}}
    return search_study(Study.model_validate(fields), tmp_path_factory.mktemp("runs") / "all")


class TestPoliciesOfAllKinds:
    """Ensembles, gates, patience, a last resort, constraints: from the study file to the deployed network."""

    def test_every_decision_is_solved_with_a_certificate(self, of_all_kinds):
        (device,) = of_all_kinds.answers.devices
        assert set(device.certificates) == {"margin", "margin/mean", "margin/most_confident", "patience"}
        assert all(certificate.exact for certificate in device.certificates.values())

    def test_each_kind_that_is_on_the_front_is_deployed_as_the_table_says(self, of_all_kinds):
        kinds = {}
        for point in of_all_kinds.answers.devices[0].points:
            asks = point.cal.policy.exits[-1].is_last_resort
            kinds.setdefault((point.cal.policy.decision, asks), point)
        assert len({decision for decision, _ in kinds}) > 1
        assert any(asks for _, asks in kinds)
        for (_, asks), point in kinds.items():
            batch = check_deployed(of_all_kinds, point)
            assert (batch.answer == ABSTAINED).any() or not asks

    def test_gates_are_deployed_as_the_table_says(self, of_all_kinds):
        """Whether or not they reached the front."""
        problem = BankProblem(prepare(of_all_kinds.directory.study(), of_all_kinds.directory))
        (profile,), bank = problem.materials.profiles, problem.workshop.bank_design
        gated = [problem.gated(learned, bank, profile) for learned in problem.learned(bank, profile)[1]]
        assert any(len(point.policy.exits) > 1 for point in gated)
        assert max(len(point.policy.exits) for point in gated) <= problem.space.max_exits + 1
        assert all(rule.startswith("bolukbasi") for rule in problem.solved(bank, profile).gates)
        assert problem.solved(bank, profile).gates
        for evaluation in gated[::3]:
            check_deployed(of_all_kinds, Point(cal=evaluation, test=problem.reported(evaluation, bank, profile)))

    def test_constraints_may_be_added_on_continuing_and_are_kept(self, of_all_kinds):
        study = of_all_kinds.directory.study()
        free = of_all_kinds.answers.devices[0]
        deepest = max(point.cal.costs["params"].worst for point in free.points)
        limits = (
            Limit(axis="params", at="worst", at_most=0.5 * deepest),
            Limit(axis="macs", at="p95", at_most=45_000.0),
        )
        objectives = Objectives(max_drop=0.2, constraints=Constraints(limits=limits, min_recall=0.6))
        found = search_study(study.model_copy(update={"objectives": objectives}), of_all_kinds.directory.path)
        (device,) = found.answers.devices
        assert not device.broken
        for point in device.points:
            assert not objectives.constraints.broken(point.cal, device.backbone.cal)
        assert max(point.cal.costs["params"].worst for point in device.points) <= 0.5 * deepest

    def test_constraints_that_nothing_keeps_are_said_so(self, of_all_kinds):
        limits = (Limit(axis="macs", at="worst", at_most=1.0),)
        objectives = Objectives(max_drop=0.2, constraints=Constraints(limits=limits))
        study = of_all_kinds.directory.study().model_copy(update={"objectives": objectives})
        (device,) = search_study(study, of_all_kinds.directory.path).answers.devices
        assert device.broken == ("worst macs at most 1",)
        assert len(device.points) == 1
        assert "no policy was found that keeps worst macs at most 1" in device.verdict()


def test_oracle_static_networks_and_overthinking_are_told(searched):
    for device in searched.answers.devices:
        assert len(device.overthinking) == len(searched.answers.trials[0].exits)
        ideal = min(point.cost for point in device.oracle if point.error <= device.backbone.test.error)
        assert ideal < device.backbone.test.costs[device.axis].mean
        assert all(len(point.cal.policy.exits) == 1 for point in device.static)


@pytest.fixture(scope="module")
def of_learned_kinds(tiny_fields, tmp_path_factory):
    space = tiny_fields["space"] | {
        "heads": [{"pool": "mixed", "size": 2, "gate": "linear"}],
        "criteria": ["own_gate", "learned", "learned_path", "margin"],
        "answers": ["own", "most_confident", "average", "max"],
        "strategies": ["separate", "combined"],
        "gates": False,
        "levels": 4,
    }
    fields = tiny_fields | {"space": space, "budget": {"trials": 2}, "objectives": {"max_drop": 0.2}}
    return search_study(Study.model_validate(fields), tmp_path_factory.mktemp("runs") / "learned")


def test_learned_criteria_and_pooled_answers_are_deployed_as_the_table_says(of_learned_kinds):
    """Whether or not they reached the front: own gates, learned criteria, pooled and combined answers."""
    run = of_learned_kinds
    problem = BankProblem(prepare(run.directory.study(), run.directory))
    (profile,), kinds = problem.materials.profiles, set()
    trained = problem.proposed(problem.seeds()[0][1])
    assert trained.key == run.answers.trials[1].design
    for design in (problem.workshop.bank_design, trained):
        for criterion, answer in problem.space.scorings_of(design.strategy, design.loss):
            front = problem.solve(design, profile, problem.workshop.scoring(design, criterion, answer))
            cal = max(front.points, key=lambda point: len(point.policy.exits))
            assert len(cal.policy.exits) > 1
            check_deployed(run, Point(cal=cal, test=problem.reported(cal, design, profile)))
            kinds.add(cal.policy.decision)
    pooled = {f"margin/{answer}" for answer in ("most_confident", "average", "max")}
    assert {"own_gate", "learned", "learned/most_confident", "learned_path", "margin", *pooled} < kinds
    assert any(kind.endswith("/combined") for kind in kinds)
