"""The script of a device kit, on a kit of two pieces that are made by hand; no figure is asserted, only what is run."""

import hashlib
import io
import json
import sys
import zipfile

import numpy as np
import pytest

from eesearch.core.cascades import CascadeProfile
from eesearch.core.costs import DeviceProfile
from eesearch.costs import kit_measure
from eesearch.costs.kit_measure import (
    Options,
    cautions,
    loaded,
    main,
    measure,
    require,
    work,
)
from eesearch.costs.kit_reader import Kit, KitError
from eesearch.costs.machine import sizes_up_to
from eesearch.costs.timer import Protocol, Rounds
from tests.security.test_kits import MANIFEST, NETWORK

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

KNOWN = {
    "content": "c0ffee",
    "cuts": ["a"],
    "macs_prefix": [4.0, 8.0],
    "macs_head": {"a": {"linear": 2.0}},
}
FIGURES = [
    {"name": "prefix 0", "parts": ["pieces/0.onnx"], "minus": [], "decides": False},
    {"name": "prefix 1", "parts": ["pieces/0.onnx", "pieces/0.onnx"], "minus": [], "decides": False},
    {"name": "head", "parts": ["pieces/0.onnx"], "minus": ["pieces/0.onnx"], "decides": False},
    {"name": "decision", "parts": ["pieces/1.onnx"], "minus": ["pieces/0.onnx"], "decides": True},
]


def doubled():
    """`x` to twice that."""
    x, y = (onnx.helper.make_tensor_value_info(name, 1, ["N", 4]) for name in ("x", "next_0"))
    return saved(onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "x"], ["next_0"])], "g", [x], [y]))


def decided():
    """`x` to itself, the place of its largest and the largest of each sample."""
    node = onnx.helper.make_node
    value = onnx.helper.make_tensor_value_info
    nodes = [
        node("ArgMax", ["x"], ["answer"], axis=1, keepdims=0),
        node("ReduceMax", ["x"], ["score"], axes=[1], keepdims=0),
    ]
    outputs = [value("answer", 7, ["N"]), value("score", 1, ["N"])]
    return saved(onnx.helper.make_graph(nodes, "g", [value("x", 1, ["N", 4])], outputs))


def saved(graph):
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()


def network(content):
    measured = {
        "known": {**KNOWN, "content": content},
        "figures": FIGURES,
        "prefixes": ["prefix 0", "prefix 1"],
        "heads": {"a": {"linear": "head"}},
        "decisions": {"max_prob": "decision"},
    }
    return {**NETWORK, **measured}


def several():
    """Of a manifest of two networks, whose cuts bear their names."""
    networks = {}
    for name in ("small", "large"):
        known = KNOWN | {"content": name, "cuts": [f"{name}/a"], "macs_head": {f"{name}/a": {"linear": 2.0}}}
        networks[name] = network(name) | {"known": known, "heads": {f"{name}/a": {"linear": "head"}}}
    return {"networks": networks, "joined": {"content": "both", "reference": "large"}}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return written(tmp_path_factory.mktemp("kit") / "kit.zip", {"networks": {"backbone": network("c0ffee")}})


def written(path, changes):
    example = np.array([[0.1, 0.9, 0.0, 0.0]], np.float32).tobytes()
    entries = {"example.bin": example, "pieces/0.onnx": doubled(), "pieces/1.onnx": decided()}
    manifest = {
        **MANIFEST,
        "entries": {name: hashlib.sha256(content).hexdigest() for name, content in entries.items()},
        **changes,
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {"manifest.json": json.dumps(manifest), **entries}.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def kit(path):
    return Kit(path)


def test_sizes_are_powers_of_two_up_to_the_batch():
    assert sizes_up_to(1) == (1,)
    assert sizes_up_to(8) == (1, 2, 4, 8)
    assert sizes_up_to(6) == (1, 2, 4, 6)


def test_pieces_run_in_a_row_and_the_host_decides(kit):
    (made,) = loaded(kit, ["pieces/0.onnx", "pieces/0.onnx"], 1, Options())()
    assert made == pytest.approx(np.array([[0.4, 3.6, 0.0, 0.0]]))
    assert loaded(kit, ["pieces/1.onnx"], 1, Options(), decides=True)() == (True, 1)
    leaves, answers = loaded(kit, ["pieces/0.onnx", "pieces/1.onnx"], 3, Options(), decides=True)()
    assert (leaves, answers.tolist()) == (True, [1, 1, 1])


def test_options_name_the_device_and_come_back_from_the_command_line(monkeypatch, path):
    options = Options(2, 8, ("TensorrtExecutionProvider", "CUDAExecutionProvider"), True)
    assert options.device == "cuda:onnxruntime:t2:b8"
    assert Options().device == "cpu:onnxruntime:t1:b1"
    assert (options.protocol, Options().protocol) == (Protocol.quick(), Protocol())
    seen = []
    monkeypatch.setattr(kit_measure, "work", lambda kit, asked: seen.append((kit.path, asked)))
    with pytest.raises(SystemExit) as done:
        main([str(path), *options.arguments, "--worker"])
    assert (done.value.code, seen) == (0, [(path, options)])


def test_the_measuring_process_tells_a_line_per_figure(kit, monkeypatch):
    told = io.StringIO()
    told.fileno = lambda: 1
    monkeypatch.setattr(kit_measure.os, "dup", lambda number: number)
    monkeypatch.setattr(kit_measure.os, "dup2", lambda *numbers: None)
    monkeypatch.setattr(kit_measure.os, "fdopen", lambda *_, **__: told)
    monkeypatch.setattr(kit_measure, "pin", lambda threads: None)
    monkeypatch.setattr(kit_measure.gc, "disable", lambda: None)
    monkeypatch.setattr(kit_measure, "time_call", lambda call, *_: Rounds([float(call() is not None)], 1.0, True))
    work(kit, Options(batch=2))
    *lines, last = map(json.loads, told.getvalue().splitlines())
    assert last == "done"
    assert [(line["size"], line["figure"]) for line in lines] == [(n, f["name"]) for n in (1, 2) for f in FIGURES]
    first = {"size": 1, "network": "backbone", "figure": "prefix 0"}
    assert lines[0] == {**first, "ms": [1.0], "contention": 1.0, "settled": True, "mj": None}


def replies(kit, options):
    """What a process would tell: prefixes in the wrong order, and each network slower than the one before it."""
    for size in sizes_up_to(options.batch):
        for number, name in enumerate(kit.manifest["networks"], 1):
            for figure, ms in zip(FIGURES, (3.0, 1.0, 0.5, 0.25), strict=True):
                yield (size, name, figure["name"]), Rounds([number * ms * size] * 3, 1.2, True)


def test_a_profile_is_made_of_rounds(kit, monkeypatch):
    monkeypatch.setattr(kit_measure, "_replies", replies)
    seen = []
    told = measure(kit, Options(batch=2), lambda *step: seen.append(step))
    profile = DeviceProfile.model_validate(json.loads(json.dumps(told)))
    assert (profile.device, profile.content, profile.cuts) == ("cpu:onnxruntime:t1:b2", "c0ffee", ("a",))
    assert profile.latency.prefix_ms == (4.0, 4.0)  # repaired
    assert profile.latency.timings["prefix 0"].ms == 6.0
    assert (profile.latency.head_ms, profile.latency.decision_ms) == ({"a": {"linear": 1.0}}, {"max_prob": 0.5})
    assert (profile.latency.resume_ms, profile.latency.batch) == (0.0, 2)
    assert [(each.batch, each.prefix_ms) for each in profile.smaller] == [(1, (2.0, 2.0))]
    assert profile.fingerprint["providers"] == "CPUExecutionProvider"
    assert profile.fingerprint.keys() >= {"processor", "threads", "onnxruntime", "numpy", "protocol", "pinned"}
    assert seen[-1] == (24, 24, "decision")
    assert cautions(told)[0] == "at 1 samples per call, something else ran beside 4 figures, such as prefix 0"


def test_several_networks_make_one_profile(tmp_path, monkeypatch):
    monkeypatch.setattr(kit_measure, "_replies", replies)
    seen = []
    told = measure(Kit(written(tmp_path / "kit.zip", several())), Options(batch=2), lambda *step: seen.append(step))
    found = CascadeProfile.model_validate(json.loads(json.dumps(told)))
    assert (found.device, found.content, found.reference) == ("cpu:onnxruntime:t1:b2", "both", "large")
    assert found.fingerprint == found.members["small"].fingerprint
    assert [(name, each.content, each.latency.prefix_ms) for name, each in found.members.items()] == [
        ("small", "small", (4.0, 4.0)),
        ("large", "large", (8.0, 8.0)),
    ]
    assert seen[-1] == (48, 48, "large: decision")
    assert cautions(told)[0] == "small: at 1 samples per call, something else ran beside 4 figures, such as prefix 0"


def test_what_the_machine_lacks_is_refused(monkeypatch):
    with pytest.raises(KitError, match="onnxruntime has no CUDAExecutionProvider here; it has "):
        require(Options(providers=("CUDAExecutionProvider",)))
    with pytest.raises(KitError, match="--threads is 4000; this machine has 1 to"):
        require(Options(threads=4000))
    with pytest.raises(KitError, match="--batch is 0"):
        require(Options(batch=0))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(KitError, match=r"onnxruntime cannot be used here .*: pip install onnxruntime"):
        require(Options())


def test_what_cannot_be_loaded_is_not_measured_on_the_cpu(monkeypatch):
    """onnxruntime lists what it was built with; where a library is missing, it takes the CPU and only logs that."""

    class Fallen:
        def __init__(self, model, settings, providers):
            assert providers == ["CUDAExecutionProvider"]

        def get_providers(self):
            return ["CPUExecutionProvider"]

    monkeypatch.setattr("onnxruntime.InferenceSession", Fallen)
    with pytest.raises(KitError, match="could not load CUDAExecutionProvider; it would run on CPUExecutionProvider"):
        kit_measure._session(b"", Options(providers=("CUDAExecutionProvider",)))


@pytest.mark.parametrize("arguments", [["none.zip"], ["none.zip", "--worker"]])
def test_errors_are_one_line_and_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 2
    assert capsys.readouterr().err == "error: there is no kit none.zip\n"


def test_a_profile_is_written_whole_or_not_at_all(path, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(kit_measure, "_replies", replies)
    with pytest.raises(SystemExit) as done:
        main([str(path), "--quick", "--out", str(tmp_path / "pi.json")])
    assert done.value.code == 0
    assert [each.name for each in tmp_path.iterdir()] == ["pi.json"]
    assert f"wrote {tmp_path / 'pi.json'}: name it among the devices of a study" in capsys.readouterr().err
    monkeypatch.delattr(kit_measure, "_replies")  # which is told before anything is measured
    with pytest.raises(SystemExit) as done:
        main([str(path), "--out", str(tmp_path / "none" / "pi.json")])
    assert done.value.code == 2
    assert "pi.json cannot be written: " in capsys.readouterr().err
