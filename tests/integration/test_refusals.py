"""Networks and data that cannot be used: one message that says what, what was got, what was expected and what to do."""

import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from eesearch.nets.zoo import mlp, residual_cnn
from tests.integration.command import refused, run, study_file

DIGITS = "eesearch.training.data:digits"
CNN = ("--model", "eesearch.nets.zoo:residual_cnn", "--arg", "channels=[8, 16]")
NETWORKS = """
import torch
from torch import nn

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(64, 10)

    def forward(self, x):
        y = self.body(x.flatten(1))
        return y if y.sum() > 0 else -y

class Two(Own):
    def forward(self, left, right):
        return self.body(left.flatten(1)) + right

class Keyword(Own):
    def forward(self, x, *, mask):
        return self.body(x.flatten(1)) * mask

class Shaped(Own):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        y = self.body(x.flatten(1))
        return {"tuple": (y, y), "N": y[:, 0], "NCH": y[:, :, None], "N1": y[:, :1], "dict": {"logits": y}}[self.shape]

class Looped(nn.Module):
    def __init__(self):
        super().__init__()
        self.flat, self.layer, self.act, self.last = nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)

    def forward(self, x):
        return self.last(self.act(self.layer(self.act(self.layer(self.flat(x))))))

def scripted():
    return torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))

def words(count):
    return nn.Sequential(nn.Embedding(count, 4), nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
"""


@pytest.fixture
def message(tmp_path, monkeypatch):
    """What `eesearch init` says of a network and data that it refuses, with nothing written."""
    (tmp_path / "refusable.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "study.yaml"

    def ask(*arguments, data=DIGITS):
        result = run("init", *arguments, "--data", data, "--device", "macs", "--out", out)
        refused(result)
        assert not out.exists()
        return one_message(result)

    yield ask
    sys.modules.pop("refusable", None)


def one_message(result):
    """The only thing that was said."""
    (said,) = result.stderr.strip().split("\n\n")
    assert said.startswith("error: ")
    assert result.stdout == ""
    return " ".join(said.removeprefix("error: ").split())


def test_control_flow_that_depends_on_values(message):
    assert message("--model", "refusable:Own") == (
        "SplitError: cannot split Own: its own forward cannot be traced; got TraceError: symbolically traced variables "
        "cannot be used as inputs to control flow; expected a forward without control flow that depends on values, or "
        "assignment to parts of them. Move such code into a submodule (it is kept whole then), or write the model as "
        "nn.Sequential of its blocks."
    )


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_a_network_that_is_compiled(message):
    assert message("--model", "refusable:scripted") == (
        "SplitError: cannot split a network that is compiled by TorchScript; got RecursiveScriptModule; expected a "
        "module whose forward is Python. Give the module that it was made of."
    )


@pytest.mark.parametrize(("name", "inputs"), [("Two", "left, right"), ("Keyword", "x, mask")])
def test_two_inputs(message, name, inputs):
    assert message("--model", f"refusable:{name}") == (
        f"ModelError: {name} wants several inputs; got forward({inputs}); expected one tensor of samples [N, ...]. "
        "Wrap it in a module that takes one tensor and makes the others of it, or write an adapter for it."
    )


@pytest.mark.parametrize(
    ("shape", "got"),
    [
        ("tuple", "tuple of 2"),
        ("N", "a tensor [2]"),
        ("NCH", "a tensor [2, 10, 1]"),
        ("N1", "a tensor [2, 1]"),
        ("dict", "dict with keys logits"),
    ],
)
def test_outputs_that_are_no_logits(message, shape, got):
    assert message("--model", "refusable:Shaped", "--arg", f"shape={shape}") == (
        f"ModelError: Shaped does not return logits; got {got}; expected one tensor [N, C] (here N = 2). Wrap it in a "
        "module whose forward returns the logits alone."
    )


def test_another_number_of_classes(message):
    assert message(*CNN, "--arg", "in_channels=1", "--arg", "classes=7") == (
        "ModelError: the model does not fit the data; got 7 outputs; expected one for each of the 10 classes. Make the "
        "model with so many outputs, by its args, or check the labels of the data."
    )


@pytest.mark.parametrize(
    ("other", "got"),
    [
        (mlp(features=4), "32 missing: stem.0.weight, stem.1.weight, stem.1.bias, ...; 6 unknown: 1.bias, 1.weight, "),
        (
            residual_cnn(channels=(8, 12)),
            "16 of another shape: stages.1.0.conv1.weight [12, 8, 3, 3] for [16, 8, 3, 3], ",
        ),
    ],
    ids=["names", "shapes"],
)
def test_weights_of_another_architecture(message, tmp_path, other, got):
    file = tmp_path / "other.safetensors"
    save_file(other.state_dict(), file)
    said = message(*CNN, "--arg", "in_channels=1", "--weights", file)
    assert said.startswith(f"ModelError: {file} holds weights of another architecture; got {got}")
    assert said.endswith(
        ", ...; expected the tensors of ResidualCnn. Check backbone.model and its args, or name the file that was "
        "saved from this model."
    )


@pytest.mark.parametrize("trained", [False, True])
def test_grey_images_into_a_network_of_colours(message, tmp_path, trained):
    file = tmp_path / "colours.safetensors"
    save_file(residual_cnn(channels=(8, 16), in_channels=3).state_dict(), file)
    weights = ("--weights", file) if trained else ()
    said = message(*CNN, "--arg", "in_channels=3", *weights)
    assert said.startswith("ModelError: ResidualCnn does not run on the example; got RuntimeError on torch.uint8 [")
    assert said.endswith(
        "to have 3 channels, but got 1 channels instead. Bring both to the same channels: the model's by its args "
        "(timm: in_chans: 1), those of a folder of images by the data's args (mode: RGB), those of arrays by repeating "
        "them."
    )


def test_means_of_three_channels_do_not_make_three_of_one(tiny, tmp_path):
    tiny["backbone"]["args"] |= {"in_channels": 3}
    tiny["input"] = {"scale": 0.0625, "mean": [0.3, 0.3, 0.3], "std": [0.4, 0.4, 0.4]}
    result = run("search", study_file(tmp_path, tiny), "--run", tmp_path / "run", "--quiet", "--dry-run")
    refused(result)
    said = " ".join(result.stderr.split())
    assert "ModelError: the input section does not fit the data; got mean and std of 3 channels for samples" in said
    assert "[1, 8, 8]; expected 1 of each, or one for all. Bring both to the same channels:" in said


def test_a_profile_that_is_not_there_is_told_by_a_dry_run_too(tiny, tmp_path):
    file = study_file(tmp_path, tiny | {"devices": ["pi4.json"]})
    for dry in ((), ("--dry-run",)):
        result = run("search", file, "--run", tmp_path / "run", "--quiet", *dry)
        refused(result, "CostError: the", "pi4.json", "Check its path")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("input", {"scale": 0}, "input.scale: input should be greater than 0"),
        (
            "data",
            {"source": DIGITS, "class_weights": "balancd"},
            "data.class_weights: expected `balanced`, or",
        ),
        ("data", {"source": DIGITS, "class_weights": [1, 2]}, "data.class_weights: expected `balanced`, or"),
    ],
)
def test_fields_that_make_no_sense(tiny, tmp_path, field, value, said):
    refused(run("search", study_file(tmp_path, tiny | {field: value}), "--run", tmp_path / "run"), said, "1 mistake in")


def test_an_empty_folder_of_images(message, tmp_path):
    (tmp_path / "photos").mkdir()
    assert message(*CNN, data=tmp_path / "photos") == (
        f"DataError: the folder {tmp_path / 'photos'} is empty: there are no images; got no folder in it; expected "
        "FOLDER/train/CLASS/IMAGE and FOLDER/test/CLASS/IMAGE, or FOLDER/CLASS/IMAGE and a test_share. Put the images "
        "there, in a folder for each class, or check data.source."
    )


def test_a_tokenizer_of_more_words_than_the_network(message, tmp_path):
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    known = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "good", "bad"])}
    plain = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path / "words"
    transformers.PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="[PAD]").save_pretrained(folder)
    file = tmp_path / "texts.csv"
    file.write_text("text,label\n" + "good,1\nbad,0\n" * 20)
    network = ("--model", "refusable:words", "--arg", "count=3", "--tokenizer", folder)
    assert message(*network, "--data-arg", "test_share=0.3", data=file) == (
        f"DataError: the tokenizer {folder} does not match the model; got a token of id 3; expected ids below 3, the "
        "number of embeddings of the model. Name the tokenizer that the model was trained with under data.tokenizer."
    )


def test_a_module_that_is_used_before_and_after_a_cut(tiny, message, tmp_path):
    tiny |= {"backbone": {"model": "refusable:Looped"}, "input": {}}
    tiny["space"] |= {"heads": [{"kind": "linear"}], "cuts": {"candidates": ["act@1"]}}
    result = run("search", study_file(tmp_path, tiny), "--run", tmp_path / "run")
    refused(result)
    assert one_message(result) == (
        "SplitError: cannot cut Looped after 'act@1': 'layer.weight' is used before and after it, and no two segments "
        "may share a weight. Possible cuts: flat, layer@2, act@2."
    )


@pytest.mark.parametrize("section", ["", "heads.", "joint."])
def test_batches_of_one_sample_where_a_normalisation_learns(tiny, tmp_path, section):
    part = tiny["training"][section.rstrip(".")] if section else tiny["training"]
    part["batch_size"] = 1
    tiny["space"]["heads"] = [{"kind": "dsconv", "pool": "none", "channels": 4}]
    tiny["training"]["epochs"] = 1
    result = run("search", study_file(tmp_path, tiny), "--run", tmp_path / "run", "--quiet")
    refused(result)
    field, got = f"training.{section}batch_size", f"training.{section}batch_size: 1"
    if section == "heads.":  # seen when they are trained
        field, got = "batch_size", "batches of one sample"
    assert one_message(result) == (
        f"InputError: a batch normalisation cannot learn from one sample; got {got}; expected batches of at least 2 "
        f"samples. Raise {field}, or use a network without batch normalisation."
    )
    assert not np.any([path.is_file() for path in (tmp_path / "run").rglob("front.csv")])


def test_networks_without_a_normalisation_may_learn_from_one_sample_at_a_time(tiny):
    from eesearch.nets.split import split
    from eesearch.study.materials import check_batches
    from eesearch.study.question import Study

    tiny["training"]["batch_size"] = 1
    check_batches(Study.model_validate(tiny), split(mlp(features=4), torch.rand(2, 4)), is_trained=False)
