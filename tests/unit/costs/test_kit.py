"""The device kit of a small network, read by its own reader and run by onnxruntime."""

import ast
import sys
import zipfile

import numpy as np
import pytest

from eesearch.core.costs import DeviceProfile
from eesearch.costs.kit import KEPT, MEASURED, SCRIPT_MODULES, StudyFacts, script_source, without_weights, write_kit
from eesearch.costs.kit_measure import Options, loaded
from eesearch.costs.kit_reader import Kit
from eesearch.costs.profile import profile
from eesearch.study.members import join_profiles
from tests.unit.costs.test_profile import BOOSTING, LINEAR, MLP

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

DECISIONS = ("max_prob", "entropy/mean")


def top_level(tree):
    """Names that a module defines."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def test_the_script_needs_nothing_but_numpy_and_onnxruntime():
    tree = ast.parse(script_source(), feature_version=(3, 9))
    named = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            named.add(node.module.split(".")[0])
    assert named - sys.stdlib_module_names == {"numpy", "onnxruntime"}
    assert "eesearch.costs" not in script_source().replace("`costs.kit`", "")


def test_the_script_s_modules_do_not_overwrite_each_other():
    defined = list(top_level(ast.parse(script_source())))
    assert len(defined) == len(set(defined))
    assert {"time_call", "figures", "pin", "Kit", "main"} <= set(defined)
    assert [module.__name__.rpartition(".")[2] for module in SCRIPT_MODULES][-1] == "kit_measure"


def test_fields_that_depend_on_the_device_are_fields():
    assert DeviceProfile.model_fields.keys() >= MEASURED


@pytest.fixture(scope="module")
def kit(backbone, tmp_path_factory):
    path = tmp_path_factory.mktemp("kit") / "small.zip"
    heads = {"1": [LINEAR, MLP], "3": [LINEAR], "5": [LINEAR, BOOSTING]}
    facts = write_kit({"backbone": (backbone, heads)}, path, StudyFacts("small", DECISIONS, "backbone"))
    assert facts.size == path.stat().st_size
    found = Kit(path)
    found.check()
    assert facts.pieces == len(found.manifest["entries"]) - 1
    return found


def own(kit):
    """What the manifest says of the one network."""
    assert kit.manifest["joined"] is None
    (network,) = kit.manifest["networks"].values()
    return network


def test_a_piece_per_distinct_shape(kit):
    network = own(kit)
    figures = {figure["name"]: figure for figure in network["figures"]}
    assert network["prefixes"] == [f"prefix {k}" for k in range(5)]
    heads = network["heads"]
    assert heads["1"]["linear-avg1"] == heads["3"]["linear-avg1"] == "head linear-avg1 on 4x8x8"
    assert heads["5"]["linear-avg1"] != heads["3"]["linear-avg1"]
    assert set(network["decisions"]) == set(DECISIONS)
    decision = figures[network["decisions"]["max_prob"]]
    assert (len(decision["parts"]), len(decision["minus"]), decision["decides"]) == (1, 1, True)
    resumed = figures[network["resume"]]
    assert (len(resumed["parts"]), len(resumed["minus"])) == (2, 1)
    assert resumed["minus"][0] in {part for name in network["prefixes"] for part in figures[name]["parts"]}


@pytest.mark.parametrize("size", [1, 3])
def test_every_figure_runs(kit, size):
    for figure in own(kit)["figures"]:
        made = loaded(kit, figure["parts"], size, Options(), decides=figure["decides"])()
        if figure["decides"]:
            continue
        assert len(made[0]) == size
        assert all(np.isfinite(each).all() for each in made)
    whole = loaded(kit, ["pieces/0004.onnx"], size, Options())()
    assert whole[0].shape == (size, 5)


def test_large_tensors_repeat_their_first_values():
    values = np.arange(3 * KEPT + 5, dtype=np.float32)
    small, counts = np.arange(KEPT, dtype=np.float32), np.arange(3 * KEPT)
    tensors = [onnx.numpy_helper.from_array(each, f"t{i}") for i, each in enumerate((values, small, counts))]
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], tensors)).SerializeToString()
    made = onnx.ModelProto.FromString(without_weights(model)).graph.initializer
    large, kept, integers = map(onnx.numpy_helper.to_array, made)
    assert large.tolist() == [float(n % KEPT) for n in range(3 * KEPT + 5)]
    assert (kept == small).all()
    assert (integers == counts).all()


def test_what_does_not_depend_on_the_device_comes_back_as_it_is(kit, backbone, tmp_path):
    fields = {**own(kit)["known"], "device": "macs", "fingerprint": {}}
    heads = {"1": [LINEAR, MLP], "3": [LINEAR], "5": [LINEAR, BOOSTING]}
    counted = profile(backbone, heads, "macs", decisions=DECISIONS)
    assert DeviceProfile.model_validate(fields) == counted.model_copy(update={"fingerprint": {}})


def test_several_networks_share_a_kit(backbone, tmp_path):
    networks = {"a": backbone.named("a"), "b": backbone.keep(["3"]).named("b")}
    heads = {"a": {"a/1": [LINEAR, MLP]}, "b": {}}
    facts = StudyFacts("both", DECISIONS, "b")
    steps = []
    write_kit(
        {name: (each, heads[name]) for name, each in networks.items()}, tmp_path / "both.zip", facts,
        progress=lambda _, done, total: steps.append((done, total)),
    )  # fmt: skip
    kit = Kit(tmp_path / "both.zip")
    kit.check()
    a, b = (kit.manifest["networks"][name] for name in networks)
    assert kit.manifest["joined"]["reference"] == "b"
    assert steps == [(n + 1, len(steps)) for n in range(len(kit.manifest["entries"]) - 1)]
    used = [{part for figure in each["figures"] for part in (*figure["parts"], *figure["minus"])} for each in (a, b)]
    assert not used[0] & used[1], "each has pieces of its own"
    assert (list(a["heads"]), b["heads"], b["resume"]) == (["a/1"], {}, None)
    for figure in (*a["figures"], *b["figures"]):
        assert loaded(kit, figure["parts"], 1, Options(), decides=figure["decides"])() is not None
    members = {
        name: DeviceProfile.model_validate({**kit.manifest["networks"][name]["known"], "device": "", "fingerprint": {}})
        for name in networks
    }
    joined = join_profiles("", members, "b")
    assert kit.manifest["joined"] == {"content": joined.content, "reference": "b"}
    with zipfile.ZipFile(kit.path) as archive:
        assert "every part of the networks a, b costs" in " ".join(archive.read("README.txt").decode().split())


def test_the_zip_file_explains_itself(kit):
    with zipfile.ZipFile(kit.path) as archive:
        readme, script, run = (archive.read(name).decode() for name in ("README.txt", "measure.py", "__main__.py"))
    for command in ("-m venv kit-env", "install onnxruntime numpy", "python small.zip --out profile.json"):
        assert command in readme
    assert script == script_source()
    assert run == "from measure import main\n\nmain()\n"
