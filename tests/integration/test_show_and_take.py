"""The verbs that show a run and take its choice along, in this process."""

import io
import json
import shutil

import pandas as pd
import pytest
from typer.testing import CliRunner

import eesearch
from eesearch.cli import app
from eesearch.core.errors import InputError

MAGIC = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF", "md": b"# ", "html": b"<!DOCTYPE html>"}


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def finished(searched):
    return searched.directory.path


class TestReport:
    @pytest.mark.parametrize("form", sorted(MAGIC))
    def test_every_format_is_written_where_it_is_asked_for(self, finished, tmp_path, form):
        file = tmp_path / f"report.{form}"
        done = run("report", finished, "--format", form, "--out", file)
        assert (done.exit_code, done.stdout.strip()) == (0, str(file)), done.output
        assert file.read_bytes().startswith(MAGIC[form])

    def test_the_page_of_a_finished_search_does_not_reload_itself(self, finished):
        assert "data-live=" not in (finished / "report.html").read_text()
        assert "eesearch export" in (finished / "report.html").read_text()

    def test_the_name_of_the_file_tells_the_format(self, finished, tmp_path):
        done = run("report", finished, "--out", tmp_path / "fronts.svg")
        assert done.exit_code == 0, done.output
        assert (tmp_path / "fronts.svg").read_bytes().startswith(MAGIC["svg"])
        done = run("report", finished, "--out", tmp_path / "fronts.pdf", "--format", "svg")
        assert done.exit_code == 2
        assert "fronts.pdf is no svg" in done.stderr.replace("\n", "")
        assert not (tmp_path / "fronts.pdf").exists()
        for name in ("fronts.jpg", "fronts"):
            done = run("report", finished, "--out", tmp_path / name)
            assert done.exit_code == 2
            assert "a name that ends in .png, .svg, .pdf, .html, .md" in " ".join(done.stderr.split())
            assert not (tmp_path / name).exists()

    def test_another_kind_is_refused(self, finished):
        with pytest.raises(InputError, match="no report of kind 'jpg'"):
            eesearch.report(finished, "jpg")

    def test_a_run_without_answers_is_refused(self, tmp_path):
        assert run("report", tmp_path).exit_code == 2


class TestWhileSearching:
    def test_answers_and_page_are_there_after_every_trial(self, tiny, tmp_path, monkeypatch):
        from eesearch import answering
        from eesearch.api import Watchers, search_study
        from eesearch.study.question import Study

        monkeypatch.setattr(answering, "REFRESH", 0.0)  # as if writing took no time

        seen = []

        def look(answers):
            page = (tmp_path / "run" / "report.html").read_text()
            seen.append((len(answers.trials), len(answers.devices[0].points), "data-live=" in page))

        study = Study.model_validate(tiny | {"budget": {"trials": 3}})
        found = search_study(study, tmp_path / "run", watchers=Watchers(answers=look))
        assert [(trials, live) for trials, _, live in seen] == [(1, True), (2, True), (3, False)]
        assert found.directory.examples(found.answers) is not None
        assert not any(seed.enqueued for seed in found.answers.devices[0].seeds[3:])
        assert any(seed.enqueued for seed in found.answers.devices[0].seeds)

    def test_an_interrupt_before_the_first_trial_leaves_no_empty_answers(self, tiny, tmp_path, monkeypatch):
        from eesearch.api import search_study
        from eesearch.study.bank_problem import BankProblem
        from eesearch.study.question import Study

        def interrupted(problem):
            raise KeyboardInterrupt

        monkeypatch.setattr(BankProblem, "first", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search_study(Study.model_validate(tiny), tmp_path / "run")
        assert not (tmp_path / "run" / "front.json").exists()
        assert run("export", tmp_path / "run", "--to", "config", "--out", tmp_path / "c").exit_code == 2

    def test_a_search_that_dies_tells_the_page(self, tiny, tmp_path, monkeypatch):
        from eesearch.api import search_study
        from eesearch.core.errors import RunError
        from eesearch.study.bank_problem import BankProblem
        from eesearch.study.question import Study

        def full(problem, params, report=None):
            raise RunError("the disk is full")

        monkeypatch.setattr(BankProblem, "run", full)
        with pytest.raises(RunError, match="full"):
            search_study(Study.model_validate(tiny), tmp_path / "run")
        assert "data-live=" not in (tmp_path / "run" / "report.html").read_text()

    def test_examples_that_cannot_be_written_lose_no_answers(self, finished, tmp_path, monkeypatch):
        import eesearch.study.rundir as module
        from eesearch.core.errors import RunError
        from eesearch.study.rundir import RunDir

        source, written, write = RunDir(finished), [], module.write_atomic

        def full(path, content):
            if path.name == "examples.json":
                raise RunError("the disk is full")
            written.append(path.name)
            write(path, content)

        monkeypatch.setattr(module, "write_atomic", full)
        answers = source.answers()
        (tmp_path / "run").mkdir()
        with pytest.raises(RunError):
            RunDir(tmp_path / "run").write_answers(answers, source.examples(answers))
        assert written == ["front.json", "front.csv"]

    def test_trials_are_logged_for_tensorboard(self, tiny, tmp_path):
        pytest.importorskip("tensorboard")
        import yaml

        study = tmp_path / "study.yaml"
        study.write_text(yaml.safe_dump(tiny | {"budget": {"trials": 2}}))
        done = run("search", study, "--run", tmp_path / "run", "--log", "tensorboard", "--quiet")
        assert done.exit_code == 0, done.output
        assert list((tmp_path / "run" / "logs").rglob("events.out.tfevents*"))

    def test_another_tool_is_refused_before_anything_is_done(self, tmp_path):
        done = run("search", "digits", "--run", tmp_path / "run", "--log", "paper")
        assert done.exit_code == 2
        assert "there is no logger 'paper'" in done.output


class TestCompare:
    def test_two_runs_are_set_beside_each_other(self, finished, tmp_path):
        other = tmp_path / "other"
        shutil.copytree(finished, other)
        done = run("compare", finished, other, "--out", tmp_path / "both.svg")
        assert done.exit_code == 0, done.output
        assert "area" in done.output
        assert (tmp_path / "both.svg").read_bytes().startswith(MAGIC["svg"])
        table = run("compare", finished, other, "--format", "csv")
        (tmp_path / "both.csv").write_text(table.stdout)
        rows = pd.read_csv(tmp_path / "both.csv")
        assert len(rows) == 4  # two runs on two devices
        assert rows.groupby("device")["hypervolume"].nunique().tolist() == [1, 1]

    def test_a_picture_of_another_kind_is_refused(self, finished, tmp_path):
        done = run("compare", finished, finished, "--out", tmp_path / "both.jpeg")
        assert done.exit_code == 2
        assert "both.jpeg" in done.output

    def test_one_run_is_no_comparison(self, finished):
        assert run("compare", finished).exit_code == 2


class TestDashboard:
    def test_a_directory_without_a_search_is_refused(self, tmp_path):
        assert run("dashboard", tmp_path).exit_code == 2


class TestExport:
    def test_a_configuration_names_what_was_chosen(self, finished, tmp_path):
        done = run("export", finished, "--pick", "knee", "--to", "config", "--out", tmp_path / "c")
        assert done.exit_code == 0, done.output
        config = json.loads((tmp_path / "c" / "config.json").read_text())
        _, point = eesearch.load_run(finished).pick("knee")
        assert config["design"] is None or config["policy"]["criterion"] == point.cal.policy.criterion
        assert config["expected"]["test"]["accuracy"] == point.test.accuracy

    def test_what_is_written_was_compared(self, finished, tmp_path):
        done = run("export", finished, "--pick", "knee", "--to", "torch", "--out", tmp_path / "t", "--check", 100)
        assert done.exit_code == 0, done.output
        assert "of 100 test samples get the network's answer at the network's exit" in done.output
        assert (tmp_path / "t" / "model.py").is_file()

    def test_another_format_is_refused_with_the_known_ones(self, finished, tmp_path):
        done = run("export", finished, "--pick", "knee", "--to", "tensorflow", "--out", tmp_path / "t")
        assert done.exit_code == 2
        assert "torch" in done.output
        assert not (tmp_path / "t").exists()

    def test_nothing_is_overwritten(self, finished, tmp_path):
        (tmp_path / "kept").write_text("mine")
        done = run("export", finished, "--pick", "knee", "--to", "config", "--out", tmp_path)
        assert done.exit_code == 2
        assert (tmp_path / "kept").read_text() == "mine"
        assert [p.name for p in tmp_path.iterdir()] == ["kept"]


class TestNaive:
    @pytest.fixture
    def optimistic(self, finished, tmp_path):
        """The run, as if every pick lost three points more on new samples than on calibration."""
        from eesearch.study.rundir import RunDir

        copy = shutil.copytree(finished, tmp_path / "run")
        answers = RunDir(copy).answers()
        devices = tuple(device.model_copy(update={"optimism": ((0.0, 0.03),)}) for device in answers.devices)
        (copy / "front.json").write_text(answers.model_copy(update={"devices": devices}).model_dump_json())
        return copy

    def test_front_shows_what_others_would_have_said(self, optimistic):
        def shown(*options):
            asked = ("front", optimistic, "--device", "macs", "--max-drop", "4%", "--format", "csv", *options)
            rows = pd.read_csv(io.StringIO(run(*asked).stdout))
            return rows["point"].tolist()[:-1]

        device = eesearch.load_run(optimistic).device("macs")
        drops = {str(n): device.drop(point) for n, point in enumerate(device.points)}
        assert shown("--naive") == [n for n, drop in drops.items() if drop <= 0.04]
        assert shown() == [n for n in drops if device.corrected(device.points[int(n)]) <= 0.04]
        assert 0 < len(shown()) < len(shown("--naive"))

    def test_the_table_tells_what_is_promised_and_what_came(self, optimistic):
        table, naive = (run("front", optimistic, "--device", "macs", *more).stdout for more in ((), ("--naive",)))
        assert "macs: what is promised, and what came" in table
        assert "*: the knee; drop:" in " ".join(table.split()), "none is expected to lose nothing, so no = is explained"
        assert "*: the knee; =: the cheapest that loses nothing on calibration; drop:" in " ".join(naive.split())

    def test_predict_and_export_take_what_others_would_have_taken(self, optimistic, tmp_path):
        found = eesearch.load_run(optimistic)
        device = found.device("macs")
        chosen = {name: device.within(0.04, naive=bool(name)) for name in ("", "--naive")}
        assert chosen[""] != chosen["--naive"]
        for name, point in chosen.items():
            options = ["--pick", "max-drop=4%@macs", *([name] if name else [])]
            out = tmp_path / f"config{name}"
            done = run("export", optimistic, "--to", "config", "--out", out, *options)
            assert done.exit_code == 0, done.output
            assert json.loads((out / "config.json").read_text())["expected"]["cal"] == json.loads(
                point.cal.model_dump_json()
            )
