import json
from math import inf

import pytest
import yaml

from eesearch.core.design import ASK, Design, ExitId, ExitSpec, HeadSpec, TrainSpec
from eesearch.core.errors import StudyError
from eesearch.core.front import CostSummary, Evaluation
from eesearch.core.policy import Policy, Stop
from eesearch.study.config import Expected, ExportedConfig, Provenance, stop_alphas

STUDY = {
    "name": "toy",
    "backbones": [{"model": "eesearch.nets.zoo:mlp", "args": {"features": 64}}],
    "data": {"source": "eesearch.training.data:digits"},
}


def exit_id(cut, head="linear-avg1"):
    return ExitId(network="n", cut=cut, head=head)


@pytest.fixture
def config():
    stops = (Stop(exit=exit_id("2"), threshold=0.1 + 0.2), Stop(exit=exit_id("output", "own"), threshold=1e-7))
    policy = Policy(stops=(*stops, Stop(exit=ASK, threshold=-inf)), criterion="max_prob", fits=("f",))
    costs = {"macs": CostSummary(mean=1.0 / 3.0, p95=2.0, worst=3.0)}
    said = Evaluation(policy=policy, design="d", accuracy=0.9, samples=50, exit_rate=(0.5, 0.25, 0.25), costs=costs)
    exits = (ExitSpec(cut="0", head=HeadSpec(), alpha=0.3), ExitSpec(cut="2", head=HeadSpec(), alpha=0.7))
    made = ExportedConfig(
        study=STUDY,
        design=Design(backbone="b", data="d", strategy="joint", exits=exits, train=TrainSpec()),
        policy=policy,
        fits={"temperature": ((0.4195246696472168,), (1.0,))},
        device="macs",
        axis="macs",
        expected=Expected(cal=said, test=said),
        pruned=("0:linear-avg1",),
        provenance=Provenance(eesearch="0", torch="2", data={}, backbone="b", run="r", created="2026-01-01T00:00:00"),
    )
    return made.model_copy(update={"key": made.content})


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_a_file_is_read_as_it_was_written(config, form, tmp_path):
    file = tmp_path / f"config.{form}"
    file.write_text(config.to_text(form))
    assert ExportedConfig.load(file) == config
    assert ExportedConfig.load(file).question().name == "toy"


def test_json_is_plain_json(config):
    fields = json.loads(config.to_text("json"), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert fields["policy"]["stops"][-1]["threshold"] == "-Infinity"


def test_the_key_is_of_the_content_and_not_of_where_it_comes_from(config):
    elsewhere = config.provenance.model_copy(update={"created": "2027-01-01T00:00:00"})
    assert config.model_copy(update={"provenance": elsewhere}).content == config.key
    assert config.model_copy(update={"device": "other"}).content != config.key


def edited(config, tmp_path, **changes):
    fields = json.loads(config.to_text("json")) | changes
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({name: value for name, value in fields.items() if value is not None}))
    return file


def test_an_edited_file_is_refused_until_its_key_is_deleted(config, tmp_path):
    file = edited(config, tmp_path, device="cpu:eager:t1:b1")
    with pytest.raises(StudyError, match=r"was edited by hand.*delete its line `key` to accept"):
        ExportedConfig.load(file)
    accepted = ExportedConfig.load(edited(config, tmp_path, device="cpu:eager:t1:b1", key=None))
    assert accepted.device == "cpu:eager:t1:b1"
    assert accepted.key == accepted.content


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "study"}, r"is no exported configuration; got kind 'study'.*--to config"),
        ({"version": 2}, "has version 2; expected version 1"),
        ({"axis": "smell", "colour": "red"}, r"2 mistakes(?s:.*)axis(?s:.*)colour: unknown field"),
        ({"design": {"strategy": "joint"}}, r"design\.backbone: this field is needed"),
    ],
)
def test_mistakes_are_told(config, tmp_path, changes, message):
    with pytest.raises(StudyError, match=message):
        ExportedConfig.load(edited(config, tmp_path, **changes))


@pytest.mark.parametrize("text", ["- a\n", "{", "\x00", "a: [1"])
def test_something_else_is_told_to_be_none(tmp_path, text):
    for name in ("config.yaml", "config.json"):
        file = tmp_path / name
        file.write_text(text)
        with pytest.raises(StudyError, match=r"cannot read|is no exported configuration"):
            ExportedConfig.load(file)
    with pytest.raises(StudyError, match="cannot read"):
        ExportedConfig.load(tmp_path / "nothing.yaml")


def test_a_study_with_mistakes_is_told(config):
    broken = config.model_copy(update={"study": {**STUDY, "devices": []}})
    with pytest.raises(StudyError, match="devices"):
        broken.question()


def test_alphas_of_the_stops(config):
    assert stop_alphas(config) == (0.7, 1.0), "that of its exit, 1 for the own classifier, none for a last resort"
    separate = config.design.model_copy(update={"strategy": "separate"})
    assert stop_alphas(config.model_copy(update={"design": separate})) == (1.0, 1.0), "each exit learnt for itself"
