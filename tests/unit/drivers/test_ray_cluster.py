"""How Ray is started and joined, as far as that needs no Ray; the rest is in tests/integration/test_ray.py."""

import ast
import inspect
import os

import pytest

from eesearch.core.errors import InputError
from eesearch.drivers import ray_cluster, ray_driver
from eesearch.drivers.ray_cluster import ENVIRONMENT, Cluster, connected, count_cpus, fitting
from eesearch.study.question import Resources


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'eesearch\[ray\]'"), connected(None):
        pass


@pytest.mark.parametrize("module", [ray_cluster, ray_driver], ids=lambda m: m.__name__)
def test_the_modules_that_every_search_loads_import_no_ray(module):
    top = ast.parse(inspect.getsource(module)).body
    imported = [ast.unparse(node) for node in top if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imported
    assert not any("import ray" in line or "from ray" in line for line in imported)


def test_telemetry_is_off_and_tokens_are_on_and_the_environment_comes_back(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("TUNE_DISABLE_SIGINT_HANDLER", raising=False)
    with ray_cluster._environment(ENVIRONMENT):
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert os.environ["TUNE_DISABLE_SIGINT_HANDLER"] == "1"
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert "TUNE_DISABLE_SIGINT_HANDLER" not in os.environ


def test_usage_statistics_stay_off_where_nobody_switched_them_on(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED")
    with ray_cluster._environment(ENVIRONMENT):
        pass
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


@pytest.mark.parametrize(
    ("node", "each", "expected"),
    [
        ({"CPU": 8.0}, {"cpus": 1}, 8),
        ({"CPU": 8.0}, {"cpus": 3}, 2),
        ({"CPU": 8.0, "GPU": 1.0}, {"cpus": 1, "gpus": 0.2}, 5),
        ({"CPU": 2.0, "GPU": 1.0}, {"cpus": 1, "gpus": 0.2}, 2),
        ({"CPU": 8.0}, {"cpus": 1, "gpus": 0.5}, 0),
        ({}, {"cpus": 1}, 0),
    ],
)
def test_trials_that_fit_on_a_machine(node, each, expected):
    assert fitting(node, Resources.model_validate(each)) == expected


class Two(Cluster):
    """Two machines."""

    def nodes(self):
        return [{"CPU": 4.0}, {"CPU": 2.0, "GPU": 1.0}]


def test_slots_are_counted_machine_by_machine():
    assert Two().slots(Resources(cpus=3)) == 1
    assert Two().slots(Resources(cpus=1)) == 6
    Two().check(Resources(cpus=2, gpus=1.0))


def test_a_trial_that_fits_nowhere_is_refused():
    with pytest.raises(InputError, match=r"got resources \{cpus: 8, gpus: 0\}; expected at most 4 CPUs"):
        Two().check(Resources(cpus=8))


def test_only_processors_that_may_be_used_count():
    assert 1 <= count_cpus() <= os.cpu_count()
