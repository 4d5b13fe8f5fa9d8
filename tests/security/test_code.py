"""Read off the code itself: nothing unpickles, evaluates or listens but where this file says why that is safe."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "eesearch"
FILES = sorted(PACKAGE.rglob("*.py"))
TEXTS = sorted(PACKAGE.rglob("*.txt"))  # become Python files of exported folders

UNPICKLES = {
    *(f"{module}.{name}" for module in ("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "marshal", "joblib")
      for name in ("load", "loads", "Unpickler")),
    "shelve.open", "pandas.read_pickle", "numpy.lib.format.read_array", "torch.jit.load", "torch.export.load",
    "torch.package.PackageImporter",
}  # fmt: skip
EVALUATES = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "runpy.run_path", "runpy.run_module"}
IMPORTS = {"importlib.import_module", "importlib.util.spec_from_file_location", "importlib.util.module_from_spec"}
YAML = {"load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}
LISTENS = {"wsgiref.simple_server.make_server", "http.server.HTTPServer", "socketserver.TCPServer", "socket.socket",
           "socket.create_server"}  # fmt: skip

ALLOWED = {
    ("nets/vision.py", "cloudpickle.loads"): "of what a worker or tier server got by the pipe from its parent",
    ("exporters/leaves.py", "eval"): "of a constructor's call that the line before put together from plain values",
    ("core/imports.py", "importlib.import_module"): "the one place that follows an import path; see study/named.py",
    ("core/registry.py", "importlib.import_module"): "of a module named in core/registry.py itself",
    ("exporters/torch_folder.py", "importlib.util.spec_from_file_location"): "a file that the export has just written",
    ("exporters/torch_folder.py", "importlib.util.module_from_spec"): "a module that the export has just written",
    ("exporters/hf_folder.py", "importlib.import_module"): "a module that the export has just written",
    ("exporters/apart.py", "importlib.util.module_from_spec"): "modules that the export has just written",
    ("drivers/loggers.py", "importlib.import_module"): "of a logger named in drivers/loggers.py itself",
    ("__init__.py", "importlib.import_module"): "of eesearch.api, when one of its names is first used",
    ("costs/worker.py", "importlib.import_module"): "of a module of ours that its parent names over the pipe",
    ("study/tier_server.py", "socket.create_server"): "on 127.0.0.1, for one line; what comes over it is raw tensors",
    ("study/tier_server.py", "socket.socket"): "the type of a line; only create_server listens",
    ("study/wire.py", "socket.socket"): "the type of a line; nothing listens there",
    ("drivers/dashboard.py", "wsgiref.simple_server.make_server"): "on localhost unless asked; see test_ports.py",
}  # fmt: skip


def full_names(tree):
    """What every name at hand stands for: `np` -> `numpy`, `loads` -> `pickle.loads`."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def uses(tree):
    """(full dotted name, node) of every name and attribute that is used, called or not."""
    names = full_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            first, *rest = ast.unparse(node).split(".") if dotted(node) else [""]
            if first:
                yield ".".join([names.get(first, first), *rest]), node


def dotted(node):
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def option(call, name):
    return next((ast.unparse(k.value) for k in call.keywords if k.arg == name), None)


def offences(tree):
    """Uses that need a reason, and calls that lack the option that makes them safe."""
    stray = {*UNPICKLES, *EVALUATES, *IMPORTS, *LISTENS, *(f"yaml.{name}" for name in YAML)}
    named = {id(node): name for name, node in uses(tree)}
    found = {name for name in named.values() if name in stray or (name.startswith("yaml.") and name.endswith("Loader"))}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not dotted(node.func):
            continue
        name = named[id(node.func)]
        if name == "torch.load" and option(node, "weights_only") != "True":
            found.add("torch.load without weights_only=True")
        if name == "numpy.load" and option(node, "allow_pickle") != "False":
            found.add("numpy.load without allow_pickle=False")
        if option(node, "shell") not in (None, "False"):
            found.add("shell=True")
        if option(node, "trust_remote_code") not in (None, "False"):
            found.add("trust_remote_code=True")
    return found


@pytest.fixture(scope="module")
def found():
    return {(str(file.relative_to(PACKAGE)), name) for file in FILES for name in offences(ast.parse(file.read_text()))}


def test_nothing_unpickles_evaluates_or_listens_without_a_reason(found):
    assert found - ALLOWED.keys() == set()


def test_every_reason_is_still_needed(found):
    assert ALLOWED.keys() - found == set()


@pytest.mark.parametrize(
    "code",
    [
        "import pickle\npickle.loads(b'')", "from pickle import load as read\nread(f)", "import torch\ntorch.load('a')",
        "import torch as t\nt.load('a', weights_only=False)", "import numpy as np\nnp.load(f, allow_pickle=True)",
        "import numpy as np\nnp.load(f)", "import yaml\nyaml.load(f, yaml.Loader)", "eval('1')",
        "from yaml import unsafe_load\nunsafe_load(f)", "import subprocess\nsubprocess.run('ls', shell=True)",
        "import pickle\nread = pickle.load",
    ],
)  # fmt: skip
def test_this_file_sees_offences(code):
    assert offences(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch.load(f, weights_only=True)", "import numpy as np\nnp.load(f, allow_pickle=False)",
        "import yaml\nyaml.safe_load(f)", "net.eval()", "import pickle\npickle.PicklingError",
    ],
)  # fmt: skip
def test_this_file_lets_the_rest_pass(code):
    assert offences(ast.parse(code)) == set()


@pytest.mark.parametrize("file", TEXTS, ids=lambda f: f.name)
def test_what_exported_folders_run_unpickles_nothing(file):
    code = file.read_text()
    assert offences(ast.parse(code)) == set()


def test_only_one_place_follows_import_paths_and_few_call_it():
    callers = {
        str(file.relative_to(PACKAGE))
        for file in FILES
        if any(name.endswith("core.imports.import_object") for name, _ in uses(ast.parse(file.read_text())))
    }
    # A sampler is named by the study that is searched; model and data are guarded by study/named.py.
    assert callers <= {"nets/sources.py", "training/sources.py", "drivers/samplers.py"}


def test_nobody_names_all_addresses():
    assert [file.name for file in FILES if "0.0.0.0" in file.read_text()] == []
