"""A study of texts from begin to end: tokenizer, transformer, exits at its blocks, answers for texts."""

import csv

import numpy as np
import pytest
import yaml

from eesearch.api import search
from eesearch.core.errors import DataError
from eesearch.nets.series import text_encoder
from eesearch.study.run import Run
from tests.integration.command import refused, run, study_file

GOOD, BAD, OTHER = ["good", "fine", "bright"], ["bad", "dull", "grim"], ["a", "film", "here", "of", "the", "so"]


def made_texts(rng, count):
    """Few words each; the last that is no filler tells the class."""
    labels = rng.integers(0, 2, count)
    texts = [
        " ".join([*rng.choice(OTHER, rng.integers(0, 5)), rng.choice((BAD, GOOD)[label]), *rng.choice(OTHER, 2)])
        for label in labels
    ]
    return np.array(texts), labels


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with texts and their tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder, rng = tmp_path_factory.mktemp("texts"), np.random.default_rng(0)
    words = ["[PAD]", "[UNK]", *GOOD, *BAD, *OTHER]
    plain = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]", pad_token="[PAD]")
    tokenizer.save_pretrained(folder / "words")
    (x_train, y_train), (x_test, y_test) = made_texts(rng, 400), made_texts(rng, 200)
    np.savez(folder / "films.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return folder


@pytest.fixture(scope="module")
def searched(place, tmp_path_factory):
    """A run of the study that `init` writes, shortened."""
    folder = tmp_path_factory.mktemp("run")
    arguments = [f"--arg={each}" for each in ("vocabulary=14", "tokens=8", "width=16", "depth=2", "heads=2")]
    model, tokenizer = ("--model", "eesearch.nets.series:text_encoder"), ("--tokenizer", place / "words")
    data = ("--data", place / "films.npz", "--device", "macs")
    begun = run("init", *model, *data, *tokenizer, *arguments, "--out", folder / "films.yaml")
    assert begun.exit_code == 0, begun.output
    fields = yaml.safe_load((folder / "films.yaml").read_text())
    fields["training"] = {"epochs": 4, "batch_size": 32, "lr": 0.005, "heads": {"epochs": 4, "lr": 0.01}}
    fields["budget"] = {"trials": 2}
    found = run("search", study_file(folder, fields), "--run", folder / "run", "--quiet")
    assert found.exit_code == 0, found.output
    return folder / "run"


def test_exits_hang_at_the_blocks_and_read_the_first_token_or_the_mean(searched):
    points = Run.load(searched).device("macs").points
    used = {(e.cut, e.head) for p in points for e in p.cal.policy.exits if not e.is_output}
    assert {cut for cut, _ in used} <= {"bert.embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1"}
    assert used
    assert points[-1].test.accuracy > 0.9


def test_texts_are_answered_as_their_token_ids_are(searched, place, tmp_path):
    films = dict(np.load(place / "films.npz"))
    np.savez(tmp_path / "texts.npz", x=films["x_test"], y=films["y_test"])
    found = Run.load(searched)
    ids = found.samples(films["x_test"])
    assert ids.shape == (200, found.answers.data["sample_shape"][0])
    np.savez(tmp_path / "ids.npz", x=ids, y=films["y_test"])
    tables = []
    for name in ("texts", "ids"):
        told = run("predict", searched, tmp_path / f"{name}.npz", "--pick", "knee", "--trust")
        assert told.exit_code == 0, told.output
        tables.append(list(csv.reader(line for line in told.output.splitlines() if line.count(",") == 3)))
    assert tables[0] == tables[1]
    answers = np.array([int(row[1]) for row in tables[0][1:]])
    assert (answers == films["y_test"]).mean() == pytest.approx(found.pick("knee").point.test.accuracy, abs=0.011)


def test_longer_texts_are_cut_to_the_length_of_the_study(searched):
    found = Run.load(searched)
    length = found.answers.data["sample_shape"][0]
    ids = found.samples(["good " * 50, "bad"])
    assert ids.shape == (2, length)
    assert (ids[0] == 2).all()
    assert ids[1].tolist() == [5] + [0] * (length - 1)


def test_texts_for_a_run_of_other_samples(begun, tmp_path):
    np.savez(tmp_path / "texts.npz", x=np.array(["good", "bad"]))
    with pytest.raises(DataError, match="x holds texts; expected token ids, or a tokenizer"):
        begun.samples(["good"])
    told = run("predict", begun.directory.path, tmp_path / "texts.npz", "--pick", "knee", "--trust")
    refused(told, "x holds texts")


def test_texts_by_the_api(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    films = dict(np.load(place / "films.npz"))
    model = text_encoder(vocabulary=14, tokens=8, width=8, depth=1, heads=2)
    study = {"data": {"tokenizer": str(place / "words")}, "training": {"heads": {"epochs": 1}}, "budget": {"trials": 1}}
    found = search(model, films, device="macs", study=study | {"name": "films", "verify": {"points": 0}})
    point = found.device("macs").points[-1]
    assert found.predict(point, ["a good film", "bad"]).answer.shape == (2,)


def test_what_to_label_of_a_pool_of_texts(searched, place, tmp_path):
    known = {str(text) for name, split in np.load(place / "films.npz").items() if name[0] == "x" for text in split}
    new = [text for text in made_texts(np.random.default_rng(1), 60)[0] if text not in known]
    np.savez(tmp_path / "pool.npz", x=np.array(new))
    told = run("certify", searched, "--max-drop", "10%", "--pool", tmp_path / "pool.npz", "--trust")
    assert told.exit_code == 0, told.output
    assert "index,label" in told.output
