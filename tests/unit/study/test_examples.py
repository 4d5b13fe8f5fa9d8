from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from eesearch.study.examples import COLUMNS, COUNT, make_examples
from eesearch.training.data import Split

SAMPLES = 300


def examples(x, *, text=None):
    y = np.arange(SAMPLES) % 3
    stop = (np.arange(SAMPLES) % 4).astype(np.int64)
    lateness = np.arange(SAMPLES)[::-1].astype(float)  # the last sample is the easiest
    split = Split("test", x, y, text)
    return make_examples(split, {"macs": [(stop, y), (stop * 0, y + 1)]}, lateness, "key")


@pytest.mark.parametrize("shape", [(1, 6, 5), (3, 6, 5), (6, 5)])
def test_images_become_one_picture_of_thumbnails(shape):
    x = np.random.default_rng(0).integers(0, 17, (SAMPLES, *shape)).astype(np.uint8)
    found = examples(x)
    assert (found.kind, found.side, found.texts) == ("image", (6, 5), ())
    sheet = Image.open(BytesIO(b64decode(found.sprite)))
    assert sheet.size == (5 * COLUMNS, 6 * COUNT // COLUMNS)
    seventh = np.asarray(sheet.convert("RGB"))[:6, 5 * 7 : 5 * 8].transpose(2, 0, 1).astype(float)
    own = np.broadcast_to(x[found.index[7]].reshape(-1, 6, 5), (3, 6, 5)) * (255.0 / 16.0)
    assert np.abs(seventh - own).max() <= 0.5


def test_large_images_are_shrunk():
    found = examples(np.zeros((SAMPLES, 3, 96, 48), np.float32))
    assert found.side == (48, 24)


def test_examples_go_evenly_from_easy_to_hard_and_know_where_they_leave():
    found = examples(np.zeros((SAMPLES, 4), np.float32))
    assert len(found.index) == COUNT
    assert found.index[0] == SAMPLES - 1
    assert found.index[-1] == 0
    assert np.diff(found.index).max() < 0
    assert found.label == tuple(i % 3 for i in found.index)
    assert found.stops["macs"] == (tuple(i % 4 for i in found.index), (0,) * COUNT)
    assert found.answers["macs"][1] == tuple(i % 3 + 1 for i in found.index)


def test_texts_are_shown_as_they_are_and_numbers_in_words():
    text = np.array([f"sample {i} " + "x" * 500 for i in range(SAMPLES)])
    found = examples(np.zeros((SAMPLES, 4), np.int64), text=text)
    assert found.kind == "text"
    assert found.texts[-1].startswith("sample 0 xx")
    assert all(len(t) <= 400 for t in found.texts)
    numbers = examples(np.full((SAMPLES, 2), 0.5, np.float32))
    assert (numbers.kind, numbers.texts[0]) == ("numbers", "0.5, 0.5")


def test_few_samples_are_all_shown():
    y = np.zeros(5, np.int64)
    found = make_examples(Split("test", np.zeros((5, 2), np.float32), y), {"macs": []}, np.zeros(5), "key")
    assert sorted(found.index) == [0, 1, 2, 3, 4]
