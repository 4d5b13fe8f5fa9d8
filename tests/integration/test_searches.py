"""Searches of other kinds than the tiny study's: continued, damaged, over bytes, over vectors, with every decision."""

import shutil

import numpy as np
import pytest

from eesearch.api import Watchers, search_study
from eesearch.core.constraints import Constraints, Limit
from eesearch.core.design import ABSTAINED
from eesearch.reporting.markdown import markdown_report
from eesearch.study.bank_problem import BankProblem
from eesearch.study.materials import prepare
from eesearch.study.points import Point
from eesearch.study.question import Objectives, Study
from eesearch.study.rundir import RunDir
from tests.integration.deployed import check_deployed


def test_devices_may_change_on_continuing(begun, tiny, tmp_path):
    shutil.copytree(begun.directory.path, tmp_path / "run")
    tiny["budget"]["trials"] = 3
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


def test_a_damaged_store_is_made_again(begun, tmp_path):
    run = RunDir(shutil.copytree(begun.directory.path, tmp_path / "run"))
    before = (run.path / "front.csv").read_bytes()
    for file in [*run.store.root.rglob("*.safetensors"), *run.store.root.rglob("*.json"), *run.path.glob("profiles/*")]:
        file.write_bytes(file.read_bytes()[:-40])
    search_study(run.study(), run.path)
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


def test_a_draft_has_a_front_before_the_bank_is_trained_and_changes_nothing_of_the_bank(begun, tiny, tmp_path):
    tiny["budget"]["trials"], tiny["training"]["draft"] = 4, 0.2
    told = []

    def early(answers):
        made = {file.stem for file in (tmp_path / "run" / "store" / "weights").glob("*.safetensors")}
        told.append(([t.origin for t in answers.trials], len(answers.devices[0].points), made))

    run = search_study(Study.model_validate(tiny), tmp_path / "run", watchers=Watchers(answers=early))
    origins, points, trained = told[0]
    draft, *others = run.answers.trials
    assert origins == ["draft"]
    assert points > 1
    assert draft.design in trained
    assert others[0].design not in trained
    assert [t.origin for t in others] == [t.origin for t in begun.answers.trials]
    assert others[0].model_copy(update={"elapsed": 0.0, "seconds": 0.0, "number": 0, "hypervolumes": ()}) == (
        begun.answers.trials[0].model_copy(update={"elapsed": 0.0, "seconds": 0.0, "hypervolumes": ()})
    )
    assert draft.samples == pytest.approx(0.2 * others[0].samples, rel=0.01)
    assert "draft" in markdown_report(run.answers)
    again = search_study(Study.model_validate(tiny), tmp_path / "run")
    assert again.answers.trials == run.answers.trials
