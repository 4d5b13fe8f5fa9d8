"""From a chosen point back to a training, and to a search that starts from it."""

import json

import pytest
from typer.testing import CliRunner

from eesearch.cli import app
from eesearch.exporters.chosen import choose
from eesearch.study.retrain import Retraining, active_exits, retraining
from eesearch.study.run import Run


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def config(searched):
    """The front point with the most exits on cuts."""
    device = next(d for d in searched.answers.devices if d.device == "macs")
    number = max(range(len(device.points)), key=lambda n: len(device.points[n].cal.policy.stops))
    return choose(Run.load(searched.directory.path), f"point={number}@macs").config


@pytest.fixture
def file(config, tmp_path):
    path = tmp_path / "chosen.yaml"
    path.write_text(config.to_text("yaml"))
    return path


class TestTraining:
    def test_the_exits_of_the_policy_are_trained_and_no_others(self, file, config, tmp_path):
        done = run("train", file, "--epochs", 2, "--from", "backbone", "--run", tmp_path / "again", "--quiet")
        assert done.exit_code == 0, done.output
        again = Run.load(tmp_path / "again")
        (trial,) = again.answers.trials
        assert trial.exits == tuple(f"{e.cut}:{e.head.name}" for e in active_exits(config))
        assert trial.origin == "design"
        assert "Trained again" in done.output
        assert f"of which {len(config.pruned)} are not among its stops" in done.output
        kept = again.directory.store.get("weights", trial.design)
        assert [h["cut"] for h in json.loads(kept[1]["heads"])] == [e.cut for e in active_exits(config)]

    def test_the_same_command_continues(self, file, tmp_path):
        command = ("train", file, "--epochs", 1, "--from", "backbone", "--run", tmp_path / "again", "--quiet")
        first, second = run(*command), run(*command)
        assert (first.exit_code, second.exit_code) == (0, 0), second.output
        assert first.output == second.output

    def test_it_starts_from_random_weights_if_asked(self, config, tmp_path):
        joint = config.design.model_copy(update={"strategy": "joint"})
        study = retraining(config.model_copy(update={"design": joint}), Retraining(epochs=3))
        assert study.design.scratch
        assert study.design.train.lr == study.training.lr
        assert study.design.train.epochs == 3
        assert study.budget.trials == 1

    def test_from_scratch_really_starts_anew(self, config, tmp_path):
        from eesearch.api import search_study

        joint = config.design.model_copy(update={"strategy": "joint"})
        study = retraining(
            config.model_copy(update={"design": joint}), Retraining(epochs=0, overrides=["devices=[macs]"])
        )
        found = search_study(study, tmp_path / "untrained")
        assert found.answers.trials[0].last_accuracy < 0.5 < found.answers.devices[0].backbone.cal.accuracy

    def test_options_reach_the_training(self, file, tmp_path, monkeypatch):
        from eesearch import api
        from eesearch.core.errors import InputError

        seen = []

        def search(question, path, **options):
            seen.append(question)
            raise InputError("enough")

        monkeypatch.setattr(api, "search_study", search)
        assert "enough" in run("train", file, "--max-cache", 2.5, "--run", tmp_path / "r").output
        assert seen[0].budget.max_cache_gb == 2.5

    def test_a_bank_cannot_start_from_random_weights(self, config, tmp_path):
        bank = config.design.model_copy(update={"strategy": "separate"})
        path = tmp_path / "bank.json"
        path.write_text(config.model_copy(update={"design": bank, "key": ""}).to_text("json"))
        done = run("train", path, "--from", "scratch", "--run", tmp_path / "r")
        assert done.exit_code == 2
        assert "keeps the backbone as it is" in done.output
        assert not (tmp_path / "r").exists()

    def test_the_unmodified_backbone_is_refused(self, config, tmp_path):
        path = tmp_path / "backbone.json"
        path.write_text(config.model_copy(update={"design": None, "key": ""}).to_text("json"))
        done = run("train", path)
        assert done.exit_code == 2
        assert "unmodified backbone" in done.output


class TestWarmStart:
    def test_a_configuration_is_the_first_design_that_is_trained(self, file, config, tiny, tmp_path):
        import yaml

        study = tmp_path / "study.yaml"
        study.write_text(yaml.safe_dump(tiny | {"budget": {"trials": 2}}))
        done = run("search", study, "--warm-start", file, "--run", tmp_path / "run", "--quiet")
        assert done.exit_code == 0, done.output
        warm = Run.load(tmp_path / "run").answers.trials[1]
        assert warm.origin == f"warm start {config.key[:8]}"
        assert warm.exits == tuple(f"{e.cut}:{e.head.name}" for e in active_exits(config))

    def test_a_head_that_the_space_lacks_is_named(self, file, config, tiny, tmp_path):
        import yaml

        heads = [{"kind": "mlp", "pool": "avg", "size": 1, "hidden": [5]}]
        study = tmp_path / "study.yaml"
        study.write_text(yaml.safe_dump(tiny | {"space": tiny["space"] | {"heads": heads}}))
        done = run("search", study, "--warm-start", file, "--run", tmp_path / "run", "--quiet")
        assert done.exit_code == 2
        assert active_exits(config)[0].head.name in done.output

    def test_a_file_that_is_no_configuration_is_refused(self, tmp_path):
        other = tmp_path / "other.yaml"
        other.write_text("name: digits\n")
        done = run("search", "digits", "--warm-start", other, "--run", tmp_path / "run")
        assert done.exit_code == 2
        assert "no exported configuration" in done.output
