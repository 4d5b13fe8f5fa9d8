"""Nothing listens anywhere but on loopback unless asked."""

import socket

import pytest

from eesearch.drivers import dashboard


@pytest.fixture
def opened(monkeypatch):
    """Addresses at which the dashboard listened."""
    seen = []
    make = dashboard.make_server

    def made(*arguments, **options):
        server = make(*arguments, **options)
        server.serve_forever = lambda: None
        seen.append(server.server_address[0])
        return server

    monkeypatch.setattr(dashboard, "make_server", made)
    return seen


def test_the_dashboard_listens_on_loopback(run, cli, opened):
    pytest.importorskip("optuna_dashboard")
    done = cli("dashboard", run, "--port", 0)
    assert done.exit_code == 0, done.output
    (address,) = opened
    assert address in ("127.0.0.1", "::1")


def test_a_search_listens_nowhere(run, small, cli, monkeypatch):
    """Timed devices run in processes of their own, which talk through pipes."""

    def listening(self, *arguments):
        raise AssertionError("somebody listens")

    class Quiet(socket.socket):
        listen = bind = listening

    monkeypatch.setattr(socket, "socket", Quiet)
    device = "devices=[macs, cpu:eager:t1:b1]"
    timer = "measuring={processes: 1, warmup: 0.01, warmup_max: 0.02, round: 0.005, rounds_min: 1, rounds_max: 2}"
    done = cli("search", small / "study.yaml", "--run", run / "new", "--set", device, "--set", timer, "--quiet")
    assert done.exit_code == 0, done.output
