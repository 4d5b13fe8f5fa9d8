"""The notebook's calls on a real run."""

import numpy as np

from eesearch.notebook import load_run
from eesearch.study.materials import load_study_data


def test_from_a_run_to_a_network_that_stops_early(searched):
    run = load_run(searched.directory.path)
    picked = run.pick(max_drop=0.02, device="macs")
    model, test = run.model(picked), load_study_data(run.directory.study()).test
    prediction = model.predict(test.x)
    assert np.mean(prediction.answer == test.y) == picked.point.test.accuracy
    rates = np.bincount(prediction.exit, minlength=len(model.thresholds)) / len(test.y)
    np.testing.assert_allclose(rates, picked.point.test.exit_rate, atol=0.004)
    assert len(model.stages) == len(model.thresholds) > 1
    everyone = list(model.thresholds)
    everyone[0] = -1.0
    model.thresholds = everyone
    assert set(model.predict(test.x[:50]).exit) == {0}


def test_the_backbone_s_own_front_and_pictures(searched):
    run = load_run(searched.directory.path)
    several = [device for device in run.answers.devices if len(device.strategies) > 1]
    assert len(run.plot().axes) == len(run.answers.devices) + len(several), "a device's strategies have a panel, too"
    assert several
    assert len(run.front("macs").to_pandas()) == len(run.device("macs").points)
    assert run._repr_html_().count("backbone</td>") == len(run.answers.devices)
