"""A search that is killed or stopped goes on with the same command, and ends where an undisturbed one ends."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from eesearch.api import Watchers, search_study
from eesearch.study.question import Study


def start(file, run):
    command = [sys.executable, "-m", "eesearch", "search", str(file), "--run", str(run)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(file, run):
    """Run to the end, undisturbed; what it told."""
    process = start(file, run)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return err


def wait_for(process, *, trials):
    """Return when so many trials are told on standard error, or the process ended."""
    told = 0
    while told < trials:
        line = process.stderr.readline()
        if not line:
            return
        told += line.startswith("trial ")


def kill(process, *, after):
    """SIGKILL in so many seconds."""
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)


def answers(run):
    """What a run found; a trial that was begun twice has another number, and stands at the same place."""
    found = json.loads((run / "front.json").read_text())
    trials = [{k: v for k, v in t.items() if k not in ("seconds", "elapsed", "number")} for t in found["trials"]]
    places = {trial["number"]: place for place, trial in enumerate(found["trials"])}
    for device in found["devices"]:
        for tried in device["dominated"]:
            tried["trial"] = places[tried["trial"]]
        for design in device["designs"].values():
            design["trial"] = places[design["trial"]]
        for strategy in device["strategies"]:
            strategy["best"] = places[strategy["best"]]
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
    starts = []  # seconds until a start has told its first trial: the machine's pace
    for trials, pause in [(0, 2.5), (1, 0.0), (1, 0.05), (1, 0.3)]:
        began = time.monotonic()
        process = start(file, run)
        wait_for(process, trials=trials)
        starts += [time.monotonic() - began] * trials
        kill(process, after=pause)
    kill(start(file, run), after=0.8 * min(starts))
    told = finish(file, run).splitlines()
    assert any(line.startswith("trial ") for line in told), "the kills came before the end"
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
    assert "stopping: saving what is known; Ctrl-C again stops at once\n" in err
    assert "Traceback" not in err
    devices, trials = answers(run)
    assert 2 <= len(trials) < 6
    assert devices[0]["points"]
    assert (run / "report.html").exists()
    finish(file, run)
    assert answers(run) == answers(whole)


@pytest.mark.slow
def test_ctrl_c_twice_stops_at_once_and_loses_nothing(undisturbed, tmp_path):
    file, whole = undisturbed
    run = tmp_path / "run"
    process = start(file, run)
    wait_for(process, trials=2)
    process.send_signal(signal.SIGINT)
    while not process.stderr.readline().startswith("stopping: "):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err == "stopped at once; the same command continues\n"
    finish(file, run)
    assert answers(run) == answers(whole)


@pytest.mark.slow
def test_stopped_between_epochs_the_same_designs_are_stopped_early(tiny, tmp_path):
    """What a design was worth after each epoch is remembered with its trial, and told anew where it was not."""
    tiny["training"]["joint"]["epochs"] = 4
    study = Study.model_validate(tiny | {"pruning": "asha", "budget": {"trials": 5}})
    whole = search_study(study, tmp_path / "whole")
    states = [trial.state for trial in whole.answers.trials]
    assert {"complete", "pruned"} <= set(states)
    told = 0

    def stop(phase, done, total):
        nonlocal told
        told += phase == "train jointly"
        if phase == "train jointly" and told in (3, 40, 75, 110):
            raise KeyboardInterrupt

    stops = 0
    while True:
        try:
            search_study(study, tmp_path / "run", watchers=Watchers(stop))
        except KeyboardInterrupt:
            stops += 1
        else:
            break
    assert stops >= 3
    assert answers(tmp_path / "run") == answers(tmp_path / "whole")


def in_own_process(code):
    """Run code with `stoppable` as a program of its own: signals are about whole processes."""
    lines = ["import signal", "from eesearch.cli.verbs import stoppable", *code]
    command = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM"])
def test_the_first_signal_raises_and_handlers_come_back(sent):
    ended = in_own_process(
        [
            "signal.signal(signal.SIGINT, signal.default_int_handler)",
            f"before = signal.getsignal(signal.{sent})",
            "try:",
            "    with stoppable():",
            f"        signal.raise_signal(signal.{sent})",
            "        print('not stopped')",
            "except KeyboardInterrupt:",
            f"    print('stopped', signal.getsignal(signal.{sent}) == before)",
        ]
    )
    assert (ended.returncode, ended.stdout) == (0, "stopped True\n"), ended.stderr
    assert ended.stderr == "stopping: saving what is known; Ctrl-C again stops at once\n"


def test_where_ctrl_c_is_ignored_it_stays_ignored():
    ended = in_own_process(
        [
            "signal.signal(signal.SIGINT, signal.SIG_IGN)",
            "with stoppable():",
            "    signal.raise_signal(signal.SIGINT)",
            "    print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)",
        ]
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "True\n", "")


def test_interrupted_during_the_backbone_s_training_goes_on_from_its_checkpoint(tiny, tmp_path):
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
