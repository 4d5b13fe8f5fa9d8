"""A search whose classes count differently: every accuracy is the weighted one."""

import numpy as np
import pandas as pd
import pytest
import torch

from eesearch.api import search, search_study
from eesearch.core.errors import DataError, StudyError
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import outcomes
from eesearch.nets.zoo import residual_cnn
from eesearch.study.certifying import certify, to_label
from eesearch.study.files import validate
from eesearch.study.materials import load_study_data
from eesearch.study.pools import Pool
from eesearch.study.question import DataSpec, Study
from eesearch.study.verify import verify
from eesearch.training.data import digits, make_dataset


@pytest.fixture(scope="module")
def weighed(tiny_fields, tmp_path_factory):
    data = tiny_fields["data"] | {"class_weights": {8: 6, 1: 2.5}}  # as YAML reads the keys
    fields = tiny_fields | {"data": data, "devices": ["cpu:eager:t1:b1", "macs"], "budget": {"trials": 2}}
    return search_study(Study.model_validate(fields), tmp_path_factory.mktemp("runs") / "weighed")


UNITS = np.array([2, 5, 2, 2, 2, 2, 2, 2, 12, 2])
"""Whole numbers in the ratio of 1, 2.5 and 6, by class."""


def test_reported_accuracies_are_weighted_means_of_who_is_right(weighed):
    test = load_study_data(weighed.directory.study()).test
    rows = pd.read_csv(weighed.directory.path / "front.csv")
    macs, apart = rows[rows["device"] == "macs"], []
    for point, row in zip(weighed.device("macs").points, macs.itertuples(), strict=False):
        table = ExitTable.from_arrays(*weighed.directory.store.get("table", f"{point.cal.design}-test"))
        fits = weighed.network(point, test.x)[1]
        right = outcomes(point.cal.policy, table, fits)[1]
        wanted = np.average(right, weights=UNITS[test.y])
        assert wanted == pytest.approx(row.accuracy_test, abs=1e-9)
        assert row.accuracy_test_low < row.accuracy_test < row.accuracy_test_high
        assert point.test.effective_samples < len(test)
        apart.append(abs(wanted - right.mean()))
    assert max(apart) > 0.01, "the plain mean would be told from it"


def test_the_drop_of_a_point_is_that_of_the_weighted_accuracies(weighed):
    device = weighed.device("macs")
    for point in device.points:
        assert point.paired.drop == pytest.approx(device.backbone.test.accuracy - point.test.accuracy, abs=1e-9)


def test_whoever_reads_an_accuracy_is_told(weighed):
    told = "Accuracies are weighted by class: 8 counts 6, 1 counts 2.5, any other 1."
    assert told in weighed.answers.verdict()
    assert told in (weighed.directory.path / "report.html").read_text()
    assert weighed.answers.data["class_weights"]["test"] == [2, 5, 2, 2, 2, 2, 2, 2, 12, 2]


def test_what_is_measured_is_weighted_too(weighed):
    points = weighed.device("macs").points
    table = load_study_data(weighed.directory.study()).test
    apart = [abs(p.test.accuracy - plain_accuracy(weighed, p, table)) for p in points]
    chosen = int(np.argmax(apart))
    (found,) = verify(weighed, [weighed.pick(f"point={chosen}@macs")], "cpu:eager:t1:b1")
    assert apart[chosen] > 0.01
    assert found.accuracy == pytest.approx(found.table_accuracy, abs=5e-3)


def plain_accuracy(run, point, test):
    net, fits = run.network(point, test.x)
    return float((net.predict(test.x, point.cal.policy, fits).answer == test.y).mean())


def test_a_certificate_is_refused(weighed):
    pool = Pool(np.zeros((3, 1, 8, 8), np.uint8), np.zeros(3, np.int64))
    for ask in (lambda: certify(weighed, "1%"), lambda: to_label(weighed, "1%", pool)):
        with pytest.raises(DataError, match="the samples of this run count by their class"):
            ask()
    with pytest.raises(StudyError, match="certification and class_weights exclude each other"):
        validate(DataSpec, {"source": "x.npz", "certification": 0.5, "class_weights": "balanced"}, "data")


def test_balanced_classes_by_the_api_are_the_mean_recall(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arrays = digits()
    kept = (arrays["y_test"] != 3) | (np.arange(len(arrays["y_test"])) % 4 == 0)  # one class is rare
    arrays |= {"x_test": arrays["x_test"][kept], "y_test": arrays["y_test"][kept]}
    data = make_dataset(arrays, class_weights="balanced")
    model = residual_cnn(channels=[4], blocks=1, classes=10, in_channels=1)
    fields = {key: tiny[key] for key in ("training", "space", "input")}
    run = search(model, data, device="macs", budget="5s", study=fields)
    y, backbone = data.test.y, run.device("macs").backbone.test
    said = model.eval()((torch.from_numpy(data.test.x).float() * 0.0625 - 0.3) / 0.37).argmax(-1).numpy()
    recalls = [(said == y)[y == label].mean() for label in range(10)]
    units = data.test.class_weights[y]
    assert backbone.accuracy == pytest.approx(np.average(said == y, weights=units), abs=1e-6)
    assert backbone.accuracy == pytest.approx(np.mean(recalls), abs=0.01)
    assert len(set(units)) > 3
