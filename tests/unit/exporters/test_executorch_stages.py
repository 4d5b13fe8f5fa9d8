import numpy as np
import pytest
import torch
import torch.nn.functional as F

from eesearch.core.errors import InputError
from eesearch.exporters.executorch_stages import _largest, _largest_1d, reload_executorch, write_executorch
from eesearch.exporters.formats import near_threshold


@pytest.mark.filterwarnings("ignore")  # of executorch's own imports
def test_the_stages_answer_as_the_network(make_chosen, tmp_path):
    pytest.importorskip("executorch.exir")
    chosen = make_chosen(criterion="margin", answer="mean", asks=True)
    write_executorch(chosen, tmp_path)
    own, safe = chosen.answers(chosen.samples), ~near_threshold(chosen, chosen.scores(chosen.samples))
    answer, stop = reload_executorch(tmp_path)(chosen.samples)
    np.testing.assert_array_equal(answer[safe], own.answer[safe])
    np.testing.assert_array_equal(stop[safe], own.exit[safe])


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_largest_of_slices_is_adaptive_max_pooling(size):
    x = torch.randn(2, 3, 7, 5)
    assert torch.equal(_largest(x, [size, size])[0], F.adaptive_max_pool2d(x, size))
    assert torch.equal(_largest_1d(x[:, :, 0], [size])[0], F.adaptive_max_pool1d(x[:, :, 0], size))


def test_a_missing_library_is_told_with_its_extra(make_chosen, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "executorch.exir", None)
    with pytest.raises(InputError, match=r"executorch.* is not installed.*pip install 'eesearch\[executorch\]'"):
        write_executorch(make_chosen(), tmp_path)
