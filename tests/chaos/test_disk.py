"""A disk that is full or not writable: one clear error, nothing finished is lost, the same command goes on after."""

import os
import shutil
import subprocess

import pytest

from tests.chaos.harness import check_refused, check_store, check_trainings, check_trials, placed, snapshot


def mount(*arguments):
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
    """A small file system of its own; mounting takes root."""
    if os.getuid() or not shutil.which("mount"):
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def ends_as_undisturbed(place, undisturbed):
    place.finish()
    check_trials(place, snapshot(place), trials=6)
    check_trainings(place)
    check_store(place)
    assert (place.run / "front.csv").read_bytes() == undisturbed


@pytest.mark.parametrize("kilobytes", [48, 160, 320, 640, 2560])
def test_a_disk_too_small_ends_with_a_clear_error_and_a_larger_one_goes_on(kilobytes, disk, tmp_path, undisturbed):
    mount("-o", f"remount,size={kilobytes}k", disk)
    with placed(tmp_path / "place", run=disk / "run") as place:
        searcher = place.start()
        check_refused(searcher, "same command again")
        assert "No space left on device" in searcher.said or "disk is full" in searcher.said, searcher.said
        before = snapshot(place)
        assert searcher.told <= {number for _, number in before.trials}
        check_store(place)
        mount("-o", "remount,size=64m", disk)
        before.kept_in(snapshot(place))
        ends_as_undisturbed(place, undisturbed)
        before.kept_in(snapshot(place))


def test_a_disk_that_fills_up_in_the_middle_loses_nothing(disk, tmp_path, undisturbed):
    with placed(tmp_path / "place", run=disk / "run", busy_s=0.3) as place:
        for trials in (1, 1, 1):
            searcher = place.start()
            searcher.wait_for(trials)
            ballast = disk / "ballast"
            with open(ballast, "wb", buffering=0) as file:
                try:
                    while file.write(b"0" * 65536):
                        pass
                except OSError:
                    pass
            before = snapshot(place)
            check_refused(searcher, "same command again")
            before.kept_in(snapshot(place))
            check_store(place)
            ballast.unlink()
        ends_as_undisturbed(place, undisturbed)


def test_a_disk_that_is_not_writable_is_told_before_anything_else_and_goes_on_when_it_is(disk, tmp_path, undisturbed):
    with placed(tmp_path / "place", run=disk / "run", busy_s=0.3) as place:
        searcher = place.start()
        searcher.wait_for(2)
        assert place.kill(searcher)
        before = snapshot(place)
        mount("-o", "remount,ro", disk)
        check_refused(place.start(), "cannot write")
        before.kept_in(snapshot(place))
        mount("-o", "remount,rw", disk)
        ends_as_undisturbed(place, undisturbed)
        before.kept_in(snapshot(place))


@pytest.mark.parametrize("operation", [0, 3, 20, 60, 100])
def test_errors_of_writing_end_with_a_clear_error(operation, place, undisturbed):
    """The same by injection, for where nothing can be mounted: from one rename on, all of them fail."""
    searcher = place.start(strike=operation, full=True)
    check_refused(searcher, "No space left on device", "same command again")
    before = snapshot(place)
    assert searcher.told <= {number for _, number in before.trials}
    check_store(place)
    ends_as_undisturbed(place, undisturbed)
    before.kept_in(snapshot(place))
