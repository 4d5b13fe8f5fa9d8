"""The process that asks and tells for Ray is killed: Ray goes with it, and the same command goes on."""

import shutil
import tempfile
import time
from pathlib import Path

import pytest

from tests.chaos.harness import check_store, check_trials, placed, snapshot

pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")


@pytest.fixture
def short():
    """A directory with a short name: Ray's sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="ee-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def processes_of(folder):
    """Those of a Ray whose files lie there."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_killed_driver_takes_ray_along_and_the_same_command_goes_on(tmp_path, short):
    with placed(tmp_path / "place") as place:
        orders = {"environment": {"TMPDIR": str(short)}}
        told = set()
        for trials in (1, 2):
            before = snapshot(place)
            searcher = place.start("--driver", "ray", **orders)
            searcher.wait_for(trials)
            assert processes_of(short), f"Ray runs: {searcher.said}"
            assert place.kill(searcher)
            told |= searcher.told
            end = time.monotonic() + 60
            while processes_of(short):
                assert time.monotonic() < end, f"Ray outlives its driver: {processes_of(short)}"
                time.sleep(0.1)
            before.kept_in(snapshot(place))
            assert told <= {number for _, number in snapshot(place).trials}
            check_store(place)
        before = snapshot(place)
        place.finish("--driver", "ray", **orders)
        before.kept_in(snapshot(place))
        check_trials(place, snapshot(place), trials=6)
        check_store(place)
        assert not processes_of(short)
