import json
from pathlib import Path

import pytest
import yaml

from eesearch.core.errors import StudyError
from eesearch.study.files import copy_example, load_study, schema, shipped
from eesearch.study.question import Study, differences

MINIMAL = {"name": "mine", "backbone": {"model": "pkg:fn"}, "data": {"source": "data.npz"}}


def write(path, fields):
    path.write_text(yaml.safe_dump(fields))
    return path


def test_three_mistakes_are_told_at_once_with_their_paths(tmp_path):
    fields = MINIMAL | {"sed": 3, "budget": {"trials": 0}, "training": {"lr": "fast"}}
    with pytest.raises(StudyError) as caught:
        load_study(write(tmp_path / "s.yaml", fields))
    message = str(caught.value)
    assert message.startswith("3 mistakes in")
    assert "sed: unknown field" in message
    assert "budget.trials: input should be greater than or equal to 1; got 0" in message
    assert "training.lr: input should be a valid number" in message


def test_mistakes_of_a_space_have_their_path_below_space(tmp_path):
    fields = MINIMAL | {"space": {"heads": [{"kind": "nope"}], "criteria": ["max_prob", "vibes"]}}
    with pytest.raises(StudyError) as caught:
        load_study(write(tmp_path / "s.yaml", fields))
    known = "boosting, conv, dsconv, linear, logistic, mlp, svm, tree"
    assert f"space.heads: there is no head 'nope'; expected one of {known}" in str(caught.value)
    assert "space.criteria: there is no criterion 'vibes'" in str(caught.value)


def test_backbone_is_short_for_backbones_with_one_entry(tmp_path):
    short = load_study(write(tmp_path / "a.yaml", MINIMAL))
    fields = {k: v for k, v in MINIMAL.items() if k != "backbone"} | {"backbones": [MINIMAL["backbone"]]}
    assert load_study(write(tmp_path / "b.yaml", fields)) == short
    with pytest.raises(StudyError, match="networks need names of their own"):
        load_study(write(tmp_path / "c.yaml", fields | {"backbones": [MINIMAL["backbone"]] * 2}))


def test_numbers_that_yaml_reads_as_text(tmp_path):
    (tmp_path / "s.yaml").write_text("name: a\nbackbone: {model: p:f}\ndata: {source: d.npz}\ntraining: {lr: 1e-3}\n")
    assert load_study(tmp_path / "s.yaml").training.lr == 1e-3


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), (45, 45)])
def test_durations(tmp_path, text, seconds):
    assert load_study(write(tmp_path / "s.yaml", MINIMAL | {"budget": {"timeout": text}})).budget.timeout == seconds


def test_overrides(tmp_path):
    file = write(tmp_path / "s.yaml", MINIMAL)
    study = load_study(file, ["budget.trials=3", "backbone.weights=w.safetensors", "space.heads=[{kind: linear}]"])
    assert study.budget.trials == 3
    assert study.backbone.weights == str(Path("w.safetensors").absolute()), "usable from any directory"
    assert len(study.space.heads) == 1


@pytest.mark.parametrize("override", ["nothing", "budget.trials=[", "name.x=1", "backbones.7.model=a"])
def test_overrides_that_cannot_be(tmp_path, override):
    fields = {k: v for k, v in MINIMAL.items() if k != "backbone"} | {"backbones": [MINIMAL["backbone"]]}
    with pytest.raises(StudyError, match="--set"):
        load_study(write(tmp_path / "s.yaml", fields), [override])


@pytest.mark.parametrize("text", ["a: [", "- 1\n", "just text"])
def test_files_that_hold_no_study(tmp_path, text):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(StudyError, match=r"s\.yaml"):
        load_study(tmp_path / "s.yaml")


def test_a_file_that_is_not_there_names_the_shipped_studies():
    with pytest.raises(StudyError, match="digits"):
        load_study("nowhere.yaml")


def test_a_resolved_study_reads_back_as_itself(tmp_path):
    study = load_study("digits")
    file = write(tmp_path / "resolved.yaml", study.model_dump(mode="json"))
    assert load_study(file) == study


@pytest.mark.parametrize("name", sorted(shipped("studies")))
def test_shipped_studies_are_valid(name):
    assert load_study(name).name == name


def test_examples_are_copied_with_their_space_and_run_as_they_are(tmp_path):
    written = copy_example("digits", tmp_path / "mine.yaml")
    assert [p.name for p in written] == ["mine.yaml", "mine_space.yaml"]
    assert load_study(tmp_path / "mine.yaml") == load_study("digits")
    with pytest.raises(StudyError, match="there already"):
        copy_example("digits", tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("data", "resolved"),
    [
        ({"source": "a.npz"}, {"source": "{here}/a.npz"}),
        ({"source": "images"}, {"source": "{here}/images"}),
        (
            {"source": "a.csv", "args": {"test": "b.csv", "label": "x"}},
            {"source": "{here}/a.csv", "args": {"test": "{here}/b.csv", "label": "x"}},
        ),
        (
            {"source": "torchvision:CIFAR10", "args": {"root": "images"}},
            {"source": "torchvision:CIFAR10", "args": {"root": "{here}/images"}},
        ),
        ({"source": "hf:images", "tokenizer": "images"}, {"source": "hf:{here}/images", "tokenizer": "{here}/images"}),
        ({"source": "hf:user/name", "tokenizer": "user/name"}, {"source": "hf:user/name", "tokenizer": "user/name"}),
        (
            {"source": "import:pkg.mod:fn", "args": {"root": "a"}},
            {"source": "import:pkg.mod:fn", "args": {"root": "a"}},
        ),
    ],
)
def test_data_are_found_from_any_directory(data, resolved, tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path)
    found = load_study(write(tmp_path / "s.yaml", MINIMAL | {"data": data})).data.model_dump(exclude_unset=True)
    expected = json.loads(json.dumps(resolved).replace("{here}", str(tmp_path)))
    assert {key: found[key] for key in expected} == expected


def test_schemas_are_json_and_refuse_unknown_fields():
    for kind in ("study", "space"):
        assert json.loads(json.dumps(schema(kind)))["additionalProperties"] is False
    with pytest.raises(StudyError, match="study or space"):
        schema("model")


def test_only_budget_devices_and_objectives_may_change():
    old = Study.model_validate(MINIMAL)
    new = Study.model_validate(
        MINIMAL | {"budget": {"trials": 99}, "devices": ["macs"], "objectives": {"max_drop": "1%"}, "seed": 4}
    )
    assert differences(old, new) == [("seed", 0, 4)]
    assert new.objectives.max_drop == pytest.approx(0.01)
