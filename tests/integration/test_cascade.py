"""A search over several networks: from the study file to what is deployed."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from eesearch.api import plan, profile, search_study
from eesearch.cli import app
from eesearch.core.cascades import CascadeProfile, member_of
from eesearch.core.design import Cascade
from eesearch.core.errors import CostError, ModelError
from eesearch.core.store import Store
from eesearch.costs.profile import load_any_profile, load_profile
from eesearch.drivers.storage import open_database
from eesearch.drivers.studies import finished
from eesearch.exporters.formats import export
from eesearch.reporting.markdown import markdown_report
from eesearch.study.answers import Answers
from eesearch.study.cascade_problem import MIXED, ONE, WHOLE, made_of
from eesearch.study.compose import Composer
from eesearch.study.materials import load_study_data
from eesearch.study.members import load_member, tell_dominated, tell_doubtful
from eesearch.study.modes import build_problem
from eesearch.study.picks import Picked
from eesearch.study.question import Objectives, Study
from eesearch.study.run import Run
from eesearch.study.verify import Effort, verify

CNN = "eesearch.nets.zoo:residual_cnn"
CPU = "cpu:eager:t1:b1"


def several(fields):
    """Three networks of rising cost; the middle one is used as a whole."""
    own = {key: value for key, value in fields.items() if key != "backbone"}
    networks = [
        {"name": "small", "model": CNN, "args": {"channels": [2, 4], "in_channels": 1}, "cuts": {"max_cuts": 1}},
        {"name": "middle", "model": CNN, "args": {"channels": [4, 8], "in_channels": 1}, "exits": False},
        {"name": "large", "model": CNN, "args": {"channels": [8, 16], "in_channels": 1}, "cuts": {"max_cuts": 2}},
    ]
    space = own["space"] | {"strategies": ["separate"], "max_exits": 2, "criteria": ["max_prob", "patience"]}
    return own | {"name": "several", "backbones": networks, "reference": "large", "space": space}


@pytest.fixture(scope="module")
def found(tiny_fields, tmp_path_factory):
    fields = several(tiny_fields) | {"devices": ["macs", CPU]}
    return search_study(Study.model_validate(fields), tmp_path_factory.mktemp("runs") / "several")


def test_one_front_over_all_networks(found):
    (macs, _) = found.answers.devices
    (design,) = found.answers.designs.values()
    assert isinstance(design, Cascade)
    assert set(design.members) == {"small", "large"}
    assert set(design.whole) == {"middle"}
    assert member_of(macs.backbone.cal.policy.exits[0]) == design.reference == "large"
    assert {made_of(point.cal.policy) for point in macs.points} >= {MIXED}
    assert {layer.name for layer in macs.layers} == {ONE, WHOLE, "IDK cascade of whole networks"}
    assert macs.is_backbone(macs.backbone)
    alone = [p for layer in macs.layers for p in layer.points if [e.is_output for e in p.cal.policy.exits] == [True]]
    others = [point for point in alone if member_of(point.cal.policy.exits[0]) != "large"]
    assert others
    assert not any(macs.is_backbone(point) for point in others), "a smaller network is something to choose"
    for layer in macs.layers:
        kinds = {made_of(point.cal.policy) for point in layer.points}
        assert kinds <= ({ONE} if layer.name == ONE else {ONE, WHOLE})
        for point in layer.points:  # the front of all kinds is nowhere worse
            cheaper = [p.cal for p in macs.points if p.cal.error <= point.cal.error + 1e-12]
            assert min(e.costs["macs"].mean for e in cheaper) <= point.cal.costs["macs"].mean + 1e-9
    assert all(each.exact for each in macs.certificates.values())
    again = Answers.model_validate_json(found.answers.model_dump_json())
    assert again == found.answers


def test_an_interrupted_continuation_tells_the_layers_that_were_found(found):
    run, study = found.directory, found.directory.study()
    problem = build_problem(study, run)
    done = finished(problem, open_database(run))
    known = [device.layers for device in found.answers.devices]
    interrupted = Composer(problem).answers(done, final=False)
    assert [device.layers for device in interrupted.devices] == known
    limited = study.model_copy(update={"objectives": Objectives(constraints={"max_drop": 0.5})})
    changed = Composer(build_problem(limited, run)).answers(done, final=False)
    assert [device.layers for device in changed.devices] == [(), ()], "they were found under other constraints"


def test_the_table_is_the_network_after_the_run_was_read_again(found):
    run = Run.load(found.directory.path, trust=True)
    x = load_study_data(run.question()).test.x
    for device in run.answers.devices:
        for point in (*device.points[:: max(1, len(device.points) // 6)], device.backbone):
            told = run.predict(point, x)
            assert np.bincount(told.exit, minlength=len(point.stops)) / len(x) == pytest.approx(
                [stop.share for stop in point.stops]
            )
            labels = load_study_data(run.question()).test.y
            assert float((told.answer == labels).mean()) == pytest.approx(point.test.accuracy)


def test_points_run_end_to_end(found):
    device = found.device(CPU)
    assert device.verified, "the search verified some by itself"
    mixed = [point for point in device.points if made_of(point.cal.policy) != ONE]
    picked = Picked(device, mixed[len(mixed) // 2])
    (entry,) = verify(Run.load(found.directory.path, trust=True), [picked], CPU, effort=Effort(0.3, 1))
    assert entry.differing == 0
    assert entry.accuracy == pytest.approx(picked.point.test.accuracy)


@pytest.mark.parametrize("form", ["config", "torch", "onnx"])
def test_it_is_exported_as_one_network_is(found, tmp_path, form):
    """Whatever reads stages reads these; what was written is read again, and compared sample by sample."""
    run = Run.load(found.directory.path, trust=True)
    number = next(n for n, p in enumerate(run.answers.devices[0].points) if made_of(p.cal.policy) == MIXED)
    told = export(run, f"point={number}@macs", form, tmp_path / form, check=64)
    if form != "config":
        assert (told.checked, told.differing) == (64, 0)


def test_the_report_tells_the_networks(found):
    text = markdown_report(found.answers)
    assert "small/" in text
    assert WHOLE in text
    assert "large/output" in (found.directory.path / "report.html").read_text()


def test_continuing_trains_nothing_anew(found):
    trained = sorted(Store(found.directory.path / "store").root.rglob("*.safetensors"))
    before = [file.stat().st_mtime_ns for file in trained if "weights" in str(file)]
    again = search_study(found.directory.study(), found.directory.path)
    assert [file.stat().st_mtime_ns for file in trained if "weights" in str(file)] == before
    assert again.answers.devices[0].points == found.answers.devices[0].points


def test_profiles_are_kept_by_network(found):
    kept = {file.name for file in (found.directory.path / "profiles").glob("*.json")}
    assert {"macs@small.json", "macs@middle.json", "macs@large.json"} <= kept


def wrong(fields, **changes):
    study = several(fields)
    for name, change in changes.items():
        study[name] = change(study[name]) if callable(change) else change
    return study


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": "huge"}, "there is no network 'huge'; expected one of small, middle, large"),
        ({"backbones": lambda b: [b[0], b[1] | {"name": "small"}], "reference": "small"}, "got 'small' twice"),
        (
            {"backbones": lambda b: [b[0] | {"name": f"n{i}"} for i in range(9)], "reference": ""},
            "from 1 to 8 networks",
        ),
        (
            {"space": lambda s: s | {"strategies": ["separate", "combined"]}},
            "what 'combined' learns is about the exits of",
        ),
        ({"training": {"start": "scratch"}}, "from trained ones; got training.start scratch"),
        ({"mode": "joint-trials", "space": lambda s: s | {"strategies": ["mixed"]}}, "got mode joint-trials"),
        ({"backbones": lambda b: [b[0] | {"vary": {"classes": [10]}}, b[2]]}, "vary.classes"),
        ({"backbones": lambda b: [b[0] | {"vary": {"blocks": [1, 1]}}, b[2]]}, "options of 'blocks' must be distinct"),
        ({"backbones": lambda b: [b[0] | {"vary": {"blocks": [1, 2]}, "weights": "w.pt"}, b[2]]}, "leave out vary"),
        ({"backbones": lambda b: [b[0], b[2] | {"vary": {"blocks": [1, 2]}}]}, "a network whose args do not vary"),
        ({"backbones": lambda b: [b[0] | {"vary": {"blocks": list(range(1, 65))}}, b[2]]}, "65 variants are too many"),
        ({"backbones": lambda b: [b[0] | {"vary": {"in_channels": [1, 3]}}, b[2]]}, "stands in args and in vary"),
        ({"backbones": lambda b: [b[0] | {"vary": {"blocks": 4}}, b[2]]}, "a list of numbers or words"),
        ({"backbones": lambda b: [b[0] | {"vary": {"channels": [[2, 4], [4]]}}, b[2]]}, "a list of numbers or words"),
        ({"backbones": lambda b: [b[0] | {"name": "none"}, b[2]]}, "'none' means no network"),
        (
            {"backbones": lambda b: [b[0] | {"vary": {"blocks": [1, 2]}}, b[1] | {"name": "small.blocks-2"}, b[2]]},
            "got 'small.blocks-2' twice",
        ),
        (
            {"backbones": lambda b: [b[0] | {"classes": [0, 0, 1]}, b[2]]},
            "each number from 0 to 2 must stand there once",
        ),
        ({"driver": "ray"}, "driver ray trains one network so far"),
    ],
)
def test_what_several_networks_cannot_be_is_refused(tiny_fields, changes, message):
    with pytest.raises(ValueError, match=message):
        Study.model_validate(wrong(tiny_fields, **changes))


def test_networks_that_do_not_go_together_are_refused(tiny_fields, tmp_path):
    def classes(networks):
        return [networks[0] | {"args": networks[0]["args"] | {"classes": 7}}, *networks[1:]]

    with pytest.raises(ModelError, match="network small does not fit the data; got 7 outputs"):
        search_study(Study.model_validate(wrong(tiny_fields, backbones=classes)), tmp_path / "classes")
    twins = wrong(tiny_fields, backbones=lambda b: [b[2] | {"name": "twin"}, b[2]])
    with pytest.raises(ModelError, match="'twin' and 'large' are the same network"):
        search_study(Study.model_validate(twins), tmp_path / "twins")

    def channels(networks):
        return [networks[0] | {"args": networks[0]["args"] | {"in_channels": 3}}, *networks[1:]]

    with pytest.raises(ModelError, match="network small: "):
        search_study(Study.model_validate(wrong(tiny_fields, backbones=channels)), tmp_path / "channels")


def test_classes_that_do_not_fit_the_outputs_are_refused(tiny_fields, tmp_path):
    def order(networks):
        return [networks[0] | {"classes": [1, 0, 2]}, *networks[1:]]

    with pytest.raises(ModelError, match=r"network small: its `classes` do not fit the model; got 3 numbers, 10"):
        search_study(Study.model_validate(wrong(tiny_fields, backbones=order)), tmp_path / "order")


def test_images_of_another_size_are_refused_or_resized(tiny_fields, tmp_path):
    """A linear network is made for one size."""

    def linear(networks, **more):
        small = {"name": "small", "model": "eesearch.nets.zoo:mlp", "args": {"features": 36, "hidden": [8, 8]}}
        return [small | more, networks[2]]

    refused = wrong(tiny_fields, backbones=linear)
    with pytest.raises(ModelError, match=r"network small: .*2x64 and 36x8.*input.resize"):
        search_study(Study.model_validate(refused), tmp_path / "size")
    spec = Study.model_validate(wrong(tiny_fields, backbones=lambda b: linear(b, input={"resize": [6, 6]})))
    example = load_study_data(spec).train.x[:4]
    assert load_member(spec, spec.backbones[0], example).classes == 10


def test_networks_that_seem_to_guess_are_told(caplog):
    caplog.set_level("WARNING", logger="eesearch")
    tell_doubtful({"a": 0.9, "b": 0.12}, 10)
    (record,) = caplog.records
    assert "network b is right about 12.0 % of calibration" in record.getMessage()


def test_a_costlier_worse_network_is_told(caplog):
    caplog.set_level("WARNING", logger="eesearch")
    tell_dominated({"a": 0.9, "b": 0.8, "c": 0.95}, {"a": 1.0, "b": 2.0, "c": 3.0})
    assert [record.getMessage() for record in caplog.records] == [
        "network b costs more than a and is right less often (80.00 % and 90.00 % on calibration)"
    ]


def test_a_plan_tells_every_network(tiny_fields):
    told = plan(Study.model_validate(several(tiny_fields) | {"devices": ["macs", CPU]}))
    assert [(each.name, len(each.cuts)) for each in told.networks] == [("small", 1), ("middle", 0), ("large", 2)]
    assert [cut.name.partition("/")[0] for cut in told.cuts] == ["small", "large", "large"]
    small, middle, large = told.networks
    assert small.macs < middle.macs < large.macs
    assert (middle.samples, middle.cache_bytes) == ((0, 0), 0)
    assert told.samples == (small.samples[0] + large.samples[0], 0)
    assert told.trials == 1
    assert told.seconds["trained designs"] == 0.0
    assert told.seconds["profile"] > max(each.seconds["profile"] for each in told.networks)
    twins = wrong(tiny_fields, backbones=lambda b: [b[2] | {"name": "twin"}, b[2]])
    with pytest.raises(ModelError, match="'twin' and 'large' are the same network"):
        plan(Study.model_validate(twins))


@pytest.fixture(scope="module")
def measured(found, tmp_path_factory):
    """The profile that the study's networks have on a device, as another machine would send it."""
    file = tmp_path_factory.mktemp("elsewhere") / "pi4.json"
    profile(found.directory.study(), found.directory.path, CPU, out=file)
    return file


def test_a_profile_of_several_networks_is_one_file(found, measured):
    kept = load_any_profile(measured)
    assert isinstance(kept, CascadeProfile)
    assert (kept.device, list(kept.members), kept.reference) == (CPU, ["small", "middle", "large"], "large")
    for name, member in kept.members.items():  # what the search has measured is not measured again
        assert member == load_profile(found.directory.profile_file(f"{CPU}@{name}"))


def test_a_profile_from_elsewhere_is_a_device(found, measured, tiny_fields, tmp_path):
    run = search_study(
        Study.model_validate(several(tiny_fields) | {"devices": [str(measured), "macs"]}), tmp_path / "run"
    )
    here, there = found.device(CPU), run.device(str(measured))
    assert there.points, "a search on another machine's figures"
    assert {layer.name for layer in there.layers} == {layer.name for layer in here.layers}
    assert not there.verified, "it does not run here"
    told = CliRunner().invoke(app, ["profile-diff", str(measured), f"{run.directory.path}@macs"])
    assert told.exit_code == 0, told.output
    for name in ("small", "middle", "large"):
        assert f"Network {name}:" in told.output
    refused = CliRunner().invoke(app, ["policies", str(run.directory.path)])
    assert refused.exit_code == 2
    assert "is of several networks" in refused.output


def test_a_profile_of_other_networks_is_refused(measured, tiny_fields, tmp_path):
    def refused(words, fields):
        with pytest.raises(CostError, match=words):
            profile(Study.model_validate(fields), tmp_path / "run", str(measured))

    def renamed(networks):
        return [networks[0] | {"name": "tiny"}, *networks[1:]]

    def wider(networks):
        return [networks[0] | {"args": {"channels": [3, 4], "in_channels": 1}}, *networks[1:]]

    refused("is of several networks; got small, middle, large; expected that of one network", tiny_fields)
    refused("lacks network 'tiny'; got small, middle, large", wrong(tiny_fields, backbones=renamed))
    refused("is of another network: the multiply-adds up to 'small/", wrong(tiny_fields, backbones=wider))
    alone = tmp_path / "alone.json"
    profile(Study.model_validate(tiny_fields), tmp_path / "one", "macs", out=alone)
    with pytest.raises(CostError, match="is of one network; expected that of several, with 'small' among them"):
        profile(Study.model_validate(several(tiny_fields)), tmp_path / "run", str(alone))
