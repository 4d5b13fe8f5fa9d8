"""What every export format must satisfy: on three networks it says, sample by sample, what the table says."""

from __future__ import annotations

import dataclasses
import tomllib
from math import inf
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from eesearch.api import search_study
from eesearch.core.costs import stage_costs
from eesearch.core.design import ABSTAINED, ASK
from eesearch.core.policy import Policy, Scoring, Stop
from eesearch.core.registry import EXPORTERS
from eesearch.core.tables import ExitTable
from eesearch.costs.macs import count_macs
from eesearch.exits.evaluate import evaluate
from eesearch.exits.last_resort import with_last_resort
from eesearch.exits.routing import path_outputs, route
from eesearch.exporters.chosen import choose
from eesearch.exporters.formats import export, near_threshold
from eesearch.exporters.torch_folder import MODEL, load_module
from eesearch.study.bank_problem import BankProblem
from eesearch.study.materials import load_study_data, prepare
from eesearch.study.points import Point
from eesearch.study.question import Study

DECISIONS = [("max_prob", "own"), ("margin", "mean"), ("patience", "own"), ("entropy", "most_confident")]
DECISIONS += [("own_gate", "own"), ("learned_path", "own"), ("margin", "average")]
OWN_GATE, PATH = 4, 5
GATE, ASKING, BACKBONE, JOINT = range(len(DECISIONS), len(DECISIONS) + 4)
NETWORKS = {
    "cnn": ("residual_cnn", {"channels": [4, 8], "blocks": 2, "classes": 10, "in_channels": 1}),
    "mlp": ("mlp", {"features": 64, "hidden": [32, 24, 16, 16], "classes": 10}),
    "transformer": ("transformer", {"width": 16, "depth": 3, "heads": 2}),
}
FEW = {"cnn": (1, OWN_GATE, GATE), "mlp": (ASKING, PATH, BACKBONE), "transformer": (3, JOINT, 2)}
"""The points that formats which take seconds per export are tried on: each kind once."""

COMPILED = {"onnx": 2, "openvino": 1, "executorch": 1}
"""Of these, how many are tried on formats that compile for seconds."""

PRICE = 90_000.0
FIELDS = {
    "data": {"source": "eesearch.training.data:digits", "calibration": {"from": "train", "share": 0.4}},
    "input": {"scale": 0.0625, "mean": [0.3], "std": [0.37]},
    "training": {
        "epochs": 4,
        "batch_size": 32,
        "lr": 0.01,
        "heads": {"epochs": 5, "batch_size": 64, "lr": 0.02},
        "joint": {"epochs": 1, "batch_size": 64, "lr": 0.001},
    },
    "devices": ["macs"],
    "space": {
        "heads": [{"pool": "mixed", "size": 2}, {"pool": "mixed", "size": 2, "gate": "linear"}],
        "criteria": ["max_prob"],
        "gates": False,
        "levels": 5,
        "max_exits": 2,
        "last_resort": {"macs": PRICE},
    },
    "budget": {"trials": 2},
}
ANSWERING = [name for name in sorted(EXPORTERS) if EXPORTERS[name].reload is not None]


@pytest.fixture(scope="session", params=sorted(NETWORKS))
def found(request, tmp_path_factory):
    """A finished search, with a front of our making: a point per decision on three exits, and other kinds."""
    model, args = NETWORKS[request.param]
    fields = FIELDS | {"name": request.param, "backbone": {"model": f"eesearch.nets.zoo:{model}", "args": args}}
    run = search_study(Study.model_validate(fields), tmp_path_factory.mktemp("runs") / request.param)
    device, problem = run.device(), BankProblem(prepare(run.directory.study(), run.directory))
    points = [crafted(problem, *decision) for decision in DECISIONS]
    points += [gated(problem), crafted(problem, "max_prob", "own", asks=True), device.backbone]
    points += [next(p for p in device.points if p.cal.strategy not in ("separate", "backbone"))]
    answers = run.answers.model_copy(update={"devices": (device.model_copy(update={"points": tuple(points)}),)})
    return dataclasses.replace(run, answers=answers)


def crafted(problem, criterion, answer, *, asks=False):
    """A point on three exits of the bank, at each of which some leave."""
    bank, (profile,) = problem.workshop.bank_design, problem.materials.profiles
    scoring = problem.workshop.scoring(bank, criterion, answer)
    decision = Policy(stops=(Stop(exit=ASK, threshold=-inf),), criterion=criterion, answer=answer).decision
    table, costs = problem.replay(bank, profile, decision, "cal")
    *heads, own = (e for e in table.exits if not e.is_last_resort)
    heads = [e for e in heads if e.head.endswith("gate") == (criterion == "own_gate")]
    exits = [heads[0], heads[len(heads) // 2], own]
    scores, _ = path_outputs(table, [table.row(e) for e in exits], scoring)
    limits = [1.5 if criterion == "patience" else float(np.quantile(s, 0.6)) + 1e-6 for s in scores]
    stops = [Stop(exit=e, threshold=t) for e, t in zip(exits, limits, strict=True)]
    last = Stop(exit=ASK, threshold=-inf) if asks else stops.pop().model_copy(update={"threshold": -inf})
    policy = Policy(stops=(*stops, last), criterion=criterion, answer=answer, fits=scoring.keys)
    cal = evaluate(policy, table, costs, scoring.fits).made_by(bank)
    return Point(cal=cal, test=problem.reported(cal, bank, profile))


def gated(problem):
    """The policy with learnt gates that has the most exits."""
    bank, (profile,) = problem.workshop.bank_design, problem.materials.profiles
    learned = max(problem.learned(bank, profile)[0], key=lambda one: len(one.policy.exits))
    cal = problem.gated(learned, bank, profile)
    return Point(cal=cal, test=problem.reported(cal, bank, profile))


def said_by_table(run, point):
    """Answers, exits and scores [k, N] on test by arithmetic on stored logits; backbones stand in the bank's table."""
    policy = point.cal.policy
    design = point.cal.design or run.answers.trials[0].design
    table = ExitTable.from_arrays(*run.directory.store.get("table", f"{design}-test"))
    table, _ = with_last_resort(table, [], {})
    fits = run.network(point, load_study_data(run.directory.study()).test.x[:2])[1]
    scoring, rows = Scoring.of(policy, fits), [table.row(e) for e in policy.exits]
    scores, _ = path_outputs(table, rows, scoring)
    stops = route(scores, policy.thresholds)
    answers = np.full(len(stops), ABSTAINED)
    for k, row in enumerate(rows):
        if not table.exits[row].is_last_resort:
            seen = rows[: k + 1] if scoring.decision.memory == "all" else [row]
            said, _ = scoring.decision.function(table.logits[seen], scoring.parameters([table.exits[r] for r in seen]))
            classes = (table.logits[row] if scoring.decision.own_answer else said).argmax(-1)
            answers[stops == k] = classes[stops == k]
    return answers, stops, scores


def paid_by(run, point):
    """What leaving at each stop costs, from the profile in the run directory."""
    (profile,) = prepare(run.directory.study(), run.directory).profiles
    if not point.cal.design:  # alone, it has neither head nor decision
        return np.array([profile.macs_prefix[-1]])
    table = ExitTable.from_arrays(*run.directory.store.get("table", f"{point.cal.design}-test"))
    steps = stage_costs(profile, table.exits, point.cal.policy.decision, "macs")
    return with_last_resort(table, [steps], {"macs": PRICE})[1][0].cumulative(point.cal.policy.exits)


def needs(name):
    libraries = {
        "onnx": ("onnx", "onnxscript", "onnxruntime"),
        "openvino": ("openvino", "onnxscript"),
        "executorch": ("executorch.exir",),
        "hf": ("transformers",),
        "lightning": ("lightning",),
    }
    for library in libraries.get(name, ()):
        pytest.importorskip(library)


@pytest.mark.filterwarnings("ignore")  # of the libraries that read the files again
@pytest.mark.parametrize("name", ANSWERING)
def test_the_export_is_the_table(found, name, tmp_path):
    """Answers, exits and costs; the exporter's own comparison and ours, which knows nothing of it."""
    needs(name)
    data = load_study_data(found.directory.study()).test
    every, compiled = range(len(found.device().points)), COMPILED.get(name, 0)
    for number in every if name == "torch" else FEW[found.answers.study][: compiled or 3]:
        point = found.device().points[number]
        check = 0 if compiled else len(data)  # once is enough where compiling takes seconds: below
        exported = export(found, f"point={number}", name, tmp_path / str(number), check=check)
        assert (exported.checked, exported.differing) == (check, 0)
        answer, stop = EXPORTERS[name].reload(exported.path)(data.x)
        expected, stops, scores = said_by_table(found, point)
        chosen = choose(found, f"point={number}")
        safe = ~near_threshold(chosen, scores[: len(chosen.stages)])
        assert safe.mean() > 0.9
        np.testing.assert_array_equal(stop[safe], stops[safe])
        np.testing.assert_array_equal(answer[safe], expected[safe])
        paid = paid_by(found, point)
        assert paid[stops].mean() == pytest.approx(point.test.costs["macs"].mean, rel=1e-9)
        assert abs(paid[stop].mean() - paid[stops].mean()) <= paid[-1] * (~safe).mean()


class _Flat(nn.Module):
    def __init__(self, stage):
        super().__init__()
        self.stage = stage

    def forward(self, *carry):
        carry, logits = self.stage(*carry)
        return (*carry, logits)


def test_the_stages_of_the_torch_folder_cost_what_was_predicted(found, tmp_path):
    for number, point in enumerate(found.device().points):
        out = export(found, f"point={number}", "torch", tmp_path / str(number), check=0).path
        network = load_module(out / MODEL).load()
        carry, counted = (torch.from_numpy(load_study_data(found.directory.study()).test.x[:1]),), []
        for stage in network.stages:
            counted.append(count_macs(_Flat(stage), carry))
            carry = stage(*carry)[0]
        np.testing.assert_allclose(np.cumsum(counted), paid_by(found, point)[: len(counted)], rtol=1e-12)


def test_configs_are_read_by_what_trains_them(found, tmp_path):
    from eesearch.study.config import ExportedConfig

    for number, point in enumerate(found.device().points):
        out = export(found, f"point={number}", "config", tmp_path / str(number)).path
        config = ExportedConfig.load(out / "config.yaml")
        assert (config.expected.cal, config.expected.test) == (point.cal, point.test)
        assert config.question() == found.directory.study()
        assert (config.design.key if config.design else "") == point.cal.design


def test_formats_tell_what_they_need():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = {"", *project["optional-dependencies"]}
    for name in EXPORTERS:
        assert EXPORTERS[name].extra in extras, name
        assert EXPORTERS[name].about
