import json
import sys
import threading
import urllib.request
from wsgiref.util import setup_testing_defaults

import pytest
from typer.testing import CliRunner

from eesearch.cli import app as cli
from eesearch.core.errors import InputError, RunError
from eesearch.drivers.dashboard import dashboard_app, serve_dashboard
from eesearch.study.rundir import RunDir
from eesearch.study.space import Choice
from eesearch.study.trial import Outcome


class Question:
    origin = "bank"
    key = "a655fa0bcadbea0d"
    directions = ("maximize",)
    parameters = (Choice("exit:a", ("none", "head")),)

    def draft(self):
        return None

    def first(self):
        return Outcome(design=None, values=(0.25,))

    def seeds(self):
        return []

    def run(self, params, report=None):
        return Outcome(design=None, values=(0.5,))


@pytest.fixture
def run(place):
    """Three trials; the directory's name is one that a URL must escape."""
    found = place("a run? 100%")
    found.search(Question(), fields={"budget": {"trials": 3}}, title="tiny: macs")
    return found.run


def answered(app, path, method="GET"):
    environ, said = {"HTTP_ACCEPT_ENCODING": ""}, []
    setup_testing_defaults(environ)
    parts = app(environ | {"PATH_INFO": path, "REQUEST_METHOD": method}, lambda *head: said.append(head[0]))
    body = b"".join(parts)
    if hasattr(parts, "close"):
        parts.close()
    return said[0], body


@pytest.fixture
def app(run):
    pytest.importorskip("optuna_dashboard")
    return dashboard_app(run)


def test_the_study_is_found_by_its_title_with_all_its_trials(app):
    status, body = answered(app, "/api/studies")
    (study,) = json.loads(body)["study_summaries"]
    assert (status, study["study_name"]) == ("200 OK", "tiny: macs (a655fa0bcadbea0d)")
    detail = json.loads(answered(app, f"/api/studies/{study['study_id']}")[1])
    assert [(t["state"], t["values"]) for t in detail["trials"]] == [
        ("Complete", [0.25]), ("Complete", [0.5]), ("Complete", [0.5]),
    ]  # fmt: skip
    assert detail["name"] == "tiny: macs (a655fa0bcadbea0d)"


def test_the_page_comes_with_its_script(app):
    status, body = answered(app, "/dashboard")
    assert status == "200 OK"
    assert b"/static/bundle.js" in body
    assert answered(app, "/static/bundle.js")[0] == "200 OK"


def test_nothing_that_is_clicked_changes_the_run(app, run, caplog):
    before = run.database.read_bytes()
    status, _ = answered(app, "/api/studies/1", "DELETE")
    assert status.startswith("500")
    assert run.database.read_bytes() == before
    assert len(json.loads(answered(app, "/api/studies/1")[1])["trials"]) == 3


def test_a_server_answers_where_it_says(run, monkeypatch):
    pytest.importorskip("optuna_dashboard")
    from wsgiref.simple_server import WSGIServer

    servers, urls, listening = [], [], threading.Event()
    serve = WSGIServer.serve_forever
    monkeypatch.setattr(WSGIServer, "serve_forever", lambda self: (servers.append(self), serve(self, 0.01)))
    thread = threading.Thread(
        target=lambda: serve_dashboard(run, port=0, ready=lambda url: (urls.append(url), listening.set()))
    )
    thread.start()
    assert listening.wait(30)
    with urllib.request.urlopen(f"{urls[0]}api/studies", timeout=30) as response:
        assert response.status == 200
    servers[0].shutdown()
    thread.join()


def test_an_address_that_is_taken_is_an_input_error(run):
    pytest.importorskip("optuna_dashboard")
    with pytest.raises(InputError, match=r"cannot listen at localhost:99999.*--port"):
        serve_dashboard(run, port=99999)


def test_a_directory_without_trials(tmp_path):
    pytest.importorskip("optuna_dashboard")
    with pytest.raises(RunError, match="holds no trials"):
        dashboard_app(RunDir(tmp_path))
    assert not list(tmp_path.iterdir()), "a database that is not there is not made"


def test_without_the_extra_it_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(InputError, match=r"pip install 'eesearch\[dashboard\]'"):
        dashboard_app(run)


@pytest.fixture
def shared(place, tmp_path):
    """Two runs with one database."""
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    for name in ("one", "two"):
        each = place(name)
        each.search(Question(), fields={"budget": {"trials": 2}}, title=f"{name}: macs", database=each.database(url))
    return place, url


def test_of_a_shared_database_only_the_run_is_shown_and_nothing_is_changed(shared):
    pytest.importorskip("optuna_dashboard")
    place, url = shared
    app = dashboard_app(place("two").run, url)
    (study,) = json.loads(answered(app, "/api/studies")[1])["study_summaries"]
    assert study["study_name"] == "two: macs (a655fa0bcadbea0d)"
    assert answered(app, f"/api/studies/{study['study_id']}", "DELETE")[0].startswith("500")
    assert len(json.loads(answered(app, f"/api/studies/{study['study_id']}")[1])["trials"]) == 2


def test_a_run_without_its_database_and_a_database_without_the_run(shared, run, tmp_path):
    pytest.importorskip("optuna_dashboard")
    place, url = shared
    with pytest.raises(RunError, match=r"lie in sqlite.*Name it: --storage"):
        dashboard_app(place("one").run)
    with pytest.raises(RunError, match=r"lie in sqlite.*got sqlite.*other.db"):
        dashboard_app(place("one").run, f"sqlite:///{tmp_path / 'other.db'}")
    with pytest.raises(RunError, match=r"lie in its own study.db\. Leave --storage out"):
        dashboard_app(run, url)


def test_the_usual_database_is_for_runs_that_have_none_of_their_own(shared, run):
    place, url = shared
    for found, title in ((run, "tiny: macs"), (place("one").run, "one: macs")):
        (study,) = json.loads(answered(dashboard_app(found, None, url), "/api/studies")[1])["study_summaries"]
        assert study["study_name"] == f"{title} (a655fa0bcadbea0d)"


def test_the_environment_names_the_usual_database(run, monkeypatch):
    seen = {}
    monkeypatch.setattr("eesearch.drivers.dashboard.serve_dashboard", lambda *run, **options: seen.update(options))
    for arguments, storage in (([], None), (["--storage", "sqlite:///given.db"], "sqlite:///given.db")):
        called = CliRunner().invoke(
            cli, ["dashboard", str(run.path), *arguments], env={"EESEARCH_STORAGE": "sqlite:///a.db"}
        )
        assert called.exit_code == 0, called.output
        assert (seen["storage"], seen["usual"]) == (storage, "sqlite:///a.db")
