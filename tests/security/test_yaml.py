"""YAML makes plain values only."""

import pytest
import yaml

from eesearch.core.errors import StudyError
from eesearch.study.config import ExportedConfig
from eesearch.study.files import load_study


@pytest.fixture
def tag(marker):
    return f"!!python/object/apply:os.mkdir ['{marker}']"


def test_the_tag_would_do_harm(tag, marker):
    yaml.unsafe_load(tag)
    assert marker.exists()


def test_in_a_study(tag, tmp_path, marker, cli):
    (tmp_path / "study.yaml").write_text(f"name: {tag}\n")
    with pytest.raises(StudyError, match="could not determine a constructor"):
        load_study(tmp_path / "study.yaml")
    for verb in ("search", "profile"):
        assert cli(verb, tmp_path / "study.yaml").exit_code == 2
    assert not marker.exists()


def test_in_a_search_space(tag, tmp_path, marker, cli):
    (tmp_path / "space.yaml").write_text(f"max_exits: {tag}\n")
    assert cli("search", "digits", "--set", f"space={tmp_path / 'space.yaml'}", "--dry-run").exit_code == 2
    assert not marker.exists()


@pytest.mark.parametrize("form", ["seed={}", "backbone.args={{x: {}}}", "space={}"])
def test_in_an_override(tag, form, marker, cli):
    done = cli("search", "digits", "--dry-run", "--set", form.format(tag))
    assert done.exit_code == 2
    assert "a value in YAML" in done.output
    assert not marker.exists()


def test_in_a_run_directory(tag, run, marker, cli):
    (run / "study.yaml").write_text(f"name: {tag}\n")
    for verb in (["policies", run], ["store", run], ["export", run, "--to", "config", "--out", run / "out"]):
        assert cli(*verb).exit_code == 2
    assert not marker.exists()


def test_in_an_exported_configuration(tag, tmp_path, marker, cli):
    (tmp_path / "chosen.yaml").write_text(f"kind: eesearch-config\nversion: 1\nkey: {tag}\n")
    with pytest.raises(StudyError, match="cannot read"):
        ExportedConfig.load(tmp_path / "chosen.yaml")
    assert cli("train", tmp_path / "chosen.yaml").exit_code == 2
    assert not marker.exists()
