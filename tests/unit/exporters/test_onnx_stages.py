import ast
import json

import numpy as np
import pytest
import torch
from torch import nn

from eesearch.core.design import HeadSpec
from eesearch.core.errors import InputError, ModelError
from eesearch.exporters import apart, onnx_stages
from eesearch.exporters.formats import near_threshold
from eesearch.exporters.onnx_stages import reload_onnx, runner_source, stage_model, write_onnx
from eesearch.exporters.torch_folder import load_module
from eesearch.nets.heads import build_head
from eesearch.nets.lower import Lowered

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

IMPORTS = {"json", "pathlib", "numpy"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder that is written once: exports take a second."""
    made = {}

    def write(chosen, name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            write_onnx(chosen, made[name])
        return made[name]

    return write


def stages_below(graph, prefix="s"):
    """Which stages' nodes lie in a graph, and in the branches of its `If`."""
    own = {int(node.name[1]) for node in graph.node if node.name[:1] == prefix and node.name[1:2].isdigit()}
    branches = {a.name: stages_below(a.g) for node in graph.node if node.op_type == "If" for a in node.attribute}
    return own, branches


class TestStages:
    @pytest.fixture
    def chosen(self, make_chosen):
        return make_chosen(criterion="margin", answer="mean", asks=True)

    @pytest.fixture
    def folder(self, chosen, written):
        return written(chosen, "asking")

    def test_both_ways_answer_as_the_network(self, chosen, folder):
        own, safe = chosen.answers(chosen.samples), ~near_threshold(chosen, chosen.scores(chosen.samples))
        answer, stop = reload_onnx(folder)(chosen.samples)  # a single graph that disagrees would stop at -1
        assert len(set(own.exit)) == 4
        np.testing.assert_array_equal(answer[safe], own.answer[safe])
        np.testing.assert_array_equal(stop[safe], own.exit[safe])

    def test_the_runner_is_asked_in_batches(self, chosen, folder, monkeypatch):
        expected = reload_onnx(folder)(chosen.samples)
        monkeypatch.setattr(apart, "BATCH", 25)
        module, sizes = load_module(folder / "runner.py"), []
        predict = module.Runner.predict
        monkeypatch.setattr(module.Runner, "predict", lambda self, x: sizes.append(len(x)) or predict(self, x))
        monkeypatch.setattr(onnx_stages, "load_module", lambda path: module)
        np.testing.assert_array_equal(reload_onnx(folder)(chosen.samples), expected)
        assert sizes == [25, 25, 14]

    def test_the_runner_computes_what_is_on_its_way_only(self, chosen, folder):
        runner = load_module(folder / "runner.py").Runner(folder)
        sizes = []

        class Counted:
            def __init__(self, session):
                self.session = session

            def run(self, names, given):
                sizes.append({len(value) for value in given.values()})
                return self.session.run(names, given)

        runner.stages = [Counted(stage) for stage in runner.stages]
        answer, stop, score = runner.predict(chosen.samples)
        assert sizes == [{len(stop)}, {int((stop > 0).sum())}, {int((stop > 1).sum())}]
        assert (answer.dtype, stop.dtype, score.dtype) == (np.int64, np.int64, np.float32)
        assert (np.isnan(score) == (stop == 3)).all()
        assert (answer[stop == 3] == -1).all()
        sizes.clear()
        first = int(np.flatnonzero(stop == 0)[0])
        assert runner.predict(chosen.samples[first : first + 1])[1].tolist() == [0]
        assert sizes == [{1}]

    def test_thresholds_are_in_a_file_of_their_own(self, chosen, folder, tmp_path):
        facts = json.loads((folder / "thresholds.json").read_text())
        assert facts["thresholds"] == list(chosen.thresholds)
        assert facts["exits"] == list(chosen.exits)
        facts["thresholds"][1] = None
        for file in folder.glob("*.onnx"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
        (tmp_path / "thresholds.json").write_text(json.dumps(facts))
        runner = load_module(folder / "runner.py").Runner(tmp_path)
        assert set(runner.predict(chosen.samples)[1]) == {0, 1}

    def test_a_further_stage_lies_in_the_branch_of_who_goes_on(self, folder):
        model = onnx.load(folder / "network.onnx")
        (x,) = model.graph.input
        assert x.type.tensor_type.shape.dim[0].dim_value == 1
        assert [(o.name, o.type.tensor_type.elem_type) for o in model.graph.output] == [
            ("answer", onnx.TensorProto.INT64), ("exit", onnx.TensorProto.INT64), ("score", onnx.TensorProto.FLOAT)
        ]  # fmt: skip
        (own, branches), depth = stages_below(model.graph), 0
        while branches:
            assert own == {depth}
            assert branches["then_branch"] == (set(), {})
            own, branches = branches["else_branch"]
            depth += 1
        assert depth == 3

    def test_stages_take_any_number_of_samples(self, folder):
        stage = onnx.load(folder / "stage_1.onnx")
        assert {v.type.tensor_type.shape.dim[0].dim_param for v in (*stage.graph.input, *stage.graph.output)} == {"N"}
        assert [value.name for value in stage.graph.input] == ["carry_0_0", "logits_0"]


def test_without_a_last_resort_everybody_leaves_somewhere(make_chosen, written):
    chosen = make_chosen(criterion="patience")
    folder = written(chosen, "patience")
    assert json.loads((folder / "thresholds.json").read_text())["thresholds"][-1] is None
    answer, stop = reload_onnx(folder)(chosen.samples)
    own = chosen.answers(chosen.samples)
    np.testing.assert_array_equal(stop, own.exit)
    np.testing.assert_array_equal(answer, own.answer)


@pytest.mark.parametrize(("runner", "library"), [("onnx_runner", "onnxruntime"), ("openvino_runner", "openvino")])
def test_the_runner_is_short_and_needs_little(runner, library):
    text = runner_source(runner)
    assert len(text.splitlines()) <= 60
    nodes = list(ast.walk(ast.parse(text)))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert imported == IMPORTS | {library}


def test_fitted_heads_are_graphs():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            specs = (HeadSpec(kind=kind, depth=2, rounds=2) for kind in ("logistic", "svm", "tree", "boosting"))
            self.heads = nn.ModuleList(build_head(spec, (4,), 3) for spec in specs)

        def forward(self, *x):
            return torch.stack([head(*x) for head in self.heads], 1)

    heads, x = Heads().eval(), torch.randn(90, 4, generator=torch.Generator().manual_seed(0))
    for head in heads.heads:
        head.body.fit(x, (x[:, 0] > 0).long() + (x[:, 1] > 0), 0)
    model = stage_model(Lowered(heads, (x[:2],), ("x",), ("logits",), 0.5), 0)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for samples in (x, x[:1]):
        (logits,) = session.run(["logits"], {"x": samples.numpy()})
        np.testing.assert_allclose(logits, heads(samples).numpy(), rtol=0, atol=1e-5)


def test_what_torch_cannot_export_is_told():
    class Never(nn.Module):
        def forward(self, x):
            raise RuntimeError("not today\nat all")

    stage = Lowered(Never(), (torch.zeros(2, 3),), ("x",), ("answer", "score"), 0.5)
    with pytest.raises(ModelError, match=r"torch cannot export stage 4 to ONNX; got .*Error"):
        stage_model(stage, 4)


def test_a_missing_library_is_told_with_its_extra(make_chosen, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(InputError, match=r"onnx is not installed.*pip install 'eesearch\[onnx\]'"):
        write_onnx(make_chosen(), tmp_path)
