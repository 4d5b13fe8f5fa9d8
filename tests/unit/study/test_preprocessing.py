"""Which preprocessing `eesearch init` writes: as a library says it, or as a trained network answers best with it."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from eesearch.core.errors import ModelError
from eesearch.nets.sources import IMAGENET
from eesearch.study.preprocessing import SAMPLES, candidates, choose_preprocessing
from eesearch.study.question import Study
from eesearch.training.data import make_dataset

CLASSES = 5
IMAGENETS = {"scale": 1 / 255, "mean": list(IMAGENET[0]), "std": list(IMAGENET[1])}


class Levels(nn.Module):
    """Knows images of one brightness by what it saw as their first channel's value when it was "trained"."""

    def __init__(self, seen):
        super().__init__()
        self.levels = nn.Parameter(torch.tensor(seen))

    def forward(self, x):
        return -(x.mean((2, 3))[:, :1] - self.levels).abs()


class Relative(nn.Module):
    """Sees no scale and no shift: it compares pixels of a sample with each other."""

    def forward(self, x):
        return x.flatten(1)[:, :CLASSES]


def brightness():
    """Images of one colour, its brightness the class: uint8 [N, 3, 4, 4]."""
    arrays = {}
    for split in ("train", "cal", "test"):
        y = np.arange(500) % CLASSES
        arrays[f"x_{split}"] = np.broadcast_to((60 * y)[:, None, None, None], (500, 3, 4, 4)).astype(np.uint8)
        arrays[f"y_{split}"] = y
    arrays["x_train"][0] = 255
    return make_dataset(arrays)


@pytest.fixture
def chosen(monkeypatch):
    """The choice for a network that comes trained, for none (trained later), or for what a section `backbone` names."""

    def choose(model, dataset, backbone=None):
        module = type(sys)("trained_elsewhere")
        module.build = lambda: model
        monkeypatch.setitem(sys.modules, "trained_elsewhere", module)
        fields = {"model": "trained_elsewhere:build", "trained": model is not None}
        study = {"name": "s", "backbone": backbone or fields, "data": {"source": "unread.npz"}, "devices": ["macs"]}
        return choose_preprocessing(Study.model_validate(study), dataset)

    return choose


@pytest.mark.parametrize(
    ("seen", "fields"),
    [
        ([60.0 * c for c in range(CLASSES)], {"scale": 1.0}),
        ([60 * c / 255 for c in range(CLASSES)], {"scale": 1 / 255}),
        ([120 * c / 255 - 1 for c in range(CLASSES)], {"scale": 1 / 255, "mean": [0.5], "std": [0.5]}),
        ([(60 * c / 255 - 0.485) / 0.229 for c in range(CLASSES)], IMAGENETS),
    ],
    ids=["raw", "0 to 1", "-1 to 1", "ImageNet"],
)
def test_a_trained_network_gets_what_it_answers_best_with(chosen, seen, fields):
    dataset = replace(brightness(), test=None)  # never looked at
    choice = chosen(Levels(seen), dataset)
    assert choice.fields == fields
    assert [len(choice.tried), choice.tried[0].accuracy, choice.samples] == [5, 1.0, SAMPLES]
    accuracies = [each.accuracy for each in choice.tried]
    assert accuracies == sorted(accuracies, reverse=True)
    assert choice.report.startswith(
        f"best of 5 on {SAMPLES} calibration samples: {choice.tried[0].name} 100.0% right, "
    )


def test_mean_and_deviation_of_the_data_win_where_the_network_was_trained_so(chosen):
    dataset = brightness()
    own = candidates(dataset.train.x)["mean and std of the data"]
    seen = [(60 * c / 255 - own["mean"][0]) / own["std"][0] for c in range(CLASSES)]
    assert chosen(Levels(seen), dataset).fields == own


def test_a_clear_winner_raises_no_doubt_and_a_network_that_none_suits_does(chosen):
    raw = [60.0 * c for c in range(CLASSES)]
    assert chosen(Levels(raw), brightness()).warning == ""
    choice = chosen(Levels(raw[1:] + raw[:1]), brightness())  # always wrong on raw values
    assert choice.tried[0].accuracy < 0.4
    assert choice.warning.startswith("CHECK THIS: none suits the network; always giving the most frequent class")
    assert choice.warning.endswith("is right in 20.0%")


def test_what_does_as_well_is_told(chosen):
    y = np.arange(60) % CLASSES
    x = np.random.default_rng(0).random((60, CLASSES), np.float32) + np.eye(CLASSES, dtype=np.float32)[y]
    arrays = {f"{name}_{split}": value for split in ("train", "cal", "test") for name, value in (("x", x), ("y", y))}
    choice = chosen(Relative(), make_dataset(arrays))
    assert choice.tried[0][:2] == ("raw values", {"scale": 1.0})
    assert "0 to 1 and -1 to 1" in choice.warning
    assert choice.warning.endswith("may do as well")


def test_values_below_0_are_not_brought_to_0_to_1_and_nothing_is_tried_twice():
    negative = np.linspace(-1.0, 1.0, 40, dtype=np.float32).reshape(10, 4)
    assert list(candidates(negative)) == ["raw values", "mean and std of the data"]
    unit = np.linspace(0.0, 1.0, 40, dtype=np.float32).reshape(10, 4)
    assert list(candidates(unit)) == ["raw values", "-1 to 1", "mean and std of the data"]
    dark = np.full((4, 1, 2, 2), 200, np.uint8)
    assert candidates(dark)["0 to 1"] == {"scale": 1 / 255}


def test_a_network_that_is_trained_later_gets_mean_and_deviation_of_the_data_and_is_not_run(chosen):
    choice = chosen(None, brightness())
    assert (choice.fields["scale"], choice.tried, choice.report, choice.warning) == (1 / 255, (), "", "")


def test_tokens_are_left_alone(chosen):
    y = np.arange(20) % 2
    arrays = {f"{name}_{s}": value for s in ("train", "test") for name, value in (("x", y[:, None]), ("y", y))}
    assert chosen(None, make_dataset(arrays)).fields == {"tokens": True}


def test_a_network_that_does_not_run_on_the_samples_is_told(chosen):
    with pytest.raises(ModelError, match=r"Conv2d does not run on the example.*Bring both to the same channels"):
        chosen(nn.Conv2d(1, 2, 1), brightness())


class TestTransformers:
    """A folder may come with or without the way in which its images were normalised."""

    def test_only_what_the_folder_does_not_say_is_measured(self, chosen, tmp_path):
        transformers = pytest.importorskip("transformers")
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        config = transformers.ViTConfig(**sizes, image_size=4, patch_size=2, num_labels=CLASSES)
        model = transformers.ViTForImageClassification(config)
        model.save_pretrained(tmp_path / "vit")
        torch.save(model.state_dict(), tmp_path / "own.pt")
        folder = {"model": f"hf:{tmp_path / 'vit'}"}
        assert len(chosen(None, brightness(), folder).tried) == 5
        (tmp_path / "vit" / "preprocessor_config.json").write_text('{"image_mean": [0.5], "image_std": [0.5]}')
        choice = chosen(None, brightness(), folder)
        assert (choice.fields, choice.tried) == ({"normalize": "model"}, ())
        own = folder | {"weights": str(tmp_path / "own.pt")}
        tried = [each.name for each in chosen(None, brightness(), own).tried]
        assert sorted(tried) == [
            "0 to 1", "as the library says", "mean and std of ImageNet", "mean and std of the data", "raw values"
        ]  # fmt: skip
