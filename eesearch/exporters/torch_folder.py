"""Format `torch`: a folder with a standalone `model.py`, weights and configuration; it needs nothing but PyTorch.

`model.py` is generated from what the network computes (its traced graphs and the registered criterion), so that a
person can read it, change it, and take it into another code base. Formats that are more than a folder build on it.
"""

from __future__ import annotations

import importlib.util
import inspect
import textwrap
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import save_file
from torch import Tensor

from eesearch.core.front import Evaluation
from eesearch.core.registry import EXPORTERS
from eesearch.exporters import torch_runtime
from eesearch.exporters.apart import Reloaded, answering
from eesearch.exporters.chosen import Chosen
from eesearch.exporters.decisions import decision_graph, decision_source
from eesearch.exporters.formats import Exporter
from eesearch.exporters.leaves import literal
from eesearch.exporters.stage_source import StageText, stage_text

MODEL, WEIGHTS, CONFIG = "model.py", "weights.safetensors", "config.json"


def write_torch(chosen: Chosen, path: Path) -> None:
    """Write `model.py`, `weights.safetensors` and `config.json`.

    Args:
        chosen: What to write.
        path: A folder that is there.

    Raises:
        ModelError: a module or function cannot be written as plain PyTorch; the message names it.
    """
    stages = stage_texts(chosen)
    (path / MODEL).write_text(model_source(chosen, stages), encoding="utf-8")
    (path / CONFIG).write_text(chosen.config.to_text("json"), encoding="utf-8")
    save_file(weights(chosen, stages), path / WEIGHTS, metadata={"format": "pt"})


def reload_torch(path: Path) -> Reloaded:
    """Load what was written, as anybody would."""
    return answering(load_module(path / MODEL).load(path).predict)


def load_module(path: Path) -> ModuleType:
    """A Python file of ours as a module that nobody else sees."""
    spec = importlib.util.spec_from_file_location(f"exported_{path.parent.name.lstrip('.')}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stage_texts(chosen: Chosen) -> list[StageText]:
    """Every stage as text, in order."""
    carry: tuple[Tensor, ...] = (chosen.example,)
    texts = []
    for number, stage in enumerate(chosen.stages):
        texts.append(stage_text(stage, carry, number, is_last=number == len(chosen.stages) - 1))
        with torch.no_grad():
            carry, _ = stage.run(carry)
    return texts


def weights(chosen: Chosen, stages: list[StageText]) -> dict[str, Tensor]:
    """All tensors of the exported network, by its own names; copies."""
    held = {f"stages.{i}.{name}": tensor for i, text in enumerate(stages) for name, tensor in text.tensors.items()}
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in (held | chosen.parameters).items()}


def _shared(stages: list[StageText]) -> dict[str, str]:
    """Tensors that the network holds more than once: name -> the first one's name."""
    first: dict[int, str] = {}
    shared = {}
    for i, text in enumerate(stages):
        for name, tensor in text.tensors.items():
            full = f"stages.{i}.{name}"
            known = first.setdefault(id(tensor), full)
            if known != full:
                shared[full] = known
    return shared


def model_source(chosen: Chosen, stages: list[StageText]) -> str:
    """The text of `model.py`."""
    runtime = inspect.getsource(torch_runtime)
    runtime = runtime[runtime.index("class Prediction") :].rstrip()
    kinds = tuple(chosen.parameters)
    blocks = [
        _about(chosen),
        "import json\nfrom pathlib import Path\nfrom typing import NamedTuple\n\n"
        "import torch\nimport torch.nn.functional as F\nfrom torch import Tensor, nn",
        _constants(chosen),
        runtime,
        *("\n".join(text.lines) for text in stages),
        *("\n".join(lines) for lines in _decisions(chosen, kinds)),
        _network(chosen, stages, kinds),
        _LOAD,
    ]
    return f"{blocks[0]}\n\n{blocks[1]}\n\n{blocks[2]}\n\n\n" + "\n\n\n".join(blocks[3:]) + "\n"


def _about(chosen: Chosen) -> str:
    config = chosen.config
    made = config.provenance
    origin = f"run {made.run}, eesearch {made.eesearch}, {made.created}" if made else "by hand"
    text = f'''A classifier with early exits, in plain PyTorch: it needs nothing but this folder.

    from model import load

    network = load()
    answer, exit, score = network.predict(x)   # raw samples [N, ...]: stops computing where it is sure enough
    every = network(x)                         # logits [N, C] of every stop, for training

Made by `eesearch export` from study "{config.study["name"]}" ({origin}).
{_expected(config.expected.test, chosen)}
{_chosen_on(config.expected.cal)}

A sample leaves at the first stop where it is sure enough: where its score (criterion "{config.policy.decision}") is at
least the threshold. To trade accuracy for cost change THRESHOLDS below, or `network.thresholds` of a loaded network:
a higher threshold sends more samples on.'''
    if config.pruned:
        text += "\n\n" + textwrap.fill(
            f"Exits that were trained together with these and are left out: {', '.join(config.pruned)}.", 118
        )
    return f'"""{_escaped(text)}\n"""'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"""', "'''")


def _expected(test: Evaluation, chosen: Chosen) -> str:
    axis = chosen.config.axis
    costs, unit = test.costs[axis], _UNITS.get(axis, axis)
    where = "" if axis == "macs" else f" on {chosen.config.device}"
    weighed = " (weighted by class)" if test.effective_samples else ""
    return (
        f"On {test.samples} test samples it is right about {test.accuracy:.2%}{weighed}, at a mean cost of\n"
        f"{costs.mean:,.6g} {unit}{where}; a sample that leaves last costs {costs.worst:,.6g}."
    )


_UNITS = {"macs": "multiply-adds", "latency_ms": "ms", "energy_mj": "mJ"}


def _chosen_on(cal: Evaluation) -> str:
    return f"It was chosen on {cal.samples} calibration samples, of which it gets {cal.accuracy:.2%}."


def _constants(chosen: Chosen) -> str:
    rates = chosen.config.expected.test.exit_rate
    last = len(chosen.stages) - 1
    leaves = [
        f"    {literal(threshold)},  # at {name}: {rate:.1%} of the test samples left here"
        for threshold, name, rate in zip(chosen.thresholds, chosen.exits, rates, strict=False)
    ]
    asked = f"\n# Whom no stop is sure about is handed on: answer -1, exit {last + 1}." if chosen.asks else ""
    names = ",\n".join(f"    {literal(name)}" for name in chosen.exits)
    return (
        f"THRESHOLDS = [\n{chr(10).join(leaves)}\n]{asked}\n"
        f"EXITS = [\n{names},\n]\n"
        f"CLASS_NAMES = {literal(list(chosen.class_names))}"
    )


def _decisions(chosen: Chosen, kinds: tuple[str, ...]) -> list[list[str]]:
    """One function, or one for every number of stops that a decision looks at."""
    remembers = chosen.criterion.memory == "all"
    counts = range(1, len(chosen.stages) + 1) if remembers else (1,)
    classes = len(chosen.class_names)
    functions = []
    for k in counts:
        seen = {kind: values[:k] for kind, values in chosen.parameters.items()}
        graph = decision_graph(chosen.criterion, seen, classes, k)
        functions.append(decision_source(f"decide_{k}" if remembers else "decide", graph, kinds))
    return functions


def _network(chosen: Chosen, stages: list[StageText], kinds: tuple[str, ...]) -> str:
    remembers = chosen.criterion.memory == "all"
    fitted = "\n".join(
        f'        self.register_buffer("{kind}", torch.ones({tuple(chosen.parameters[kind].shape)}))' for kind in kinds
    )
    rows = ": number + 1" if remembers else "number : number + 1"
    given = ", ".join(f"self.{kind}[{rows}].float()" for kind in kinds)
    function = f"({', '.join(f'decide_{k + 1}' for k in range(len(stages)))},)[number]" if remembers else "decide"
    shared = _shared(stages)
    text = f"""class EarlyExitNetwork(StagedNetwork):
    \"\"\"The stages, and what was fitted for the stop of each, in a row of its own.\"\"\"

    remembers = {remembers}
    own_answer = {chosen.criterion.own_answer}

    def __init__(self):
        super().__init__([{", ".join(f"Stage{i}()" for i in range(len(stages)))}], THRESHOLDS)
{fitted}
"""
    if shared:
        pairs = "\n".join(f"            {literal(name)}: {literal(first)}," for name, first in shared.items())
        text += f"        self.share(\n            {{\n{textwrap.indent(pairs, '    ')}\n            }}\n        )\n"
    return (
        text
        + f"""
    def decide(self, number, logits):
        return {function}(logits, {given})"""
    )


_LOAD = '''def load(folder=None):
    """The network with its weights, in eval mode; from the folder of this file if none is named."""
    network = EarlyExitNetwork()
    network.load_state_dict(read_safetensors(Path(folder or Path(__file__).parent) / "weights.safetensors"))
    return network.eval()'''


EXPORTERS.register("torch")(
    Exporter(
        write_torch,
        extra="",
        about="a folder with a standalone model.py, weights and configuration",
        reload=reload_torch,
    )
)
