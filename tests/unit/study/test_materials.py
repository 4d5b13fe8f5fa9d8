import sys

import numpy as np
import pytest
import torch
from torch import nn

from eesearch.core.errors import DataError, HeadError, ModelError
from eesearch.nets.split import split
from eesearch.nets.zoo import mlp, residual_cnn
from eesearch.study.heads import fitting_heads
from eesearch.study.materials import check_classes, load_backbone, load_study_data, prepare
from eesearch.study.question import Study
from eesearch.study.rundir import RunDir
from eesearch.study.space import SearchSpace
from eesearch.training.data import make_dataset


def names(model, example, *heads):
    found = fitting_heads(SearchSpace.model_validate({"heads": heads}), split(model, example))
    return [[head.name for head in at_cut] for at_cut in found.values()]


def test_on_a_vector_heads_that_differ_in_pooling_alone_are_one():
    vectors = mlp(features=12, hidden=(8, 6), classes=3)
    trees = [{"kind": "tree", "depth": depth, "size": size} for depth in (2, 3) for size in (1, 2)]
    boosted = [{"kind": "boosting", "rounds": rounds, "pool": pool} for rounds in (1, 2) for pool in ("avg", "mixed")]
    gated = [{"kind": "linear", "gate": gate} for gate in ("none", "linear")]
    kept = ["tree2-avg1", "tree3-avg1", "boosting1x5-avg1", "boosting2x5-avg1", "linear-avg1", "linear-avg1-gate"]
    assert names(vectors, torch.zeros(1, 12), *trees, *boosted, *gated) == [kept]


def test_a_head_goes_where_it_fits():
    maps = residual_cnn(channels=(4, 4, 4), blocks=1, classes=3, in_channels=1)
    heads = names(maps, torch.zeros(1, 1, 4, 4), {"kind": "tree"}, {"kind": "svm", "size": 3})
    assert heads[0] == ["tree5-avg1", "svm-avg3"]
    assert heads[-1] == ["tree5-avg1"]
    with pytest.raises(HeadError, match="fits no cut"):
        names(maps, torch.zeros(1, 1, 4, 4), {"kind": "tree"}, {"kind": "logistic", "pool": "none"})


class TestTexts:
    """A study of texts: the tokenizer has to match the model."""

    @pytest.fixture
    def study(self, tmp_path, monkeypatch):
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "good", "bad", "film"])}
        plain = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
        plain.pre_tokenizer = pre_tokenizers.Whitespace()
        PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="[PAD]").save_pretrained(tmp_path / "words")
        lines = "text,label\n" + "good,1\nbad,0\n" * 10 + "good film,1\n"
        (tmp_path / "texts.csv").write_text(lines)
        (tmp_path / "small_model.py").write_text(
            "from torch import nn\ndef build(words): return nn.Sequential(nn.Embedding(words, 4), nn.Flatten())\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        yield {
            "name": "texts",
            "backbone": {"model": "small_model:build", "args": {"words": 2}},
            "data": {
                "source": str(tmp_path / "texts.csv"),
                "args": {"test_share": 0.3},
                "tokenizer": str(tmp_path / "words"),
                "max_tokens": 1,
            },
        }
        sys.modules.pop("small_model", None)

    def test_are_tokenized_as_the_study_says(self, study):
        dataset = load_study_data(Study.model_validate(study))
        assert dataset.train.x.shape[1] == 1
        assert set(dataset.test.x.ravel()) == {2, 3}
        assert set(dataset.test.text) >= {"good", "bad"}

    def test_a_tokenizer_of_more_words_than_the_model_is_told_where_the_model_is_loaded(self, study):
        study = Study.model_validate(study)
        with pytest.raises(DataError, match=r"words does not match .* got a token of id 3; expected ids below 2"):
            load_backbone(study, np.array([[2], [3]]))

    def test_so_are_tokens_that_come_later(self, study):
        study = Study.model_validate(study)
        network = nn.Sequential(nn.Embedding(3, 2))
        network.classes = 2
        with pytest.raises(DataError, match=r"got a token of id 3"):
            check_classes(network, load_study_data(study))

    def test_numbers_are_not_compared_with_embeddings(self):
        y = np.arange(20) % 2
        network = nn.Sequential(nn.Embedding(3, 2))
        network.classes = 2
        check_classes(
            network, make_dataset({"x_train": y[:, None] + 9, "y_train": y, "x_test": y[:, None], "y_test": y})
        )


def test_from_scratch_needs_what_makes_an_untrained_network(tmp_path, monkeypatch):
    """A function that loads its weights by itself would be trained further, and told as trained from scratch."""
    lines = ["import torch", "from eesearch.nets.zoo import mlp", "def build(trained):"]
    lines += ["    torch.manual_seed(0 if trained else torch.initial_seed())"]
    lines += ["    return mlp(features=64, hidden=(4, 4), classes=10)"]
    (tmp_path / "loading_model.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    fields = {
        "name": "scratch",
        "backbone": {"model": "loading_model:build", "args": {"trained": True}, "trained": True},
        "data": {"source": "eesearch.training.data:digits"},
        "training": {"start": "scratch"},
        "devices": ["macs"],
        "seed": 5,
    }
    with pytest.raises(ModelError, match=r"loading_model:build makes trained networks only; expected random weights"):
        prepare(Study.model_validate(fields), RunDir(tmp_path / "run"))
    sys.modules.pop("loading_model", None)
