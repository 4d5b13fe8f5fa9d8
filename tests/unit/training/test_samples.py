import numpy as np
import pytest
import torch

from eesearch.core.design import TrainSpec
from eesearch.core.errors import InputError
from eesearch.training.data import Split, make_dataset
from eesearch.training.samples import PADDING, Batches, Samples, derive_seed, transform


def rows(seed=0, epoch=0, count=10, batch_size=4):
    samples = Samples(torch.arange(count)[:, None], torch.arange(count), seed)
    return [y.tolist() for _, y in Batches(samples, TrainSpec(batch_size=batch_size)).epoch(epoch)]


def test_every_sample_once_with_its_label():
    samples = Samples(torch.arange(10)[:, None], torch.arange(10))
    batches = list(Batches(samples, TrainSpec(batch_size=4)).epoch(0))
    assert [len(y) for _, y in batches] == [4, 4, 2]
    assert all(x[:, 0].tolist() == y.tolist() for x, y in batches)
    assert sorted(torch.cat([y for _, y in batches]).tolist()) == list(range(10))


def test_order_depends_on_seed_and_epoch():
    assert rows() == rows()
    assert rows() != rows(epoch=1)
    assert rows() != rows(seed=1)


@pytest.mark.parametrize(("count", "sizes"), [(9, [4, 5]), (5, [5]), (1, [1]), (8, [4, 4]), (3, [3])])
def test_a_last_batch_of_one_joins_the_one_before(count, sizes):
    assert [len(batch) for batch in rows(count=count)] == sizes
    batches = Batches(Samples(torch.zeros(count, 1), torch.zeros(count)), TrainSpec(batch_size=4))
    assert len(batches) == len(sizes)


def test_named_tensors_are_taken_in_step():
    inputs = {"a": torch.arange(6), "b": -torch.arange(6)}
    for x, y in Batches(Samples(inputs, torch.arange(6)), TrainSpec(batch_size=4)).epoch(0):
        assert x["a"].tolist() == y.tolist()
        assert x["b"].tolist() == (-y).tolist()


def test_transformations_need_images():
    spec = TrainSpec(augment=("flip",))
    with pytest.raises(InputError, match=r"samples \[3\]"):
        Batches(Samples(torch.zeros(4, 3), torch.zeros(4)), spec)
    with pytest.raises(InputError, match="cached hidden states"):
        Batches(Samples({"a": torch.zeros(4, 1, 2, 2)}, torch.zeros(4)), spec)


def test_flip_mirrors_about_half_of_the_images():
    images = torch.arange(3.0).expand(200, 1, 2, 3)
    flipped = transform(images, ("flip",), torch.Generator().manual_seed(0))
    mirrored = (flipped[:, 0, 0, 0] == 2).sum().item()
    assert 60 < mirrored < 140
    assert all(torch.equal(image, images[0]) or torch.equal(image, images[0].flip(-1)) for image in flipped)


def test_crop_shifts_whole_images_and_fills_with_zeros():
    images = torch.arange(1, 1 + 2 * 9 * 9, dtype=torch.uint8).reshape(1, 2, 9, 9).expand(50, 2, 9, 9)
    cropped = transform(images, ("crop",), torch.Generator().manual_seed(0))
    assert cropped.shape == images.shape
    assert cropped.dtype == torch.uint8
    padded = torch.nn.functional.pad(images[0], (PADDING,) * 4)
    shifts = set()
    for image in cropped:
        fits = [(i, j) for i in range(9) for j in range(9) if torch.equal(image, padded[:, i : i + 9, j : j + 9])]
        assert len(fits) == 1
        shifts.add(fits[0])
    assert len(shifts) > 25


def test_transformations_follow_the_seed():
    samples = Samples(torch.rand(8, 1, 9, 9), torch.arange(8), 5)
    spec = TrainSpec(batch_size=8, augment=("flip", "crop"))
    (first, _), (again, _) = (next(Batches(samples, spec).epoch(0)) for _ in range(2))
    assert torch.equal(first, again)


def test_of_a_split():
    split = Split("train", np.zeros((2, 3), np.uint8), np.array([0, 1]))
    samples = Samples.of(split, seed=4)
    assert samples.inputs.dtype == torch.uint8
    assert samples.labels.tolist() == [0, 1]
    assert samples.seed == 4


def test_seeds_are_of_their_own():
    seeds = {derive_seed("order", 0, 1), derive_seed("order", 1, 0), derive_seed("dropout", 0, 1)}
    assert len(seeds) == 3
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_mapped_samples_are_not_copied(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(40, dtype=np.float32).reshape(10, 4))
    x, y = np.load(tmp_path / "x.npy", mmap_mode="r"), np.arange(10) % 2
    dataset = make_dataset(
        {f"{kind}_{name}": {"x": x, "y": y}[kind] for kind in "xy" for name in ("train", "cal", "test")}
    )
    samples = Samples.of(dataset.train)
    assert samples.inputs.data_ptr() == x.ctypes.data
    order = torch.cat([labels for _, labels in Batches(samples, TrainSpec(batch_size=4)).epoch(0)])
    seen = torch.cat([batch for batch, _ in Batches(samples, TrainSpec(batch_size=4)).epoch(0)])
    assert torch.equal((seen[:, 0] / 4).long() % 2, order)
