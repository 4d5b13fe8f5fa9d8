import json
import sys

import pytest
import torch
from torch import nn

from eesearch.core.errors import ModelError
from eesearch.nets import zoo
from eesearch.nets.sources import build_model, load_weights, normalization_of
from eesearch.nets.split import split


def refused(source, args=None):
    with pytest.raises(ModelError) as caught:
        build_model(source, args or {}, 0)
    return str(caught.value)


def test_functions_with_and_without_a_prefix_and_the_seed_decides():
    args = {"features": 4, "hidden": [3], "classes": 2}
    first = build_model("eesearch.nets.zoo:mlp", args, 0)
    again = build_model("import:eesearch.nets.zoo:mlp", args, 0)
    other = build_model("eesearch.nets.zoo:mlp", args, 1)
    assert torch.equal(first[1].weight, again[1].weight)
    assert not torch.equal(first[1].weight, other[1].weight)


def test_every_network_comes_in_single_precision(monkeypatch):
    def build(**args):
        model = zoo.mlp(**args).double()
        model.register_buffer("count", torch.zeros(1, dtype=torch.int64))
        return model

    monkeypatch.setattr(zoo, "in_double", build, raising=False)
    model = build_model("eesearch.nets.zoo:in_double", {"features": 4}, 0)
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    assert model.count.dtype == torch.int64


def test_refuses_what_makes_no_model():
    assert "'mlp' names no model; expected timm:NAME, torchvision:NAME" in refused("mlp")
    assert "module 'eesearch.nets.zoo' has no 'nothing'" in refused("eesearch.nets.zoo:nothing")
    assert "json:dumps failed; got TypeError" in refused("json:dumps")
    assert "json:dumps returned no model; got str" in refused("json:dumps", {"obj": 1})


class TestLibraries:
    def test_timm(self):
        pytest.importorskip("timm")
        model = build_model("timm:resnet10t", {"num_classes": 3}, 0)
        assert model.num_classes == 3
        assert normalization_of(model)[0] == pytest.approx((0.485, 0.456, 0.406))
        assert "timm has no model 'resnet19'; expected one of its" in refused("timm:resnet19")
        assert "resnet18" in refused("timm:resnet19")

    def test_torchvision(self):
        pytest.importorskip("torchvision")
        model = build_model("torchvision:squeezenet1_1", {"num_classes": 3}, 0)
        assert model(torch.rand(1, 3, 64, 64)).shape == (1, 3)
        assert normalization_of(model)[1] == pytest.approx((0.229, 0.224, 0.225))
        assert "torchvision has no model 'resnet19'" in refused("torchvision:resnet19")

    def test_missing_libraries_are_told_how_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "timm", None)
        assert "pip install 'eesearch[vision]'" in refused("timm:resnet18")
        monkeypatch.setitem(sys.modules, "transformers", None)
        assert "pip install 'eesearch[hf]'" in refused("hf:somewhere")


class TestTransformers:
    @pytest.fixture(autouse=True)
    def library(self):
        self.transformers = pytest.importorskip("transformers")

    def save(self, folder, **settings):
        config = self.transformers.BertConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=11, **settings
        )
        model = self.transformers.BertForSequenceClassification(config)
        model.save_pretrained(folder)
        return model

    def test_a_folder_comes_with_its_weights_unless_they_are_not_wanted(self, tmp_path):
        saved = self.save(tmp_path / "bert", num_labels=3)
        found = build_model(f"hf:{tmp_path / 'bert'}", {}, 0)
        assert all(torch.equal(a, b) for a, b in zip(found.parameters(), saved.parameters(), strict=True))
        bare = build_model(f"hf:{tmp_path / 'bert'}", {"pretrained": False}, 0)
        assert not torch.equal(bare.classifier.weight, saved.classifier.weight)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_a_checkpoint_of_another_precision_comes_in_single_precision(self, tmp_path, dtype):
        saved = self.save(tmp_path / "bert").to(dtype)
        saved.save_pretrained(tmp_path / "bert")
        found = build_model(f"hf:{tmp_path / 'bert'}", {}, 0)
        assert {tensor.dtype for tensor in found.parameters()} == {torch.float32}
        assert torch.equal(found.classifier.weight, saved.classifier.weight.float())
        assert split(found, torch.randint(1, 11, (2, 5))).cuts  # 0 pads

    def test_a_class_that_transformers_lacks(self, tmp_path):
        self.save(tmp_path / "bert")
        config = json.loads((tmp_path / "bert" / "config.json").read_text())
        config["architectures"] = ["MineForSequenceClassification"]
        (tmp_path / "bert" / "config.json").write_text(json.dumps(config))
        message = refused(f"hf:{tmp_path / 'bert'}")
        assert "does not have; got MineForSequenceClassification" in message

    def test_a_name_that_is_not_in_the_cache_fails_at_once(self):
        message = refused("hf:nobody/has-this")
        assert "there is no network 'nobody/has-this' here" in message
        assert "write `hf:FOLDER`" in message

    def test_refuses_other_questions(self, tmp_path):
        self.save(tmp_path / "multi", problem_type="multi_label_classification")
        message = refused(f"hf:{tmp_path / 'multi'}")
        assert "answers another question; got problem_type multi_label_classification" in message
        config = json.loads((tmp_path / "multi" / "config.json").read_text()) | {"architectures": ["BertModel"]}
        (tmp_path / "multi" / "config.json").write_text(json.dumps(config))
        assert "is no classifier; got architectures ['BertModel']" in refused(f"hf:{tmp_path / 'multi'}")

    def test_normalization_of_a_name_is_in_the_cache(self, tmp_path, monkeypatch):
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        place, revision = tmp_path / "models--some--network", "0" * 40
        for file, text in (
            ("refs/main", revision),
            (f"snapshots/{revision}/preprocessor_config.json", '{"image_mean": [0.5], "image_std": [0.25]}'),
        ):
            (place / file).parent.mkdir(parents=True)
            (place / file).write_text(text)
        model = nn.Linear(2, 2)
        model.name_or_path = "some/network"
        assert normalization_of(model) == ((0.5,), (0.25,))
        for other in ("another/network", "no such/place at all"):
            model.name_or_path = other
            with pytest.raises(ModelError, match="does not say how its images are normalised"):
                normalization_of(model)

    def test_normalization_stands_beside_the_weights(self, tmp_path):
        file = tmp_path / "preprocessor_config.json"
        file.write_text(json.dumps({"image_mean": [0.5], "image_std": [0.25]}))
        model = nn.Linear(2, 2)
        model.name_or_path = str(tmp_path)
        assert normalization_of(model) == ((0.5,), (0.25,))
        for other in ({"do_normalize": False}, {"do_rescale": False}, {"rescale_factor": 1.0}):
            file.write_text(json.dumps({"image_mean": [0.5], "image_std": [0.25]} | other))
            with pytest.raises(ModelError, match="does not say how its images are normalised"):
                normalization_of(model)


def test_a_network_of_one_s_own_does_not_say_how_it_is_normalised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where another network's figures lie
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5], "image_std": [0.25]}))
    with pytest.raises(ModelError, match="does not say how its images are normalised"):
        normalization_of(nn.Linear(2, 2))


def test_weights_are_read_onto_the_cpu_wherever_they_were_saved(tmp_path, monkeypatch):
    load, places = torch.load, []
    torch.save(nn.Linear(4, 2).state_dict(), tmp_path / "w.pt")
    monkeypatch.setattr(torch, "load", lambda *a, **o: places.append(o["map_location"]) or load(*a, **o))
    load_weights(nn.Linear(4, 2), tmp_path / "w.pt")
    assert places == ["cpu"]


def test_weights_of_another_architecture(tmp_path):
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "w.pt")
    with pytest.raises(ModelError, match="holds weights of another architecture"):
        load_weights(nn.Linear(4, 2), tmp_path / "w.pt")
