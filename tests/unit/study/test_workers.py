import subprocess
import sys
from contextlib import contextmanager

from eesearch.study import workers
from eesearch.study.workers import is_here, lives, living, others, working

WORK = """
import sys
from pathlib import Path
from eesearch.study.workers import working
with working(Path(sys.argv[1])) as name:
    print(name, flush=True)
    sys.stdin.read()
"""


def test_a_worker_lives_until_it_ends(tmp_path):
    with working(tmp_path) as name:
        assert lives(tmp_path, name)
        assert living(tmp_path) == [name]
    assert lives(tmp_path, name) is False
    assert living(tmp_path) == []


def test_a_killed_worker_is_dead_at_once(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", WORK, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        name = process.stdout.readline().strip()
        assert lives(tmp_path, name)
        process.kill()
    assert lives(tmp_path, name) is False
    assert not list((tmp_path / "workers").iterdir()), "what it left is tidied"


def test_two_workers_have_two_names(tmp_path):
    with working(tmp_path) as one, working(tmp_path) as two:
        assert sorted([one, two]) == living(tmp_path)


def test_what_a_machine_left_that_was_started_again_keeps_nobody_waiting(tmp_path, monkeypatch):
    with working(tmp_path) as name:
        monkeypatch.setattr(workers, "machine", lambda: "elsewhere")
        assert living(tmp_path) == others(tmp_path) == [name]
        assert not is_here(name)
    file = tmp_path / "workers" / f"{name}.lock"
    file.write_text("")  # as a power cut leaves it
    assert living(tmp_path) == []


def test_this_process_is_none_of_the_others(tmp_path):
    with working(tmp_path) as name:
        assert is_here(name)
        assert living(tmp_path) == [name]
        assert others(tmp_path) == []


def test_a_worker_whose_file_was_tidied_before_it_was_locked_takes_another_name(tmp_path, monkeypatch):
    real, locks = workers.tried, []

    @contextmanager
    def tidied(path):
        with real(path) as free:
            locks.append(path)
            if len(locks) == 1:
                path.unlink()
            yield free

    monkeypatch.setattr(workers, "tried", tidied)
    with working(tmp_path) as name:
        assert len(locks) == 2
        assert name in locks[1].name
        assert locks[1].exists()
