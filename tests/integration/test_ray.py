"""Searches on Ray: the same answers as without, whatever dies; closed to others, quiet, gone afterwards."""

import os
import secrets
import threading
import time

import pytest

from eesearch.api import Place, Watchers, search_study
from eesearch.core.errors import InputError
from eesearch.drivers import ray_cluster
from eesearch.study import spread
from eesearch.study.question import Study
from eesearch.study.rundir import RunDir

pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]  # sockets of Ray's own


def question(fields, **changes):
    return Study.model_validate(fields | changes)


def found(run):
    """What does not depend on time."""
    trials = [t.model_dump(exclude={"seconds", "elapsed", "number"}) for t in run.answers.trials]
    return trials, [device.points for device in run.answers.devices]


def children():
    """Processes that this one has started, and theirs."""
    return [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]


def workers():
    """Those that run trials."""
    named = []
    for process in children():
        try:
            named.append((process, " ".join(process.cmdline())))
        except psutil.NoSuchProcess:
            continue
    return [process for process, line in named if line.startswith("ray::ResourceTrainable")]


def listening():
    """Addresses that this process and its children listen on."""
    heard = set()
    for process in [psutil.Process(), *children()]:
        try:
            heard |= {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
        except psutil.NoSuchProcess:
            continue
    return heard


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_fields):
    """The undisturbed search of the local driver."""
    return search_study(question(tiny_fields), tmp_path_factory.mktemp("local") / "run")


@pytest.fixture
def one_worker(monkeypatch):
    """Trials come one after the other, as they do without Ray."""
    monkeypatch.setattr(ray_cluster, "count_cpus", lambda: 1)


@pytest.mark.usefixtures("one_worker")
def test_stopped_and_continued_under_either_driver_equals_the_undisturbed_search(whole, tiny_fields, tmp_path):
    seen, heard = [], set()

    def watch(trial):
        seen.append(trial.number)
        if len(seen) == 2:
            heard.update(listening())
        if len(seen) == 3:
            raise KeyboardInterrupt

    ray, path = tiny_fields | {"driver": "ray"}, tmp_path / "run"
    before = set(os.listdir("/tmp"))
    with pytest.raises(KeyboardInterrupt):
        search_study(question(ray), path, watchers=Watchers(trial=watch))
    assert heard
    assert all(ip in ("127.0.0.1", "::1", "::ffff:127.0.0.1") for ip in heard), "nobody else can reach it"
    assert not [p for p in children() if p.name().startswith(("ray", "raylet", "gcs"))], "Ray is gone"
    assert not {name for name in set(os.listdir("/tmp")) - before if name.startswith("ray-")}, "and its files"
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    search_study(question(tiny_fields, budget={"trials": 4}), path)
    continued = search_study(question(ray), path)
    assert found(continued) == found(whole)
    assert sorted(p.name for p in path.glob("ray*")) == []
    again = search_study(question(ray), path)  # nothing is left to do, and no Ray is started
    assert found(again) == found(whole)


class Killing:
    """Kills the first worker that has a training under way, or what `kill` kills."""

    def __init__(self, run, kill=None):
        self.run, self.kill, self.killed = run, kill or self._worker, []
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self):
        for _ in range(6000):
            trained = self._trained()
            if trained and self.kill():
                self.killed += trained
                return
            time.sleep(0.02)

    def _trained(self):
        """Designs with a checkpoint; the bank has none any more when trials run."""
        return [f.name for f in (self.run / "checkpoints").glob("*.0") if (self.run / "front.json").exists()]

    def _worker(self):
        for process in workers():
            process.kill()
            return True
        return False

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.thread.join(timeout=1)


@pytest.fixture(scope="module")
def longer(tiny_fields):
    """Trials that take some seconds."""
    training = tiny_fields["training"] | {"joint": {"epochs": 30, "batch_size": 64, "lr": 0.001}}
    return tiny_fields | {"training": training, "budget": {"trials": 3}}


@pytest.fixture(scope="module")
def whole_longer(longer, tmp_path_factory):
    return search_study(question(longer), tmp_path_factory.mktemp("longer") / "run")


def states(path):
    """Of all trials that the database knows."""
    import optuna

    (study,) = optuna.get_all_study_summaries(f"sqlite:///{path / 'study.db'}")
    trials = optuna.load_study(study_name=study.study_name, storage=f"sqlite:///{path / 'study.db'}").get_trials()
    return [trial.state.name for trial in trials]


@pytest.mark.usefixtures("one_worker")
def test_a_killed_worker_is_replaced_and_goes_on_from_its_checkpoint(whole_longer, longer, tmp_path):
    path = tmp_path / "run"
    with Killing(path) as killing:
        run = search_study(question(longer, driver="ray"), path)
    assert killing.killed, "a worker was killed in the middle of a training"
    assert states(path) == ["COMPLETE"] * 3, "no trial failed, and none was begun again"
    assert found(run) == found(whole_longer)
    assert not list((path / "checkpoints").glob("*"))


SOON = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000, "health_check_failure_threshold": 5}
"""A lost node is noticed after some seconds."""


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes of one processor each, on this machine, that ask for a token."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(16))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.cluster_utils import Cluster

    ray_cluster._forget_tokens()
    nodes = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "_system_config": SOON}
    )
    nodes.second = nodes.add_node(num_cpus=1)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def test_a_cluster_is_joined_by_token_and_may_lose_a_node(cluster, whole_longer, longer, tmp_path, monkeypatch):
    monkeypatch.setattr(spread, "WORTH_MACS", 0.0)
    monkeypatch.setattr(spread, "WORTH_SHARE", 1.0)
    path, token = tmp_path / "run", os.environ["RAY_AUTH_TOKEN"]
    place = Place(address=cluster.address)
    study = question(longer, driver="ray")

    def lose():
        cluster.remove_node(cluster.second, allow_graceful=False)
        return True

    with Killing(path, lose) as killing:
        run = search_study(study, path, place=place)
    assert killing.killed
    assert states(path) == ["COMPLETE"] * 3
    bank, expected = run.answers.trials[0], whole_longer.answers.trials[0]
    store, other = RunDir(path).store, whole_longer.directory.store
    for split in ("cal", "test"):
        one, two = store.get("table", f"{bank.design}-{split}"), other.get("table", f"{expected.design}-{split}")
        assert one[1] == two[1]
        assert all((one[0][name] == two[0][name]).all() for name in two[0])
    assert not [file for kind in ("part", "shard") for file in (path / "store" / kind).glob("*.safetensors")]
    assert os.environ["RAY_AUTH_TOKEN"] == token

    os.environ["RAY_AUTH_TOKEN"] = "not the token"
    with pytest.raises(InputError, match=r"cannot be joined.*RAY_AUTH_TOKEN"):
        search_study(question(longer, driver="ray", budget={"trials": 4}), path, place=place)


def test_a_cluster_that_is_not_there_is_told(tiny_fields, tmp_path):
    with pytest.raises(InputError, match=r"the Ray cluster at 127\.0\.0\.1:9 cannot be joined"):
        search_study(question(tiny_fields, driver="ray"), tmp_path / "run", place=Place(address="127.0.0.1:9"))


@pytest.mark.usefixtures("one_worker")
def test_a_trial_that_fits_on_no_machine_is_refused(tiny_fields, tmp_path):
    with pytest.raises(InputError, match="no machine of the Ray cluster can run a trial"):
        search_study(question(tiny_fields, driver="ray", resources={"cpus": 2}), tmp_path / "run")
