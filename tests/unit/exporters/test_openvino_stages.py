import numpy as np
import pytest

from eesearch.core.errors import InputError
from eesearch.exporters.formats import near_threshold
from eesearch.exporters.openvino_stages import reload_openvino, write_openvino


def test_the_stages_answer_as_the_network(make_chosen, tmp_path):
    pytest.importorskip("openvino")
    pytest.importorskip("onnxscript")
    chosen = make_chosen(criterion="entropy", answer="most_confident", asks=True)
    write_openvino(chosen, tmp_path)
    assert {"stage_0.xml", "stage_0.bin", "stage_2.xml", "runner.py", "thresholds.json"} <= {
        path.name for path in tmp_path.iterdir()
    }
    own, safe = chosen.answers(chosen.samples), ~near_threshold(chosen, chosen.scores(chosen.samples))
    says = reload_openvino(tmp_path)
    answer, stop = says(chosen.samples)
    np.testing.assert_array_equal(answer[safe], own.answer[safe])
    np.testing.assert_array_equal(stop[safe], own.exit[safe])
    n = int(np.flatnonzero(safe & (own.exit == 1))[0])
    assert [value.tolist() for value in says(chosen.samples[n : n + 1])] == [[own.answer[n]], [1]]


def test_a_missing_library_is_told_with_its_extra(make_chosen, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(InputError, match=r"openvino is not installed.*pip install 'eesearch\[openvino\]'"):
        write_openvino(make_chosen(), tmp_path)
