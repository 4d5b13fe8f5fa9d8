import numpy as np
import pytest
import torch

from eesearch.core.errors import ModelError
from eesearch.nets.inputs import Normalize, Preprocessed, as_tensor, rows_of


def test_scales_then_centres_then_divides_per_channel():
    x = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.1, 0.2, 0.3])
    expected = (x.float() / 255 - mean[:, None, None]) / std[:, None, None]
    got = Normalize(1 / 255, mean.tolist(), std.tolist())(x)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected)


def test_one_value_serves_all_channels_and_vectors_are_samples_too():
    x = torch.tensor([[1.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(Normalize(2.0, [1.0], [4.0])(x), torch.tensor([[0.25, 1.25]]))


def test_does_nothing_by_default_but_making_floats():
    x = torch.arange(6, dtype=torch.uint8).view(1, 2, 3)
    assert torch.equal(Normalize()(x), x.float())


@pytest.mark.parametrize(("mean", "std"), [([0.1, 0.2], [1.0, 1.0, 1.0]), ([0.0], [0.0]), ([0.0], [-1.0])])
def test_refuses_impossible_statistics(mean, std):
    with pytest.raises(ModelError):
        Normalize(1.0, mean, std)


def test_preprocessed_is_the_model_after_the_normalisation():
    model, normalize = torch.nn.Linear(3, 2), Normalize(0.5)
    x = torch.ones(4, 3)
    assert torch.equal(Preprocessed(normalize, model)(x), model(0.5 * x))


def test_read_only_and_strided_arrays_are_samples_too():
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    array.flags.writeable = False
    assert as_tensor(array).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert as_tensor(array[::-1]).tolist() == [[3, 4, 5], [0, 1, 2]]


def test_ordinary_arrays_and_tensors_are_not_copied():
    array, tensor = np.zeros((2, 3), np.float32), torch.zeros(2, 3)
    as_tensor(array)[0, 0] = 1.0
    assert array[0, 0] == 1.0
    assert as_tensor(tensor) is tensor


def test_read_only_arrays_are_not_copied_where_only_rows_are_taken(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6, dtype=np.uint8).reshape(2, 3))
    array = np.load(tmp_path / "x.npy", mmap_mode="r")
    rows = rows_of(array)
    assert rows.data_ptr() == array.ctypes.data != as_tensor(array).data_ptr()
    assert rows[[1, 0]].tolist() == [[3, 4, 5], [0, 1, 2]]
    assert rows_of(array[::-1]).tolist() == [[3, 4, 5], [0, 1, 2]]
    assert rows_of(rows) is rows
    ordinary = np.zeros((2, 3), np.float32)
    assert rows_of(ordinary).data_ptr() == ordinary.ctypes.data
