"""A search that is killed or stopped goes on with the same command, and ends where an undisturbed one ends."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from eesearch.api import search_study
from eesearch.study.question import Study


def start(file, run):
    command = [sys.executable, "-m", "eesearch", "search", str(file), "--run", str(run)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(file, run):
    """Run to the end, undisturbed."""
    process = start(file, run)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err


def wait_for(process, *, trials):
    """Return when so many trials are told on standard error, or the process ended."""
    told = 0
    while told < trials:
        line = process.stderr.readline()
        if not line:
            return
        told += line.startswith("trial ")


def answers(run):
    found = json.loads((run / "front.json").read_text())
    trials = [{k: v for k, v in t.items() if k not in ("seconds", "elapsed", "number")} for t in found["trials"]]
    for device in found["devices"]:
        for certificate in device["certificates"].values():
            certificate.pop("seconds")
    return found["devices"], trials


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_fields):
    folder = tmp_path_factory.mktemp("undisturbed")
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(tiny_fields))
    finish(file, folder / "run")
    return file, folder / "run"


@pytest.mark.slow
def test_sigkill_at_any_moment_loses_nothing(undisturbed, tmp_path):
    file, whole = undisturbed
    run = tmp_path / "run"
    for trials, pause in [(0, 2.5), (1, 0.0), (1, 0.05), (1, 0.3), (0, 3.2)]:
        process = start(file, run)
        wait_for(process, trials=trials)
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert not (run / "front.csv").exists(), "the kills came before the end"
    finish(file, run)
    assert answers(run) == answers(whole)
    assert (run / "front.csv").read_bytes() == (whole / "front.csv").read_bytes()


@pytest.mark.slow
def test_ctrl_c_writes_the_answers_so_far_and_requeues_the_trial(undisturbed, tmp_path):
    file, whole = undisturbed
    run = tmp_path / "run"
    process = start(file, run)
    wait_for(process, trials=2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    devices, trials = answers(run)
    assert 2 <= len(trials) < 6
    assert devices[0]["points"]
    assert (run / "report.html").exists()
    finish(file, run)
    assert answers(run) == answers(whole)


def test_interrupted_during_the_backbone_s_training_goes_on_from_its_checkpoint(tiny, tmp_path):
    from eesearch.api import Watchers

    def stop(phase, done, total):
        if phase == "train backbone" and done > total // 2:
            raise KeyboardInterrupt

    study = Study.model_validate(tiny)
    with pytest.raises(KeyboardInterrupt):
        search_study(study, tmp_path / "run", watchers=Watchers(stop))
    steps = []
    watchers = Watchers(lambda phase, done, total: steps.append(done) if phase == "train backbone" else None)
    resumed = search_study(study, tmp_path / "run", watchers=watchers)
    whole = search_study(study, tmp_path / "whole")
    assert steps[0] > 1, "finished epochs are not trained again"
    assert answers(tmp_path / "run") == answers(tmp_path / "whole")
    assert resumed.answers.devices[0].points == whole.answers.devices[0].points
