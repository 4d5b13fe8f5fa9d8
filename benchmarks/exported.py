"""What the ONNX exports take per sample: stages with the runner, the one graph with `If`s, and the backbone's ONNX.

All three run in onnxruntime on one thread and answer the same test samples one at a time, sample by sample in turn (the
order changes from sample to sample), so that whatever else the machine does meets all three. A round is the p50 over
the samples; the table shows the median over the rounds and their spread, (largest - smallest) / median.

    python benchmarks/exported.py RUN [--pick max-drop=0.5%] [--samples 200] [--rounds 7] [--out benchmarks/results]

Without RUN a residual CNN is trained and searched on scikit-learn's digits first (a few minutes). Raw rows, a
microsecond figure per round, way and sample, go to exported.csv.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import torch

from eesearch.api import search_study
from eesearch.exporters.formats import export
from eesearch.nets.lower import exporting
from eesearch.study.materials import load_study_data
from eesearch.study.question import Study
from eesearch.study.run import Run

STUDY = {
    "name": "exported",
    "backbone": {"model": "eesearch.nets.zoo:residual_cnn", "args": {"channels": [32, 64, 128], "blocks": 2}},
    "data": {"source": "eesearch.training.data:digits"},
    "input": {"scale": 0.0625, "mean": [0.3], "std": [0.37]},
    "training": {"epochs": 6, "batch_size": 64, "lr": 0.003, "heads": {"epochs": 8, "batch_size": 64, "lr": 0.01}},
    "devices": ["macs"],
    "space": {"heads": [{"kind": "linear", "pool": "mixed", "size": 2}], "gates": False, "levels": 8, "max_exits": 2},
    "budget": {"trials": 1},
}
WARM_UP = 50

Way = Callable[[Any], Any]


def main() -> None:
    """Export, measure, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--pick", default="max-drop=0.5%")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run = Run.load(options.run) if options.run else search_study(Study.model_validate(STUDY), Path(folder) / "run")
        out = export(run, options.pick, "onnx", Path(folder) / "onnx").path
        x = load_study_data(run.directory.study()).test.x[: options.samples]
        ways = {"backbone": backbone(run, x, Path(folder)), "stages + runner": stages(out), "one graph": single(out)}
        rows = measure(ways, x, options.rounds)
    options.out.mkdir(parents=True, exist_ok=True)
    rows.to_csv(options.out / "exported.csv", index=False)
    _, point = run.pick(options.pick)
    ratio = point.test.costs["macs"].mean / run.device().backbone.test.costs["macs"].mean
    print(f"{options.pick}: {ratio:.2f} x the backbone's multiply-adds, exit rates {point.test.exit_rate}")
    print(table(rows).to_string(index=False, float_format="%.3g"))


def session(file: Path) -> onnxruntime.InferenceSession:
    """On one thread."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])


def backbone(run: Run, x: Any, folder: Path) -> Way:
    """The unmodified backbone's own ONNX, exported the same way."""
    net, _ = run.network(run.device().backbone, x[:2])
    example, batch = (torch.from_numpy(x[:2].copy()),), ({0: torch.export.Dim.DYNAMIC},)
    with exporting(), torch.no_grad():
        program = torch.onnx.export(net.backbone.eval(), example, dynamo=True, verbose=False, dynamic_shapes=batch)
    assert program is not None
    program.save(folder / "backbone.onnx")
    loaded = session(folder / "backbone.onnx")
    name = loaded.get_inputs()[0].name
    return lambda sample: loaded.run(None, {name: sample})


def stages(folder: Path) -> Way:
    """A session per stage, and the exported runner."""
    spec = importlib.util.spec_from_file_location("runner", folder / "runner.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    way: Way = module.Runner(folder, threads=1).predict
    return way


def single(folder: Path) -> Way:
    """All stages in one graph."""
    loaded = session(folder / "network.onnx")
    return lambda sample: loaded.run(None, {"x": sample})


def measure(ways: dict[str, Way], x: Any, rounds: int) -> pd.DataFrame:
    """Microseconds per round, way and sample; the ways take turns."""
    names = list(ways)
    for way in ways.values():
        for n in range(WARM_UP):
            way(x[n % len(x)][None])
    rows = []
    for number in range(rounds):
        for n in range(len(x)):
            for name in np.roll(names, n):
                sample = x[n : n + 1]
                start = time.perf_counter_ns()
                ways[name](sample)
                rows.append((number, name, n, (time.perf_counter_ns() - start) / 1e3))
    return pd.DataFrame(rows, columns=["round", "way", "sample", "us"])


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """p50 and mean per way: median over the rounds, and their spread."""
    per_round = rows.groupby(["way", "round"], sort=False)["us"].agg(p50="median", mean="mean").reset_index()
    told = []
    for way, group in per_round.groupby("way", sort=False):
        entry: dict[str, object] = {"way": way}
        for figure in ("p50", "mean"):
            middle = group[figure].median()
            entry[f"{figure}_us"] = middle
            entry[f"{figure}_spread"] = (group[figure].max() - group[figure].min()) / middle
        told.append(entry)
    found = pd.DataFrame(told)
    base = found.loc[found["way"] == "backbone", "p50_us"].iloc[0]
    found["p50_ratio"] = found["p50_us"] / base
    return found


if __name__ == "__main__":
    main()
