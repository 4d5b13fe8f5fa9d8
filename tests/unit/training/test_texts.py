from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

from eesearch.core.errors import DataError
from eesearch.training.data import load_dataset, make_dataset
from eesearch.training.texts import Tokenizing, check_padding, check_vocabulary, load_tokenizer

WORDS = ["[PAD]", "[UNK]", "a", "good", "bad", "film"]


def saved(folder, **special):
    """A tokenizer of whole words, as `save_pretrained` writes it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", **special).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("tokenizer"), pad_token="[PAD]")


@pytest.fixture
def texts():
    train = np.array(["a good film", "bad", "good", "a bad film here"] * 5)
    return {"x_train": train, "y_train": [1, 0] * 10, "x_test": ["good", "a film of bad"], "y_test": [1, 0]}


def test_texts_become_ids_padded_at_the_right_to_the_longest(texts, tokenizer):
    data = make_dataset(texts, tokenizing=Tokenizing(tokenizer))
    assert data.train.x.dtype == np.int64
    assert data.train.x.shape[1] == 4
    assert data.test.x.tolist() == [[3, 0, 0, 0], [2, 5, 1, 4]]
    assert data.test.text.tolist() == ["good", "a film of bad"]
    assert data.train.text is None
    assert data.tokenizer == tokenizer


def test_longer_texts_are_cut(texts, tokenizer):
    data = make_dataset(texts, tokenizing=Tokenizing(tokenizer, 2))
    assert data.test.x.tolist() == [[3, 0], [2, 5]]
    assert data.test.text.tolist() == ["good", "a film of bad"], "to be read as they are"


def test_texts_follow_the_samples_into_the_splits(texts, tokenizer):
    texts |= {"x_test": [*texts["x_train"]], "y_test": texts["y_train"]}
    from eesearch.training.data import Calibration

    half = Calibration(origin="test", share=0.5)
    data = make_dataset(texts, tokenizing=Tokenizing(tokenizer), calibration=half)
    assert len(data.test) == len(data.test.text) == 10
    assert [len(text.split()) for text in data.test.text] == (data.test.x > 0).sum(1).tolist()


def test_texts_of_an_npz_file(texts, tokenizer, tmp_path):
    np.savez(tmp_path / "texts.npz", **texts)
    data = load_dataset(str(tmp_path / "texts.npz"), tokenizing=Tokenizing(tokenizer))
    assert data.test.x.tolist() == [[3, 0, 0, 0], [2, 5, 1, 4]]


def test_own_texts_for_the_report_are_kept(texts, tokenizer):
    data = make_dataset(texts | {"text_test": ["one", "two"]}, tokenizing=Tokenizing(tokenizer))
    assert data.test.text.tolist() == ["one", "two"]


class TestRefuses:
    def test_texts_without_a_tokenizer(self, texts):
        with pytest.raises(DataError, match=r"x_train holds texts; expected token ids.*tokenizer: FOLDER"):
            make_dataset(texts)

    def test_a_tokenizer_without_texts(self, texts, tokenizer):
        with pytest.raises(DataError, match=r"x_train holds no texts for the tokenizer; got float64 \(20, 3\)"):
            make_dataset(texts | {"x_train": np.zeros((20, 3))}, tokenizing=Tokenizing(tokenizer))

    def test_a_tokenizer_that_does_not_pad(self, texts, tmp_path):
        with pytest.raises(DataError, match=r"has no token that pads.*tokenizer.pad_token = tokenizer.eos_token"):
            make_dataset(texts, tokenizing=Tokenizing(saved(tmp_path)))

    @pytest.mark.parametrize("offline", [None, "1"])
    def test_a_tokenizer_that_is_not_there(self, tmp_path, monkeypatch, offline):
        if offline is None:
            monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        else:
            monkeypatch.setenv("HF_HUB_OFFLINE", offline)
        with pytest.raises(DataError, match=r"cannot load the tokenizer nobody/none.*set HF_HUB_OFFLINE=0"):
            load_tokenizer("nobody/none")
        with pytest.raises(DataError, match=r"cannot load the tokenizer .*save_pretrained\(FOLDER\)"):
            load_tokenizer(str(tmp_path))

    def test_missing_extras(self, texts, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "transformers", None)
        with pytest.raises(DataError, match=r"transformers is not installed.*pip install 'eesearch\[hf\]'"):
            make_dataset(texts, tokenizing=Tokenizing("any"))

    def test_texts_without_a_token(self, texts, tokenizer):
        texts["x_train"] = np.array(["good", "", "bad", " "] * 5)
        with pytest.raises(
            DataError, match=r"10 texts of x_train have no token; got '', number 1; expected at least one"
        ):
            make_dataset(texts, tokenizing=Tokenizing(tokenizer))

    def test_padding_that_a_model_attends_to(self, tokenizer):
        model = nn.Linear(2, 2)
        check_padding(model, tokenizer)
        model.config = SimpleNamespace(pad_token_id=0)
        check_padding(model, tokenizer)
        model.config.pad_token_id = 1
        with pytest.raises(DataError, match="got padding by token 0; expected pad_token_id 1"):
            check_padding(model, tokenizer)

    def test_tokens_that_a_model_does_not_know(self):
        model = nn.Sequential(nn.Embedding(6, 2), nn.Embedding(3, 2))
        check_vocabulary(model, np.array([[5, 0]]), "words")
        with pytest.raises(
            DataError, match=r"words does not match the model; got a token of id 6; expected ids below 6"
        ):
            check_vocabulary(model, np.array([[6, 0]]), "words")
        model.get_input_embeddings = lambda: model[1]
        with pytest.raises(DataError, match="ids below 3"):
            check_vocabulary(model, np.array([[5, 0]]), "words")
        check_vocabulary(nn.Linear(2, 2), np.array([[99]]), "words")


def test_a_tokenizer_is_loaded_without_asking_the_hub(tokenizer, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    seen = []
    from transformers import AutoTokenizer

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *a, **k: seen.append((constants.HF_HUB_OFFLINE, k)))
    load_tokenizer(tokenizer)
    assert seen == [(True, {"local_files_only": True, "trust_remote_code": False})]
    assert constants.HF_HUB_OFFLINE is False
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    load_tokenizer(tokenizer)
    assert seen[1] == (False, {"local_files_only": False, "trust_remote_code": False})
