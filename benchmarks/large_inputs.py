"""What caching of hidden states costs and saves on large inputs: 224 x 224 images, and sequences of 512 tokens.

Made-up data, small networks. For each, the bank (every head at every cut, on a frozen network) and a `layerwise` design
are trained with hidden states cached in memory, cached on disk, or computed anew in every epoch, each in a process of
its own. A row tells the size of samples and caches, the peak of resident memory, that of memory which is no mapped file
(the system takes the others back when it needs them), wall and processor seconds, and a hash of the weights: that of
`memory` and `disk` is the same.

    python benchmarks/large_inputs.py [--quick] [--budget 25] [--out benchmarks/results]

Raw rows go to large_inputs.csv. A second call adds what is missing.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from eesearch.core.design import Design, ExitSpec, HeadSpec, TrainSpec
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.inputs import Normalize, Preprocessed
from eesearch.nets.split import split
from eesearch.nets.zoo import TransformerBlock
from eesearch.training import cache
from eesearch.training.accelerator import CPU, Room
from eesearch.training.bank import build_heads, plan_cache, train_bank
from eesearch.training.cache import Caching
from eesearch.training.checkpoint import weights_hash
from eesearch.training.data import Split
from eesearch.training.plans import cached_bytes, train_design

SAMPLES = {"images": 2000, "tokens": 500}
TRAININGS, CACHINGS = ("bank", "layerwise"), ("memory", "disk", "anew")
CLASSES, WORDS, TOKENS = 10, 1000, 512
MINUTES = {True: 4, False: 20}
"""In all, on 2 cores; with `--quick`, an eighth of the samples."""


class Sequences(nn.Module):
    """Token numbers [N, 512] through transformer blocks to logits [N, C]."""

    def __init__(self, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, width)
        self.blocks = nn.ModuleList(TransformerBlock(width, 4) for _ in range(depth))
        self.linear = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """[N, T] to [N, C]."""
        x = self.embedding(x)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.linear(x.mean(1))
        return logits


def images_net() -> nn.Module:
    """A stem that makes 56 x 56 maps of 224 x 224 pixels, then halving convolutions."""
    layers = [nn.Sequential(nn.Conv2d(3, 32, 4, 4), nn.ReLU())]
    layers += [nn.Sequential(nn.Conv2d(w, 2 * w, 3, 2, 1), nn.ReLU()) for w in (32, 64, 128)]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, CLASSES))
    return Preprocessed(Normalize(1 / 255), net)


def main() -> None:
    """Read the options, run what is missing, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="an eighth of the samples")
    parser.add_argument("--budget", type=float, default=25.0, help="minutes in all; nothing is begun after that")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--one", nargs=4, metavar=("DATA", "TRAINING", "CACHING", "SAMPLES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.one:
        data, training, caching, samples = options.one
        print(json.dumps(measure(data, training, caching, int(samples), folder=options.out)))
        return
    file = options.out / ("large_inputs-quick.csv" if options.quick else "large_inputs.csv")
    print(f"about {MINUTES[options.quick]} minutes on 2 cores; rows go to {file}")
    rows = pd.read_csv(file) if file.exists() else pd.DataFrame()
    end = time.monotonic() + 60 * options.budget
    known = set(rows[["data", "training", "caching"]].itertuples(index=False, name=None)) if len(rows) else set()
    for case in ((d, t, c) for d in SAMPLES for t in TRAININGS for c in CACHINGS):
        if case in known or time.monotonic() > end:
            continue
        rows = pd.concat([rows, pd.DataFrame([alone(case, options)])])
        rows.to_csv(file, index=False)
    print(rows.to_string(index=False, float_format="%.3f"))


def alone(case: tuple[str, str, str], options: argparse.Namespace) -> dict[str, object]:
    """A row from a process of its own, whose peak of memory is that of one training."""
    samples = SAMPLES[case[0]] // (8 if options.quick else 1)
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        command = [sys.executable, __file__, "--out", folder, "--one", *case, str(samples)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(data: str, training: str, caching: str, samples: int, *, folder: Path) -> dict[str, object]:
    """Train once; the row."""
    x, model = made(data, samples)
    backbone = split(model.eval(), torch.from_numpy(x[:1].copy()))
    heads = (HeadSpec(kind="linear", pool="mixed", size=1 if data == "tokens" else 4),)
    exits = tuple(ExitSpec(cut=cut.name, head=head) for cut in backbone.cuts for head in heads)
    strategy = "separate" if training == "bank" else training
    spec = TrainSpec(epochs=2, batch_size=64, lr=1e-3)
    design = Design(backbone="b", data="d", strategy=strategy, exits=exits, train=spec)
    train = Split("train", x, np.arange(samples) % CLASSES)
    net = ExitNet(backbone, build_heads(backbone, exits, 0))
    size = plan_cache(backbone, exits, samples) if training == "bank" else samples * cached_bytes(net, design)
    where = {"memory": Caching(64.0), "disk": Caching(64.0, folder / "cache"), "anew": Caching(0.0)}[caching]
    cache.MEMORY_GB = 0.0  # `disk` means disk, however small it is
    start, computed = time.perf_counter(), time.process_time()
    with watched() as peak:
        if training == "bank":
            trained = train_bank(backbone, design, train, caching=where)
        else:
            trained = train_design(net, design, train, room=Room(CPU, where))
    return {
        "data": data,
        "training": training,
        "caching": caching,
        "samples": samples,
        "samples_gb": x.nbytes / 1e9,
        "cache_gb": 0.0 if caching == "anew" else size / 1e9,
        "peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "peak_anonymous_gb": peak() / 1e9,
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - computed,
        "threads": torch.get_num_threads(),
        "weights": weights_hash(trained)[:12],
    }


def made(data: str, samples: int) -> tuple[np.ndarray, nn.Module]:
    """Samples that were made up, and a network with random weights."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    if data == "images":
        return rng.integers(0, 256, (samples, 3, 224, 224), np.uint8), images_net()
    return rng.integers(0, WORDS, (samples, TOKENS), np.int64), Sequences()


@contextmanager
def watched() -> Iterator[Callable[[], int]]:
    """Look every 20 ms at the memory that is no mapped file; the value gives the most that was seen, in bytes."""
    most, over = 0, threading.Event()

    def look() -> None:
        nonlocal most
        while not over.wait(0.02):
            fields = dict(
                line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
            )
            most = max(most, int(fields["RssAnon"].split()[0]) * 1024)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield lambda: most
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    main()
