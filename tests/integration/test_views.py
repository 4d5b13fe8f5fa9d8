"""The shipped study of three cameras: what it sends, and what a missing view does to it."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest
import torch

from eesearch.api import search_study
from eesearch.core.errors import DataError, EesearchError
from eesearch.exporters.formats import export
from eesearch.nets import inputs, views, zoo
from eesearch.study.files import load_study
from eesearch.study.materials import load_study_data
from eesearch.study.question import Study

SCORES = 3 * 10 * 4
"""What three devices send for an exit of theirs."""


def fields():
    path = files("studies").joinpath("digits_views.yaml")
    study = load_study(path).model_dump(mode="json")
    study["space"] |= {"levels": 6, "heads": study["space"]["heads"][1:]}  # quicker
    return study


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return search_study(Study.model_validate(fields()), tmp_path_factory.mktemp("runs") / "views")


@pytest.fixture(scope="module")
def test(found):
    return load_study_data(found.directory.study()).test


def without(x, view):
    x = x.copy()
    x[:, view] = 0
    return x


def accuracy(answers, test):
    return float((np.asarray(answers) == test.y).mean())


def test_the_cameras_answer_most_and_send_little(found):
    device = found.device("cameras-cloud")
    exits = {e for point in device.points for e in point.cal.policy.exits}
    assert {e.tier for e in exits} == {"cameras", "cloud"}
    cheap = [p for p in device.points if p.test.accuracy >= device.backbone.test.accuracy - 0.02]
    costs = min(p.test.costs["bytes"].mean for p in cheap)
    raw = 3 * 24 * 24
    assert SCORES <= costs < 0.5 * raw
    firsts = [(point.cal.policy.exits[0], point.stops[0].costs["bytes"]) for point in device.points]
    scores = {paid for e, paid in firsts if e.tier == "cameras" and e.head.endswith("average")}
    assert scores == {SCORES}
    assert device.system["cameras"] == "3 devices with a view each: macs"


def test_a_missing_view_is_survived(found, test):
    device = found.device("cameras-cloud")
    point = max(device.points, key=lambda p: p.cal.accuracy)
    model = found.model(point)
    whole = accuracy(model.predict(test.x).answer, test)
    for view in range(3):
        left = accuracy(model.predict(without(test.x, view)).answer, test)
        assert left > whole - 0.2, (view, left, whole)


def test_ignoring_what_is_missing_is_what_helps(found, test, monkeypatch):
    net, _ = found.network(found.device("macs").backbone, test.x[:2])
    spec, state = found.directory.study(), net.backbone.original_state()

    def answers(x):
        model = zoo.views_cnn(**spec.backbone.args)
        own = inputs.NormalizeViews(spec.input.scale, spec.input.mean, spec.input.std)
        network = inputs.Preprocessed(own, model).eval()
        model.load_state_dict(state)
        with torch.no_grad():
            return network(torch.from_numpy(x)).argmax(1)

    cut = [without(test.x, view) for view in range(3)]
    ignoring = [accuracy(answers(x), test) for x in cut]
    for module in (views, zoo, inputs):
        monkeypatch.setattr(module, "is_present", lambda x: torch.ones(x.shape[:2], dtype=torch.bool))
    believing = [accuracy(answers(x), test) for x in cut]
    assert all(a > b for a, b in zip(ignoring, believing, strict=True)), (ignoring, believing)
    assert np.mean(ignoring) > np.mean(believing) + 0.05, (ignoring, believing)


def test_a_point_can_be_taken_along(found, test, tmp_path):
    device = found.device("cameras-cloud")
    number = max(range(len(device.points)), key=lambda n: len(device.points[n].cal.policy.exits))
    export(found, f"point={number}@cameras-cloud", "torch", tmp_path / "deployed")
    assert (tmp_path / "deployed" / "model.py").is_file()


def test_samples_with_other_views_are_refused(found, test):
    with pytest.raises(DataError, match=r"uint8 \[2, 1, 24, 24\]"):
        found.predict(found.device().points[0], test.x[:, :2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"devices": 2}, "got 2 devices; expected 3, one for each view of a sample"),
        ({"boundaries": ["devices.2"]}, "at 'devices.2' each device has one view, and codes are of a whole carry"),
        ({"views": False}, r"samples that are views \(`input: {views: true}`\)"),
    ],
)
def test_what_does_not_fit_is_told(change, message, tmp_path):
    wrong = fields()
    system = wrong["systems"]["cameras-cloud"]
    if "devices" in change:
        system["tiers"][0]["devices"] = change["devices"]
    if "boundaries" in change:
        system |= {"boundaries": change["boundaries"], "links": [{**system["links"][0], "bits": [32, 8]}]}
    wrong["input"]["views"] = change.get("views", True)
    with pytest.raises(EesearchError, match=message):
        search_study(Study.model_validate(wrong), tmp_path / "wrong")
