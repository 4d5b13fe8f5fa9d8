"""The device kit: one zip file with which another machine measures networks, without torch and without eesearch.

It holds the pieces that `latency_figures` names as ONNX models (prefixes as wholes; a head in place, one per shape
that it reads; decisions; two spans in a row), of each network, a raw sample, `manifest.json`, which says what to run
and which hash each entry has, and one script. What comes back is a profile, of several networks one that joins theirs;
`devices: [pi4.json]` reads it.

Weights do not matter for the time that a network takes, and most are not sent: every large tensor is its own first
values over and over (so of the usual size, and packed to almost nothing). Of what was learnt, a kit tells the small
tensors and the beginnings of the large ones.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from torch import nn

from eesearch.core.cascades import joined_content
from eesearch.core.errors import CostError
from eesearch.core.imports import need
from eesearch.core.progress import Progress, silent
from eesearch.core.store import write_atomic
from eesearch.costs import kit_measure, kit_reader, machine, summary, timer
from eesearch.costs.backends import find_backend
from eesearch.costs.figures import Heads, figure_names, latency_figures
from eesearch.costs.kit_reader import DTYPES, EXAMPLE, KIT, KIT_VERSION, LARGEST_ENTRY, MANIFEST
from eesearch.costs.pieces import Figure, Part, preparing
from eesearch.costs.profile import profile
from eesearch.nets.split import Backbone

SCRIPT, MAIN, README = "measure.py", "__main__.py", "README.txt"

SCRIPT_MODULES: tuple[ModuleType, ...] = (timer, summary, machine, kit_reader, kit_measure)
"""Whose sources the script is made of, in this order; each imports the standard library and those before it."""

KEPT = 2048
"""Values of a tensor that are kept; larger ones repeat them."""

MEASURED = {"device", "fingerprint", "latency", "smaller", "energy"}
"""Fields of a profile that depend on the device; the manifest knows all others."""

_EPOCH = (1980, 1, 1, 0, 0, 0)

_RUN = "from measure import main\n\nmain()\n"

_TEXT = """\
A device kit of eesearch, for the study {study}.

It measures what every part of {what} costs on this machine, and writes a profile. It needs Python 3.9 or newer,
onnxruntime and numpy; not torch, not eesearch. Nothing is unpacked, and nothing is written but the profile.

    python3 -m venv kit-env
    kit-env/bin/pip install onnxruntime numpy
    kit-env/bin/python {file} --out profile.json

Then copy profile.json back: it is a device of the study, `devices: [profile.json]`, or
`eesearch profile STUDY --device profile.json`.

--threads 4      threads of one call (1)
--batch 8        samples per call (1); smaller calls are measured, too
--providers CUDAExecutionProvider
                 of onnxruntime, several with commas; on a Jetson TensorrtExecutionProvider,CUDAExecutionProvider.
                 Samples lie in the memory of the host: what a call takes includes the way to the GPU and back
--quick          one process and few rounds: a first look

Let nothing else run meanwhile. Most weights in here are made up: they do not matter for the speed.
The script in the kit, {script}, can be read, and be run on the kit from beside it.
"""


@dataclass(frozen=True)
class StudyFacts:
    """What a kit tells of the study that it is for.

    Attributes:
        name: For people.
        decisions: Names of the decisions that may be taken.
        reference: Name of the network that all are compared with.
    """

    name: str
    decisions: tuple[str, ...]
    reference: str


@dataclass(frozen=True)
class KitFacts:
    """What was written.

    Attributes:
        pieces: Number of ONNX models.
        size: Bytes of the zip file.
    """

    pieces: int
    size: int


def write_kit(
    networks: Mapping[str, tuple[Backbone, Heads]], out: Path, study: StudyFacts, *, progress: Progress = silent
) -> KitFacts:
    """Write the kit of a study's networks.

    Args:
        networks: Name of each -> the network, on the CPU, with all cuts and heads of the search space.
        out: The zip file.
        study: What it is for.
        progress: Told after each piece.

    Raises:
        CostError: onnx is not installed, an operation is not counted, or the raw sample cannot be sent.
        HeadError: a head does not fit its cut.
        ModelError: torch cannot export a network.
        RunError: the disk is full, or the directory cannot be written.
    """
    figures = {name: latency_figures(*network, study.decisions) for name, network in networks.items()}
    parts = {name: _parts(own) for name, own in figures.items()}
    total = sum(map(len, parts.values()))
    pieces: dict[str, bytes] = {}
    told: dict[str, dict[str, Any]] = {}
    for name, (backbone, heads) in networks.items():
        made = _pieces(backbone, parts[name], len(pieces), total, progress)
        pieces |= made
        names = dict(zip(map(_key, parts[name]), made, strict=True))
        known = profile(backbone, heads, "macs", decisions=study.decisions)
        told[name] = {
            "known": known.model_dump(mode="json", exclude=MEASURED),
            "figures": [_described(figure, names) for figure in figures[name]],
            **asdict(figure_names(backbone, heads, study.decisions)),
        }
    example, facts = _example(next(iter(networks.values()))[0])  # all take the same raw samples
    entries = {EXAMPLE: example, **pieces}
    manifest = {
        "format": KIT,
        "version": KIT_VERSION,
        "study": study.name,
        "example": facts,
        "entries": {name: hashlib.sha256(content).hexdigest() for name, content in entries.items()},
        "networks": told,
        "joined": _joined(told, study.reference),
    }
    content = _zipped({**_around(manifest, out.name), **entries})
    write_atomic(out, content)
    return KitFacts(len(pieces), len(content))


def _parts(figures: Sequence[Figure]) -> list[Part]:
    """The distinct parts of figures."""
    return list({_key(part): part for figure in figures for part in (*figure.parts, *figure.minus)}.values())


def _described(figure: Figure, names: Mapping[Any, str]) -> dict[str, Any]:
    """What the manifest says of a figure; `names`: the entry of each piece."""
    return {
        "name": figure.name,
        "parts": [names[_key(part)] for part in figure.parts],
        "minus": [names[_key(part)] for part in figure.minus],
        "decides": figure.decides,
    }


def _joined(networks: Mapping[str, Mapping[str, Any]], reference: str) -> dict[str, str] | None:
    """What the profile of several networks says beside its members; None where there is one only."""
    if len(networks) == 1:
        return None
    contents = {name: own["known"]["content"] for name, own in networks.items()}
    return {"content": joined_content(contents), "reference": reference}


def _around(manifest: Mapping[str, Any], file: str) -> dict[str, bytes]:
    """The entries beside sample and pieces, of a kit in a file of this name."""
    names = list(manifest["networks"])
    what = "the network" if len(names) == 1 else f"the networks {', '.join(names)}"
    return {
        MANIFEST: json.dumps(manifest, indent=1).encode(),
        SCRIPT: script_source().encode(),
        MAIN: _RUN.encode(),
        README: _TEXT.format(study=manifest["study"], what=what, file=file, script=SCRIPT).encode(),
    }


def script_source() -> str:
    """The one script: the sources of several modules, their imports of each other left out."""
    bodies = [_body(inspect.getsource(module)) for module in SCRIPT_MODULES]
    run = 'if __name__ == "__main__":\n    main()\n'
    head = f'#!/usr/bin/env python3\n"""{kit_measure.__doc__}"""\n\nfrom __future__ import annotations\n'
    return "\n\n".join([head, *bodies, run])


def _body(source: str) -> str:
    source = re.sub(r'\A""".*?"""\n', "", source, flags=re.DOTALL)
    return re.sub(r"^from (__future__|eesearch\.[\w.]+) import [^\n]+\n", "", source, flags=re.MULTILINE).strip() + "\n"


def _key(part: Part) -> tuple[int, int, nn.Module | None]:
    """Equal for parts that are the same piece."""
    return part.first, part.last, part.tail


def _pieces(backbone: Backbone, parts: Sequence[Part], first: int, total: int, progress: Progress) -> dict[str, bytes]:
    """Of each part, by the name of its entry; in the order of the parts, from number `first` of `total` on."""
    prepare = preparing(backbone, find_backend("cpu", "onnxruntime"))
    pieces = {}
    for number, part in enumerate(parts, first):
        content = without_weights(prepare(part, 1).form)
        if len(content) > LARGEST_ENTRY:
            raise CostError(
                "a part of the network is too large for a kit", got=f"{len(content):,} bytes", expected=LARGEST_ENTRY
            )
        pieces[f"pieces/{number:04d}.onnx"] = content
        progress("write kit", number + 1, total)
    return pieces


def without_weights(model: bytes) -> bytes:
    """An ONNX model of the same size and speed whose large tensors repeat their first values."""
    onnx = need("onnx", "onnx", CostError)
    found = onnx.ModelProto.FromString(model)
    for tensor in found.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or prod(tensor.dims) <= KEPT:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        repeated = np.resize(values.reshape(-1)[:KEPT], values.shape)
        tensor.CopyFrom(onnx.numpy_helper.from_array(repeated, tensor.name))
    return bytes(found.SerializeToString())


def _example(backbone: Backbone) -> tuple[bytes, dict[str, Any]]:
    values = backbone.example[:1].detach().cpu().contiguous().numpy()
    if values.dtype.name not in DTYPES:
        raise CostError("samples of this type cannot be sent", got=values.dtype.name, expected=", ".join(DTYPES))
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return little.tobytes(), {"dtype": values.dtype.name, "shape": list(values.shape)}


def _zipped(entries: Mapping[str, bytes]) -> bytes:
    """The same bytes for the same entries."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    return made.getvalue()
