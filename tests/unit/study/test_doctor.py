"""What this machine can do, in words."""

import sys

from eesearch.costs.noise import Noise
from eesearch.study.doctor import facts, noise_facts


def test_back_ends_are_told_with_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = facts()
    said = dict(line.split(": ", 1) for line in found["back ends: cpu"].splitlines())
    assert said["eager"] == said["onnxruntime"] == "yes"
    assert "pip install 'eesearch[openvino]'" in said["openvino"]
    assert set(said) >= {"compile", "eager", "executorch", "onnxruntime", "openvino"}
    assert {"cudagraph", "eager", "compile"} <= {line.split(":")[0] for line in found["back ends: cuda"].splitlines()}
    assert found["energy"]


def test_noise_is_told_with_a_verdict():
    noise = Noise("cpu:eager:t1:b1", 1.5, 0.01, 0.03, 0.005, 1.0, 0.02, True)
    said = noise_facts(noise)
    assert said["reference"] == "1.5000 ms per call"
    assert said["verdict"] == "differences under 3.0% are ties"
