"""Chosen points run end to end in real processes; of no time anything is asserted."""

import json
import shutil
from itertools import chain

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from eesearch.cli import app
from eesearch.core.errors import CostError, PickError
from eesearch.costs.devices import Device
from eesearch.costs.endtoend import run_rides
from eesearch.costs.profile import load_profile, save_profile
from eesearch.notebook import load_run
from eesearch.study.materials import load_study_data
from eesearch.study.picks import Picked
from eesearch.study.run import Run
from eesearch.study.usual import usual_points
from eesearch.study.verified import policy_key
from eesearch.study.verify import Effort, verify

CPU = "cpu:eager:t1:b1"
QUICK = Effort(seconds=0.1, processes=1)


@pytest.fixture
def own(searched, tmp_path):
    """A run to write to, that nobody has verified."""
    path = tmp_path / "run"
    shutil.copytree(searched.directory.path, path)
    (path / "verified.json").unlink()
    return Run.load(path)


def picks(run, *numbers):
    device = run.device(CPU)
    return [Picked(device, device.points[number]) for number in numbers]


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_search_verifies_its_front_by_itself(searched):
    device, counted = searched.answers.devices
    wanted = usual_points(device, 3)
    assert {policy_key(point.cal) for point in wanted} == {entry.policy for entry in device.verified}
    assert not counted.verified
    assert searched.directory.verified() == device.verified
    for entry in device.verified:
        assert (entry.processes, entry.total, entry.differing) == (1, 540, 0)
        assert entry.accuracy == entry.table_accuracy
        assert entry.predicted_backbone == pytest.approx(device.backbone.test.costs["latency_ms"].mean)
    assert "measured end to end:" in device.verdict()
    assert "measured end to end:" in (searched.directory.path / "report.html").read_text()
    written = json.loads((searched.directory.path / "front.json").read_text())
    assert all("verified" not in each for each in written["devices"])


def test_what_runs_answers_and_stops_as_predict_does(own):
    chosen = picks(own, 0, len(own.device(CPU).points) // 2)
    x, said = load_study_data(own.directory.study()).test.x, {}

    def ride(rides, *arguments, finished, **options):
        def listen(number, ran):
            said[number] = (rides[number].order, ran)
            finished(number, ran)

        run_rides(rides, *arguments, finished=listen, **options)

    found = verify(own, chosen, CPU, effort=Effort(0.1, processes=2), ride=ride)
    for number, picked in enumerate(chosen):
        expected, (order, ran) = own.predict(picked, x), said[number]
        assert ran[0].said.answer == expected.answer.tolist()
        assert ran[0].said.stop == expected.exit.tolist()
        timed = np.unique(order)  # what is not timed is answered by the first process alone
        assert np.array(ran[1].said.answer)[timed].tolist() == expected.answer[timed].tolist()
        assert np.array(ran[1].said.stop)[timed].tolist() == expected.exit[timed].tolist()
        assert [len(process.blocks) for process in ran] == [len(order)] * 2
        assert found[number].samples == len(np.unique(order)) <= len(x)
        assert found[number].processes == 2
        assert list(chain(*(block.exits for block in ran[0].blocks))), "timed calls are told"


def test_the_prediction_is_that_of_the_front_on_all_samples(own):
    (found,) = verify(own, picks(own, 1), CPU, effort=Effort(seconds=20.0, processes=1), ride=every_sample)
    point = own.device(CPU).points[1]
    assert found.samples == found.total
    assert found.predicted.mean == pytest.approx(point.test.costs["latency_ms"].mean)
    assert found.predicted_ratio == pytest.approx(own.device(CPU).ratio(point))


def every_sample(rides, backbone, samples, *, device, protocol, finished, progress):
    """As if everything took a millisecond, and nobody answered right; the time allows ten turns of all samples."""
    from eesearch.costs.blocks import Block, Said
    from eesearch.costs.endtoend import Ran

    for number, ride in enumerate(rides):
        blocks, calls, _ = ride.order.shape
        took = tuple(Block(number, [1.0] * calls, [2.0] * calls, 1.0, 1.0) for _ in range(blocks))
        finished(number, [Ran(took, Said(number, [99] * len(samples), [0] * len(samples)))])


def test_differing_answers_are_counted(own):
    (found,) = verify(own, picks(own, 1), CPU, effort=Effort(seconds=20.0, processes=1), ride=every_sample)
    assert found.accuracy == 0.0
    assert found.differing + found.near == found.total
    assert found.ratio == pytest.approx(0.5)


def test_a_notebook_verifies_what_it_picks(own):
    run = load_run(own.directory.path)
    (found,) = run.verify("knee", seconds=0.1, processes=1)
    assert found.point == run.pick("knee").number
    assert found.differing == 0
    assert load_run(own.directory.path).device().verified == (found,)


def test_an_interrupt_keeps_what_is_known(own):
    chosen, stop = picks(own, 0, 1), []

    def interrupt(phase, done, total):
        if own.directory.verified():
            stop.append(done)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(own, chosen, CPU, effort=QUICK, progress=interrupt)
    assert stop
    assert [entry.point for entry in own.directory.verified()] == [0]


def test_the_command_prints_and_writes_what_it_measured(own, tmp_path):
    path, out = own.directory.path, tmp_path / "verified.csv"
    done = call("verify", path, "--all", 2, "--seconds", 0.1, "--processes", 1, "--format", "csv", "--out", out)
    assert done.exit_code == 0, done.output
    rows = pd.read_csv(out)
    front = own.device(CPU)
    ends = [n for n, point in enumerate(front.points) if not front.is_backbone(point)]
    assert rows["point"].tolist() == [ends[0], ends[-1]]
    assert (rows["differing"] == 0).all()
    done = call("verify", path, "--pick", "knee@macs", "--device", CPU, "--seconds", 0.1, "--processes", 1)
    assert done.exit_code == 0, done.output
    assert "points of macs" in done.stdout
    assert "Predicted mean latency" in done.stdout
    shown = call("front", path, "--device", CPU).stdout
    assert "predicted, and measured end to end" in shown
    assert len(own.directory.verified()) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--pick", "point=999"], "has no point 999"),
        (["--pick", "kneee"], "no selection"),
        (["--pick", "knee@macs"], "nothing runs on the device 'macs' here"),
        (["--device", "cuda:eager:t1:b1"], "not available"),
        (["--device", "cpu:eager:t999:b1"], "not available"),
        (["--device", "cpu:nothing:t1:b1"], "no back end 'nothing'"),
        (["--device", "pi4.json"], "nothing runs on the device 'pi4.json' here"),
        (["--out", "x.csv"], "--out writes CSV or JSON"),
    ],
)
def test_bad_input_is_one_error(searched, arguments, words):
    result = call("verify", searched.directory.path, *arguments)
    assert result.exit_code == 2, result.output
    assert words in result.output
    assert "Traceback" not in result.output


def test_there_must_be_a_run(tmp_path):
    result = call("verify", tmp_path)
    assert result.exit_code == 2
    assert "holds no run" in result.output


def test_the_unmodified_network_is_nothing_to_verify(own):
    device = own.device(CPU)
    whole = device.model_copy(update={"points": (device.backbone,)})
    with pytest.raises(PickError, match="is the unmodified network"):
        verify(own, [Picked(whole, device.backbone)], CPU, effort=QUICK)


def test_predictions_of_another_machine_are_refused(own):
    file = own.directory.profile_file(CPU)
    profile = load_profile(file)
    elsewhere = profile.model_copy(update={"fingerprint": profile.fingerprint | {"processor": "Z80"}})
    save_profile(elsewhere, file)
    with pytest.raises(CostError, match=r"measured on another machine.*got Z80"):
        verify(own, picks(own, 0), CPU, effort=QUICK)


def test_a_front_that_cannot_run_is_told_and_nothing_is_lost(own, monkeypatch, caplog):
    from types import SimpleNamespace

    from eesearch import answering

    profile = load_profile(own.directory.profile_file(CPU))
    materials = SimpleNamespace(profiles=(profile,))
    problem = SimpleNamespace(study=own.directory.study(), materials=materials)

    def broken(*arguments, **options):
        raise CostError("measuring network 1 failed", got="out of paper")

    monkeypatch.setattr(answering, "verify", broken)
    answers = answering.verify_found(own, problem)
    assert not answers.devices[0].verified
    assert f"{CPU} could not be verified: measuring network 1 failed" in caplog.text
    monkeypatch.setattr(Device, "timed", property(lambda device: False))
    caplog.set_level("INFO", logger="eesearch")
    answering.verify_found(own, problem)
    assert "is not verified: it was measured elsewhere" in caplog.text
