"""Profiles of networks that run as ONNX graphs: what is exported, and real workers of these back-ends."""

import tempfile

import pytest

from eesearch.core.registry import BACKENDS
from eesearch.costs.figures import latency_figures
from eesearch.costs.pieces import preparing
from eesearch.nets import graphs
from eesearch.nets.graph_export import export_onnx
from tests.unit.costs.test_profile import LINEAR, check_real_worker, parts


@pytest.fixture(autouse=True)
def _own_lock(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_part_is_prepared_once_and_graphs_are_cut_out_of_one(backbone, monkeypatch):
    exported = []

    def export(module, example, inputs, outputs, *, what):
        exported.append(what)
        return export_onnx(module, example, inputs, outputs, what=what)

    monkeypatch.setattr(graphs, "export_onnx", export)
    prepare = preparing(backbone, BACKENDS["onnxruntime"])
    figures = latency_figures(backbone, {"3": [LINEAR]}, ["margin"])
    forms = [prepare(part, n) for n in (1, 3) for figure in figures for part in (*figure.parts, *figure.minus)]
    assert exported == ["the network", "a head", "a head", "a head"]
    assert all(isinstance(each.form, bytes) for each in forms)
    assert {len(each.args[0]) for each in forms} == {1, 3}
    assert len({id(each.form) for each in forms}) == len({(p.first, p.last, p.tail) for p in parts(figures)})


@pytest.mark.parametrize("device", ["cpu:onnxruntime:t1:b1", "cpu:openvino:t1:b2"])
def test_real_worker_profiles_a_split_network(backbone, device):
    check_real_worker(backbone, device)
