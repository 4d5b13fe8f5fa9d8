import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from eesearch.core.errors import StudyError
from eesearch.study.files import copy_example, load_study, schema, shipped
from eesearch.study.question import Study, differences

ROOT = Path(__file__).parents[3]
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


@pytest.mark.parametrize("value", ["2024-01-01", "[{a: 2024-01-01 10:00:00}]", "!!binary aGVsbG8="])
def test_arguments_that_are_no_json_are_told_with_their_paths(value, tmp_path):
    args, path = f"{{since: {value}}}", "args.since" + (".0.a" if "[" in value else "")
    file = tmp_path / "s.yaml"
    file.write_text(f"name: a\nbackbone: {{model: p:f, args: {args}}}\ndata: {{source: p:g, args: {args}}}\nsed: 3\n")
    with pytest.raises(StudyError) as caught:
        load_study(file)
    message = str(caught.value)
    assert message.startswith("3 mistakes in")
    assert f"  backbone.{path}: expected a number, a word or a list; got " in message
    assert f"  data.{path}: expected a number" in message
    quoted = yaml.safe_load("{since: '2024-01-01', whole: 1, parts: [0.5, true, null]}")
    assert load_study(write(file, MINIMAL | {"data": {"source": "p:g", "args": quoted}})).data.args == quoted


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


def test_networks_in_folders_are_found_from_any_directory(tmp_path, monkeypatch):
    (tmp_path / "bert").mkdir()
    monkeypatch.chdir(tmp_path)
    for model, resolved in {
        "hf:bert": f"hf:{tmp_path}/bert",
        "hf:user/bert": "hf:user/bert",
        "bert:fn": "bert:fn",
    }.items():
        found = load_study(write(tmp_path / "s.yaml", MINIMAL | {"backbone": {"model": model}})).backbone
        assert (found.model, found.weights) == (resolved, None)


def test_files_are_utf8_whatever_the_locale_says(tmp_path, monkeypatch):
    monkeypatch.setattr("io.text_encoding", lambda encoding, stacklevel=2: encoding or "ascii")
    file, text = tmp_path / "s.yaml", yaml.safe_dump(MINIMAL | {"data": {"source": "Größe.npz"}}, allow_unicode=True)
    with pytest.raises(UnicodeEncodeError):
        file.write_text(text)
    file.write_text(text, encoding="utf-8")
    assert Path(load_study(file).data.source).name == "Größe.npz"
    monkeypatch.setattr("eesearch.study.files.shipped", lambda folder: {"mine": file})
    assert copy_example("mine", tmp_path / "copied.yaml") == [tmp_path / "copied.yaml"]
    assert (tmp_path / "copied.yaml").read_text(encoding="utf-8") == text


def test_schemas_are_json_and_refuse_unknown_fields():
    for kind in ("study", "space"):
        assert json.loads(json.dumps(schema(kind)))["additionalProperties"] is False
    with pytest.raises(StudyError, match="study or space"):
        schema("model")


def written(*folders):
    return [(file.relative_to(ROOT).as_posix(), file) for folder in folders for file in (ROOT / folder).glob("*.yaml")]


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        *(pytest.param("study", file, id=name) for name, file in written("studies", "benchmarks/studies")),
        *(pytest.param("space", file, id=name) for name, file in written("search_spaces")),
    ],
)
def test_files_that_ship_have_their_schema(kind, file):
    jsonschema.validate(yaml.safe_load(file.read_text(encoding="utf-8")), schema(kind))


@pytest.mark.parametrize(
    "fields",
    [
        {"budget": {"timeout": "30m"}, "objectives": {"max_drop": "30%", "constraints": {"max_memory_mb": 2}}},
        {"budget": {"timeout": 90}, "objectives": {"max_drop": 0.25}, "space": "small_cnn"},
        {
            "backbone": {"model": "pkg:fn", "vary": {"width": [8, 16]}},
            "data": {"source": "a", "class_weights": "balanced"},
        },
    ],
)
def test_what_a_person_may_write_has_the_schema(fields):
    jsonschema.validate(MINIMAL | fields, schema("study"))


@pytest.mark.parametrize(
    "fields",
    [
        {"budget": {"timeout": "soon"}},
        {"objectives": {"max_drop": 0.3}},
        {"objectives": {"max_drop": "a lot"}},
        {"backbone": [{"model": "pkg:fn"}]},
        {"backbones": [{"model": "pkg:fn"}]},
        {"sed": 3},
    ],
)
def test_what_is_refused_has_not_the_schema(fields, tmp_path):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(MINIMAL | fields, schema("study"))
    with pytest.raises(StudyError):
        load_study(write(tmp_path / "s.yaml", MINIMAL | fields))


def test_a_resolved_study_has_the_schema():
    jsonschema.validate(load_study("digits").model_dump(mode="json"), schema("study"))


def test_only_budget_devices_and_objectives_may_change():
    old = Study.model_validate(MINIMAL)
    new = Study.model_validate(
        MINIMAL | {"budget": {"trials": 99}, "devices": ["macs"], "objectives": {"max_drop": "1%"}, "seed": 4}
    )
    assert differences(old, new) == [("seed", 0, 4)]
    assert new.objectives.max_drop == pytest.approx(0.01)


def test_files_that_lie_elsewhere_are_no_other_study():
    def placed(folder, **data):
        networks = [{"name": name, "model": "pkg:fn", "weights": f"{folder}/{name}.pt"} for name in ("small", "large")]
        data = {"source": f"hf:{folder}/images", "args": {"root": f"{folder}/x"}, "tokenizer": f"{folder}/bert"} | data
        return Study.model_validate({"name": "mine", "backbones": networks, "data": data})

    assert differences(placed("/home/me"), placed("/mnt/me")) == []
    renamed = placed("/mnt/me", source="hf:/mnt/me/others")
    assert differences(placed("/home/me"), renamed) == [("data.source", "hf:/home/me/images", "hf:/mnt/me/others")]
    words = placed("/mnt/me", args={"root": "y"})
    assert differences(placed("/home/me"), words) == [("data.args.root", "/home/me/x", "y")]
