import numpy as np
import pytest

from eesearch.core.errors import InputError
from eesearch.exporters.executorch_stages import reload_executorch, write_executorch
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


def test_a_missing_library_is_told_with_its_extra(make_chosen, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "executorch.exir", None)
    with pytest.raises(InputError, match=r"executorch.* is not installed.*pip install 'eesearch\[executorch\]'"):
        write_executorch(make_chosen(), tmp_path)
