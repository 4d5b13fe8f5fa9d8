"""Policies that nobody searched, as points."""

from math import inf

import pytest
import yaml

from eesearch.core.errors import PickError, PolicyError, RunError
from eesearch.core.policy import Policy, Stop
from eesearch.exporters.formats import export
from eesearch.study.compose import Composer
from eesearch.study.config import ExportedConfig
from eesearch.study.handmade import by_hand, exit_table
from eesearch.study.run import Run
from eesearch.study.rundir import RunDir
from eesearch.study.trial import Finished


@pytest.fixture
def run(made, given, tmp_path):
    problem = made()
    finished = [Finished(0, "bank", problem.first(), "", 1.0, "complete")]
    directory = RunDir(tmp_path / "run")
    directory.study_file.write_text(yaml.safe_dump(problem.study.model_dump(mode="json")))
    answers = Composer(problem).answers(finished, final=False)
    return Run(directory, answers, problem.materials.backbone, given.dataset.test.x)


@pytest.fixture
def design(run):
    (key,) = run.answers.designs
    return key


def at_one_exit(exit_id):
    return Policy(stops=(Stop(exit=exit_id, threshold=-inf),), criterion="max_prob")


def test_what_was_searched_is_the_same_by_hand(run, design):
    device = run.device()
    searched = next(p for p in device.points if not device.is_backbone(p))
    found, point = by_hand(run, design, searched.cal.policy)
    assert (point.cal, point.test) == (searched.cal, searched.test)
    assert found.ratio(point) == device.ratio(searched)
    assert point.stops == searched.stops


def test_everybody_leaves_at_one_exit(run, design):
    tables = {split: exit_table(run, design, split) for split in ("cal", "test")}
    picked = by_hand(run, design, at_one_exit(tables["cal"].exits[0]), "macs")
    assert picked.number == 0
    assert picked.point.cal.accuracy == pytest.approx(tables["cal"].accuracy[0])
    assert picked.point.test.accuracy == pytest.approx(tables["test"].accuracy[0])
    assert picked.device.ratio(picked.point) < 1.0


def test_it_is_exported_like_any_other(run, design, tmp_path):
    table = exit_table(run, design, "test")
    stops = (Stop(exit=table.exits[0], threshold=0.6), Stop(exit=table.exits[-1], threshold=-inf))
    picked = by_hand(run, design, Policy(stops=stops, criterion="max_prob"))
    exported = export(run, picked, "torch", tmp_path / "torch")
    assert (exported.checked, exported.differing) == (len(table.labels), 0)
    config = ExportedConfig.load(tmp_path / "torch" / "config.json")
    assert config.policy.stops == stops
    assert config.expected.test == picked.point.test
    assert config.stops == picked.point.stops
    assert [facts.share for facts in config.stops] == pytest.approx(picked.point.test.exit_rate)
    right = sum(facts.share * facts.accuracy for facts in config.stops)
    assert right == pytest.approx(picked.point.test.accuracy)


def test_what_the_run_does_not_hold_is_named(run, design):
    first = exit_table(run, design, "cal").exits[0]
    with pytest.raises(RunError, match="design other"):
        by_hand(run, "other", at_one_exit(first))
    with pytest.raises(RunError, match="test table of design other"):
        exit_table(run, "other", "test")
    with pytest.raises(RunError, match="fit lost"):
        by_hand(run, design, at_one_exit(first).model_copy(update={"fits": ("lost",)}))
    with pytest.raises(PickError):
        by_hand(run, design, at_one_exit(first), "cpu:eager:t1:b1")
    with pytest.raises(PolicyError):
        by_hand(run, design, at_one_exit(first.model_copy(update={"network": "another"})))
