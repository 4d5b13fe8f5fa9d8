"""`eesearch init` and `eesearch inspect`: a study for a network and data at hand, and a look at its cuts."""

import re

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from eesearch.cli import app
from eesearch.core.design import TrainSpec
from eesearch.costs.profile import load_profile
from eesearch.nets import split as splitting
from eesearch.nets.inputs import Normalize, Preprocessed
from eesearch.nets.zoo import residual_cnn
from eesearch.study.files import load_study
from eesearch.study.networks import InputSpec
from eesearch.training.data import digits, make_dataset
from eesearch.training.loop import train_backbone
from eesearch.training.samples import Samples

CNN = ("--model", "eesearch.nets.zoo:residual_cnn", "--arg", "channels=[8, 16]", "--arg", "in_channels=1")


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def refused(result, *words):
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.output, result.output


@pytest.fixture
def written(tmp_path):
    out = tmp_path / "mine.yaml"
    result = run("init", *CNN, "--data", "eesearch.training.data:digits", "--device", "macs", "--out", out)
    assert result.exit_code == 0, result.output
    return out, result


def test_the_study_that_is_written_runs_as_it_is(written, tmp_path):
    out, result = written
    assert f"{out} is written; search it: eesearch search {out}" in result.output.replace("\n", "")
    study = load_study(out)
    assert (study.name, study.devices, study.backbone.args["channels"]) == ("mine", ("macs",), [8, 16])
    x = digits()["x_train"]
    assert study.input.mean == pytest.approx((x.mean(),), rel=0.01)
    assert "# Exits may hang after: stem.2, stages.0.0." in out.read_text()
    quick = ["budget.trials=1", "training.epochs=1", "training.heads={epochs: 1}", "verify.points=0"]
    options = [word for change in quick for word in ("--set", change)]
    searched = run("search", out, "--run", tmp_path / "run", *options, "--quiet")
    assert searched.exit_code == 0, searched.output


def test_nothing_is_overwritten_and_nothing_is_written_of_what_cannot_be_used(written, tmp_path):
    out, _ = written
    refused(run("init", *CNN, "--data", "eesearch.training.data:digits", "--out", out), "there already")
    new = tmp_path / "new.yaml"
    refused(run("init", "--model", "eesearch.nets.zoo:mlp", "--data", "nowhere.npz", "--out", new), "nowhere.npz")
    grey = ("--model", "eesearch.nets.zoo:residual_cnn", "--arg", "in_channels=3")
    message = "Bring both to the same channels"
    refused(run("init", *grey, "--data", "eesearch.training.data:digits", "--out", new), message)
    for device, told in (
        ("cpu:eager", "devices: 'cpu:eager' is not a device"),
        ("cpu:eagre:t1:b1", "there is no back end 'eagre'"),
        ("pi.json", "there is no profile pi.json"),
    ):
        refused(run("init", *CNN, "--data", "eesearch.training.data:digits", "--device", device, "--out", new), told)
    assert [path.name for path in tmp_path.iterdir()] == [out.name], "nothing else is left there either"


def test_a_name_is_made_of_the_file(tmp_path):
    result = run("init", *CNN, "--data", "eesearch.training.data:digits", "--out", tmp_path / "my study.yaml")
    assert result.exit_code == 0, result.output
    assert load_study(tmp_path / "my study.yaml").name == "mystudy"


def test_what_no_flag_says_is_asked_for_or_told(tmp_path):
    refused(run("init", "--data", "eesearch.training.data:digits"), "--model is missing")
    refused(run("init", "--model", "eesearch.nets.zoo:mlp"), "--data is missing")
    refused(run("init", *CNN, "--data", "x", "--arg", "no pair"), "--arg is not understood; got no pair")
    for flag in (("--model", "a:b"), ("--weights", "w.safetensors"), ("--arg", "a=1"), ("--tokenizer", "words")):
        refused(run("init", "--example", "digits", *flag), "copies a study as it is")


def test_classes_and_normalisation_are_those_of_data_and_library(tmp_path):
    pytest.importorskip("timm")
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("cat", "dog", "owl"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(6):
                Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{number}.png")
    out = tmp_path / "photos.yaml"
    result = run("init", "--model", "timm:resnet10t", "--data", tmp_path / "photos", "--device", "macs", "--out", out)
    assert result.exit_code == 0, result.output
    fields = yaml.safe_load(out.read_text())
    assert fields["backbone"]["args"] == {"num_classes": 3}
    assert fields["input"] == {"normalize": "model"}


def test_a_trained_network_gets_the_input_that_it_was_trained_with(tmp_path):
    arrays = digits()
    dataset = make_dataset(arrays)
    model = Preprocessed(Normalize(1 / 16, [0.5], [0.5]), residual_cnn(channels=(8, 16), in_channels=1))
    backbone = splitting.split(model, arrays["x_train"])
    spec = TrainSpec(epochs=3, batch_size=32, lr=0.01)
    trained = train_backbone(backbone, Samples.of(dataset.train, 0), spec).original_state()
    save_file({name: tensor.clone() for name, tensor in trained.items()}, tmp_path / "cnn.safetensors")
    out = tmp_path / "trained.yaml"
    options = ("--data", "eesearch.training.data:digits", "--device", "macs", "--out", out)
    result = run("init", *CNN, "--weights", tmp_path / "cnn.safetensors", *options)
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.output.splitlines() if line.startswith("input: ")]
    assert re.match(r"input: best of 4 on 270 calibration samples: -1 to 1 \d\d\.\d% right, ", line)
    assert load_study(out).input == InputSpec(scale=1 / 16, mean=(0.5,), std=(0.5,))
    assert "# Best of 4 on 270 calibration samples: -1 to 1 " in out.read_text()


def test_inspect_shows_cuts_and_draws_them(written, tmp_path):
    out, _ = written
    picture = tmp_path / "cuts.png"
    result = run("inspect", out, "--run", tmp_path / "run", "--out", picture)
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.output.splitlines() if "stages.0.0" in line]
    assert line.split()[:6] == ["stages.0.0", "map", "8x8x8", "1", "0.07834", "57.7%"]
    with Image.open(picture) as drawn:
        assert drawn.width > 1000
    refused(run("inspect", out, "--out", tmp_path / "cuts.txt"), "a name that ends with .png, .svg or .pdf")


def test_inspect_measures_the_devices_that_are_named(written, tmp_path):
    out, _ = written
    quick = "measuring={processes: 1, warmup: 0.01, warmup_max: 0.05, round: 0.005, rounds_min: 3, rounds_max: 4}"
    result = run("inspect", out, "--run", tmp_path / "run", "--device", "cpu:eager:t1:b2", "--set", quick, "--quiet")
    assert result.exit_code == 0, result.output
    assert "cpu:eager:t1:b2" in result.output
    (file,) = (tmp_path / "run" / "profiles").glob("*eager*")
    measured = load_profile(file)
    (line,) = [line for line in result.output.splitlines() if "stages.0.0" in line]
    call = measured.latency.prefix_ms[measured.cuts.index("stages.0.0")]
    assert f"{call / 2:.4f}" in line.split(), "of one sample, not of a call"
