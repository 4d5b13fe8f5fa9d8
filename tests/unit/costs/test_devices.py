import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from eesearch.core.errors import CostError
from eesearch.core.registry import BACKENDS
from eesearch.costs import machine
from eesearch.costs.backends import backend_names, find_backend
from eesearch.costs.devices import Device, fingerprint, parse_device


def test_names():
    assert parse_device("macs") == Device("macs", "macs")
    assert parse_device("cpu:eager:t1:b1") == Device("cpu:eager:t1:b1", "cpu", "eager", 1, 1)
    assert parse_device("boards/pi.json").path == Path("boards/pi.json")
    assert [parse_device(n).timed for n in ("macs", "x.json", "cpu:eager:t1:b1")] == [False, False, True]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cpu", "KIND:BACKEND:tTHREADS:bBATCH"),
        ("cpu:eager:1:1", "KIND:BACKEND:tTHREADS:bBATCH"),
        ("tpu:eager:t1:b1", "kind tpu; expected cpu or cuda"),
        ("cpu:warp:t1:b1", "no back end 'warp'; expected one of compile, eager, .*onnxruntime"),
        ("cuda:warp:t1:b1", "no back end 'warp'; expected one of compile, cudagraph, eager"),
        ("cpu:cudagraph:t1:b1", "does not run on cpu; got cpu:cudagraph; expected one of compile, eager"),
        ("cuda:openvino:t1:b1", "does not run on cuda; got cuda:openvino; expected one of compile, cudagraph, eager"),
        ("cpu:eager:t0:b1", "0 threads; expected 1 to"),
        ("cpu:eager:t9999:b1", "9999 threads; expected 1 to"),
        ("cpu:eager:t1:b0", "batch size 0; expected b1 or more"),
    ],
)
def test_other_names_say_what_is_available(name, message):
    with pytest.raises(CostError, match=message):
        parse_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU that torch can use")
def test_a_gpu_that_is_not_here_is_told():
    with pytest.raises(CostError, match=r"'cuda:eager:t1:b1' is not available; got .*; expected an NVIDIA GPU"):
        parse_device("cuda:eager:t1:b1")


def test_a_back_end_without_its_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(CostError, match=r"openvino is not installed.*pip install 'eesearch\[openvino\]'"):
        parse_device("cpu:openvino:t1:b1")


def test_a_back_end_for_single_samples_takes_no_batches(monkeypatch):
    monkeypatch.setitem(BACKENDS._entries, "single", replace(BACKENDS["eager"], largest=1, batches=False))
    assert parse_device("cpu:single:t1:b1").runs.largest == 1
    with pytest.raises(CostError, match="batch size 8; expected b1: one sample at a time"):
        parse_device("cpu:single:t1:b8")


def test_an_entry_for_one_kind_goes_before_the_one_for_all(monkeypatch):
    assert find_backend("cuda", "eager") is BACKENDS["cuda:eager"]
    assert find_backend("cpu", "eager") is BACKENDS["eager"]
    assert "eager" in backend_names("cuda")


def test_fingerprint_tells_what_a_figure_depends_on(monkeypatch):
    here = fingerprint(parse_device("cpu:eager:t1:b1"))
    assert set(here) == {"processor", "cores", "threads", "os", "python", "torch", "allocator", "pinned"}
    assert all(here.values())
    monkeypatch.setattr(machine.platform, "libc_ver", lambda: ("", ""))
    assert fingerprint(parse_device("cpu:eager:t1:b1")) == {**here, "allocator": "default"}
    assert fingerprint(Device("macs", "macs")) == {}
    graphs = fingerprint(parse_device("cpu:onnxruntime:t1:b1"))
    assert set(graphs) - set(here) == {"onnx", "onnxscript", "onnxruntime"}
